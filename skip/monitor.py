"""What a network in training looks like: images and FID of each snapshot."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.cli import warn
from dnnlib.files import atomic_write
from dnnlib.json_files import json_line, read_json_lines
from dnnlib.pictures import check_sheet, contact_sheet, save_png, sheet_size
from dnnlib.places import located
from dnnlib.util import fetch, is_url
from metrics.detector import load_detector
from metrics.evaluation import Evaluation
from metrics.references import detector_of
from metrics.statistics import Statistics
from skip.source import ImageSource
from torch_utils import distributed
from training.run.entries import METRICS_FILE, PICTURE
from training.run.snapshots import SNAPSHOT

BATCH = 64


class Monitor:
    """Called with each snapshot: writes images-<thousand images>.png, and a line of metrics.jsonl.

    The images are EDM's default: 18 Heun steps from seeds 0, 1, ..., the same in every snapshot.

    Args:
        outdir: the run's folder.
        device: of this rank.
        grid: columns and rows of the picture, as "8x4"; "none" for no pictures.
        fid_num: images that FID is measured on, seeds 0 to fid_num - 1; 0 for no FID.
        reference: statistics that FID is measured against: path or URL.
        detector: a name in configs/detectors.toml, a path or a URL; None takes the one that `reference` was made with.
        autoencoder: what decodes a network's latents; None for networks of images.
        zoom: the whole factor by which the picture's images are enlarged; None chooses it by their size.
    Raises:
        ValueError: if `grid` is no size, there is a `zoom` and no picture, or FID is wanted, and the reference is not
            of the detector.
        FileNotFoundError, RuntimeError: if FID is wanted, and the reference or the detector is missing.
    """

    def __init__(
        self,
        outdir: str | Path,
        device: torch.device,
        grid: str,
        fid_num: int,
        reference: str,
        detector: str | None,
        autoencoder: str | None = None,
        zoom: int | None = None,
    ) -> None:
        self.outdir, self.device, self.fid_num = Path(outdir), device, fid_num
        self.autoencoder, self.zoom = autoencoder, zoom
        self._told: set[str] = set()

        try:
            self.columns, self.rows = (0, 0) if grid == "none" else sheet_size(grid)
        except ValueError as error:
            raise ValueError(f"--grid={error}, or none") from None
        if zoom is not None and not self.columns:
            raise ValueError(
                f"--zoom={zoom} enlarges the contact sheet, and --grid=none makes none"
            )

        if fid_num:
            path = fetch(reference) if is_url(reference) else located(reference)
            found = load_detector(detector_of(Statistics.load(path), detector), device)
            self.reference = Statistics.load(path, detector=found.name)
            self.evaluation = Evaluation(found, device, BATCH)
            with self.evaluation.compared_with(["fid"], self.reference, None):
                pass  # refuses now what does not fit

    def check(self, image_shape: tuple[int, ...]) -> None:
        """Refuse images [C, H, W] that the detector does not take, or that make too large a picture.

        Raises:
            ValueError: if it does not, or they do.
        """
        height, width = image_shape[-2:]
        check_sheet(self.columns or 1, self.rows, width, height, self.zoom)
        if not self.fid_num:
            return
        try:
            self.evaluation.detector(
                torch.zeros(1, *image_shape, dtype=torch.uint8, device=self.device)
            )
        except ValueError as error:
            raise ValueError(
                f"FID's detector does not take these images: {error}; give another as --detector, and its statistics "
                "as --ref (python -m metrics.demo_detector train and fid.py ref make both from your images), or "
                "--fid-num 0"
            ) from error

    def __call__(self, snapshot: Path, images_seen: int) -> None:
        """Look at a snapshot; every rank calls it."""
        source = ImageSource(network=str(snapshot), autoencoder=self.autoencoder)
        loaded = source.load(self.device)
        count = self.columns * self.rows
        if count and distributed.rank() == 0:
            made = [
                image
                for batch in loaded.batches(range(count), BATCH)
                for image in batch.images.cpu().numpy()
            ]
            name = snapshot.stem.replace(SNAPSHOT, PICTURE)
            save_png(contact_sheet(made, self.columns, self.zoom), self.outdir / f"{name}.png")
        if not self.fid_num:
            return

        def batches(seeds: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
            return ((batch.seeds, batch.images) for batch in loaded.batches(seeds, BATCH))

        seeds = list(range(self.fid_num))
        with self.evaluation.features({"source": loaded.record}, batches, seeds) as store:
            measured = self.evaluation.measure(["fid"], store, seeds, self.reference, None)
        for text in measured.warnings:
            if text not in self._told:  # the same of every snapshot
                self._told.add(text)
                warn(text)
        if distributed.rank() == 0:
            self.append({"images": images_seen, **measured.values})

    def append(self, line: dict[str, float]) -> None:
        """Add a line to metrics.jsonl, in place of what a killed session wrote from there on."""
        path = self.outdir / METRICS_FILE
        old = read_json_lines(path) if path.exists() else []
        kept = [one for one in old if one.get("images", 0) < line["images"]]
        with atomic_write(path) as file:
            file.write("".join(map(json_line, [*kept, line])).encode())
