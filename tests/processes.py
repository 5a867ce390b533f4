"""Our programs as processes of their own, started in tenths of a second.

    done = processes.run("train.py", "--outdir", folder)
    done = processes.run("train.py", "--outdir", folder, ranks=2)
    processes.run("train.py", "--outdir", folder, kill_at=("training.run.watch:Watch.step", 7))

`python train.py` spends 3 s on importing installed packages, and 2 s more at its first step. Here a process that has
imported them, and nothing of ours, forks for each start. The rest is as in a new process: our modules are imported
anew, with arguments, folder, environment and output of their own; only that files are not flushed to the disk. What
Python itself does before the packages is not tried here, but in dnnlib/test_start.py and dnnlib/test_threads.py;
torchrun is tried in test_generate.py.
"""

import functools
import itertools
import multiprocessing
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["torch._dynamo", "click", "filelock", "matplotlib.figure", "PIL.Image", "requests", "safetensors.torch",
            "scipy.linalg", "scipy.special", "tqdm.auto"]  # fmt: skip

# What follows `python` so that a program comes to its work, for which it imports torch or numpy.
AT_WORK = {
    "autoencoder.py": "autoencoder.py encode --autoencoder x --data x --dest x.npz",
    "dataset_tool.py": "dataset_tool.py --source x --dest x.zip",
    "demo.py": "demo.py",
    "distill.py": "distill.py diff-instruct --outdir x --teacher x",
    "explore.py": "explore.py",
    "fid.py": "fid.py calc --images x --ref x",
    "generate.py": "generate.py --outdir x",
    "tables.py": "tables.py list",
    "train.py": "train.py --outdir x --data x",
    "metrics/demo_detector/__main__.py": "-m metrics.demo_detector train --data x --dest x",
    "skip/finetune/__main__.py": "-m skip.finetune rho --duration-images 32 --dest x",
    "training/checkpoint.py": "-m training.checkpoint convert x y",
    "training/plot.py": "-m training.plot assets/demo/stats.jsonl x.png",
}

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PACKAGES)


def run(
    *command: str | Path,
    folder: Path = ROOT,
    ranks: int = 1,
    kill_at: tuple[str, int] | None = None,
    patches: dict[str, Any] | None = None,
    timeout: float = 300,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        command: what would follow `python`: a path or -m and a module's name, and arguments.
        folder: where it runs.
        ranks: processes that work together, told so as torchrun does; but none is ended for the failure of another.
            Of torchrun itself, its machines.
        kill_at: function, as "package.module:name", and number: `kill -9` when it returns for the so manieth time.
            A program that ends before fails the test.
        patches: other values for names of ours, written likewise.
        timeout: seconds.
        environment: variables that differ from this process's.
    Returns:
        The status of the first rank that failed, 0 if none did, and the output of all.
    Raises:
        TimeoutError: when the time is over; the program is killed.
    """
    from training.kernels import (
        choose,
    )  # not at the top: a forked process has imported nothing of ours

    # With --kernels, a program computes as this process does.
    kernels = {} if choose.forced is None else {"training.kernels.choose:forced": choose.forced}
    with tempfile.TemporaryDirectory() as output:
        start = _Start(
            list(map(str, command)),
            str(folder),
            kill_at,
            kernels | (patches or {}),
            torch.get_num_threads(),
        )
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where ranks meet
        processes = []
        for rank, told in enumerate(_ranks(ranks, store.port)):
            files = [os.path.join(output, f"{name}{rank}") for name in ("out", "err")]
            arguments = (os.environ | environment | told, files)
            processes.append(_server.Process(target=start.become, args=arguments, daemon=True))
        with pytest.MonkeyPatch.context() as patch:
            # For the server, if it starts now: one with threads must not fork.
            patch.setenv("OMP_NUM_THREADS", "1")
            for process in processes:
                process.start()

        until = time.monotonic() + timeout
        for process in processes:
            process.join(max(until - time.monotonic(), 0))
        late = any(process.exitcode is None for process in processes)
        for process in processes:
            process.kill()
            process.join()
        out, err = (_joined(Path(output), name) for name in ("out", "err"))
    if late:
        raise TimeoutError(f"{start.command} took more than {timeout} s: {err}")
    status = next((process.exitcode for process in processes if process.exitcode), 0)
    assert kill_at is None or status == -signal.SIGKILL, (
        f"{start.command} ended before it was killed: {err}"
    )
    return subprocess.CompletedProcess(start.command, status, out, err)


def _joined(folder: Path, name: str) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob(f"{name}*")))


def _ranks(count: int, port: int) -> list[dict[str, str]]:
    """What torchrun tells the processes of a group by their environment, and is itself told; nothing to one alone."""
    if count == 1:
        return [{}]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
             "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}  # fmt: skip
    return [
        group | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PET_NODE_RANK": str(rank)}
        for rank in range(count)
    ]


@dataclass(frozen=True)
class _Start:
    """See `run`, and the number of threads."""

    command: list[str]
    folder: str
    kill_at: tuple[str, int] | None
    patches: dict[str, Any]
    threads: int

    def become(self, environment: dict[str, str], output: list[str]) -> None:
        """Be what `python COMMAND` is; in the forked process."""
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, path in enumerate(output, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        torch.set_num_threads(self.threads)
        os.fsync = lambda descriptor: None  # no test cuts the power

        is_module = self.command[0] == "-m"
        sys.argv = self.command[1:] if is_module else self.command
        own = self.folder if is_module else os.path.dirname(os.path.abspath(self.command[0]))
        others = [
            path
            for path in sys.path
            if path and path != str(ROOT) and not path.startswith(str(ROOT / "tests"))
        ]
        given = environment.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [own, *filter(None, given), *others]
        if self.kill_at is not None:
            _replace(
                self.kill_at[0], _deadly(pkgutil.resolve_name(self.kill_at[0]), self.kill_at[1])
            )
        for name, value in self.patches.items():
            _replace(name, value)

        if is_module:
            runpy.run_module(self.command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(self.command[0], run_name="__main__")


def _deadly(function: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The function; but this process dies as it returns for the so manieth time."""
    count = itertools.count(1)

    @functools.wraps(function)
    def deadly(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if next(count) == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return deadly


def _replace(name: str, value: Any) -> None:
    owner, last = name.rsplit("." if "." in name.split(":")[1] else ":", 1)
    parent = pkgutil.resolve_name(owner)
    assert hasattr(parent, last), name
    setattr(parent, last, value)
