"""Keywords from a file: each is of the type that its constructor asks for, and its text in a message is short."""

import os
from pathlib import Path
from typing import Any

import pytest

from dnnlib.keywords import check_keywords, read_toml, shown
from training.families.table import FAMILIES
from training.precond import EDMPrecond


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"sigma_max": "80"}, "sigma_max is '80'; it must be a number"),
        ({"sigma_max": float("nan")}, "sigma_max is nan"),
        ({"sigma_max": None}, "sigma_max is None"),
        ({"img_resolution": 32.0}, "img_resolution is 32.0; it must be a whole number"),
        ({"img_resolution": True}, "img_resolution is True; it must be a whole number"),
        ({"label_dim": 10**20}, f"label_dim is {10**20}; it must be a whole number"),
        ({"use_fp16": 1}, "use_fp16 is 1; it must be true or false"),
        ({"model_type": 3}, "model_type is 3; it must be a text"),
        (
            {"channel_mult": "12"},
            "channel_mult is '12'; it must be a list, each of it a whole number",
        ),
        ({"channel_mult": [1, "2"]}, "channel_mult is of the type list"),
        ({"model_channels": [1]}, "model_channels is of the type list"),
    ],
)
def test_what_is_of_another_type_is_refused(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        check_keywords(kwargs, EDMPrecond.constructors())
    assert words in str(caught.value)


def test_what_fits_passes() -> None:
    good = {
        "sigma_max": 80,
        "sigma_min": 0.0,
        "img_resolution": 32,
        "channel_mult": [1, 2],
        "use_fp16": False,
    }
    check_keywords(
        good | {"attn_resolutions": (16, 8), "unknown": object()}, EDMPrecond.constructors()
    )


@pytest.mark.parametrize(
    ("family", "kwargs", "words"),
    [
        ("UViTPrecond", {"prediction": "x"}, "prediction is 'x'; it must be one of eps, v"),
        ("UViTPrecond", {"num_timesteps": 1e3}, "num_timesteps is 1000.0"),
        (
            "UViTPrecond",
            {"first_stage": [1]},
            "first_stage is of the type list; it must be a table or absent",
        ),
        ("LDMPrecond", {"num_heads": "1"}, "num_heads is '1'; it must be a whole number or absent"),
        ("EDM2Precond", {"clip_act": "256"}, "clip_act is '256'; it must be a number or absent"),
        ("ConsistencyPrecond", {"channels_per_head": 64.5}, "channels_per_head is 64.5"),
    ],
)
def test_the_keywords_of_every_part_are_known(
    family: str, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        check_keywords(kwargs, FAMILIES[family].constructors())
    assert words in str(caught.value)


def test_a_pipe_or_a_gigantic_file_is_no_toml(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_text(" " * 2_000_000)
    for name, words in (
        ("pipe", "it is a pipe, no file"),
        ("big", "it has more than 1,048,576 bytes"),
    ):
        with pytest.raises(ValueError, match=f"{name} is not valid TOML: {words}"):
            read_toml(tmp_path / name)


def test_a_list_that_unfolds_is_not_unfolded() -> None:
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    assert shown(bomb) == "of the type list" and shown({"a": bomb}) == "of the type dict"
    with pytest.raises(ValueError, match="channel_mult is of the type list"):
        check_keywords({"channel_mult": bomb}, EDMPrecond.constructors())
    assert len(shown("x" * 10**6)) < 60 and len(shown(10**4000)) < 30


class Outer:
    def __init__(self, size: Any, pair: tuple[int, int] = (1, 2), both: int = 1) -> None: ...


class Inner:
    def __init__(self, size: int, both: str = "") -> None: ...


def test_of_several_that_know_a_keyword_the_first_that_says_more_than_any_counts() -> None:
    check_keywords({"size": 3, "both": 3, "pair": [3, 4]}, [Outer, Inner])
    for kwargs in ({"size": "3"}, {"both": "3"}):
        with pytest.raises(ValueError, match="must be a whole number"):
            check_keywords(kwargs, [Outer, Inner])


@pytest.mark.parametrize("pair", [[1], [1, 2, 3], [1, "2"], []])
def test_pairs_are_pairs(pair: list[Any]) -> None:
    with pytest.raises(
        ValueError,
        match="pair is of the type list; it must be a list of 2, each of it a whole number",
    ):
        check_keywords({"pair": pair}, [Outer])
