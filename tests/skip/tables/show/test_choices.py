"""The line that says what cells share: every open choice, default or not."""

from pathlib import Path

import pytest
from small_items import Desk

from skip.tables.show.choices import made_of
from skip.tables.spec import load_item


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_defaults_that_the_paper_leaves_open_are_named(desk: Desk) -> None:
    item = desk.item(desk.images(rho=1.0), desk.images(rho=0.8))
    assert made_of(item) == (
        "Network net, detector det, reference ref; 4 images a cell (seeds 0-3). In every cell: sampler unipc, across "
        "bottom-to-one, spacing paper, labels random. Solvers: unipc: order 3, variant bh1, thresholding no, sigmas "
        "logsnr, ending zero."
    )


def test_what_varies_is_left_to_its_column_and_rho_1_has_no_layers(desk: Desk) -> None:
    item = desk.item(
        *(desk.images(sampler=s, order=o) for s, o in (("unipc", 2), ("unipc", 3), ("heun", None)))
    )
    text = made_of(item)
    assert "across" not in text and "sampler unipc" not in text
    assert text.endswith(
        "Solvers: unipc: variant bh1, thresholding no, sigmas logsnr, ending zero; heun: sigmas edm, ending zero."
    )


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        ("table8", "demo", "In every cell: spacing paper, input data."),
        ("table13", "demo", "Solvers: heun: sigmas edm."),
        ("table14", "paper", "weighting edm"),
        ("table10", "paper", "heun: sigmas edm, ending zero; dpmpp: thresholding no, ending zero"),
        ("figure2", "demo", "input noise"),
    ],
)
def test_our_items_name_theirs(name: str, profile: str, words: str) -> None:
    assert words in made_of(load_item(name, profile))
