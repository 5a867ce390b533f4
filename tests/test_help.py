"""What is answered at once: --help and misspelt flags load nothing but click, for every program and command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.start import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]
# Asks every program and its commands in one process; writes command line -> status, and what it loaded of others.
ASKED = """
import importlib, json, runpy, sys

target, *paths = sys.argv[1:]
ours = {path.removesuffix(".py").split("/")[0] for path in paths}
ours |= {"click", "dnnlib", "programs", "sampling", "skip_tuning", "torch_utils"}
answers = {}

def loaded():
    tops = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")}
    return tops - ours - sys.stdlib_module_names

def ask(module, *arguments):
    before, sys.argv = loaded(), [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    answers[" ".join([module, *arguments])] = [status, sorted(loaded() - before)]

for path in paths:
    module = path.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    ask(module, "--help")
    ask(module, "--nonsense")
    main = importlib.import_module(path.removesuffix(".py").replace("/", ".")).main
    for name in getattr(main, "commands", {}):
        ask(module, name, "--help")
        ask(module, name, "--nonsense")
for name in importlib.import_module("skip_tuning.commands").COMMANDS:
    ask("skip_tuning", name, "--help")
    ask("skip_tuning", name, "--nonsense")
with open(target, "w") as file:
    json.dump(answers, file)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    """Command line -> exit status, and the packages that were loaded."""
    target = tmp_path_factory.mktemp("help") / "answers.json"
    command = [sys.executable, "-W", "ignore", "-c", ASKED, str(target), *PROGRAMS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, list[str]]] = json.loads(target.read_text())
    return found


def test_help_and_misspelt_flags_load_click_alone(
    answers: dict[str, tuple[int, list[str]]],
) -> None:
    assert {asked: loaded for asked, (_, loaded) in answers.items() if loaded} == {}
    for asked, (status, _) in answers.items():
        assert status == (0 if asked.endswith("--help") else 2), asked
    assert {"fid gen --help", "tables tune --nonsense", "training.plot --help"} <= answers.keys()
    assert {"skip_tuning generate --help", "skip_tuning plot --nonsense"} <= answers.keys()
