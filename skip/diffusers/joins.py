"""Where the models of diffusers take their long skips, by the library's own class names: two literal tables.

A new model is one line in `MODELS`; a new kind of block one in `BLOCKS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True)
class Join:
    """How a block is handed long skips: an argument of its forward.

    Attributes:
        argument, position: its name, and where it stands.
        holds: "each": a tuple, of which every resnet of the block takes one, the last first; "last": a tuple, of
            which the block takes the last; "skip": the skip itself; "joined": features with the skip behind them, in
            their last `channels` channels.
        channels: of "joined".
    """

    argument: str
    position: int
    holds: Literal["each", "last", "skip", "joined"]
    channels: int = 0


_EACH = Join("res_hidden_states_tuple", 1, "each")
_LAST = Join("res_hidden_states_tuple", 1, "last")
_BASE = Join("res_hidden_states_tuple_base", 1, "each")

BLOCKS: dict[str, Join] = {
    "AttnSkipUpBlock2D": _EACH,
    "AttnUpBlock1D": _LAST,
    "AttnUpBlock2D": _EACH,
    "ControlNetXSCrossAttnUpBlock2D": _BASE,
    "CrossAttnUpBlock2D": _EACH,
    "CrossAttnUpBlock3D": _EACH,
    "CrossAttnUpBlockMotion": _EACH,
    "CrossAttnUpBlockSpatioTemporal": _EACH,
    "DreamLiteCrossAttnNoSelfAttnUpBlock2D": _EACH,
    "DreamLiteCrossAttnUpBlock2D": _EACH,
    "DreamLiteUpBlock2D": _EACH,
    "HunyuanDiTBlock": Join("skip", 4, "skip"),
    "Kandinsky3UpSampleBlock": Join("x", 0, "joined"),
    "ResnetUpsampleBlock2D": _EACH,
    "SDCascadeResBlock": Join("x_skip", 1, "skip"),
    "SimpleCrossAttnUpBlock2D": _EACH,
    "SkipBlock": Join("skip", 1, "skip"),
    "SkipUpBlock2D": _EACH,
    "UpBlock1D": _LAST,
    "UpBlock1DNoSkip": _LAST,  # it has one, whatever its name says
    "UpBlock2D": _EACH,
    "UpBlock3D": _EACH,
    "UpBlockMotion": _EACH,
    "UpBlockSpatioTemporal": _EACH,
    "UpResnetBlock1D": _LAST,
}

# A block, and where it stands in the model, for messages.
Found = tuple[str, Any]


def _up_blocks(model: Any) -> list[Found]:
    return [(f"up_blocks[{i}]", block) for i, block in enumerate(model.up_blocks)]


def _up_blocks_after_the_first(model: Any) -> list[Found]:
    return _up_blocks(model)[1:]


def _second_half(model: Any) -> list[Found]:
    first = len(model.blocks) // 2 + 1
    return [(f"blocks[{i}]", block) for i, block in enumerate(model.blocks) if i >= first]


def _heads_of_up_blocks(model: Any) -> list[Found]:
    """The first layer of each level but the lowest."""
    levels = enumerate(model.up_blocks)
    return [(f"up_blocks[{i}][0]", layers[0]) for i, layers in levels if i > 0]


def _skips_of_out_blocks(model: Any) -> list[Found]:
    transformer = getattr(model, "transformer", model)
    blocks = enumerate(transformer.transformer_out_blocks)
    return [(f"transformer_out_blocks[{i}].skip", block["skip"]) for i, block in blocks]


@dataclass(frozen=True)
class Model:
    """A model that has long skips.

    Attributes:
        blocks: those that take one, deepest first.
        timestep: the name of the argument that tells the time, and where it stands; None: there are several times.
        maps: whether a skip joins maps of features [N, C, H, W] that a hook can reach: not tokens, nor within a block.
    """

    blocks: Callable[[Any], list[Found]]
    timestep: tuple[str, int] | None = ("timestep", 1)
    maps: bool = True


_UNET = Model(_up_blocks)

MODELS: dict[str, Model] = {
    "AudioLDM2UNet2DConditionModel": _UNET,
    "HunyuanDiT2DModel": Model(_second_half, maps=False),
    "I2VGenXLUNet": _UNET,
    "Kandinsky3UNet": Model(_up_blocks_after_the_first),
    "StableCascadeUNet": Model(_heads_of_up_blocks, ("timestep_ratio", 1), maps=False),
    "UNet1DModel": Model(_up_blocks, maps=False),
    "UNet2DConditionModel": _UNET,
    "UNet2DModel": _UNET,
    "UNet3DConditionModel": _UNET,
    "UNetControlNetXSModel": _UNET,
    "UNetMotionModel": _UNET,
    "UNetSpatioTemporalConditionModel": _UNET,
    "UniDiffuserModel": Model(_skips_of_out_blocks, None, maps=False),
}


@dataclass(frozen=True)
class Site:
    """A block of a model, and the long skips that it takes.

    Attributes:
        block: inside torch.compile's wrapper, if there is one.
        join: how it is handed them.
        count: their number.
        level: of those with maps, their resolution's: 0 the lowest of the model, and each block has the next.
    """

    block: nn.Module
    join: Join
    count: int
    level: int


def model_of(model: object) -> Model | None:
    """The entry of `MODELS` for a model of diffusers, or for a subclass of one; None for others."""
    for cls in type(model).__mro__:
        if cls.__name__ in MODELS and _of_diffusers(cls):
            return MODELS[cls.__name__]
    return None


def sites(model: Any, entry: Model) -> list[Site]:
    """Where a model takes its long skips, deepest first.

    Raises:
        ValueError: if one of its blocks is of an unknown type.
    """
    found: list[Site] = []
    for place, wrapped in entry.blocks(model):
        block = uncompiled(wrapped)
        join = BLOCKS.get(type(block).__name__)
        if join is None or not any(_of_diffusers(cls) for cls in type(block).__mro__):
            raise ValueError(
                f"{place} is a {type(block).__name__}, of which it is not known how it takes its skips; "
                "those that are known are in skip.diffusers.joins.BLOCKS"
            )
        if join.holds == "joined":
            join = Join(join.argument, join.position, join.holds, _channels(model, len(found)))
        count = len(block.resnets) if join.holds == "each" else 1
        found.append(Site(block, join, count, len(found)))
    return found


def _channels(model: Any, index: int) -> int:
    """Of the long skip of that number in a Kandinsky3UNet: what a level of the encoder leaves."""
    return int(model.config.block_out_channels[-2 - index])


def uncompiled(module: Any) -> Any:
    """The module inside torch.compile's wrapper."""
    return getattr(module, "_orig_mod", module)


def _of_diffusers(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "diffusers"
