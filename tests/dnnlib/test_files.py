"""Files are whole or absent."""

import errno
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

import dnnlib.files
from dnnlib.claims import claim, has_token, token, token_path
from dnnlib.files import atomic_write, check_readable, flush_to_disk, remove_partial_files
from dnnlib.json_files import read_json_lines, read_json_object, write_json


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc" and os.listdir(path.parent) == ["file"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/file'"),
        atomic_write(tmp_path / "file"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_names_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the partial one, of which the user knows nothing."""

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "x.npz"):
        pass
    assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(tmp_path / "x.npz"))


def test_what_is_no_file_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    check_readable(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="none: no such file; check the path"):
        check_readable(tmp_path / "none")
    with pytest.raises(ValueError, match="pipe is no ordinary file"):
        check_readable(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a folder; name a file"):
        check_readable(tmp_path)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["file"]


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [1, 2.5, None]} and text.endswith("}\n")
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", math.inf)
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_result_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is the old file or the new one: contents are flushed, then the name, then the folder."""
    events: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(old: Path, new: Path) -> None:
        events.append("rename")
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    folder = tmp_path / "folder"
    with atomic_write(folder / "file.bin") as file:
        file.write(b"abc")
    assert events == ["file", "rename", "folder"]
    events.clear()
    for name in ("a.png", "b.png"):
        with atomic_write(folder / name, flush=False) as file:
            file.write(b"abc")
    assert events == ["rename", "rename"]
    events.clear()
    monkeypatch.setattr(
        dnnlib.files, "_sync_file_system", lambda folder: events.append("all") or True
    )
    few = [folder / "a.png", folder / "b.png", folder / "gone.png"]
    flush_to_disk(few)  # others' files would have to be waited for too
    assert events == ["file", "file", "folder"]
    events.clear()
    many = [folder / f"{i}.png" for i in range(100)]
    flush_to_disk([*many, tmp_path / "c.png"])
    assert events == ["all"]
    events.clear()
    monkeypatch.setattr(dnnlib.files, "_sync_file_system", lambda _: False)
    flush_to_disk([*few, *many])
    assert events == ["file", "file", "folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="another system")
def test_a_file_system_is_flushed_at_once_on_linux(tmp_path: Path) -> None:
    assert dnnlib.files._sync_file_system(tmp_path)
    with pytest.raises(FileNotFoundError):
        dnnlib.files._sync_file_system(tmp_path / "none")


# ---- what killed runs left


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    writer = atomic_write(tmp_path / "folder" / "file")
    with writer:
        assert remove_partial_files(tmp_path / "folder" / "none") == 0
        (tmp_path / "folder" / "kept").touch()
    (tmp_path / "folder" / ".file.0123abcd.tmp").touch()
    (tmp_path / ".other.0123abcd.tmp").touch()
    assert remove_partial_files(tmp_path) == 2
    assert sorted(os.listdir(tmp_path / "folder")) == ["file", "kept"]


def test_what_is_being_written_is_not_a_leftover(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as file:
        assert remove_partial_files(tmp_path) == 0
        file.write(b"abc")
    assert (tmp_path / "file").read_bytes() == b"abc" and os.listdir(tmp_path) == ["file"]


def test_only_the_named_leftovers_and_none_of_other_programs(tmp_path: Path) -> None:
    names = [".a.0123abcd.tmp", ".b.0123abcd.tmp", ".notes.tmp", ".a.tmp", "a.0123abcd.tmp"]
    for name in names:
        (tmp_path / name).touch()
    assert remove_partial_files(tmp_path, "a".__eq__) == 1 and sorted(
        os.listdir(tmp_path)
    ) == sorted(names[1:])
    assert remove_partial_files(tmp_path) == 1 and sorted(os.listdir(tmp_path)) == sorted(names[2:])


def test_writing_a_result_again_removes_what_a_killed_writer_of_it_left(tmp_path: Path) -> None:
    (tmp_path / ".run.json.0123abcd.tmp").touch()
    (tmp_path / ".other.json.0123abcd.tmp").touch()
    write_json(tmp_path / "run.json", {})
    assert sorted(os.listdir(tmp_path)) == [".other.json.0123abcd.tmp", "run.json"]


def test_without_locks_of_files_their_age_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnnlib.files, "_lock", lambda _: None)
    (tmp_path / ".file.0123abcd.tmp").touch()
    (tmp_path / ".file.4567abcd.tmp").touch()
    os.utime(tmp_path / ".file.4567abcd.tmp", (0, 0))
    with atomic_write(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".file.0123abcd.tmp", "file"]


# ---- claims

HOLD = """
import sys, time
from dnnlib.claims import claim
with claim(sys.argv[1], shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path, how: str = "alone") -> "subprocess.Popen[str]":
    """Another process that has claimed the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_claimed_folder_is_refused_to_others_until_it_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with claim(folder):
        for shared in (False, True):
            held_by = f"another run is at work in {folder} \\(process {os.getpid()} on"
            with pytest.raises(RuntimeError, match=held_by), claim(folder, shared):
                pass
    assert os.listdir(tmp_path) == []  # nothing was made in it
    with claim(folder):
        assert len(os.listdir(folder)) == 1
        (folder / "file").touch()
    assert os.listdir(folder) == ["file"]


def test_a_claim_falls_with_its_process_and_is_tidied_up(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(RuntimeError, match=f"process {process.pid} on "), claim(tmp_path):
            pass
        process.kill()
        process.wait()
    assert len(os.listdir(tmp_path)) == 1
    with claim(tmp_path):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_sharing_takes_two_and_each_is_told_whether_it_is_alone(tmp_path: Path) -> None:
    told: list[bool] = []
    with claim(tmp_path, shared=True, begin=told.append) as first:
        with first.undisturbed() as alone:
            assert alone
        with claim(tmp_path, shared=True, begin=told.append), first.undisturbed() as alone:
            assert not alone
        with pytest.raises(RuntimeError, match="another run"), claim(tmp_path):
            pass
    assert told == [True, False] and os.listdir(tmp_path) == []


def test_what_begins_badly_claims_nothing(tmp_path: Path) -> None:
    def refuse(_: bool) -> None:
        raise ValueError("other settings")

    with pytest.raises(ValueError, match="other settings"), claim(tmp_path, begin=refuse):
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_gone_is_noticed(tmp_path: Path) -> None:
    with claim(tmp_path / "folder") as held:
        held.check()
        (tmp_path / "folder").rename(tmp_path / "moved")
        with pytest.raises(
            RuntimeError, match="folder was deleted or moved while this run was at work in it"
        ):
            held.check()


def test_where_files_have_no_locks_their_existence_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as NFS without its lock service: here, of a process of this machine that has ended, and of another host."""

    def no_locks(self: filelock.BaseFileLock, *_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with claim(tmp_path):
        (name,) = os.listdir(tmp_path)
        way_out = f"if there is no such process, remove {tmp_path / name}"
        with pytest.raises(RuntimeError, match=way_out), claim(tmp_path):
            pass
        record = (tmp_path / name).read_text()
    assert os.listdir(tmp_path) == []

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lines = record.split("\n")
    (tmp_path / name).write_text("\n".join([str(ended.pid), *lines[1:]]))
    with claim(tmp_path):
        assert os.listdir(tmp_path) != [name]

    (tmp_path / name).write_text("\n".join([lines[0], "elsewhere", *lines[2:]]))
    way_out = f"process {os.getpid()} on elsewhere since .* remove {tmp_path / name}"
    with pytest.raises(RuntimeError, match=way_out), claim(tmp_path):
        pass


# ---- folders of several processes


def test_a_folder_that_is_deleted_under_a_run_is_named(tmp_path: Path) -> None:
    deleted = pytest.raises(
        RuntimeError, match=r"/run was deleted or moved while this run was at work in it$"
    )
    with deleted, claim(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run" / "stats.jsonl").open("a")
    with pytest.raises(FileNotFoundError), claim(tmp_path / "run"):
        (tmp_path / "run" / "other").open()


def test_a_token_shows_while_its_block_runs_and_claims_nothing(tmp_path: Path) -> None:
    name = b"\x01\xff"
    with token(tmp_path / "folder", name):
        assert has_token(tmp_path / "folder", name) and not has_token(tmp_path / "folder", b"\x02")
        with claim(tmp_path / "folder"):
            assert has_token(tmp_path / "folder", name)
    assert not list((tmp_path / "folder").iterdir())
    token_path(tmp_path, name).touch()  # of a process that was killed
    with claim(tmp_path):
        assert not has_token(tmp_path, name)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json_lines, read_json_object):
        with pytest.raises(ValueError, match=r"pipe is damaged \(it is a pipe, no file\)"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize("flush", [True, False])
def test_a_file_is_whole_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: bool
) -> None:
    """Also one that is not waited for: what is still in a buffer may find the disk full."""
    sizes, replace = [], os.replace

    def measured(source: Path, target: Path) -> None:
        sizes.append(source.stat().st_size)
        replace(source, target)

    monkeypatch.setattr(os, "replace", measured)
    with atomic_write(tmp_path / "file", flush=flush) as file:
        file.write(b"a few bytes")
    assert sizes == [11]
