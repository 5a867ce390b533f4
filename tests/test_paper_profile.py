"""The paper's profile from end to end: only the weights differ from the real thing, see paper_standins."""

import json
import pkgutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paper_standins
import processes
import pytest
from click.testing import CliRunner, Result

from metrics.detector import load_entries
from tables import main

ROOT = Path(__file__).resolve().parents[1]
CELL = ["--cells", "steps=3,rho=0.9", "--num", "4"]
RUN = ["run", "table2", "--profile", "paper", *CELL, "--batch", "2", "--device", "cpu"]


@dataclass(frozen=True)
class Machine:
    """A folder to run programs in, with a mirror as their only source of files.

    Args:
        folder: where they run; the cache and the folders of results are in it.
        mirror: its URL.
        patches: what differs from the programs as they are.
    """

    folder: Path
    mirror: str
    patches: dict[str, Any]

    def run(self, *args: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """tables.py as a process of its own."""
        return processes.run(
            ROOT / "tables.py", *args, folder=self.folder, patches=self.patches,
            **self._environment("cache"), **how,
        )  # fmt: skip

    def invoke(self, *args: str, cache: str = "cache") -> Result:
        """tables.py in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in self._environment(cache).items():
                patch.setenv(name, value)
            for place, value in self.patches.items():
                owner, _, name = place.replace(":", ".").rpartition(".")
                patch.setattr(pkgutil.resolve_name(owner), name, value)
            load_entries.cache_clear()
            try:
                return CliRunner().invoke(main, args)
            finally:
                load_entries.cache_clear()

    def tables(self, *args: str, cache: str = "cache") -> str:
        """What tables.py prints in this process."""
        done = self.invoke(*args, cache=cache)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def result(self, results: str) -> Path:
        """The file of the one cell that was measured."""
        (path,) = (self.folder / results).glob("*.json")
        return path

    def _environment(self, cache: str) -> dict[str, str]:
        return {"SKIP_TUNING_MIRROR": self.mirror, "SKIP_TUNING_CACHE": str(self.folder / cache)}


@pytest.fixture(scope="module")
def served() -> Iterator[paper_standins.Mirror]:
    with paper_standins.mirror() as running:
        yield running


@pytest.fixture(scope="module")
def machine(served: paper_standins.Mirror, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    return Machine(folder, served.url, paper_standins.patches(folder))


@pytest.fixture(scope="module")
def whole(machine: Machine) -> dict[str, Any]:
    """The record of a run without interruption, in the folder `whole`."""
    printed = machine.tables(*RUN, "--results", "whole")
    assert json.loads(printed) == {"measured": 1, "results": "whole"}
    return json.loads(machine.result("whole").read_text())


def test_a_dry_run_needs_nothing(machine: Machine) -> None:
    nowhere = replace(machine, mirror="http://127.0.0.1:1")
    asked = ["run", "table2", "--profile", "paper", "--dry-run", "--results", "none"]
    lines = nowhere.tables(*asked, cache="empty").splitlines()
    assert "0/34" in lines[0] and "37.1 M evaluations to go" in lines[0]
    cells = [line.split() for line in lines[1:35]]
    assert [cell[0] for cell in cells] == [str(number) for number in range(34)]
    assert all(cell[1:3] == ["to", "do"] for cell in cells)
    heun = next(line for line in lines if line.endswith("sampler=heun steps=3 rho=0.9"))
    assert " 250 k " in heun, "5 evaluations of each of 50,000 images"
    assert lines[35] == "34 cells to measure, 37.1 M evaluations"
    missing = "\n".join(lines[36:])
    assert len(lines[36:]) == 3 and "imagenet-64x64.npz" in missing
    assert "edm-imagenet-64x64-cond-adm" in missing and "inception-2015-12-05" in missing
    assert not (machine.folder / "empty").exists() and not (machine.folder / "none").exists()


def test_a_cell_is_measured_from_the_published_formats(
    machine: Machine, served: paper_standins.Mirror, whole: dict[str, Any]
) -> None:
    assert sorted(served.asked) == sorted(paper_standins.FILES), "each file once, and no other"
    assert whole["settings"]["network"] == "edm-imagenet-64x64-cond-adm"
    assert (whole["settings"]["steps"], whole["settings"]["rho"], whole["settings"]["seeds"]) == (
        3,
        0.9,
        "0-3",
    )
    sources = whole["sources"]
    assert sources.keys() == {"network", "detector", "reference"}
    assert sources["reference"]["summary"]["dim"] == 2048
    assert {len(sources[role]["sha256"]) for role in ("network", "detector")} == {64}
    fid = whole["values"]["fid"]
    assert fid["value"] > 0 and 0 < fid["error"] < fid["value"] and np.isfinite(fid["value"])
    dry = machine.tables(*RUN, "--dry-run", "--results", "whole")
    assert "0 cells to measure" in dry and "download" not in dry


def test_show_has_the_published_values_with_their_place(
    machine: Machine, whole: dict[str, Any]
) -> None:
    shown = machine.tables(
        "show", "table2", "--profile", "paper", "--num", "4", "--results", "whole"
    )
    table = [
        [text.strip() for text in line.split("|")[1:-1]]
        for line in shown.splitlines()
        if line.startswith("|")
    ]
    head, rows = table[0], [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]
    assert {"sampler", "steps", "rho", "FID", "paper", "where"} <= set(head) and len(rows) == 34
    stated = {
        (row["steps"], row["rho"]): (row["paper"], row["where"])
        for row in rows
        if row["paper"] != "not stated"
    }
    assert stated == {
        ("9", "1"): ("5.88", "Figure 16"),
        ("9", "0.68"): ("2.92", "Figure 15, rho 0.68 to 1"),
    }
    (measured,) = (row for row in rows if row["FID"] != "to do")
    assert (measured["sampler"], measured["steps"], measured["rho"]) == ("heun", "3", "0.9")
    fid = whole["values"]["fid"]
    assert float(measured["FID"].split()[0]) == pytest.approx(fid["value"], abs=fid["error"])


def test_a_killed_run_ends_with_the_same_file(machine: Machine, whole: dict[str, Any]) -> None:
    partial = machine.folder / "killed" / ".partial"
    machine.run(*RUN, "--results", "killed", kill_at=("metrics.feature_store:FeatureStore.add", 1))
    assert not list((machine.folder / "killed").glob("*.json"))
    (chunk,) = partial.rglob("0*.npz")
    assert np.load(chunk)["ids"].tolist() == [0, 1], "half of the images"
    assert "begun" in machine.tables(
        "list", "table2", "--profile", "paper", *CELL, "--results", "killed"
    )

    again = machine.run(*RUN, "--results", "killed")
    assert again.returncode == 0 and " 2/4 [" in again.stderr and " 0/4 [" not in again.stderr, (
        again.stderr
    )
    assert machine.result("killed").name == machine.result("whole").name
    assert machine.result("killed").read_bytes() == machine.result("whole").read_bytes()
    assert not list(partial.rglob("*.npz"))


def test_two_ranks_agree_with_one(machine: Machine, whole: dict[str, Any]) -> None:
    done = machine.run(*RUN, "--results", "two", ranks=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"measured": 1, "results": "two"}, "one of the ranks reports"
    two = json.loads(machine.result("two").read_text())
    assert two["values"].keys() == whole["values"].keys()
    for name, value in whole["values"].items():
        # Other batches.
        assert two["values"][name]["value"] == pytest.approx(value["value"], rel=1e-4), name
        assert two["values"][name]["error"] == pytest.approx(value["error"], rel=1e-4), name
    assert {**two, "values": 0} == {**whole, "values": 0}


# ---- the other families, after what table 2 asked of the mirror


def test_a_network_that_nothing_fetches_is_asked_for(machine: Machine) -> None:
    done = machine.invoke(
        "run", "figure13", "--profile", "paper", "--results", "none", "--device", "cpu"
    )
    assert done.exit_code == 2
    told = "uvit-h2-imagenet-256 is not here: its authors release imagenet256_uvit_huge.pth"
    assert told in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def with_uvit(machine: Machine) -> Machine:
    """A machine whose user saved by hand what nothing fetches."""
    paper_standins.put_uvit(machine.folder)
    own = {"dnnlib.catalogue:ROOT": machine.folder}
    return replace(machine, patches=machine.patches | own)


@pytest.mark.parametrize(
    ("item", "network", "rho", "roles"),
    [
        ("edm2", "edm2-img64-s", 0.95, set()),
        ("table3", "cd-imagenet-64x64-lpips", 1.0, set()),
        ("table6", "edm-afhqv2-64x64-uncond-vp", 0.9, set()),
        ("table7", "ldm4-imagenet-256", 0.95, set()),
        ("table7", "uvit-h2-imagenet-256", 0.82, {"autoencoder"}),
    ],
)
def test_the_other_families(
    with_uvit: Machine, item: str, network: str, rho: float, roles: set[str]
) -> None:
    own = f"rho={rho}" if item == "edm2" else f"network={network},rho={rho}"
    # Both ways over layers are there; and in table 3 rho = 1 begins both of its sweeps.
    own += {"table3": ",across=constant", "table7": ",across=bottom-to-one,sigmas=logsnr"}.get(
        item, ""
    )
    cell = ["--profile", "paper", "--cells", own, "--num", "2", "--results", network]
    printed = with_uvit.tables("run", item, *cell, "--device", "cpu")
    assert json.loads(printed) == {"measured": 1, "results": network}
    record = json.loads(with_uvit.result(network).read_text())
    assert (record["settings"]["network"], record["settings"]["rho"]) == (network, rho)
    assert record["sources"].pop("reference")["summary"]["dim"] == 2048
    assert {
        role: len(source["sha256"]) for role, source in record["sources"].items()
    } == dict.fromkeys({"network", "detector"} | roles, 64)
    fid = record["values"]["fid"]
    assert np.isfinite(fid["value"]) and fid["value"] > 0 and fid["error"] > 0


@pytest.mark.parametrize(
    ("item", "cell", "value"),
    [
        ("figure2", "network=cd-imagenet-64x64-lpips", "ratio"),
        ("table1", "network=cd-imagenet-64x64-lpips,function=raw,probe=ones", "gradient_norm"),
    ],
)
def test_a_consistency_model_beside_edm(machine: Machine, item: str, cell: str, value: str) -> None:
    asked = [
        "--profile", "paper", "--cells", cell, "--num", "2", "--results", item, "--device", "cpu",
    ]  # fmt: skip
    assert json.loads(machine.tables("run", item, *asked)) == {"measured": 1, "results": item}
    record = json.loads(machine.result(item).read_text())
    assert record["settings"]["sigma"] == 80 and np.isfinite(record["values"][value]["value"])
    assert record["values"][value]["value"] > 0
