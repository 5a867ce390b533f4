"""The first of the bundled images, as a data set: to decode all two thousand takes a second."""

import json
import zipfile
from pathlib import Path

ALL = Path(__file__).resolve().parents[1] / "assets" / "demo" / "images.zip"


def few_images(folder: Path, count: int = 64) -> str:
    """The path of a zip file of so many, with their classes, in the folder."""
    path = folder / "few.zip"
    with zipfile.ZipFile(ALL) as whole, zipfile.ZipFile(path, "w") as few:
        labels = json.loads(whole.read("dataset.json"))["labels"][:count]
        for name, _ in labels:
            few.writestr(name, whole.read(name))
        few.writestr("dataset.json", json.dumps({"labels": labels}))
    return str(path)
