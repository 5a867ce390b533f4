"""What runs before a block takes its long skips: forward pre-hooks, plain functions of what the modules carry.

A hooked module carries `_skip_rho`, its part of rho; where other methods act, also `_skip_strength`, theirs; and a
resnet of which only its block knows how many channels of its input are skip, `_skip_channels`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skip.diffusers.joins import Join, Site, uncompiled
from skip.methods.method import Joins, SkipMethod

CARRIED = ("_skip_rho", "_skip_strength", "_skip_channels")
_FEATURES = (
    "input_tensor",
    "hidden_states",
    "x",
)  # what blocks and resnets call their first argument

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Point:
    """A module with a hook.

    Attributes:
        module: which carries rho of `count` layers, from the layer `first` on; of none it only tells its resnets.
        hook: to be registered with kwargs.
    """

    module: nn.Module
    first: int
    count: int
    hook: Callable[..., Any]


@dataclass(frozen=True)
class Acting:
    """What acts on features and skips before rho does.

    Attributes:
        methods: in their order.
        levels: of all long skips, as `skip.methods.method.SkipMethod.join` has them.
    """

    methods: tuple[SkipMethod, ...]
    levels: tuple[int, ...]


def points_of(sites: Sequence[Site], methods: tuple[SkipMethod, ...]) -> list[Point]:
    """Where to hook: the blocks, and where methods need the features too, the resnets that get both in one."""
    levels = tuple(site.level for site in sites for _ in range(site.count))
    acting = Acting(methods, levels) if methods else None
    found: list[Point] = []
    first = 0
    for site in sites:
        if acting is None:
            hook = functools.partial(_scale_skips, site.join)
            found.append(Point(site.block, first, site.count, hook))
        else:
            found += _points_of_methods(site, acting, first)
        first += site.count
    return found


def _points_of_methods(site: Site, acting: Acting, first: int) -> list[Point]:
    block: Any = site.block
    if site.join.holds == "joined":
        hook = functools.partial(_act_on_joined, site.join.channels, acting, first)
        return [Point(block, first, 1, hook)]

    found = [Point(block, first, 0, functools.partial(_tell_channels, site.join))]
    for layer, resnet in enumerate(block.resnets, start=first):
        hook = functools.partial(_act_on_joined, None, acting, layer)
        found.append(Point(uncompiled(resnet), layer, 1, hook))
    return found


# ---- rho alone


def _scale_skips(
    join: Join, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    rho = _carried(block)  # [n] or [N, n]
    given = _argument(join, args, kwargs)
    return _replaced(join, args, kwargs, _SCALED[join.holds](given, rho, join))


def _each(skips: tuple[Tensor, ...], rho: Tensor, join: Join) -> tuple[Tensor, ...]:
    order = reversed(range(len(skips)))  # the first resnet takes the last skip
    return tuple(_times(skip, rho[..., i]) for i, skip in zip(order, skips, strict=True))


def _last(skips: tuple[Tensor, ...], rho: Tensor, join: Join) -> tuple[Tensor, ...]:
    return (*skips[:-1], _times(skips[-1], rho[..., 0]))


def _skip(skip: Tensor, rho: Tensor, join: Join) -> Tensor:
    return _times(skip, rho[..., 0])


def _joined(features: Tensor, rho: Tensor, join: Join) -> Tensor:
    hidden, skip = features[:, : -join.channels], features[:, -join.channels :]
    return torch.cat([hidden, _times(skip, rho[..., 0])], dim=1)


_SCALED: dict[str, Callable[[Any, Tensor, Join], Any]] = {
    "each": _each,
    "last": _last,
    "skip": _skip,
    "joined": _joined,
}


# ---- other methods, then rho


def _tell_channels(join: Join, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    skips = _argument(join, args, kwargs)
    for resnet, skip in zip(block.resnets, reversed(skips), strict=True):
        uncompiled(resnet)._skip_channels = skip.shape[1]


def _act_on_joined(
    channels: int | None,
    acting: Acting,
    layer: int,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Arguments:
    place = _features(args, kwargs)
    features = _argument(place, args, kwargs)
    width = module._skip_channels if channels is None else channels
    u, d = features[:, :-width], features[:, -width:]
    return _replaced(place, args, kwargs, torch.cat(_acted(acting, layer, module, u, d), dim=1))


def _acted(acting: Acting, layer: int, module: Any, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    rho = _carried(module)
    strength = _of_frames(module._skip_strength.to(u.device), len(u))
    u, d = Joins(acting.methods, acting.levels, strength)(layer, u, d)
    return u, _times(d, rho[..., 0])


# ---- arguments and factors


def _carried(module: Any) -> Tensor:
    rho: Tensor | None = module._skip_rho
    if rho is None:
        raise RuntimeError(
            "a Skip-Tuned up block ran without its U-Net's call: call unet(...), not unet.forward(...)"
        )
    return rho


def _features(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Join:
    """Where a block or a resnet has its features: first, whatever their name."""
    name = _FEATURES[0]
    for known in _FEATURES:
        if not args and known in kwargs:
            name = known
    return Join(name, 0, "joined")


def _argument(join: Join, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs[join.argument] if join.argument in kwargs else args[join.position]


def _replaced(join: Join, args: tuple[Any, ...], kwargs: dict[str, Any], new: Any) -> Arguments:
    if join.argument in kwargs:
        return args, {**kwargs, join.argument: new}
    return (*args[: join.position], new, *args[join.position + 1 :]), kwargs


def _times(skip: Tensor, rho: Tensor) -> Tensor:
    """The skip [M, ...] times rho [] or [N]."""
    factor = _of_frames(rho.to(skip.device, skip.dtype), len(skip))
    return skip * factor.reshape(-1, *[1] * (skip.ndim - 1))


def _of_frames(factor: Tensor, frames: int) -> Tensor:
    """Factors [] or [N] as [1] or [M]: of a video M / N frames, one after the other, have the same."""
    factor = factor.reshape(-1)
    if len(factor) == 1:
        return factor
    return factor.repeat_interleave(frames // len(factor))
