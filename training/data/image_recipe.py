"""One recipe for every image of a data set: colour, crop, size, frame."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from dnnlib.keywords import resolved
from training.data import names

MODES = {1: "L", 3: "RGB"}
MOST_PIXELS = 10_000  # of a side

_MOST_FITTED = 2 * 10**8  # pixels of an image on its way to the size

Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class Recipe:
    """What is done to every image, in this order; sizes are (width, height) in pixels.

    Args:
        channels: 1 (grayscale) or 3 (RGB); None takes those of the first image.
        transform: one of TRANSFORMS, which make of an image one of the size `resolution`; None: stretch to it.
        resolution: (W, H); None keeps each image's size.
        pad: (W, H) of a black frame with the result in its middle; None for no frame.
    Raises:
        ValueError: if a value is out of range, or `transform` comes without a `resolution` that it can make.
    """

    channels: int | None = None
    transform: str | None = None
    resolution: Size | None = None
    pad: Size | None = None

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels not in MODES:
            raise ValueError(f"channels is {self.channels}; choose 1 or 3")
        for name, size in (("resolution", self.resolution), ("pad", self.pad)):
            if size is not None and not 1 <= min(size) <= max(size) <= MOST_PIXELS:
                raise ValueError(
                    f"{name} is {size[0]}x{size[1]}; both must be between 1 and {MOST_PIXELS}"
                )

        if self.transform is None:
            return
        if self.transform not in TRANSFORMS:
            raise ValueError(
                f"unknown transform {self.transform!r}; choose from {', '.join(TRANSFORMS)}"
            )
        if self.resolution is None:
            raise ValueError(f"transform {self.transform} needs a resolution, such as 64x64")

        width, height = self.resolution
        if self.transform in _WIDE and height > width:
            raise ValueError(
                f"{self.transform} needs width >= height; resolution is {width}x{height}"
            )
        if self.transform == "center-crop-dhariwal" and width != height:
            raise ValueError(f"{self.transform} makes squares; resolution is {width}x{height}")

    def apply(self, image: Image.Image, where: str) -> Image.Image | None:
        """Crop, resize and frame a grayscale or RGB `image`; None if the transform leaves it out.

        Raises:
            ValueError: if the transform cannot be carried out, or the result does not fit into the `pad` frame;
                names `where`.
        """
        made: Image.Image | None = image
        if self.transform is not None and self.resolution is not None:
            try:
                made = TRANSFORMS[self.transform](image, self.resolution)
            except ValueError as error:
                raise ValueError(f"{where} {error}") from error
        elif self.resolution is not None:
            made = _resize(image, self.resolution)

        if made is not None and self.pad is not None:
            if made.width > self.pad[0] or made.height > self.pad[1]:
                raise ValueError(
                    f"{where} is {size_of(made)}, larger than pad {self.pad[0]}x{self.pad[1]}"
                )
            made = _frame(made, self.pad)

        return made


def center_crop(image: Image.Image, size: Size) -> Image.Image:
    """The largest square in the middle, stretched to `size` (Lanczos)."""
    side = min(image.size)
    return _resize(_crop(image, (side, side)), size)


def center_crop_wide(image: Image.Image, size: Size) -> Image.Image | None:
    """EDM's rule for wide pictures: all columns, the middle rows, resized to W x H (Lanczos) in a black W x W frame.

    Of an image w x h, round(W h / w) rows are kept. That is W : H only where w : h is: others are squeezed. None, for
    an image narrower than W, or with fewer such rows than H.

    Reference: --transform center-crop-wide of https://github.com/NVlabs/edm, dataset_tool.py
    """
    width, height = size
    rows = round(width * image.height / image.width)
    if image.width < width or rows < height:
        return None
    return _frame(_resize(_crop(image, (image.width, rows)), size), (width, width))


def center_crop_letterbox(image: Image.Image, size: Size) -> Image.Image | None:
    """The largest W:H rectangle in the middle, resized to W x H (Lanczos), in a black W x W frame.

    None, for an image that this would enlarge.
    """
    width, height = size
    scale = min(image.width / width, image.height / height)
    if scale < 1:
        return None
    largest = _crop(image, (round(width * scale), round(height * scale)))
    return _frame(_resize(largest, size), (width, width))


def center_crop_dhariwal(image: Image.Image, size: Size) -> Image.Image:
    """ADM's rule, with which ImageNet is made for EDM2: halve (box), resize so that the shorter side fits, crop.

    While the shorter side is at least 2 R, both are halved, rounded down; then a bicubic resize by R / shorter side,
    and the R x R pixels in the middle. Smaller images are enlarged.

    Reference: Dhariwal & Nichol, 2021, https://arxiv.org/abs/2105.05233; its code's image_datasets.py

    Raises:
        ValueError: if the image is so long and narrow that it would not fit into memory on the way.
    """
    side = size[0]
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    fitted = (round(image.width * scale), round(image.height * scale))
    if fitted[0] * fitted[1] > _MOST_FITTED:
        raise ValueError(f"is {size_of(image)}, too narrow to be enlarged to {side}x{side}")
    return _crop(image.resize(fitted, Image.Resampling.BICUBIC), (side, side))


TRANSFORMS: dict[str, Callable[[Image.Image, Size], Image.Image | None]] = resolved(
    __package__, names.TRANSFORMS
)
_WIDE = ("center-crop-wide", "center-crop-letterbox")


def size_of(image: Image.Image) -> str:
    """`<width>x<height>`, for messages."""
    return f"{image.width}x{image.height}"


def _resize(image: Image.Image, size: Size) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _crop(image: Image.Image, size: Size) -> Image.Image:
    width, height = size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _frame(image: Image.Image, size: Size) -> Image.Image:
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas
