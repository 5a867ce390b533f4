"""Time the demo network with several settings of OpenMP's threads, with the cores idle and with the cores taken.

    python benchmarks/threads.py --rounds 3

Prints Markdown: medians of the seconds that 32 images take, 4 steps, after as many uncounted; three times in each
process, over interleaved rounds.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import click
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dnnlib import threads  # noqa: E402

TIMED = """
import json, time
from sampling.settings import SamplerSettings
from skip.source import ImageSource
source = ImageSource(sampler=SamplerSettings(steps=4), labels="balanced").load("cpu")
list(source.batches(range(32), batch_size=32))
found = []
for _ in range(3):
    began = time.perf_counter()
    list(source.batches(range(32), batch_size=32))
    found.append(time.perf_counter() - began)
print(json.dumps(found))
"""


def seconds(variables: dict[str, str]) -> list[float]:
    """The times in a new process with these variables of OpenMP and no others."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", TIMED],
        cwd=ROOT,
        env=others | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(value) for value in json.loads(done.stdout)]


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Interleaved rounds")
@click.option(
    "--busy",
    type=click.IntRange(min=1),
    default=os.cpu_count(),
    help="Processes that take the cores",
)
def main(rounds: int, busy: int) -> None:
    """Print the medians as Markdown."""
    settings = {
        "OpenMP's own": {},
        "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"},
        "the same and `GOMP_SPINCOUNT=1000`": {
            "OMP_WAIT_POLICY": "passive",
            "GOMP_SPINCOUNT": "1000",
        },
        "`OMP_NUM_THREADS=1`": {"OMP_NUM_THREADS": "1"},
        f"dnnlib/threads.py: {threads.defaults()}": threads.defaults(),
    }
    columns = []
    for number in (0, busy):
        spinning = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)
        ]
        try:
            columns.append(measured(settings, rounds))
        finally:
            for process in spinning:
                process.kill()
    click.echo(f"| threads | idle, s | {busy} busy processes, s |\n|---|---|---|")
    for name, idle, taken in zip(settings, *columns, strict=True):
        click.echo(f"| {name} | {idle:.1f} | {taken:.1f} |")


def measured(settings: dict[str, dict[str, str]], rounds: int) -> list[float]:
    """The median of each setting."""
    times: list[list[float]] = [[] for _ in settings]
    for _ in tqdm(range(rounds), desc="rounds"):
        for found, variables in zip(times, settings.values(), strict=True):
            found += seconds(variables)
    return [statistics.median(found) for found in times]


if __name__ == "__main__":
    main()
