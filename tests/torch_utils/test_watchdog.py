"""When one process of a run dies, the others end too."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

PROGRAM = textwrap.dedent("""
    import sys, time
    from torch_utils.watchdog import Watchdog

    rank = int(sys.argv[1])
    watchdog = Watchdog(rank)
    if rank == 0:
        print(watchdog.listen(3).hex(), flush=True)
    else:
        watchdog.connect("localhost", bytes.fromhex(sys.argv[2]))
    while len(watchdog.connections) < (2 if rank == 0 else 1):
        time.sleep(0.01)
    print("connected", flush=True)
    if sys.stdin.readline() == "leave\\n":
        watchdog.leave()
    sys.stdin.readline()
""")


def start(rank: int, *args: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(rank), *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def three() -> Iterator[list["subprocess.Popen[str]"]]:
    first = start(0)
    address = line(first)
    ranks = [first, start(1, address), start(2, address)]
    assert [line(process) for process in ranks] == ["connected"] * 3
    yield ranks
    for process in ranks:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("dead", [0, 1])
def test_one_that_is_killed_takes_the_others_along(
    three: list["subprocess.Popen[str]"], dead: int
) -> None:
    three[dead].kill()
    for rank in {0, 1, 2} - {dead}:
        assert three[rank].wait(timeout=60) == 2
        assert three[rank].stderr is not None
        (told,) = three[rank].stderr.read().split("\n")[1:-1]
        other = dead if 0 in (dead, rank) else 0  # all see rank 0, and rank 0 sees all
        assert told == f"Error: rank {rank} stops, as rank {other} ended before its time"


def test_one_that_leaves_does_not(three: list["subprocess.Popen[str]"]) -> None:
    for process in (three[1], three[0], three[2]):
        assert three[2].poll() is None and process.stdin is not None
        process.stdin.write("leave\n\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0


def test_a_rank_ends_when_its_launcher_was_killed() -> None:
    """Its pipes close with it, which the test waits for."""
    wait = "print(1, flush=True); time.sleep(600)"
    rank = f"import time; from torch_utils.watchdog import end_with_launcher as end; end(); {wait}"
    launcher = (
        "import os, signal, subprocess, sys\n"
        f"rank = subprocess.Popen([sys.executable, '-c', {rank!r}], stdout=subprocess.PIPE)\n"
        "rank.stdout.readline()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher], capture_output=True, text=True, timeout=60
    )
    assert "stops, as torchrun was killed" in done.stderr
