"""The wheel: one name in site-packages, its programs run from anywhere, and the library asks for torch alone."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import processes
import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COPIED = (
    "assets", "configs", "dnnlib", "metrics", "programs", "results", "sampling", "skip", "skip_tuning",
    "torch_utils", "training",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools writes into the folder that it builds."""
    pytest.importorskip("setuptools", minversion="69", reason="builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=unwanted)
    for path in [
        *ROOT.glob("*.py"),
        ROOT / "pyproject.toml",
        ROOT / "README.md",
        ROOT / "MANIFEST.in",
    ]:
        shutil.copy(path, folder / "source")
    command = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=folder / "source",
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def python(installed: Path) -> list[str]:
    """A Python that has the wheel, and the packages of this one but for the project itself."""
    start = f"import sys; sys.path[:0] = [{str(installed)!r}, *{site.getsitepackages()!r}]; "
    return [sys.executable, "-S", "-P", "-c", start]


def run(
    python: list[str], code: str, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*python[:-1], python[-1] + code, *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )


def command(python: list[str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """skip-tuning with these arguments, as the script of the wheel starts it."""
    return run(python, "from skip_tuning.__main__ import main; main()", folder, *arguments)


def test_one_name_in_site_packages_and_a_small_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read("skip_tuning/_app/fid.py").decode()
        scripts = archive.read(
            next(name for name in names if name.endswith("entry_points.txt"))
        ).decode()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"skip_tuning"}
    assert "skip-tuning = skip_tuning.__main__:main" in scripts
    assert wheel.stat().st_size < 36e6  # nearly all of it the demo networks
    assert not re.search(
        r"^(from|import) (programs|skip|sampling|metrics|training|torch_utils|dnnlib)\b",
        text,
        re.MULTILINE,
    )
    assert "python fid.py" not in text and "skip-tuning fid gen --detector demo" in text
    assert "torchrun --standalone --nproc_per_node=gpu -m -- skip_tuning fid calc" in text


def test_programs_run_from_another_folder(installed: Path, tmp_path: Path) -> None:
    program = ["-m", "skip_tuning"]
    where: dict[str, Any] = {"folder": tmp_path, "PYTHONPATH": str(installed)}
    generated = ["generate", "--outdir", "out", "--seeds", "0-1", "--steps", "2"]
    done = processes.run(*program, *generated, **where)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "000000.png",
        "000001.png",
    ]
    listed = processes.run(*program, "tables", "show", "table2", "--format", "csv", **where)
    assert listed.returncode == 0 and "fid" in listed.stdout
    assert not (tmp_path / "results").exists()


def test_refusals_are_one_line(python: list[str], tmp_path: Path) -> None:
    for arguments, status, said in [
        (["--help"], 0, "skip-tuning COMMAND"),
        (["--version"], 0, f"skip-tuning-edm {VERSION}, Python "),
        (["fid", "--version"], 0, f"skip-tuning-edm {VERSION}, Python "),
        (["completion", "bash"], 0, "-F _skip_tuning_completion skip-tuning"),
        (["generat"], 2, "Error: skip-tuning has no command 'generat': did you mean generate?"),
        (["generate", "--steps", "-1"], 2, "Usage: skip-tuning generate"),
    ]:
        done = command(python, tmp_path, *arguments)
        assert done.returncode == status
        assert said in done.stdout + done.stderr


def test_the_library_needs_torch_and_numpy_alone(python: list[str], tmp_path: Path) -> None:
    """A diffusers user's stack is left as it is: what the programs need may be missing."""
    code = """
import json
for name in ("click", "filelock", "PIL", "requests", "safetensors", "scipy", "tqdm"):
    sys.modules[name] = None
import skip_tuning
scale = skip_tuning.SkipScale(bottom=0.8)
print(json.dumps({"file": skip_tuning.__file__, "apply": skip_tuning.apply.__name__, "scale": scale(2, 1.0).tolist()}))
"""
    done = run(python, code, tmp_path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["apply"] == "apply" and told["scale"] == pytest.approx([0.8, 0.9])
    assert str(ROOT) not in told["file"] and "/site/skip_tuning/" in told["file"]


def test_a_networks_answer_is_the_checkouts(installed: Path, tmp_path: Path) -> None:
    import torch

    from training.checkpoint import load_network

    code = """
import torch, skip_tuning
net = skip_tuning.load_network("demo")
x = torch.linspace(-1, 1, 1024).reshape(1, 1, 32, 32)
print(float(net(x, torch.tensor(1.0), torch.eye(10)[:1]).sum()))
"""
    (tmp_path / "answer.py").write_text(code)
    done = processes.run(tmp_path / "answer.py", folder=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    x = torch.linspace(-1, 1, 1024).reshape(1, 1, 32, 32)
    expected = float(load_network("demo")(x, torch.tensor(1.0), torch.eye(10)[:1]).sum())
    assert float(done.stdout) == pytest.approx(expected, rel=1e-5)
