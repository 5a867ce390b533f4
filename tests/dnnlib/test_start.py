"""Ctrl-C while a program is still importing, and streams that are closed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import processes
import pytest

from dnnlib.start import COMMAND, PROGRAMS, ROOT, is_program

PRESSED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('went on')\n"


def interrupted_at_import(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a torch and a numpy at whose import Ctrl-C is pressed."""
    for name in ("torch.py", "numpy.py"):
        (folder / name).write_text(PRESSED)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_traceback_during_imports(program: str, tmp_path: Path) -> None:
    result = interrupted_at_import(tmp_path, *processes.AT_WORK[program].split())
    assert (result.returncode, result.stderr) == (130, "\nInterrupted\n")


@pytest.mark.parametrize("program", ["generate.py", "skip/finetune/__main__.py"])
@pytest.mark.parametrize("package", ["click", "torch"])
def test_a_missing_package_is_one_line(program: str, package: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name='{package}')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, *processes.AT_WORK[program].split()]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert f"lacks the package {package}: " in result.stderr and ".venv" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_others_scripts_keep_their_keyboard_interrupt(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "try:\n    from skip import SkipScale\nexcept KeyboardInterrupt:\n    print('caught')\n"
    )
    result = interrupted_at_import(tmp_path, str(script))
    assert (result.returncode, result.stdout) == (0, "caught\n")


def test_tests_are_no_program() -> None:
    assert not is_program()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_program_is_known() -> None:
    exempt = {"tests", "benchmarks", "examples", ".venv", "build", "site", "skip_tuning"}
    found = set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT)
        if name.parts[0] not in exempt and 'if __name__ == "__main__":' in path.read_text():
            found.add(name.as_posix())
    assert found == set(PROGRAMS)


OPENED = """
import os, sys
assert os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY) > 2
for stream in (sys.stdout, sys.stderr):
    print("words", file=stream, flush=True)
assert sys.stdin.read() == ""
os.write(int(sys.argv[2]), b"what a library prints") if sys.argv[2] != "0" else None
"""


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_streams_that_are_closed_lead_nowhere(closed: int, tmp_path: Path) -> None:
    script = "from dnnlib.start import open_closed_streams\nopen_closed_streams()\n" + OPENED
    command = [sys.executable, "-c", script, str(tmp_path / "result"), str(closed)]
    result = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}{"<" if closed == 0 else ">"}&-', "sh", *command],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "result").read_bytes() == b""
    assert [result.stdout, result.stderr] == [
        "" if closed == 1 else "words\n",
        "" if closed == 2 else "words\n",
    ]


def test_programs_open_closed_streams(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os, sys\nos._exit(7 if sys.stderr is None else 0)\n")
    (tmp_path / "numpy.py").write_text((tmp_path / "torch.py").read_text())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [
        "sh",
        "-c",
        'exec "$@" 2>&-',
        "sh",
        sys.executable,
        *processes.AT_WORK["generate.py"].split(),
    ]
    assert subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


GUARDED = """
import sys
from dnnlib.start import guard_streams
guard_streams()
for word in ("bar", "note"):
    print(word, file=sys.stderr)
try:
    print("result", flush=True)
except OSError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "to, status, out, err",
    [
        ("2>/dev/full", 0, "result\n", ""),
        (">/dev/full", 1, "", "bar\nnote\nrefused: [Errno 28] No space left on device: 'stdout'\n"),
        (">/dev/full 2>&1", 1, "", ""),
    ],
)
def test_a_full_disk_costs_no_more_than_what_is_written_to_it(
    to: str, status: int, out: str, err: str
) -> None:
    """Where stdout is full Python tries again as it ends, and would exit with 120 and lines of its own."""
    command = ["sh", "-c", f'exec "$@" {to}', "sh", sys.executable, "-c", GUARDED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_programs_go_on_where_notes_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, sys\nprint('note', file=sys.stderr, flush=True)\nos._exit(7)\n"
    )
    (tmp_path / "numpy.py").write_text((tmp_path / "torch.py").read_text())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [
        "sh",
        "-c",
        'exec "$@" 2>/dev/full',
        "sh",
        sys.executable,
        *processes.AT_WORK["generate.py"].split(),
    ]
    assert subprocess.run(command, cwd=ROOT, env=environment).returncode == 7


def test_the_installed_command_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_program()
    monkeypatch.setitem(sys.modules, COMMAND, ModuleType(COMMAND))
    assert is_program()


def test_a_deleted_folder_is_said_in_words(tmp_path: Path) -> None:
    """From where relative paths lead nowhere, and torch cannot load its libraries."""
    program = f"cd {tmp_path} && rmdir {tmp_path} && {sys.executable} {ROOT}/generate.py --outdir x"
    done = subprocess.run(program, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the current folder was deleted" in done.stderr
