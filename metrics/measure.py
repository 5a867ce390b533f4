"""Several metrics from one pass over the features."""

from dataclasses import dataclass, field
from typing import Any

from dnnlib.text import printable
from metrics.metric import Evidence, Value
from metrics.names import METRICS, Metric, Need


def parse_metrics(text: str) -> list[str]:
    """Metric names from text such as "fid,is".

    Raises:
        ValueError: if one is unknown.
    """
    names = list(dict.fromkeys(text.replace(" ", "").split(",")))
    for name in names:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; choose from {', '.join(METRICS)}")
    return names


def needed(names: list[str]) -> set[Need]:
    """What some metrics need together."""
    return {need for name in names for need in METRICS[name].needs}


def metric_of(quantity: str) -> Metric:
    """The metric that gives a quantity: that of "precision" is pr."""
    return next(metric for metric in METRICS.values() if quantity in metric.quantities)


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of several metrics.

    Attributes:
        found: by name; a distance between features of another network than Inception-v3 is not FID, and carries the
            detector's name, as in "fid-demo". Likewise for other metrics and `Metric.detector`.
        refused: metric -> why it has no value, or lacks one of its values.
        warnings: what to tell with the values.
    """

    found: dict[str, Value] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def values(self) -> dict[str, float]:
        """All numbers, what is told beside each among them."""
        flat: dict[str, float] = {}
        for name, value in self.found.items():
            _, dash, detector = name.partition("-")
            flat[name] = value.value
            flat |= {f"{key}{dash}{detector}": number for key, number in value.beside.items()}
        return flat

    def as_json(self) -> dict[str, Any]:
        """{"metrics": {name: number}}, with {"refused": ...} and {"warnings": [...]} where there are any."""
        result: dict[str, Any] = {"metrics": self.values}
        if self.refused:
            result["refused"] = self.refused
        if self.warnings:
            result["warnings"] = self.warnings
        return result


def measure(names: list[str], evidence: Evidence, detector: str) -> Measured:
    """The values of several metrics; one that refuses leaves the others alone.

    Args:
        names: keys of METRICS.
        evidence: what they are computed from.
        detector: name of the feature network.
    Raises:
        ValueError: if there is no value at all.
    """
    measured = Measured()
    for name in names:
        suffix = "" if detector.startswith(METRICS[name].detector) else f"-{detector}"
        for compute in METRICS[name].compute:
            try:
                values = compute(evidence)
            except (ValueError, RuntimeError) as error:
                # RuntimeError: of linear algebra that does not converge.
                measured.refused[name] = printable(error)
            else:
                measured.found.update({key + suffix: value for key, value in values.items()})

    if not measured.found:
        raise ValueError("; ".join(dict.fromkeys(measured.refused.values())))
    return measured
