"""What demo.py does."""

import io
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dnnlib import plot_style
from dnnlib.files import check_writable
from dnnlib.pictures import (
    beside,
    contact_sheet,
    open_picture,
    save_png,
    side_by_side,
    stacked,
)
from dnnlib.places import ROOT
from programs.demo.flags import PAIRS, DemoFlags
from sampling.settings import SamplerSettings
from skip.options import warn_beyond
from skip.scale import SkipScale
from skip.source import ImageSource, LastNetwork
from skip.tables.measured import MeasuredItem
from skip.tables.results import Results
from skip.tables.show.plots import Panel, draw_curves, panels, xlabel
from skip.tables.spec import load_item
from torch_utils import distributed
from torch_utils.precision import every_kind

ITEM = "table2"  # whose committed results have FID over rho
NETWORK = "demo"
BATCH = 50


def main(flags: DemoFlags) -> None:
    """What `demo.py` does."""
    if flags.rho is not None:
        raise ValueError(
            f"--rho is EDM's time step exponent elsewhere; for the skip coefficient: --rho-bottom={flags.rho}"
        )
    warn_beyond([flags.rho_bottom])
    check_writable(flags.dest, "--dest", ".png")

    device = distributed.init()
    network = LastNetwork()
    plain = _make(SkipScale(), flags, device, network)
    tuned = _make(SkipScale(bottom=flags.rho_bottom), flags, device, network)
    gaps = changes(plain, tuned)
    chosen = most_changed(gaps)
    pairs = _pairs(plain[chosen], tuned[chosen], flags)

    save_png(beside(pairs, _curve(flags.steps)), flags.dest)
    seeds = ", ".join(str(seed) for seed in chosen)
    click.echo(
        f"Of {flags.num} seeds those whose images change most: {seeds}, by {gaps[chosen[0]]:.0f} to "
        f"{gaps[chosen[-1]]:.0f} of 255 levels (root mean square); the median is {np.median(gaps):.0f}",
        err=True,
    )
    where = Path(flags.dest).resolve()
    click.echo(f"The same {PAIRS} seeds, plain and Skip-Tuned, on {device}: {where}")
    distributed.shutdown()


def _make(
    scale: SkipScale, flags: DemoFlags, device: torch.device, network: LastNetwork
) -> np.ndarray:
    """Images uint8 [N, C, H, W] of seeds 0, 1, ...; seed modulo 10 is the class."""
    sampler = SamplerSettings(sampler="unipc", steps=flags.steps)
    source = ImageSource(network=NETWORK, sampler=sampler, scale=scale, labels="balanced")
    loaded = source.load(device, network=network)
    images = []
    with tqdm(total=flags.num, unit="img", desc=f"rho = {scale.bottom:g}") as bar:
        for batch in loaded.batches(range(flags.num), BATCH):
            images.append(batch.images.cpu().numpy())
            bar.update(len(batch.seeds))
    return np.concatenate(images)


def changes(plain: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """How far two images of a seed are apart: root mean square over pixels, in levels of 255, [N] of [N, C, H, W]."""
    gaps: np.ndarray = np.sqrt(np.square(tuned.astype(np.float64) - plain).mean(axis=(1, 2, 3)))
    return gaps


def most_changed(gaps: np.ndarray) -> list[int]:
    """Of seeds 0 to N - 1 those that change most, the largest change first."""
    return [int(seed) for seed in np.argsort(-gaps, kind="stable")[:PAIRS]]


def _pairs(plain: np.ndarray, tuned: np.ndarray, flags: DemoFlags) -> Image.Image:
    """Three rows: plain, tuned, and what changes."""
    gap = tuned.astype(np.float64) - plain
    signed = (127.5 + gap / 2).clip(0, 255).astype(np.uint8)
    rows = {
        f"plain (rho 1), {flags.steps} evaluations": plain,
        f"Skip-Tuned (rho {flags.rho_bottom:g} to 1), {flags.steps} evaluations": tuned,
        "what changes (gray: nothing)": signed,
    }
    return stacked(
        [
            side_by_side([contact_sheet(list(images), PAIRS, flags.zoom)], [caption])
            for caption, images in rows.items()
        ]
    )


def _curve(steps: int) -> Image.Image | None:
    """FID over rho as it was measured, as a picture; None, and a line that says why, where there is none."""
    try:
        found = measured_curve(steps)
        if found is None:
            click.echo(f"no curve: {ITEM} has no FID of UniPC with {steps} steps", err=True)
            return None
        return _drawn(found, steps)
    except RuntimeError as error:
        click.echo(f"no curve: {error}", err=True)
        return None


def measured_curve(steps: int) -> Panel | None:
    """FID of UniPC relative to that at rho 1, with paired errors, from the results beside this file; or None."""
    item = load_item(ITEM, "demo")
    measured = MeasuredItem.read(item, Results(ROOT / "results", every_kind()))
    assert item.plot is not None
    how = replace(item.plot, series=(), match={"sampler": "unipc", "steps": steps})
    return next((panel for panel in panels(how, measured) if panel.relative), None)


def _drawn(found: Panel, steps: int) -> Image.Image:
    title = f"FID over rho: network {NETWORK}, UniPC, {steps} evaluations"
    count = max(point.images or 0 for curve in found.curves.values() for point in curve)
    note = f"{plot_style.ERROR_BARS} ({count} at each rho, the same seeds)"
    how = load_item(ITEM, "demo").plot
    assert how is not None
    figure = plot_style.new_figure(title, note=note, panel=5.0)
    axes = plot_style.add_panel(figure, (1, 1, 1), xlabel(how), found.ylabel)
    draw_curves(axes, found.curves)
    axes.axvline(1.0, color=plot_style.RULE, linewidth=0.8, linestyle=":", zorder=0)
    axes.axhline(1.0, color=plot_style.RULE, linewidth=0.8, linestyle=":", zorder=0)
    plot_style.add_legend(figure, note)
    file = io.BytesIO()
    plot_style.write(figure, file, "png")
    return open_picture(file).convert("RGB")
