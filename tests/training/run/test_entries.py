"""What sinks are told of a training: the same of one that was killed as of one that was not."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from small_network import image_folder

from dnnlib.sinks.mirror import Target
from dnnlib.sinks.sink import Entry, Kind, Subject
from dnnlib.sinks.table import SINKS
from skip.monitor import Monitor
from torch_utils import distributed
from training import training_loop
from training.dataset import InfiniteSampler
from training.run import snapshots
from training.run.config import TrainingConfig
from training.run.entries import METRICS_FILE, entries
from training.training_loop import train

CPU = torch.device("cpu")
NETWORK = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1], "num_blocks": 1,
           "attn_resolutions": []}  # fmt: skip
SETTINGS: dict[str, Any] = {"duration": 96, "batch": 16, "lr_rampup": 64, "snap": 32, "tick": 32}
EXACT = ("loss", "lr", "fid")  # other values are times
WRITTEN: dict[str, list[Any]] = {}


class Memory:
    """Keeps what the last process wrote of a folder, as TensorBoard's files do."""

    def __init__(self, subject: Subject, project: str) -> None:
        self.lines = WRITTEN[subject.folder.name] = [sorted(subject.settings)]

    def has(self, entry: Entry) -> bool:
        return False

    def write(self, entry: Entry) -> None:
        values = {name: value for name, value in entry.values.items() if name in EXACT}
        shown = None if entry.picture is None else entry.picture.name
        self.lines.append((entry.kind, entry.step, values, shown))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.lines.append("closed")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setitem(SINKS, "memory", Kind("json", "log", Memory))
    WRITTEN.clear()
    return Target("memory")


class Look(Monitor):
    """A monitor of little work, which may be killed as it looks."""

    def __init__(self, outdir: Path, dies_at: int = 0) -> None:
        super().__init__(outdir, CPU, "none", 0, "", "")
        self.dies_at = dies_at

    def __call__(self, snapshot: Path, images_seen: int) -> None:
        self.append({"images": images_seen, "fid": 1 / images_seen})
        name = snapshot.stem.replace(snapshots.SNAPSHOT, "images")
        Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(self.outdir / f"{name}.png")
        if images_seen == self.dies_at:
            raise KeyboardInterrupt


def test_a_killed_run_says_what_a_whole_one_says(tmp_path: Path, memory: Target) -> None:
    config = TrainingConfig(data=str(image_folder(tmp_path)), network=NETWORK, **SETTINGS)
    train(config, tmp_path / "whole", CPU, Look(tmp_path / "whole"), [memory])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", CPU, Look(tmp_path / "killed", 64), [memory])
    # The state of 64 was not saved: its line and picture are there, and come again.
    assert [x[1] for x in WRITTEN["killed"][1:-1] if x[0] == "train"] == [32, 64]
    train(config, tmp_path / "killed", CPU, Look(tmp_path / "killed"), [memory])

    told = WRITTEN["whole"]
    assert sorted(map(str, told)) == sorted(map(str, WRITTEN["killed"]))
    assert "lr" in told[0] and told[-1] == "closed"
    for kind in ("train", "snapshot", "pictures"):
        assert [x[1] for x in told[1:-1] if x[0] == kind] == [32, 64, 96]


def test_nothing_of_beyond_the_state_is_told(tmp_path: Path) -> None:
    Monitor(tmp_path, CPU, "none", 0, "", "").append({"images": 64, "fid": 1.0})
    assert (tmp_path / METRICS_FILE).exists()
    assert list(entries(tmp_path, 63)) == []
    assert [entry.step for entry in entries(tmp_path, 64)] == [64]


def test_a_run_that_fails_at_once_leaves_nothing_of_sinks(tmp_path: Path, memory: Target) -> None:
    config = TrainingConfig(data=str(image_folder(tmp_path)), network=NETWORK, **SETTINGS)

    def fail(*args: Any) -> None:
        raise RuntimeError("out of memory")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="memory"):
        patch.setattr("training.training_loop.training_step", fail)
        train(config, tmp_path / "run", CPU, None, [memory])
    assert not WRITTEN and not list((tmp_path / "run").glob("[!.]*"))


def test_other_ranks_tell_nothing(
    tmp_path: Path, memory: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(data=str(image_folder(tmp_path)), network=NETWORK, **SETTINGS)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    alone = partial(InfiniteSampler, rank=0, num_replicas=1)
    monkeypatch.setattr(
        training_loop, "InfiniteSampler", lambda size, rank, ranks, **more: alone(size, **more)
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stats.jsonl").write_text('{"images": 16, "loss": 1}\n')  # the first rank's
    train(config, tmp_path / "run", CPU, None, [memory])
    assert not WRITTEN


def test_two_ranks_write_one_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="of the extra `log`")
    flags = ["--cond", "1", "--arch", "adm", "--cbase", "16", "--cres", "1", "--num-blocks", "1",
             "--attn", "0", "--batch", "16", "--duration", "0.000064", "--grid", "1x1"]  # fmt: skip
    outdir = tmp_path / "two"
    done = processes.run(
        "train.py", "--data", str(image_folder(tmp_path)), "--outdir", str(outdir), *flags, "--tensorboard", ranks=2
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(outdir / "tensorboard"))
    events.Reload()
    assert [x.step for x in events.Scalars("train/loss")] == [64]
    assert [x.step for x in events.Images("pictures")] == [64]
    assert len(list((outdir / "tensorboard").iterdir())) == 1
