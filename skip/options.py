"""What the flags of skip/flags.py mean: images to make, a sampler, skip coefficients."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dnnlib.cli import warn
from dnnlib.keywords import check_keywords
from dnnlib.places import located
from dnnlib.util import is_url
from metrics.references import holds_images
from sampling.levels import NoiseLevels
from sampling.names import GRIDS
from sampling.settings import SamplerSettings
from skip.flags import ChurnFlags, LevelFlags, SamplingFlags, SkipFlags
from skip.methods.table import parse_methods
from skip.scale import SkipScale
from skip.scale_file import Skips, load_skips
from skip.source import ImageSource
from training.presets import NETWORKS_TOML, load_presets

USUAL = (0, 2)  # skip coefficients: at 0 the skip is cut
# What a list of noise levels leaves no choice of.
_LEVELS = [field.name for field in fields(NoiseLevels) if field.name != "grid"]
_GUIDED = ("guidance", "guide")  # defaults that are no settings of the sampler
_OF_EVERY_SAMPLER = ("sigma_min", "sigma_max")


def image_source(sampling: SamplingFlags, skip: SkipFlags | None = None) -> ImageSource:
    """The images that the flags describe.

    What the flags leave open is as the network's entry in configs/networks.toml says, where it has a name and the entry
    has defaults; see `with_defaults`.

    Args:
        sampling: the network and the sampler.
        skip: the skip coefficients; None where a program has no flags of them.
    Raises:
        ValueError: if flags contradict each other.
    """
    asked = sampling.network
    if asked.class_idx is not None and asked.labels is not None:
        raise ValueError("--class and --labels both choose the classes; give one of them")
    _check_exponent(sampling.levels, skip)
    tuned = SkipFlags() if skip is None else skip
    scale, method = skips(tuned)
    warn_beyond(scale.layers or (scale.bottom, scale.top))

    given = asked.given()
    if asked.guidance_sigma is not None:
        given["guidance_sigma"] = _pair("--guidance-sigma", asked.guidance_sigma)

    defaults, guided = network_defaults(asked.network)
    if asked.guide_rho is not None:
        guided.pop("guide", None)  # then the network guides itself
    settings = with_defaults(sampler_settings(sampling), defaults)
    _check_churn(sampling.churn, settings)
    return ImageSource(
        sampler=SamplerSettings(**settings),
        scale=scale,
        skip_target=tuned.target or "full",
        skip_method=method,
        **(guided | given),
    )


def _check_exponent(levels: LevelFlags, skip: SkipFlags | None) -> None:
    """Refuse an exponent that looks like a skip coefficient: its steps are so uneven that noise comes out."""
    exponent = levels.exponent
    if exponent is None or exponent > 1 or (skip is not None and skip.given()):
        return
    meant = "(--rho-bottom of generate.py) is what this command searches: see --bottom"
    if skip is not None:
        meant = (
            f"is --rho-bottom={exponent:g} (and with --rho-bottom=1 the exponent is taken as it is)"
        )
    raise ValueError(
        f"--rho={exponent:g} is EDM's time step exponent, 7 by default; the skip coefficient {meant}"
    )


def _check_churn(churn: ChurnFlags, settings: dict[str, Any]) -> None:
    """Refuse where and how churn adds its noise if there is none; --S_churn=0, of a row of runs, is one."""
    if settings.get("sampler", "heun") not in ("heun", "ablation") or "S_churn" in settings:
        return
    for name in ("S_min", "S_max", "S_noise"):
        if getattr(churn, name) is not None:
            raise ValueError(
                f"{churn.typed(name)}={getattr(churn, name):g} does nothing without --S_churn"
            )


def warn_beyond(rhos: Iterable[float]) -> None:
    """Say on stderr that skip coefficients are outside USUAL: more likely a slip of the keyboard than meant."""
    low, high = USUAL
    for rho in rhos:
        if not low <= rho <= high:
            warn(
                f"a skip coefficient of {rho:g} is asked for; useful ones are near 1, all known ones in [{low}, {high}]"
            )
            return


def check_reference(ref: str | None, takes_images: bool = True) -> None:
    """Refuse images where statistics are meant.

    Args:
        ref: what --ref names.
        takes_images: whether the program has --ref-images too.
    Raises:
        ValueError: naming what takes them.
    """
    if ref is not None and not is_url(ref) and holds_images(located(ref)):
        instead = "give it as --ref-images, or " if takes_images else ""
        raise ValueError(
            f"--ref={ref} holds images, not their statistics: {instead}make the statistics with fid.py ref"
        )


def network_defaults(network: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a network's entry in configs/networks.toml says of its sampling: fields of SamplerSettings, and of guidance.

    Raises:
        ValueError: if it is no such setting, or of another type.
    """
    preset = load_presets().get(network)
    defaults = dict(preset.defaults) if preset else {}
    guided = {name: defaults.pop(name) for name in _GUIDED if name in defaults}
    try:
        unknown = sorted(defaults.keys() - {field.name for field in fields(SamplerSettings)})
        if unknown:
            raise ValueError(f"there is no setting {', '.join(unknown)}")
        check_keywords(defaults | guided, [SamplerSettings, ImageSource])
    except ValueError as error:
        raise ValueError(f"{NETWORKS_TOML}, the defaults of {network}: {error}") from error
    return defaults, guided


def sampler_settings(sampling: SamplingFlags) -> dict[str, Any]:
    """The fields of SamplerSettings that the flags choose.

    Raises:
        ValueError: if flags contradict each other.
    """
    solver, levels, ablation = sampling.solver, sampling.levels, sampling.ablation
    if levels.sigma_init is not None:
        return _one_step(sampling, levels.sigma_init)
    given = solver.given() | levels.given() | sampling.churn.given() | ablation.given()

    chosen = [ablation.typed(name) for name in ablation.given()]
    if chosen and solver.sampler is not None:
        raise ValueError(
            f"{chosen[0]} selects EDM's ablation sampler; drop it, or --sampler={solver.sampler}"
        )
    if chosen:
        given["sampler"] = "ablation"

    if ablation.disc is not None and levels.sigmas is not None:
        raise ValueError("--disc and --sigmas both name the noise levels; give one of them")
    if ablation.disc is not None:
        given["sigmas"] = given.pop("disc")
    return given


def _one_step(sampling: SamplingFlags, sigma_init: float) -> dict[str, Any]:
    """The fields of SamplerSettings for --sigma-init, which says all of them."""
    levels = replace(sampling.levels, sigma_init=None)
    for group in (sampling.solver, levels, sampling.churn, sampling.ablation):
        for name in group.given():
            raise ValueError(
                f"--sigma-init={sigma_init:g} is one evaluation of the network; drop {group.typed(name)}"
            )
    return {"sampler": "consistency", "sigmas": str(sigma_init), "clip": False}


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


def skips(skip: SkipFlags) -> Skips:
    """The skip coefficients, and what else acts on the skips, that the flags describe.

    Raises:
        ValueError: if flags contradict each other, do nothing, or a list or file is not one of numbers.
    """
    if skip.layers is not None and not _is_list(skip.layers):
        return _skips_of_file(skip, skip.layers)
    given = skip.given()
    _check_effect(skip, given)

    for name in ("target", "method"):  # no matter of the coefficients
        given.pop(name, None)
    if skip.constant is not None:
        given["bottom"] = given["top"] = given.pop("constant")
    if skip.layers is not None:
        given["layers"] = _numbers("--rho-layers", skip.layers)
    if skip.window is not None:
        given["window"] = _pair("--rho-sigma", skip.window)
    return Skips(SkipScale(**given), skip.method)


def _check_effect(skip: SkipFlags, given: dict[str, Any]) -> None:
    """Refuse coefficients that are said in two ways, and flags that would do nothing."""
    ends = {"bottom", "top"} & given.keys()
    coefficients = ends | ({"constant", "layers"} & given.keys())
    if len(coefficients) > max(len(ends), 1):
        raise ValueError(
            "give --rho-bottom and --rho-top, or --rho-constant, or --rho-layers: one of these three"
        )
    # Another method needs no coefficient; when it acts, the flags of time and window say.
    acts = any(not method.is_identity for method in parse_methods(skip.method))
    about_method = {"time", "axis", "window"} if acts else set()
    idle_without = [name for name in given if name not in about_method | {"method"}]
    if idle_without and not coefficients:
        idle = skip.typed(idle_without[0])
        raise ValueError(f"{idle} does nothing without a coefficient, such as --rho-bottom=0.8")
    if skip.spacing is not None and not ends:
        raise ValueError("--rho-spacing does nothing without --rho-bottom or --rho-top")
    if skip.axis is not None and skip.time in (None, "constant"):
        raise ValueError("--rho-axis does nothing without --rho-time=increasing or decreasing")


def _skips_of_file(skip: SkipFlags, file: str) -> Skips:
    """What the file that --rho-layers names says; it leaves nothing to the other flags of coefficients.

    A method that it lacks may be given beside it.
    """
    if not Path(file).is_file():
        raise ValueError(
            f"--rho-layers={file} is not a list of numbers such as 0.8,0.9,1, nor a file"
        )
    for name in replace(skip, layers=None, target=None, method=None).given():
        raise ValueError(f"--rho-layers={file} says all of it; drop {skip.typed(name)}")

    scale, method = load_skips(file)
    if skip.method is None or method is None:
        return Skips(scale, method or skip.method)
    if parse_methods(skip.method) != parse_methods(method):
        raise ValueError(
            f"--rho-layers={file} says --skip-method {method}; drop --skip-method={skip.method}"
        )
    return Skips(scale, method)


def _is_list(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split(",")])
    except ValueError:
        return False


def _pair(flag: str, text: str) -> tuple[float, float]:
    numbers = _numbers(flag, text)
    if len(numbers) != 2:
        raise ValueError(f"{flag}={text} is not LOW,HIGH")
    return numbers[0], numbers[1]


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}={text} is not a list of numbers such as 0.8,0.9,1") from None
