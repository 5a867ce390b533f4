"""Time --help of every program and command, of this checkout and of another.

    python benchmarks/help.py --against DIR --rounds 1

Prints Markdown: user and system seconds of a process of each checkout, medians over rounds in turn, and their ratio.
The modules of both are compiled before.
"""

import compileall
import importlib
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dnnlib.start import PROGRAMS  # noqa: E402


def command_lines() -> Iterator[list[str]]:
    """What follows `python` to ask each program, or where it has several commands each of them."""
    for path in PROGRAMS:
        module = path.removesuffix(".py").replace("/", ".")
        called = ["-m", module.removesuffix(".__main__")] if "/" in path else [path]
        main = importlib.import_module(module).main
        yield [*called, "--help"]
        for name in getattr(main, "commands", ()):
            yield [*called, name, "--help"]


def compile_modules(folder: Path) -> None:
    """Write what Python would write as it imports a module for the first time."""
    compileall.compile_dir(folder, maxlevels=0, quiet=2)
    for package in folder.iterdir():
        if (package / "__init__.py").is_file():
            compileall.compile_dir(package, quiet=2)


def seconds(folder: Path, words: list[str]) -> float:
    """User and system time of one process and those that it starts.

    Raises:
        click.ClickException: if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, env=environment()
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise click.ClickException(f"{' '.join(words)} in {folder} has status {done.returncode}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment() -> dict[str, str]:
    """Without this program's paths, by which another checkout might find our modules."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@click.command()
@click.option(
    "--against", type=click.Path(path_type=Path), required=True, help="The other checkout"
)
@click.option("--rounds", type=click.IntRange(min=1), default=1, help="Pairs of processes")
def main(against: Path, rounds: int) -> None:
    """Print the seconds, and the other's over ours, as Markdown."""
    against = against.absolute()
    if not (against / "generate.py").is_file():
        raise click.UsageError(f"--against {against} is no checkout: it has no generate.py")

    for folder in (against, ROOT):
        compile_modules(folder)
    click.echo(f"| command | {against.name}, s | this, s | ratio |\n|---|---|---|---|")
    for words in tqdm(list(command_lines()), desc="commands", disable=None):
        pairs = [[seconds(folder, words) for folder in (against, ROOT)] for _ in range(rounds)]
        other, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        shown = " ".join(words[:-1])
        tqdm.write(f"| `{shown}` | {other:.2f} | {ours:.2f} | {other / ours:.1f} |")


if __name__ == "__main__":
    main()
