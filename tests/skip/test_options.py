"""Flags: EDM's are all there, each reaches its setting, and none is silently ignored."""

from dataclasses import fields
from importlib import import_module
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dnnlib.flags import add_flags
from sampling.settings import SamplerSettings
from skip.flags import (
    AblationFlags,
    ChurnFlags,
    LevelFlags,
    NetworkFlags,
    SamplingFlags,
    SkipFlags,
    SolverFlags,
)
from skip.options import image_source, warn_beyond
from skip.scale import SkipScale
from skip.source import ImageSource


@click.command()
@add_flags(SamplingFlags, SkipFlags)
def program(sampling: SamplingFlags, skip: SkipFlags) -> ImageSource:
    return image_source(sampling, skip)


def source(*args: str) -> ImageSource:
    """What a program with these flags would sample."""

    result = CliRunner().invoke(program, args, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value


def names(*kinds: Any) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


@pytest.mark.parametrize(
    ("groups", "settings", "further", "without_a_flag"),
    [
        ((SolverFlags, LevelFlags, ChurnFlags, AblationFlags), SamplerSettings, {"sigma_init", "disc"}, {"alpha"}),
        ((NetworkFlags,), ImageSource, set(), {"sampler", "scale", "skip_target", "skip_method"}),
        ((SkipFlags,), SkipScale, {"constant", "target", "method"}, {"sigma_min", "sigma_max"}),
    ],
)  # fmt: skip
def test_the_flag_of_a_setting_has_its_name(
    groups: tuple[Any, ...], settings: Any, further: set[str], without_a_flag: set[str]
) -> None:
    assert names(*groups) - names(settings) == further
    assert names(settings) - names(*groups) == without_a_flag


def test_no_flags_are_the_demo_network_and_edms_sampler() -> None:
    assert source() == ImageSource("demo", SamplerSettings("heun"), SkipScale())


@pytest.mark.parametrize(
    "args, settings",
    [
        ("--steps 7", {"steps": 7}),
        ("--sigma_min 0.01 --sigma_max 50 --rho 5", {"sigma_min": 0.01, "sigma_max": 50.0, "exponent": 5.0}),
        ("--S_churn 3 --S_min 1 --S_max 9 --S_noise 2", {"S_churn": 3.0, "S_min": 1.0, "S_max": 9.0, "S_noise": 2.0}),
        ("--solver euler", {"sampler": "ablation", "solver": "euler"}),
        ("--disc iddpm", {"sampler": "ablation", "sigmas": "iddpm"}),
        ("--schedule ve --scaling vp", {"sampler": "ablation", "schedule": "ve", "scaling": "vp"}),
        ("--solver heun --sigmas 80,10,1", {"sampler": "ablation", "solver": "heun", "sigmas": "80,10,1"}),
        ("--sampler euler --sigmas ve --ending denoise", {"sampler": "euler", "sigmas": "ve", "ending": "denoise"}),
        ("--sampler unipc --order 2 --variant bh2 --predict noise --exact --thresholding --no-lower-order-final",
         {"sampler": "unipc", "order": 2, "variant": "bh2", "predict": "noise", "exact": True, "thresholding": True,
          "lower_order_final": False}),
        ("--sampler deis --variant rhoab", {"sampler": "deis", "variant": "rhoab"}),
        ("--sampler euler_a --eta 0.5 --S_noise 1.01", {"sampler": "euler_a", "eta": 0.5, "S_noise": 1.01}),
        ("--sampler sa_solver --tau 0.8 --S_min 0.05 --S_max 50 --order 2 --corrector-order 0",
         {"sampler": "sa_solver", "tau": 0.8, "S_min": 0.05, "S_max": 50.0, "order": 2, "corrector_order": 0}),
    ],
)  # fmt: skip
def test_sampling_flags_reach_the_sampler(args: str, settings: dict[str, Any]) -> None:
    assert source(*args.split()).sampler == SamplerSettings(**settings)


@pytest.mark.parametrize(
    "args, settings",
    [
        ("--rho-bottom 0.8", {"bottom": 0.8}),
        ("--rho-top 0.9", {"top": 0.9}),
        ("--rho-bottom 0.8 --rho-top 1.1 --rho-spacing inclusive", {"bottom": 0.8, "top": 1.1, "spacing": "inclusive"}),
        ("--rho-constant 0.7", {"bottom": 0.7, "top": 0.7}),
        ("--rho-layers 0.5,1,0", {"layers": (0.5, 1.0, 0.0)}),
        ("--rho-top 0 --rho-time increasing --rho-axis sigma", {"top": 0.0, "time": "increasing", "axis": "sigma"}),
        ("--rho-top 0 --rho-time decreasing --rho-axis time", {"top": 0.0, "time": "decreasing", "axis": "time"}),
        ("--rho-bottom 0.8 --rho-sigma 0.1,inf", {"bottom": 0.8, "window": (0.1, float("inf"))}),
        ("--rho-bottom 1 --rho-sigma 0.1,2", {"window": (0.1, 2.0)}),
        ("--skip-method freeu:b1=1.1 --rho-sigma 0.1,2", {"window": (0.1, 2.0)}),
        ("--skip-method freeu:b1=1.1 --rho-time decreasing", {"time": "decreasing"}),
    ],
)  # fmt: skip
def test_skip_flags_reach_the_scale(args: str, settings: dict[str, Any]) -> None:
    assert source(*args.split()).scale == SkipScale(**settings)


def test_the_other_flags_reach_the_source() -> None:
    args = "--network x.pkl --class 3 --dtype bfloat16 --noise-device cpu --rho-bottom 0.5 --skip-target shortcut"
    assert source("--skip-method", "freeu:b1=1.1").skip_method == "freeu:b1=1.1"
    found = source(*args.split())
    assert (found.network, found.class_idx, found.dtype, found.noise_device) == (
        "x.pkl",
        3,
        "bfloat16",
        "cpu",
    )
    assert (found.skip_target, found.labels) == ("shortcut", "random")
    assert source("--labels", "balanced").labels == "balanced"


@pytest.mark.parametrize(
    "args, message",
    [
        (
            "--sampler heun --solver euler",
            "--solver selects EDM's ablation sampler; drop it, or --sampler=heun",
        ),
        ("--sampler unipc --disc vp", "--disc selects EDM's ablation sampler"),
        ("--disc vp --sigmas vp", "--disc and --sigmas both name the noise levels"),
        ("--class 1 --labels random", "--class and --labels both choose the classes"),
        ("--rho-constant 0.5 --rho-top 1", "one of these three"),
        ("--rho-layers 0.5,1 --rho-bottom 1", "one of these three"),
        ("--rho-time increasing", "--rho-time does nothing without a coefficient"),
        ("--rho-sigma 1,2", "--rho-sigma does nothing without a coefficient"),
        ("--S_min 0.05", "--S_min=0.05 does nothing without --S_churn"),
        ("--solver heun --S_noise 1.1", "--S_noise=1.1 does nothing without --S_churn"),
        ("--skip-target shortcut", "--skip-target does nothing without a coefficient"),
        ("--skip-target shortcut --skip-method freeu:b1=2", "--skip-target does nothing without"),
        ("--skip-method freeu:b1=1 --rho-sigma 0.1,10", "--rho-sigma does nothing without a coeff"),
        ("--skip-method freeu:b1=1 --rho-time increasing", "--rho-time does nothing without a co"),
        ("--skip-method freeu:b1", "'b1' is no parameter of freeu"),
        (
            "--skip-method freeu:b1=1.1 --rho-axis sigma",
            "--rho-axis does nothing without --rho-time",
        ),
        (
            "--rho-layers 1,1 --rho-spacing paper",
            "--rho-spacing does nothing without --rho-bottom or --rho-top",
        ),
        ("--rho-bottom 0.5 --rho-axis sigma", "--rho-axis does nothing without --rho-time"),
        ("--rho-bottom 0.5 --rho-sigma 1", "--rho-sigma=1 is not LOW,HIGH"),
        ("--rho-bottom 0.5 --rho-sigma 2,1", "the sigma window is 2.0 to 1.0"),
        ("--rho-layers 0.5,,1", "--rho-layers=0.5,,1 is not a list of numbers"),
        ("--rho-layers nan,1", "a skip coefficient is nan"),
        ("--sigmas=", "or name a grid"),
    ],
)
def test_contradictions_and_flags_without_effect_are_refused(args: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source(*args.split())


@pytest.mark.parametrize(
    "args",
    ["--class -1", "--sigma_min 0", "--S_churn -1", "--order 0", "--solver rk4", "--steps x"],
)
def test_values_out_of_range_are_usage_errors(args: str) -> None:
    with pytest.raises(click.UsageError):
        source(*args.split())


@pytest.mark.parametrize("exponent", ["0.8", "1", "1e-9"])
def test_an_exponent_that_looks_like_a_skip_coefficient_is_refused(exponent: str) -> None:
    with pytest.raises(ValueError, match=rf"the skip coefficient is --rho-bottom={exponent[:3]}"):
        source("--rho", exponent)
    assert source("--rho", exponent, "--rho-bottom", "1").sampler.exponent == float(exponent)
    assert source("--rho", "1.01").sampler.exponent == 1.01


@pytest.mark.parametrize(
    "module, args",
    [
        ("generate", ["--outdir", "nowhere"]),
        ("fid", ["gen", "--metrics", "is", "--detector", "demo"]),
        ("tables", ["tune", "--out", "nowhere", "--reference", "nowhere.npz"]),
    ],
)
def test_every_program_that_samples_refuses_it(module: str, args: list[str]) -> None:
    result = CliRunner().invoke(import_module(module).main, [*args, "--rho", "0.8"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert (
        "--rho=0.8 is EDM's time step exponent" in result.stderr and "--rho-bottom" in result.stderr
    )


@pytest.mark.parametrize(
    "args", ["--rho-bottom 7", "--rho-top -0.1", "--rho-constant 2.1", "--rho-layers 1,2.5,1"]
)
def test_unusual_coefficients_are_warned_of(args: str, capsys: pytest.CaptureFixture[str]) -> None:
    warn_beyond([0.0, 1.3, 2.0])
    assert capsys.readouterr().err == ""
    told = CliRunner().invoke(program, args.split()).stderr
    assert told.startswith("Warning: a skip coefficient of ") and told.count("\n") == 1
