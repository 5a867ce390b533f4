"""Command-line flags that the programs share: what to sample and how, and how to tune the skips."""

from collections.abc import Callable
from typing import Any, get_args

import click

from sampling.generate import Labels
from sampling.settings import SamplerSettings
from sampling.sigmas import SIGMAS, Ending
from skip.scale import AXES, SPACINGS, TIMES, SkipScale
from skip.source import DTYPES, ImageSource
from training.networks import SKIP_TARGETS

_EDM_ABLATION = ("solver", "disc", "schedule", "scaling")


def _flag(name: str, help: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(name, help=help, **settings)


def _at_least(low: float, open: bool = False) -> click.FloatRange:
    return click.FloatRange(min=low, min_open=open)


SAMPLING_FLAGS = [
    _flag("--network", "Name (python -m training.checkpoint list), path or URL", default="demo", show_default=True, metavar="NAME|PATH|URL"),
    # EDM's flags, with EDM's names and meanings
    _flag("--class", "Class of every image  [default: see --labels]", type=click.IntRange(min=0), metavar="INT"),
    _flag("--steps", "Number of noise levels N  [default: 18]", type=click.IntRange(min=1), metavar="INT"),
    _flag("--sigma_min", "Lowest noise level  [default: 0.002, or the grid's]", type=_at_least(0, True), metavar="FLOAT"),
    _flag("--sigma_max", "Highest noise level  [default: 80, or the grid's]", type=_at_least(0, True), metavar="FLOAT"),
    _flag("--rho", "Exponent of the edm grid (not the skip coefficient)  [default: 7]", type=_at_least(0, True), metavar="FLOAT"),
    _flag("--S_churn", "Stochasticity strength  [default: 0]", type=_at_least(0), metavar="FLOAT"),
    _flag("--S_min", "Lowest noise level with churn  [default: 0]", type=_at_least(0), metavar="FLOAT"),
    _flag("--S_max", "Highest noise level with churn  [default: inf]", type=_at_least(0), metavar="FLOAT"),
    _flag("--S_noise", "Standard deviation of the churn's noise  [default: 1]", type=float, metavar="FLOAT"),
    _flag("--solver", "Of EDM's ablation sampler", type=click.Choice(["euler", "heun"])),
    _flag("--disc", "Grid of EDM's ablation sampler: the same as --sigmas", type=click.Choice(["vp", "ve", "iddpm", "edm"])),
    _flag("--schedule", "sigma(t) of EDM's ablation sampler", type=click.Choice(["vp", "ve", "linear"])),
    _flag("--scaling", "s(t) of EDM's ablation sampler", type=click.Choice(["vp", "none"])),
    # beyond EDM
    _flag("--sampler", "ODE solver", default="heun", show_default=True, type=click.Choice(["euler", "heun", "dpm_2", "unipc", "dpmpp", "ipndm", "deis"])),
    _flag("--sigmas", f"Grid ({', '.join(SIGMAS)}) or the levels themselves, as 80,10,1  [default: edm; logsnr for unipc, dpmpp]", metavar="NAME|LIST"),
    _flag("--ending", "After the last noise level: step to 0, stop, or denoise once more", default="zero", show_default=True, type=click.Choice(get_args(Ending))),
    _flag("--order", "Of unipc (3), dpmpp (2), ipndm (4), deis (3)", type=click.IntRange(1, 4)),
    _flag("--variant", "bh1, bh2 of unipc; tab, rhoab of deis", type=click.Choice(["bh1", "bh2", "tab", "rhoab"])),
    _flag("--predict", "What unipc interpolates  [default: x0]", type=click.Choice(["x0", "noise"])),
    _flag("--exact", "unipc: solve for every coefficient, instead of the published 0.5", is_flag=True, default=None),
    _flag("--thresholding", "unipc, dpmpp: clip each denoised image at its 99.5% quantile", is_flag=True, default=None),
    _flag("--no-lower-order-final", "unipc, dpmpp: keep the order in the last steps", is_flag=True, default=None),
    _flag("--dtype", "Of the network  [default: float32; on CUDA what the checkpoint says]", type=click.Choice(list(DTYPES))),
    _flag("--labels", "Classes drawn from the seeds, or seed modulo classes", default="random", show_default=True, type=click.Choice(get_args(Labels))),
    _flag("--noise-device", "Draws the noise; cuda gives EDM's own GPU draws  [default: cpu, the same images everywhere]", metavar="DEVICE"),
]  # fmt: skip

SKIP_FLAGS = [
    _flag("--rho-bottom", "Skip coefficient rho of the deepest decoder layer", default=1.0, show_default=True, metavar="FLOAT"),
    _flag("--rho-top", "What rho approaches towards the last layer  [default: 1]", type=float, metavar="FLOAT"),
    _flag("--rho-constant", "The same rho in every layer", type=float, metavar="FLOAT"),
    _flag("--rho-layers", "rho of each layer, deepest first", metavar="LIST"),
    _flag("--rho-spacing", "How the layers lie between bottom and top", default="paper", show_default=True, type=click.Choice(SPACINGS)),
    _flag("--rho-time", "How rho changes with the noise level", default="constant", show_default=True, type=click.Choice(TIMES)),
    _flag("--rho-axis", "What --rho-time is linear in", default="edm", show_default=True, type=click.Choice(AXES)),
    _flag("--rho-sigma", "Tune only where LOW < sigma <= HIGH", metavar="LOW,HIGH"),
    _flag("--skip-target", "What sees the scaled skip (the paper's Appendix C)", default="full", show_default=True, type=click.Choice(SKIP_TARGETS)),
]  # fmt: skip


def add_flags(*groups: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Decorate a click command with groups of flags, in their order."""

    def decorate(command: Any) -> Any:
        for flag in reversed([flag for group in groups for flag in group]):
            command = flag(command)
        return command

    return decorate


def image_source(flags: dict[str, Any]) -> ImageSource:
    """The images that SAMPLING_FLAGS and SKIP_FLAGS describe.

    Raises:
        ValueError: if flags contradict each other.
    """
    return ImageSource(
        network=flags["network"],
        sampler=sampler_settings(flags),
        scale=skip_scale(flags),
        skip_target=flags["skip_target"],
        labels=flags["labels"],
        class_idx=flags["class"],
        noise_device=flags["noise_device"],
        dtype=flags["dtype"],
    )


def sampler_settings(flags: dict[str, Any]) -> SamplerSettings:
    """The sampler that SAMPLING_FLAGS describe.

    Raises:
        ValueError: if flags contradict each other.
    """
    ablation = [name for name in _EDM_ABLATION if flags[name] is not None]
    sampler = flags["sampler"]
    if ablation:
        if sampler != "heun":
            raise ValueError(f"--{ablation[0]} belongs to EDM's ablation sampler; it cannot go with --sampler={sampler}")
        if flags["disc"] is not None and flags["sigmas"] is not None:
            raise ValueError("--disc and --sigmas both name the grid; give one of them")
        sampler = "ablation"
    same = ("S_churn", "S_min", "S_max", "S_noise", "order", "variant", "predict", "exact", "thresholding")
    return SamplerSettings(
        sampler=sampler,
        sigmas=flags["sigmas"] or flags["disc"],
        exponent=flags["rho"],
        lower_order_final=False if flags["no_lower_order_final"] else None,
        **{name: flags[name] for name in ("steps", "sigma_min", "sigma_max", "ending", "solver", "schedule", "scaling")},
        **{name: flags[name.lower()] for name in same},
    )


def skip_scale(flags: dict[str, Any]) -> SkipScale:
    """The skip coefficients that SKIP_FLAGS describe.

    Raises:
        ValueError: if flags contradict each other or a list is not one of numbers.
    """
    bottom, top, constant = flags["rho_bottom"], flags["rho_top"], flags["rho_constant"]
    if constant is not None:
        if bottom != 1 or top is not None:
            raise ValueError("--rho-constant cannot go with --rho-bottom or --rho-top; give one of them")
        bottom = top = constant
    layers = None if flags["rho_layers"] is None else _numbers("--rho-layers", flags["rho_layers"])
    window = None if flags["rho_sigma"] is None else _numbers("--rho-sigma", flags["rho_sigma"])
    if window is not None and len(window) != 2:
        raise ValueError(f"--rho-sigma={flags['rho_sigma']} is not LOW,HIGH")
    return SkipScale(
        bottom=bottom,
        top=1.0 if top is None else top,
        spacing=flags["rho_spacing"],
        layers=layers,
        time=flags["rho_time"],
        axis=flags["rho_axis"],
        window=None if window is None else (window[0], window[1]),
    )


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}={text} is not a list of numbers such as 0.8,0.9,1") from None
