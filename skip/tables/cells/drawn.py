"""Studies that draw what the paper draws without any evaluation of a network: wavelet bands, and rho over time."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dnnlib.pictures import contact_sheet, save_png, side_by_side
from dnnlib.places import located
from sampling.generate import to_uint8
from sampling.settings import SamplerSettings
from skip.evidence.estimate import Estimate
from skip.studies.inputs import fixed_order
from skip.studies.wavelet import band_features, bands
from skip.tables.cells.settings import AnyRange, Job, NetworkSettings, Seeded
from skip.tables.cells.words import record_of
from torch_utils import distributed
from training.dataset import ImageDataset

HEADS = {
    "LL": "LL: approximation",
    "LH": "LH: horizontal",
    "HL": "HL: vertical",
    "HH": "HH: diagonal",
}


@dataclass(frozen=True, kw_only=True)
class Bands(Seeded):
    """A sheet of real images and their four wavelet bands, a row an image.

    LL, whose pixels are twice the image's, is halved. In each other band grey is 0, and black or white the largest
    value that it has in any of the images. Bands are drawn at the image's size, without what lies beyond its border.

    Args:
        data: the real images; that of seed s is number s of their fixed order, as in the studies that measure losses.
        seeds: of the images.
        wavelet: a discrete wavelet of PyWavelets.
        zoom: each pixel becomes zoom x zoom pixels.
    Raises:
        ValueError: if a number is out of range.
    """

    data: str
    seeds: str = "0-4"
    wavelet: str = "bior1.3"
    zoom: int = 1

    def __post_init__(self) -> None:
        self.count  # noqa: B018  # refuses a bad text now
        if self.zoom < 1:
            raise ValueError(f"zoom is {self.zoom}; it must be at least 1")

    def evaluations(self) -> int:
        """None."""
        return 0

    def sources(self) -> dict[str, str]:
        """The real images."""
        return {"data": self.data}

    def effect(self) -> dict[str, Any]:
        """The settings."""
        return record_of(self)

    def check(self) -> None:
        """Read the images, and see whether the wavelet is there."""
        band_features(self.wavelet)
        self._images()

    def run(self, job: Job) -> dict[str, Estimate]:
        """Write the sheet beside the result, as PNG; on rank 0."""
        if distributed.rank() != 0:
            return {}
        images = self._images()
        columns = [contact_sheet(list(to_uint8(images).numpy()), 1, self.zoom)]
        for name, band in bands(images, self.wavelet).items():
            scale = 2.0 if name == "LL" else max(float(band.abs().max()), 1e-12)
            drawn = to_uint8(_at_the_size_of(images, band / scale))
            columns.append(contact_sheet(list(drawn.numpy()), 1, self.zoom))

        page = side_by_side(columns, ["image", *HEADS.values()])
        save_png(page, job.result.with_suffix(".png"))
        return {"images": Estimate.plain(float(len(images)))}

    def _images(self) -> Tensor:
        """Float64 [N, C, H, W] in [-1, 1]."""
        data = ImageDataset(located(self.data), use_labels=False)
        if max(self.numbers) >= len(data):
            raise ValueError(
                f"{self.data} has {len(data)} images; seeds below {len(data)} can be used"
            )
        order = fixed_order(len(data))
        rows = [data[int(order[number])][0] for number in self.numbers]
        return torch.stack(rows).to(torch.float64) / 127.5 - 1


def _at_the_size_of(images: Tensor, band: Tensor) -> Tensor:
    """The middle of a band [N, C, h, w], every value of which becomes 2 x 2 pixels: [N, C, H, W] as the images."""
    H, W = images.shape[2:]
    large = band.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    top, left = (large.shape[2] - H) // 2, (large.shape[3] - W) // 2
    return large[:, :, top : top + H, left : left + W]


@dataclass(frozen=True, kw_only=True)
class Schedule(NetworkSettings):
    """rho of the deepest layer at each noise level that a sampler visits, the highest first.

    Args:
        sampler: whose noise levels.
        Others: as of `NetworkSettings`; the seeds play no part.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    @property
    def count(self) -> int:
        """No image is made."""
        return 0

    def evaluations(self) -> int:
        """None."""
        return 0

    def sources(self) -> dict[str, str]:
        """The network, which knows its noise levels and times, and the autoencoder that is loaded with it."""
        return self.network_sources()

    def effect(self) -> dict[str, Any]:
        """The settings, the sampler's by the noise levels."""
        return record_of(self) | {"sigmas": self.sampler.resolved(AnyRange())["sigmas"]}

    def run(self, job: Job) -> dict[str, Estimate]:
        """rho[i] at step i."""
        net = job.load(self.network_alone()).net
        rho = net.rho(self.sampler.nodes(net).to(job.device))
        return {f"rho[{i}]": Estimate.plain(float(value)) for i, value in enumerate(rho[:, 0])}
