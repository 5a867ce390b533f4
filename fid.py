"""Measure generated images: features -> statistics -> FID and the paper's other metrics."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import contextlib
import dataclasses
import json
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.cli import Group, one_line_errors
from dnnlib.flags import FlagGroups, Program, add_flags, flag
from dnnlib.seeds import Seeds, format_seeds, parse_seeds, shared, united
from dnnlib.util import fetch, file_sha256, is_url
from metrics.detector import load_detector
from metrics.evaluation import Evaluation
from metrics.images import Images, open_images, require_same_colours
from metrics.measure import METRICS, NEED_REAL_FEATURES, PROTOCOLS, parse_metrics
from metrics.statistics import Statistics
from metrics.uncertainty import spread
from skip.options import DEVICE_FLAGS, SAMPLING_FLAGS, SKIP_FLAGS, image_source
from torch_utils import distributed
from torch_utils.precision import computed_in

DETECTOR = "inception-2015-12-05"
DETECTOR_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}

COMPUTATION: FlagGroups = {
    "Computation": [
        flag("--detector", "Feature network: a name in configs/detectors.toml, path or URL", default=DETECTOR, show_default=True, metavar="NAME|PATH|URL"),
        flag("--detector-dtype", "What it computes in; published numbers have float32", type=click.Choice(list(DETECTOR_DTYPES)), default="float32", show_default=True),
        flag("--batch", "Images at a time on each rank", type=click.IntRange(min=1), default=64, show_default=True, metavar="INT"),
        *DEVICE_FLAGS,
        flag("--features", "Keep the features here, and use those that are here  [default: a temporary folder in the cache]", metavar="DIR"),
    ],
}  # fmt: skip
MEASURING: FlagGroups = {
    "Metrics": [
        flag("--metrics", f"Any of {', '.join(METRICS)}: all from one pass over the features", default="fid", show_default=True, metavar="LIST"),
        flag("--ref", "Statistics of the real images, made by fid.py ref or published with EDM", metavar="NPZ|URL"),
        flag("--ref-images", f"The real images themselves, which {', '.join(sorted(NEED_REAL_FEATURES))} need", metavar="DIR|ZIP|NPZ"),
    ],
}  # fmt: skip
STORED: FlagGroups = {
    "Images": [
        flag("--images", "Generated images", required=True, metavar="DIR|ZIP|NPZ"),
        flag("--num", "Use this many, a random subset if there are more", type=click.IntRange(min=2), default=50000, show_default=True, metavar="INT"),
        flag("--seed", "Of that subset", type=int, default=0, show_default=True, metavar="INT"),
    ],
}  # fmt: skip
GENERATED: FlagGroups = {
    "Images": [
        flag("--seeds", "Random seeds; given several times, the spread is reported too", multiple=True, default=["0-49999"], show_default=True, metavar="LIST"),
    ],
}  # fmt: skip
REFERENCE: FlagGroups = {
    "Images": [
        flag("--data", "Real images", required=True, metavar="DIR|ZIP|NPZ"),
        flag("--dest", "Where the statistics go", required=True, metavar="NPZ"),
    ],
}  # fmt: skip


@click.group(cls=Group)
def main() -> None:
    """Measure generated images.

    A command that was killed goes on when it is given again. The result is JSON on stdout.

    \b
    # The bundled network, its detector and its reference: 5000 images, plain and Skip-Tuned
    python fid.py gen --detector demo --ref assets/demo/reference.npz --seeds 0-4999 --steps 10
    python fid.py gen --detector demo --ref assets/demo/reference.npz --seeds 0-4999 --steps 10 --rho-bottom 0.8

    \b
    # Images that generate.py made, with EDM's reference
    python fid.py calc --images out/50k \\
        --ref https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/imagenet-64x64.npz

    \b
    # The same on every GPU of this machine (the -- keeps torchrun from reading --num)
    torchrun --standalone --nproc_per_node=gpu -- fid.py calc --images out/50k --num 50000 \\
        --ref https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/imagenet-64x64.npz

    \b
    # Statistics of a data set
    python fid.py ref --data datasets/fashion-mnist-32.zip --dest reference.npz --detector demo
    """


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(REFERENCE, COMPUTATION)
def ref(**flags: Any) -> None:
    """Write the statistics (mu, sigma) of real images."""
    with program(flags) as device:
        _check_destination(flags["dest"])
        images = open_images(flags["data"])
        ev = _evaluation(flags, device)
        with ev.features_of(images) as store:
            statistics = ev.statistics(store, range(len(images)))
        if distributed.rank() == 0:
            dataclasses.replace(statistics, channels=images.channels).save(flags["dest"])
            _print(ev, {"statistics": flags["dest"], "protocol": {"data": flags["data"], "num": len(images)}})


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(STORED, MEASURING, COMPUTATION)
def calc(**flags: Any) -> None:
    """Measure stored images."""
    with program(flags) as device:
        names, reference, real, protocol = _asked(flags)
        images = open_images(flags["images"], flags["num"], flags["seed"])
        _check_colours(images.channels, reference, real)
        ev = _evaluation(flags, device)
        with ev.compared_with(names, reference, real) as target, ev.features_of(images) as store:
            result = ev.compare(names, store, range(len(images)), target)
        if distributed.rank() == 0:
            protocol |= {"images": flags["images"], "num": len(images), "seed": flags["seed"]}
            _print(ev, result | {"protocol": protocol})


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(GENERATED, SAMPLING_FLAGS, SKIP_FLAGS, MEASURING, COMPUTATION)
def gen(**flags: Any) -> None:
    """Generate images and measure them, with no files on the way."""
    with program(flags) as device:
        names, reference, real, protocol = _asked(flags)
        ranges = _disjoint(flags["seeds"])
        source = image_source(flags).load(device)
        _check_colours(source.net.image_channels, reference, real)
        ev = _evaluation(flags, device)

        def batches(seeds: list[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
            return ((batch.seeds, batch.images) for batch in source.batches(seeds, ev.batch))

        every = Seeds(part for seeds in ranges for part in seeds.ranges)
        with (
            ev.compared_with(names, reference, real) as target,
            ev.features({"source": source.record}, batches, every) as store,
        ):
            runs = [ev.compare(names, store, seeds, target) for seeds in ranges]
        if distributed.rank() == 0:
            protocol |= {"seeds": [format_seeds(seeds) for seeds in ranges], "num": [len(seeds) for seeds in ranges]}
            result = runs[0] if len(runs) == 1 else {"runs": runs, "spread": _spread(runs)}
            origin = {"network": source.checkpoint, "settings": source.record}
            _print(ev, result | {"protocol": protocol} | origin)


@contextlib.contextmanager
def program(flags: dict[str, Any]) -> Iterator[torch.device]:
    """This rank's device; errors become one line."""
    with one_line_errors():
        yield distributed.init(flags["device"], flags["tf32"])
        distributed.shutdown()


def _evaluation(flags: dict[str, Any], device: torch.device) -> Evaluation:
    """The detector at work, loaded when the other flags are known to be right: it may be a download."""
    detector = load_detector(flags["detector"], device, DETECTOR_DTYPES[flags["detector_dtype"]])
    return Evaluation(detector, device, flags["batch"], flags["features"])


def _check_destination(dest: str) -> None:
    """Refuse a file that cannot be written, without leaving a trace; missing folders are made later."""
    if Path(dest).is_dir():
        raise ValueError(f"--dest={dest} is a folder; name a file, such as {Path(dest) / 'reference.npz'}")
    folder = next(parent for parent in Path(dest).absolute().parents if parent.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--dest={dest}: cannot write to {folder} ({error.strerror}); choose another place") from error


def _check_colours(channels: int, reference: Statistics | None, real: Images | None) -> None:
    """Refuse grayscale where RGB is meant, as far as that is known."""
    require_same_colours(channels, None if reference is None else reference.channels, "--ref")
    require_same_colours(channels, None if real is None else real.channels, "--ref-images")


def _disjoint(texts: Sequence[str]) -> list[Seeds]:
    """The ranges of --seeds, each enough for statistics, and none with another's seeds."""
    ranges, seen = [parse_seeds(text) for text in texts], Seeds([])
    for text, seeds in zip(texts, ranges, strict=True):
        if len(seeds) < 2:
            raise ValueError(f"--seeds={text} is {len(seeds)} image; statistics need at least 2")
        if twice := shared(seeds, seen):
            raise ValueError(
                f"--seeds={text} shares {format_seeds(twice)} with another range, which hides their spread; "
                "keep them apart"
            )
        seen = united(seen, seeds)
    return ranges


def _asked(flags: dict[str, Any]) -> tuple[list[str], Statistics | None, Images | None, dict[str, Any]]:
    """Metrics, statistics and images to compare with, and their record; all checked before anything is computed."""
    names = parse_metrics(flags["metrics"])
    if flags["ref_images"] is None:
        for name in names:
            if name in NEED_REAL_FEATURES:
                raise ValueError(f"{name} compares images with images: give the real ones as --ref-images")
        if flags["ref"] is None and "fid" in names:
            raise ValueError("fid needs the real images' statistics: give --ref, or the images as --ref-images")
    record: dict[str, Any] = {"metrics": {name: PROTOCOLS[name] for name in names}}
    reference, real = None, None
    if flags["ref"] is not None:
        path = fetch(flags["ref"]) if is_url(flags["ref"]) else flags["ref"]
        reference = Statistics.load(path)
        record |= {"reference": flags["ref"], "reference_sha256": file_sha256(path)}
        record |= {} if reference.count is None else {"reference_num": reference.count}
    if flags["ref_images"] is not None:
        real = open_images(flags["ref_images"])
        record |= {"reference_images": flags["ref_images"], "reference_images_num": len(real)}
    return names, reference, real, record


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found = {name: spread([run["metrics"][name] for run in runs]) for name in runs[0]["metrics"]}
    return {name: {"mean": s.mean, "std": s.std, "least": s.least} for name, s in found.items()}


def _print(ev: Evaluation, result: dict[str, Any]) -> None:
    """The result as JSON on stdout; warnings on stderr too."""
    for run in result.get("runs", [result]):
        for message in run.get("warnings", []):
            click.echo(f"Warning: {message}", err=True)
    detector = {"name": ev.detector.name, "sha256": ev.detector.sha256}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    about = {"detector": detector, "computed_in": computed_in(ev.device), "versions": versions}
    click.echo(json.dumps(result | about, indent=2))


if __name__ == "__main__":
    main()
