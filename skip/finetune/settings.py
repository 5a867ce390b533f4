"""What determines a run of fine-tuning."""

import json
from dataclasses import asdict, dataclass

from dnnlib.numbers import check_positive
from skip.names import WEIGHTINGS

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class FineTuning:
    """What determines a run, but for its length, which is counted in images.

    The optimiser is Adam (0.9, 0.999) with a constant learning rate. The network stays in eval mode, hence without
    dropout: the loss is that of the network as it samples. Noise levels are drawn as in EDM's training.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        data: data set zip or folder.
        detector: the feature network f; a name in configs/detectors.toml, a path or a URL.
        batch: images a step over all ranks.
        lr: learning rate.
        seed: of order, noise levels and noise.
        weighting: of noise levels; a name in `skip.studies.score_matching.WEIGHTINGS`.
        dtype: of the network's computation; its weights stay float32.
    Raises:
        ValueError: if a choice is unknown or a number out of range.
    """

    network: str
    data: str
    detector: str
    batch: int = 32
    lr: float = 0.01
    seed: int = 0
    weighting: str = "edm"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; it must be at least 1")
        check_positive("lr", self.lr)
        if self.weighting not in WEIGHTINGS:
            raise ValueError(
                f"unknown weighting {self.weighting!r}; choose from {', '.join(WEIGHTINGS)}"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; choose from {', '.join(DTYPES)}")

    def check_length(self, name: str, images: int) -> None:
        """Refuse a number of images that is not one of whole steps.

        Raises:
            ValueError: naming it.
        """
        if images < 1 or images % self.batch:
            raise ValueError(
                f"{name} is {images}; it must be a positive multiple of the batch, {self.batch}"
            )


def as_json(settings: FineTuning, **more: object) -> dict[str, object]:
    """The settings and more, as a state holds them."""
    return json.loads(json.dumps(asdict(settings) | more))
