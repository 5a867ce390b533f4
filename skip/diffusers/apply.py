"""Skip-Tuning inside diffusers: the long skips of a model scaled in place, whatever pipeline it serves.

diffusers itself is not imported here: who has a model of it, has it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from skip.diffusers.hooks import points_of
from skip.diffusers.joins import MODELS, Model, model_of, sites, uncompiled
from skip.diffusers.schedulers import Clock, SigmaOfTimestep, sigma_from_scheduler
from skip.diffusers.tuning import Tuning
from skip.methods.method import SkipMethod
from skip.methods.table import check_reach, parse_methods
from skip.scale import SkipScale


def apply(
    unet: nn.Module,
    scale: SkipScale,
    scheduler: Any = None,
    sigma_of_timestep: SigmaOfTimestep | None = None,
    methods: str | Sequence[SkipMethod] | None = None,
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
        methods: what else acts on the skips and the features that they join, before rho: as --skip-method of
            generate.py, "freeu2:b1=1.2,s1=0.9"; when, `scale` says, and SkipScale() is always. Of models with maps of
            features, but not StableCascadeUNet.
    Returns:
        Handle with remove(), and a context manager.
    Raises:
        ValueError: if the model or one of its up blocks is of an unknown type, if it is Skip-Tuned already, if `scale`
            is no SkipScale or gives another number of coefficients than the model has long skips, if the noise level
            is needed and cannot be told, or if a method is unknown, acts on maps that the model has not, or has a
            parameter that touches none of its skips.
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

    acting = _acting(model, entry, methods)
    levels = [site.level for site in places for _ in range(site.count)]
    check_reach(acting, levels, f"this {type(model).__name__}")
    idle = scale.is_identity and not acting
    timed = not idle and (scale.time != "constant" or scale.window is not None)
    clock = _clock(model, entry, scale, scheduler, sigma_of_timestep) if timed else None
    points = [] if idle else points_of(places, acting)
    num_skips = sum(site.count for site in places)
    Tuning(scale, num_skips, points, clock, entry.timestep).start(model)
    return Applied(model)


def remove(unet: nn.Module) -> None:
    """Leave a model as it was before `apply`, a copy of a tuned one too; on a plain one it does nothing."""
    model = uncompiled(unet)
    if "_skip_tuning" in vars(model):
        vars(model)["_skip_tuning"].stop(model)


def _entry(model: Any) -> Model:
    entry = model_of(model)
    if entry is None:
        parts = [name for name in ("unet", "transformer", "module") if hasattr(model, name)]
        hint = f"; pass its .{parts[0]}" if parts else ""
        if hasattr(model, "num_skips"):
            hint = "; a network of this package is tuned by skip.tuned.SkipTuned, or by EDMPipeline's rho"
        *most, last = MODELS
        raise ValueError(
            f"cannot tune the skips of a {type(model).__name__}, only of {', '.join(most)} and {last}{hint}"
        )
    return entry


def _acting(
    model: Any, entry: Model, methods: str | Sequence[SkipMethod] | None
) -> tuple[SkipMethod, ...]:
    """The methods that do something."""
    given = parse_methods(methods) if isinstance(methods, str) else tuple(methods or ())
    for method in given:
        if not hasattr(method, "is_identity"):
            raise ValueError(
                f"{method!r} is no method; give a text such as 'freeu:b1=1.2', or objects of skip.methods"
            )
    acting = tuple(method for method in given if not method.is_identity)
    if acting and not entry.maps:
        raise ValueError(
            f"methods act on the maps of features that a skip joins; a {type(model).__name__} has none, or joins "
            "them where no hook reaches: give SkipScale alone"
        )
    return acting


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
        self._tuning: Tuning = vars(unet)["_skip_tuning"]
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
