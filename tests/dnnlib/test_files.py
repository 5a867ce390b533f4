"""Files are whole or absent."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from dnnlib.files import atomic_write, remove_partial_files, write_json


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
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/file'"), atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


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


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    writer = atomic_write(tmp_path / "folder" / "file")
    with writer:
        assert remove_partial_files(tmp_path / "folder" / "none") == 0
        (tmp_path / "folder" / "kept").touch()
    (tmp_path / "folder" / ".file.0123abcd.tmp").touch()
    (tmp_path / ".other.0123abcd.tmp").touch()
    assert remove_partial_files(tmp_path) == 2
    assert sorted(os.listdir(tmp_path / "folder")) == ["file", "kept"]
