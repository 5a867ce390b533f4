"""What a model carries while it is Skip-Tuned: its hooks, and rho of the call that runs."""

from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skip.diffusers.hooks import CARRIED, Point
from skip.diffusers.schedulers import Clock, SigmaOfTimestep
from skip.scale import SkipScale


@dataclass
class Tuning:
    """The hooks are plain functions of what the model and its modules carry, so that a copy stays tuned.

    Attributes:
        scale: rho as a function of layer and noise level.
        num_skips: k, the number of long skips.
        points: where hooks are; none if nothing is done.
        sigma_of_timestep: None where nothing depends on the noise level.
        timestep: the argument of the model that tells it, and where it stands.
        hooks: those that are registered.
    """

    scale: SkipScale
    num_skips: int
    points: list[Point]
    sigma_of_timestep: SigmaOfTimestep | None
    timestep: tuple[str, int] | None
    hooks: list[RemovableHandle] = field(default_factory=list)

    def at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """At timesteps [] or [N]: rho of each long skip, [k] or [N, k], and the strength of methods, [] or [N]."""
        assert self.sigma_of_timestep is not None
        time = None
        if self.scale.needs_time:
            assert isinstance(self.sigma_of_timestep, Clock)
            time = self.sigma_of_timestep.relative_time(timestep)
        sigma = self.sigma_of_timestep(timestep)
        return self.scale(self.num_skips, sigma, time), self.scale.strength(sigma, time)

    def give(self, rho: Tensor | None, strength: Tensor | None = None) -> None:
        """Hand each point its part of rho [k] or [N, k]; a tensor, so that its value is not compiled in."""
        for point in self.points:
            part = None if rho is None else rho[..., point.first : point.first + point.count]
            vars(point.module)["_skip_rho"] = part
            vars(point.module)["_skip_strength"] = strength

    def start(self, model: nn.Module) -> None:
        """Hook the model and its points."""
        vars(model)["_skip_tuning"] = self
        if not self.points:
            return
        if self.sigma_of_timestep is None:
            rho = self.scale(self.num_skips, 1.0)
            device = next(model.parameters()).device
            # Offloaded weights are on "meta", which holds no numbers, until they are needed: rho waits on the CPU.
            rho = rho if device.type == "meta" else rho.to(device)
            self.give(rho, torch.ones_like(rho[0]))
        else:
            self.give(None)
            self.hooks.append(model.register_forward_pre_hook(_rho_of_this_call, with_kwargs=True))
            self.hooks.append(model.register_forward_hook(_forget_rho))
            _tell_compiler(model)
        for point in self.points:
            handle = point.module.register_forward_pre_hook(point.hook, with_kwargs=True)
            self.hooks.append(handle)
            _tell_compiler(point.module)

    def stop(self, model: nn.Module) -> None:
        """Undo `start`."""
        for hook in self.hooks:
            hook.remove()
        for module in (model, *(point.module for point in self.points)):
            if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
                del module.forward
            for name in CARRIED:
                vars(module).pop(name, None)
        del vars(model)["_skip_tuning"]


def _rho_of_this_call(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tuning: Tuning = model._skip_tuning
    assert tuning.timestep is not None
    name, position = tuning.timestep
    timestep = torch.as_tensor(kwargs[name] if name in kwargs else args[position])
    if timestep.device.type == "mps":  # has no float64
        timestep = timestep.cpu()
    tuning.give(*tuning.at(timestep))


def _forget_rho(model: Any, args: tuple[Any, ...], output: Any) -> None:
    model._skip_tuning.give(None)


def _tell_compiler(module: nn.Module) -> None:
    """Make code that torch.compile made before the hooks came notice them.

    It does not look for new hooks (torch._dynamo.config.skip_nnmodule_hook_guards), but it does look for a `forward`
    of the instance. Where the instance has one from someone else, all compiled code is dropped.
    """
    if "forward" in vars(module):
        torch.compiler.reset()
    else:
        vars(module)["forward"] = MethodType(type(module).forward, module)
