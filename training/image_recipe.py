"""One recipe for every image of a data set: colour, crop, size, frame."""

from dataclasses import dataclass

from PIL import Image

TRANSFORMS = ("center-crop", "center-crop-wide")
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Recipe:
    """What is done to every image, in this order; sizes are (width, height) in pixels.

    Args:
        channels: 1 (grayscale) or 3 (RGB); None takes those of the first image.
        transform: None: stretch to `resolution`. "center-crop": the largest square in the middle, then that.
            "center-crop-wide": the largest W:H rectangle in the middle, resized to W x H, in a black W x W
            frame; images that this would enlarge are left out.
        resolution: (W, H); None keeps each image's size.
        pad: (W, H) of a black frame with the result in its middle; None for no frame.
    Raises:
        ValueError: if a value is out of range, or `transform` comes without `resolution`.
    """

    channels: int | None = None
    transform: str | None = None
    resolution: tuple[int, int] | None = None
    pad: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels not in MODES:
            raise ValueError(f"channels is {self.channels}; choose 1 or 3")
        for name, size in (("resolution", self.resolution), ("pad", self.pad)):
            if size is not None and min(size) < 1:
                raise ValueError(f"{name} is {size[0]}x{size[1]}; both must be at least 1")
        if self.transform is None:
            return
        if self.transform not in TRANSFORMS:
            raise ValueError(f"unknown transform {self.transform!r}; choose from {', '.join(TRANSFORMS)}")
        if self.resolution is None:
            raise ValueError(f"transform {self.transform} needs a resolution, such as 64x64")
        width, height = self.resolution
        if self.transform == "center-crop-wide" and height > width:
            raise ValueError(f"center-crop-wide needs width >= height; resolution is {width}x{height}")

    def apply(self, image: Image.Image, where: str) -> Image.Image | None:
        """Crop, resize (Lanczos) and frame a grayscale or RGB `image`; None if the transform leaves it out.

        Raises:
            ValueError: if the result does not fit into the `pad` frame; names `where`.
        """
        width, height = self.resolution or image.size
        if self.transform == "center-crop":
            side = min(image.size)
            image = _crop(image, side, side)
        elif self.transform == "center-crop-wide":
            scale = min(image.width / width, image.height / height)
            if scale < 1:
                return None
            image = _crop(image, round(width * scale), round(height * scale))
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        if self.transform == "center-crop-wide":
            image = _frame(image, width, width)
        if self.pad is not None:
            if image.width > self.pad[0] or image.height > self.pad[1]:
                raise ValueError(f"{where} is {size_of(image)}, larger than pad {self.pad[0]}x{self.pad[1]}")
            image = _frame(image, *self.pad)
        return image


def size_of(image: Image.Image) -> str:
    """`<width>x<height>`, for messages."""
    return f"{image.width}x{image.height}"


def _crop(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _frame(image: Image.Image, width: int, height: int) -> Image.Image:
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas
