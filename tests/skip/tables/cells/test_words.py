"""The words of a cell's settings: whatever SkipScale and SamplerSettings have is one, and results keep their names."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.tables.cells.generated import Images
from skip.tables.cells.network import Norms
from skip.tables.cells.words import build, record_of, values_of, words_of
from skip.tables.item import Cell, Item
from skip.tables.measured import SKIP_SETTINGS, MeasuredItem
from skip.tables.results import Results

PATH = Path("no-such-folder")
SETTINGS: dict[str, Any] = {"network": "net", "detector": "det", "reference": "ref", "seeds": "0-3"}


@pytest.mark.parametrize(
    "words, scale",
    [
        ({}, SkipScale()),
        ({"rho": 0.8}, SkipScale(0.8)),
        ({"rho": 0.8, "across": "constant"}, SkipScale(0.8, 0.8)),
        ({"across": "constant"}, SkipScale()),
        ({"rho": 0.8, "top": 0.9, "spacing": "inclusive"}, SkipScale(0.8, 0.9, "inclusive")),
        ({"layers": [0.7, 0.9]}, SkipScale(layers=(0.7, 0.9))),
        ({"rho": 0.8, "window": [0.5, 2.0]}, SkipScale(0.8, window=(0.5, 2.0))),
        (
            {"rho": 0.8, "time": "increasing", "axis": "sigma", "time_range": [0.1, 9.0]},
            SkipScale(0.8, time="increasing", axis="sigma", sigma_min=0.1, sigma_max=9.0),
        ),
    ],
)
def test_rho_goes_there_and_back(words: dict[str, Any], scale: SkipScale) -> None:
    study = build(Images, SETTINGS | words)
    assert study.scale == scale
    assert record_of(study, defaults=False) == SETTINGS | words
    assert build(Images, record_of(study)) == study


def test_every_option_of_the_scale_and_the_sampler_is_a_word() -> None:
    sampler = {field.name for field in fields(SamplerSettings)}
    scale = {field.name for field in fields(SkipScale)} - {"bottom", "sigma_min", "sigma_max"}
    assert sampler | scale | {"rho", "across", "time_range"} <= words_of(Images).keys()
    assert scale | {"rho", "across", "time_range", "target"} == SKIP_SETTINGS
    assert not {"steps", "sampler", "exponent"} & words_of(Norms).keys(), "it has no sampler"
    assert list(values_of(build(Images, SETTINGS))) == list(words_of(Images))
    lists = {name for name, word in words_of(Images).items() if word.is_list}
    assert lists == {"metrics", "window", "time_range", "layers", "guidance_sigma"}


def test_what_follows_from_other_words_is_no_part_of_a_name() -> None:
    plain = build(Images, SETTINGS | {"rho": 0.8})
    assert build(Images, SETTINGS | {"rho": 0.8, "top": 1.0}) == plain
    assert build(Images, SETTINGS | {"rho": 0.8, "time_range": [0.002, 80.0]}) == plain
    assert record_of(replace(plain, scale=SkipScale(0.8, 0.8)), defaults=False) == SETTINGS | {
        "rho": 0.8,
        "top": 0.8,
    }


def test_listed_coefficients_are_no_baseline() -> None:
    listed = Cell("images", build(Images, SETTINGS | {"layers": [0.7, 0.9]}), {})
    plain = Cell("images", build(Images, SETTINGS), {})
    assert listed.by_name["rho"] is None
    measured = MeasuredItem.read(Item("table2", "T", "S", "demo", (listed, plain)), Results(PATH))
    assert measured.baseline(measured.outcomes[0]) is None


def test_a_top_beside_constant_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"across = constant says what rho is at the top; leave out top = 0.9"
    ):
        build(Images, SETTINGS | {"across": "constant", "top": 0.9})
