"""What metrics and their numbers are called, and where each is computed: quick to import, as torch is not.

A place is MODULE:NAME, of a module of this folder.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dnnlib.keywords import read_toml
from dnnlib.places import DETECTORS_TOML

DEFAULT = INCEPTION = (
    "inception-2015-12-05"  # of the published weights, which alone make a distance FID
)
Need = Literal["statistics", "logits", "real images", "spatial"]
SPLITS = 10  # of the images, for the Inception Score
DETECTOR_DTYPES = ("float32", "float64", "bfloat16")  # torch's names


@dataclass(frozen=True)
class Quantity:
    """What one of a metric's numbers is.

    Args:
        label: its name for people.
        higher_is_better: which way samples improve.
        spread: the name in `Value.beside` of what people print behind a plus-minus sign; None if there is none.
        judges: whether it says how good samples are; by what does not, nothing is searched.
    """

    label: str
    higher_is_better: bool = False
    spread: str | None = None
    judges: bool = True


@dataclass(frozen=True)
class Metric:
    """One metric, of one or several numbers.

    Args:
        name: what users ask for.
        quantities: the numbers that it gives, by name.
        needs: beside the features of the generated images.
        protocol: how it is computed, in one line: what its value must be published with.
        places: of functions of `metrics.metric.Evidence` that give a `Value` each of some of the numbers; where one
            refuses (ValueError), the others' come out.
        by_image: whether all its values have an influence: their error then needs no groups of images left out.
        check_count: place of a function that refuses too few images (ValueError), by their number and that of the
            features, before there are any; None takes what comes.
        detector: how the name of the feature network begins with which a value has its published name; of another
            network it carries that one's name.
    """

    name: str
    quantities: Mapping[str, Quantity]
    needs: frozenset[Need]
    protocol: str
    places: tuple[str, ...]
    by_image: bool = False
    check_count: str | None = None
    detector: str = INCEPTION

    @property
    def compute(self) -> tuple[Callable[..., Any], ...]:
        """The functions of `places`."""
        return tuple(function(place) for place in self.places)


def detectors() -> list[str]:
    """The feature networks that load by name.

    Raises:
        OSError, ValueError: see `dnnlib.keywords.read_toml`.
    """
    return list(read_toml(DETECTORS_TOML))


def function(place: str) -> Callable[..., Any]:
    """What is at a place."""
    found: Callable[..., Any] = pkgutil.resolve_name(f"{__package__}.{place}")
    return found


_ALL = (
    Metric(
        "fid",
        {"fid": Quantity("FID", spread="fid_standard_error")},
        frozenset({"statistics"}),
        "Frechet distance, unbiased covariances; standard error by the jackknife over images",
        ("frechet:_fid",),
        by_image=True,
    ),
    Metric(
        "fid_inf",
        {
            "fid_inf": Quantity("FID∞", spread="fid_inf_standard_error"),
            "fid_bias": Quantity("FID's bias", spread="fid_bias_standard_error", judges=False),
        },
        frozenset({"statistics"}),
        "FID at 1/N = 0, on a line through the mean FIDs of 1 to 5 disjoint random parts; fid_bias: FID less that",
        ("extrapolated:_fid_inf",),
        by_image=True,
        check_count="extrapolated:check_count",
    ),
    Metric(
        "is",
        {"is": Quantity("IS", higher_is_better=True, spread="is_std")},
        frozenset({"logits"}),
        f"{SPLITS} splits of the images in the order of a hash of their pixels, logits without bias; "
        "mean and standard deviation over splits",
        ("inception_score:_is",),
    ),
    Metric(
        "kid",
        {"kid": Quantity("KID", spread="kid_std")},
        frozenset({"real images"}),
        "unbiased MMD^2 with (x.y / d + 1)^3, 100 subsets; mean and standard deviation over subsets",
        ("kernel:_kid",),
    ),
    Metric(
        "pr",
        {
            "precision": Quantity("precision", higher_is_better=True),
            "recall": Quantity("recall", higher_is_better=True),
        },
        frozenset({"real images"}),
        "improved precision and recall, k = 3",
        ("precision_recall:_pr",),
    ),
    Metric(
        "dc",
        {
            "density": Quantity("density", higher_is_better=True),
            "coverage": Quantity("coverage", higher_is_better=True),
        },
        frozenset({"real images"}),
        "density and coverage, k = 5",
        ("precision_recall:_dc",),
    ),
    Metric(
        "immd",
        {
            "immd_sigma10": Quantity("IMMD (sigma 10)"),
            "immd_median": Quantity("IMMD (median sigma)"),
        },
        frozenset({"real images"}),
        "unbiased MMD^2 with exp(-|x - y|^2 / 2 sigma^2), not scaled; sigma = 10, and the median distance",
        (
            "kernel:_immd_fixed",
            "kernel:_immd_median",
        ),
    ),
    Metric(
        "vendi",
        {"vendi": Quantity("Vendi score", higher_is_better=True, spread="vendi_standard_error")},
        frozenset(),
        "exp of the entropy of the eigenvalues of the cosine kernel / N; standard error by the jackknife over images",
        ("vendi:_vendi",),
        by_image=True,
    ),
    Metric(
        "authpct",
        {"authpct": Quantity("AuthPct", higher_is_better=True, spread="authpct_standard_error")},
        frozenset({"real images"}),
        "100 times the share of images farther from their nearest real one than that is from its nearest other",
        ("authenticity:_authpct",),
        by_image=True,
    ),
    Metric(
        "cmmd",
        {"cmmd": Quantity("CMMD", spread="cmmd_standard_error")},
        frozenset({"real images"}),
        "1000 times the MMD^2 (V-statistic) with exp(-|x - y|^2 / 200); standard error by the jackknife over images",
        ("cmmd:_cmmd",),
        by_image=True,
        detector="clip-768d-projected-336px",
    ),
    Metric(
        "sfid",
        {"sfid": Quantity("sFID", spread="sfid_standard_error")},
        frozenset({"spatial"}),
        "Frechet distance of the first 7 channels of mixed_6/conv (17 x 17), unbiased covariances; "
        "standard error by the jackknife over images",
        ("spatial:_sfid",),
        by_image=True,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
QUANTITIES: dict[str, Quantity] = {
    name: quantity for metric in METRICS.values() for name, quantity in metric.quantities.items()
}
NEED_REAL_IMAGES = [name for name, metric in METRICS.items() if "real images" in metric.needs]
