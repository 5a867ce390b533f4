"""Everything that determines a set of generated images, and the images themselves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dnnlib.cli import warn
from sampling.generate import Batch, check_guidance, check_labels, generate
from sampling.guidance import Guidance, inside
from sampling.names import Labels
from sampling.noise import first_draws
from sampling.settings import NoiseRange, SamplerSettings
from skip.methods.table import check_reach, parse_methods, record_of_methods
from skip.names import BATCH, DTYPES, LEAST_BATCH, MOST_BATCH
from skip.scale import SkipScale, as_json
from skip.tuned import SkipTuned
from torch_utils.distributed import choose_device
from torch_utils.precision import computed_in
from training.families.latent.precond import LatentPrecond
from training.networks import SKIP_TARGETS, SkipTarget
from training.precond import Precond
from training.storage import describe, load_network

PIXELS = BATCH * 64**2  # of what the network denoises: images, or latents


# Arguments as of `ready_network`.
Loader = Callable[[str, torch.device, str | None, str | None, bool], Precond]


def ready_network(
    source: str,
    device: torch.device,
    autoencoder: str | None,
    dtype: str | None,
    compile: bool = False,
) -> Precond:
    """The network of that name, ready to sample.

    Args:
        source, device, autoencoder: as for `training.storage.load_network`.
        dtype: a name in DTYPES; None as the checkpoint says.
        compile: torch.compile it, and its decoder.
    Raises:
        FileNotFoundError, ValueError, RuntimeError: as `load_network`, or if a weight is not finite.
    """
    net = load_network(source, device, autoencoder).channels_last()
    for name, value in net.state_dict().items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{source}: its tensor {name} holds NaN or infinity: get the checkpoint again"
            )
    net.set_dtype(getattr(torch, dtype) if dtype else net.compute_dtype(device))
    if compile:
        net.model.compile()
        if isinstance(net, LatentPrecond) and net.first_stage_model is not None:
            net.first_stage_model.decoder.compile()
    return net


class LastNetwork:
    """`ready_network` that keeps the network of its last call, for a next one that asks for the same."""

    def __init__(self) -> None:
        self._asked: Any = None
        self._net: Precond | None = None

    def __call__(
        self,
        source: str,
        device: torch.device,
        autoencoder: str | None,
        dtype: str | None,
        compile: bool = False,
    ) -> Precond:
        """The network; its file, as it is now, decides whether it is the same."""
        asked = (describe(source, autoencoder), device, dtype, compile)
        if self._net is None or asked != self._asked:
            # Before the next is there: they could be too much together.
            self._asked = self._net = None
            self._net = ready_network(source, device, autoencoder, dtype, compile)
            self._asked = asked
        return self._net


def check_levels(
    sampler: SamplerSettings,
    net: NoiseRange,
    window: tuple[float, float] | None,
    interval: tuple[float, float] | None,
) -> None:
    """Refuse a range of noise levels that no evaluation lies in: the images would be those without it.

    Args:
        sampler, net: at whose noise levels the network is evaluated.
        window: where the skips are changed, low < sigma <= high; None is everywhere.
        interval: where there is guidance, likewise.
    Raises:
        ValueError: naming the range and the levels.
    """
    ranges = {
        "the skips are changed (--rho-sigma)": window,
        "there is guidance (--guidance-sigma)": interval,
    }
    asked = {what: ends for what, ends in ranges.items() if ends is not None}
    if not asked:
        return

    levels = torch.tensor(sampler.evaluated(net), dtype=torch.float64)
    for what, ends in asked.items():
        if not inside(levels, ends).any():
            raise ValueError(
                f"no evaluation has a noise level above {ends[0]:g} and up to {ends[1]:g}, where alone {what}; they "
                f"are at {levels.min():g} to {levels.max():g}"
            )


@dataclass(frozen=True)
class ImageSource:
    """A network, a sampler and skip coefficients; with a seed they determine an image.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        sampler: solver and noise levels.
        scale: rho of the skips.
        skip_target: what in a decoder block sees the scaled skip: "full" the block, or a part of it (Appendix C).
        labels: "random": each image's class is drawn from its seed, as EDM does; "balanced": seed modulo classes.
        class_idx: the class of every image instead.
        noise_device: of the random draws; None is the CPU, so that an image is the same on every device.
        dtype: of the network, a name in DTYPES; None: float32, and on CUDA what the network's entry in
            configs/networks.toml or else its file says.
        guidance: scale of `sampling.guidance.Guided`, which takes twice the network calls; None or 1 is none.
        guide: the weaker network, named as `network`, always plain; None is `network` itself without the class, which
            is then Skip-Tuned with and without it, as if both were one batch.
        guide_rho: skip guidance: the guide is `network` itself, with its class but with this rho in the deepest layer
            and towards 1, instead of `scale`; 1 is the plain network.
        guidance_sigma: (low, high): guidance only where low < sigma <= high.
        autoencoder: of a latent network: what decodes it, path or URL; None as its file or entry says.
        skip_method: what else acts on the skips, as `skip.methods.table.parse_methods` reads it: at the noise levels of
            `scale`, whatever its coefficients are.
    Raises:
        ValueError: if a choice is unknown, or a guide is named without guidance.
    """

    network: str = "demo"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    scale: SkipScale = field(default_factory=SkipScale)
    skip_target: SkipTarget = "full"
    labels: Labels = "random"
    class_idx: int | None = None
    noise_device: str | None = None
    dtype: str | None = None
    guidance: float | None = None
    guide: str | None = None
    guide_rho: float | None = None
    guidance_sigma: tuple[float, float] | None = None
    autoencoder: str | None = None
    skip_method: str | None = None

    def __post_init__(self) -> None:
        if self.skip_target not in SKIP_TARGETS:
            raise ValueError(
                f"unknown skip_target {self.skip_target!r}; choose from {', '.join(SKIP_TARGETS)}"
            )
        if self.dtype not in (None, *DTYPES):
            raise ValueError(f"unknown dtype {self.dtype!r}; choose from {', '.join(DTYPES)}")
        parse_methods(self.skip_method)
        Guidance(self.scale_of_guidance, interval=self.guidance_sigma)
        self._check_guide()

    def _check_guide(self) -> None:
        """Refuse a guide that is said in two ways, and what does nothing without guidance."""
        if self.guidance is None:
            for name in ("guide", "guide_rho", "guidance_sigma"):
                what = getattr(self, name)
                if what is not None:
                    raise ValueError(
                        f"{name} {what} does nothing without guidance: give its scale (--guidance)"
                    )
        if self.guide is not None and self.guide_rho is not None:
            raise ValueError(
                f"the guide is either {self.guide} or the network itself with rho {self.guide_rho:g}; give one of them"
            )
        if self.guide_rho is not None:
            SkipScale(self.guide_rho)  # refuses what is no coefficient

    @property
    def scale_of_guidance(self) -> float:
        """The scale, 1 for no guidance."""
        return 1.0 if self.guidance is None else self.guidance

    def evaluations_of_guide(self, net: NoiseRange) -> int:
        """Of an image: one at every evaluation of the network, or at those in the interval.

        Args:
            net: the network, or another range of noise levels.
        """
        guidance = Guidance(self.scale_of_guidance, interval=self.guidance_sigma)
        return sum(guidance.acts(self.sampler.evaluated(net)))

    def load(
        self, device: torch.device | str, compile: bool = False, network: "Loader | None" = None
    ) -> "LoadedSource":
        """Load the network, and check that everything fits together.

        Args:
            device: where the network goes.
            compile: torch.compile the networks; batches are then filled up to one size, as another compiles anew.
            network: loads a network; None is `ready_network`.
        Raises:
            FileNotFoundError, ValueError, RuntimeError: as `training.storage.load_network`, or if a setting does not
                fit the network.
        """
        device = torch.device(device)
        if device.type == "mps":
            raise ValueError("sampling integrates in float64, which mps devices lack: use cpu")

        noise_device = choose_device(self.noise_device or "cpu")
        if self.noise_device == "cuda" and device.type == "cuda":
            noise_device = device  # of several GPUs, the one that computes

        network = network or ready_network
        net = network(self.network, device, self.autoencoder, self.dtype, compile)
        check_labels(net, self.labels, self.class_idx)
        net.check_skip_target(self.skip_target)
        interval = self.guidance_sigma if self.scale_of_guidance != 1 else None
        check_levels(self.sampler, net, self.scale.window, interval)
        guided = self.scale_of_guidance != 1
        guide: Precond | SkipTuned | None = None
        if guided and self.guide_rho is not None:
            guide = SkipTuned(net, SkipScale(self.guide_rho))
        if guided and self.guide is not None:
            guide = network(self.guide, device, None, self.dtype, compile)
        check_guidance(net, self.scale_of_guidance, guide, self.sampler.nodes(net))
        if guided and guide is None:
            warn_without_class(self.network, net)

        methods = parse_methods(self.skip_method)
        check_reach(methods, net.skip_levels, self.network)
        tuned = SkipTuned(net, self.scale, self.skip_target, methods)
        checkpoint = describe(self.network, self.autoencoder)
        if net.assumed:
            checkpoint["assumed"] = net.assumed
        if self.guide is not None and guided:
            checkpoint |= {"guide": self.guide}
        record = self._record(net, device, noise_device, checkpoint)
        return LoadedSource(self, tuned, device, noise_device, checkpoint, record, guide, compile)

    def _record(
        self,
        net: Precond,
        device: torch.device,
        noise_device: torch.device,
        checkpoint: dict[str, Any],
    ) -> dict[str, Any]:
        """Every setting that determines the images, resolved, as JSON; equal settings give equal records."""
        labels: str | int | None = self.labels if self.class_idx is None else self.class_idx
        record: dict[str, Any] = {
            "network_sha256": checkpoint["sha256"],
            "sampler": self.sampler.resolved(net),
            "skip": self._skip_record(net.num_skips),
            "labels": None if net.label_dim == 0 else labels,
            "dtype": str(net.compute_dtype(device)).removeprefix("torch."),
            "noise_device": noise_device.type,
        }
        if computed_in(device)["tf32"]:
            # Unsaid where float32 is what it says: on a CPU, and on a GPU by default.
            record["tf32"] = True

        decoder = net.first_stage_model if isinstance(net, LatentPrecond) else None
        if decoder is not None and decoder.dtype != torch.float32:
            record["decoder_dtype"] = str(decoder.dtype).removeprefix("torch.")
        if "autoencoder_sha256" in checkpoint:
            record["autoencoder_sha256"] = checkpoint["autoencoder_sha256"]
        record |= _heads(checkpoint)

        if self.scale_of_guidance != 1:
            guide = {"sha256": None} if self.guide is None else describe(self.guide)
            record["guidance"] = {"scale": self.guidance, "guide_sha256": guide["sha256"]} | _heads(
                guide
            )
            if self.guide_rho is not None:
                record["guidance"]["guide_rho"] = SkipScale(self.guide_rho).resolved(net.num_skips)[
                    "rho"
                ]
            if self.guidance_sigma is not None:
                record["guidance"]["sigma"] = as_json(self.guidance_sigma)
            record["sampler"]["nfe"] += self.evaluations_of_guide(net)
        return record

    def _skip_record(self, num_skips: int) -> dict[str, Any]:
        """rho of each layer, where it acts, and what sees it; equal settings give equal records, however put."""
        record = self.scale.resolved(num_skips)
        if not self.scale.is_identity:
            record = {"rho": record["rho"], "target": self.skip_target} | record

        methods = record_of_methods(parse_methods(self.skip_method))
        if methods:
            record |= self.scale.schedule() | {"methods": methods}
        return record


def warn_without_class(name: str, net: Precond) -> None:
    """Say on stderr if a network that is to guide itself never saw an image without its class."""
    if getattr(net.model, "label_dropout", None) == 0:
        warn(
            f"{name} was not trained without its class (label_dropout 0), so that as its own guide it makes images "
            "worse; name a weaker network (--guide), or let it guide itself with another rho (--guide-rho)"
        )


def _heads(checkpoint: dict[str, Any]) -> dict[str, int]:
    """What configs/networks.toml says of the attention of a network whose file does not."""
    return {name: checkpoint[name] for name in ("num_heads", "head_channels") if name in checkpoint}


@dataclass(frozen=True)
class LoadedSource:
    """An ImageSource on a device.

    Attributes:
        source: what was loaded.
        net: the Skip-Tuned network.
        device: where it is.
        noise_device: where random numbers are drawn.
        checkpoint: where the network came from: its name, path, SHA-256 and licence.
        record: every setting that determines the images, resolved, as JSON.
        guide: the network that guides, None without guidance or where it is `net` itself.
        compiled: whether the networks are.
    """

    source: ImageSource
    net: SkipTuned
    device: torch.device
    noise_device: torch.device
    checkpoint: dict[str, Any]
    record: dict[str, Any]
    guide: Precond | SkipTuned | None = None
    compiled: bool = False

    @property
    def usual_batch(self) -> int:
        """Images at a time where nobody says: BATCH; on a GPU as many as have PIXELS, which keep it busy.

        An estimate by what ImageNet-64's network needs; `python benchmarks/gpu.py` measures it.
        """
        if self.device.type != "cuda":
            return BATCH
        fitting = PIXELS // self.net.img_resolution**2
        return min(max(fitting, LEAST_BATCH), MOST_BATCH)

    def batches(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Generate the images of `seeds`, so many at a time, in their order."""
        s = self.source
        return generate(
            self.net, s.sampler, seeds, self.device, batch_size, s.labels, s.class_idx, self.noise_device,
            Guidance(s.scale_of_guidance, self.guide, s.guidance_sigma), self.compiled,
        )  # fmt: skip

    def classes(self, seeds: Sequence[int]) -> list[int] | None:
        """The class of each seed's image, without making the image; None for an unconditional network."""
        if self.net.label_dim == 0:
            return None
        shape = (self.net.img_channels, self.net.img_resolution, self.net.img_resolution)
        asked = self.source.labels, self.source.class_idx, self.noise_device
        found = []
        # One at a time: their noise, which is drawn first, could fill the memory.
        for seed in seeds:
            found += first_draws([seed], shape, self.net.label_dim, *asked).classes
        return found
