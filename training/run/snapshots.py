"""Files of a network on its way, named by the images it has seen."""

import json
from pathlib import Path

import safetensors

from dnnlib.text import printable

SNAPSHOT = "network-snapshot"


def snapshot_name(images_seen: int) -> str:
    """The name after so many images: in thousands, and the rest if there is one.

    network-snapshot-000012.safetensors after 12,000, network-snapshot-000012-544.safetensors after 12,544
    """
    thousands, rest = divmod(images_seen, 1000)
    name = f"{SNAPSHOT}-{thousands:06d}"
    if rest:
        name += f"-{rest:03d}"
    return f"{name}.safetensors"


def snapshot_path(outdir: Path, images_seen: int) -> Path:
    """Where training stores the network after so many images: at the thousands of them, as EDM does.

    Where that is the network after another number of images of the same thousand, nothing is overwritten: the rest
    goes into the name.
    """
    path = outdir / snapshot_name(images_seen - images_seen % 1000)
    if not path.exists() or seen_by(path) == images_seen:
        return path
    return outdir / snapshot_name(images_seen)


def seen_by(snapshot: Path) -> object:
    """How many images the network in a snapshot has seen; None if that is not to be read."""
    try:
        with safetensors.safe_open(snapshot, framework="pt") as file:
            return json.loads(file.metadata()["provenance"])["images_seen"]
    except Exception:  # damaged, or another's file: no snapshot of this run
        return None


def refuse_snapshots_without_state(outdir: Path, state_file: str) -> None:
    """Refuse a folder whose run cannot go on, as a new one would write over its snapshots.

    Raises:
        ValueError: naming the last snapshot.
    """
    snapshots = sorted(outdir.glob(f"{SNAPSHOT}-*.safetensors"))
    if snapshots:
        raise ValueError(
            f"{outdir} has {printable(snapshots[-1].name, 60)} but no {state_file} to go on from, and a new run would "
            "write over the snapshots; choose another --outdir, or move them away"
        )
