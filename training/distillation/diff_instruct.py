"""Diff-Instruct: a one-step generator whose images have the teacher's scores at every noise level.

Reference: Luo et al., 2023, "Diff-Instruct", Algorithm 1, https://arxiv.org/abs/2305.18455
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dnnlib.numbers import check_positive
from torch_utils import distributed
from training.distillation.loop import (
    DistillConfig,
    fixed,
    load_teacher,
    trainable,
)
from training.loss import EDMLoss
from training.precond import Precond
from training.run.optimizer import adam
from training.run.state import TrainingState
from training.run.steps import descend, follow, generator, parts

# Of both Adams; without momentum, as the two networks chase each other; the authors' choice.
_BETAS = (0.0, 0.999)


@dataclass(frozen=True, kw_only=True)
class DiffInstructConfig(DistillConfig):
    """A run of Diff-Instruct.

    Args:
        sigma_init: noise level of the generator's input. So low that the teacher's D(x; sigma_init) already differs
            from image to image, so high that the input hides no image; the authors' command for CIFAR-10 has 1.
        aux_lr: learning rate of the auxiliary network.
        P_mean, P_std: of ln sigma, the noise levels at which scores are compared.
        Others: see `DistillConfig`; lr is the generator's.
    """

    sigma_init: float = 1.0
    aux_lr: float = 1e-5
    P_mean: float = -1.2
    P_std: float = 1.2

    def check(self, ranks: int) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: naming the setting and its value.
        """
        super().check(ranks)
        for name in ("sigma_init", "aux_lr", "P_std"):
            check_positive(name, getattr(self, name))


@dataclass(kw_only=True)
class DiffInstructState(TrainingState):
    """The moving parts of a run.

    Attributes:
        aux: the denoiser of the generator's images.
        aux_optimizer: Adam over `aux`.
        Others: see `TrainingState`; `net` is the generator.
    """

    PARTS: ClassVar[tuple[str, ...]] = (*TrainingState.PARTS, "aux", "aux_optimizer")

    aux: Precond
    aux_optimizer: torch.optim.Optimizer


class DiffInstruct:
    r"""Teach a generator x = G(sigma_init z; sigma_init) the teacher's distribution.

    The integral Kullback-Leibler divergence between the noisy images of the generator and those of the teacher falls
    along

        E w(sigma) [s_aux(x + sigma n; sigma) - s_teacher(x + sigma n; sigma)] dx/dtheta,

    where ln sigma ~ N(P_mean, P_std^2), the scores are s = (D - x) / sigma^2 and w(sigma) = sigma^2, as in the authors'
    program: what is left is D_aux - D_teacher. The auxiliary denoiser learns from the generator's images by EDM's loss.
    All three networks begin as the teacher. Both are updated from one batch of images, so the auxiliary one is a step
    behind. Classes are drawn at random.

    Args:
        config: the run.
        device: where to train.
    Raises:
        FileNotFoundError: if the teacher is missing.
        ValueError: if a setting is out of range.
    """

    def __init__(self, config: DiffInstructConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.teacher = load_teacher(config, device)
        if not self.teacher.sigma_min <= config.sigma_init <= self.teacher.sigma_max:
            known = f"between {self.teacher.sigma_min:g} and {self.teacher.sigma_max:g}"
            raise ValueError(
                f"sigma_init is {config.sigma_init:g}, but the teacher knows noise levels {known}"
            )
        net, aux = trainable(self.teacher, config), trainable(self.teacher, config)
        self.teacher.set_dtype(getattr(torch, config.dtype))
        self.loss = EDMLoss(config.P_mean, config.P_std, getattr(self.teacher, "sigma_data", 0.5))
        optimizers = [adam(module.parameters(), betas=_BETAS) for module in (net, aux)]
        self.state = DiffInstructState(
            net=net, ema=fixed(net), optimizer=optimizers[0], aux=aux, aux_optimizer=optimizers[1]
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The generator's input, of noise level sigma_init, and labels; see `Distillation`."""
        net, share = self.teacher, self.config.batch // distributed.world_size()
        while True:
            random = generator(self.config, self.state.images_seen, self.device)
            shape = [share, net.img_channels, net.img_resolution, net.img_resolution]
            noise = torch.randn(shape, generator=random, device=self.device)
            classes = torch.randint(
                max(net.label_dim, 1), [share], generator=random, device=self.device
            )
            labels = (
                one_hot(classes, net.label_dim).float()
                if net.label_dim
                else noise.new_zeros(share, 0)
            )
            yield self.config.sigma_init * noise, labels

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See the class; `images` are the generator's input. Returns the mean of (D_aux - D_teacher)^2 / 2."""
        config, state, share = self.config, self.state, len(images)
        random = generator(config, state.images_seen, self.device, use=1)  # 0 was for `batches`
        levels = self.loss.draw(images, random), self.loss.draw(images, random)

        total = torch.zeros([], device=self.device)
        for rows in parts(config, share):
            told = labels[rows] if self.teacher.label_dim else None
            (sigma, noise), (aux_sigma, aux_noise) = ((s[rows], n[rows]) for s, n in levels)
            x = state.net(images[rows], config.sigma_init, told)
            losses = instruct(self.teacher, state.aux, x, told, sigma, noise)
            losses.sum().div(share).backward()
            self.loss(state.aux, x.detach(), told, aux_sigma, aux_noise).sum().div(share).backward()
            total += losses.detach().sum()

        descend(state.optimizer, config.learning_rate(state.images_seen))
        descend(
            state.aux_optimizer, config.learning_rate(state.images_seen) * config.aux_lr / config.lr
        )
        follow(state.ema, state.net, config.ema_beta(state.images_seen))
        return total / images.numel()


def instruct(
    teacher: Precond, aux: Precond, x: Tensor, labels: Tensor | None, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Half the squared difference of the two denoisers, whose gradient by x is taken to be the difference itself.

    Args:
        teacher, aux: denoisers; no gradient passes through them.
        x: generated images [N, C, H, W].
        labels: one-hot [N, L], or None.
        sigma, noise: [N] and of the shape of x.
    Returns:
        Of the shape of x.
    """
    with torch.no_grad():
        noisy = x + sigma.reshape(-1, 1, 1, 1) * noise
        difference = aux(noisy, sigma, labels) - teacher(noisy, sigma, labels)
    return (x - (x - difference).detach()).square() / 2
