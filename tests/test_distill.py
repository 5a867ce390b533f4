"""distill.py, run as a user runs it."""

import filecmp
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standins_distill import image_folder
from tiny_network import saved

from training.checkpoint import load_network

ROOT = Path(__file__).resolve().parents[1]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}
FLAGS = {"consistency": ["--levels", "6", "--distance", "huber"], "diff-instruct": ["--sigma-init", "2.5"]}
METHODS = list(FLAGS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    return saved(tmp_path, label_dim=3)


def program(method: str, teacher: str, data: Path, outdir: Path, *more: str, ranks: int = 1) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    flags = [*FLAGS[method], *(["--data", str(data)] if method == "consistency" else [])]
    run = ["--outdir", str(outdir), "--teacher", teacher, "--batch", "16", *flags, *more]
    return [sys.executable, *launch, "distill.py", method, *run]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENV, timeout=300)


@pytest.mark.parametrize("method", METHODS)
def test_killed_program_goes_on(method: str, teacher: str, data: Path, tmp_path: Path) -> None:
    long = ["--duration", "0.002", "--tick", "1", "--snap", "1", "--batch", "200"]
    outdir = tmp_path / "killed"
    command = program(method, teacher, data, outdir, *long)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=ENV) as process:
        while process.poll() is None and not list(outdir.glob("*.safetensors")):
            time.sleep(0.02)
        process.kill()
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("network-snapshot-000002.safetensors")
    whole = run(program(method, teacher, data, tmp_path / "whole", *long))
    snapshot = Path(whole.stdout.strip())
    assert filecmp.cmp(snapshot, outdir / snapshot.name, shallow=False)
    kind = "EDMConsistencyPrecond" if method == "consistency" else "EDMPrecond"
    assert type(load_network(snapshot)).__name__ == kind


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_distil_together(method: str, teacher: str, data: Path, tmp_path: Path) -> None:
    result = run(program(method, teacher, data, tmp_path / "two", "--duration", "0.000064", ranks=2))
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip().splitlines()[-1]).exists()
    lines = (tmp_path / "two" / "stats.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["images"] == 64


def test_student_draws_in_one_step(teacher: str, data: Path, tmp_path: Path) -> None:
    student = run(program("consistency", teacher, data, tmp_path / "run", "--duration", "0.000032")).stdout.strip()
    for sigma, status in (("80", 0), ("100", 2)):
        command = [sys.executable, "generate.py", "--outdir", str(tmp_path / sigma), "--network", student]
        drawn = run([*command, "--seeds", "0-3", "--sampler", "consistency", "--sigmas", sigma])
        assert drawn.returncode == status, drawn.stderr
    record = json.loads((tmp_path / "80" / "run.json").read_text())
    assert '"nfe": 1' in json.dumps(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--teacher", "none.safetensors"], "none.safetensors"),
        (["--data", "none.zip"], "none.zip"),
        (["--batch", "16", "--levels", "1"], "--levels"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--distance", "perceptual"], "reads 1x32x32 images; these are 1x8x8"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    change: list[str],
    message: str,
    teacher: str,
    data: Path,
    tmp_path: Path,
) -> None:
    result = run(program("consistency", teacher, data, tmp_path / "run", *change))
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert message in result.stderr and "Traceback" not in result.stderr
