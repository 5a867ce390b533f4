"""Sinks: each entry once, whatever was killed, and no fault of a sink ends a run."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import autoencoder
import distill
import tables
import train
from dnnlib.sinks import mirror as mirror_module
from dnnlib.sinks.mirror import Mirror, Target
from dnnlib.sinks.sink import Entry, Kind, Subject
from dnnlib.sinks.table import SINKS


class Kept:
    """A sink in memory."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.lines, self.calls = fails, list[Any](), list[str]()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        print("a sink prints")
        if name == self.fails:
            raise ConnectionError("the network\nis down")

    def has(self, entry: Entry) -> bool:
        return entry.step == 7

    def write(self, entry: Entry) -> None:
        self._call("write")
        self.lines.append((entry.kind, entry.step, dict(entry.values)))

    def flush(self) -> None:
        self._call("flush")

    def close(self) -> None:
        self._call("close")


def subject(folder: Path, **changes: Any) -> Subject:
    settings = {"lr": 0.1, "network": {"ch": 3, "attn": [8]}, "cond": True, "transfer": None}
    return Subject(folder, "images", settings, **changes)


def line(step: int, kind: str = "train") -> Entry:
    return Entry(kind, step, {"loss": step / 10})


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kept]:
    """Two sinks, of which `broken` may be made to fail."""
    found = {"good": Kept(), "broken": Kept()}
    for name, sink in found.items():
        kind = Kind("json", "log", lambda subject, project, sink=sink: sink)  # type: ignore[misc]
        monkeypatch.setitem(SINKS, name, kind)
    return found


def test_each_entry_goes_out_once_and_not_before_there_is_one(
    sinks: dict[str, Kept], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries: list[Entry] = []
    with Mirror([Target("good")], subject(tmp_path), lambda: entries) as mirror:
        mirror.update()
        assert not mirror.open
        entries += [line(1), line(1, "snapshot"), line(7)]
        mirror.update()
        mirror.update()
        entries.append(line(8))
        mirror.update()
    assert sinks["good"].lines == [
        ("train", 1, {"loss": 0.1}),
        ("snapshot", 1, {"loss": 0.1}),
        ("train", 8, {"loss": 0.8}),
    ]
    assert sinks["good"].calls[-1] == "close"
    assert capsys.readouterr().out == "", "stdout is the program's"


@pytest.mark.parametrize("call", ["open", "write", "flush", "close"])
def test_a_sink_that_fails_is_told_of_once_and_the_others_go_on(
    call: str, sinks: dict[str, Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sinks["broken"].fails = call
    if call == "open":

        def refuse(subject: Subject, project: str) -> Kept:
            raise ConnectionError("the network\nis down")

        monkeypatch.setitem(SINKS, "broken", Kind("json", "log", refuse))
    entries = [line(1)]
    targets = [Target("broken"), Target("good")]
    with Mirror(targets, subject(tmp_path), lambda: entries) as mirror:
        mirror.update()
        entries.append(line(2))
        mirror.update()
    assert [step for _, step, _ in sinks["good"].lines] == [1, 2]
    warnings = [x for x in capsys.readouterr().err.splitlines() if x.startswith("Warning")]
    assert len(warnings) == 1 and "broken gets nothing more, the run goes on" in warnings[0]
    assert call in ("open", "close") or sinks["broken"].calls.count(call) == 1


def test_a_damaged_file_stops_no_run_here(
    sinks: dict[str, Kept], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> list[Entry]:
        raise ValueError("metrics.jsonl, line 3 is damaged")

    with Mirror([Target("good")], subject(tmp_path), read) as mirror:
        mirror.update()
    assert "line 3 is damaged" in capsys.readouterr().err and not sinks["good"].calls


def test_a_subject_is_called_by_its_folder_and_its_settings_are_flat(tmp_path: Path) -> None:
    one = subject(tmp_path / "run")
    assert one.name == subject(tmp_path / "run" / ".").name
    assert one.name.startswith("run-") and one.name != subject(tmp_path / "b" / "run").name
    assert one.flat() == {
        "lr": 0.1, "network.ch": 3, "network.attn": "[8]", "cond": True, "transfer": "None",
    }  # fmt: skip


def test_unknown_sinks_and_nameless_projects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no sink 'printer'; choose from tensorboard"):
        Target("printer")
    with pytest.raises(ValueError, match="project of wandb has no name"):
        Target("wandb", " ")


PROGRAMS = [
    (train.main, ["--outdir", "x", "--data", "nowhere.zip"]),
    (distill.main, ["consistency", "--outdir", "x", "--teacher", "nowhere", "--data", "n.zip"]),
    (distill.main, ["diff-instruct", "--outdir", "x", "--teacher", "nowhere"]),
    (autoencoder.main, ["train", "--outdir", "x", "--data", "nowhere.zip"]),
    (tables.main, ["run", "table2", "--results", "x"]),
]


@pytest.mark.parametrize("program, flags", PROGRAMS)
@pytest.mark.parametrize(
    "sink, extra", [(["--tensorboard"], "log"), (["--wandb", "p"], "wandb"), (["--trackio", "p"], "trackio")]
)  # fmt: skip
def test_a_missing_package_is_one_line_before_any_work(
    program: Any, flags: list[str], sink: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "find_spec", lambda name: None)
    result = CliRunner().invoke(program, [*flags, *sink])
    assert result.exit_code == 2, result.output
    assert f"pip install -c constraints.txt '.[{extra}]'" in result.output
    assert "nowhere" not in result.output and not Path("x").exists()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


def killed_and_resumed(target: Target, folder: Path, picture: Path) -> None:
    """A process gets to step 3 and dies; the next goes on from step 2, whose files are the same."""
    for until in (3, 4):
        entries = [line(step) for step in range(1, until + 1)]
        entries.append(Entry("pictures", 2, picture=picture))
        with Mirror([target], subject(folder), lambda entries=entries: entries) as mirror:  # type: ignore[misc]
            mirror.update()


def test_tensorboard_has_each_point_once(tmp_path: Path, picture: Path) -> None:
    pytest.importorskip("tensorboard", reason="of the extra `log`")
    killed_and_resumed(Target("tensorboard"), tmp_path / "run", picture)
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(x.step, round(x.value, 6)) for x in events.Scalars("train/loss")] == [
        (step, step / 10) for step in (1, 2, 3, 4)
    ]
    assert [(x.step, x.width) for x in events.Images("pictures")] == [(2, 8)]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1, "the other's is gone"
    assert "settings/text_summary" in events.Tags()["tensors"]


def test_trackio_has_each_point_once(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))
    pytest.importorskip("trackio", reason="of the extra `trackio`")
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    killed_and_resumed(Target("trackio", "skip-tuning-test"), tmp_path / "run", picture)
    run, *others = importlib.import_module("trackio").Api().runs("skip-tuning-test")
    assert not others
    logs = storage.get_logs("skip-tuning-test", run.name, run_id=run.id)
    assert [(x["step"], x["train/loss"]) for x in logs if "train/loss" in x] == [
        (step, step / 10) for step in (1, 2, 3, 4)
    ]
    assert [x["step"] for x in logs if "pictures/picture" in x] == [2]
    assert run.config["network.ch"] == 3


def test_trackio_elsewhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mirror_module, "find_spec", lambda name: True)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "someone/space")
    with Mirror([Target("trackio", "p")], subject(tmp_path), lambda: [line(1)]) as mirror:
        mirror.update()
    assert "unset TRACKIO_SPACE_ID" in capsys.readouterr().err


class Server:
    """A stand-in of wandb's documented calls, which keeps the summary of a run as the service does."""

    def __init__(self) -> None:
        self.lines, self.summary, self.started = list[Any](), dict[str, Any](), list[Any]()
        self.Settings = SimpleNamespace
        self.Image = lambda path: f"picture {Path(path).name}"

    def init(self, **settings: Any) -> Any:
        self.started.append(settings)
        summary = dict(self.summary) if settings["resume"] == "allow" else {}
        return SimpleNamespace(
            log=self._log, finish=lambda: None, summary=summary, define_metric=lambda *a, **k: None
        )

    def _log(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        self.summary |= line


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    module = ModuleType("wandb")
    found = Server()
    for name in ("init", "Settings", "Image"):
        setattr(module, name, getattr(found, name))
    monkeypatch.setattr(mirror_module, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "wandb", module)
    yield found


def test_wandb_goes_on_with_its_run(server: Server, tmp_path: Path, picture: Path) -> None:
    killed_and_resumed(Target("wandb", "p"), tmp_path / "run", picture)
    assert server.lines == [
        *({"train/loss": step / 10, "train/images": step} for step in (1, 2, 3)),
        {"pictures/images": 2, "pictures/picture": "picture picture.png"},
        {"train/loss": 0.4, "train/images": 4},
    ]
    assert [x["id"] for x in server.started] == [subject(tmp_path / "run").name] * 2
    assert server.started[0]["project"] == "p" and server.started[0]["config"]["lr"] == 0.1


def test_wandb_begins_anew_where_entries_have_no_order(server: Server, tmp_path: Path) -> None:
    for steps in ([3], [1, 3]):
        entries = [line(step) for step in steps]
        about = subject(tmp_path, ordered=False)
        with Mirror([Target("wandb", "p")], about, lambda entries=entries: entries) as mirror:  # type: ignore[misc]
            mirror.update()
    assert [x["train/images"] for x in server.lines] == [3, 1, 3]
    assert [x["id"] for x in server.started] == [None, None]


def test_wandb_takes_these_calls(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The package itself, offline: it writes its own files, and no warning comes."""
    pytest.importorskip("wandb", reason="of the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    killed_and_resumed(Target("wandb", "p"), tmp_path / "run", picture)
    assert "gets nothing more" not in capsys.readouterr().err
    kept = list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert kept and all(path.stat().st_size > 500 for path in kept)
