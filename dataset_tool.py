"""Make a dataset zip for train.py from images, MNIST-like idx files or CIFAR."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import dataclasses
import json
import re

import click

from dnnlib.cli import Command
from dnnlib.text import printable
from training.data.dataset_import import check_apart, import_dataset
from training.data.image_recipe import TRANSFORMS, Recipe
from training.data.sources import LABEL_SOURCES, SPLITS, open_source


class Size(click.ParamType):
    """WxH, W,H or one number for both, in pixels; gives (width, height)."""

    name = "WxH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse `value`; a usage error if it is no size."""
        match = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size; write it as 64x64", param, ctx)
        return int(match[1]), int(match[2] or match[1])


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--source", metavar="PATH", required=True, help="What to read")
@click.option("--dest", metavar="PATH", required=True, help="*.zip or a folder to make")
@click.option(
    "--max-images", metavar="INT", type=click.IntRange(min=1), help="Only the first INT images"
)
@click.option("--transform", type=click.Choice(list(TRANSFORMS)), help="Crop before resizing")
@click.option("--resolution", type=Size(), help="Resize to this, e.g. 64x64")
@click.option("--pad", type=Size(), help="Centre in a black frame, e.g. 32x32")
@click.option(
    "--channels", type=click.Choice(["1", "3"]), help="Gray or RGB  [default: as first image]"
)
@click.option(
    "--labels", type=click.Choice(LABEL_SOURCES), default="auto", help="Where from  [default: auto]"
)
@click.option(
    "--split", type=click.Choice(SPLITS), help="Of idx folders and CIFAR  [default: train]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing --dest")
def main(
    source: str,
    dest: str,
    max_images: int | None,
    transform: str | None,
    resolution: tuple[int, int] | None,
    pad: tuple[int, int] | None,
    channels: str | None,
    labels: str,
    split: str | None,
    overwrite: bool,
) -> None:
    """Make a data set for train.py, in the layout that StyleGAN and EDM read and write.

    \b
    --source FOLDER                         all images below it
    --source IMAGES.zip                     all images in it, also a data set of StyleGAN or EDM
    --source FOLDER, *-images-idx3-ubyte    MNIST or Fashion-MNIST, .gz or not, labels beside it
    --source cifar-10-python.tar.gz         CIFAR-10 or -100, Python or binary version

    \b
    Examples:
      # Fashion-MNIST (Debian: apt install dataset-fashion-mnist), 28x28 in a frame of 32x32
      python dataset_tool.py --source /usr/share/datasets/fashion-mnist \\
          --dest datasets/fashion-mnist-32.zip --pad 32x32
      # CIFAR-10
      python dataset_tool.py --source cifar-10-python.tar.gz --dest datasets/cifar10-32x32.zip
      # ImageNet at 64x64: one sub-folder a class, some images grayscale
      python dataset_tool.py --source imagenet/train --dest datasets/imagenet-64x64.zip \\
          --resolution 64x64 --transform center-crop --channels 3

    The result holds 00000/img00000000.png, ... and dataset.json:
    {"labels": [["00000/img00000000.png", 3], ...]} or {"labels": null}. With --labels auto, labels are those
    of the source's dataset.json; without that file, the top-level folders in sorted order are the classes, if
    every image is in one and there are at least two. A line on stderr says which, or why there are none.

    Images must come out square and of one size; a power of two, which EDM's own tools insist on, is not
    required. Without a transform they are stretched to --resolution (Lanczos). Transforms:

    \b
    center-crop            the largest square in the middle
    center-crop-dhariwal   ADM's and EDM2's for ImageNet: halve, fit the shorter side (bicubic), crop
    center-crop-wide       EDM's for wide images: all columns, W*h/w rows, in a black WxW frame
    center-crop-letterbox  the largest W:H rectangle, in a black WxW frame

    The last two leave out images that are too small.

    Grayscale stays one channel, except after a first image in colour. Opaque alpha is dropped; images with
    transparency are refused. 16 bits become 8 (round(v / 257)); EXIF's orientation is carried out. Of an
    animation, or of several pages, the first is taken, and a line says of how many.

    Progress goes to stderr, a JSON summary to stdout. --dest appears only when it is whole; equal input gives
    equal bytes.
    """
    recipe = Recipe(int(channels) if channels else None, transform, resolution, pad)
    check_apart(source, dest)
    opened = open_source(source, split, labels)
    for note in opened.notes:
        click.echo(note, err=True)
    summary = import_dataset(opened, dest, recipe, max_images, overwrite)
    if summary.cut:
        first = printable(min(opened.several))
        click.echo(
            f"cut: {summary.cut} pictures to their first frame or page, such as {first}", err=True
        )
    click.echo(json.dumps(dataclasses.asdict(summary)))


if __name__ == "__main__":
    main()
