"""The examples of --help, run one after the other as they stand, but of fewer images and by a small network."""

from pathlib import Path

import click
import pytest
import test_documents as documents
from click.testing import CliRunner
from tiny_network import saved

ROOT = Path(__file__).resolve().parents[1]
# What makes them small; of a flag that is given twice the last one counts.
SEEDS = {"0-4999": "0-3"}
FEWER = {
    ("tables.py", "run"): ["--num", "4", "--cells", "sampler=unipc,steps=5,rho=0.9"],
}
OF_A_NETWORK = {("generate.py", ""), ("fid.py", "gen")}
# What needs files that are not in the repository, or takes seconds and has tests of its own.
ELSEWHERE = ("https://", "imagenet", "datasets/", "torchrun", "--all", "tune --", "out/tune/")


def examples(program: str) -> list[str]:
    """The commands in a program's --help."""
    text = CliRunner().invoke(documents.OURS[program][()], ["-h"]).output.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith(("python ", "torchrun "))]


@pytest.mark.parametrize(
    ("program", "least"), [("generate.py", 4), ("fid.py", 2), ("tables.py", 4)]
)
def test_examples_of_help_run(
    program: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = saved(tmp_path, resolution=8 if program == "generate.py" else 32)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    ran = 0
    for example in examples(program):
        if any(word in example for word in ELSEWHERE):
            continue
        ((called, words),) = documents.programs_called(example)
        commands = documents.OURS[called]
        name = words[0] if (words[0],) in commands else ""
        more = list(FEWER.get((called, name), []))
        if (called, name) in OF_A_NETWORK:
            more += ["--network", network]

        main: click.Command = commands[()]
        words = [SEEDS.get(word, word) for word in words]
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, f"{example}: {done.stderr}"
        ran += 1
    assert ran >= least
