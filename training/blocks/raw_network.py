"""What every raw network F has in common: long skips that can be counted, scaled and targeted."""

from torch import Tensor, nn

from training.blocks.unet_block import SKIP_TARGETS


class RawNetwork(nn.Module):
    """F, which a preconditioning makes a denoiser of.

    Its forward has the arguments x (noisy images times c_in), noise_labels (c_noise [N]), class_labels (one-hot, or
    None), augment_labels, skip_scale, skip_target and skip_join, the last five as `Precond.forward` of
    training/precond.py.
    """

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """The level of each long skip, deepest layer first: 0 is the lowest resolution, the next has twice its side."""
        raise NotImplementedError(f"{type(self).__name__} does not tell its long skips")

    @property
    def num_skips(self) -> int:
        """k, the number of long skip connections."""
        return len(self.skip_levels)

    def check_skip_target(self, target: str) -> None:
        """Raise ValueError for a skip_target that the network does not have."""
        if target not in SKIP_TARGETS:
            raise ValueError(
                f"unknown skip_target {target!r}; choose from {', '.join(SKIP_TARGETS)}"
            )

    def check_skips(self, scale: Tensor | None, batch: int, target: str) -> None:
        """Raise ValueError for a skip_scale or a skip_target that does not fit the network or the batch."""
        self.check_skip_target(target)
        if scale is not None and tuple(scale.shape) not in (
            (self.num_skips,),
            (batch, self.num_skips),
        ):
            raise ValueError(
                f"skip_scale has shape {tuple(scale.shape)}; this network has {self.num_skips} long skips and takes "
                f"({self.num_skips},) or, one row an image, ({batch}, {self.num_skips})"
            )
