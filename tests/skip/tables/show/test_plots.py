"""Pictures of hand-made results: what is drawn, and the same bytes every time."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_items import Desk

from skip.evidence.estimate import Estimate
from skip.tables.item import Plot, Published
from skip.tables.show.plots import plot, save

RHO = Plot("rho", ("fid",), ("steps",), xlabel="rho of the deepest layer", ylabel="FID")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def drawn(axes: Any) -> dict[str, tuple[list[Any], list[float]]]:
    """Legend -> x and y of each curve."""
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    return {
        name: (list(line.get_xdata()), list(line.get_ydata()))
        for name, line in zip(labels, lines, strict=True)
    }


def test_a_curve_for_each_series_with_error_bars(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.5), 0.8: Estimate(4.0, 0.25)}, steps=9)
    cells += desk.sweep({1.0: 7.0, 0.9: 6.5}, steps=5)
    axes, relative = plot(
        desk.read(desk.item(*cells, desk.images(rho=0.5, steps=5), plot=RHO))
    ).axes
    assert drawn(axes) == {"9 steps": ([0.8, 1.0], [4.0, 6.0]), "5 steps": ([0.9, 1.0], [6.5, 7.0])}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rho of the deepest layer", "demo FID")
    bars = axes.containers[0].lines[2][0].get_segments()
    assert [[float(end[1]) for end in bar] for bar in bars] == [[3.75, 4.25], [5.5, 6.5]]
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["9 steps", "5 steps"]
    assert legend.get_title().get_text().startswith("Error bars: ± one standard error")
    assert axes.get_legend() is None, "a legend inside may lie over data"
    assert axes.figure.get_suptitle() == "Table 2: Few steps (network net)"
    assert drawn(relative) == {
        "9 steps": ([0.8, 1.0], [4 / 6, 1.0]),
        "5 steps": ([0.9, 1.0], [6.5 / 7, 1.0]),
    }
    assert relative.get_ylabel() == "demo FID, relative to rho 1"


def test_the_papers_values_and_name(desk: Desk) -> None:
    cell = desk.images((Published("fid", 5.88, "Figure 15"),), rho=1.0)
    desk.save(cell, fid=6.0)
    (axes,) = plot(desk.read(desk.item(cell, profile="paper", plot=replace(RHO, series=())))).axes
    assert axes.get_ylabel() == "FID" and drawn(axes) == {"paper": ([1.0], [5.88])}


def test_several_metrics_and_logarithms(desk: Desk) -> None:
    cells = [desk.images(steps=steps) for steps in (9, 5)]
    for cell in cells:
        desk.save(cell, fid=6.0, gradient_norm=2.0)
    (axes,) = plot(
        desk.read(desk.item(*cells, plot=Plot("nfe", ("fid", "gradient_norm"), logx=True)))
    ).axes
    assert drawn(axes) == {"FID": ([5, 9], [6.0, 6.0]), "gradient norm": ([5, 9], [2.0, 2.0])}
    assert (axes.get_xlabel(), axes.get_xscale(), axes.get_yscale()) == (
        "network evaluations (NFE)",
        "log",
        "linear",
    )


def test_words_along_x_keep_their_order(desk: Desk) -> None:
    cells = [desk.images(time=time) for time in ("increasing", "constant")]
    for cell in cells:
        desk.save(cell, fid=6.0)
    (axes,) = plot(desk.read(desk.item(*cells, plot=Plot("time", ("fid",))))).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["increasing", "constant"]


def test_along_an_index(desk: Desk) -> None:
    cells = [desk.norms(sigma=80.0), desk.norms(sigma=1.0)]
    desk.save(cells[0], **{"ratio": 9.0, "ratio[0]": 0.25, "ratio[1]": 0.75})
    desk.save(cells[1], **{"ratio[0]": 0.5, "other[1]": 1.0})
    (axes,) = plot(desk.read(desk.item(*cells, plot=Plot("index", ("ratio",))))).axes
    assert drawn(axes) == {"sigma 80": ([0, 1], [0.25, 0.75]), "sigma 1": ([0], [0.5])}


def test_panels_of_further_values(desk: Desk) -> None:
    cells = [desk.norms(sigma=80.0), desk.norms(sigma=1.0)]
    for cell, ratio in zip(cells, (0.25, 0.5), strict=True):
        desk.save(cell, **{"ratio[0]": ratio, "weight_u[0]": 3.0, "weight_d[0]": 1.5})
    how = Plot("index", ("ratio",), ylabel="strength", beside=("weight_u, weight_d",))
    first, second = plot(desk.read(desk.item(*cells, plot=how))).axes
    assert first.get_ylabel() == "strength"
    assert drawn(first) == {"sigma 80": ([0], [0.25]), "sigma 1": ([0], [0.5])}
    assert second.get_ylabel() == "norm of weights on u, norm of weights on d"
    assert drawn(second) == {
        "norm of weights on u": ([0], [3]),
        "norm of weights on d": ([0], [1.5]),
    }, "once, as no setting changes them"


def test_panels_of_a_setting_and_cells_that_are_not_drawn(desk: Desk) -> None:
    cells = []
    for input, sigma in (("noise", 80.0), ("noise", 1.0), ("data", 1.0), ("data", 0.5)):
        cells.append(desk.norms(input=input, sigma=sigma, data="ref"))
        desk.save(cells[-1], **{"ratio[0]": sigma})
    how = Plot("index", ("ratio",), ("sigma",), split="input")
    figure = plot(desk.read(desk.item(*cells, plot=how)))
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("pure noise", "noisy images")
    assert drawn(right) == {"sigma 1": ([0], [1]), "sigma 0.5": ([0], [0.5])}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sigma 80", "sigma 1", "sigma 0.5"]
    looks = [
        {line.get_label(): line.lines[0].get_color() for line in axes.containers}
        for axes in (left, right)
    ]
    assert looks[0]["sigma 1"] == looks[1]["sigma 1"] != looks[0]["sigma 80"]

    (axes,) = plot(
        desk.read(desk.item(*cells, plot=replace(how, match={"sigma": 1.0, "input": "data"})))
    ).axes
    assert drawn(axes) == {"sigma 1": ([0], [1])}


def test_each_panel_of_a_setting_has_one_relative_to_rho_1(desk: Desk) -> None:
    cells = [*desk.sweep({1.0: 6.0, 0.8: 3.0}, steps=9), *desk.sweep({1.0: 8.0, 0.8: 6.0}, steps=5)]
    how = replace(RHO, series=(), split="steps")
    axes = plot(desk.read(desk.item(*cells, plot=how))).axes
    assert [one.get_title() for one in axes] == ["9 steps", "9 steps", "5 steps", "5 steps"]
    curves = [list(one.containers[0].lines[0].get_ydata()) for one in axes]
    assert curves == [[3, 6], [0.5, 1], [6, 8], [0.75, 1]]

    scales = [
        one.get_yscale()
        for one in plot(desk.read(desk.item(*cells, plot=replace(how, logy=True)))).axes
    ]
    assert scales == ["log", "linear", "log", "linear"], "multiples are near 1"


def test_methods_on_the_skips_are_named_by_themselves(desk: Desk) -> None:
    methods = (None, "freeu:s1=0.5")
    cells = [desk.images(rho=rho, skip_method=name) for rho in (1.0, 0.8) for name in methods]
    for cell in cells:
        desk.save(cell, fid=5.0)
    how = Plot("nfe", ("fid",), ("method",))
    (axes,) = plot(desk.read(desk.item(*cells, plot=how))).axes
    assert list(drawn(axes)) == ["plain", "FreeU", "Skip-Tuning", "Skip-Tuning + FreeU"]


def test_two_cells_at_one_place(desk: Desk) -> None:
    cells = desk.sweep({1.0: 6.0}, steps=9) + desk.sweep({1.0: 7.0}, steps=5)
    with pytest.raises(ValueError, match="two cells at one rho"):
        plot(desk.read(desk.item(*cells, plot=replace(RHO, series=()))))


def test_nothing_to_draw(desk: Desk) -> None:
    measured = desk.sweep({1.0: 6.0})
    for item in (
        desk.item(desk.images(rho=0.5), plot=RHO),
        desk.item(*measured),
        desk.item(*measured, plot=Plot("rho", ("recall",))),
    ):
        assert plot(desk.read(item)) is None and save(desk.read(item), Path("out")) == []
    assert not Path("out").exists()


def test_files_are_the_same_every_time(desk: Desk) -> None:
    item = desk.item(*desk.sweep({1.0: 6.0, 0.9: 5.5}, steps=9), plot=RHO)
    paths = save(desk.read(item), Path("a"))
    again = save(desk.read(item), Path("b"))
    assert (
        [path.name for path in paths]
        == ["table2.png", "table2.svg"]
        == [path.name for path in again]
    )
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert b"dc:date" not in paths[1].read_bytes()
    assert Image.open(paths[0]).width == 1560


def test_without_matplotlib(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    item = desk.item(*desk.sweep({1.0: 6.0}), plot=replace(RHO, series=()))
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match=r"pip install '\.\[plot\]'"):
        plot(desk.read(item))
