"""Studies of generated images: their metrics, and sheets of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnnlib.pictures import contact_sheet, save_png
from dnnlib.places import located
from dnnlib.util import fetch, is_url
from metrics.detector import Detector, SpatialDetector, load_detector
from metrics.evaluation import Evaluation
from metrics.images import Images as ReferenceImages
from metrics.images import open_images, require_same_colours
from metrics.measure import Measured, needed
from metrics.metric import Value
from metrics.names import METRICS, NEED_REAL_IMAGES, function
from metrics.statistics import Statistics
from sampling.churn import churned
from sampling.names import NETWORK_GRIDS, Labels
from sampling.settings import SamplerSettings
from skip.evidence.estimate import Estimate
from skip.source import ImageSource, LoadedSource
from skip.tables.cells.settings import AnyRange, Job, NetworkSettings
from skip.tables.cells.words import record_of, words_of
from torch_utils import distributed

CHURN = ("S_churn", "S_min", "S_max", "S_noise")


@cache
def _nfe(sampler: SamplerSettings) -> int:
    """Evaluations of a sampler, which cells over rho have in common."""
    return sampler.nfe(AnyRange())


@cache
def _sampling(sampler: SamplerSettings) -> dict[str, Any]:
    """What a sampler's settings come to: its defaults filled in, its noise levels, and those that churn raises."""
    found = sampler.resolved(AnyRange())
    if found["grid"] not in NETWORK_GRIDS:
        del found["grid"]  # the levels say it, whose last digits a list of them need not have
    found["sigmas"] = [float(f"{level:.9g}") for level in found["sigmas"]]
    if "S_churn" not in found:
        return found

    levels = found["sigmas"]
    S_churn, S_min, S_max, S_noise = (float(found.pop(name)) for name in CHURN)
    hats = churned(levels, S_churn, S_min, S_max)
    if hats == levels[:-1]:
        return found
    return found | {"raised": hats, "S_noise": S_noise}


@dataclass(frozen=True, kw_only=True)
class Generated(NetworkSettings):
    """Images from a sampler.

    Args:
        sampler: solver and noise levels.
        labels: "random", drawn from each seed, or "balanced", the seed modulo the classes.
        guidance: scale of classifier-free guidance, which doubles the evaluations; None is none.
        guide_rho, guidance_sigma: as of `skip.source.ImageSource`.
        Others: as of `NetworkSettings`.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    labels: Labels = "random"
    guidance: float | None = None
    guide_rho: float | None = None
    guidance_sigma: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source()

    def evaluations(self) -> int:
        """Network evaluations over all images."""
        return self.evaluations_per_image() * self.count

    def evaluations_per_image(self) -> int:
        """NFE, those of the guide included."""
        alone = _nfe(self.sampler)
        if self.guidance in (None, 1):
            return alone
        return alone + self.source().evaluations_of_guide(AnyRange())

    def effect(self) -> dict[str, Any]:
        """The settings, those of the sampler by the noise levels that it visits and what it does there."""
        of_sampler = words_of(SamplerSettings)
        others = {name: one for name, one in record_of(self).items() if name not in of_sampler}
        return others | _sampling(self.sampler)

    def source(self) -> ImageSource:
        """What makes the images."""
        return ImageSource(
            self.network, self.sampler, self.scale, self.target, self.labels, dtype=self.dtype,
            guidance=self.guidance, guide_rho=self.guide_rho, guidance_sigma=self.guidance_sigma,
            skip_method=self.skip_method,
        )  # fmt: skip

    def check(self) -> None:
        """Load the network and, of latent ones, the autoencoder, and compute nothing."""
        self.source().load("cpu")


@dataclass(frozen=True, kw_only=True)
class Images(Generated):
    """Metrics of generated images.

    Args:
        detector: a name in configs/detectors.toml, a path or a URL.
        reference: statistics of the real images, a path or URL.
        data: the real images, for metrics that compare images with images.
        metrics: names in `metrics.measure.METRICS`.
        groups: of seeds, each left out once, for blocks of metrics without an influence of each image; 0 leaves those
            without blocks.
    """

    detector: str
    reference: str
    data: str | None = None
    metrics: tuple[str, ...] = ("fid",)
    groups: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; choose from {', '.join(METRICS)}")
            if name in NEED_REAL_IMAGES and self.data is None:
                raise ValueError(f"{name} compares images with images: name the real ones as data")

    def sources(self) -> dict[str, str]:
        """Network, detector, reference statistics and, where a metric needs them, the real images."""
        found = self.network_sources() | {"detector": self.detector, "reference": self.reference}
        if self.needs_data and self.data is not None:
            found["data"] = self.data
        return found

    @property
    def needs_data(self) -> bool:
        """Whether a metric compares with the real images themselves."""
        return not set(NEED_REAL_IMAGES).isdisjoint(self.metrics)

    def run(self, job: Job) -> dict[str, Estimate]:
        """Generate and measure; the same as `fid.py gen`."""
        return self.measure(job, self.source())

    def check(self) -> None:
        """Load network, detector, statistics and, where a metric needs them, the real images; all must fit.

        Raises:
            ValueError, OSError, RuntimeError: as loading, or if a metric needs more images.
        """
        cpu = torch.device("cpu")
        _, detector, reference, _ = self._loaded(
            cpu, self.source(), lambda source: source.load(cpu)
        )
        for name in self.metrics:
            check_count = METRICS[name].check_count
            if check_count is not None:
                function(check_count)(self.count, detector.feature_dim)
        names = list(self.metrics)
        evaluation = Evaluation(detector, cpu, spatial="spatial" in needed(names))
        with evaluation.compared_with(names, reference, None):
            pass

    def measure(self, job: Job, what: ImageSource) -> dict[str, Estimate]:
        """The metrics of the images that `what` makes; what does not fit is refused before there are any."""
        source, detector, reference, real = self._loaded(
            job.device, what, lambda source: job.load(source, job.compile)
        )
        names = list(self.metrics)
        spatial = "spatial" in needed(names)
        evaluation = Evaluation(detector, job.device, job.batch, job.folder, spatial)
        grouped = [name for name in names if not METRICS[name].by_image]

        def batches(seeds: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
            return ((batch.seeds, batch.images) for batch in source.batches(seeds, job.batch))

        with (
            evaluation.compared_with(names, reference, real) as target,
            evaluation.features({"source": source.record}, batches, self.numbers) as store,
        ):
            measured = evaluation.compare(names, store, self.numbers, target)
            without = []
            if grouped:
                for seeds in self._without_each_group():
                    without.append(evaluation.compare(grouped, store, seeds, target))
            if distributed.rank() != 0:
                return {}

        for one in [measured, *without]:
            for name, reason in one.refused.items():
                raise ValueError(
                    f"the cell has no value of {name}: {reason}; leave it out of metrics"
                )
        for text in measured.warnings:
            job.warn(text)
        return {name: _estimate(value, name, without) for name, value in measured.found.items()}

    def _loaded(
        self, device: torch.device, what: ImageSource, load: Callable[[ImageSource], LoadedSource]
    ) -> tuple[LoadedSource, Detector, Statistics, ReferenceImages | None]:
        """What makes the images and what they are compared with.

        Raises:
            FileNotFoundError, ValueError: if a file is missing or damaged, or grayscale would be compared with RGB.
        """
        detector = load_detector(self.detector, device)
        spatial = "spatial" in needed(list(self.metrics))
        reference = load_statistics(self.reference, detector.name, spatial)
        real = self._real_images()
        source = load(what)

        if spatial and isinstance(detector, SpatialDetector) and reference.spatial is None:
            raise ValueError(
                f"sfid needs mu_s and sigma_s of the real images, which {self.reference} lacks: give a reference with "
                "them, as ADM's are and fid.py ref --spatial makes them"
            )
        channels = source.net.image_channels
        require_same_colours(channels, reference.channels, self.reference)
        if real is not None:
            require_same_colours(channels, real.channels, str(self.data))
        return source, detector, reference, real

    def _real_images(self) -> ReferenceImages | None:
        """The real images where a metric needs them: no more than are generated, a random sample if there are more."""
        if not self.needs_data or self.data is None:
            return None
        path = located(self.data)
        every = open_images(path)
        return every if len(every) <= self.count else open_images(path, self.count)

    def _without_each_group(self) -> list[list[int]]:
        """The seeds without a run of consecutive ones, for each run."""
        if not self.groups:
            return []
        left = []
        for group in np.array_split(self.numbers, self.groups):
            out = set(group.tolist())
            left.append([seed for seed in self.numbers if seed not in out])
        return left


def _estimate(value: Value, name: str, without: list[Measured]) -> Estimate:
    """A value with its error and its blocks, by the best of what is known.

    Args:
        value: of all images.
        name: its name.
        without: the values without each group of seeds, or nothing.
    """
    if value.influence is not None:
        return Estimate.of_influence(value.value, value.influence)
    if without:
        return Estimate.of_jackknife(value.value, [one.found[name].value for one in without])
    return Estimate.plain(value.value, value.error)


def load_statistics(source: str, detector: str | None = None, spatial: bool = False) -> Statistics:
    """Statistics of real images, from a path or URL; of another detector than the named one they are refused."""
    path = fetch(source) if is_url(source) else located(source)
    return Statistics.load(path, detector=detector, spatial=spatial)


@dataclass(frozen=True, kw_only=True)
class Sheet(Generated):
    """A sheet of generated images.

    Args:
        columns: images a row.
        zoom: each pixel becomes zoom x zoom pixels.
    """

    columns: int = 8
    zoom: int = 1

    def sources(self) -> dict[str, str]:
        """The network, and its autoencoder if it has one of its own."""
        return self.network_sources()

    def run(self, job: Job) -> dict[str, Estimate]:
        """Write the sheet beside the result, as PNG; on rank 0."""
        if distributed.rank() != 0:
            return {}
        source = job.load(self.source(), job.compile)
        images: list[np.ndarray] = []
        for batch in source.batches(self.numbers, job.batch):
            images += list(batch.images.cpu().numpy())
        save_png(contact_sheet(images, self.columns, self.zoom), job.result.with_suffix(".png"))
        return {"images": Estimate.plain(float(len(images)))}
