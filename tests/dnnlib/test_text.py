"""Text that is not ours."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnnlib.text import printable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("model.weight", "model.weight"),
        ("Füße, 図, naïve — ±", "Füße, 図, naïve — ±"),
        ("two\r\n  lines\tand\u2028a\x0b\x85third", "two lines and a third"),
        ("\x1b[31mred\x07\x00\x9b", r"\x1b[31mred\x07\x00\x9b"),
        ("\u202egnp.exe\u2066\u200b", r"\u202egnp.exe\u2066\u200b"),
        ("\udc80\ud800", r"\udc80\ud800"),
        ("\U000e0041", r"\U000e0041"),
        (b"bytes\x1b", r"b'bytes\x1b'"),
        (ValueError("why\n"), "why"),
    ],
)
def test_one_line_that_a_terminal_shows_as_it_is(text: object, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["a" * 201, "\x1b" * 300, "b" * 10**7, "c " * 1000])
def test_what_is_long_keeps_its_beginning_and_its_end(text: str) -> None:
    shown = printable("first " + text + " last")
    assert len(shown) <= 200
    assert shown.startswith("first ") and " ... " in shown and shown.endswith(" last")


def test_the_length_can_be_chosen() -> None:
    assert printable("a" * 200) == "a" * 200
    assert len(printable("a" * 100, most=20)) == 20


@pytest.mark.parametrize(
    "load",
    [
        lambda path: np.load(path, allow_pickle=False),
        lambda path: torch.load(path, weights_only=True),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>", pickle.dumps(Fraction(1)), b"\x80\x02cposix\nsystem\n."]
)
def test_a_librarys_advice_to_load_unsafely_is_left_out(
    load: Callable[[Path], Any], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((ValueError, pickle.UnpicklingError)) as caught:
        load(tmp_path / "file")
    shown = printable(f"{tmp_path}/file is no npz: {caught.value}", most=1000)
    assert shown
    for advice in (
        "allow_pickle",
        "pickle.load",
        "weights_only",
        "safe_globals",
        "trust",
        "still be loaded",
    ):
        assert advice not in shown


def test_an_objects_array_is_not_advised_for_either() -> None:
    assert printable(ValueError("Object arrays cannot be loaded when allow_pickle=False")) == (
        "it holds objects, which are not loaded"
    )
