"""What a demo detector reads and tells apart."""

from dataclasses import asdict, dataclass

from dnnlib.text import printable

RESOLUTION = 32  # of the bundled ones
SMALLEST, LARGEST = 4, 4096  # pixels along an edge
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Shape:
    """What a detector reads and tells apart.

    Args:
        channels: 1 (grayscale) or 3 (RGB).
        height, width: of an image, in pixels.
        classes: how many.
    Raises:
        ValueError: if one is out of range.
    """

    channels: int = 1
    height: int = RESOLUTION
    width: int = RESOLUTION
    classes: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int:
                raise ValueError(f"{name} is {printable(repr(value), 50)}, not a whole number")
        if self.channels not in (1, 3):
            raise ValueError(
                f"images have {self.channels} channels; a detector reads 1 (grayscale) or 3 (RGB)"
            )
        if min(self.height, self.width) < SMALLEST or max(self.height, self.width) > LARGEST:
            size = f"{self.width}x{self.height} pixels"
            raise ValueError(
                f"images have {size}; a detector reads {SMALLEST} to {LARGEST} along an edge"
            )
        if not 2 <= self.classes <= MOST_CLASSES:
            raise ValueError(
                f"there are {self.classes} classes to learn; a detector needs 2 to {MOST_CLASSES}"
            )

    @property
    def halvings(self) -> int:
        """How often the image is halved: until its shorter edge has less than 8 pixels."""
        return max(1, min(self.height, self.width).bit_length() - 3)
