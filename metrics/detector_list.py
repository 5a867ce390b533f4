"""What is known of the feature networks that load by name, without loading them."""

from typing import Any

from dnnlib.text import in_columns
from metrics.demo_detector.files import load_demo_detector
from metrics.detector import DetectorEntry
from metrics.inception import InceptionV3
from metrics.names import METRICS, Need
from metrics.pixels import SIZE
from metrics.transformers_detector import is_cached

HEADS = ("name", "features", "reads", "resize", "here", "licence", "metrics", "note")
WIDTH = 150  # characters of a line


def detector_facts(entry: DetectorEntry) -> dict[str, Any]:
    """What is known of a detector, as JSON.

    Returns:
        name; features: of an image; size: pixels along an edge of what it reads; resize: how images come to it;
        classes: 0 where it has none; source: where the weights come from; here: whether they are on this machine;
        licence; sha256: as far as it is known; metrics: which it serves; note. What is not known is None.
    """
    facts: dict[str, Any] = {
        "name": entry.name,
        "source": entry.url or entry.path or f"{entry.hub} on the Hugging Face hub",
        "here": _is_here(entry),
        "licence": entry.licence,
        "sha256": entry.sha256 or None,
    }
    facts |= _shape(entry)
    gives: set[Need] = {"statistics", "real images"}
    if entry.hub is None and not _is_ours(entry) and not _is_script(entry):
        gives.add("spatial")
    if facts["classes"]:
        gives.add("logits")
    facts["metrics"] = [name for name, metric in METRICS.items() if metric.needs <= gives]
    return facts | {"note": entry.note}


def detector_lines(facts: list[dict[str, Any]]) -> list[str]:
    """The lines of a table."""
    return in_columns([HEADS, *(_row(one) for one in facts)], WIDTH)


def _is_here(entry: DetectorEntry) -> bool:
    if entry.hub is not None:
        return is_cached(entry.hub)
    return entry.local_path is not None and entry.local_path.is_file()


def _is_ours(entry: DetectorEntry) -> bool:
    """Whether the file is in our own format, of a demo detector."""
    return entry.local_path is not None and entry.local_path.suffix == ".safetensors"


def _is_script(entry: DetectorEntry) -> bool:
    """Whether the file is NVIDIA's TorchScript, which is run as it is."""
    return entry.local_path is not None and entry.local_path.suffix == ".pt"


def _shape(entry: DetectorEntry) -> dict[str, Any]:
    """Length of the features, size and resize of the images, and the number of classes."""
    if entry.hub is not None:
        return {
            "features": entry.features,
            "size": entry.size,
            "resize": "bicubic",
            "classes": 0,
        }
    if _is_ours(entry):
        return _demo_shape(entry)
    return {
        "features": InceptionV3.feature_dim,
        "size": SIZE,
        "resize": entry.resize,
        "classes": InceptionV3.num_logits,
    }


def _demo_shape(entry: DetectorEntry) -> dict[str, Any]:
    """The same of a detector in our own format, whose file tells; it is small."""
    if not _is_here(entry):
        return {"features": None, "size": None, "resize": "none", "classes": None}
    found = load_demo_detector(entry.file())
    return {
        "features": found.feature_dim,
        "size": found.shape.height,
        "resize": "none",
        "classes": found.num_logits,
    }


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a detector."""
    left_out = [name for name in METRICS if name not in facts["metrics"]]
    size = facts["size"]
    return (
        facts["name"],
        str(facts["features"] or "?"),
        f"{size}x{size}" if size else "?",
        facts["resize"],
        "yes" if facts["here"] else "no",
        facts["licence"],
        f"all but {', '.join(left_out)}" if left_out else "all",
        facts["note"],
    )
