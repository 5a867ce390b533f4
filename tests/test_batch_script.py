"""The Slurm script, with stand-ins of Slurm's commands: it measures what it made, and is queued again in time."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "generate-50k.sbatch"
RESULT = Path("out/50k-rho0.82.fid.json")
# Each notes how it was called; srun then does what a test says.
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> calls
[ "$1" != show ] || echo node1
"""
SRUN = """#!/bin/bash
echo "srun $*" >> calls
{}
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], tuple[int, list[str]]]:
    """Runs the script with an srun that does so; the exit status and the calls."""
    for name in ("bin", "out", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()

    def run(work: str) -> tuple[int, list[str]]:
        for name, text in (("scontrol", SCONTROL), ("srun", SRUN.format(work))):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)
        settings = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "70001",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_NNODES": "2",
        }
        done = subprocess.run(
            ["bash", SCRIPT],
            cwd=tmp_path,
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


def test_images_are_made_and_then_measured(
    job: Callable[[str], tuple[int, list[str]]], tmp_path: Path
) -> None:
    status, calls = job('case "$*" in *fid.py*) echo "{}" ;; esac')
    assert status == 0
    assert [call.split()[0] for call in calls] == ["scontrol", "srun", "srun"]
    assert "--rdzv_endpoint=node1:20001 -- generate.py " in calls[1] and "-- fid.py " in calls[2]
    assert (tmp_path / RESULT).read_text() == "{}\n"


def test_what_fails_is_not_measured_and_leaves_no_number(
    job: Callable[[str], tuple[int, list[str]]], tmp_path: Path
) -> None:
    assert job('case "$*" in *generate.py*) exit 9 ;; esac')[0] == 9
    status, calls = job('case "$*" in *fid.py*) echo half; exit 7 ;; esac')
    assert (status, len(calls)) == (7, 2 + 3)
    assert not (tmp_path / RESULT).exists()


def test_a_job_whose_time_ends_is_queued_again(
    job: Callable[[str], tuple[int, list[str]]], tmp_path: Path
) -> None:
    """Slurm sends the signal to the script alone, which must not wait for its programs with it."""
    waits = """
        kill -USR1 "$PPID"
        for _ in $(seq 300); do grep -q requeue calls && exit 1; sleep 0.01; done
        echo "too late" >> calls
    """
    _, calls = job(waits)
    assert "scontrol requeue 70001" in calls and "too late" not in calls
    assert not (tmp_path / RESULT).exists()
