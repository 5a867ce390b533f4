"""A shell's TAB: what it is offered, that it is quick and silent, and that it runs no file but ours."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from metrics.names import METRICS, detectors
from sampling.names import GRIDS, SOLVERS
from skip.methods.names import METHODS
from skip.tables.names import item_names, profiles
from skip_tuning import completion
from skip_tuning.commands import COMMANDS, NAME, program
from training.names import networks

ROOT = Path(__file__).resolve().parents[1]
Ask = Callable[..., tuple[list[str], set[str]]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A function of the words after `skip-tuning`, the last of which is being typed: names, and kinds of files."""

    def ask(*words: str) -> tuple[list[str], set[str]]:
        quoted = (word if word.strip() else "''" for word in words[:-1])
        monkeypatch.setenv("COMP_WORDS", " ".join([NAME, *quoted, words[-1]]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert completion.answer("bash_complete") == 0
        said = capsys.readouterr()
        assert said.err == ""
        answers = [line.partition(",") for line in said.out.split()]
        names = [value for kind, _, value in answers if kind == "plain"]
        return names, {kind for kind, _, _ in answers} - {"plain"}

    return ask


def parameters() -> Iterator[tuple[click.Context, click.Parameter]]:
    """Every flag and argument of every command of every program."""
    for name in COMMANDS:
        main = program(name)
        for command in getattr(main, "commands", {"": main}).values():
            for parameter in command.params:
                yield click.Context(command), parameter


def values(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return [item.value for item in parameter.shell_complete(ctx, typed) if item.type == "plain"]


def test_programs_commands_and_flags(offered: Ask) -> None:
    assert offered("") == (list(COMMANDS), set())
    assert offered("ge") == (["generate"], set())
    assert offered("tables", "") == (["list", "run", "show", "tune"], set())
    assert offered("generate", "--rho-b") == (["--rho-bottom"], set())
    assert offered("--v") == offered("generate", "--vers") == offered("fid", "--v")
    assert offered("--v") == (["--version"], set())
    assert offered("fid", "calc", "--v") == ([], set())


@pytest.mark.parametrize(
    ("words", "names", "files"),
    [
        (["generate", "--sampler", ""], [name for name in SOLVERS if name != "ablation"], None),
        (["generate", "--sigmas", ""], list(GRIDS), None),
        (["fid", "gen", "--skip-method", ""], list(METHODS), None),
        (["generate", "--network", ""], networks(), "file"),
        (["generate", "--network", "=", "demo-u"], ["demo-uncond", "demo-uvit"], "file"),
        (["generate", "--network", "=", "demo", "--guide", "demo-u"], ["demo-uncond", "demo-uvit"], "file"),
        (["checkpoint", "convert", ""], networks(), "file"),
        (["tables", "tune", "--detector", ""], detectors(), "file"),
        (["tables", "run", ""], item_names(), None),
        (["tables", "show", "table2", "--profile", ""], profiles(), None),
        (["fid", "calc", "--metrics", ""], list(METRICS), None),
        (["fid", "calc", "--metrics", "fid,is,i"], ["fid,is,immd"], None),
        (["dataset", "--split", ""], ["train", "test"], None),
        (["generate", "--outdir", ""], [], "dir"),
        (["fid", "calc", "--ref", ""], [], "file"),
        (["generate", "--seeds", ""], [], None),
        (["generate", "--steps", ""], [], None),
        (["completion", ""], ["bash", "zsh", "fish"], None),
    ],
)  # fmt: skip
def test_values(offered: Ask, words: list[str], names: list[str], files: str | None) -> None:
    assert offered(*words) == (names, {files} - {None})


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_flag_and_its_value_in_one_word_stay_together(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", "skip-tuning generate --guide=demo-cd --network=demo-u")
    monkeypatch.setenv("COMP_CWORD", "--network=demo-u" if shell == "fish" else "3")
    assert completion.answer(f"{shell}_complete") == 0
    said = capsys.readouterr()
    assert said.out.replace("plain", "").replace("_", "").replace(",", " ").split() == [
        "--network=demo-uncond",
        "--network=demo-uvit",
    ]
    assert said.err == ""


def test_what_is_named_is_offered_wherever_it_is_asked_for() -> None:
    found = set()
    of_flags: dict[str, set[tuple[str, ...]]] = {}
    for ctx, parameter in parameters():
        given = values(ctx, parameter, "")
        if not isinstance(parameter.type, click.Choice):
            of_flags.setdefault(parameter.opts[0], set()).add(tuple(given))
        if "NAME" in (parameter.metavar or "") or "ITEM" in (parameter.metavar or ""):
            assert given, f"{ctx.command.name} {parameter.opts}"
            found.add(parameter.name)
    assert {"network", "guide", "teacher", "transfer", "detector", "profile", "names"} <= found
    different = [name for name, offered in of_flags.items() if len(offered) > 1]
    assert different == []
    assert of_flags["--skip-method"] == {tuple(METHODS)}
    assert of_flags["--device"] == {("cpu", "cuda")}


def test_bad_input_is_answered_in_silence(offered: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("generate", "--nonsense", "--rho-b")[0] == ["--rho-bottom"]
    assert offered("generate", "--outdir", "", "--steps", "x", "--rho-b")[0] == ["--rho-bottom"]
    assert offered("generate", "'unclosed --rho") == ([], set())
    assert offered("fid", "nonsense", "c") == (["calc"], set())
    monkeypatch.setattr("training.names.NETWORKS_TOML", ROOT / "README.md")
    assert offered("generate", "--network", "") == ([], {"file"})
    monkeypatch.delenv("COMP_WORDS")
    assert completion.answer("bash_complete") == 1
    assert completion.answer("nonsense") == 1


def test_it_loads_click_alone_and_makes_no_file(tmp_path: Path) -> None:
    code = (
        "import json, sys; from skip_tuning.completion import answer; answer('bash_complete');"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    environment = os.environ | {
        "COMP_WORDS": "skip-tuning tables tune --network demo-c",
        "COMP_CWORD": "4",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    *answers, loaded = done.stdout.splitlines()
    assert answers == ["file,demo-c", "plain,demo-cd", "plain,demo-color"] and done.stderr == ""
    others = {"torch", "numpy", "scipy", "PIL", "requests", "safetensors", "tqdm", "filelock"}
    assert others.isdisjoint(json.loads(loaded)) and "click" in json.loads(loaded)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_a_script(shell: str) -> None:
    done = CliRunner().invoke(completion.main, [shell])
    assert done.exit_code == 0 and f"_SKIP_TUNING_COMPLETE={shell}_complete" in done.output
    assert ("_skip_tuning_python" in done.output) == (shell == "bash")
    assert ('string split -m 1 "," $completion' in done.output) == (shell == "fish")


@pytest.mark.skipif(shutil.which("bash") is None, reason="runs bash")
def test_bash_completes_our_scripts_and_runs_nobody_elses(tmp_path: Path) -> None:
    script = CliRunner().invoke(completion.main, ["bash"]).output
    (tmp_path / "generate.py").write_text("import dnnlib.start\nopen('executed', 'w')\n")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "plot.py").write_text("open('executed', 'w')\n")
    asked = {
        (tmp_path, "python", str(ROOT / "generate.py"), "--network", "demo-u"): "demo-uncond demo-uvit",
        (ROOT, "python", "-m", "training.checkpoint", "rec"): "reconstruct",
        (tmp_path, "python", "generate.py", "--rho-b"): "",
        (tmp_path, "python", "-m", "training.plot", "--o"): "",
        (ROOT, "python", "setup.py", "--"): "",
    }  # fmt: skip
    lines = [script, "compopt() { :; }"]
    for folder, *words in asked:
        quoted = " ".join(f"'{word}'" for word in words)
        lines += [f"cd '{folder}'", f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1} COMPREPLY=()",
                  "_skip_tuning_python", 'echo "${COMPREPLY[*]}"']  # fmt: skip
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == list(asked.values())
    assert not (tmp_path / "executed").exists()
