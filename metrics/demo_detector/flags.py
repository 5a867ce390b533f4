"""The flags that python -m metrics.demo_detector alone has."""

from dataclasses import dataclass
from pathlib import Path

import click

from dnnlib.flags import SEED, Flags, flag
from metrics.demo_detector.names import ARCH, BODIES

# fmt: off


@dataclass(frozen=True, kw_only=True)
class TrainFlags(Flags):
    """What `train` trains on, and how."""

    # fmt: off
    data: Path        = flag("Data set zip to train on", required=True)
    test: Path | None = flag("Data set to test on  [default: every tenth image of --data, which then is not trained on]")
    dest: Path        = flag("File to write", old=["--out"], type=click.Path(path_type=Path, dir_okay=False), required=True)
    arch: str         = flag("Of the network", type=click.Choice(list(BODIES)), default=ARCH)
    epochs: float     = flag("", type=click.FloatRange(min=0, min_open=True), default=6)
    seed: int         = flag("Of weights, order and flips", type=SEED, default=0)
