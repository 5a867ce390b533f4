"""Several metrics from one pass over the features."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from dnnlib.text import printable
from metrics.frechet import statistics_distance
from metrics.inception_score import inception_score
from metrics.kernel import immd, kid
from metrics.precision_recall import density_coverage, precision_recall
from metrics.statistics import Statistics
from metrics.uncertainty import frechet_standard_error


@dataclass(frozen=True, eq=False)
class Evidence:
    """What metrics are computed from.

    Attributes:
        statistics: of the generated images.
        reference: statistics of the real images, or None.
        features: of the generated images, or None where no metric asks for them.
        logits: of the generated images, in an order that has nothing to do with their classes; or None.
        real: features of the real images, or None.
    """

    statistics: Statistics
    reference: Statistics | None = None
    features: np.ndarray | None = None
    logits: np.ndarray | None = None
    real: np.ndarray | None = None


Values = dict[str, float]
Metric = Callable[[Evidence], Values]
T = TypeVar("T")


def _fid(e: Evidence) -> Values:
    reference = _given(e.reference, "fid needs reference statistics: give --ref or --ref-images")
    values = {"fid": statistics_distance(e.statistics, reference)}
    if e.features is not None:
        values["fid_standard_error"] = frechet_standard_error(e.features, reference)
    return values


def _is(e: Evidence) -> Values:
    logits = _given(e.logits, "the detector has no logits")
    if logits.shape[1] == 0:
        raise ValueError("the Inception Score needs a detector with classes; this one has none")
    mean, std = inception_score(logits)
    return {"is": mean, "is_std": std}


def _kid(e: Evidence) -> Values:
    features, real = _both(e, "kid")
    size = min(1000, len(features), len(real))
    mean, std = kid(features, real, subset_size=size)
    values = {"kid": mean, "kid_std": std, "kid_subset_size": size}
    if size == len(features) == len(real):
        del values["kid_std"]
        _warn(f"kid_std is left out: each subset is all {size} images of both sets, so that there is no spread")
    elif size in (len(features), len(real)):
        one = "generated" if size == len(features) else "real"
        _warn(f"kid_std is too small: each subset has all {size} {one} images, so that it is the other set's spread")
    return values


def _pr(e: Evidence) -> Values:
    features, real = _both(e, "pr")
    precision, recall = precision_recall(real, features, k=3)
    return {"precision": precision, "recall": recall}


def _dc(e: Evidence) -> Values:
    features, real = _both(e, "dc")
    density, coverage = density_coverage(real, features, k=5)
    return {"density": density, "coverage": coverage}


def _immd_fixed(e: Evidence) -> Values:
    return {"immd_sigma10": immd(*_both(e, "immd"), 10.0)}


def _immd_median(e: Evidence) -> Values:
    return {"immd_median": immd(*_both(e, "immd"), None)}


METRICS: dict[str, tuple[Metric, ...]] = {  # several functions: where one refuses, the others' values come out
    "fid": (_fid,),
    "is": (_is,),
    "kid": (_kid,),
    "pr": (_pr,),
    "dc": (_dc,),
    "immd": (_immd_fixed, _immd_median),
}
PROTOCOLS: dict[str, str] = {  # how each is computed: what a value must be published with
    "fid": "Frechet distance, unbiased covariances; standard error by the jackknife over images",
    "is": "10 splits of the images in the order of a hash of their pixels, logits without bias; "
    "mean and standard deviation over splits",
    "kid": "unbiased MMD^2 with (x.y / d + 1)^3, 100 subsets; mean and standard deviation over subsets",
    "pr": "improved precision and recall, k = 3",
    "dc": "density and coverage, k = 5",
    "immd": "unbiased MMD^2 with exp(-|x - y|^2 / 2 sigma^2), not scaled; sigma = 10, and the median distance",
}
INCEPTION = "inception-2015-12-05"  # of the published weights, which alone make a distance FID
NEED_REAL_FEATURES = {"kid", "pr", "dc", "immd"}


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


@dataclass(frozen=True)
class Measured:
    """What came of several metrics.

    Attributes:
        values: by name; a distance between features of another network than Inception-v3 is not FID, and carries the
            detector's name, as in "fid-demo".
        refused: metric -> why it has no value, or lacks one of its values.
    """

    values: Values = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def measure(names: list[str], evidence: Evidence, detector: str) -> Measured:
    """The values of several metrics; one that refuses leaves the others alone.

    Args:
        names: keys of METRICS.
        evidence: what they are computed from.
        detector: name of the feature network.
    Raises:
        ValueError: if there is no value at all.
    """
    suffix = "" if detector.startswith(INCEPTION) else f"-{detector}"
    found = Measured()
    for name in names:
        for metric in METRICS[name]:
            try:
                values = metric(evidence)
            except (ValueError, RuntimeError) as error:  # RuntimeError: of linear algebra that does not converge
                found.refused[name] = printable(error)
            else:
                found.values.update({key + suffix: value for key, value in values.items()})
    if not found.values:
        raise ValueError("; ".join(dict.fromkeys(found.refused.values())))
    return found


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _given(value: T | None, message: str) -> T:
    if value is None:
        raise ValueError(message)
    return value


def _both(e: Evidence, metric: str) -> tuple[np.ndarray, np.ndarray]:
    message = f"{metric} compares images with images, not with statistics: give the real ones as --ref-images"
    return _given(e.features, message), _given(e.real, message)
