"""What the files of a training run say, for sinks."""

from collections.abc import Iterator
from pathlib import Path

from dnnlib.json_files import read_json_lines
from dnnlib.sinks.sink import Entry
from training.run.snapshots import SNAPSHOT, seen_by

STATS_FILE = "stats.jsonl"
METRICS_FILE = "metrics.jsonl"
PICTURE = "images"
UNIT = "images"


def entries(outdir: Path, until: int) -> Iterator[Entry]:
    """The lines of stats.jsonl and metrics.jsonl, and the pictures of snapshots.

    Args:
        outdir: the run's folder.
        until: images seen; what a killed session left beyond them will come again.
    Raises:
        ValueError: if a line is damaged.
    """
    for kind, name in (("train", STATS_FILE), ("snapshot", METRICS_FILE)):
        path = outdir / name
        lines = read_json_lines(path) if path.exists() else []
        for line in lines:
            step = int(line.pop(UNIT, 0))
            if step <= until:
                yield Entry(kind, step, line)

    for picture in sorted(outdir.glob(f"{PICTURE}-*.png")):
        snapshot = outdir / f"{picture.stem.replace(PICTURE, SNAPSHOT, 1)}.safetensors"
        seen = seen_by(snapshot)
        if isinstance(seen, int) and seen <= until:
            yield Entry("pictures", seen, picture=picture)
