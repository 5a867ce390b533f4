"""What metrics are computed from, and a value with what is known of its error."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from metrics.features import ArrayLike
from metrics.gaussian import Gaussian


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
