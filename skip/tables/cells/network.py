"""Studies of the network itself: norms at the long skips, gradients, score-matching losses, inverted noise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from metrics.detector import load_detector
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from sampling.sigmas import edm
from skip.evidence.estimate import Estimate
from skip.studies.gradient import gradient_norm
from skip.studies.inputs import RealImages
from skip.studies.inversion import GROUPS, gaussian_distances, invert
from skip.studies.norms import skip_norms, slice_norms, trajectory_norms
from skip.studies.score_matching import WEIGHTINGS, clipped, detector_features, losses, pixels
from skip.studies.wavelet import band_features
from skip.tables.cells.forward import ForwardPass
from skip.tables.cells.per_image import collect
from skip.tables.cells.settings import AnyRange, Job, NetworkSettings
from skip.tuned import SkipTuned

MOST_WITH_GRADIENTS = 64  # images at a time: 33 GB of ImageNet-64's network
Function = Literal["raw", "denoiser"]
Probe = Literal["ones", "random"]


@dataclass(frozen=True, kw_only=True)
class Norms(ForwardPass):
    """||d|| / ||u|| at each long skip, deepest first, its mean, and the norms of the weights that see u and d.

    Args:
        trajectory_steps: the mean over the states of a sampler instead, which begins with the pure noise and takes so
            many steps on EDM's grid, one evaluation each.
    """

    trajectory_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trajectory_steps is None:
            return
        if self.input != "noise" or self.sigma is None:
            raise ValueError(
                "trajectory_steps needs input = noise and a sigma: sampling begins with pure noise of one level"
            )
        edm(self.trajectory_steps, 0.002, 80)  # refuses too few

    def evaluations(self) -> int:
        """One an image, or one a step."""
        return (self.trajectory_steps or 1) * self.count

    def run(self, job: Job) -> dict[str, Estimate]:
        """ratio, ratio[i]; weight_u[i], weight_d[i], and of the two weight_ratio[i], d over u."""
        net = job.load(self.network_alone()).net
        real = self.real_images(net)

        def compute(seeds: list[int]) -> dict[str, Tensor]:
            with torch.inference_mode():
                x, sigma, labels = self.inputs(net, real, seeds, job.device)
                if self.trajectory_steps is None:
                    return {"ratio": skip_norms(net, x, sigma, labels)}
                top = float(sigma[0])
                nodes = SamplerSettings("euler", steps=self.trajectory_steps, sigma_max=top).nodes(
                    net
                )
                return {"ratio": trajectory_norms(net, x / top, nodes, labels)}

        found = collect(job.folder, self.numbers, job.batch, compute, "norms")
        if not found:
            return {}
        ratio = found["ratio"]
        values = {"ratio": Estimate.of_mean(ratio.mean(1))}
        values |= {f"ratio[{i}]": Estimate.of_mean(column) for i, column in enumerate(ratio.T)}

        u, d = slice_norms(net)
        for name, norms in (("weight_u", u), ("weight_d", d), ("weight_ratio", d / u)):
            values |= {f"{name}[{i}]": Estimate.plain(float(norm)) for i, norm in enumerate(norms)}
        return values


@dataclass(frozen=True, kw_only=True)
class Gradient(ForwardPass):
    """The expected gradient norm of the network with respect to its input.

    Args:
        function: "raw", the network F on its scaled input, or "denoiser", D.
        probe: the scalar is the sum of the outputs ("ones"), or their product with a random vector ("random").
    """

    function: Function = "raw"
    probe: Probe = "ones"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, choices in (
            ("function", self.function, Function),
            ("probe", self.probe, Probe),
        ):
            if value not in get_args(choices):
                raise ValueError(
                    f"unknown {name} {value!r}; choose from {', '.join(get_args(choices))}"
                )

    def evaluations(self) -> int:
        """A forward and a backward pass an image: about three."""
        return 3 * self.count

    def run(self, job: Job) -> dict[str, Estimate]:
        """gradient_norm."""
        net = job.load(self.network_alone()).net
        real = self.real_images(net)

        def compute(seeds: list[int]) -> dict[str, Tensor]:
            x, sigma, labels = self.inputs(net, real, seeds, job.device)
            return {
                "gradient_norm": gradient_norm(
                    net, x, sigma, labels, self.function, self.probe, seeds
                )
            }

        # Gradients keep every layer's output: of ImageNet-64's network half a gigabyte an image.
        batch = min(job.batch, MOST_WITH_GRADIENTS)
        found = collect(job.folder, self.numbers, batch, compute, "gradient")
        return {name: Estimate.of_mean(values) for name, values in found.items()}


@dataclass(frozen=True, kw_only=True)
class Losses(ForwardPass):
    """Score-matching losses in pixels and in features.

    Args:
        sigma_steps: instead of `sigma`: the levels of EDM's grid of that many steps, in turn over the seeds.
        features: "pixel", "wavelet", or names of detectors.
        weighting: "edm" or "one".
        wavelet: of the wavelet bands.
        clip: cut D off at [-1, 1] for pixels and wavelets too; a detector reads uint8 images, so that it always does.
    """

    input: Literal["noise", "data"] = "data"
    sigma: float | None = None
    sigma_steps: int | None = None
    features: tuple[str, ...] = ("pixel",)
    weighting: str = "edm"
    wavelet: str = "bior1.3"
    clip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input != "data":
            raise ValueError("score-matching losses compare with real images: input must be data")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(
                f"unknown weighting {self.weighting!r}; choose from {', '.join(WEIGHTINGS)}"
            )
        if self.sigma_steps is not None:
            if self.sigma is not None:
                raise ValueError(
                    f"sigma = {self.sigma:g} and sigma_steps both choose the noise levels; give one"
                )
            edm(self.sigma_steps, 0.002, 80)  # refuses too few

    def evaluations(self) -> int:
        """One an image."""
        return self.count

    def levels(self, net: SkipTuned, seeds: list[int]) -> Tensor:
        """Those of a sampler's grid in turn, or those of any forward pass: float64 [N]."""
        if self.sigma_steps is None:
            return super().levels(net, seeds)
        nodes = edm(self.sigma_steps, max(0.002, net.sigma_min), min(80.0, net.sigma_max))
        return net.round_sigma(nodes[[seed % self.sigma_steps for seed in seeds]])

    def sources(self) -> dict[str, str]:
        """Network, real images and detectors."""
        names = [name for name in self.features if name not in ("pixel", "wavelet")]
        roles = ["detector", *(f"detector {name}" for name in names[1:])]
        return super().sources() | dict(zip(roles, names, strict=False))

    def check(self) -> None:
        """Load network, real images and detectors, and compute nothing."""
        super().check()
        self._maps(torch.device("cpu"))

    def _maps(self, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
        """The feature maps, in which losses are measured."""
        maps: dict[str, Callable[[Tensor], Tensor]] = {}
        for name in self.features:
            if name == "pixel":
                maps[name] = pixels
            elif name == "wavelet":
                maps |= band_features(self.wavelet)
            else:
                maps[name] = detector_features(load_detector(name, device))
        return {name: clipped(f) for name, f in maps.items()} if self.clip else maps

    def run(self, job: Job) -> dict[str, Estimate]:
        """One loss a feature map, named after it; LL, LH, HL, HH for the wavelet's bands."""
        net = job.load(self.network_alone()).net
        real = self.real_images(net)
        assert real is not None
        maps = self._maps(job.device)

        def compute(seeds: list[int]) -> dict[str, Tensor]:
            images, labels = real.batch(seeds, job.device)
            noise = SeedNoise(seeds).randn(list(images.shape)).to(job.device)
            sigma = self.levels(net, seeds).to(job.device)
            with torch.inference_mode():
                return losses(net, images, labels, sigma, noise, maps, self.weighting)

        found = collect(job.folder, self.numbers, job.batch, compute, "losses")
        return {f"{name} loss": Estimate.of_mean(values) for name, values in found.items()}


@dataclass(frozen=True, kw_only=True)
class Inversion(NetworkSettings):
    """The distance of inverted images from Gaussian noise.

    Args:
        sampler: its noise levels, lowest first, are those of the inversion.
        data: the real images, of which seed s takes number s in a fixed random order.
        draws: of fresh noise, over which the distances are averaged.
        groups: of images and of fresh noise, each left out once, for blocks.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    data: str
    draws: int = 4
    groups: int = GROUPS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; it must be at least 1")
        if not 2 <= self.groups <= self.count:
            raise ValueError(
                f"groups is {self.groups}; of {self.count} images it must be 2 to {self.count}"
            )

    def evaluations(self) -> int:
        """As many as a sampler on the same noise levels needs, about."""
        return self.sampler.nfe(AnyRange()) * self.count

    def sources(self) -> dict[str, str]:
        """The network and the real images."""
        return {"network": self.network, "data": self.data}

    def check(self) -> None:
        """Load the network and the real images, and compute nothing."""
        RealImages(self.data, self.network_alone().load("cpu").net, max(self.numbers) + 1)

    def run(self, job: Job) -> dict[str, Estimate]:
        """<kernel>_unbiased and <kernel>_v, with the error of a jackknife over images and fresh noise."""
        net = job.load(self.network_alone()).net
        real = RealImages(self.data, net, max(self.numbers) + 1)

        def compute(seeds: list[int]) -> dict[str, Tensor]:
            images, labels = real.batch(seeds, job.device)
            return {"noise": invert(net, images, labels, self.sampler, len(seeds))}

        found = collect(job.folder, self.numbers, job.batch, compute, "inversion")
        if not found:
            return {}
        noise = torch.from_numpy(found["noise"]).to(job.device)
        distances = gaussian_distances(noise, 0, draws=self.draws, groups=self.groups)
        return {
            name: Estimate.of_jackknife(distance.value, distance.without)
            for name, distance in distances.items()
        }
