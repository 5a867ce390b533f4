"""Downloads, against a server in a thread that can misbehave in every way that matters."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import random
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnnlib import download, util

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every path; the attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.wrong_range = False
        self.encoding: str | None = None  # of the body, as Content-Encoding
        self.statuses: list[int] = []  # answered first, one a request
        self.break_after: list[int] = []  # bytes after which the connection drops, one a request
        self.before = lambda: None  # called at every request
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/folder/network.pkl"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        server.paths.append(self.path)
        server.before()
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        start = 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                return self.send_error(416)
            start += server.wrong_range
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        if server.encoding:
            body = gzip.compress(body)
            self.send_header("Content-Encoding", server.encoding)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after:
            body = body[: server.break_after.pop(0)]
        self.wfile.write(body)
        return None

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(download, "CHUNK_BYTES", 10_000)
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    with Server() as running:
        threading.Thread(
            target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        yield running
        running.shutdown()


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p != path and p.suffix != ".lock")


def test_a_file_is_fetched_once_and_kept(server: Server, tmp_path: Path) -> None:
    path = util.fetch(server.url, SHA256)
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "cache"
    assert path.name.endswith("-network.pkl") and leftovers(path) == []
    assert util.fetch(server.url, SHA256) == path and len(server.requests) == 1


def test_the_cache_serves_offline(server: Server) -> None:
    path = util.fetch(server.url)
    server.shutdown()
    server.server_close()
    assert util.fetch(server.url, SHA256) == path
    with util.open_url(server.url) as file:
        assert file.read() == CONTENT


def test_open_url_takes_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with util.open_url(tmp_path / "file") as file:
        assert file.read() == b"abc"


def test_cache_folder_can_be_chosen(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert util.fetch(server.url, cache_dir=tmp_path / "other").parent == tmp_path / "other"
    monkeypatch.delenv("SKIP_TUNING_CACHE")
    assert util.cache_folder() == Path.home() / ".cache" / "skip-tuning-edm"


def test_names_in_the_cache_are_safe_and_distinct(tmp_path: Path) -> None:
    urls = [
        "http://a/x.pkl", "http://b/x.pkl", "http://a/x.pkl?v=2", "http://a/../..",
        "http://a/%2e%2e%2fx", "http://a/",
    ]  # fmt: skip
    paths = [util.cached_path(url, tmp_path) for url in urls]
    assert len(set(paths)) == len(urls)
    assert all(
        path.parent == tmp_path and path.resolve().parent == tmp_path.resolve() for path in paths
    )


def test_a_broken_transfer_is_continued_within_one_call(server: Server) -> None:
    server.break_after = [100_000, 50_000]
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT
    ranges = [headers.get("Range") for headers in server.requests]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1]["If-Range"] == '"v1"'


def test_a_broken_transfer_is_continued_by_a_later_call(server: Server) -> None:
    server.break_after = [100_000] + [0] * (download.ATTEMPTS - 1)
    with pytest.raises(RuntimeError, match="cannot download"):
        util.fetch(server.url)
    path = util.cached_path(server.url)
    assert not path.exists() and len(leftovers(path)) == 2
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=100000-" and leftovers(path) == []


def test_a_server_without_ranges_makes_it_start_again(server: Server) -> None:
    server.ranges = False
    server.break_after = [100_000]
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_a_server_that_names_no_version_makes_it_start_again(server: Server) -> None:
    server.etag = None
    server.break_after = [100_000]
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


@pytest.mark.parametrize("etag", ['"v2"', 'W/"v2"', None])
def test_a_file_that_changed_on_the_server_is_not_patched_together(
    server: Server, etag: str | None
) -> None:
    server.break_after = [100_000] + [0] * (download.ATTEMPTS - 1)
    with pytest.raises(RuntimeError):
        util.fetch(server.url)
    server.content, server.etag = CONTENT[::-1], etag
    assert util.fetch(server.url).read_bytes() == CONTENT[::-1]


def test_a_part_longer_than_the_file_is_dropped(server: Server) -> None:
    server.break_after = [100_000] + [0] * (download.ATTEMPTS - 1)
    with pytest.raises(RuntimeError):
        util.fetch(server.url)
    server.content = CONTENT[:50_000]
    assert util.fetch(server.url).read_bytes() == CONTENT[:50_000]


def test_a_short_body_is_noticed_even_if_the_http_library_does_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        download.requests.Response, "iter_content", lambda self, size: iter([b"abc"])
    )
    with pytest.raises(RuntimeError, match=r"ended after \d+ of 300000 bytes"):
        util.fetch(server.url)
    assert not util.cached_path(server.url).exists()


def test_the_wrong_range_is_not_believed(server: Server) -> None:
    server.wrong_range = True
    server.break_after = [100_000]
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_a_passing_failure_is_tried_again(server: Server) -> None:
    server.statuses = [503, 429]
    assert util.fetch(server.url).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403])
def test_a_lasting_failure_says_what_to_put_where(server: Server, status: int) -> None:
    server.statuses = [status] * 9
    with pytest.raises(RuntimeError, match=str(status)) as caught:
        util.fetch(server.url)
    message = str(caught.value)
    assert (
        server.url in message
        and str(util.cached_path(server.url)) in message
        and "\n" not in message
    )
    assert len(server.requests) == 1
    util.cached_path(server.url).write_bytes(CONTENT)  # as the message says
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_no_network_says_what_to_put_where(server: Server) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(RuntimeError, match="refused") as caught:
        util.fetch(url)
    assert str(util.cached_path(url)) in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_hash_is_told_and_deleted(server: Server) -> None:
    with pytest.raises(ValueError, match=f"expected sha256 {'0' * 64}, found {SHA256}; deleted"):
        util.fetch(server.url, "0" * 64)
    assert not util.cached_path(server.url).exists()
    assert util.fetch(server.url, SHA256.upper()).exists()


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "network.pkl", ""])
def test_other_kinds_of_url_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an http"):
        util.fetch(url, cache_dir=tmp_path)


def test_an_impossible_url_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot download http://"):
        util.fetch("http://", cache_dir=tmp_path)


HTTPS = "https://weights.invalid:8443/a/network.pkl?v=1"  # a host that cannot exist


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_stands_in_for_every_https_host(
    server: Server, monkeypatch: pytest.MonkeyPatch, slash: str
) -> None:
    monkeypatch.setenv("SKIP_TUNING_MIRROR", server.url.removesuffix("/folder/network.pkl") + slash)
    usual = util.cached_path(HTTPS)
    server.break_after = [100_000]
    assert util.fetch(HTTPS, SHA256) == usual and usual.read_bytes() == CONTENT
    assert server.paths == ["/weights.invalid:8443/a/network.pkl?v=1"] * 2, (
        "the second goes on with the transfer"
    )
    monkeypatch.delenv("SKIP_TUNING_MIRROR")
    assert util.fetch(HTTPS, SHA256) == usual, (
        "the name in the cache is the same without the mirror"
    )


def test_a_mirror_leaves_http_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_MIRROR", "http://mirror.invalid")
    assert util.fetch(server.url, SHA256).is_file() and server.paths == ["/folder/network.pkl"]


def test_a_mirror_that_lacks_the_file_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = server.url.removesuffix("/folder/network.pkl")
    monkeypatch.setenv("SKIP_TUNING_MIRROR", mirror)
    server.statuses = [404]
    with pytest.raises(
        RuntimeError, match=f"from the mirror, {mirror}/weights.invalid:8443/a/.*404"
    ) as caught:
        util.fetch(HTTPS)
    assert f"cannot download {HTTPS}" in str(caught.value) and str(util.cached_path(HTTPS)) in str(
        caught.value
    )


def test_a_mirror_that_is_no_url_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SKIP_TUNING_MIRROR", "mirror:8000")
    with pytest.raises(ValueError, match="SKIP_TUNING_MIRROR is 'mirror:8000'; set it to a URL"):
        util.fetch(HTTPS, cache_dir=tmp_path)


def _fetch_elsewhere(url: str, cache: str, results: Any) -> None:
    results.put(util.file_sha256(util.fetch(url, cache_dir=cache)))


def test_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_fetch_elsewhere, args=(server.url, str(tmp_path), results))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=30) for _ in workers] == [SHA256] * 3
    for worker in workers:
        worker.join(30)
    assert len(server.requests) == 1


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert util.file_sha256(tmp_path / "file") == SHA256


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "file", []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name)
    )
    path.write_bytes(CONTENT)
    assert [util.file_sha256(path) for _ in range(2)] == [SHA256, SHA256]
    assert len(read) == 2, "a file of just now may change without a new time"

    monkeypatch.setattr(util, "SETTLED_SECONDS", -1.0)  # as if it were old
    assert [util.file_sha256(path) for _ in range(3)] == [SHA256] * 3
    assert len(read) == 3

    other = bytes(reversed(CONTENT))
    before = path.stat()
    path.write_bytes(other)
    # The same size and time: the change shows elsewhere.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert util.file_sha256(path) == hashlib.sha256(other).hexdigest()


# ---- what is no data file, and bodies that are compressed on the way

HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("mu.npy", CONTENT[:1000])
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HTML, "an HTML page (perhaps a login, or a link that needs a click)"),
        (b"\n <HTML>", "an HTML page"),
        (b"<?xml version='1.0'?><Error/>", "an XML text"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer"),
        (
            b"Quota exceeded \x1b[31m".replace(b"\x1b", "é".encode()),
            "text in place of a data file: 'Quota exceeded",
        ),
        ("ü".encode() * 1000, "text in place"),
        (b"", "an empty file"),
        (archive()[:500], "an archive that is cut short"),
        (pickle.dumps(list(range(500)))[:-100], "a pickle that is cut short"),
    ],
)
def test_what_is_no_data_file_is_not_kept(server: Server, content: bytes, words: str) -> None:
    server.content = content
    with pytest.raises(RuntimeError, match="the server sends") as caught:
        util.fetch(server.url)
    message, path = str(caught.value), util.cached_path(server.url)
    assert (
        words in message
        and server.url in message
        and str(path) in message
        and message.isprintable()
    )
    assert not path.exists() and leftovers(path) == [] and len(server.requests) == 1
    server.content = CONTENT
    assert util.fetch(server.url).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        archive(),
        pickle.dumps([1]),
        b"\x93NUMPY",
        bytes(600),
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j",
    ],
)
def test_data_files_are_kept(server: Server, content: bytes) -> None:
    server.content = content
    assert util.fetch(server.url).read_bytes() == content


def test_what_was_kept_before_is_fetched_anew(server: Server) -> None:
    path = util.cached_path(server.url)
    path.parent.mkdir()
    path.write_bytes(HTML)
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_a_body_that_is_compressed_on_the_way_is_unpacked(server: Server) -> None:
    server.encoding = "gzip"
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT and len(server.requests) == 1


def test_a_compressed_body_that_breaks_off_begins_again(server: Server) -> None:
    server.encoding = "gzip"
    server.break_after = [100_000]
    path = util.fetch(server.url, SHA256)
    assert path.read_bytes() == CONTENT and leftovers(path) == []
    assert [headers.get("Range") for headers in server.requests] == [None, None]


def test_the_rest_of_a_file_may_not_come_compressed(server: Server) -> None:
    server.break_after = [100_000]
    compress = iter([None, "gzip"])
    server.before = lambda: setattr(server, "encoding", next(compress, None))
    assert util.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_a_hash_may_be_known_by_its_beginning(server: Server) -> None:
    assert util.fetch(server.url, SHA256[:8]).is_file()
    with pytest.raises(ValueError, match="expected sha256 abcdef"):
        util.fetch(server.url, "abcdef")


def test_of_a_download_it_is_told_how_to_get_it_again(server: Server, tmp_path: Path) -> None:
    assert "delete it, and it is fetched again" in util.copy_note(util.fetch(server.url))
    assert util.copy_note(tmp_path / "mine") == ""


def test_a_servers_words_are_made_printable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "responses", {404: ("\x1b[31mgone" + "x" * 10_000, "")})
    server.statuses = [404]
    with pytest.raises(RuntimeError, match="404") as caught:
        util.fetch(server.url)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 800


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        OSError, match=r"cannot write to the cache .*file/cache \(.*\); set SKIP_TUNING_CACHE"
    ):
        util.fetch("https://example.org/a.bin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = util.scratch_folder()
    assert folder.parent == tmp_path and folder.is_dir()
    told = capsys.readouterr().err
    assert (
        told.count("\n") == 1
        and "SKIP_TUNING_CACHE" in told
        and "name for them" in told
        and str(folder) in told
    )


def test_without_a_home_only_downloads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.delenv("SKIP_TUNING_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="set SKIP_TUNING_CACHE"):
        util.fetch("https://example.org/a.bin")
    assert util.copy_note(tmp_path / "file") == ""
    assert util.scratch_folder().parent == tmp_path


def test_what_can_be_made_again_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    assert util.scratch_folder() == tmp_path / "cache"
    assert list((tmp_path / "cache").iterdir()) == []
