"""Generate images: network + seeds -> images, with or without Skip-Tuning."""

import platform
import time
from datetime import UTC, datetime
from typing import Any

import click
import torch
from tqdm import tqdm

from dnnlib.cli import one_line_errors
from dnnlib.pictures import contact_sheet, save_png
from dnnlib.run_folder import FORMATS, RunFolder, parse_seeds
from skip.options import SAMPLING_FLAGS, SKIP_FLAGS, add_flags, image_source
from torch_utils import distributed


@click.command(context_settings={"max_content_width": 130})
@click.option("--outdir", help="Where to save the images", required=True, metavar="DIR")
@click.option("--seeds", help="Random seeds, as 1,2,5-10", default="0-63", show_default=True, metavar="LIST")
@click.option("--subdirs", help="A folder for each 1000 seeds", is_flag=True)
@click.option("--batch", help="Images at a time on each rank", type=click.IntRange(min=1), default=64, show_default=True, metavar="INT")
@add_flags(SAMPLING_FLAGS, SKIP_FLAGS)
@click.option("--device", help="cpu, cuda, cuda:1, mps  [default: cuda where there is one]", metavar="DEVICE")
@click.option("--compile", "compile_", help="torch.compile the network: slow start, then faster", is_flag=True)
@click.option("--format", "format_", help="Single PNGs, a data set zip, or one npz", type=click.Choice(FORMATS), default="png", show_default=True)
@click.option("--grid", help="Also save a contact sheet, grid.png", metavar="COLSxROWS")
@click.option("--overwrite", help="Replace a run with other settings in --outdir", is_flag=True)
def main(**flags: Any) -> None:
    """Generate images with a diffusion network, plain or Skip-Tuned.

    A run that was killed goes on when the same command is given again. run.json tells how the images were made.

    Examples:

    \b
    # The bundled demo network, 64 images and a contact sheet, plain and Skip-Tuned
    python generate.py --outdir out/plain --steps 5 --labels balanced --grid 8x8
    python generate.py --outdir out/tuned --steps 5 --labels balanced --grid 8x8 --rho-bottom 0.8

    \b
    # UniPC with 9 evaluations; EDM's stochastic sampler
    python generate.py --outdir out/unipc --sampler unipc --steps 9 --rho-bottom 0.7
    python generate.py --outdir out/churn --steps 32 --S_churn 10 --S_min 0.05 --S_max 50 --S_noise 1.003

    \b
    # ImageNet-64, 19 network evaluations, rho from 0.82 to 1, on every GPU of this machine
    torchrun --standalone --nproc_per_node=gpu generate.py --network edm-imagenet-64x64-cond-adm \\
        --outdir out/imagenet --seeds 0-49999 --subdirs --steps 10 --rho-bottom 0.82 --rho-top 1.0
    """
    with one_line_errors():
        device = distributed.init(flags["device"])
        try:
            run(flags, device)
        finally:
            distributed.shutdown()


def run(flags: dict[str, Any], device: torch.device) -> None:
    """Make this rank's share of the images; rank 0 keeps the record."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    rank, ranks = distributed.rank(), distributed.world_size()
    seeds = parse_seeds(flags["seeds"])
    columns, rows = _grid(flags["grid"], len(seeds))
    source = image_source(flags).load(device, flags["compile_"])
    folder = RunFolder(flags["outdir"], source.record, flags["subdirs"])
    if rank == 0:
        folder.open(seeds, flags["overwrite"])
    distributed.barrier()

    share = [] if folder.packed() else folder.missing(seeds[rank::ranks])
    nfe = None
    with tqdm(total=len(share), unit="img", disable=rank != 0, desc="images" if ranks == 1 else "rank 0") as bar:
        for batch in source.batches(share, flags["batch"]):
            for seed, image in zip(batch.seeds, batch.images.cpu().numpy(), strict=True):
                folder.save(seed, image)
            nfe = batch.nfe
            bar.update(len(batch.seeds))
    distributed.barrier()
    if rank != 0:
        return

    where = folder.packed()
    if where is None and columns:
        sheet = contact_sheet([folder.load(seed) for seed in seeds[: columns * rows]], columns)
        save_png(sheet, folder.outdir / "grid.png")
    if where is None and flags["format_"] != "png":
        where = folder.pack(flags["format_"], source.classes(folder.seeds()))
    session = {"network": flags["network"], "started": started, "seconds": round(time.monotonic() - began, 1)}
    session |= {"images": len(share), "ranks": ranks, "batch": flags["batch"], "device": str(device)}
    session |= {"python": platform.python_version(), "torch": torch.__version__}
    folder.close(nfe, session)
    click.echo(str(where or folder.outdir))


def _grid(text: str | None, images: int) -> tuple[int, int]:
    """Columns and rows of the contact sheet, (0, 0) for none."""
    if text is None:
        return 0, 0
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()) or int(columns) * int(rows) == 0:
        raise ValueError(f"--grid={text} is not COLSxROWS, such as 8x8")
    if int(columns) * int(rows) > images:
        raise ValueError(f"--grid={text} needs {int(columns) * int(rows)} images; there are {images} seeds")
    return int(columns), int(rows)


if __name__ == "__main__":
    main()
