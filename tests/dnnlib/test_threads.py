"""Threads as the control group allows; set before torch is loaded, in every program, and in programs only."""

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest

from dnnlib import threads
from dnnlib.start import PROGRAMS, ROOT


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a made-up file system of a machine with eight cores."""
    monkeypatch.setattr(threads, "_cores", lambda: 8)
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V1 = "5:memory:/job\n1:cpu,cpuacct:/job\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        (
            "0::/a/b\n",
            {"cpu.max": "150000 100000", "a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"},
            0.5,
        ),
        ("0::/a\n", {"a/cpu.stat": ""}, None),
        (V1, {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, None),
        (
            V1,
            {"cpu/job/cpu.cfs_quota_us": "300000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        (
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "1000\n", "cpu,cpuacct/cpu.cfs_period_us": "2000\n"},
            0.5,
        ),
        (
            V1,
            {"memory/job/cpu.cfs_quota_us": "1000\n", "memory/job/cpu.cfs_period_us": "2000\n"},
            None,
        ),
        (
            "5:memory:/other\n1:cpu:/job\n",
            {"cpu/other/cpu.cfs_quota_us": "1", "cpu/other/cpu.cfs_period_us": "2"},
            None,
        ),
        ("0::/\n", {"cpu.max": "rubbish"}, None),
    ],
)
def test_quota(machine: Path, cgroup: str, files: dict[str, str], quota: float | None) -> None:
    write(
        machine,
        {"proc/self/cgroup": cgroup}
        | {f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    )
    assert threads.cpu_quota(machine) == quota


@pytest.mark.parametrize(
    ("quota", "number"),
    [("100000", "1"), ("20000", "1"), ("250000", "2"), ("800000", None), ("max", None)],
)
def test_threads_are_no_more_than_the_quota(machine: Path, quota: str, number: str | None) -> None:
    write(machine, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    found = threads.defaults(machine)
    assert found == threads.WAITING | ({} if number is None else {"OMP_NUM_THREADS": number})


def test_a_machine_without_control_groups(machine: Path) -> None:
    assert threads.defaults(machine) == threads.WAITING


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"]),
        ({"OMP_NUM_THREADS": "5"}, ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]),
        ({"OMP_WAIT_POLICY": "active"}, ["OMP_NUM_THREADS"]),
        ({"GOMP_SPINCOUNT": "0"}, ["OMP_NUM_THREADS"]),
    ],
)
def test_what_the_user_has_set_stays(
    given: dict[str, str], added: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = threads.WAITING | {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(threads, "defaults", lambda: chosen)
    environment = dict(given)
    monkeypatch.setattr(os, "environ", environment)
    threads.set_defaults()
    assert environment == given | {name: chosen[name] for name in added}


def seen_by_torch(folder: Path, *args: str) -> str:
    """How threads wait, as a torch or a numpy sees it that Python loads with these arguments."""
    for name in ("torch.py", "numpy.py"):
        (folder / name).write_text(
            "import os\nprint(os.environ.get('GOMP_SPINCOUNT'), flush=True)\nos._exit(0)\n"
        )
    environment = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.check_output([sys.executable, *args], cwd=ROOT, env=environment, text=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_set_before_torch_is_loaded(program: str, tmp_path: Path) -> None:
    assert seen_by_torch(tmp_path, *processes.AT_WORK[program].split()) == "10000\n"


@pytest.mark.parametrize(
    "code", ["from skip import SkipScale", "from training.checkpoint import load_network"]
)
def test_left_alone_in_others_programs(code: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(code)
    assert seen_by_torch(tmp_path, str(tmp_path / "script.py")) == "None\n"
