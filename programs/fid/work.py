"""What fid.py does."""

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

from dnnlib.files import check_writable
from dnnlib.seeds import Seeds, format_seeds, parse_seeds, shared, united
from metrics.detector import load_detector, load_entries
from metrics.detector_list import detector_facts, detector_lines
from metrics.evaluation import Evaluation
from metrics.images import open_images, require_same_colours
from metrics.measure import needed, parse_metrics
from metrics.names import DEFAULT, METRICS, NEED_REAL_IMAGES, QUANTITIES
from metrics.references import References, has_statistics
from metrics.uncertainty import spread
from programs.fid.flags import (
    DetectorFlags,
    EvaluationFlags,
    ListFlags,
    MetricFlags,
    NetworksFlags,
    NewDetectorFlags,
    ReferenceFlags,
    SeedFlags,
    StoredFlags,
)
from skip.evidence.estimate import Estimate, as_text
from skip.flags import SamplingFlags, SkipFlags
from skip.options import check_reference, image_source
from skip.tables.show.labels import label
from torch_utils import distributed
from torch_utils.precision import computed_in


def ref(asked: ReferenceFlags, networks: NewDetectorFlags, compute: EvaluationFlags) -> None:
    """What `fid.py ref` does."""
    with program(compute) as device:
        _check_destination(asked.dest, asked.overwrite)
        images = open_images(asked.data)
        ev = _evaluation(compute, networks.detector, device, asked.spatial)
        with ev.features_of(images) as store:
            statistics = ev.statistics(store, range(len(images)))

        if distributed.rank() == 0:
            replace(statistics, channels=images.channels, detector_source=networks.detector).save(
                asked.dest
            )
            result: dict[str, Any] = {"statistics": asked.dest}
            if has_statistics(asked.data):
                said = "mu and sigma in --data are not these: to use them, give that file as --ref"
                result["warnings"] = [said]
            _print(ev, result | {"protocol": {"data": asked.data, "num": len(images)}})
            click.echo(f"{asked.dest}: {len(images)} images, {statistics.dim} features", err=True)


def calc(
    stored: StoredFlags, metrics: MetricFlags, networks: DetectorFlags, compute: EvaluationFlags
) -> None:
    """What `fid.py calc` does."""
    with program(compute) as device:
        names, asked = _asked(metrics)
        images = open_images(stored.images, stored.num, stored.seed)
        _check_colours(images.channels, asked)
        ev = _evaluation(compute, _detector(networks, asked), device, "spatial" in needed(names))
        reference = asked.fitting(ev.detector)
        with (
            ev.compared_with(names, reference, asked.real) as target,
            ev.features_of(images) as store,
        ):
            result = ev.compare(names, store, range(len(images)), target).as_json()
        if distributed.rank() == 0:
            given = {"images": stored.images, "num": len(images), "seed": stored.seed}
            _print(ev, result | {"protocol": _protocol(names, asked) | given})
            _tell(result)


def gen(
    images: SeedFlags,
    sampling: SamplingFlags,
    skip: SkipFlags,
    metrics: MetricFlags,
    networks: NetworksFlags,
    compute: EvaluationFlags,
) -> None:
    """What `fid.py gen` does."""
    with program(compute) as device:
        names, asked = _asked(metrics)
        ranges = _disjoint(images.seeds)
        source = image_source(sampling, skip).load(device, networks.compile)
        _check_colours(source.net.image_channels, asked)
        ev = _evaluation(compute, _detector(networks, asked), device, "spatial" in needed(names))
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


def detectors(flags: ListFlags) -> None:
    """What `fid.py detectors` does."""
    found = [detector_facts(entry) for entry in load_entries().values()]
    click.echo(json.dumps(found, indent=2) if flags.json else "\n".join(detector_lines(found)))


@contextlib.contextmanager
def program(compute: EvaluationFlags) -> Iterator[torch.device]:
    """This rank's device; at the end the ranks part."""
    yield compute.device.init()
    distributed.shutdown()


def _detector(networks: DetectorFlags, asked: References) -> str:
    """The detector to load; a line on stderr if --ref chooses it."""
    source = asked.detector(networks.detector)
    if networks.detector is None and source != DEFAULT and distributed.rank() == 0:
        click.echo(f"Detector: {source}, which --ref was made with", err=True)
    return source


def _evaluation(
    compute: EvaluationFlags, detector: str, device: torch.device, spatial: bool
) -> Evaluation:
    """The detector at work, loaded when the other flags are known to be right: it may be a download."""
    loaded = load_detector(detector, device, getattr(torch, compute.detector_dtype))
    return Evaluation(loaded, device, compute.batch, compute.features, spatial)


def _check_destination(dest: str, overwrite: bool) -> None:
    """Refuse a file that cannot or must not be written, without leaving a trace; missing folders are made later."""
    if Path(dest).is_dir():
        raise ValueError(
            f"--dest={dest} is a folder; name a file, such as {Path(dest) / 'reference.npz'}"
        )
    if Path(dest).exists() and not overwrite:
        raise ValueError(
            f"--dest={dest} is there already; name another file, or replace it with --overwrite"
        )
    check_writable(dest, "--dest", ".npz")


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


def _asked(flags: MetricFlags) -> tuple[list[str], References]:
    """Metrics, and what to compare with; all checked before anything is computed."""
    names = parse_metrics(flags.metrics)
    if flags.ref_images is None:
        for name in names:
            if name in NEED_REAL_IMAGES:
                raise ValueError(
                    f"{name} compares images with images: give the real ones as --ref-images"
                )
            if flags.ref is None and {"statistics", "spatial"} & METRICS[name].needs:
                raise ValueError(
                    f"{name} needs the real images' statistics: give --ref, or the images as --ref-images"
                )
    check_reference(flags.ref)
    return names, References(flags.ref, flags.ref_images, "spatial" in needed(names))


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
