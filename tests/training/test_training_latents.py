"""LDM's and U-ViT's networks in training: what they begin as, runs on latents, classes left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fill

from training.checkpoint import load_network
from training.families.ldm.unet import LDMPrecond
from training.families.table import FAMILIES
from training.latents import open_data, write_latents
from training.loss import loss_of
from training.run.config import TrainingConfig
from training.run.state import TrainingState, start
from training.training_loop import rank_batches, train, training_step

CPU = torch.device("cpu")
NETWORKS: dict[str, dict[str, Any]] = {
    "LDMPrecond": {
        "model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_resolutions": [2],
        "num_heads": 1, "context_dim": 8, "norm_groups": None,
    },
    "UViTPrecond": {"embed_dim": 16, "depth": 3, "num_heads": 1},
}  # fmt: skip


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    random = np.random.RandomState(0)
    write_latents(
        tmp_path / "latents.npz", random.randn(12, 2, 4, 4), random.randn(12, 2, 4, 4) - 4, np.arange(12) % 3, 0.9,
        (1, 8, 8), "vae.safetensors", "0" * 64,
    )  # fmt: skip
    return tmp_path / "latents.npz"


def config(latents: Path, precond: str, **changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "duration": 16, "batch": 8, "lr_rampup": 0, "snap": 8, "tick": 8, "ema_halflife": 8, "lr": 1e-3,
        "label_dropout": 0.5,
    }  # fmt: skip
    return TrainingConfig(str(latents), NETWORKS[precond], precond, **settings | changes)


def new(settings: TrainingConfig, folder: Path) -> TrainingState:
    return start(settings, open_data(settings.data), folder / "run", CPU)


@pytest.mark.parametrize("precond", NETWORKS)
def test_a_killed_run_on_latents_ends_the_same(precond: str, latents: Path, tmp_path: Path) -> None:
    whole = train(config(latents, precond), tmp_path / "whole", CPU)
    train(config(latents, precond, duration=8), tmp_path / "parts", CPU)
    parts = train(config(latents, precond), tmp_path / "parts", CPU)
    assert parts.read_bytes() == whole.read_bytes()
    net = load_network(whole)
    assert (type(net).__name__, net.label_dim, net.img_resolution) == (precond, 3, 4)


@pytest.mark.parametrize("seen", [0, 8])
def test_each_time_latents_are_drawn_anew_and_always_the_same(seen: int, latents: Path) -> None:
    settings, data = config(latents, "UViTPrecond"), open_data(latents)
    (first, _), (second, _) = (next(rank_batches(settings, data, seen, CPU)) for _ in range(2))
    assert torch.equal(first, second)
    later = rank_batches(settings, data, 0, CPU)
    batches = [next(later)[0] for _ in range(4)]
    assert torch.equal(batches[seen // 8], first)
    # After 24 of 12 latents each was there twice, in other draws.
    values = torch.cat(batches[:3]).flatten(1)
    assert len({tuple(value.tolist()) for value in values}) == 24


def test_a_new_ldm_predicts_no_noise() -> None:
    """Its last layer, and the last one of every residual branch, begin as zeros."""
    net = LDMPrecond(4, 2, 3, **NETWORKS["LDMPrecond"])
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(net(x, torch.tensor([0.5, 3.0]), torch.eye(3)[:2]), x)


@torch.inference_mode()
def test_the_time_reaches_a_narrow_network_with_few_groups_only() -> None:
    """With one channel a group the norm takes out what the time adds to the channel."""

    def differs(norm_groups: int | None) -> float:
        narrow = NETWORKS["LDMPrecond"] | {"model_channels": 32, "norm_groups": norm_groups}
        # No attention: it mixes channels. One level: with two, half of the channels are mixed.
        narrow |= {"channel_mult": [1], "attention_resolutions": []}
        net = fill(LDMPrecond(4, 2, 3, **narrow)).eval()
        block = net.model.diffusion_model.input_blocks[1][0]
        x = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
        emb = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
        one, two = block(x.expand(2, -1, -1, -1), emb)
        return float((one - two).abs().max())

    assert differs(32) < 1e-4 < 1e-2 < differs(None)


def test_without_classes_the_loss_is_that_of_no_class(latents: Path, tmp_path: Path) -> None:
    """label_dropout = 1 leaves every class out, and 0 none."""

    def loss(dropout: float, labels: torch.Tensor) -> torch.Tensor:
        settings = config(latents, "UViTPrecond", label_dropout=dropout)
        state = new(settings, tmp_path)
        images = next(rank_batches(settings, open_data(latents), 0, CPU))[0]
        loss_fn = loss_of(settings.precond, {}, state.net)
        return training_step(settings, state, state.net, loss_fn, (images, labels))

    labels = torch.eye(3)[torch.arange(8) % 3]
    assert torch.equal(loss(1.0, labels), loss(0.0, torch.zeros(8, 3)))
    assert not torch.equal(loss(0.0, labels), loss(0.0, torch.zeros(8, 3)))


@pytest.mark.parametrize(
    "dropout, cond, message", [(1.5, True, "from 0 to 1"), (0.1, False, "no labels")]
)
def test_nonsense_is_refused(dropout: float, cond: bool, message: str, latents: Path) -> None:
    with pytest.raises(ValueError, match=f"label_dropout is .*{message}"):
        replace(config(latents, "UViTPrecond"), label_dropout=dropout, cond=cond).check(1)


def test_latents_have_no_mirror_image(latents: Path) -> None:
    with pytest.raises(ValueError, match=r"latents\.npz holds latents, which have no mirror image"):
        next(rank_batches(config(latents, "UViTPrecond", xflip=True), open_data(latents), 0, CPU))


@pytest.mark.parametrize("precond", NETWORKS)
def test_the_loss_is_the_error_of_the_predicted_noise(precond: str) -> None:
    net = fill(FAMILIES[precond](4, 2, 3, **NETWORKS[precond])).eval()
    loss = loss_of(precond, {}, net)
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    sigma, noise = loss.draw(images, torch.Generator().manual_seed(1))
    table: Any = net.table
    assert {float(level) for level in sigma} <= {float(one) for one in table.levels.float()}
    column = sigma.reshape(-1, 1, 1, 1)
    x = images + column * noise
    predicted = net.model(x / (1 + column**2).sqrt(), table.timestep(sigma), torch.eye(3))
    found = loss(net, images, torch.eye(3), sigma, noise)
    assert torch.allclose(found, (predicted - noise) ** 2, rtol=1e-3, atol=1e-4)
