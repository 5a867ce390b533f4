"""Small checkpoints in the format of OpenAI's consistency models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import fill
from torch import Tensor

TINY: dict[str, Any] = {"channels": 32, "mult": (1, 2), "blocks": 1, "attention": (1,), "classes": 10}


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
    emb = 4 * channels
    found: dict[str, list[int]] = {}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = list(shape)
        found[f"{name}.bias"] = [shape[0]]

    def residual(name: str, width: int, out: int) -> None:
        layer(f"{name}.in_layers.0", width)
        layer(f"{name}.in_layers.2", out, width, 3, 3)
        layer(f"{name}.emb_layers.1", (1 + scale_shift) * out, emb)
        layer(f"{name}.out_layers.0", out)
        layer(f"{name}.out_layers.3", out, out, 3, 3)
        if width != out:
            layer(f"{name}.skip_connection", out, width, 1, 1)

    def attend(name: str, width: int) -> None:
        layer(f"{name}.norm", width)
        layer(f"{name}.qkv", 3 * width, width, 1, 1)
        layer(f"{name}.proj_out", width, width, 1, 1)

    layer("time_embed.0", emb, channels)
    layer("time_embed.2", emb, emb)
    if classes:
        found["label_emb.weight"] = [classes, emb]
    width = channels * mult[0]
    layer("input_blocks.0.0", width, image_channels, 3, 3)
    widths = [width]
    for level, factor in enumerate(mult):
        for _ in range(blocks):
            residual(f"input_blocks.{len(widths)}.0", width, channels * factor)
            width = channels * factor
            if level in attention:
                attend(f"input_blocks.{len(widths)}.1", width)
            widths.append(width)
        if level < len(mult) - 1:
            residual(f"input_blocks.{len(widths)}.0", width, width)  # goes down
            widths.append(width)
    residual("middle_block.0", width, width)
    attend("middle_block.1", width)
    residual("middle_block.2", width, width)
    index = 0
    for level, factor in reversed(list(enumerate(mult))):
        for i in range(blocks + 1):
            residual(f"output_blocks.{index}.0", width + widths.pop(), channels * factor)
            width = channels * factor
            if level in attention:
                attend(f"output_blocks.{index}.1", width)
            if level > 0 and i == blocks:
                residual(f"output_blocks.{index}.{2 if level in attention else 1}", width, width)  # goes up
            index += 1
    layer("out.0", width)
    layer("out.2", image_channels, width, 3, 3)
    return found


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
