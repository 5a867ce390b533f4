"""Command-line flags that the programs share: what to sample and how, and how to tune the skips."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click

from dnnlib.cli import warn
from dnnlib.flags import FlagGroups, flag
from dnnlib.keywords import check_keywords
from sampling.levels import GRIDS
from sampling.noise import Labels
from sampling.samplers import SOLVERS
from sampling.settings import SamplerSettings
from sampling.sigmas import Ending
from skip.scale import AXES, SPACINGS, TIMES, SkipScale
from skip.scale_file import load_scale
from skip.source import DTYPES, ImageSource
from training.networks import SKIP_TARGETS
from training.presets import NETWORKS_TOML, load_presets

_ABLATION = ("solver", "disc", "schedule", "scaling")
_POSITIVE = click.FloatRange(min=0, min_open=True)
_NOT_NEGATIVE = click.FloatRange(min=0)
# What a list of noise levels leaves no choice of.
_LEVELS = ("steps", "sigma_min", "sigma_max", "exponent")
USUAL = (0, 2)  # skip coefficients: at 0 the skip is cut
_OF_EVERY_SAMPLER = ("sigma_min", "sigma_max")

# Rows of every program's group "Computation"; `torch_utils.distributed.init` takes both.
DEVICE_FLAGS = [
    flag("--device", "cpu, cuda, cuda:1  [default: cuda where there is one]", metavar="DEVICE"),
    flag("--tf32", "On CUDA: let float32 be TF32: several times faster, off by 1e-3", is_flag=True),
]
# Of the programs that sample.
COMPILE = flag("--compile", "torch.compile the network: slow start, then faster", is_flag=True)
# --class ... --scaling are EDM's flags, with EDM's names and meanings.
SAMPLING_FLAGS: FlagGroups = {
    "Network": [
        flag("--network", "Name (python -m training.checkpoint list: some have defaults of their own), path or URL", default="demo", show_default=True, metavar="NAME|PATH|URL"),
        flag("--autoencoder", "Of a latent network: what decodes it  [default: that of the network's file or entry]", metavar="PATH|URL"),
        flag("--dtype", "What it computes in  [default: float32; on CUDA what the network's entry or file says]", type=click.Choice(list(DTYPES))),
        flag("--class", "Class of every image", type=click.IntRange(min=0), metavar="INT"),
        flag("--labels", "Without --class: draw classes from the seeds, or seed modulo classes  [default: random]", type=click.Choice(get_args(Labels))),
        flag("--guidance", "Scale w of guidance, D_guide + w (D - D_guide), 1 for none; twice the evaluations  [default: none]", type=float, metavar="FLOAT"),
        flag("--guide", "Weaker network for --guidance (autoguidance)  [default: the network itself, without its class]", metavar="NAME|PATH|URL"),
        flag("--noise-device", "Where noise is drawn; cuda gives EDM's own GPU draws  [default: cpu: the same images everywhere]", metavar="DEVICE"),
    ],
    "Sampler": [
        flag("--sampler", "ODE solver  [default: heun]", type=click.Choice([name for name in SOLVERS if name != "ablation"])),
        flag("--order", "Of unipc (1-3, default 3), dpmpp (1-3, 2), ipndm (1-4, 4), deis (1-4, 3)", type=click.IntRange(1, 4), metavar="INT"),
        flag("--variant", "Of unipc: bh1 (default), bh2; of deis: tab (default), rhoab", type=click.Choice(["bh1", "bh2", "tab", "rhoab"])),
        flag("--predict", "What unipc interpolates  [default: x0]", type=click.Choice(["x0", "noise"])),
        flag("--exact", "unipc: solve for each coefficient, not the published 0.5; deis: exact integrals", is_flag=True, default=None),
        flag("--thresholding", "unipc, dpmpp: clip each denoised image at its 99.5% quantile", is_flag=True, default=None),
        flag("--no-clip", "consistency: do not clamp each denoised image to [-1, 1]", is_flag=True, default=None),
        flag("--no-lower-order-final", "unipc, dpmpp: keep the order in the last steps", is_flag=True, default=None),
    ],
    "Noise levels": [
        flag("--steps", "Number of noise levels N  [default: 18]", type=click.IntRange(min=1), metavar="INT"),
        flag("--sigmas", f"{', '.join(GRIDS)}, or the levels themselves, as 80,10,1  [default: edm; logsnr for unipc and dpmpp]", metavar="NAME|LIST"),
        flag("--sigma_min", "Lowest noise level  [default: 0.002; vp 0.0105, ve 0.02]", type=_POSITIVE, metavar="FLOAT"),
        flag("--sigma_max", "Highest noise level  [default: 80; vp 152, ve 100, iddpm 81]", type=_POSITIVE, metavar="FLOAT"),
        flag("--rho", "EDM's time step exponent, above 1; the skip coefficient is --rho-bottom  [default: 7; time_uniform 1]", type=_POSITIVE, metavar="FLOAT"),
        flag("--sigma-init", "One-step generators: the image is D(x; sigma), x noise of this level, one evaluation", type=_POSITIVE, metavar="FLOAT"),
        flag("--ending", "After the last level: step to 0, stop there, or denoise once more  [default: zero]", type=click.Choice(get_args(Ending))),
    ],
    "Stochastic sampling (heun, and EDM's ablation sampler)": [
        flag("--S_churn", "Stochasticity strength  [default: 0]", type=_NOT_NEGATIVE, metavar="FLOAT"),
        flag("--S_min", "Lowest noise level that receives noise  [default: 0]", type=_NOT_NEGATIVE, metavar="FLOAT"),
        flag("--S_max", "Highest noise level that receives noise  [default: inf]", type=_NOT_NEGATIVE, metavar="FLOAT"),
        flag("--S_noise", "Standard deviation of that noise  [default: 1]", type=_NOT_NEGATIVE, metavar="FLOAT"),
    ],
    "EDM's ablation sampler (any of these selects it)": [
        flag("--solver", "ODE solver  [default: heun]", type=click.Choice(["euler", "heun"])),
        flag("--disc", "Time steps t_i, as --sigmas  [default: edm]", type=click.Choice(["vp", "ve", "iddpm", "edm"])),
        flag("--schedule", "Noise schedule sigma(t)  [default: linear]", type=click.Choice(["vp", "ve", "linear"])),
        flag("--scaling", "Signal scaling s(t)  [default: none]", type=click.Choice(["vp", "none"])),
    ],
}  # fmt: skip

SKIP_FLAGS: FlagGroups = {
    "Skip-Tuning": [
        flag("--rho-bottom", "Skip coefficient rho of the deepest decoder layer  [default: 1, the plain network]", type=float, metavar="FLOAT"),
        flag("--rho-top", "What rho approaches towards the last layer  [default: 1]", type=float, metavar="FLOAT"),
        flag("--rho-spacing", "How the layers lie between the two  [default: paper]", type=click.Choice(SPACINGS)),
        flag("--rho-constant", "The same rho in every layer", type=float, metavar="FLOAT"),
        flag("--rho-layers", "rho of each layer, deepest first; or a file of coefficients, as tables.py tune writes", metavar="LIST|FILE"),
        flag("--rho-time", "How rho changes with the noise level  [default: constant]", type=click.Choice(TIMES)),
        flag("--rho-axis", "What --rho-time is linear in  [default: edm]", type=click.Choice(AXES)),
        flag("--rho-sigma", "Tune only where LOW < sigma <= HIGH", metavar="LOW,HIGH"),
        flag("--skip-target", "What sees the scaled skip: the paper's Appendix C  [default: full]", type=click.Choice(SKIP_TARGETS)),
    ],
}  # fmt: skip


def image_source(flags: dict[str, Any]) -> ImageSource:
    """The images that SAMPLING_FLAGS and SKIP_FLAGS describe.

    What the flags leave open is as the network's entry in configs/networks.toml says, where it has a name and the entry
    has defaults; see `with_defaults`.

    Args:
        flags: value of each flag by its click name ("s_churn" for --S_churn); None where it was not given.
    Raises:
        ValueError: if flags contradict each other.
    """
    if flags["class"] is not None and flags["labels"] is not None:
        raise ValueError("--class and --labels both choose the classes; give one of them")
    _check_exponent(flags)
    scale = skip_scale(flags)
    warn_beyond(scale.layers or (scale.bottom, scale.top))
    preset = load_presets().get(flags["network"])
    defaults = dict(preset.defaults) if preset else {}
    guidance = defaults.pop("guidance", None)
    _check_defaults(flags["network"], defaults, guidance)
    return ImageSource(
        network=flags["network"],
        sampler=SamplerSettings(**with_defaults(sampler_settings(flags), defaults)),
        scale=scale,
        skip_target=flags["skip_target"] or "full",
        labels=flags["labels"] or "random",
        class_idx=flags["class"],
        noise_device=flags["noise_device"],
        dtype=flags["dtype"],
        guidance=guidance if flags["guidance"] is None else flags["guidance"],
        guide=flags["guide"],
        autoencoder=flags["autoencoder"],
    )


def _check_exponent(flags: dict[str, Any]) -> None:
    """Refuse an exponent that looks like a skip coefficient: its steps are so uneven that noise comes out."""
    exponent = flags["rho"]
    if exponent is None or exponent > 1 or _skip_flags(flags):
        return
    meant = "(--rho-bottom of generate.py) is what this command searches: see --bottom"
    if "rho_bottom" in flags:
        meant = (
            f"is --rho-bottom={exponent:g} (and with --rho-bottom=1 the exponent is taken as it is)"
        )
    raise ValueError(
        f"--rho={exponent:g} is EDM's time step exponent, 7 by default; the skip coefficient {meant}"
    )


def _skip_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Those of SKIP_FLAGS that were given."""
    return {
        name: value
        for name, value in flags.items()
        if name.startswith(("rho_", "skip_")) and value is not None
    }


def warn_beyond(rhos: Iterable[float]) -> None:
    """Say on stderr that skip coefficients are outside USUAL: more likely a slip of the keyboard than meant."""
    low, high = USUAL
    for rho in rhos:
        if not low <= rho <= high:
            warn(
                f"a skip coefficient of {rho:g} is asked for; useful ones are near 1, all known ones in [{low}, {high}]"
            )
            return


def _check_defaults(network: str, defaults: dict[str, Any], guidance: Any) -> None:
    """Refuse what configs/networks.toml says of a network's sampling, if it is no such setting or of another type."""
    try:
        unknown = sorted(defaults.keys() - {field.name for field in fields(SamplerSettings)})
        if unknown:
            raise ValueError(f"there is no setting {', '.join(unknown)}")
        check_keywords(defaults | {"guidance": guidance}, [SamplerSettings, ImageSource])
    except ValueError as error:
        raise ValueError(f"{NETWORKS_TOML}, the defaults of {network}: {error}") from error


def sampler_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields of SamplerSettings that SAMPLING_FLAGS choose.

    Raises:
        ValueError: if flags contradict each other.
    """
    if flags["sigma_init"] is not None:
        return _one_step(flags)
    ablation = [name for name in _ABLATION if flags[name] is not None]
    if ablation and flags["sampler"] is not None:
        raise ValueError(
            f"--{ablation[0]} selects EDM's ablation sampler; drop it, or --sampler={flags['sampler']}"
        )
    if flags["disc"] is not None and flags["sigmas"] is not None:
        raise ValueError("--disc and --sigmas both name the noise levels; give one of them")
    same = ("steps", "sigma_min", "sigma_max", "ending", "solver", "schedule", "scaling", "S_churn", "S_min", "S_max",
            "S_noise", "order", "variant", "predict", "exact", "thresholding")  # fmt: skip
    given = {
        "sampler": "ablation" if ablation else flags["sampler"],
        "sigmas": flags["disc"] if flags["sigmas"] is None else flags["sigmas"],
        "exponent": flags["rho"],
        "clip": False if flags["no_clip"] else None,
        "lower_order_final": False if flags["no_lower_order_final"] else None,
        **{name: flags[name.lower()] for name in same},
    }
    return {name: value for name, value in given.items() if value is not None}


def _one_step(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields of SamplerSettings for --sigma-init, which says all of them."""
    names = [
        name
        for heading, rows in SAMPLING_FLAGS.items()
        if heading != "Network"
        for name, *_ in rows
    ]
    names.remove("--sigma-init")
    for name in names:
        if flags[name.removeprefix("--").replace("-", "_").lower()] is not None:
            raise ValueError(
                f"--sigma-init={flags['sigma_init']:g} is one evaluation of the network; drop {name}"
            )
    return {"sampler": "consistency", "sigmas": str(flags["sigma_init"]), "clip": False}


def with_defaults(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The sampler settings given, and for the others a network's defaults.

    What is given wins, and takes along what belongs to it: another sampler than the default one leaves only the
    defaults sigma_min and sigma_max; noise levels that are given by their number or range replace a list of them, and
    a list replaces number and range.

    Args:
        given, defaults: fields of SamplerSettings.
    """
    left = dict(defaults)
    if given.get("sampler", left.get("sampler", "heun")) != left.get("sampler", "heun"):
        left = {name: value for name, value in left.items() if name in _OF_EVERY_SAMPLER}
    if given.get("sigmas", "edm") not in GRIDS:
        left = {name: value for name, value in left.items() if name not in _LEVELS}
    if left.get("sigmas", "edm") not in GRIDS and any(name in given for name in _LEVELS):
        del left["sigmas"]
    return left | given


def skip_scale(flags: dict[str, Any]) -> SkipScale:
    """The skip coefficients that SKIP_FLAGS describe.

    Raises:
        ValueError: if flags contradict each other, do nothing, or a list or file is not one of numbers.
    """
    given = _skip_flags(flags)
    if "rho_layers" in given and not _is_list(given["rho_layers"]):
        return _scale_of_file(given)
    ends = {"rho_bottom", "rho_top"} & given.keys()
    coefficients = ends | ({"rho_constant", "rho_layers"} & given.keys())
    if len(coefficients) > max(len(ends), 1):
        raise ValueError(
            "give --rho-bottom and --rho-top, or --rho-constant, or --rho-layers: one of these three"
        )
    if given and not coefficients:
        idle = next(iter(given)).replace("_", "-")
        raise ValueError(f"--{idle} does nothing without a coefficient, such as --rho-bottom=0.8")
    if "rho_spacing" in given and not ends:
        raise ValueError("--rho-spacing does nothing without --rho-bottom or --rho-top")
    if "rho_axis" in given and given.get("rho_time", "constant") == "constant":
        raise ValueError("--rho-axis does nothing without --rho-time=increasing or decreasing")

    settings = {
        name.removeprefix("rho_"): value for name, value in given.items() if name != "skip_target"
    }
    if "constant" in settings:
        settings["bottom"] = settings["top"] = settings.pop("constant")
    if "layers" in settings:
        settings["layers"] = _numbers("--rho-layers", settings["layers"])
    if "sigma" in settings:
        settings["window"] = _numbers("--rho-sigma", settings.pop("sigma"))
        if len(settings["window"]) != 2:
            raise ValueError(f"--rho-sigma={flags['rho_sigma']} is not LOW,HIGH")
    return SkipScale(**settings)


def _scale_of_file(given: dict[str, Any]) -> SkipScale:
    """What the file that --rho-layers names says; it leaves nothing to the other flags."""
    file = given["rho_layers"]
    if not Path(file).is_file():
        raise ValueError(
            f"--rho-layers={file} is not a list of numbers such as 0.8,0.9,1, nor a file"
        )
    for name in given:
        if name.startswith("rho_") and name != "rho_layers":
            raise ValueError(f"--rho-layers={file} says all of it; drop --{name.replace('_', '-')}")
    return load_scale(file)


def _is_list(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split(",")])
    except ValueError:
        return False


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}={text} is not a list of numbers such as 0.8,0.9,1") from None
