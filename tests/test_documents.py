"""What documents and --help tell one to type: the programs, flags, values, names and files of it exist.

Commands are read as a shell reads them and parsed by their programs, which then stop: nothing runs.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dnnlib.start import PROGRAMS
from metrics.detector import load_entries
from metrics.measure import parse_metrics
from metrics.names import METRICS
from sampling.samplers import SOLVERS
from skip.flags import SamplingFlags, SkipFlags
from skip.options import image_source
from skip.tables.item import Item
from skip.tables.plan import select
from skip.tables.spec import load_item
from skip_tuning.commands import COMMANDS
from training.presets import load_presets

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("examples/*.sbatch"))]
FORMS = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*"))]
DOCUMENTS = [
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / "benchmarks", ROOT / "tests/golden")
    for path in sorted(folder.glob("*.md"))
]
BENCHMARKS = [
    str(path.relative_to(ROOT))
    for path in sorted(ROOT.glob("benchmarks/*.py"))
    if "__main__" in path.read_text()
]
FOREIGN = ("venv", "http.server", "pip", "pytest")  # modules that are not ours
PLACEHOLDERS = {
    "--sampler NAME": "--sampler heun",
    "--metrics NAME": "--metrics fid",
    '"$@"': "table2",
}
OF_ALL = {"--help", "--version"}
# Of torchrun, pip and PyTorch's settings, where documents name them alone.
FLAGS_OF_OTHERS = {
    "--no-deps", "--nproc_per_node", "--extra-index-url", "--kernels", "--signal",
    "--kill-on-bad-exit",
}  # fmt: skip


def commands_of(program: str) -> dict[tuple[str, ...], click.Command]:
    """The command of a file such as "fid.py", and where it has several those too: () and ("calc",)."""
    main = import_module(program.removesuffix(".py").replace("/", ".")).main
    found: dict[tuple[str, ...], click.Command] = {(): main}
    if isinstance(main, click.Group):
        found |= {(name,): command for name, command in main.commands.items()}
    return found


OURS = {
    program: commands_of(program)
    for program in (*PROGRAMS, *BENCHMARKS, "skip_tuning/completion.py")
}
ALL_FLAGS = {
    name
    for commands in OURS.values()
    for command in commands.values()
    for parameter in command.params
    for name in (*parameter.opts, *parameter.secondary_opts)
}
HELPS = {
    " ".join((program, *name)): command
    for program in PROGRAMS
    for name, command in OURS[program].items()
}


def fences(text: str) -> list[str]:
    """The blocks of shell commands in a document."""
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


def spans(text: str) -> list[str]:
    """What is marked as code within the sentences of a document."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def simple_commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell script, word by word, with its variables in place; loops are gone through once."""
    values: dict[str, str] = {}
    for text, value in PLACEHOLDERS.items():
        script = script.replace(text, value)
    for line in script.replace("\\\n", " ").splitlines():
        filled = re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), line)
        reader = shlex.shlex(filled, posix=True, punctuation_chars="&|;")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            if not set(word) <= set("&|;"):
                words.append(word)
                continue
            while words and words[0] in ("do", "export"):
                words = words[1:]
            if words[:1] == ["for"]:
                values[words[1]] = words[3]
            while words and re.match(r"\w+=", words[0]):
                name, _, values[name] = words.pop(0).partition("=")
            if words:
                yield words[: words.index(">")] if ">" in words else words
            words = []


def programs_called(script: str) -> Iterator[tuple[str, list[str]]]:
    """The programs of ours that a script runs, as files, and what they are given."""
    for words in simple_commands(script):
        words[0] = words[0].rpartition("/")[2]  # .venv/bin/python
        if words[0] == "eval":
            yield from programs_called(words[1].strip("$()"))
        elif words[:3] == ["python", "-m", "skip_tuning"]:
            yield file_of(words[3]), words[4:]
        elif words[0] == "skip-tuning" and words[1] in COMMANDS:
            yield file_of(words[1]), words[2:]
        elif words[0] in ("python", "python3") and words[1] == "-m" and words[2] not in FOREIGN:
            path = words[2].replace(".", "/")
            yield (f"{path}/__main__.py" if (ROOT / path).is_dir() else f"{path}.py"), words[3:]
        elif words[0] in ("python", "python3") and words[1] != "-m":
            yield words[1], words[2:]
        elif "torchrun" in words:
            place = next(i for i, word in enumerate(words) if word.endswith(".py"))
            yield words[place], words[place + 1 :]


def file_of(name: str) -> str:
    """The file of what is called as `skip-tuning NAME`."""
    return COMMANDS[name][0].replace(".", "/") + ".py"


def check(program: str, words: list[str]) -> None:
    """Parse a command, and look up the names and files in it."""
    if program.startswith("examples/"):
        assert (ROOT / program).is_file() and not words
        return
    commands = OURS[program]
    name = tuple(words[:1]) if tuple(words[:1]) in commands else ()
    whole = len(commands) == 1 or set(words) <= OF_ALL
    assert name or whole, f"{program} has no command {words[0]}"
    if words == [*name] or words[-1] in (*OF_ALL, "..."):
        return  # it is only mentioned

    with commands[name].make_context(program, words[len(name) :]) as context:
        given = context.params
    for parameter in ("network", "teacher", "guide"):
        value = given.get(parameter)
        assert value is None or is_elsewhere(value) or value in load_presets(), value
    detector = given.get("detector")
    assert detector is None or is_elsewhere(detector) or detector in load_entries(), detector
    for value in given.values():
        if str(value).startswith(("assets/", "configs/", "tests/")):
            assert (ROOT / str(value)).exists() or "dest" in given, value
    if program == "fid.py" and given.get("metrics"):
        parse_metrics(given["metrics"])
    if program == "tables.py" and "profile" in given:
        for item in set(given["names"]) - {"all"}:
            select(item_of(item, given["profile"]), given["cells"])
    if "sigma_min" in given:
        # Documents name files that are yet to be made.
        as_list = given.get("rho_layers") and "0.8,0.9"
        skip = SkipFlags.of(given | {"rho_layers": as_list}) if "rho_bottom" in given else None
        image_source(SamplingFlags.of(given), skip)


@cache
def item_of(name: str, profile: str) -> Item:
    """An item of tables.py, read once, as documents name some of them often."""
    return load_item(name, profile)


def is_elsewhere(source: str) -> bool:
    """Whether it is a path or URL, which need not be here."""
    return "/" in source or "." in source


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_documents_parse(document: str) -> None:
    text = (ROOT / document).read_text()
    inline = [span for span in spans(text) if re.search("(python|torchrun|skip-tuning) ", span)]
    for script in [*fences(text), *inline]:
        for program, words in programs_called(script):
            check(program, words)


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_of_batch_scripts_parse(script: str) -> None:
    text = (ROOT / script).read_text()
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    called = list(programs_called(text))
    assert [program for program, _ in called] == ["generate.py", "fid.py"]
    for program, words in called:
        check(program, words)


@pytest.mark.parametrize("name", HELPS)
def test_examples_of_help_parse(name: str) -> None:
    text = CliRunner().invoke(HELPS[name], ["-h"]).output.replace("\\\n", " ")
    examples = [
        line.strip()
        for line in text.splitlines()
        if line.strip().startswith(("python ", "torchrun "))
    ]
    for example in examples:
        for program, words in programs_called(example):
            check(program, words)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_in_sentences_exist(document: str) -> None:
    for span in spans((ROOT / document).read_text()):
        first = span.removeprefix("python ").split()[0]
        known = ALL_FLAGS | FLAGS_OF_OTHERS | OF_ALL
        if first in OURS:
            flags = [item.opts for command in OURS[first].values() for item in command.params]
            known = {*OF_ALL, *chain.from_iterable(flags)}
        if first in OURS or first.startswith("--"):
            missing = [
                flag
                for flag in re.findall(r"(?:^|\s)(--[a-zA-Z][\w-]*)", span)
                if flag not in known
            ]
            assert not missing, span


@pytest.mark.parametrize("form", FORMS)
def test_flags_in_forms_for_issues_exist(form: str) -> None:
    text = (ROOT / form).read_text()
    for program, words in chain.from_iterable(programs_called(span) for span in spans(text)):
        check(program, words)
    assert set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", text)) <= ALL_FLAGS | OF_ALL


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tests_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for script in [*fences(text), *(span for span in spans(text) if span.startswith("pytest "))]:
        for words in simple_commands(script):
            if words[0] != "pytest":
                continue
            paths = [ROOT / word for word in words if word.startswith("tests/")]
            assert all(path.exists() for path in paths), words
            wanted = words[words.index("-k") + 1].split() if "-k" in words else []
            files = [
                file
                for path in paths
                for file in (path.glob("**/*.py") if path.is_dir() else [path])
            ]
            code = "\n".join(
                [f"def {file.stem}" for file in files] + [file.read_text() for file in files]
            )
            for word in set(wanted) - {"or", "and", "not", "NAME"}:
                assert re.search(rf"def test_\w*{word}|\"[\w-]*{word}", code), f"{words}: {word}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_name_exist(document: str) -> None:
    """Files in folders of the repository, but for NAME and for what the reader is to make."""
    text = (ROOT / document).read_text()
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    named = re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w\b(?!-?\$)", text)
    yet_to_come = re.compile(r"^(out|runs|datasets|downloads|results|build)/|NAME")
    missing = [
        path for path in named if not yet_to_come.search(path) and not (ROOT / path).exists()
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_of_make_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = [*fences(text), *(span for span in spans(text) if span.startswith("make "))]
    for words in (words for script in scripts for words in simple_commands(script)):
        assert words[0] != "make" or words[1] in targets, words


def test_commands_are_found() -> None:
    """As otherwise the tests above would pass."""
    called = [
        call
        for script in fences((ROOT / "README.md").read_text())
        for call in programs_called(script)
    ]
    programs = {"generate.py", "fid.py", "tables.py", "training/checkpoint.py"}
    assert programs | {"skip_tuning/completion.py"} == {program for program, _ in called}
    assert (
        "fid.py",
        [
            "gen",
            "--detector",
            "demo",
            "--ref",
            "assets/demo/reference.npz",
            "--seeds",
            "0-4999",
            "--steps",
            "5",
        ],
    ) in called
    assert list(
        programs_called(
            'A="--x 1"\nfor n in 2 3; do\n  torchrun --np=2 -- fid.py $A $n && make x > y\ndone'
        )
    ) == [("fid.py", ["--x", "1", "2"])]


def test_every_metric_has_its_row_with_its_values_and_every_flag_for_a_detector_is_one() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    rows = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            name, values = [cell.strip() for cell in line.strip("|").split("|")][:2]
            rows[name.strip("`")] = re.findall(r"`(\w+)`", values)
    assert {name: list(metric.quantities) for name, metric in METRICS.items()} == {
        name: rows[name] for name in METRICS
    }
    for name in re.findall(r"--detector ([\w-]+)", text):
        assert name in load_entries(), name


def test_every_solver_has_its_row_with_its_settings_and_its_grid() -> None:
    rows = {}
    for line in (ROOT / "docs/samplers.md").read_text().splitlines():
        if line.startswith("| `") and not line.startswith("| `--"):
            name, _, _, settings, grid = [cell.strip() for cell in line.strip("|").split("|")]
            rows[name.strip("`")] = (settings, grid)
    assert rows.keys() == SOLVERS.keys()

    flags = {
        "clip": "--no-clip",
        "lower_order_final": "--no-lower-order-final",
        "corrector_order": "--corrector-order",
    }
    for name, solver in SOLVERS.items():
        settings, grid = rows[name]
        assert grid == solver.grid
        if name == "ablation":
            continue
        expected = {flags.get(s, f"--{s}") for s in solver.names}
        assert set(re.findall(r"--[\w-]+", settings)) == expected
