"""What U-Nets of two towers share, whatever their blocks: which block takes which long skip, and dropped labels."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.blocks.raw_network import RawNetwork
from training.blocks.skip_block import SkipJoin
from training.blocks.tower import Place
from training.blocks.unet_block import SkipTarget


class UNet(RawNetwork):
    """A tower down, a tower up, and the long skips between, deepest first."""

    enc: nn.ModuleDict
    dec: nn.ModuleDict
    label_dropout: float
    _skip_index: dict[str, int]
    _skip_levels: tuple[int, ...]

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """See `RawNetwork.skip_levels`."""
        return self._skip_levels

    def _build(
        self,
        img_resolution: int,
        encoder: Iterable[tuple[Place, nn.Module]],
        decoder: Iterable[tuple[Place, nn.Module]],
    ) -> None:
        """Take the layers of both towers under their published names, and note which of them take the long skips."""
        self.enc = nn.ModuleDict({place.at(img_resolution): layer for place, layer in encoder})
        self.dec, self._skip_index = nn.ModuleDict(), {}
        above: list[int] = []  # the level of each skip, counted from the image down
        for place, layer in decoder:
            name = place.at(img_resolution)
            self.dec[name] = layer
            if place.takes_skip:
                self._skip_index[name] = len(self._skip_index)
                above.append(place.level)
        self._skip_levels = tuple(above[0] - level for level in above)

    def _decode(
        self,
        name: str,
        x: Tensor,
        skips: list[Tensor],
        emb: Tensor,
        scale: Tensor | None,
        target: SkipTarget,
        join: SkipJoin | None,
    ) -> Tensor:
        """Run decoder block `name`, with its long skip if it takes one."""
        index = self._skip_index.get(name)
        if index is None:
            return self.dec[name](x, emb)

        skip = skips.pop()
        if join is not None:
            x, skip = join(index, x, skip)
        rho = None if scale is None else scale[..., index]
        return self.dec[name](x, emb, skip, rho, target)

    def _drop_labels(self, labels: Tensor) -> Tensor:
        if not (self.training and self.label_dropout):
            return labels
        return labels * (
            torch.rand([labels.shape[0], 1], device=labels.device) >= self.label_dropout
        )
