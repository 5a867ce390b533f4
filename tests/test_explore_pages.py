"""Both pages of sliders in a real browser: the picture moves with the slider, and a link restores what was seen."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from in_browser import CONTRAST, chromium, opened

from skip.explore.compare import Comparer
from skip.explore.sheets import Grid, write_page

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("explore") / "explore.html"
    grids = [
        Grid("demo", "clothes", (3, 4), (1.0, 0.7), "0-3"),
        Grid("demo-uncond", "more clothes", (3,), (1.0, 0.8), "0-3", "random"),
    ]
    write_page(str(path), Comparer(torch.device("cpu")), grids)
    return path.as_uri()


def test_the_slider_moves_the_picture(browser: Any, sheets: str) -> None:
    page, errors = opened(browser, sheets)
    tuned = page.locator("#tuned")
    first = tuned.get_attribute("src")
    assert first != page.locator("#plain").get_attribute("src")

    page.locator("#rho").focus()
    page.keyboard.press("ArrowRight")  # to rho 1
    assert tuned.get_attribute("src") == page.locator("#plain").get_attribute("src") != first
    assert "rho 1" in (tuned.get_attribute("alt") or "")

    page.locator("#network").select_option("demo-uncond")
    page.locator("#difference").check()
    assert page.locator("#gap").is_visible()
    assert "network=demo-uncond" in page.url and "difference=1" in page.url
    again, more = opened(browser, page.url)
    assert again.locator("#network").input_value() == "demo-uncond"
    assert again.locator("#tuned").get_attribute("src") == tuned.get_attribute("src")
    assert errors == more == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1100])
def test_it_can_be_read(browser: Any, sheets: str, width: int, dark: bool) -> None:
    page, errors = opened(browser, sheets, width, dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("[...document.images].every((one) => one.alt.length > 10)")
    assert errors == []


UNUSED = (
    "boxes => boxes.map(box => box.clientHeight - box.querySelector('.cm-content').clientHeight)"
)


def test_the_live_page(browser: Any) -> None:
    pytest.importorskip("gradio", reason="needs the extra `explore`: pip install '.[explore]'")
    command = [sys.executable, "explore.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout
            address = re.search(r"http://127\.0\.0\.1:\d+", program.stdout.readline())
            assert address
            page, errors = opened(browser, f"{address[0]}/?rho_bottom=0.6&seeds=0-3&steps=3")
            page.locator(".pair img").first.wait_for(timeout=120_000)
            tuned = page.locator(".pair img").nth(1)
            assert "rho 0.6 to 1" in (tuned.get_attribute("alt") or "")

            before = tuned.get_attribute("src")
            number = page.locator("input[type=number]").first
            number.fill("0.9")
            number.press("Tab")
            waited = time.monotonic() + 60
            while tuned.get_attribute("src") == before and time.monotonic() < waited:
                page.wait_for_timeout(50)
            assert tuned.get_attribute("src") != before
            assert "rho 0.9 to 1" in (tuned.get_attribute("alt") or "")
            link = page.get_by_role("link", name="Link to this state")
            link.wait_for()
            assert "rho_bottom=0.9" in (link.get_attribute("href") or "")
            boxes = page.locator(".to-copy .cm-scroller").evaluate_all(UNUSED)
            assert len(boxes) == 2 and max(boxes) < 4, "pixels of a box below its text"
            assert errors == []
            assert page.evaluate(CONTRAST) == []
            page.emulate_media(color_scheme="dark")
            page.reload()
            page.locator(".pair img").first.wait_for(timeout=120_000)
            assert page.evaluate(CONTRAST) == []
        finally:
            program.terminate()
