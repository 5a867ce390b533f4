"""The noise levels of networks that were trained at continuous times of the variance-preserving process."""

import torch
from torch import Tensor, nn

from training.schedules import VPSchedule


class ContinuousTimes(nn.Module):
    r"""Noise levels and times of the VP process, in the place of a `training.families.latent.discrete.NoiseTable`.

    log(1 + sigma(t)^2) = (beta_end - beta_start) t^2 / 2 + beta_start t,  0 <= t <= 1

    Reference: Song et al., 2021, Appendix B, https://arxiv.org/abs/2011.13456

    Args:
        beta_start, beta_end: the rates at which noise is added at t = 0 and t = 1, 0 < beta_start < beta_end.
        num_timesteps: M; the network is told (M - 1) t.
        first_time: the lowest t that images are sampled at; DPM-Solver's 1e-4 in U-ViT's release.
    Raises:
        ValueError: if a range is violated.
    """

    def __init__(
        self,
        beta_start: float,
        beta_end: float,
        num_timesteps: int = 1000,
        first_time: float = 1e-4,
    ) -> None:
        super().__init__()
        if not 0 < beta_start < beta_end < 1e3:
            raise ValueError(
                f"betas run from {beta_start} to {beta_end}; need 0 < beta_start < beta_end < 1000"
            )
        if num_timesteps < 2 or not 0 < first_time < 1:
            raise ValueError(
                f"num_timesteps is {num_timesteps}, first_time {first_time}; need 2 or more, and 0 to 1"
            )
        self.schedule = VPSchedule(beta_end - beta_start, beta_start)
        self.num_timesteps, self.first_time = num_timesteps, first_time

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest noise level."""
        times = torch.tensor([self.first_time, 1.0], dtype=torch.float64, device="cpu")
        low, high = self.schedule.sigma(times).tolist()
        return low, high

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told at each sigma: (M - 1) t, at most M - 1.

        Args:
            sigma: noise levels of any shape.
        Returns:
            float64 of that shape.
        """
        t = self.schedule.time(sigma.to(torch.float64))
        return (self.num_timesteps - 1) * t.clamp(max=1)

    def relative_time(self, sigma: Tensor) -> Tensor:
        """(t - t_min) / (t_max - t_min) at each sigma, from `first_time` to 1: float64 of its shape."""
        t = self.schedule.time(sigma.to(torch.float64)).clamp(self.first_time, 1)
        return (t - self.first_time) / (1 - self.first_time)

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """Sigma itself: every level has its own time."""
        return torch.as_tensor(sigma)

    def uniform_sigmas(self, num_nodes: int) -> Tensor:
        """Noise levels at evenly spaced times, from t = 1 to the lowest.

        Args:
            num_nodes: N >= 2.
        Returns:
            Decreasing float64 [N].
        Raises:
            ValueError: if N is less than 2.
        """
        if num_nodes < 2:
            raise ValueError(f"{num_nodes} nodes; at least 2 are needed")
        return self.schedule.sigma(
            torch.linspace(1, self.first_time, num_nodes, dtype=torch.float64)
        )
