"""Consistency distillation: against the exact consistency function of Gaussian data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import LEAST, image_folder, least
from standins_distill import CPU, RUN, Gaussian
from torch import Tensor, nn

import training.distillation.consistency as module
from sampling.sigmas import edm
from training.checkpoint import load_network, save_network
from training.distillation.consistency import (
    ConsistencyConfig,
    ConsistencyDistillation,
    heun_step,
    l2,
    pseudo_huber,
    student_of,
)
from training.families.consistency import EDMConsistencyPrecond
from training.families.openai import ConsistencyPrecond
from training.precond import EDMPrecond


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path)


def teacher_file(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "teacher.safetensors"
    save_network(least(**changes), path)
    return str(path)


def test_student_is_the_identity_at_its_lowest_level() -> None:
    x = torch.randn(3, 1, 8, 8)
    student = student_of(least(), 0.002, 80.0)
    assert type(student) is EDMConsistencyPrecond
    assert torch.equal(student(x, 0.002, torch.eye(3)), x)
    assert not torch.allclose(student(x, 0.01, torch.eye(3)), x, atol=1e-4)


def test_student_begins_as_the_teacher() -> None:
    sigma, labels, teacher = torch.tensor([80.0, 10.0, 1.0]), torch.eye(3), least()
    x = sigma.reshape(-1, 1, 1, 1) * torch.randn(3, 1, 8, 8)
    expected = teacher(x, sigma, labels)
    assert torch.allclose(student_of(teacher, 0.002, 80)(x, sigma, labels), expected, atol=0.005)
    assert torch.allclose(student_of(teacher, 0.0, 80)(x, sigma, labels), expected, atol=1e-6)


def test_scalings_are_those_of_consistency_models() -> None:
    shape = {
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": 32,
        "channel_mult": [2],
        "num_blocks": 1,
    }
    sigma = torch.tensor([0.002, 0.1, 3.0, 80.0]).reshape(-1, 1, 1, 1)
    ours = EDMConsistencyPrecond(**shape).scalings(sigma)
    openai = ConsistencyPrecond(**shape).scalings(sigma)
    for a, b in zip(ours[:3], openai[:3], strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    assert torch.equal(ours.c_noise, EDMPrecond(**shape).scalings(sigma).c_noise)
    s, e, at = 0.5, 0.002, 3.0  # the formulas, at one level
    assert float(ours.c_skip[2]) == pytest.approx(s**2 / ((at - e) ** 2 + s**2), rel=1e-6)
    assert float(ours.c_out[2]) == pytest.approx(s * (at - e) / (s**2 + at**2) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("kind", ["VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_other_teachers_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"a {kind} has no consistency model.*EDMPrecond"):
        student_of(least(kind), 0.002, 80)


def test_heun_step_is_of_third_order_locally() -> None:
    """The ODE of Gaussian data scales x by sqrt(sigma^2 + s^2); a step of half the length errs an eighth."""
    x, here = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    teacher = Gaussian().double()
    errors = []
    for h in (0.08, 0.04, 0.02):
        there = here - h
        exact = ((there**2 + 0.25) / (here**2 + 0.25)).sqrt()
        errors.append(abs(float(heun_step(teacher, x, here, there, None) - exact)))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.1)
    assert errors[2] < 1e-6


def test_fine_path_leads_to_the_exact_end() -> None:
    x, sigmas = torch.ones(1, 1, 1, 1, dtype=torch.float64), edm(200, 0.002, 80.0)
    for i in range(199):
        x = heun_step(Gaussian().double(), x, sigmas[i : i + 1], sigmas[i + 1 : i + 2], None)
    assert float(x) == pytest.approx(((0.25 + 0.002**2) / (0.25 + 80.0**2)) ** 0.5, rel=1e-3)


def test_heun_step_takes_a_level_an_image() -> None:
    x = torch.randn(3, 1, 2, 2)
    here = torch.tensor([4.0, 2.0, 0.3])
    there = torch.tensor([3.0, 0.3, 0.1])
    together = heun_step(Gaussian(), x, here, there, None)
    for i in range(3):
        alone = heun_step(Gaussian(), x[i : i + 1], here[i : i + 1], there[i : i + 1], None)
        assert torch.allclose(together[i : i + 1], alone)


def test_distances() -> None:
    a, b = torch.zeros(2, 1, 2, 2), torch.tensor([3.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert l2(a, b).tolist() == [36.0, 0.0]
    c = 0.00054 * 2
    assert pseudo_huber(a, b).tolist() == pytest.approx([(36 + c**2) ** 0.5 - c, 0.0], abs=1e-6)


class Scale(nn.Module):
    """f(x; sigma_i) = exp(p_i) x, with p = 0 at the lowest level: as much as Gaussian data need."""

    def __init__(self, sigmas: Tensor) -> None:
        super().__init__()
        self.sigmas, self.dtype = sigmas.float(), torch.float32
        # Twice the exact scale.
        self.log_scale = nn.Parameter(0.7 - (4 * sigmas[:-1].float() ** 2 + 1).log() / 2)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        index = (self.sigmas[None] - sigma[:, None]).abs().argmin(1)
        scale = torch.cat([self.log_scale, torch.zeros(1)]).exp()
        return scale[index].reshape(-1, 1, 1, 1) * x


@pytest.mark.parametrize("target_decay", [0.0, 0.9])
def test_gaussian_data_give_the_exact_consistency_function(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    target_decay: float,
) -> None:
    """The student becomes x sqrt((s^2 + e^2) / (s^2 + sigma^2)), up to the errors of Heun's steps and of training."""
    sigmas = edm(12, 0.002, 80.0)
    monkeypatch.setattr(module, "load_teacher", lambda config, device: Gaussian())
    monkeypatch.setattr(module, "student_of", lambda teacher, low, high: Scale(sigmas))
    monkeypatch.setattr(module, "_check_fit", lambda *_: None)
    config = ConsistencyConfig(
        teacher="",
        data=str(data),
        **(RUN | {"batch": 256, "lr": 0.03, "ema_halflife": 5000}),
        target_decay=target_decay,
    )
    method = ConsistencyDistillation(config, sigmas, l2, CPU)
    random = torch.Generator().manual_seed(1)
    for step in range(600):
        if step == 400:  # the last steps are small
            method.config = replace(config, lr=0.003)
        images = 0.5 * torch.randn(256, 1, 2, 2, generator=random)
        method.step(images, torch.zeros(256, 0))
        method.state.images_seen += 256

    path = torch.ones(1, 1, 1, 1)
    steps = [
        float(heun_step(Gaussian(), path, *sigmas[i : i + 2].float()[:, None], None))
        for i in range(11)
    ]
    learned = method.state.ema.log_scale.exp()
    fixed_point = torch.tensor(steps).flip(0).cumprod(0).flip(0)
    assert torch.allclose(learned, fixed_point, rtol=0.02)
    exact = ((0.25 + 0.002**2) / (0.25 + sigmas[:-1] ** 2)).sqrt().float()
    assert torch.allclose(learned, exact, rtol=0.16)  # so much do eleven steps of Heun err


def test_target_follows_and_accumulation_changes_nothing(data: Path, tmp_path: Path) -> None:
    teacher = teacher_file(tmp_path)
    images, labels = torch.randn(16, 1, 8, 8), torch.eye(3)[torch.arange(16) % 3]
    nets = []
    for batch_gpu in (None, 5):
        config = ConsistencyConfig(
            teacher=teacher,
            data=str(data),
            **RUN,
            target_decay=0.75,
            batch_gpu=batch_gpu,
            num_levels=6,
        )
        method = ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU)
        before = [p.clone() for p in method.state.net.parameters()]
        method.state.images_seen = 160
        loss = method.step(images, labels)
        for old, new, target in zip(
            before, method.state.net.parameters(), method.state.target.parameters(), strict=True
        ):
            assert torch.allclose(target, 0.75 * old + 0.25 * new, atol=1e-6)
        nets.append(
            (loss, torch.cat([p.detach().flatten() for p in method.state.net.parameters()]))
        )
    assert torch.allclose(nets[0][0], nets[1][0], rtol=1e-5)
    moved = (nets[0][1] - torch.cat([p.flatten() for p in before])).abs().max()
    assert (nets[0][1] - nets[1][1]).abs().quantile(0.99) < 0.02 * moved


def test_student_is_compared_with_the_target(data: Path, tmp_path: Path) -> None:
    config = ConsistencyConfig(teacher=teacher_file(tmp_path), data=str(data), **RUN)
    losses = []
    for change in (0.0, 0.1):
        method = ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU)
        for param in method.state.target.parameters():
            param.data += change
        losses.append(
            float(method.step(torch.zeros(16, 1, 8, 8), torch.eye(3)[torch.arange(16) % 3]))
        )
    assert losses[1] > 1.1 * losses[0]


def test_data_must_be_the_teachers(data: Path, tmp_path: Path) -> None:
    config = ConsistencyConfig(teacher=teacher_file(tmp_path, label_dim=4), data=str(data), **RUN)
    with pytest.raises(
        ValueError, match=r"images \(1, 8, 8\) of 3 classes; the teacher .* draws \(1, 8, 8\) of 4"
    ):
        ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_decay": 1.0}, "target_decay is 1.0"),
        ({"batch": 0}, "batch is 0"),
        ({"lr": float("inf")}, "lr is inf"),
        (
            {"sigma_max": 100.0},
            "from 0.002 to 100, but the teacher knows those between 0.001 and 90",
        ),
    ],
)
def test_nonsense_is_refused(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    teacher = teacher_file(tmp_path, sigma_min=0.001, sigma_max=90.0)
    config = ConsistencyConfig(teacher=teacher, data=str(data), **(RUN | changes))
    with pytest.raises(ValueError, match=message):
        ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU)


def test_unconditional_teacher_sees_no_labels(data: Path, tmp_path: Path) -> None:
    config = ConsistencyConfig(teacher=teacher_file(tmp_path, label_dim=0), data=str(data), **RUN)
    method = ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU)
    images, labels = next(method.batches())
    assert labels.shape == (16, 0) and torch.isfinite(method.step(images, labels))


def test_student_is_stored_with_its_levels(tmp_path: Path) -> None:
    student = student_of(least(), 0.002, 80.0)
    save_network(student, tmp_path / "student.safetensors")
    loaded = load_network(tmp_path / "student.safetensors")
    assert type(loaded) is EDMConsistencyPrecond
    assert loaded.init_kwargs == LEAST | {
        "use_fp16": False,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
    }
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(loaded(x, 5.0, torch.eye(3)), student(x, 5.0, torch.eye(3)))
