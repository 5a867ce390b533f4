"""distill.py, run as a user runs it."""

import filecmp
import json
from pathlib import Path

import processes
import pytest
from click.testing import CliRunner, Result
from small_network import image_folder, least

import distill
import generate
from training.checkpoint import load_network, save_network

FLAGS = {
    "consistency": ["--levels", "6", "--distance", "huber"],
    "diff-instruct": ["--sigma-init", "2.5"],
}
METHODS = list(FLAGS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    path = tmp_path / "least.safetensors"
    save_network(least(), path)
    return str(path)


def arguments(method: str, teacher: str, data: Path, outdir: Path, *more: str) -> list[str]:
    flags = [*FLAGS[method], *(["--data", str(data)] if method == "consistency" else [])]
    run = ["--outdir", str(outdir), "--teacher", teacher, "--batch", "16", *flags, *more]
    return [method, *run]


def distilled(*args: str) -> Result:
    return CliRunner().invoke(distill.main, args)


@pytest.mark.parametrize("method", METHODS)
def test_killed_program_goes_on(method: str, teacher: str, data: Path, tmp_path: Path) -> None:
    """The state is saved after each step, as if each took ten minutes."""
    outdir, save = tmp_path / "killed", {"training.run.watch:SAVE_SECONDS": 0.0}
    command = arguments(method, teacher, data, outdir, "--duration", "0.00008")
    processes.run(
        "distill.py", *command, patches=save, kill_at=("training.run.watch:Watch.step", 4)
    )
    assert [path.name for path in outdir.glob("*.safetensors")] == [
        "network-snapshot-latest.safetensors"
    ]
    done = processes.run("distill.py", *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("network-snapshot-000000.safetensors")
    whole = distilled(
        *arguments(method, teacher, data, tmp_path / "whole", "--duration", "0.00008")
    )
    assert whole.exit_code == 0, whole.stderr
    snapshot = Path(whole.stdout.strip())
    assert filecmp.cmp(snapshot, outdir / snapshot.name, shallow=False)
    kind = "EDMConsistencyPrecond" if method == "consistency" else "EDMPrecond"
    assert type(load_network(snapshot)).__name__ == kind


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_distil_together(method: str, teacher: str, data: Path, tmp_path: Path) -> None:
    command = arguments(method, teacher, data, tmp_path / "two", "--duration", "0.000064")
    result = processes.run("distill.py", *command, ranks=2)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip().splitlines()[-1]).exists()
    lines = (tmp_path / "two" / "stats.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["images"] == 64


def test_student_draws_in_one_step(teacher: str, data: Path, tmp_path: Path) -> None:
    command = arguments("consistency", teacher, data, tmp_path / "run", "--duration", "0.000032")
    student = distilled(*command).stdout.strip()
    for sigma, status in (("80", 0), ("100", 2)):
        flags = [
            "--outdir", str(tmp_path / sigma), "--network", student, "--seeds", "0-3", "--sigmas",
            sigma,
        ]  # fmt: skip
        drawn = CliRunner().invoke(generate.main, [*flags, "--sampler", "consistency"])
        assert drawn.exit_code == status, drawn.stderr
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
    result = distilled(*arguments("consistency", teacher, data, tmp_path / "run", *change))
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert message in result.stderr and "Traceback" not in result.stderr
