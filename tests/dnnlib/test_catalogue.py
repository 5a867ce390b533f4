"""Names, paths and URLs of files, in the one place that resolves them."""

import hashlib
import os
from pathlib import Path

import pytest

from dnnlib import catalogue, util
from dnnlib.catalogue import Entry, local_file, resolve


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path


def entry(**changes: str) -> Entry:
    return Entry(**{"name": "known", "licence": "MIT", "path": "weights"} | changes)  # type: ignore[arg-type]


def test_a_name_comes_before_a_file_of_that_name(root: Path) -> None:
    (root / "known").write_bytes(b"another")
    known = entry()
    assert resolve("known", {"known": known}, "network") == (root / "weights", known)
    assert resolve("./known", {"known": known}, "network") == (Path("known"), None)


def test_a_url_is_fetched_into_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(root / "cache"))
    url = "https://example.org/a.pt"
    path = util.cached_path(url)
    path.parent.mkdir()
    path.write_bytes(b"\x80\x02 weights .")
    assert resolve(url, {}, "network") == (path, None)
    named = entry(url=url)
    assert resolve("known", {"known": named}, "network") == (path, named)
    assert named.local_path == local_file(url) == path


@pytest.mark.parametrize(
    "source, message",
    [
        ("konwn", r"no network is called 'konwn'; choose from known, a path or a URL"),
        ("konwn.pt", "no such file: konwn.pt"),
        (".", r"\. is a folder; a network is a file"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(source: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        resolve(source, {"known": entry()}, "network")


def test_folders_where_they_may_be(root: Path) -> None:
    assert resolve(".", {}, "detector", folders=True) == (Path("."), None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="another system")
def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(ValueError, match="pipe is no ordinary file"):
        resolve("pipe", {}, "network")


def test_the_hash_is_compared_as_far_as_it_is_known() -> None:
    found = hashlib.sha256(b"weights").hexdigest()
    assert entry(sha256=found[:8]).file().name == "weights"
    with pytest.raises(ValueError, match=rf"weights is damaged: expected sha256 00, found {found}"):
        entry(sha256="00").file()


def test_a_file_that_nothing_fetches_tells_the_way(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"known is not here: ask; save it as {root}/none"):
        entry(path="none", obtain="ask").file()
    with pytest.raises(FileNotFoundError, match=rf"there is no file {root}/none"):
        entry(path="none").file()
