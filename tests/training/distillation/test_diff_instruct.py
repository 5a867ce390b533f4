"""Diff-Instruct: against the gradient of Gaussians' Kullback-Leibler divergence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import least
from standins_distill import CPU, RUN, Gaussian
from torch import nn

import training.distillation.diff_instruct as module
from training.checkpoint import save_network
from training.distillation.diff_instruct import DiffInstruct, DiffInstructConfig, instruct


def method(tmp_path: Path, network: dict[str, Any] | None = None, **changes: Any) -> DiffInstruct:
    path = tmp_path / "teacher.safetensors"
    save_network(least(**network or {}), path)
    return DiffInstruct(DiffInstructConfig(teacher=str(path), **(RUN | changes)), CPU)


@pytest.mark.parametrize("level", [0.1, 1.0, 5.0])
def test_gradient_is_that_of_the_divergence(level: float) -> None:
    """x = v z: KL of N(0, v^2 + sigma^2) from N(0, s^2 + sigma^2), differentiated by v, times w(sigma) = sigma^2."""
    v = torch.tensor(0.8, requires_grad=True)
    z = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.full([len(z)], level)
    loss = instruct(Gaussian(0.5), Gaussian(0.8), v * z, None, sigma, noise)  # type: ignore[arg-type]
    loss.mean().backward()

    exact = torch.tensor(0.8, requires_grad=True)
    ours, target = exact**2 + level**2, 0.5**2 + level**2
    (0.5 * (ours / target - 1 - (ours / target).log())).backward()
    assert v.grad is not None and exact.grad is not None and float(v.grad) > 0
    assert float(v.grad) == pytest.approx(level**2 * float(exact.grad), rel=0.02)


def test_value_is_half_the_squared_difference() -> None:
    x, noise = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    sigma = torch.tensor([0.1, 0.5, 1.0, 4.0])
    noisy = x + sigma.reshape(-1, 1, 1, 1) * noise
    difference = Gaussian(0.8)(noisy, sigma) - Gaussian(0.5)(noisy, sigma)
    got = instruct(Gaussian(0.5), Gaussian(0.8), x, None, sigma, noise)  # type: ignore[arg-type]
    assert torch.allclose(got, difference**2 / 2, atol=1e-6)


def test_no_gradient_while_the_auxiliary_network_is_the_teacher() -> None:
    x = torch.randn(4, 1, 8, 8, requires_grad=True)
    losses = instruct(
        least(),
        least(),
        x,
        torch.eye(3)[[0, 1, 2, 0]],
        torch.full([4], 0.5),
        torch.randn(4, 1, 8, 8),
    )
    losses.sum().backward()
    assert x.grad is not None and not losses.any() and not x.grad.any()


def test_first_step_changes_the_auxiliary_network_only(tmp_path: Path) -> None:
    run = method(tmp_path)
    before = {name: value.clone() for name, value in run.teacher.state_dict().items()}
    run.state.images_seen = 160  # at 0 the learning rate is 0
    run.step(*next(run.batches()))
    assert all(
        torch.equal(value, before[name]) for name, value in run.state.net.state_dict().items()
    )
    assert not all(
        torch.equal(value, before[name]) for name, value in run.state.aux.state_dict().items()
    )
    run.state.images_seen += 16
    run.step(*next(run.batches()))
    assert not all(
        torch.equal(value, before[name]) for name, value in run.state.net.state_dict().items()
    )
    assert all(torch.equal(value, before[name]) for name, value in run.teacher.state_dict().items())


def test_the_auxiliary_learning_rate_is_its_own(tmp_path: Path) -> None:
    """Adam's first step is the learning rate in size."""
    run = method(tmp_path, lr=1e-3, aux_lr=4e-3, lr_rampup=32)
    run.state.images_seen = 16
    before = [value.detach().clone() for value in run.state.aux.parameters()]
    run.step(*next(run.batches()))
    moved = [
        float((a - b).detach().abs().max())
        for a, b in zip(run.state.aux.parameters(), before, strict=True)
    ]
    assert max(moved) == pytest.approx(4e-3 * 16 / 32, rel=1e-3)


class Wide(nn.Module):
    """A generator x = g * input, and denoisers of Gaussian data of learned deviation."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.dtype = torch.float32
        self.gain, self.std = nn.Parameter(torch.tensor(gain)), nn.Parameter(torch.tensor(0.5))

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor | float, labels: None = None
    ) -> torch.Tensor:
        if isinstance(sigma, float):
            return self.gain * x
        level = sigma.reshape(-1, 1, 1, 1)
        return x * self.std**2 / (self.std**2 + level**2)


def test_a_generator_of_the_wrong_spread_learns_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images begin at deviation 1.2; the teacher's are 0.5. The auxiliary network must follow on the way."""
    monkeypatch.setattr(module, "load_teacher", lambda config, device: Gaussian(0.5))
    monkeypatch.setattr(module, "trainable", lambda net, config: Wide(0.6))
    config = DiffInstructConfig(
        teacher="", **(RUN | {"batch": 256, "lr": 0.003}), aux_lr=0.02, sigma_init=2.0
    )
    run = DiffInstruct(config, CPU)
    for _ in range(800):
        run.step(*next(run.batches()))
        run.state.images_seen += 256
    assert 2 * float(run.state.net.gain.detach()) == pytest.approx(0.5, rel=0.05)
    assert float(run.state.aux.std.detach()) == pytest.approx(0.5, rel=0.1)


def test_batches_are_noise_with_random_classes(tmp_path: Path) -> None:
    run = method(tmp_path, batch=3000, duration=6000, sigma_init=2.5)
    noise, labels = next(run.batches())
    assert noise.shape == (3000, 1, 8, 8) and float(noise.std()) == pytest.approx(2.5, rel=0.01)
    assert labels.sum(1).eq(1).all() and labels.mean(0).tolist() == pytest.approx(
        [1 / 3] * 3, abs=0.03
    )
    assert torch.equal(next(run.batches())[0], noise)
    run.state.images_seen += 3000
    assert not torch.equal(next(run.batches())[0], noise)


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    losses = []
    for batch_gpu in (None, 5):
        run = method(tmp_path, batch_gpu=batch_gpu, aux_lr=1e-3)
        run.state.images_seen = 160
        for _ in range(2):
            loss = run.step(*next(run.batches()))
            run.state.images_seen += 16
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0] > 0


def test_unconditional_teacher(tmp_path: Path) -> None:
    run = method(tmp_path, {"label_dim": 0})
    noise, labels = next(run.batches())
    assert labels.shape == (16, 0) and torch.isfinite(run.step(noise, labels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma_init": 0.0}, "sigma_init is 0; it must be positive"),
        ({"aux_lr": float("nan")}, "aux_lr is nan"),
        ({"batch": 0}, "batch is 0"),
        (
            {"sigma_init": 100.0},
            "sigma_init is 100, but the teacher knows noise levels between 0.1 and 90",
        ),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(tmp_path, {"sigma_min": 0.1, "sigma_max": 90.0}, **changes)
