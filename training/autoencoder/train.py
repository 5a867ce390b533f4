"""Train a KL autoencoder: images to a normal distribution of latents and back.

loss of an image = sum over its values of |image - decoded| + perceptual d(image, decoded)
                   + kl_weight KL(q(z | image) || N(0, I)),  z ~ q

with d a distance of images by their features, if there is one.

Reference: Rombach et al., 2022, Appendix G, https://arxiv.org/abs/2112.10752, without its adversarial term
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib.sinks.mirror import Target
from torch_utils import distributed
from training.autoencoder.encode import encoded
from training.dataset import ImageDataset
from training.families.latent.decoder_files import save_autoencoder
from training.families.latent.encoder import KLAutoencoder
from training.run.config import TrainingConfig
from training.run.optimizer import adam
from training.run.size import check_batch
from training.run.state import TrainingState, recorded, resume
from training.run.steps import descend, follow, generator, parts
from training.training_loop import rank_batches, run_steps

Distance = Callable[[Tensor, Tensor], Tensor]

SCALED_BY = 2_000  # images whose latents decide scale_factor


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(TrainingConfig):
    """A run: the data are images, and `network` has keywords of `KLAutoencoder` but out_ch and scale_factor.

    Args:
        kl_weight: of the divergence, in a loss that sums over an image's values; LDM's is 1e-6.
        perceptual: of the distance by features; 0 for none.
        Others: as of `TrainingConfig`; labels are not used.
    """

    cond: bool = False
    kl_weight: float = 1e-6
    perceptual: float = 0.0

    def check(self, ranks: int) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: naming the setting and its value.
        """
        super().check(ranks)
        for name in ("kl_weight", "perceptual"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be a finite number, 0 or more"
                )


@dataclass
class AutoencoderState(TrainingState):
    """The moving parts of a run.

    Attributes:
        net, ema: the autoencoder, and its averaged weights.
        Others: as of `TrainingState`.
    """

    net: KLAutoencoder  # type: ignore[assignment]
    ema: KLAutoencoder  # type: ignore[assignment]


def train_autoencoder(
    config: AutoencoderConfig,
    outdir: str | Path,
    device: torch.device,
    distance: Distance | None = None,
    sinks: Sequence[Target] = (),
) -> Path:
    """Train an autoencoder, or go on with the run in `outdir`; return the last snapshot's path.

    Writes what `training.training_loop.train` writes; a snapshot's scale_factor gives its latents unit variance.

    Args:
        config: the run.
        outdir: its folder.
        device: of this rank.
        distance: d of two batches of images in [-1, 1]: [N], with gradients; needed if config.perceptual is not 0.
        sinks: what else gets the curves.
    Raises:
        ValueError: if a setting is out of range, the images do not fit, or `outdir` was made with other settings.
        RuntimeError: if another run is at work in `outdir`, or a loss is not finite.
        Stopped: at a signal, on every rank.
    """
    outdir, ranks = Path(outdir), distributed.world_size()
    config.check(ranks)
    if config.perceptual and distance is None:
        raise ValueError(f"perceptual is {config.perceptual}, but there is no distance")
    dataset = ImageDataset(config.data, use_labels=False)
    check_batch(config.batch // ranks, dataset.image_shape)
    state = start(config, dataset, device)

    with distributed.claimed(outdir):
        resume(config, state, outdir, device)
        with recorded(config, state, outdir):
            batches = rank_batches(config, dataset, state.images_seen, device)

            def step() -> Tensor:
                return autoencoder_step(config, state, next(batches)[0], distance)

            return run_steps(
                config, state, step, outdir, device, {"data": dataset.name},
                store=_with_scale(dataset, device), sinks=sinks,
            )  # fmt: skip


def start(
    config: AutoencoderConfig, dataset: ImageDataset, device: torch.device
) -> AutoencoderState:
    """A new run's state.

    Raises:
        ValueError: if the network cannot be built, or does not divide the images.
    """
    torch.manual_seed(config.seed)
    net = KLAutoencoder(out_ch=dataset.num_channels, scale_factor=1.0, **config.network)
    if dataset.resolution % net.factor:
        raise ValueError(
            f"{config.data} has images of {dataset.resolution} pixels, no multiple of the {net.factor} that become one "
            "latent pixel: take fewer levels, or other images"
        )
    net = net.to(device).train()
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    return AutoencoderState(net, ema, adam(net.parameters(), config.lr))


def autoencoder_step(
    config: AutoencoderConfig,
    state: AutoencoderState,
    images: Tensor,
    distance: Distance | None = None,
) -> Tensor:
    """One step of Adam; returns this rank's mean loss a value of the images.

    Args:
        config: the run's settings.
        state: changed in place, but for images_seen.
        images: this rank's, [N, C, H, W] in [-1, 1].
        distance: see `train_autoencoder`.
    """
    random = generator(config, state.images_seen, images.device)
    share = len(images)
    total = torch.zeros([], device=images.device)
    for rows in parts(config, share):
        losses = reconstruction_losses(state.net, images[rows], config, random, distance)
        losses.sum().div(images.numel()).backward()
        total += losses.detach().sum()

    descend(state.optimizer, config.learning_rate(state.images_seen))
    follow(state.ema, state.net, config.ema_beta(state.images_seen))
    return total / images.numel()


def reconstruction_losses(
    net: KLAutoencoder,
    images: Tensor,
    config: AutoencoderConfig,
    random: torch.Generator,
    distance: Distance | None = None,
) -> Tensor:
    """The loss of each image, as the module has it: [N]."""
    latents = net.encode(images)
    noise = torch.randn(latents.mean.shape, generator=random, device=random.device)
    decoded = net.decode(latents.sample(noise.to(images.device)))
    losses = (images - decoded).abs().flatten(1).sum(1) + config.kl_weight * latents.divergence()
    if distance is not None and config.perceptual:
        losses = losses + config.perceptual * distance(images, decoded)
    return losses


def _with_scale(dataset: ImageDataset, device: torch.device) -> Callable[..., None]:
    """What stores an autoencoder whose latents, of the data's first images, have unit variance."""

    def store(net: KLAutoencoder, path: Path, **provenance: Any) -> None:
        net.rescale(unit_scale(net, dataset, device))
        save_autoencoder(net, path, **provenance)

    return store


def unit_scale(net: KLAutoencoder, dataset: ImageDataset, device: torch.device) -> float:
    """1 / standard deviation of the latents that are drawn for the first images of a data set."""
    random = torch.Generator(device).manual_seed(0)
    drawn = []
    for latents in encoded(net, dataset, min(len(dataset), SCALED_BY), device):
        noise = torch.randn(latents.mean.shape, generator=random, device=device)
        drawn.append(latents.sample(noise).flatten())
    return 1 / float(torch.cat(drawn).std())
