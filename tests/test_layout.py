"""The layers: imports point down only, nothing is circular, and sampling stands alone."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Upper to lower.
LAYERS = ["scripts", "programs", "skip", "sampling", "metrics", "training", "torch_utils", "dnnlib"]
# Where an import inside a function has a reason, but for `with importing()`: file and module, and the reason beside it.
LATE_IMPORTS: dict[tuple[str, str], str] = {
    (
        "training.data.cifar",
        "torch_utils",
    ): "torch takes seconds to import, and only pickles need it",
    ("dnnlib.hub", "huggingface_hub"): "it is optional, and takes a second to import",
    ("dnnlib.hub", "huggingface_hub.errors"): "the same",
}


def sources() -> dict[str, Path]:
    """Module name -> file, of every program and package."""
    files = [
        *ROOT.glob("*.py"),
        *(path for layer in LAYERS[1:] for path in (ROOT / layer).rglob("*.py")),
    ]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def layer(module: str) -> str | None:
    """The layer of one of our modules, None for others'."""
    top = module.split(".")[0]
    return top if top in LAYERS else "scripts" if (ROOT / f"{top}.py").is_file() else None


def imports(tree: ast.AST, modules: set[str]) -> set[str]:
    """Our modules that the tree imports, wherever in it; `from package import module` counts as the module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"relative import at line {node.lineno}"
            found |= {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in modules else node.module
                for a in node.names
            }
    return {name for name in found if layer(name) is not None}


def imported_in_time(tree: ast.AST) -> set[ast.AST]:
    """What stands in `with importing()` of dnnlib.start: a command's, which takes seconds."""
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and ast.unparse(block.items[0]) == "importing()"
        for node in ast.walk(block)
    }


def problems(sources: dict[str, str]) -> list[str]:
    """What is wrong with modules given as name -> text."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    graph = {name: imports(tree, set(sources)) for name, tree in trees.items()}
    found = []
    for name, targets in graph.items():
        for target in targets:
            own, other = layer(name) or "scripts", layer(target) or ""
            if LAYERS.index(other) < LAYERS.index(own) or other == "scripts":
                found.append(f"{name} imports {target}: upward")
            if own == "sampling" and other != "sampling":
                found.append(f"{name} imports {target}: sampling stands alone")
    for name, tree in trees.items():
        functions = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        late = {
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        late -= imported_in_time(tree)
        for node in late:
            target = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            if (name, target) not in LATE_IMPORTS:
                found.append(f"{name} imports {target} inside a function, line {node.lineno}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circular: {' -> '.join(error.args[1])}")
    return found


def test_imports_point_down_and_nothing_is_circular() -> None:
    found = sources()
    assert {
        "generate",
        "skip.tuned",
        "sampling.samplers",
        "training.networks",
        "dnnlib.files",
    } <= found.keys()
    assert problems({name: path.read_text() for name, path in found.items()}) == []


@pytest.mark.parametrize(
    "modules, message",
    [
        ({"dnnlib.a": "import torch_utils.b"}, "upward"),
        ({"training.a": "from skip import scale", "skip.scale": ""}, "upward"),
        ({"skip.a": "def f():\n    import generate"}, "upward"),
        ({"demo": "import generate"}, "upward"),
        ({"sampling.a": "from dnnlib import files"}, "stands alone"),
        ({"skip.a": "import skip.b", "skip.b": "from skip.a import x"}, "circular"),
        ({"skip.a": "from skip import b", "skip.b": "from skip import a"}, "circular"),
        ({"skip.a": "def f():\n    import json"}, "inside a function"),
        (
            {"skip.a": "class A:\n    async def f():\n        from json import x"},
            "inside a function",
        ),
    ],
)
def test_this_test_would_see_it(modules: dict[str, str], message: str) -> None:
    assert any(message in problem for problem in problems(modules))


# Folders of a package, lower ones first: each may import from those that are named, besides itself.
FLOORS: dict[str, set[str]] = {
    "dnnlib.sinks": {"dnnlib"},
    "metrics.demo_detector": {"metrics.pixels", "metrics.weights"},
    "metrics": {"metrics.demo_detector"},
    "skip.methods": set(),
    "skip": {"skip.methods", "skip.diffusers"},  # the latter is what `import skip` offers
    "skip.diffusers": {"skip", "skip.evidence", "skip.methods", "skip.search"},
    "skip.evidence": set(),
    "skip.explore": {"skip"},
    "skip.studies": {"skip"},
    "skip.finetune": {"skip", "skip.studies"},
    "skip.tables.cells": {"skip", "skip.evidence", "skip.finetune", "skip.studies"},
    "skip.tables": {"skip", "skip.evidence", "skip.methods", "skip.tables.cells"},
    "skip.tables.show": {"skip.evidence", "skip.studies", "skip.tables", "skip.tables.cells"},
    "skip.search": {
        "skip",
        "skip.methods",
        "skip.evidence",
        "skip.tables",
        "skip.tables.cells",
        "skip.tables.show",
    },
    "training.kernels": set(),
    "training.blocks": {"training.kernels", "training.names"},
    "training.data": set(),
    "training.families.latent": {
        "training.own_format",
        "training.precond_base",
        "training.schedules",
        "training.blocks",
        "training.kernels",
        "training.families.ldm",
    },
    "training.families.ldm": {
        "training.blocks",
        "training.kernels",
        "training.families.latent",
    },
    "training.families.uvit": {"training.blocks", "training.kernels", "training.families.latent"},
    "training.families.edm2": {
        "training.precond",
        "training.blocks",
        "training.kernels",
        "training.families.latent",
    },
    "training.families": {
        "training.precond",
        "training.blocks",
        "training.families.edm2",
        "training.families.ldm",
        "training.families.uvit",
    },
    "training.run": {
        "training.augment",
        "training.storage",
        "training.families",
        "training.latents",
        "training.loss",
        "training.power_ema",
        "training.precond",
    },
    "training.autoencoder": {"training", "training.families.latent", "training.run"},
    "training.distillation": {"training", "training.families", "training.run"},
}


def crossings(modules: dict[str, Path]) -> set[tuple[str, str, str]]:
    """(folder, module that it imports of the same package, that module's folder), wherever these folders differ."""
    home = {name: ".".join(path.relative_to(ROOT).parts[:-1]) for name, path in modules.items()}
    found = set()
    for name, path in modules.items():
        for target in imports(ast.parse(path.read_text()), set(modules)):
            same_package = name.split(".")[0] == target.split(".")[0]
            if target in home and same_package and home[target] != home[name]:
                found.add((home[name], target, home[target]))
    return found


def test_each_floor_stands_on_lower_ones_only() -> None:
    wrong = [
        f"{folder} imports {module}"
        for folder, module, other in sorted(crossings(sources()))
        if folder != "training" and not {module, other} & FLOORS.get(folder, set())
    ]
    assert wrong == []


def test_every_folder_says_what_lives_there() -> None:
    for top in LAYERS[1:]:
        for path in (ROOT / top).rglob("__init__.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} says nothing"


# Programs, and what makes them.
KNOW_FLAGS = {
    "dnnlib.cli",
    "dnnlib.flags",
    "metrics.demo_detector.__main__",
    "metrics.demo_detector.flags",
    "metrics.demo_detector.work",
}
GROUND = ("dnnlib", "torch_utils", "sampling", "metrics")


def test_the_ground_does_not_know_the_roof() -> None:
    """What a library says must make sense to who calls it from Python: no flag of a program is named."""
    found = []
    for name, path in sources().items():
        if layer(name) not in GROUND or name in KNOW_FLAGS:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [
                    f"{name}: {flag}" for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)
                ]
    assert found == []
