"""Cells run once, and results are keyed by what determines them."""

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from dnnlib.util import file_sha256
from skip.evidence.estimate import Estimate
from skip.tables.cells.settings import Job, Study
from skip.tables.cells.words import build, record_of
from skip.tables.item import Cell
from skip.tables.measured import MeasuredItem
from skip.tables.plan import summary
from skip.tables.results import Results, key, unique
from skip.tables.runner import check, run
from skip.tables.spec import load_item
from torch_utils import distributed

CPU = torch.device("cpu")
RUNS: list[float] = []


@dataclasses.dataclass(frozen=True)
class Fake:
    """A study that counts how often it runs."""

    network: str
    seeds: str = "0-3"
    count: int = 4
    rho: float = 1.0
    window: tuple[float, float] | None = None

    def evaluations(self) -> int:
        return 4

    def sources(self) -> dict[str, str]:
        return {"network": self.network}

    def check(self) -> None:
        pass

    def run(self, job: Job) -> dict[str, Estimate]:
        RUNS.append(self.rho)
        if self.rho < 0:
            raise ValueError("rho is negative")
        job.folder.mkdir(parents=True)
        (job.folder / "part").write_text("x")
        return {"fid": Estimate.of_mean(np.array([self.rho, 2.0, 3.0]))}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    RUNS.clear()
    path = tmp_path / "net.bin"
    path.write_bytes(b"weights")
    return path


@dataclasses.dataclass(frozen=True)
class Measured(Fake):
    """A study with a reference."""

    reference: str = ""

    def sources(self) -> dict[str, str]:
        return {"network": self.network, "reference": self.reference}


def test_a_reference_is_known_by_what_it_says(network: Path, tmp_path: Path) -> None:
    """Another machine, or another day, writes the same statistics into another file."""
    path, mean, cov = tmp_path / "ref.npz", np.ones(3), np.eye(3)
    np.savez(path, mu=mean, sigma=cov)
    one, results = cell(Measured(str(network), reference=str(path))), Results(tmp_path / "results")
    item = load_item("table2", "demo")
    item = dataclasses.replace(item, cells=(one,))
    run([one], results, CPU, 1)
    assert results.state(one) == "done" and "1/1   done  " in summary(
        MeasuredItem.read(item, results)
    )
    np.savez_compressed(path, mu=mean * (1 + 1e-8), sigma=cov, channels=1)
    assert results.state(one) == "done"
    np.savez(path, mu=mean * 1.01, sigma=cov)
    assert results.state(one) == "stale"
    assert "0/1   done, 1 stale: made with other files" in summary(MeasuredItem.read(item, results))
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"ref\.npz is not an npz"):
        results.state(one)
    path.unlink()
    assert results.state(one) == "done", "it cannot be compared"


def test_results_that_have_the_hash_of_a_reference_stay(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "ref.npz"
    np.savez(path, mu=np.ones(3), sigma=np.eye(3))
    one, results = cell(Measured(str(network), reference=str(path))), Results(tmp_path / "results")
    run([one], results, CPU, 1)
    record = json.loads(results.path(one).read_text())
    record["sources"]["reference"] = {"name": str(path), "sha256": file_sha256(path)}
    del record["checksum"]
    results.path(one).write_text(json.dumps(record))
    assert results.state(one) == "done"
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    assert results.state(one) == "stale"


def cell(study: Study) -> Cell:
    return Cell("fake", study, {})


def test_each_cell_runs_once(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    a, b = cell(Fake(str(network), rho=0.5)), cell(Fake(str(network), rho=0.7))
    assert len(unique([a, b, cell(Fake(str(network), rho=0.5))])) == 2
    assert run([a, b, a], results, CPU, 4) == 2
    assert run([b, a], results, CPU, 8) == 0
    assert RUNS == [0.5, 0.7]
    assert not results.partial(a).exists()
    assert results.load(a) == {"fid": Estimate.of_mean(np.array([0.5, 2.0, 3.0]))}


def test_a_failing_cell_keeps_those_before(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    cells = [cell(Fake(str(network), rho=rho)) for rho in (0.5, -1.0, 0.7)]
    with pytest.raises(ValueError, match="negative"):
        run(cells, results, CPU, 4)
    assert [results.state(c) for c in cells] == ["done", "to do", "to do"]


def test_states(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    assert results.state(one) == "to do"
    results.partial(one).mkdir(parents=True)
    assert results.state(one) == "begun"
    results.partial(one).rmdir()
    run([one], results, CPU, 4)
    assert results.state(one) == "done"
    network.write_bytes(b"other weights")
    assert results.state(one) == "stale"
    assert results.load(one) is None
    run([one], results, CPU, 4)
    assert results.state(one) == "done"
    network.unlink()  # a laptop that shows what a cluster measured
    assert results.state(one) == "done"


VALUE = '{"value": 1.5, "error": 0.1, "blocks": []}'


def of_values(value: str) -> str:
    """A result with one value."""
    return f'{{"sources": {{}}, "values": {{"fid": {value}}}}}'


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"sources": 1}', "1" * 5000, "[" * 100_000,
        of_values('{"value": "1.5", "error": 0.1, "blocks": []}'),
        of_values('{"value": 1e999, "error": 0.1, "blocks": []}'),
        of_values('{"value": 1.5, "error": true, "blocks": []}'),
        of_values('{"value": 1.5, "error": 0.1, "blocks": "12"}'),
        of_values('{"value": 1' + 400 * "0" + ', "error": 0.1, "blocks": []}'),
        of_values('"' + 9999 * "\\u001b" + '"'),
        of_values(VALUE).replace('"sources": {}', '"sources": []'),
        of_values(VALUE).replace('"sources": {}', '"sources": {"network": "sha"}'),
        of_values(VALUE).replace('"sources": {}', '"sources": {}, "checksum": 1'),
    ],
    ids=range(16),
)  # fmt: skip
def test_a_damaged_result_is_named(network: Path, tmp_path: Path, text: str) -> None:
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    path = results.path(one)
    path.parent.mkdir()
    path.write_text(text)
    for look in (results.state, results.load):
        with pytest.raises(
            ValueError, match=f"{path.name} is a damaged result .*; remove it"
        ) as caught:
            look(one)
        assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_what_a_damaged_result_lacks_is_said(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    results.path(one).parent.mkdir()
    results.path(one).write_text("{}")
    with pytest.raises(ValueError, match=r"is a damaged result \('values' is missing\); remove it"):
        results.state(one)


def test_a_result_of_absurd_size_is_not_read(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    path = results.path(cell(Fake(str(network))))
    path.parent.mkdir()
    with open(path, "wb") as file:
        file.truncate(10**12)  # holes: it takes no place on the disk
    with pytest.raises(ValueError, match=r"damaged result \(it has more than 50,000,000 bytes\)"):
        results.state(cell(Fake(str(network))))


def test_results_in_place_of_a_folder_are_refused(network: Path) -> None:
    with pytest.raises(ValueError, match="is a file; name a folder of results"):
        Results(network).state(cell(Fake(str(network))))


def test_no_flipped_bit_of_a_result_goes_unseen(network: Path, tmp_path: Path) -> None:
    """It is named, or was in white space or in the name of the checksum: the values are right."""
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    run([one], results, CPU, 4)
    path, right = results.path(one), results.load(one)
    whole, named = path.read_bytes(), 0
    for place in range(len(whole)):
        path.unlink()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert results.load(one) == right, place
        except ValueError as error:
            named += path.name in str(error)
    assert named > 0.8 * len(whole)


def test_a_result_without_a_checksum_is_taken(network: Path, tmp_path: Path) -> None:
    """Those that were measured before there was one."""
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    run([one], results, CPU, 4)
    right, record = results.load(one), json.loads(results.path(one).read_bytes())
    del record["checksum"]
    results.path(one).write_text(json.dumps(record))
    assert results.load(one) == right


def test_a_cell_that_another_run_measures_is_refused(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    partial = results.partial(one)
    partial.parent.mkdir(parents=True)
    with (
        FileLock(partial.with_name(f"{partial.name}.lock")),
        pytest.raises(ValueError, match="another run is measuring"),
    ):
        run([one], results, CPU, 4)
    assert RUNS == []
    assert run([one], results, CPU, 4) == 1
    assert not list(partial.parent.iterdir())


def test_a_cell_that_another_run_measured_meanwhile_is_not_measured_again(
    network: Path, tmp_path: Path
) -> None:
    results, other = Results(tmp_path / "results"), Results(tmp_path / "results")
    first, second = cell(Fake(str(network), rho=0.5)), cell(Fake(str(network), rho=0.7))

    @dataclasses.dataclass(frozen=True)
    class Slow(Fake):
        def run(self, job: Job) -> dict[str, Estimate]:
            run([second], other, CPU, 4)
            return super().run(job)

    assert run([cell(Slow(str(network), rho=0.5)), second], results, CPU, 4) == 1
    assert RUNS == [0.7, 0.5]
    assert [results.state(one) for one in (first, second)] == ["done", "done"]


def test_what_killed_runs_left_is_removed(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    (results.folder / ".partial").mkdir(parents=True)
    left = [
        results.folder / ".a.json.0123abcd.tmp",
        results.folder / ".partial" / "fake-0123-45.lock",
    ]
    for path in left:
        path.touch()
    run([cell(Fake(str(network)))], results, CPU, 4)
    assert not any(path.exists() for path in left)


def test_files_are_checked_once_and_before_anything_is_measured(
    network: Path, tmp_path: Path
) -> None:
    checked = []

    @dataclasses.dataclass(frozen=True)
    class Checked(Fake):
        def check(self) -> None:
            checked.append(self.network)

    results = Results(tmp_path / "results")
    done = cell(Checked(str(network), rho=0.5))
    run([done], results, CPU, 4)
    other = tmp_path / "other.bin"
    other.touch()
    names = [str(network), str(network), str(other), str(tmp_path / "missing.bin")]
    check([done, *(cell(Checked(name, rho=0.1 * i)) for i, name in enumerate(names))], results)
    assert checked == [str(network), str(other)]
    check([done], results)
    assert len(checked) == 2


def test_partial_results_of_another_network_are_not_used(network: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    one = cell(Fake(str(network)))
    before = results.partial(one)
    network.write_bytes(b"other weights")
    assert results.partial(one) != before


def test_rank_0_says_what_is_to_do(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank whose machine holds older files would else disagree, and wait for ever."""
    done, left = cell(Fake(str(network), rho=0.5)), cell(Fake(str(network), rho=0.7))
    results = Results(tmp_path / "results")
    run([done], results, CPU, 4)
    RUNS.clear()
    network.write_bytes(b"other weights")  # this rank finds both to do
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "as_rank_0_says", lambda mine: [False, True][-len(mine) :])
    with contextlib.suppress(FileExistsError):
        run([done, left], results, CPU, 4)
    assert RUNS == [0.7]


def test_results_of_equal_runs_are_equal_files(network: Path, tmp_path: Path) -> None:
    one = cell(Fake(str(network)))
    for name in ("a", "b"):
        run([one], Results(tmp_path / name), CPU, 4)
    first, second = (Results(tmp_path / name).path(one).read_bytes() for name in ("a", "b"))
    assert first == second
    record = json.loads(first)
    assert record["settings"] == {"network": str(network), "seeds": "0-3", "count": 4, "rho": 1.0}
    assert len(record["sources"]["network"]["sha256"]) == 64


def test_key_is_of_what_differs_from_the_defaults() -> None:
    assert key(cell(Fake("a"))) == key(cell(Fake("a", rho=1.0)))
    assert len({key(cell(Fake("a"))), key(cell(Fake("b"))), key(cell(Fake("a", rho=0.9)))}) == 3
    assert key(cell(Fake("a"))) != key(Cell("other", Fake("a"), {}))


def test_key_of_a_published_item_stays() -> None:
    """Results that were measured keep their names."""
    first = load_item("table2", "demo").cells[0]
    assert record_of(first.settings, defaults=False) == {
        "sampler": "unipc", "steps": 5, "network": "demo", "seeds": "0-1999", "detector": "demo",
        "reference": "assets/demo/reference.npz", "data": "assets/demo/images.zip",
    }  # fmt: skip


def test_build_turns_lists_into_tuples_and_names_unknown_keys() -> None:
    assert build(Fake, {"network": "a", "window": [1, 2]}) == Fake("a", window=(1, 2))
    with pytest.raises(ValueError, match="unknown setting 'nets'; there are count, network"):
        build(Fake, {"nets": "a"})
    with pytest.raises(ValueError, match="network"):
        build(Fake, {})
