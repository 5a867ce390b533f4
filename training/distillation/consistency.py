"""Consistency distillation: a student that gives the end of the teacher's ODE path from every point of it.

Reference: Song et al., 2023, "Consistency Models", Algorithm 2, https://arxiv.org/abs/2303.01469
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dnnlib.keywords import resolved
from training import names
from training.dataset import ImageDataset
from training.distillation.loop import (
    DistillConfig,
    fixed,
    load_teacher,
    trainable,
)
from training.families.consistency import EDMConsistencyPrecond
from training.families.openai import ConsistencyPrecond
from training.precond import Precond
from training.run.optimizer import adam
from training.run.state import TrainingState
from training.run.steps import descend, follow, generator, parts
from training.training_loop import rank_batches

Distance = Callable[[Tensor, Tensor], Tensor]

# The consistency model that takes a teacher's weights: its raw network is told the noise level in the same way.
STUDENTS: dict[str, type[EDMConsistencyPrecond]] = {
    "EDMPrecond": EDMConsistencyPrecond,
    "ConsistencyPrecond": ConsistencyPrecond,
}


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig(DistillConfig):
    """A consistency distillation.

    Args:
        num_levels: N, noise levels from sigma_max to sigma_min.
        sigma_min, sigma_max: where the student is the identity, and where one-step sampling begins.
        target_decay: mu, of the weights that the student is compared with; 0 compares it with itself.
        distance: the distance's name.
        Others: see `DistillConfig`.
    """

    num_levels: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    target_decay: float = 0.0
    distance: str = "l2"

    def check(self, ranks: int) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: naming the setting and its value.
        """
        super().check(ranks)
        if not 0 <= self.target_decay < 1:
            raise ValueError(
                f"target_decay is {self.target_decay}; it must be at least 0 and below 1"
            )


@dataclass(kw_only=True)
class ConsistencyState(TrainingState):
    """The moving parts of a run.

    Attributes:
        target: the student's averaged weights of the last steps.
        Others: see `TrainingState`.
    """

    PARTS: ClassVar[tuple[str, ...]] = (*TrainingState.PARTS, "target")

    target: Precond


class ConsistencyDistillation:
    r"""Teach f(x; sigma) to be the same along each path of the teacher's ODE.

    loss = d(f(x_n; sigma_n), f'(x_{n+1}; sigma_{n+1})),  x_n = y + sigma_n z,  z ~ N(0, I),  n uniform,

    where x_{n+1} is one Heun step of the teacher from x_n to the next lower level, and f' has the weights
    theta' <- mu theta' + (1 - mu) theta. f(x; sigma_min) = x by its preconditioning. (The paper counts levels upwards;
    here they fall.)

    Args:
        config: the run.
        sigmas: falling noise levels [N] from sigma_max to sigma_min.
        distance: d: two batches [N, C, H, W] to [N].
        device: where to train.
    Raises:
        FileNotFoundError: if the teacher or the data are missing.
        ValueError: if a setting is out of range, or data, levels and teacher do not fit each other.
    """

    def __init__(
        self, config: ConsistencyConfig, sigmas: Tensor, distance: Distance, device: torch.device
    ) -> None:
        self.config, self.distance, self.device = config, distance, device
        self.teacher = load_teacher(config, device)
        self.sigmas = sigmas.to(device, torch.float32)
        self.dataset = ImageDataset(config.data, use_labels=self.teacher.label_dim > 0)
        _check_fit(self.teacher, self.dataset, config)
        net = trainable(student_of(self.teacher, config.sigma_min, config.sigma_max), config)
        self.teacher.set_dtype(getattr(torch, config.dtype))
        optimizer = adam(net.parameters(), config.lr)
        self.state = ConsistencyState(
            net=net, ema=fixed(net), optimizer=optimizer, target=fixed(net)
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Real images and their labels; see `Distillation`."""
        return rank_batches(self.config, self.dataset, self.state.images_seen, self.device)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See the class; returns the mean distance."""
        config, state, share = self.config, self.state, len(images)
        random = generator(config, state.images_seen, self.device)
        index = torch.randint(len(self.sigmas) - 1, [share], generator=random, device=self.device)
        x = images + _column(self.sigmas[index]) * torch.randn(
            images.shape, generator=random, device=self.device
        )

        total = torch.zeros([], device=self.device)
        for rows in parts(config, share):
            here, there = self.sigmas[index[rows]], self.sigmas[index[rows] + 1]
            with torch.no_grad():
                nearer = heun_step(self.teacher, x[rows], here, there, labels[rows])
                goal = state.target(nearer, there, labels[rows])
            losses = self.distance(state.net(x[rows], here, labels[rows]), goal)
            losses.sum().div(share).backward()
            total += losses.detach().sum()

        descend(state.optimizer, config.learning_rate(state.images_seen))
        follow(state.target, state.net, config.target_decay)
        follow(state.ema, state.net, config.ema_beta(state.images_seen))
        return total / share


def student_of(teacher: Precond, sigma_min: float, sigma_max: float) -> Precond:
    """A consistency model with the teacher's network and weights.

    Raises:
        ValueError: if there is none for this kind of teacher.
    """
    kind = type(teacher).__name__
    if kind not in STUDENTS:
        raise ValueError(
            f"a {kind} has no consistency model of the same network; choose one of {', '.join(STUDENTS)}"
        )
    student = STUDENTS[kind](
        **teacher.init_kwargs | {"sigma_min": sigma_min, "sigma_max": sigma_max}
    )
    student.load_state_dict(teacher.state_dict())
    return student.to(next(teacher.parameters()).device).eval()


def heun_step(
    teacher: Precond, x: Tensor, here: Tensor, there: Tensor, labels: Tensor | None
) -> Tensor:
    """One step of Heun's method along dx/dsigma = (x - D(x; sigma)) / sigma.

    Args:
        teacher: D.
        x: images [N, C, H, W] at the noise levels `here`.
        here, there: positive noise levels [N].
        labels: one-hot [N, L], or None.
    Returns:
        The images at the noise levels `there`.
    """
    slope = (x - teacher(x, here, labels)) / _column(here)
    moved = x + _column(there - here) * slope
    return (
        x
        + _column(there - here)
        * (slope + (moved - teacher(moved, there, labels)) / _column(there))
        / 2
    )


def l2(a: Tensor, b: Tensor) -> Tensor:
    """||a - b||^2 of each pair of images: [N, C, H, W] twice to [N]."""
    return (a - b).square().flatten(1).sum(1)


def pseudo_huber(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(||a - b||^2 + c^2) - c of each pair of images, c = 0.00054 sqrt(values an image): less swayed by outliers.

    Reference: Song & Dhariwal, 2023, Section 3.3, https://arxiv.org/abs/2310.14189
    """
    c = 0.00054 * math.sqrt(a[0].numel())
    return (l2(a, b) + c**2).sqrt() - c


DISTANCES: dict[str, Distance] = resolved(__package__, names.DISTANCES)


def _column(sigma: Tensor) -> Tensor:
    return sigma.reshape(-1, 1, 1, 1)


def _check_fit(teacher: Precond, dataset: ImageDataset, config: ConsistencyConfig) -> None:
    shape = (teacher.img_channels, teacher.img_resolution, teacher.img_resolution)
    if dataset.image_shape != shape or dataset.label_dim != teacher.label_dim:
        raise ValueError(
            f"{config.data} has images {dataset.image_shape} of {dataset.label_dim} classes; the teacher "
            f"{config.teacher} draws {shape} of {teacher.label_dim} (channels, height, width)"
        )
    if config.sigma_min < teacher.sigma_min or config.sigma_max > teacher.sigma_max:
        raise ValueError(
            f"the noise levels reach from {config.sigma_min:g} to {config.sigma_max:g}, but the teacher knows those "
            f"between {teacher.sigma_min:g} and {teacher.sigma_max:g}"
        )
