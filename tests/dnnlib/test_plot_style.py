"""The one style: looks that differ in gray too, room for every word, and no second home of colours or matplotlib."""

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnnlib import colours, plot_style
from dnnlib.words import AXES, WORDS, on_axis, written
from metrics.names import QUANTITIES
from skip.tables.item import Item
from skip.tables.spec import CONFIGS, item_names, load_item

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["programs", "skip", "sampling", "metrics", "training", "torch_utils", "dnnlib"]
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def sources(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Name and text of the files of the programs and packages."""
    for path in [
        *ROOT.glob("*.py"),
        *(one for name in FOLDERS for one in (ROOT / name).rglob("*")),
    ]:
        if path.suffix in suffixes:
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    found = []
    for start in (1, 3, 5):
        part = int(colour[start : start + 2], 16) / 255
        found.append(part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * found[0] + 0.7152 * found[1] + 0.0722 * found[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_one_home() -> None:
    found = {name for name, text in sources(".py", ".css", ".js", ".html") if COLOUR.search(text)}
    # The script knows which of them is black, to draw it in the colour of the page's text.
    assert found == {"dnnlib/colours.py", "skip/tables/show/report/report.js"}
    script = (ROOT / "skip/tables/show/report/report.js").read_text()
    assert set(COLOUR.findall(script)) == {"#000000"} <= set(colours.CURVES)


def test_matplotlib_has_one_home() -> None:
    def names(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                yield str(node.module)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value  # as importlib takes it

    def imports(text: str) -> bool:
        return any(re.match(r"matplotlib(\.\w+)*$", name) for name in names(ast.parse(text)))

    for text in (
        "import matplotlib",
        "from matplotlib.figure import Figure",
        "f('matplotlib.pyplot')",
    ):
        assert imports(text)
    assert {name for name, text in sources(".py") if imports(text)} == {"dnnlib/plot_style.py"}


@pytest.mark.parametrize("theme", [colours.LIGHT, colours.DARK])
def test_text_of_pages_has_contrast(theme: dict[str, str]) -> None:
    pairs = [(text, ground) for text in ("text", "soft", "link") for ground in ("page", "card")]
    pairs += [(name, f"{name}-back") for name in ("seen", "not", "open", "none")]
    assert all(contrast(theme[text], theme[ground]) >= 4.5 for text, ground in pairs)
    assert colours.LIGHT.keys() == colours.DARK.keys()
    assert all(f"--{name}: {colour};" in colours.style_sheet() for name, colour in theme.items())


def test_curves_differ_without_colour() -> None:
    assert len({plot_style.look(number).marker for number in range(8)}) == 8
    assert len({plot_style.look(number) for number in range(56)}) == 56
    assert plot_style.look(0) == ("#0072B2", "o", ())
    assert all(contrast(colour, "#ffffff") > 2 for colour in colours.CURVES)


NOTE = "Error bars: words that are more than one narrow panel can have beneath it, and so they are broken"


@pytest.fixture(params=[1, 2])
def figure(request: pytest.FixtureRequest) -> Any:
    """One panel, or two, of ten curves with long names."""
    pytest.importorskip("matplotlib", reason="of the extra `plot`")
    panels = request.param
    names = [f"guidance {number}, rho rising to 1 from the deepest layer" for number in range(10)]
    made = plot_style.new_figure("A title " * 30, 1, panels, names, NOTE)
    for number in range(1, 1 + panels):
        axes = plot_style.add_panel(made, (1, panels, number), "rho", "FID")
        for place, name in enumerate(names):
            plot_style.draw_curve(
                axes, [0, 1], [place, 2], [0.5, 0.5], plot_style.look(place), name
            )
    plot_style.add_legend(made, NOTE)
    return made


def test_no_word_lies_over_data_or_leaves_the_figure(figure: Any) -> None:
    file = io.BytesIO()
    plot_style.write(figure, file, "png")
    whole = figure.bbox
    (legend,) = figure.legends
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    words = [legend.get_window_extent(), figure._suptitle.get_window_extent()]
    for box in words:
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert not any(box.padded(-2).overlaps(axes) for axes in boxes)  # its margin may
    assert all(axes.bbox.height > 0.6 * plot_style.HEIGHT * figure.dpi for axes in figure.axes)
    assert legend.get_title().get_text().replace("\n", " ") == NOTE
    assert len(legend.get_texts()) == 10, "each curve once"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_figures_make_equal_files_whatever_their_title(kind: str) -> None:
    pytest.importorskip("matplotlib", reason="of the extra `plot`")
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        made = plot_style.new_figure("network /a/$\\frac/b$.safetensors", names=["x_1$^$"])
        axes = plot_style.add_panel(made, (1, 1, 1), "x", "y")
        plot_style.draw_curve(axes, [1, 2], [1, 2], None, plot_style.look(0), "x_1$^$")
        plot_style.add_legend(made)
        plot_style.write(made, file, kind)
    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.parametrize(
    "low, high, some", [(0.17, 0.6, "0.2"), (0.5, 40, "20"), (0.03, 1000, "100")]
)
def test_logarithmic_ticks_are_plain_numbers(low: float, high: float, some: str) -> None:
    pytest.importorskip("matplotlib", reason="of the extra `plot`")
    axes = plot_style.add_panel(plot_style.new_figure("title"), (1, 1, 1), "x", "y")
    plot_style.draw_curve(axes, [0, 1], [low, high], None, plot_style.look(0))
    plot_style.log_scale(axes, "y")
    axes.figure.draw_without_rendering()
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert some in shown and not any("10^" in text for text in shown)


def items() -> list[Item]:
    return [
        load_item(name, profile) for name in item_names(CONFIGS) for profile in ("demo", "paper")
    ]


def test_every_key_that_a_table_or_a_plot_shows_has_words() -> None:
    keys = {"rho_bottom", "rho_top", "nfe", "loss", "fid"}
    for item in items():
        keys |= {name for cell in item.cells for name in cell.varies}
        if item.plot is not None:
            keys |= {item.plot.x, *item.plot.series, *(item.plot.match or {})}
            keys |= {item.plot.split} - {None}
    assert sorted(key for key in keys if key.lower() not in WORDS) == []
    # A symbol of the paper's may have a line below.
    assert {text for text in (*WORDS.values(), *AXES.values()) if "_" in text} == {
        "S_churn", "noise added on the way, S_churn"
    }  # fmt: skip


def test_words_of_keys() -> None:
    assert (written("nfe"), on_axis("nfe")) == ("NFE", "network evaluations (NFE)")
    assert on_axis("rho_bottom") == written("rho_bottom") == "rho of the deepest layer"
    assert (written("S_churn"), written("never_seen")) == ("S_churn", "never seen")
    named = {name: written(name) for name in QUANTITIES if name in WORDS}
    assert named and all(QUANTITIES[name].label == text for name, text in named.items())
