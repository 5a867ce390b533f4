"""Make images, and keep the record of how."""

import contextlib
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import torch
from tqdm import tqdm

from dnnlib.background import Background
from dnnlib.names import SHEET
from dnnlib.pictures import check_channels, check_sheet, contact_sheet, save_png, sheet_size
from dnnlib.run_folder import RunFolder
from dnnlib.seeds import parse_seeds
from programs.generate.flags import ComputeFlags, ImageFlags
from skip.flags import SamplingFlags, SkipFlags
from skip.options import image_source
from skip.source import LoadedSource
from torch_utils import distributed
from torch_utils.precision import computed_in

FLUSH_SECONDS = 5.0  # of images that a power cut may take, as waiting for the disk after each batch could cost time
WRITERS = 4  # threads that encode and write images while the network computes; most of their time they wait for a disk


def run(
    images: ImageFlags, compute: ComputeFlags, sampling: SamplingFlags, skip: SkipFlags
) -> None:
    """What generate.py does."""
    device = compute.place.device.init()
    _run(images, compute, sampling, skip, device)
    distributed.shutdown()


def _run(
    images: ImageFlags,
    compute: ComputeFlags,
    sampling: SamplingFlags,
    skip: SkipFlags,
    device: torch.device,
) -> None:
    """Make this rank's share of the images; rank 0 keeps the record."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    seeds = parse_seeds(images.seeds)
    columns, rows = _grid(images.grid, images.zoom, len(seeds))
    source = image_source(sampling, skip).load(device, compute.place.compile)
    check_channels(source.net.image_channels)
    batch = compute.batch or source.usual_batch
    side = source.net.image_resolution
    check_sheet(columns or 1, rows, side, side, images.zoom)
    folder = RunFolder(
        images.outdir, source.record, images.subdirs, images.format, columns > 0, (side, side)
    )

    with (
        folder.open(seeds, images.overwrite)
        if distributed.rank() == 0
        else contextlib.nullcontext()
    ):
        distributed.require_shared(folder.outdir)  # waits until it is claimed
        share = seeds[distributed.rank() :: distributed.world_size()]
        made = torch.tensor(_make(source, folder, share, batch), device=device)
        made = distributed.all_reduce_sum(made)  # waits for every rank
        if distributed.rank() != 0:
            return

        folder.check()
        distributed.wait_for(lambda: folder.holds(seeds))
        where = folder.packed()
        if columns and where is None:
            sheet = contact_sheet(
                [folder.images.load(seed) for seed in seeds[: columns * rows]], columns, images.zoom
            )
            save_png(sheet, folder.outdir / SHEET)
        if where is None and folder.kind != "png":
            where = folder.pack(source.classes(folder.seeds()))
        session: dict[str, Any] = {
            "started": started,
            "seconds": round(time.monotonic() - began, 1),
        }
        session |= {"images": int(made), "ranks": distributed.world_size(), "batch": batch}
        session |= {"compile": compute.place.compile} | computed_in(device)
        session |= {
            "network": source.checkpoint,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        folder.close(session)
    click.echo(str(where or folder.outdir))


def _make(source: LoadedSource, folder: RunFolder, share: Sequence[int], batch_size: int) -> int:
    """Make those images of this rank's share that are not in the folder; return how many that were.

    Batches are made whole, as rounding depends on their size: a run that was killed then ends with the same files.
    """
    made = 0
    there = len(share) if folder.packed() else sum(seed in share for seed in folder.images.stored())
    hidden = distributed.rank() != 0 or there == len(share)
    what = "images" if distributed.world_size() == 1 else "rank 0"
    bar = tqdm(total=len(share) - there, unit="img", disable=hidden, desc=what)
    with bar, Background(WRITERS, most=2 * batch_size) as background:
        for start in range(0, len(share), batch_size):
            part = share[start : start + batch_size]
            missing = folder.missing(part)
            if not missing:
                continue
            for batch in source.batches(part, batch_size):
                for seed, image in zip(batch.seeds, batch.images.cpu().numpy(), strict=True):
                    if seed in missing:
                        background.call(folder.save, seed, image)
            background.call(folder.flush, FLUSH_SECONDS)
            made += len(missing)
            # Once a batch: its images come together, and the estimate is of batches.
            bar.update(len(missing))
    folder.flush()
    return made


def _grid(text: str | None, zoom: int | None, images: int) -> tuple[int, int]:
    """Columns and rows of the contact sheet, (0, 0) for none."""
    if text is None:
        if zoom is not None:
            raise ValueError(
                f"--zoom={zoom} enlarges the contact sheet, and there is none; add --grid"
            )
        return 0, 0
    try:
        columns, rows = sheet_size(text)
    except ValueError as error:
        raise ValueError(f"--grid={error}") from None
    if columns * rows > images:
        raise ValueError(f"--grid={text} needs {columns * rows} images; there are {images} seeds")
    return columns, rows
