"""Markdown, CSV and JSON of hand-made results, word for word."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_items import Desk

from skip.evidence.claim import Claim
from skip.evidence.estimate import Estimate
from skip.tables.item import Published, Quoted
from skip.tables.show.labels import heading
from skip.tables.show.markdown import command
from skip.tables.show.render import FORMATS, as_csv, as_json, markdown

LOWER = Claim(
    "FID is lower with rho < 1 than with rho = 1", "lower", "fid", "rho", for_each="sampler, steps"
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def blocks(value: float, spread: float) -> Estimate:
    """With the error spread, and blocks that go up and down around the value by as much."""
    return Estimate(value, spread, (value - spread, value + spread))


def test_a_table_word_for_word(desk: Desk) -> None:
    cells = desk.sweep({1.0: blocks(6.0, 0.2), 0.9: blocks(5.5, 0.1)}, steps=9)
    cells += [desk.images(rho=0.8, steps=9), desk.images(rho=0.7, steps=9, labels="balanced")]
    cells = [replace(c, varies={"steps": 9, "rho": c.varies["rho"]}) for c in cells]
    text = markdown([desk.read(desk.item(*cells, notes=("UniPC is inferred.",), claims=(LOWER,)))])
    assert text == (
        "## Table 2: Few steps\n"
        "\n"
        "In the paper: Table 2, section 3.\n"
        "\n"
        "```bash\n"
        "python tables.py run table2\n"
        "```\n"
        "\n"
        "Network net, detector det, reference ref; 4 images a cell (seeds 0-3). In every cell: sampler unipc, across "
        "bottom-to-one, spacing paper, labels random. Solvers: unipc: order 3, variant bh1, thresholding no, sigmas "
        "logsnr, ending zero.\n"
        "\n"
        "- UniPC is inferred.\n"
        "\n"
        "| steps | rho | NFE | demo FID | difference from rho 1 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| 9 | 1 | 9 | 6.0 ± 0.2 |  |\n"
        "| 9 | 0.9 | 9 | 5.50 ± 0.10 | -0.50 ± 0.10 |\n"
        "| 9 | 0.8 | 9 | to do |  |\n"
        "| 9 | 0.7 | 9 | to do |  |\n"
        "\n"
        "Best rho, between the points of the grid:\n"
        "\n"
        "- 9 steps: not yet measured\n"
        "\n"
        "What the paper says of it:\n"
        "\n"
        "1. Not yet measured: demo FID is lower with rho < 1 than with rho = 1 (cells to do: 2 of 4).\n"
    )


def test_the_difference_is_paired_and_only_what_has_no_effect_at_rho_1_may_differ(
    desk: Desk,
) -> None:
    cells = desk.sweep({1.0: blocks(6.0, 0.2)}, steps=9)
    cells += desk.sweep({0.9: blocks(5.0, 0.2)}, steps=9, time="increasing", target="shortcut")
    cells += desk.sweep({0.8: blocks(5.0, 0.2)}, steps=5)
    rows = [
        line
        for line in markdown([desk.read(desk.item(*cells))]).splitlines()
        if "| 5.0 ± 0.2" in line
    ]
    assert rows[0].endswith("| -1 |")  # equal blocks: no noise is left
    assert rows[1].endswith("|  |")
    heun = replace(desk.images(sampler="heun"), varies={})
    assert (
        "In every cell: sampler heun, labels random. Solvers: heun: sigmas edm, ending zero.\n"
        in markdown([desk.read(desk.item(heun))])
    )


def test_a_stale_cell_is_not_shown(desk: Desk) -> None:
    cells = desk.sweep({1.0: 6.0, 0.9: 5.5}, steps=9)
    Path("net").write_text("another file")
    text = markdown([desk.read(desk.item(*cells))])
    assert text.count("| stale |") == 2 and "5.5" not in text


def test_the_paper_beside_it(desk: Desk) -> None:
    stated = (Published("fid", 5.88, "Figure 15"), Published("is", 40.0, "Table 15"))
    cells = [desk.images(stated, rho=1.0), desk.images(rho=0.9)]
    item = desk.item(*cells, profile="paper")
    before = markdown([desk.read(item)])
    assert (
        "| 1 | 18 | to do | FID 5.88, IS 40 | Figure 15; Table 15 |\n| 0.9 | 18 | to do | not stated |  |\n"
        in before
    )
    for cell, value in zip(cells, (6.0, 5.0), strict=True):
        desk.save(cell, fid=Estimate(value, 0.1))
    text = markdown([desk.read(item)])
    assert (
        "| rho | NFE | FID | difference from rho 1 | paper | where |\n| --- | ---: | ---: | ---: | ---: | --- |\n"
        in text
    )
    assert "| 1 | 18 | 6.00 ± 0.10 |  | 5.88, IS 40 | Figure 15; Table 15 |\n" in text
    assert "| 0.9 | 18 | 5.00 ± 0.10 | -1.00 ± 0.14 | not stated |  |\n" in text
    assert (
        "torchrun --standalone --nproc_per_node=gpu -- tables.py run table2 --profile paper\n"
        in text
    )


def test_many_values_are_rows(desk: Desk) -> None:
    cells = [desk.images((Published("v8", 0.5, "Table 13"),), rho=1.0), desk.images(rho=0.9)]
    desk.save(cells[0], **{f"v{i}": Estimate(float(i), 0.1) for i in range(9)})
    text = markdown([desk.read(desk.item(*cells, profile="paper"))])
    assert "|  | rho 1 | rho 0.9 |\n| --- | ---: | ---: |\n| v0 | 0.00 ± 0.10 | to do |\n" in text
    assert "| v8 | 8.00 ± 0.10 (paper: 0.5, Table 13) | to do |\n" in text


def test_values_of_layers_have_a_table_of_their_own(desk: Desk) -> None:
    cells = [desk.norms(sigma=80.0), desk.norms(sigma=1.0), desk.norms(sigma=0.1)]
    desk.save(
        cells[0],
        **{
            "ratio": 0.5,
            "ratio[0]": 0.25,
            "ratio[1]": 0.75,
            "weight_u[0]": 3.0,
            "weight_u[1]": 4.0,
        },
    )
    desk.save(
        cells[1],
        **{"ratio": 0.1, "ratio[0]": 0.1, "ratio[1]": 0.1, "weight_u[0]": 3.0, "weight_u[1]": 4.0},
    )
    text = markdown([desk.read(desk.item(*cells, name="figure2"))])
    assert "## Figure 2: Few steps\n" in text
    assert "| sigma | ratio |\n| --- | ---: |\n| 80 | 0.5 |\n| 1 | 0.1 |\n| 0.1 | to do |\n" in text
    assert (
        "| index | ratio, sigma 80 | ratio, sigma 1 | norm of weights on u |\n| ---: | ---: | ---: | ---: |\n"
        "| 0 | 0.25 | 0.1 | 3 |\n| 1 | 0.75 | 0.1 | 4 |\n"
    ) in text


def test_many_values_are_relative_to_rho_1(desk: Desk) -> None:
    cells = [desk.images(rho=rho) for rho in (1.0, 0.8)]
    for cell, value in zip(cells, (4.0, 3.0), strict=True):
        desk.save(
            cell,
            **{f"kernel{i}": Estimate(value, 0.01) for i in range(9)},
            noise=Estimate(value / 1000, 0.01),
        )
    text = markdown([desk.read(desk.item(*cells))])
    assert text.count("| 3.000 ± 0.010 (0.750 ± 0.003 of rho 1) |") == 9
    assert "| 0.003 ± 0.010 |" in text


def test_the_number_of_images_of_a_sheet_is_not_compared(desk: Desk) -> None:
    cells = [desk.sheet(rho=rho) for rho in (1.0, 0.8)]
    for cell in cells:
        desk.save(cell, images=4.0)
    assert "difference" not in markdown([desk.read(desk.item(*cells))])


def test_what_the_paper_states_of_a_sheet(desk: Desk) -> None:
    stated = replace(desk.sheet(rho=1.0), published=(Published("fid", 3.64, "Figure 5"),))
    assert "| to do | FID 3.64 | Figure 5 |" in markdown(
        [desk.read(desk.item(stated, profile="paper"))]
    )
    assert "not stated" not in markdown(
        [desk.read(desk.item(desk.sheet(rho=1.0), profile="paper"))]
    )


def test_the_least_of_three_seed_ranges(desk: Desk) -> None:
    """EDM's protocol: seeds 0 to N - 1 count, and the least of the three ranges stands beside once all are there."""
    cell = desk.images(rho=1.0)  # seeds 0-3
    desk.save(cell, fid=Estimate(3.0, 0.1), **{"is": 5.0})
    desk.save(desk.images(rho=1.0, seeds="4-7"), fid=Estimate(2.5, 0.1), **{"is": 4.0})
    assert "least" not in markdown([desk.read(desk.item(cell))])
    desk.save(desk.images(rho=1.0, seeds="8-11"), fid=Estimate(3.5, 0.1), **{"is": 6.0})
    assert "| 3.00 ± 0.10, least of three seed ranges 2.50 | 5 |" in markdown(
        [desk.read(desk.item(cell))]
    )
    (record,) = json.loads(as_json([desk.read(desk.item(cell))]))
    assert record["cells"][0]["least_of_three"] == {"fid": 2.5}
    other = desk.images(rho=1.0, seeds="4-7")
    assert "least" not in markdown([desk.read(desk.item(other))])


def test_several_items_have_an_overview(desk: Desk) -> None:
    cells = [desk.images(rho=rho) for rho in (1.0, 0.8)]
    for cell, value in zip(cells, (6.0, 5.0), strict=True):
        desk.save(cell, fid=Estimate(value, 0.1))
    missing = replace(desk.item(), name="table3", requires="a network")
    text = markdown([desk.read(desk.item(*cells, claims=(LOWER,))), desk.read(missing)])
    assert text.startswith("# Results, profile demo\n")
    assert f"| Table 2 | {LOWER.says} | seen |" in text
    assert "| Table 3 |  | not run: it needs a network |" in text


def test_what_cannot_run(desk: Desk) -> None:
    assert markdown([desk.read(desk.item(requires="the network of LDM"))]) == (
        "## Table 2: Few steps\n\nNot run: it needs the network of LDM.\n"
    )


def test_csv_parses_back(desk: Desk) -> None:
    cells = [
        desk.images((Published("fid", 5.88, "Figure 15, left"),), rho=1.0),
        desk.images(rho=0.9),
    ]
    desk.save(cells[1], fid_demo=Estimate(5.123456789012345, 0.1))
    rows = list(
        csv.DictReader(io.StringIO(as_csv([desk.read(desk.item(*cells)), desk.read(desk.item())])))
    )
    common = {
        "item": "table2",
        "profile": "demo",
        "study": "images",
        "command": "python tables.py run table2",
    }
    assert rows == [
        common
        | {
            "settings": "rho=1",
            "name": "fid",
            "value": "",
            "error": "",
            "published": "5.88",
            "where": "Figure 15, left",
        },
        common
        | {"settings": "rho=0.9", "name": "fid-demo", "value": "5.123456789012345", "error": "0.1"}
        | {"published": "", "where": ""},
    ]


def test_a_published_value_stands_on_the_row_of_its_metric(desk: Desk) -> None:
    cell = desk.images((Published("fid", 5.88, "Figure 15"),), rho=1.0)
    desk.save(cell, fid_demo=6.0)
    (row,) = csv.DictReader(io.StringIO(as_csv([desk.read(desk.item(cell))])))
    assert (row["name"], row["value"], row["published"]) == ("fid-demo", "6.0", "5.88")


def test_json_parses_back(desk: Desk) -> None:
    cells = [
        *desk.sweep({1.0: Estimate(6.1, 0.1)}),
        desk.images((Published("fid", 2.92, "Figure 16"),), rho=0.9),
    ]
    (record,) = json.loads(as_json([desk.read(desk.item(*cells, claims=(LOWER,)))]))
    done, todo = record["cells"]
    assert done["values"] == {"fid-demo": {"value": 6.1, "error": 0.1}} and done["nfe"] == 18
    assert (
        done["state"] == "done"
        and done["settings"]["detector"] == "det"
        and done["varies"] == {"rho": 1.0}
    )
    assert todo["state"] == "to do" and todo["published"] == [
        {"metric": "fid", "value": 2.92, "where": "Figure 16"}
    ]
    assert record["verdicts"][0]["seen"] is None and record["best"] == []


def test_names_and_commands(desk: Desk) -> None:
    assert heading(desk.item(name="appendix-c")) == "appendix-c: Few steps"
    assert command(desk.item(profile="paper")).endswith("-- tables.py run table2 --profile paper")


@pytest.mark.parametrize(
    ("folder", "link"), [("docs/images", "images/figure5.png"), ("out", "out/figure5.png")]
)
def test_pictures_are_drawn_and_linked(desk: Desk, folder: str, link: str) -> None:
    cell = desk.sheet(rho=1.0)
    desk.save(cell, images=4.0)
    Image.new("RGB", (100, 50)).save(desk.results.path(cell).with_suffix(".png"))
    item = desk.item(cell, name="figure5", profile="paper")
    for name, render in FORMATS.items():
        text = render([desk.read(item), desk.read(desk.item(requires="a network"))], Path(folder))
        assert (f"![Figure 5: Few steps]({link})\n" in text) == (name == "markdown")
        Path(folder, "figure5.png").unlink()  # fails unless it was drawn
    assert "| rho | NFE | images |\n| --- | ---: | ---: |\n| 1 | 35 | 4 |\n" in markdown(
        [desk.read(item)]
    )


def test_numbers_stand_in_a_table_below_the_sentences(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.9: Estimate(5.0, 0.1)}, steps=9)
    cells += desk.sweep({1.0: Estimate(7.0, 0.1), 0.9: Estimate(7.0, 0.1)}, steps=5)
    stated = replace(LOWER, says="FID is lower at rho 0.9", against=(0.9,), match={"steps": 9})
    text = markdown([desk.read(desk.item(*cells, claims=(stated, LOWER)))])
    assert text.endswith(
        "What the paper says of it:\n"
        "\n"
        "1. Seen: demo FID is lower at rho 0.9.\n"
        "2. Undecided: demo FID is lower with rho < 1 than with rho = 1.\n"
        "\n"
        "|  | of | alone | measured | against | difference |\n"
        "| ---: | --- | --- | ---: | ---: | ---: |\n"
        "| 1 | sampler unipc, steps 9 | seen | 5.00 at rho 0.9 | 6.00 at 1 | -1.00 ± 0.14 |\n"
        "| 2 | sampler unipc, steps 9 | seen | 5.00 at rho 0.9 | 6.00 at 1 | -1.00 ± 0.14 |\n"
        "| 2 | sampler unipc, steps 5 | undecided | 7.00 at rho 0.9 | 7.00 at 1 | +0.00 ± 0.14 |\n"
    )
    cells += desk.sweep({1.0: Estimate(7.0, 0.1), 0.9: Estimate(6.0, 0.1)}, steps=3)
    cells += desk.sweep({1.0: Estimate(7.0, 0.1), 0.9: Estimate(6.0, 0.1)}, steps=4)
    text = markdown([desk.read(desk.item(*cells, claims=(stated, LOWER)))])
    assert "\n\n<details><summary>What was compared</summary>\n\n|  | of |" in text
    assert text.endswith("-1.00 ± 0.14 |\n\n</details>\n")


def test_a_bar_in_a_text_is_no_column(desk: Desk) -> None:
    cells = desk.sweep({1.0: 6.0, 0.9: 5.0})
    norms = replace(LOWER, says="||d|| / ||u|| falls", for_each=None)
    one = desk.read(desk.item(*cells, claims=(norms,)))
    assert r"| Table 2 | \|\|d\|\| / \|\|u\|\| falls | undecided |" in markdown([one, one])


def test_what_others_state_is_called_theirs(desk: Desk) -> None:
    theirs = (Quoted("fid", 1.96, "Karras et al., 2022", "EDM"),)
    cell = replace(desk.images(rho=1.0), quoted=theirs)
    text = markdown([desk.read(desk.item(cell, desk.images(rho=0.9), profile="paper"))])
    assert "| to do | not stated; EDM has FID 1.96 | Karras et al., 2022 |\n" in text
    (record,) = json.loads(as_json([desk.read(desk.item(cell, profile="paper"))]))
    assert record["cells"][0]["published"] == []
    assert record["cells"][0]["quoted"][0]["by"] == "EDM"


def test_wide_tables_are_folded(desk: Desk) -> None:
    cells = [desk.norms(sigma=float(sigma)) for sigma in range(1, 9)]
    for number, cell in enumerate(cells):
        desk.save(cell, **{"ratio[0]": float(number), "ratio[1]": 0.5})
    few, many = (desk.read(desk.item(*cells[:count], name="figure2")) for count in (7, 8))
    assert "<details>" not in markdown([few])
    head = "\n\n<details><summary>By layer, deepest first</summary>\n\n| index | ratio, sigma 1 |"
    assert head in markdown([many])
    assert markdown([many]).endswith(" 0.5 |\n\n</details>\n")
