"""Builds the package: the checkout's code under the one name skip_tuning. All else is in pyproject.toml.

The checkout is laid out as EDM is, for `python generate.py`. Installed like that, folders called training or metrics
would stand in everybody's way. So each file is copied to skip_tuning/_app, and there its imports of the others, and the
commands in its texts, are those of the installed package.
"""

import ast
import re
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from skip_tuning.commands import COMMANDS  # noqa: E402

FOLDERS = ("dnnlib", "metrics", "programs", "sampling", "skip", "torch_utils", "training")
DATA = ("assets", "configs", "results")
APP = "skip_tuning._app"
PROGRAMS = {module: name for name, (module, _) in COMMANDS.items() if "." not in module}
MODULES = {module: name for name, (module, _) in COMMANDS.items() if "." in module}
OURS = {*FOLDERS, *PROGRAMS}


class Build(build_py):
    """Copies skip_tuning, and the checkout into its folder _app."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        app = Path(self.build_lib, *APP.split("."))
        shutil.rmtree(app, ignore_errors=True)  # of an earlier build
        app.mkdir(parents=True)
        (app / "__init__.py").write_text('"""The programs and folders of the repository."""\n')
        for source in [*(ROOT / f"{name}.py" for name in PROGRAMS), *_modules()]:
            target = app / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(moved(source.read_text(encoding="utf-8")), encoding="utf-8")
        for name in DATA:
            shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns(".*"))


def _modules() -> list[Path]:
    return [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py"))]


def moved(source: str) -> str:
    """A module's text for its place in the package."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
        for name in names:
            if name.partition(".")[0] in OURS:
                line = lines[node.lineno - 1]
                lines[node.lineno - 1] = re.sub(
                    rf"\b(from|import) {re.escape(name)}\b", rf"\1 {APP}.{name}", line
                )
    return _commands("".join(lines))


def _commands(text: str) -> str:
    """The text with the installed commands in place of the checkout's."""
    files = "|".join(PROGRAMS)
    for module, name in MODULES.items():
        text = text.replace(f"python -m {module.removesuffix('.__main__')}", f"skip-tuning {name}")
    text = re.sub(
        rf"(torchrun [^\n]*?)(-- )?({files})\.py\b", lambda m: _launched(m[1], m[2], m[3]), text
    )
    return re.sub(
        rf"(python )?(?<![/\w])({files})\.py\b", lambda m: f"skip-tuning {PROGRAMS[m[2]]}", text
    )


def _launched(before: str, dashes: str | None, program: str) -> str:
    return f"{before}-m {dashes or ''}skip_tuning {PROGRAMS[program]}"


setup(cmdclass={"build_py": Build})
