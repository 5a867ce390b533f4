"""Measure generated images: features -> statistics -> FID and the paper's other metrics."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import contextlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.cli import Group
from dnnlib.files import check_writable
from dnnlib.flags import SEED, FlagGroups, Program, add_flags, flag
from dnnlib.seeds import Seeds, format_seeds, parse_seeds, shared, united
from metrics.detector import DEFAULT, load_detector
from metrics.evaluation import Evaluation
from metrics.images import open_images, require_same_colours
from metrics.measure import METRICS, NEED_REAL_IMAGES, QUANTITIES, parse_metrics
from metrics.references import References, has_statistics
from metrics.uncertainty import spread
from skip.evidence.estimate import Estimate, as_text
from skip.options import COMPILE, DEVICE_FLAGS, SAMPLING_FLAGS, SKIP_FLAGS, image_source
from skip.tables.show.labels import label
from torch_utils import distributed
from torch_utils.precision import computed_in

DETECTOR_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}

DETECTOR = "Feature network: a name in configs/detectors.toml, path or URL"
REFERENCE_DETECTOR = flag(
    "--detector", f"{DETECTOR}  [default: {DEFAULT}]", metavar="NAME|PATH|URL"
)
MEASURING_DETECTOR = flag("--detector", f"{DETECTOR}  [default: the one that --ref was made with, else {DEFAULT}]", metavar="NAME|PATH|URL")  # fmt: skip

COMPUTATION: FlagGroups = {
    "Computation": [
        flag("--detector-dtype", "What it computes in; published numbers have float32", type=click.Choice(list(DETECTOR_DTYPES)), default="float32", show_default=True),
        flag("--batch", "Images at a time on each rank", type=click.IntRange(min=1), default=64, show_default=True, metavar="INT"),
        *DEVICE_FLAGS,
        flag("--features", "Keep the features here, and use those that are here  [default: a temporary folder in the cache]", metavar="DIR"),
    ],
}  # fmt: skip
MEASURING: FlagGroups = {
    "Metrics": [
        flag("--metrics", f"Any of {', '.join(METRICS)}: all from one pass over the features", default="fid", show_default=True, metavar="LIST"),
        flag("--ref", "Statistics of the real images, made by fid.py ref or published with EDM or EDM2", metavar="NPZ|PKL|URL"),
        flag("--ref-images", f"The real images themselves, which {', '.join(sorted(NEED_REAL_IMAGES))} need; FID too, without --ref", metavar="DIR|ZIP|NPZ"),
    ],
}  # fmt: skip
STORED: FlagGroups = {
    "Images": [
        flag("--images", "Generated images", required=True, metavar="DIR|ZIP|NPZ"),
        flag("--num", "Use this many, a random subset if there are more", type=click.IntRange(min=2), default=50000, show_default=True, metavar="INT"),
        flag("--seed", "Of that subset", type=SEED, default=0, show_default=True, metavar="INT"),
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
        flag("--overwrite", "Replace the file that is there", is_flag=True),
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
@add_flags(REFERENCE, {"Computation": [REFERENCE_DETECTOR]}, COMPUTATION)
def ref(**flags: Any) -> None:
    """Write the statistics (mu, sigma) of real images."""
    with program(flags) as device:
        _check_destination(flags["dest"], flags["overwrite"])
        images = open_images(flags["data"])
        source = flags["detector"] or DEFAULT
        ev = _evaluation(flags, source, device)
        with ev.features_of(images) as store:
            statistics = ev.statistics(store, range(len(images)))
        if distributed.rank() == 0:
            replace(statistics, channels=images.channels, detector_source=source).save(
                flags["dest"]
            )
            result: dict[str, Any] = {"statistics": flags["dest"]}
            if has_statistics(flags["data"]):
                said = "mu and sigma in --data are not these: to use them, give that file as --ref"
                result["warnings"] = [said]
            _print(ev, result | {"protocol": {"data": flags["data"], "num": len(images)}})
            click.echo(
                f"{flags['dest']}: {len(images)} images, {statistics.dim} features", err=True
            )


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(STORED, MEASURING, {"Computation": [MEASURING_DETECTOR]}, COMPUTATION)
def calc(**flags: Any) -> None:
    """Measure stored images."""
    with program(flags) as device:
        names, asked = _asked(flags)
        images = open_images(flags["images"], flags["num"], flags["seed"])
        _check_colours(images.channels, asked)
        ev = _evaluation(flags, _detector(flags, asked), device)
        reference = asked.fitting(ev.detector)
        with (
            ev.compared_with(names, reference, asked.real) as target,
            ev.features_of(images) as store,
        ):
            result = ev.compare(names, store, range(len(images)), target).as_json()
        if distributed.rank() == 0:
            given = {"images": flags["images"], "num": len(images), "seed": flags["seed"]}
            _print(ev, result | {"protocol": _protocol(names, asked) | given})
            _tell(result)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(
    GENERATED,
    SAMPLING_FLAGS,
    SKIP_FLAGS,
    MEASURING,
    {"Computation": [MEASURING_DETECTOR, COMPILE]},
    COMPUTATION,
)
def gen(**flags: Any) -> None:
    """Generate images and measure them, with no files on the way."""
    with program(flags) as device:
        names, asked = _asked(flags)
        ranges = _disjoint(flags["seeds"])
        source = image_source(flags).load(device, flags["compile"])
        _check_colours(source.net.image_channels, asked)
        ev = _evaluation(flags, _detector(flags, asked), device)
        reference = asked.fitting(ev.detector)

        def batches(seeds: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
            return ((batch.seeds, batch.images) for batch in source.batches(seeds, ev.batch))

        every = Seeds(part for seeds in ranges for part in seeds.ranges)
        with (
            ev.compared_with(names, reference, asked.real) as target,
            ev.features({"source": source.record}, batches, every) as store,
        ):
            runs = [ev.compare(names, store, seeds, target).as_json() for seeds in ranges]
        if distributed.rank() == 0:
            seeds = {
                "seeds": [format_seeds(seeds) for seeds in ranges],
                "num": [len(seeds) for seeds in ranges],
            }
            result = runs[0] if len(runs) == 1 else {"runs": runs, "spread": _spread(runs)}
            origin = {
                "network": source.checkpoint,
                "settings": source.record,
                "compile": source.compiled,
            }
            _print(ev, result | {"protocol": _protocol(names, asked) | seeds} | origin)
            _tell(result)


@contextlib.contextmanager
def program(flags: dict[str, Any]) -> Iterator[torch.device]:
    """This rank's device; errors become one line."""
    yield distributed.init(flags["device"], flags["tf32"])
    distributed.shutdown()


def _detector(flags: dict[str, Any], asked: References) -> str:
    """The detector to load; a line on stderr if --ref chooses it."""
    source = asked.detector(flags["detector"])
    if flags["detector"] is None and source != DEFAULT and distributed.rank() == 0:
        click.echo(f"Detector: {source}, which --ref was made with", err=True)
    return source


def _evaluation(flags: dict[str, Any], detector: str, device: torch.device) -> Evaluation:
    """The detector at work, loaded when the other flags are known to be right: it may be a download."""
    loaded = load_detector(detector, device, DETECTOR_DTYPES[flags["detector_dtype"]])
    return Evaluation(loaded, device, flags["batch"], flags["features"])


def _check_destination(dest: str, overwrite: bool) -> None:
    """Refuse a file that cannot or must not be written, without leaving a trace; missing folders are made later."""
    if Path(dest).is_dir():
        raise ValueError(
            f"--dest={dest} is a folder; name a file, such as {Path(dest) / 'reference.npz'}"
        )
    if Path(dest).suffix.lower() != ".npz":
        raise ValueError(
            f"--dest={dest}: statistics are written as npz; name a file that ends in .npz"
        )
    if Path(dest).exists() and not overwrite:
        raise ValueError(
            f"--dest={dest} is there already; name another file, or replace it with --overwrite"
        )
    check_writable(dest, "--dest")


def _check_colours(channels: int, asked: References) -> None:
    """Refuse grayscale where RGB is meant, as far as that is known."""
    if asked.statistics is not None:
        require_same_colours(channels, asked.statistics.channels, "--ref")
    if asked.real is not None:
        require_same_colours(channels, asked.real.channels, "--ref-images")


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


def _asked(flags: dict[str, Any]) -> tuple[list[str], References]:
    """Metrics, and what to compare with; all checked before anything is computed."""
    names = parse_metrics(flags["metrics"])
    if flags["ref_images"] is None:
        for name in names:
            if name in NEED_REAL_IMAGES:
                raise ValueError(
                    f"{name} compares images with images: give the real ones as --ref-images"
                )
        if flags["ref"] is None and "fid" in names:
            raise ValueError(
                "fid needs the real images' statistics: give --ref, or the images as --ref-images"
            )
    return names, References(flags["ref"], flags["ref_images"])


def _protocol(names: list[str], asked: References) -> dict[str, Any]:
    return {"metrics": {name: METRICS[name].protocol for name in names}} | asked.record


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and least of the values that every run has."""
    common = [name for name in runs[0]["metrics"] if all(name in run["metrics"] for run in runs)]
    found = {name: spread([run["metrics"][name] for run in runs]) for name in common}
    return {name: {"mean": s.mean, "std": s.std, "least": s.least} for name, s in found.items()}


def _tell(result: dict[str, Any]) -> None:
    """The values in one line on stderr, such as "demo FID 4.34 ± 0.15".

    Raises:
        ValueError: if a metric has refused, after all the others' values are out.
    """
    if "spread" in result:
        pairs = {name: (one["mean"], one["std"]) for name, one in result["spread"].items()}
    else:
        values = result["metrics"]
        pairs = {name: (value, values.get(_spread_of(name))) for name, value in values.items()}
    shown = [
        f"{label(name)} {as_text(Estimate.plain(value, error))}"
        for name, (value, error) in pairs.items()
        if name.partition("-")[0] in QUANTITIES
    ]
    click.echo(", ".join(shown).replace("+-", "±"), err=True)
    refused: dict[str, str] = {}
    for run in result.get("runs", [result]):
        refused |= run.get("refused", {})
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ValueError(f"no value of {reasons}")


def _spread_of(name: str) -> str | None:
    """What a result calls the spread of a value; None if it tells none."""
    metric, dash, detector = name.partition("-")
    spread = QUANTITIES[metric].spread if metric in QUANTITIES else None
    return None if spread is None else f"{spread}{dash}{detector}"


def _print(ev: Evaluation, result: dict[str, Any]) -> None:
    """The result as JSON on stdout; warnings on stderr too."""
    for run in result.get("runs", [result]):
        for message in run.get("warnings", []):
            click.echo(f"Warning: {message}", err=True)
    detector = {"name": ev.detector.name, "sha256": ev.detector.sha256}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    about = {"detector": detector, "computed_in": computed_in(ev.device), "versions": versions}
    click.echo(json.dumps(result | about, indent=2))


if __name__ == "__main__":
    main()
