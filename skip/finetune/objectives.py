r"""Fine-tuning on score matching in feature space: of the skip coefficients alone, or of all weights.

L_f = E_sigma w(sigma) E_x,n ||f(D(x + sigma n; sigma)) - f(x)||_2^2

The paper sets both against Skip-Tuning, which trains nothing. It states neither optimiser nor length; see
`skip.finetune.settings.FineTuning` for what stands in their place.

Reference: Skip-Tuning, section 5.3, Tables 11 and 12, https://arxiv.org/abs/2402.15170

    python -m skip.finetune rho --bounded --duration-images 6400 --dest out/rho.json
    python generate.py --rho-layers out/rho.json
    python -m skip.finetune network --duration-images 12800 --every 3200 --outdir out/finetuned
    python generate.py --network out/finetuned/network-snapshot-000012-800.safetensors
"""

import copy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dnnlib.numbers import check_positive
from metrics.detector import load_detector
from skip.finetune.examples import Examples, real_images
from skip.finetune.loop import Hooks, fit
from skip.finetune.settings import FineTuning, as_json
from skip.finetune.state import Run
from skip.scale import MOST_RHO, SkipScale
from skip.studies.score_matching import FeatureMap, losses, pixels, smooth_features
from torch_utils import distributed
from training.precond import Precond
from training.run.snapshots import refuse_snapshots_without_state, snapshot_name
from training.run.state import answer
from training.run.watch import check_tensors
from training.storage import load_network, save_network

STARTS = {False: 1.0, True: 0.95}  # rho at the beginning, free and bounded
STATE_FILE = "finetuning-state.pt"


class FittedRho(NamedTuple):
    """Coefficients that were trained.

    Attributes:
        scale: the last ones.
        path: of each step, float64 [steps, k].
        losses: the mean loss of each step, float64 [steps].
    """

    scale: SkipScale
    path: Tensor
    losses: Tensor


def coefficients(theta: Tensor, bounded: bool) -> Tensor:
    """rho = theta, or rho = 1 / (1 + exp(-theta)), which lies in (0, 1)."""
    return theta.sigmoid() if bounded else theta


def first_theta(num_skips: int, start: float, bounded: bool) -> Tensor:
    """theta of rho = start in every layer: float64 [k].

    Raises:
        ValueError: if no theta gives that rho.
    """
    SkipScale(bottom=start)  # refuses what no network can be called with
    if bounded and not 0 < start < 1:
        raise ValueError(f"the bounded rho starts at {start}; it must lie between 0 and 1")
    rho = torch.full([num_skips], start, dtype=torch.float64)
    return rho.logit() if bounded else rho


def check_coefficients(rho: Tensor) -> None:
    """Refuse coefficients that no SkipScale holds, before a state keeps them; they are the same on all ranks.

    Raises:
        RuntimeError: with the way out.
    """
    most = float(rho.abs().max())
    if not most <= MOST_RHO:
        raise RuntimeError(
            f"a skip coefficient has become {most:g}: the run stops, and what it saved before stays as it was; a lower "
            "learning rate (--lr), in another place, may help"
        )


def rho_losses(
    net: Precond, rho: Tensor, feature: FeatureMap, weighting: str, examples: Examples
) -> Tensor:
    """w(sigma) ||f(D_rho) - f(x)||^2 of each example, [N]; gradients flow to rho [k]."""
    x, labels, sigma, noise = examples
    tuned, features = partial(net, skip_scale=rho), {"feature": feature}
    return losses(tuned, x, labels, sigma, noise, features, weighting, check_finite=False)[
        "feature"
    ]


def network_losses(
    net: Precond, feature: FeatureMap, factor: float, weighting: str, examples: Examples
) -> Tensor:
    """Pixel loss + factor * feature loss of each example, [N]; gradients flow to the weights."""
    x, labels, sigma, noise = examples
    features = {"pixel": pixels, "feature": feature}
    found = losses(net, x, labels, sigma, noise, features, weighting, check_finite=False)
    return found["pixel"] + factor * found["feature"]


def tune_rho(
    settings: FineTuning,
    until: int,
    saved: Path,
    device: torch.device,
    bounded: bool = False,
    start: float | None = None,
    batch_gpu: int | None = None,
    every: int | None = None,
) -> FittedRho:
    """Train rho of each layer, and nothing else, on the feature loss.

    Args:
        settings: of the run.
        until: its length in images.
        saved: file of the state.
        device: of this rank.
        bounded: rho = sigmoid(theta), in (0, 1); else theta itself.
        start: rho of every layer at the beginning; None: 1 if it is free, 0.95 if it is bounded (a sigmoid never
            reaches 1, and close to it hardly moves).
        batch_gpu: most images a rank holds at once; None: its whole share of the batch.
        every: images between two saved states; None: 50 steps.
    Raises:
        FileNotFoundError, ValueError, RuntimeError: as loading and `fit`.
    """
    start = STARTS[bounded] if start is None else start
    net, feature = _loaded(settings, device)
    theta = first_theta(net.num_skips, start, bounded).to(device).requires_grad_()

    def loss(examples: Examples) -> Tensor:
        return rho_losses(net, coefficients(theta, bounded), feature, settings.weighting, examples)

    def watch() -> Tensor:
        rho = coefficients(theta, bounded).detach().cpu()
        check_coefficients(rho)
        return rho

    run = Run(as_json(settings, bounded=bounded, start=start), [theta], settings.lr)
    every = 50 * settings.batch if every is None else every
    fit(
        run,
        loss,
        real_images(settings, net),
        settings,
        until,
        every,
        saved,
        device,
        batch_gpu,
        Hooks(watch),
    )
    # The state may be of a longer run.
    history = torch.stack(run.history[: until // settings.batch])
    path = history[:, 1:]
    return FittedRho(SkipScale(layers=tuple(path[-1].tolist())), path, history[:, 0])


def tune_network(
    settings: FineTuning,
    until: int,
    every: int,
    folder: Path,
    device: torch.device,
    factor: float = 1.0,
    ema_halflife: int = 0,
    batch_gpu: int | None = None,
) -> list[Path]:
    """Train all weights on pixel loss + factor * feature loss, and store the network along the way.

    Args:
        settings: of the run.
        until: its length in images.
        every: images between two snapshots, each of them a place to resume from.
        folder: of the snapshots, see `training.run.snapshots.snapshot_name`, and of the state.
        device: of this rank.
        factor: of the feature loss; 0 leaves the pixel loss.
        ema_halflife: snapshots hold the weights' running average of this half-life in images; 0: the weights.
        batch_gpu: most images a rank holds at once; None: its whole share of the batch.
    Returns:
        The snapshots up to `until`, in order.
    Raises:
        FileNotFoundError, ValueError, RuntimeError: as loading and `fit`.
    """
    if factor != 0:
        check_positive("the factor", factor)
    if ema_halflife < 0:
        raise ValueError(f"the half-life is {ema_halflife}; it may not be negative")
    settings.check_length("the length", until)
    settings.check_length("the interval", every)
    if until % every:
        raise ValueError(
            f"the length is {until}; it must be a multiple of the interval of snapshots, {every}"
        )
    if not (folder / STATE_FILE).exists():
        refuse_snapshots_without_state(folder, STATE_FILE)
    snapshots = [folder / snapshot_name(images) for images in range(every, until + 1, every)]
    net, feature = _loaded(settings, device)
    net.requires_grad_(True)
    kept = copy.deepcopy(net).requires_grad_(False)  # what snapshots are made of
    weights: list[Tensor] = list(net.parameters())
    means: list[Tensor] = list(kept.parameters())
    beta = 0.5 ** (settings.batch / ema_halflife) if ema_halflife else 0.0

    def loss(examples: Examples) -> Tensor:
        return network_losses(net, feature, factor, settings.weighting, examples)

    @torch.no_grad()
    def average() -> None:
        torch._foreach_lerp_(means, weights, 1 - beta)

    def on_snapshot(images: int) -> None:
        check_tensors({"what the network returns": [answer(kept)]}, device)
        if distributed.rank() == 0:
            about = {"finetuned_from": settings.network, "images_seen": images}
            save_network(kept, folder / snapshot_name(images), **about)

    run = Run(
        as_json(settings, factor=factor, ema_halflife=ema_halflife, every=every),
        weights,
        settings.lr,
        means,
    )
    real = real_images(settings, net)
    hooks = Hooks(average, on_snapshot)
    fit(run, loss, real, settings, until, every, folder / STATE_FILE, device, batch_gpu, hooks)
    if missing := [path for path in snapshots if not path.exists()]:
        raise ValueError(
            f"{missing[0]} is gone, and the run is beyond it; remove {folder} to start anew"
        )
    return snapshots


def _loaded(settings: FineTuning, device: torch.device) -> tuple[Precond, FeatureMap]:
    net = load_network(settings.network, device)
    net.dtype = getattr(torch, settings.dtype)  # not set_dtype, which would round the weights
    return net, smooth_features(load_detector(settings.detector, device))
