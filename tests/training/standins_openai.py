"""Small checkpoints in the format of OpenAI's consistency models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import fill
from torch import Tensor

TINY: dict[str, Any] = {
    "channels": 32,
    "mult": (1, 2),
    "blocks": 1,
    "attention": (1,),
    "classes": 10,
}


def shapes(
    channels: int,
    mult: Sequence[int],
    blocks: int,
    attention: Sequence[int],
    classes: int = 0,
    image_channels: int = 3,
    scale_shift: bool = True,
) -> dict[str, list[int]]:
    """Names and shapes of OpenAI's U-Net, in the published order.

    Args:
        channels, mult: channels of level l are channels * mult[l].
        blocks: residual blocks a level.
        attention: levels with self-attention, 0 the highest.
        classes: 0 if unconditional.
        image_channels: of the images.
        scale_shift: whether embeddings scale and shift, as those of LSUN do not.
    """
    unet = _Shapes(4 * channels, scale_shift)
    unet.layer("time_embed.0", unet.emb, channels)
    unet.layer("time_embed.2", unet.emb, unet.emb)
    if classes:
        unet.found["label_emb.weight"] = [classes, unet.emb]
    widths = [channels * factor for factor in mult]

    unet.layer("input_blocks.0.0", widths[0], image_channels, 3, 3)
    skips = _encoder(unet, widths, blocks, attention)
    unet.residual("middle_block.0", widths[-1], widths[-1])
    unet.attend("middle_block.1", widths[-1])
    unet.residual("middle_block.2", widths[-1], widths[-1])
    _decoder(unet, widths, blocks, attention, skips)

    unet.layer("out.0", widths[0])
    unet.layer("out.2", image_channels, widths[0], 3, 3)
    return unet.found


def _encoder(
    unet: "_Shapes", widths: list[int], blocks: int, attention: Sequence[int]
) -> list[int]:
    """Returns the channels of each skip."""
    width = widths[0]
    skips = [width]
    for level, out in enumerate(widths):
        for _ in range(blocks):
            unet.residual(f"input_blocks.{len(skips)}.0", width, out)
            width = out
            if level in attention:
                unet.attend(f"input_blocks.{len(skips)}.1", width)
            skips.append(width)
        if level < len(widths) - 1:
            unet.residual(f"input_blocks.{len(skips)}.0", width, width)  # goes down
            skips.append(width)
    return skips


def _decoder(
    unet: "_Shapes", widths: list[int], blocks: int, attention: Sequence[int], skips: list[int]
) -> None:
    width, index = widths[-1], 0
    for level, out in reversed(list(enumerate(widths))):
        for i in range(blocks + 1):
            unet.residual(f"output_blocks.{index}.0", width + skips.pop(), out)
            width = out
            if level in attention:
                unet.attend(f"output_blocks.{index}.1", width)
            if level > 0 and i == blocks:
                unet.residual(
                    f"output_blocks.{index}.{2 if level in attention else 1}", width, width
                )  # goes up
            index += 1


class _Shapes:
    """Names and shapes of layers, in the order in which they are added."""

    def __init__(self, emb: int, scale_shift: bool) -> None:
        self.emb, self.scale_shift = emb, scale_shift
        self.found: dict[str, list[int]] = {}

    def layer(self, name: str, *shape: int) -> None:
        self.found[f"{name}.weight"] = list(shape)
        self.found[f"{name}.bias"] = [shape[0]]

    def residual(self, name: str, width: int, out: int) -> None:
        self.layer(f"{name}.in_layers.0", width)
        self.layer(f"{name}.in_layers.2", out, width, 3, 3)
        self.layer(f"{name}.emb_layers.1", (1 + self.scale_shift) * out, self.emb)
        self.layer(f"{name}.out_layers.0", out)
        self.layer(f"{name}.out_layers.3", out, out, 3, 3)
        if width != out:
            self.layer(f"{name}.skip_connection", out, width, 1, 1)

    def attend(self, name: str, width: int) -> None:
        self.layer(f"{name}.norm", width)
        self.layer(f"{name}.qkv", 3 * width, width, 1, 1)
        self.layer(f"{name}.proj_out", width, width, 1, 1)


class _Named:
    """Tensors under names that have no module, as far as `conftest.fill` needs one."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        self.tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return self.tensors

    def load_state_dict(self, filled: dict[str, Tensor], strict: bool) -> None:
        self.tensors |= filled


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Deterministic weights, by the rule of tests/golden/README.md."""
    named = _Named(shapes)
    fill(named)  # type: ignore[arg-type]
    return named.tensors


def written(folder: Path, name: str = "cd_tiny.pt", **changes: Any) -> Path:
    """A checkpoint of a 16x16 network in the folder; its name tells its kind."""
    path = folder / name
    torch.save(weights(shapes(**(TINY | changes))), path)
    return path
