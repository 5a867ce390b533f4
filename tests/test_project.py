"""What the repository says of itself: its environments agree, and its README's code runs."""

import ast
import http.server
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_and_pip_ask_for_the_same_packages() -> None:
    yaml = pytest.importorskip("yaml", reason="of the extra `dev`")
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    asked = [*pyproject()["dependencies"], *pyproject()["optional-dependencies"]["programs"]]
    names = [re.match(r"[\w-]+", requirement) for requirement in asked]
    expected = {
        requirement.replace(name[0], CONDA_NAMES.get(name[0], name[0]), 1)
        for requirement, name in zip(asked, names, strict=True)
        if name
    }
    assert set(conda) == expected | {"python" + pyproject()["requires-python"]}


def test_every_dependency_is_pinned() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().split()
    }
    wanted = [
        *pyproject()["dependencies"],
        *(x for extra in pyproject()["optional-dependencies"].values() for x in extra),
    ]
    names = {
        match[0].lower() for requirement in wanted if (match := re.match(r"[\w-]+", requirement))
    }
    assert names - {pyproject()["name"]} <= pins


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    yaml = pytest.importorskip("yaml", reason="of the extra `dev`")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = pyproject()
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]["text"]
    paper = citation["preferred-citation"]
    assert paper["url"] in (ROOT / "README.md").read_text()
    assert all({"given-names", "family-names"} == set(author) for author in paper["authors"])


def test_files_of_tests_have_names_of_their_own() -> None:
    """Folders of tests are no packages, so that pytest takes two files of one name for one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_tests_collect_without_optional_packages() -> None:
    """On a bare GPU machine `pytest -m gpu` has torch, numpy, scipy and pytest: others are skipped where missing."""
    optional = {
        "diffusers", "matplotlib", "prdc", "pywt", "sklearn", "torch_fidelity", "transformers",
        "yaml",
    }  # fmt: skip
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in optional]
    assert found == [], "use pytest.importorskip"


@pytest.mark.parametrize(
    "document", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL)
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", text) if not x.startswith("http")]
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert not missing


def test_python_in_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        scope: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), scope)  # our own text
        assert scope["images"].shape == (16, 1, 32, 32)


@pytest.fixture
def cpu_index(tmp_path: Path) -> Iterator[str]:
    """The URL of an index that has torch."""
    (tmp_path / "index" / "torch").mkdir(parents=True)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.skipif(
    shutil.which("make") is None or sys.platform != "linux", reason="of make on Linux"
)
@pytest.mark.parametrize(
    ("variables", "told", "arguments"),
    [
        ({"GPU": "/dev/nvidia0"}, "/dev/nvidia0 is here): several GB", ""),
        ({"GPU": ""}, "torch for CPUs, since there is no NVIDIA GPU", "--extra-index-url INDEX"),
        (
            {"GPU": "", "CPU_INDEX": "http://127.0.0.1:1"},
            "cannot be reached: torch comes from where pip usually",
            "",
        ),
        (
            {"GPU": "", "PIP_ARGS": "--no-index -f x"},
            "pip gets your arguments: --no-index -f x",
            "--no-index -f x",
        ),
    ],
    ids=["gpu", "cpu", "offline", "given"],
)
def test_set_up_says_which_torch_it_takes(
    variables: dict[str, str], told: str, arguments: str, cpu_index: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    given = {"PYTHON": sys.executable, "CPU_INDEX": cpu_index, "PIP_ARGS": ""} | variables
    command = ["make", "pip-args", *(f"{name}={value}" for name, value in given.items())]
    assert told in subprocess.check_output(command, cwd=tmp_path, text=True)
    assert (tmp_path / ".venv/pip-args").read_text().strip() == arguments.replace(
        "INDEX", cpu_index
    )
