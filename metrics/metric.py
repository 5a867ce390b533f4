"""What a metric is: its name, what it needs, how it is computed, and what is known of its error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from metrics.features import ArrayLike
from metrics.gaussian import Gaussian

INCEPTION = "inception-2015-12-05"  # of the published weights, which alone make a distance FID
Need = Literal["statistics", "logits", "real images", "spatial"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What metrics are computed from; each part is None where no metric asks for it.

    Attributes:
        generated: mean and covariance of the generated images' features.
        reference: those of the real images.
        features: of the generated images, [N, d], on the device where metrics are computed.
        logits: of the generated images, in an order that has nothing to do with their classes.
        real: features of the real images, [M, d].
        spatial: generated, reference and features of the spatial features.
    """

    generated: Gaussian | None = None
    reference: Gaussian | None = None
    features: ArrayLike | None = None
    logits: ArrayLike | None = None
    real: ArrayLike | None = None
    spatial: "Evidence | None" = None

    def both(self, metric: str) -> tuple[ArrayLike, ArrayLike]:
        """Features of the generated and of the real images, for a metric that compares images with images.

        Raises:
            ValueError: if one is missing.
        """
        if self.features is None or self.real is None:
            raise ValueError(
                f"{metric} compares images with images, not with statistics: give the real ones too"
            )
        return self.features, self.real


@dataclass(frozen=True, eq=False)
class Value:
    """One number that was measured.

    Args:
        value: the number.
        error: its standard error over draws of images, the reference being fixed; None if unknown.
        influence: how much each image pulls at it, [N] in the order of the features, mean 0; None if unknown.
        beside: what is told with it in a result, by name: "is_std", say.
    """

    value: float
    error: float | None = None
    influence: Tensor | None = None
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantity:
    """What one of a metric's numbers is.

    Args:
        label: its name for people.
        higher_is_better: which way samples improve.
        spread: the name in `Value.beside` of what people print behind a plus-minus sign; None if there is none.
    """

    label: str
    higher_is_better: bool = False
    spread: str | None = None


@dataclass(frozen=True)
class Metric:
    """One metric, of one or several numbers.

    Args:
        name: what users ask for.
        quantities: the numbers that it gives, by name.
        needs: beside the features of the generated images.
        protocol: how it is computed, in one line: what its value must be published with.
        compute: each gives some of the numbers; where one refuses (ValueError), the others' come out.
        by_image: whether all its values have an influence: their error then needs no groups of images left out.
        check_count: refuses too few images (ValueError), by their number and that of the features, before there are
            any; None takes what comes.
        detector: how the name of the feature network begins with which a value has its published name; of another
            network it carries that one's name.
    """

    name: str
    quantities: Mapping[str, Quantity]
    needs: frozenset[Need]
    protocol: str
    compute: tuple[Callable[[Evidence], dict[str, Value]], ...]
    by_image: bool = False
    check_count: Callable[[int, int], None] | None = None
    detector: str = INCEPTION
