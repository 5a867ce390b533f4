"""Every file below a folder, through links too."""

from pathlib import Path

import pytest

from dnnlib.folders import walk_files


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_files_are_listed_with_slashes_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b", "a/2", "a/10", "a/c/1", ".hidden/x")
    assert walk_files(tmp_path) == [".hidden/x", "a/10", "a/2", "a/c/1", "b"]
    assert walk_files(tmp_path, lambda name: name.startswith((".", "c"))) == ["a/10", "a/2", "b"]


def test_links_are_followed_and_a_loop_is_not(tmp_path: Path) -> None:
    make(tmp_path, "real/1")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to(tmp_path / "real" / "1")
    (tmp_path / "real" / "back").symlink_to(tmp_path)
    found = walk_files(tmp_path)
    assert {"file", "linked/1", "real/1"} <= set(found)
    assert not any(name.count("back") > 1 for name in found)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "lost").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"lost is a link to .*gone, which leads nowhere"):
        walk_files(tmp_path)


def test_links_that_multiply_come_to_an_end(tmp_path: Path) -> None:
    """Seven floors, each with two links to the next: 128 ways to the last."""
    for floor in range(7):
        (tmp_path / f"{floor}").mkdir()
    make(tmp_path, "7/file")
    for floor in range(7):
        for name in "ab":
            (tmp_path / f"{floor}" / name).symlink_to(tmp_path / f"{floor + 1}")
    with pytest.raises(ValueError, match="in more than 64 ways"):
        walk_files(tmp_path / "0")
