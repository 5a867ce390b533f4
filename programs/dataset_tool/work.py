"""What dataset_tool.py does."""

import json
from dataclasses import asdict

import click

from dnnlib.text import printable
from programs.dataset_tool.flags import ImportFlags
from training.data.dataset_import import check_apart, import_dataset
from training.data.image_recipe import Recipe
from training.data.sources import open_source


def main(flags: ImportFlags) -> None:
    """What `dataset_tool.py` does."""
    channels = int(flags.channels) if flags.channels else None
    recipe = Recipe(channels, flags.transform, flags.resolution, flags.pad)
    check_apart(flags.source, flags.dest)
    opened = open_source(flags.source, flags.split, flags.labels, flags.characters)
    for note in opened.notes:
        click.echo(note, err=True)
    summary = import_dataset(opened, flags.dest, recipe, flags.max_images, flags.overwrite)
    if summary.cut:
        first = printable(min(opened.several))
        click.echo(
            f"cut: {summary.cut} pictures to their first frame or page, such as {first}", err=True
        )
    click.echo(json.dumps(asdict(summary)))
