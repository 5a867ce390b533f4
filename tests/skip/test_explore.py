"""The state of the sliders page as images, a command, Python and a link, which must all be one."""

import json
import math
import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import explore
import generate
from dnnlib.flags import Flags
from programs.explore import work
from skip.explore.compare import Comparer
from skip.explore.sheets import Grid, write_page
from skip.explore.state import State
from skip.options import image_source
from skip.source import ImageSource

STATES = [
    State(),
    State(rho_bottom=0.55, rho_top=0.9, steps=5, seeds="0-3,9"),
    State(sampler="heun", sigma_low=0.3, sigma_high=5.0, class_idx=3, guidance=1.5, seeds="7"),
    State(sigma_high=2.0, rho_bottom=1.0),
    State(rho_bottom=0.123456789, guidance=1.23456789),
    State(network="demo-uncond", labels="random", seeds="4,2"),
]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_command_asks_generate_for_the_same(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = shlex.split(state.command())[1:]
    assert program == "generate.py"
    context = generate.main.make_context("generate.py", [*arguments])
    assert context.params["seeds"] == state.seeds
    found: list[ImageSource] = []

    def keep(*groups: Flags, **_: Any) -> ImageSource:
        found.append(image_source(*groups))
        raise ValueError("enough")

    monkeypatch.setattr("programs.generate.work.image_source", keep)
    outcome = CliRunner().invoke(generate.main, arguments)
    assert "enough" in outcome.output and found == [state.source()]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_snippet_makes_the_same_source(state: State) -> None:
    scope: dict[str, Any] = {}
    setting = state.snippet().partition("(batch,)")[0]
    exec(setting, scope)  # our own text
    assert scope["source"] == state.source()


def test_the_snippet_runs() -> None:
    scope: dict[str, Any] = {}
    state = State(steps=3, seeds="0-1")
    exec(state.snippet(), scope)
    images, _ = Comparer(torch.device("cpu")).tuned(state)
    assert np.array_equal(scope["images"].numpy(), images)


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_link_restores_the_state(state: State) -> None:
    query = dict(parse_qsl(state.query(), keep_blank_values=True))
    assert State.from_query(query, labels=state.labels) == state


def test_the_default_needs_no_query_and_strangers_are_passed_over() -> None:
    assert State().query() == ""
    assert State.from_query({"__theme": "dark"}) == State()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"rho_bottom": "x"}, "rho_bottom=x is no value"),
        ({"rho_bottom": "nan"}, "finite"),
        ({"sampler": "<b>"}, "sampler <b> is unknown"),
        ({"seeds": "0-9999"}, "10000 images; at most 64"),
        ({"seeds": "a"}, "seeds 'a'"),
        ({"steps": "0"}, "steps"),
        ({"sigma_low": "5", "sigma_high": "2"}, "need 0 <= low < high"),
    ],
)
def test_bad_links_say_what_is_wrong(query: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        State.from_query(query)


def test_both_halves_and_their_difference() -> None:
    comparer = Comparer(torch.device("cpu"))
    compared = comparer(State(steps=3, seeds="0-2"))
    assert compared.evaluations == 3 and 0 < compared.changed < 1
    middle = np.asarray(compared.difference)
    gap = np.asarray(compared.tuned).astype(float) - np.asarray(compared.plain)
    inside = np.asarray(compared.plain) != 255  # gaps between images are white everywhere
    assert np.abs(middle - (127.5 + gap / 2))[inside].max() <= 1

    same = comparer(State(steps=3, seeds="0-2", rho_bottom=1.0))
    assert same.changed == 0 and same.plain == compared.plain == same.tuned


def test_the_page_of_sheets(tmp_path: Path) -> None:
    path = tmp_path / "explore.html"
    size = write_page(
        str(path),
        Comparer(torch.device("cpu")),
        [Grid("demo", "clothes", (3, 4), (1.0, 0.7), "0-3")],
    )
    text = path.read_text()
    assert len(text.encode()) == size
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    (grid,) = json.loads(data[1])
    assert grid["rhos"] == ["0.7", "1"] and grid["evaluations"] == [3, 4] and grid["images"] == 4
    pictures = [grid["pictures"][n][rho] for n in ("3", "4") for rho in ("0.7", "1")]
    assert len(set(pictures)) == 4
    assert re.findall(r"""(?:src|href)=["'](?!data:|#|https://arxiv)[^"']+""", text) == []


def test_a_page_of_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "write_page", lambda path, comparer, grids: len(grids))
    asked = work._grids("demo-uncond", Comparer(torch.device("cpu")))
    assert asked == [Grid("demo-uncond", "demo-uncond", labels="random")]
    outcome = CliRunner().invoke(explore.main, ["--page", str(tmp_path / "x.html")])
    assert json.loads(outcome.output)["bytes"] == 2
    outcome = CliRunner().invoke(
        explore.main, ["--network", "nobody", "--page", str(tmp_path / "x.html")]
    )
    assert outcome.exit_code == 2 and "nobody" in outcome.output


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--page x.html --port 5", "--port=5 does nothing with --page"),
        ("--page x.html --port 7860", "--port=7860 does nothing with --page"),
        ("--page x.html --host 0.0.0.0", "--host=0.0.0.0 does nothing with --page"),
        ("--page x.png", "--page=x.png: what is written there is .html or .htm; name a file"),
    ],
)
def test_a_page_is_one_and_needs_no_server(
    flags: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(explore.main, flags.split())
    assert outcome.exit_code == 2 and message in outcome.output
    assert list(tmp_path.iterdir()) == []


def test_without_gradio_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    outcome = CliRunner().invoke(explore.main, [])
    assert outcome.exit_code == 2
    assert outcome.output.startswith("Error: the live page needs the package gradio")


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port={port}.*--port=0"):
            work.check_free("127.0.0.1", port)
    assert math.isinf(State().sigma_high)
