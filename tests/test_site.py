"""The documentation's site and what stands beside the code: every page is in it, and so is every public module."""

import ast
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dnnlib.colours import DARK, LIGHT

ROOT = Path(__file__).resolve().parents[1]
HOOKS = ROOT / "docs" / "site" / "hooks.py"
# Folders whose every module is for who writes Python, but for those that serve the others.
PUBLIC = ("sampling", "metrics", "skip/methods", "skip/diffusers", "skip/studies")
INTERNAL = {
    "metrics.detector_list", "metrics.feature_store", "metrics.gaussian", "metrics.images",
    "metrics.inception", "metrics.inception_blocks", "metrics.kernel_groups", "metrics.perceptual",
    "metrics.pixels", "metrics.references", "metrics.scripted_inception",
    "metrics.stored_features", "metrics.transformers_detector", "metrics.weights",
    "skip.diffusers.hooks", "skip.diffusers.joins",
}  # fmt: skip


def assigned(name: str) -> Any:
    """A literal of hooks.py, whose own imports may not be installed."""
    for node in ast.parse(HOOKS.read_text()).body:
        target = (
            node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [0])[0]
        )
        if isinstance(target, ast.Name) and target.id == name:
            return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    raise KeyError(name)


def listed() -> list[str]:
    return [name for _, modules in assigned("API").values() for name in modules]


def test_every_document_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = set(re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE))
    own = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert named == own | set(assigned("PAGES").values())
    assert all((ROOT / source).is_file() for source in assigned("PAGES"))


def test_the_modules_of_the_reference_exist_and_stand_there_once() -> None:
    names = listed()
    assert len(names) == len(set(names))
    for name in names:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name


def test_every_public_module_is_in_the_reference() -> None:
    found = {
        f"{folder.replace('/', '.')}.{path.stem}"
        for folder in PUBLIC
        for path in (ROOT / folder).glob("*.py")
        if path.stem not in ("__init__", "names")  # tables of what can be chosen
    }
    assert found - set(listed()) == INTERNAL & found == INTERNAL


def test_the_reference_leaves_no_function_or_class_out() -> None:
    """What has no docstring is not shown."""
    silent = []
    for name in listed():
        path = ROOT / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                silent += [] if ast.get_docstring(node) else [f"{name}.{node.name}"]
    assert silent == []


@pytest.mark.parametrize("file", ["Makefile", ".ci/run"])
def test_warnings_of_mkdocs_are_not_silenced(file: str) -> None:
    """With --quiet they are not counted, and strict means nothing."""
    calls = re.findall(r"-m mkdocs.*", (ROOT / file).read_text())
    assert [call.partition(" #")[0] for call in calls] == ["-m mkdocs build"]
    assert re.search(r"^strict: true$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)


def test_colours_are_those_of_the_other_pages() -> None:
    used = re.findall(r"#[0-9a-f]{6}", (ROOT / "docs/site/pages.css").read_text())
    assert used and set(used) <= {*LIGHT.values(), *DARK.values()}


@pytest.fixture
def hooks() -> Any:
    """The module itself, where what it imports is installed."""
    for package in ("mkdocs", "griffe"):
        pytest.importorskip(package, reason="of the extra `docs`")
    spec = spec_from_file_location("hooks", HOOKS)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page, link, there",
    [
        ("index.md", "docs/samplers.md", "samplers.md"),
        ("index.md", "docs/parity.md#of-the-published-files", "parity.md#of-the-published-files"),
        ("index.md", "LICENSE", "LICENSE"),
        ("training.md", "../assets/demo/stats.jsonl", "assets/demo/stats.jsonl"),
        ("training.md", "../README.md", "index.md"),
        ("benchmarks/README.md", "../docs/demo.md", "../demo.md"),
        ("index.md", "https://arxiv.org/abs/2402.15170", "https://arxiv.org/abs/2402.15170"),
        ("demo.md", "#colour", "#colour"),
    ],
)
def test_links_lead_to_the_pages_of_the_site(hooks: Any, page: str, link: str, there: str) -> None:
    asked = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    code = "\n```python\nx[0](docs/samplers.md)\n```\n"
    text = hooks.on_page_markdown(f"see [it]({link}).{code}", asked)
    assert text == f"see [it]({there}).{code}"


def test_what_looks_like_a_tag_is_text(hooks: Any) -> None:
    value = "Writes images-<thousand images>.png, of `<b>`, if 0 < x."
    one = SimpleNamespace(docstring=SimpleNamespace(value=value))
    hooks.Words().on_object(obj=one)
    assert one.docstring.value == "Writes images-&lt;thousand images>.png, of `<b>`, if 0 < x."


def test_sections_of_docstrings_are_found(hooks: Any) -> None:
    """Ours follow one another without air, and one line may tell of two arguments."""
    from griffe import Docstring

    one = SimpleNamespace(
        docstring=Docstring(
            "Levels.\n\nArgs:\n    low, high: the ends,\n        in data units.\n    n: how many."
            "\nReturns:\n    float64 [n].\nRaises:\n    ValueError: if n < 1.\n"
        )
    )
    hooks.Words().on_object(obj=one)
    _, arguments, returned, raised = one.docstring.parse("google", warnings=False)
    assert [argument.name for argument in arguments.value] == ["low,\u00a0high", "n"]
    assert arguments.value[0].description == "the ends,\nin data units."
    assert [part.kind.value for part in (returned, raised)] == ["returns", "raises"]


def test_formulas_keep_their_lines(hooks: Any) -> None:
    formula = "x_s = x + h d,\nd = (x - D) / sigma"
    prose = "With x = y it is 0,\nso that z = 1."
    one = SimpleNamespace(docstring=SimpleNamespace(value=f"d = 1 here.\n\n{formula}\n\n{prose}"))
    hooks.Words().on_object(obj=one)
    shown = "    x_s = x + h d,\n    d = (x - D) / sigma"
    assert one.docstring.value == f"d = 1 here.\n\n{shown}\n\n{prose}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_files_for_the_host_are_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="of the extra `dev`")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_workflow_runs_the_two_commands_on_each_python() -> None:
    yaml = pytest.importorskip("yaml", reason="of the extra `dev`")
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    block = re.search(
        r"## Two commands\n\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    assert block
    commands = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    steps = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    assert steps == commands
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert all(re.search(r"@v\d+\.\d+\.\d+$", name) for name in used)


def test_the_container_has_what_installing_needs() -> None:
    """What .dockerignore leaves out is not of the package; the extras and arguments in the Dockerfile exist."""
    text = (ROOT / "Dockerfile").read_text()
    extras = re.search(r"'\.\[([\w,]+)\]'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras and set(extras[1].split(",")) <= project["optional-dependencies"].keys()
    asked = set(re.findall(r"--build-arg (\w+)=", text))
    assert asked == {"TORCH_INDEX", "USER_ID"} <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    kept = re.search(r"SKIP_TUNING_CACHE=(\S+)", text)
    assert kept and re.search(rf"^VOLUME {kept[1]}$", text, re.MULTILINE)
    assert re.search(r"^USER \$\{USER_ID\}$", text, re.MULTILINE)

    ignored = {line.rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    grafted = re.findall(r"^graft (\w+)", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    assert not ignored & {*grafted, "skip_tuning", "setup.py", "pyproject.toml", "README.md"}
