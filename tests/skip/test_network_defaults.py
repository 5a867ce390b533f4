"""Defaults of a named network: what they say, what overrides them, and --sigma-init."""

from typing import Any

import pytest
from test_options import source

from sampling.settings import SamplerSettings
from skip import options
from skip.flags import AblationFlags, ChurnFlags, LevelFlags, SolverFlags
from skip.options import with_defaults
from training.presets import Preset, load_presets

CD, UVIT = "--network cd-imagenet-64x64-lpips", "--network uvit-h2-imagenet-256"
ONE_STEP = {"sampler": "consistency", "sigmas": "80"}


@pytest.mark.parametrize("preset", load_presets().values(), ids=lambda preset: preset.name)
def test_the_shipped_defaults_are_settings_and_come_into_effect(preset: Preset) -> None:
    defaults = dict(preset.defaults)
    guidance, guide = defaults.pop("guidance", None), defaults.pop("guide", None)
    found = source("--network", preset.name)
    assert found.sampler == SamplerSettings(**defaults)
    assert (found.guidance, found.guide) == (guidance, guide)


@pytest.mark.parametrize(
    "args, settings, guidance",
    [
        (CD, ONE_STEP, None),
        (f"{CD} --sampler consistency", ONE_STEP, None),
        (f"{CD} --no-clip", ONE_STEP | {"clip": False}, None),
        (f"{CD} --sigmas 80,2.5", ONE_STEP | {"sigmas": "80,2.5"}, None),
        (f"{CD} --sigmas logsnr", ONE_STEP | {"sigmas": "logsnr"}, None),
        (f"{CD} --steps 4", {"sampler": "consistency", "steps": 4}, None),
        (f"{CD} --sigma_max 70", {"sampler": "consistency", "sigma_max": 70.0}, None),
        (f"{CD} --rho 5", {"sampler": "consistency", "exponent": 5.0}, None),
        (f"{CD} --sampler heun", {}, None),
        (f"{CD} --solver euler", {"sampler": "ablation", "solver": "euler"}, None),
        (
            f"{CD} --sigma-init 40",
            {"sampler": "consistency", "sigmas": "40.0", "clip": False},
            None,
        ),
        (UVIT, {"sampler": "dpmpp", "steps": 50}, 1.4),
        (f"{UVIT} --guidance 1", {"sampler": "dpmpp", "steps": 50}, 1.0),
        (f"{UVIT} --steps 10 --order 3", {"sampler": "dpmpp", "steps": 10, "order": 3}, 1.4),
        (f"{UVIT} --sigmas 9,3,1", {"sampler": "dpmpp", "sigmas": "9,3,1"}, 1.4),
        (f"{UVIT} --sigmas edm", {"sampler": "dpmpp", "steps": 50, "sigmas": "edm"}, 1.4),
        (f"{UVIT} --sampler unipc", {"sampler": "unipc"}, 1.4),
        ("--network edm2-img64-s --sampler heun", {"steps": 32}, None),
        ("--network edm2-img64-s --sampler euler", {"sampler": "euler"}, None),
        ("--network ./cd-imagenet-64x64-lpips", {}, None),
    ],
)
def test_what_the_user_gives_wins(
    args: str, settings: dict[str, Any], guidance: float | None
) -> None:
    found = source(*args.split())
    assert found.sampler == SamplerSettings(**settings) and found.guidance == guidance


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, {"sampler": "euler", "steps": 9, "sigma_min": 0.1, "sigma_max": 9.0}),
        ({"sampler": "heun"}, {"sampler": "heun", "sigma_min": 0.1, "sigma_max": 9.0}),
        (
            {"sampler": "ablation", "sigma_max": 5.0},
            {"sampler": "ablation", "sigma_min": 0.1, "sigma_max": 5.0},
        ),
        ({"sigmas": "3,1"}, {"sampler": "euler", "sigmas": "3,1"}),
        ({"sampler": "heun", "sigmas": "3,1"}, {"sampler": "heun", "sigmas": "3,1"}),
    ],
)
def test_the_range_belongs_to_the_network_and_the_rest_to_its_sampler(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    defaults = {"sampler": "euler", "steps": 9, "sigma_min": 0.1, "sigma_max": 9.0}
    assert with_defaults(given, defaults) == expected
    assert defaults["steps"] == 9  # untouched


def test_a_default_guide_gives_way() -> None:
    args = ("--network", "edm2-img512-s-autog-fid")
    guide = load_presets()[args[1]].defaults["guide"]
    assert guide.endswith("/edm2-img512-xs-0134217-0.125.pkl")
    assert (source(*args).guidance, source(*args).guide) == (2.1, guide)
    assert source(*args, "--guide", "weak.pkl").guide == "weak.pkl"
    assert source(*args, "--guidance", "1").scale_of_guidance == 1
    own = source(*args, "--guide-rho", "1.1")
    assert (own.guidance, own.guide, own.guide_rho) == (2.1, None, 1.1)


def test_heun_is_the_sampler_of_defaults_that_name_none() -> None:
    assert with_defaults({"sampler": "heun"}, {"steps": 3}) == {"sampler": "heun", "steps": 3}


def test_the_default_guidance_serves_a_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset("a", "MIT", path="a", defaults={"guidance": 1.7})
    monkeypatch.setattr(options, "load_presets", lambda: {"a": preset})
    found = source("--network", "a", "--guide", "weak.pkl")
    assert (found.guidance, found.guide) == (1.7, "weak.pkl") and preset.defaults == {
        "guidance": 1.7
    }
    assert source("--network", "b", "--guidance", "2").guidance == 2.0


# ---- --sigma-init


def test_sigma_init_is_one_unclipped_evaluation() -> None:
    assert source("--sigma-init", "2.5").sampler == SamplerSettings(
        "consistency", sigmas="2.5", clip=False
    )
    assert source("--sigma-init", "1e-05").sampler.nodes(AnyRange()).tolist() == [1e-05]


class AnyRange:
    sigma_min, sigma_max = 0.0, float("inf")

    @staticmethod
    def round_sigma(sigma: Any) -> Any:
        return sigma


VALUES = {"--sampler": "heun", "--variant": "bh2", "--predict": "noise", "--ending": "denoise", "--solver": "heun",
          "--disc": "vp", "--schedule": "vp", "--scaling": "vp", "--sigmas": "edm"}  # fmt: skip


def test_sigma_init_refuses_every_other_flag_of_the_sampler_by_its_name() -> None:
    refused = 0
    for group in (SolverFlags, LevelFlags, ChurnFlags, AblationFlags):
        for (name, _), kind in group.options():
            if name == "--sigma-init":
                continue
            value = [] if kind.get("is_flag") else [VALUES.get(name, "2")]
            with pytest.raises(
                ValueError,
                match=rf"^--sigma-init=2\.5 is one evaluation of the network; drop {name}$",
            ):
                source("--sigma-init", "2.5", name, *value)
            refused += 1
    assert refused > 20


def test_sigma_init_leaves_the_other_flags_alone() -> None:
    found = source("--sigma-init", "80", "--class", "3", "--rho-bottom", "0.5", "--guidance", "2")
    assert (found.class_idx, found.scale.bottom, found.guidance) == (3, 0.5, 2.0)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"stepz": 5}, "there is no setting stepz"),
        ({"steps": "5"}, "steps is '5'; it must be a whole number"),
        ({"guidance": "high"}, "guidance is 'high'; it must be a number"),
    ],
)
def test_defaults_that_are_no_settings_are_refused_by_file_and_network(
    defaults: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Preset(name="mine", licence="none", path="x.pkl", defaults=defaults)
    monkeypatch.setattr(options, "load_presets", lambda: {"mine": entry})
    with pytest.raises(ValueError, match=rf"networks\.toml, the defaults of mine: {message}"):
        source("--network", "mine")
