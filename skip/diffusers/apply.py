"""Skip-Tuning inside diffusers: the long skips of a model scaled in place, whatever pipeline it serves.

diffusers itself is not imported here: who has a model of it, has it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skip.diffusers.joins import MODELS, Join, Model, Site, model_of, sites, uncompiled
from skip.diffusers.schedulers import Clock, SigmaOfTimestep, sigma_from_scheduler
from skip.scale import SkipScale


def apply(
    unet: nn.Module,
    scale: SkipScale,
    scheduler: Any = None,
    sigma_of_timestep: SigmaOfTimestep | None = None,
) -> "Applied":
    r"""Multiply the long skips of a diffusers model by rho_i(sigma), until the result's remove().

    hidden <- layer_i(cat([hidden, rho_i * skip_i])),   i from the deepest decoder layer

    The model is changed in place, so every pipeline that holds it is Skip-Tuned; its weights are not touched. As a
    context manager the result removes itself at the end of the block. Batched guidance, half precision (rho is rounded
    to the skip's dtype), ControlNet residuals (scaled with the skips they are added to), offloading (of the model or of
    its layers one by one, before or after), deep copies, torch.save of the model and torch.compile are fine: compiled
    code notices, and another rho that does not depend on the noise level compiles nothing anew. With rho = 1
    everywhere the model runs untouched.

    Reference: Skip-Tuning, section 3, https://arxiv.org/abs/2402.15170

    Args:
        unet: a model with long skips, one of `skip.diffusers.joins.MODELS`: the U-Nets of images, videos and sound,
            HunyuanDiT2DModel and UniDiffuserModel; compiled or not.
        scale: rho as a function of layer and noise level. Its sigma_min and sigma_max are EDM's unless you say other.
        scheduler: the pipeline's; needed if rho depends on the noise level, see `sigma_from_scheduler`. Its timesteps
            are the times of the axis "time".
        sigma_of_timestep: instead of a scheduler, timesteps [] or [N] -> sigma in data units, of the same shape; it
            does not tell how many timesteps there are, which the axis "time" needs.
    Returns:
        Handle with remove(), and a context manager.
    Raises:
        ValueError: if the model or one of its up blocks is of an unknown type, if it is Skip-Tuned already, if `scale`
            is no SkipScale or gives another number of coefficients than the model has long skips, or if the noise
            level is needed and cannot be told.
    """
    model: Any = uncompiled(unet)
    entry = _entry(model)
    if not isinstance(scale, SkipScale):
        raise ValueError(f"scale is {scale!r}; give a SkipScale, such as SkipScale(bottom=0.9)")
    if "_skip_tuning" in vars(model):
        raise ValueError(
            "this U-Net is Skip-Tuned already; call remove() on what skip.apply returned before, or "
            "skip.diffusers.remove(unet)"
        )

    places = sites(model, entry)
    if scheduler is not None and sigma_of_timestep is not None:
        raise ValueError("give either a scheduler or sigma_of_timestep, not both")
    scale.per_layer(sum(site.count for site in places))  # fails now rather than in a run

    timed = not scale.is_identity and (scale.time != "constant" or scale.window is not None)
    clock = _clock(model, entry, scale, scheduler, sigma_of_timestep) if timed else None
    tuning = _Tuning(scale, places, clock, entry.timestep)
    tuning.start(model)
    return Applied(model)


def remove(unet: nn.Module) -> None:
    """Leave a model as it was before `apply`, a copy of a tuned one too; on a plain one it does nothing."""
    model = uncompiled(unet)
    if "_skip_tuning" in vars(model):
        vars(model)["_skip_tuning"].stop(model)


def _entry(model: Any) -> Model:
    entry = model_of(model)
    if entry is None:
        parts = [name for name in ("unet", "transformer") if hasattr(model, name)]
        hint = f"; pass its .{parts[0]}" if parts else ""
        *most, last = MODELS
        raise ValueError(
            f"cannot tune the skips of a {type(model).__name__}, only of {', '.join(most)} and {last}{hint}"
        )
    return entry


def _clock(
    model: Any,
    entry: Model,
    scale: SkipScale,
    scheduler: Any,
    sigma_of_timestep: SigmaOfTimestep | None,
) -> SigmaOfTimestep:
    """What tells sigma at a timestep; a `Clock` where rho depends on the timestep itself."""
    if entry.timestep is None:
        raise ValueError(
            f"rho depends on the noise level, and a {type(model).__name__} is told several at once: leave out its "
            "window and its dependence on time"
        )
    if scheduler is None and sigma_of_timestep is None:
        raise ValueError(
            "rho depends on the noise level: pass scheduler=pipe.scheduler, or sigma_of_timestep"
        )
    if sigma_of_timestep is None:
        sigma_of_timestep = sigma_from_scheduler(scheduler)
    if scale.needs_time:
        if not isinstance(sigma_of_timestep, Clock):
            raise ValueError(
                "axis time needs to know how many timesteps there are: pass scheduler=pipe.scheduler, or choose "
                "another axis"
            )
        sigma_of_timestep.relative_time(torch.zeros(()))  # fails now rather than in a run
    return sigma_of_timestep


class Applied:
    """A Skip-Tuned model's way back; a context manager too.

    Attributes:
        scale: rho as a function of layer and noise level.
        num_skips: k, the number of long skips.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._tuning: _Tuning = vars(unet)["_skip_tuning"]
        self.scale, self.num_skips = self._tuning.scale, self._tuning.num_skips

    def remove(self) -> None:
        """Leave the model as it was; a second time it does nothing."""
        if vars(self._unet).get("_skip_tuning") is self._tuning:
            self._tuning.stop(self._unet)

    def __enter__(self) -> "Applied":
        if vars(self._unet).get("_skip_tuning") is not self._tuning:
            raise RuntimeError("this Skip-Tuning was removed; call skip.apply again")
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


@dataclass
class _Tuning:
    """What a model carries while it is Skip-Tuned. The hooks are plain functions of it, so a copy stays tuned."""

    scale: SkipScale
    sites: list[Site]
    sigma_of_timestep: SigmaOfTimestep | None
    timestep: tuple[str, int] | None  # the argument of the model
    hooks: list[RemovableHandle] = field(default_factory=list)

    @property
    def num_skips(self) -> int:
        return sum(site.count for site in self.sites)

    def rho(self, timestep: Tensor) -> Tensor:
        """rho of each long skip at timesteps [] or [N]: [k] or [N, k]."""
        assert self.sigma_of_timestep is not None
        time = None
        if self.scale.needs_time:
            assert isinstance(self.sigma_of_timestep, Clock)
            time = self.sigma_of_timestep.relative_time(timestep)
        return self.scale(self.num_skips, self.sigma_of_timestep(timestep), time)

    def give(self, rho: Tensor | None) -> None:
        """Hand each block its part of rho [k] or [N, k]; a tensor, so that its value is not compiled in."""
        first = 0
        for site in self.sites:
            part = None if rho is None else rho[..., first : first + site.count]
            vars(site.block)["_skip_rho"] = part
            first += site.count

    def start(self, model: nn.Module) -> None:
        """Hook the model and its blocks; with rho = 1 everywhere there is nothing to hook."""
        vars(model)["_skip_tuning"] = self
        if self.scale.is_identity:
            return
        if self.sigma_of_timestep is None:
            rho = self.scale(self.num_skips, 1.0)
            device = next(model.parameters()).device
            # Offloaded weights are on "meta", which holds no numbers, until they are needed: rho waits on the CPU.
            self.give(rho if device.type == "meta" else rho.to(device))
        else:
            self.give(None)
            self.hooks.append(model.register_forward_pre_hook(_rho_of_this_call, with_kwargs=True))
            self.hooks.append(model.register_forward_hook(_forget_rho))
            _tell_compiler(model)
        for site in self.sites:
            hook = functools.partial(_scale_skips, site.join)
            self.hooks.append(site.block.register_forward_pre_hook(hook, with_kwargs=True))
            _tell_compiler(site.block)

    def stop(self, model: nn.Module) -> None:
        """Undo `start`."""
        for hook in self.hooks:
            hook.remove()
        for module in (model, *(site.block for site in self.sites)):
            if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
                del module.forward
            vars(module).pop("_skip_rho", None)
        del vars(model)["_skip_tuning"]


def _rho_of_this_call(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tuning: _Tuning = model._skip_tuning
    assert tuning.timestep is not None
    name, position = tuning.timestep
    timestep = torch.as_tensor(kwargs[name] if name in kwargs else args[position])
    if timestep.device.type == "mps":  # has no float64
        timestep = timestep.cpu()
    tuning.give(tuning.rho(timestep))


def _forget_rho(model: Any, args: tuple[Any, ...], output: Any) -> None:
    model._skip_tuning.give(None)


def _scale_skips(
    join: Join, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rho = block._skip_rho  # [n] or [N, n]
    if rho is None:
        raise RuntimeError(
            "a Skip-Tuned up block ran without its U-Net's call: call unet(...), not unet.forward(...)"
        )
    name, position = join.argument, join.position
    given = kwargs[name] if name in kwargs else args[position]
    new = _SCALED[join.holds](given, rho, join)
    if name in kwargs:
        return args, {**kwargs, name: new}
    return (*args[:position], new, *args[position + 1 :]), kwargs


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


def _times(skip: Tensor, rho: Tensor) -> Tensor:
    """The skip [M, ...] times rho [] or [N]; of a video M / N frames, one after the other, have the same rho."""
    factor = rho.to(skip.device, skip.dtype).reshape(-1)
    if len(factor) > 1:
        factor = factor.repeat_interleave(len(skip) // len(factor))
    return skip * factor.reshape(-1, *[1] * (skip.ndim - 1))


def _tell_compiler(module: nn.Module) -> None:
    """Make code that torch.compile made before the hooks came notice them.

    It does not look for new hooks (torch._dynamo.config.skip_nnmodule_hook_guards), but it does look for a `forward`
    of the instance. Where the instance has one from someone else, all compiled code is dropped.
    """
    if "forward" in vars(module):
        torch.compiler.reset()
    else:
        vars(module)["forward"] = MethodType(type(module).forward, module)
