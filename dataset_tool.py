"""Make a dataset zip for train.py from images, arrays, MNIST-like idx files, CIFAR or a colour font."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Command
from dnnlib.flags import add_flags
from dnnlib.start import importing
from programs.dataset_tool.flags import ImportFlags


@click.command(cls=Command, context_settings={"max_content_width": 110})
@add_flags(ImportFlags)
def main(flags: ImportFlags) -> None:
    """Make a data set for train.py, in the layout that StyleGAN and EDM read and write.

    \b
    --source FOLDER                         all images below it
    --source IMAGES.zip                     all images in it, also a data set of StyleGAN or EDM
    --source IMAGES.npy, IMAGES.npz         an array, uint8 [N, H, W, C]; an npz's arr_1 are its classes
    --source FOLDER, *-images-idx3-ubyte    MNIST or Fashion-MNIST, .gz or not, labels beside it
    --source cifar-10-python.tar.gz         CIFAR-10 or -100, Python or binary version
    --source FONT.ttf                       a colour font's pictures of --characters, on white

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
      # Emoji at 32x32 (Debian: apt install fonts-noto-color-emoji unicode-data)
      python dataset_tool.py --source /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf \\
          --characters /usr/share/unicode/emoji/emoji-test.txt --dest datasets/emoji-32.zip --resolution 32x32

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
    with importing():
        from programs.dataset_tool import work
    work.main(flags)


if __name__ == "__main__":
    main()
