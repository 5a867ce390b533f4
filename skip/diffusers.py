"""Skip-Tuning inside diffusers: the long skips of a U-Net scaled in place, whatever pipeline it serves.

diffusers itself is not imported here: who has a U-Net of it, has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skip.scale import SkipScale

SigmaOfTimestep = Callable[[Tensor], Tensor]

UNETS = ("UNet2DModel", "UNet2DConditionModel")
UP_BLOCKS = (  # of diffusers.models.unets.unet_2d_blocks; in each, every resnet takes one skip, the last one first
    "AttnSkipUpBlock2D",
    "AttnUpBlock2D",
    "CrossAttnUpBlock2D",
    "ResnetUpsampleBlock2D",
    "SimpleCrossAttnUpBlock2D",
    "SkipUpBlock2D",
    "UpBlock2D",
)


def apply(
    unet: nn.Module,
    scale: SkipScale,
    scheduler: Any = None,
    sigma_of_timestep: SigmaOfTimestep | None = None,
) -> "Applied":
    r"""Multiply the long skips of a diffusers U-Net by rho_i(sigma), until the result's remove().

    hidden <- resnet_i(cat([hidden, rho_i * skip_i])),   i from the deepest decoder layer, one skip a resnet

    The U-Net is changed in place, so every pipeline that holds it is Skip-Tuned; its weights are not touched. As a
    context manager the result removes itself at the end of the block. Batched guidance, half precision (rho is rounded
    to the skip's dtype), ControlNet residuals (scaled with the skips they are added to), offloading (of the model or of
    its layers one by one, before or after) and torch.compile are fine: compiled code notices, and another rho that does
    not depend on the noise level compiles nothing anew. With rho = 1 everywhere the U-Net runs untouched.

    Reference: Skip-Tuning, section 3, https://arxiv.org/abs/2402.15170

    Args:
        unet: a UNet2DModel or UNet2DConditionModel, compiled or not.
        scale: rho as a function of layer and noise level. Its sigma_min and sigma_max are EDM's unless you say other.
        scheduler: with `alphas_cumprod`; needed if rho depends on the noise level, see `sigma_from_scheduler`. Its
            timesteps are the times of the axis "time".
        sigma_of_timestep: instead of a scheduler, timesteps [] or [N] -> sigma in data units, of the same shape; it
            does not tell how many timesteps there are, which the axis "time" needs.
    Returns:
        Handle with remove(), and a context manager.
    Raises:
        ValueError: if the U-Net or one of its up blocks is of an unknown type, if it is Skip-Tuned already, if `scale`
            is no SkipScale or gives another number of coefficients than the U-Net has long skips, or if the noise
            level is needed and cannot be told.
    """
    model: Any = _uncompiled(unet)
    if not _from_diffusers(model, UNETS):
        hint = "; pass its .unet" if hasattr(model, "unet") else ""
        raise ValueError(
            f"cannot tune the skips of a {type(model).__name__}, only of {' and '.join(UNETS)}{hint}"
        )
    if not isinstance(scale, SkipScale):
        raise ValueError(f"scale is {scale!r}; give a SkipScale, such as SkipScale(bottom=0.9)")
    if "_skip_tuning" in vars(model):
        raise ValueError(
            "this U-Net is Skip-Tuned already; call remove() on what skip.apply returned before"
        )

    blocks = [_uncompiled(block) for block in model.up_blocks]
    for index, block in enumerate(blocks):
        if not (type(block).__name__ in UP_BLOCKS and _from_diffusers(block, UP_BLOCKS)):
            raise ValueError(
                f"up_blocks[{index}] is a {type(block).__name__}, of which it is not known how it takes its skips; "
                f"known are {', '.join(UP_BLOCKS)}"
            )

    if scheduler is not None and sigma_of_timestep is not None:
        raise ValueError("give either a scheduler or sigma_of_timestep, not both")

    counts = [len(block.resnets) for block in blocks]
    scale.per_layer(sum(counts))  # fails now rather than in the middle of a run

    timed = not scale.is_identity and (scale.time != "constant" or scale.window is not None)
    if timed and scheduler is None and sigma_of_timestep is None:
        raise ValueError(
            "rho depends on the noise level: pass scheduler=pipe.scheduler, or sigma_of_timestep"
        )
    by_time = timed and scale.needs_time
    if by_time and scheduler is None:
        raise ValueError(
            "axis time needs to know how many timesteps there are: pass scheduler=pipe.scheduler, or choose "
            "another axis"
        )
    if timed and sigma_of_timestep is None:
        sigma_of_timestep = sigma_from_scheduler(scheduler)
    last = max(len(scheduler.alphas_cumprod) - 1, 1) if by_time else None
    return Applied(
        model, blocks, _Tuning(scale, counts, sigma_of_timestep if timed else None, last)
    )


def sigma_from_scheduler(scheduler: Any) -> SigmaOfTimestep:
    r"""The noise level at a timestep of a variance-preserving diffusion, in data units.

    sigma(t) = sqrt((1 - a_t) / a_t),  a = alphas_cumprod;  between two timesteps, log sigma is interpolated

    Args:
        scheduler: of diffusers, with `alphas_cumprod` [T].
    Returns:
        Function of timesteps in [0, T - 1], [] or [N], to float64 sigma of the same shape.
    Raises:
        ValueError: if the scheduler has no `alphas_cumprod`, or its timesteps do not count in it.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"{name} has no alphas_cumprod to tell sigma from a timestep: pass sigma_of_timestep instead"
        )
    continuous = (
        config.get("timestep_type") == "continuous"
        and config.get("prediction_type") == "v_prediction"
    )
    if continuous or config.get("use_flow_sigmas"):
        raise ValueError(
            f"the timesteps of this {name} do not count in alphas_cumprod: pass sigma_of_timestep instead"
        )
    a = scheduler.alphas_cumprod.detach().to("cpu", torch.float64)
    log_sigma = ((1 - a) / a.clamp_min(1e-30)).log() / 2  # a is 0 at the end of some schedules

    def sigma_of_timestep(timestep: Tensor) -> Tensor:
        table = log_sigma.to(timestep.device, non_blocking=True)
        t = timestep.to(torch.float64).clamp(0, len(table) - 1)
        below, above = t.floor().long(), t.ceil().long()
        return torch.lerp(table.take(below), table.take(above), t - below).exp()

    return sigma_of_timestep


class Applied:
    """A Skip-Tuned U-Net's way back; a context manager too.

    Attributes:
        scale: rho as a function of layer and noise level.
        num_skips: k, the number of long skips.
    """

    def __init__(self, unet: nn.Module, blocks: list[nn.Module], tuning: "_Tuning") -> None:
        self.scale, self.num_skips = tuning.scale, sum(tuning.counts)
        self._unet, self._blocks, self._tuning = unet, blocks, tuning
        self._hooks: list[RemovableHandle] = []
        vars(unet)["_skip_tuning"] = tuning
        if self.scale.is_identity:
            return
        if tuning.sigma_of_timestep is None:
            rho = self.scale(self.num_skips, 1.0)
            device = next(unet.parameters()).device
            # Offloaded weights are on "meta", which holds no numbers, until they are needed: rho waits on the CPU.
            tuning.give(unet, rho if device.type == "meta" else rho.to(device))
        else:
            tuning.give(unet, None)
            self._hooks.append(unet.register_forward_pre_hook(_rho_of_this_call, with_kwargs=True))
            self._hooks.append(unet.register_forward_hook(_forget_rho))
            _tell_compiler(unet)
        for block in blocks:
            self._hooks.append(block.register_forward_pre_hook(_scale_skips, with_kwargs=True))
            _tell_compiler(block)

    def remove(self) -> None:
        """Leave the U-Net as it was; a second time it does nothing."""
        if vars(self._unet).get("_skip_tuning") is not self._tuning:
            return
        for hook in self._hooks:
            hook.remove()
        for module in (self._unet, *self._blocks):
            if getattr(vars(module).get("forward"), "__func__", None) is _unchanged:
                del module.forward
            vars(module).pop("_skip_rho", None)
        del vars(self._unet)["_skip_tuning"]

    def __enter__(self) -> "Applied":
        if vars(self._unet).get("_skip_tuning") is not self._tuning:
            raise RuntimeError("this Skip-Tuning was removed; call skip.apply again")
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


@dataclass(frozen=True)
class _Tuning:
    """What a U-Net carries while it is Skip-Tuned. The hooks are plain functions of it, so a deep copy stays tuned."""

    scale: SkipScale
    counts: list[int]  # skips of each up block
    sigma_of_timestep: SigmaOfTimestep | None
    last_timestep: int | None  # where rho depends on the timestep itself

    def rho(self, timestep: Tensor) -> Tensor:
        """rho of each long skip at timesteps [] or [N]: [k] or [N, k]."""
        assert self.sigma_of_timestep is not None
        time = None
        if self.last_timestep is not None:
            time = timestep.to(torch.float64) / self.last_timestep
        return self.scale(sum(self.counts), self.sigma_of_timestep(timestep), time)

    def give(self, unet: Any, rho: Tensor | None) -> None:
        """Hand each up block its part of rho [k] or [N, k]; a tensor, so that its value is not compiled in."""
        parts = [None] * len(self.counts) if rho is None else rho.split(self.counts, dim=-1)
        for block, part in zip(unet.up_blocks, parts, strict=True):
            _uncompiled(block)._skip_rho = part


def _rho_of_this_call(unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tuning = unet._skip_tuning
    timestep = torch.as_tensor(kwargs["timestep"] if "timestep" in kwargs else args[1])
    if timestep.device.type == "mps":  # has no float64
        timestep = timestep.cpu()
    tuning.give(unet, tuning.rho(timestep))


def _forget_rho(unet: Any, args: tuple[Any, ...], output: Any) -> None:
    unet._skip_tuning.give(unet, None)


def _scale_skips(
    block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    name, rho = "res_hidden_states_tuple", block._skip_rho  # [n] or [N, n]
    if rho is None:
        raise RuntimeError(
            "a Skip-Tuned up block ran without its U-Net's call: call unet(...), not unet.forward(...)"
        )
    skips = kwargs[name] if name in kwargs else args[1]
    order = reversed(range(len(skips)))  # the first resnet takes the last skip
    scaled = tuple(
        skip * rho[..., i].to(skip.device, skip.dtype).reshape(-1, 1, 1, 1)
        for i, skip in zip(order, skips, strict=True)
    )
    if name in kwargs:
        return args, {**kwargs, name: scaled}
    return (args[0], scaled, *args[2:]), kwargs


def _tell_compiler(module: nn.Module) -> None:
    """Make code that torch.compile made before the hooks came notice them.

    It does not look for new hooks (torch._dynamo.config.skip_nnmodule_hook_guards), but it does look for a `forward`
    of the instance. Where the instance has one from someone else, all compiled code is dropped.
    """
    if "forward" in vars(module):
        torch.compiler.reset()
    else:
        vars(module)["forward"] = MethodType(_unchanged, module)


def _unchanged(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return type(module).forward(module, *args, **kwargs)


def _uncompiled(module: Any) -> Any:
    """The module inside torch.compile's wrapper."""
    return getattr(module, "_orig_mod", module)


def _from_diffusers(module: object, names: tuple[str, ...]) -> bool:
    return any(
        c.__name__ in names and c.__module__.split(".")[0] == "diffusers"
        for c in type(module).__mro__
    )
