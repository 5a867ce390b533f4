"""tables.py as people run it: list, run, show, killed, and on two ranks."""

import filecmp
import json
import re
from pathlib import Path

import processes
import pytest
from click.testing import CliRunner, Result

from dnnlib.sinks.sink import Entry, Kind
from dnnlib.sinks.table import SINKS
from programs.tables.work import paper_items, shown_items
from skip.tables.spec import item_names, load_item
from tables import main

ROOT = Path(__file__).resolve().parent.parent
CELLS = ["table2", "--num", "16", "--cells", "steps=5,rho=0.9,sampler=unipc"]


def tables(*args: str | Path) -> Result:
    """Run in this process."""
    return CliRunner().invoke(main, list(map(str, args)))


def results(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


class Told:
    """A sink in memory."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.write = self.entries.append

    def has(self, entry: Entry) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_run_then_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setitem(SINKS, "tensorboard", Kind("json", "log", lambda subject, project: told))
    ran = tables("run", *CELLS, "--results", tmp_path, "--batch", "8", "--tensorboard")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == {"measured": 1, "results": str(tmp_path)}
    assert len(results(tmp_path)) == 1
    assert not list((tmp_path / ".partial").iterdir())
    again = tables("run", *CELLS, "--results", tmp_path, "--tensorboard")
    assert json.loads(again.stdout)["measured"] == 0
    # The cell as soon as it is done, and to those who come later.
    (cell, later) = told.entries
    assert (cell.kind, cell) == ("table2", later)
    varies = load_item("table2", "demo").cells[cell.step].varies
    assert (varies["rho"], varies["steps"], varies["sampler"]) == (0.9, 5, "unipc")
    assert cell.values["rho"] == 0.9 and any(name.startswith("fid") for name in cell.values)
    shown = tables("show", "table2", "--num", "16", "--results", tmp_path)
    value = next(
        v
        for k, v in json.loads(results(tmp_path)[0].read_text())["values"].items()
        if k.startswith("fid")
    )
    assert "demo FID" in shown.stdout
    found = re.search(r"\| unipc \| 5 \| 0\.9 \| 5 \| ([\d.]+) ± ", shown.stdout)
    assert found and float(found[1]) == pytest.approx(value["value"], abs=value["error"])
    assert "cells to do: 21 of 22" in shown.stdout
    listed = tables("list", "table2", "--num", "16", "--results", tmp_path)
    assert "1/22" in listed.stdout


def test_two_ranks_give_the_same(tmp_path: Path) -> None:
    assert tables("run", *CELLS, "--results", tmp_path / "1", "--batch", "4").exit_code == 0
    ran = processes.run(
        "tables.py", "run", *CELLS, "--results", tmp_path / "2", "--batch", "4", ranks=2
    )
    assert ran.returncode == 0, ran.stderr
    one, two = (
        json.loads(results(tmp_path / str(ranks))[0].read_text())["values"] for ranks in (1, 2)
    )
    for name, value in one.items():
        assert two[name]["value"] == pytest.approx(value["value"], rel=1e-4)  # other batches
        assert two[name]["error"] == pytest.approx(value["error"], rel=1e-4)


def test_killed_and_started_again_ends_with_the_same_file(tmp_path: Path) -> None:
    command = [
        "run", "table8", "--seeds", "0-15", "--batch", "2",
        "--cells", "rho=0.8,weighting=edm,across=constant,clip=False",
    ]  # fmt: skip
    assert tables(*command, "--results", tmp_path / "whole").exit_code == 0
    folder = tmp_path / "killed"
    processes.run(
        "tables.py", *command, "--results", folder, kill_at=("dnnlib.files:_flush_folder", 4)
    )
    assert not results(folder)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob(".partial/*/*.npz")}
    assert kept
    listed = tables("list", "table8", "--seeds", "0-15", "--results", folder)
    assert "begun" in listed.stdout
    assert tables(*command, "--results", folder).exit_code == 0
    (whole,), (again,) = results(tmp_path / "whole"), results(folder)
    assert whole.name == again.name
    assert filecmp.cmp(whole, again, shallow=False)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "table99"], "there is no item 'table99'; choose from table1"),
        (["run", "table2", "--profile", "big"], "unknown profile 'big'"),
        (["run", "table2", "--cells", "44"], "cells 0 to 21"),
        (["run", "table2", "--num", "5", "--seeds", "1-3"], "--num and --seeds both"),
        (["run", "table2", "--seeds", "x"], "Error: seeds 'x' are not a list"),
        (["run", "table2", "--seeds", "3-1"], "Error: seeds '3-1' are none"),
        (["run", "table2", "--cells", "steps=six"], "no such cell"),
        (["show"], "name the items to show, or give --all"),
        (["show", "table2", "--all"], "name the items to show, or give --all"),
    ],
)
def test_errors_are_one_line(args: list[str], message: str) -> None:
    ran = tables(*args)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_items_that_cannot_run_say_so(tmp_path: Path) -> None:
    ran = tables("run", "edm2", "--results", tmp_path)
    assert ran.exit_code == 0 and not list(tmp_path.glob("*.json"))
    assert "edm2 is left out: it needs an EDM2 network of the demo's images" in ran.stderr
    shown = tables("show", "edm2", "--results", tmp_path).stdout
    assert "Not run: it needs an EDM2 network" in shown


def test_items_beside_the_paper_are_run_by_name(tmp_path: Path) -> None:
    assert set(item_names()) - set(paper_items()) == {
        "calibrate_unipc", "calibrate_latent", "edm2", "guidance", "rivals",
    }  # fmt: skip
    planned = tables(
        "run", "edm2", "--profile", "paper", "--dry-run", "--results", tmp_path
    ).stdout.splitlines()
    assert planned[0].startswith("edm2           0/9") and "3.15 M  rho=1.0" in planned[1]
    assert any(
        line.startswith("to download: network edm2-img64-s (https://nvlabs") for line in planned
    )
    table = tables("show", "edm2", "--profile", "paper", "--results", tmp_path).stdout
    assert "| 1 | 63 | to do | not stated; EDM2 has FID 1.58 | Karras et al., 2023" in table
    assert (
        "Not run: it needs an EDM2 network" in tables("show", "edm2", "--results", tmp_path).stdout
    )


def test_all_that_is_shown_is_what_a_profile_can_have() -> None:
    for profile, missing in (("demo", {"edm2"}), ("paper", {"rivals"})):
        shown = shown_items(profile)
        assert shown[: len(paper_items())] == paper_items()
        assert set(item_names()) - set(shown) == missing


def test_an_item_that_is_done_says_how_to_measure_it_anew() -> None:
    ran = tables("run", "table2", "table3")
    assert ran.exit_code == 0
    assert "nothing to do for table2, table3: all cells are in " in ran.stderr
    assert "--results out/mine" in ran.stderr and "tables.py show" in ran.stderr
    assert json.loads(ran.stdout)["measured"] == 0


def test_results_are_those_beside_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder, the current one's are others."""
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "table2        22/22  done" in tables("list", "table2").stdout
    assert "demo FID" in tables("show", "table2").stdout
    assert json.loads(tables("run", "table2").stdout) == {
        "measured": 0,
        "results": str(ROOT / "results"),
    }
    assert "table2         0/22  done" in tables("list", "table2", "--results", "results").stdout
    monkeypatch.chdir(ROOT)
    assert json.loads(tables("run", "table2").stdout)["results"] == "results"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["table2", "--device", "cuda:99"], "device cuda:99 asked for"),
        (
            ["table9", "--profile", "paper"],
            "the run would stop at the data datasets/imagenet-64x64.zip: nothing",
        ),
        (["table2", "--results", str(Path(__file__))], "is no folder; choose another place"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    args: list[str], message: str, tmp_path: Path
) -> None:
    ran = tables("run", "--dry-run", "--results", tmp_path, *args)
    assert ran.exit_code == 2
    assert message in ran.stderr.splitlines()[-1]


def test_dry_run_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "programs.tables.work.check", lambda cells, results: None
    )  # loads every network
    ran = tables("run", "all", "--dry-run", "--results", tmp_path / "results")
    assert ran.exit_code == 0
    assert "cells to measure" in ran.stdout
    assert not (tmp_path / "results").exists()
