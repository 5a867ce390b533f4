"""One file from a server: in several attempts, continued where it broke off, and looked at before it is kept."""

import codecs
import contextlib
import os
import re
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import requests
import tqdm

from dnnlib.text import printable

ATTEMPTS = 3
RETRY_SECONDS = 1.0  # doubled from one attempt to the next
TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces of data
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 512
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"  # how torch.save's files before its version 1.6 begin
TEXTS = {
    b"<!doctype html": "an HTML page (perhaps a login, or a link that needs a click)",
    b"<html": "an HTML page (perhaps a login, or a link that needs a click)",
    b"<?xml": "an XML text (perhaps a server's error message)",
    b'{"': "a JSON text (perhaps a server's error message)",
    b"version https://git-lfs": "a Git LFS pointer (the real file is elsewhere)",
}


def check_content(path: Path) -> None:
    """See that a file is a data file of some kind, and no text; and whole, as far as its first and last bytes tell.

    Raises:
        ValueError: saying what it is.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(size - 1, 0))
        last = file.read(1)

    if not head:
        raise ValueError("an empty file")

    kind = _text_kind(head)
    if kind is not None:
        raise ValueError(
            f"{kind} in place of a data file: {printable(head.decode(errors='replace'), 80)!r}"
        )

    if head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        raise ValueError("an archive that is cut short")

    pickled = head.startswith(
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    ) and not head.startswith(OLD_TORCH)
    if pickled and last != b".":  # the opcode that ends it
        raise ValueError("a pickle that is cut short")


def _text_kind(head: bytes) -> str | None:
    """What a text that begins so is called; None for anything else."""
    text = head.lstrip().lower()
    for start, kind in TEXTS.items():
        if text.startswith(start):
            return kind
    with contextlib.suppress(UnicodeDecodeError):
        # The last character may be cut in two.
        words = codecs.getincrementaldecoder("utf-8")().decode(head)
        if all(character.isprintable() or character.isspace() for character in words):
            return "text"
    return None


class _PermanentError(Exception):
    """Trying again would not help."""


def download(url: str, path: Path, address: str) -> None:
    """Fetch a file, in several attempts if need be; what broke off is continued, now or by a later call.

    Args:
        url: its name in messages.
        path: where it is when it is whole and is a data file.
        address: from where.
    Raises:
        RuntimeError: if it cannot be had; says where to put it by hand.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        try:
            _download_once(address, path)
            return
        except (_PermanentError, requests.exceptions.InvalidURL) as error:
            reason = printable(error)
            break
        except requests.RequestException as error:
            # Of "HTTPConnectionPool(..): .. (Caused by ..: .. ([Errno 111] Connection refused)'))" the end tells.
            reason = printable(re.sub(r"['\"]\)+$", "", str(error).rsplit(": ", 1)[-1]))
    through = "" if address == url else f" from the mirror, {address}"
    raise RuntimeError(
        f"cannot download {url}{through} ({reason}); try again, or get the file in another way and save it as {path}"
    )


def _download_once(url: str, path: Path) -> None:
    """One attempt, from the end of what an earlier one has left in `path`.part."""
    part, version = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.version")
    # The server's name for the version that the part belongs to: without it nothing can be continued.
    validator = version.read_text() if part.is_file() and version.is_file() else ""
    have = part.stat().st_size if validator else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        _check_answer(response, have, part)
        have = have if response.status_code == 206 else 0
        # Some servers compress although they are asked not to: then the length is that of what is transferred.
        packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and not packed else None
        with open(part, "ab" if have else "wb") as file, _progress(path.name, have, total) as bar:
            version.write_text("" if packed else _validator(response))
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
        received = have + response.raw.tell() if packed else part.stat().st_size
    if length and received != have + int(length):
        raise requests.RequestException(
            f"the transfer ended after {received} of {have + int(length)} bytes"
        )
    version.unlink()
    try:
        check_content(part)
    except ValueError as error:
        part.unlink()
        raise _PermanentError(f"the server sends {error}") from error
    os.replace(part, path)


def _check_answer(response: requests.Response, have: int, part: Path) -> None:
    """Refuse what is neither the whole file nor the rest of it that was asked for."""
    code = response.status_code
    answer = f"the server answers {code} {response.reason}"
    rest = response.headers.get("Content-Range", "")
    # Then the rest of a file is the rest of something else.
    packed = "Content-Encoding" in response.headers
    if code == 416 or (code == 206 and (packed or not rest.startswith(f"bytes {have}-"))):
        part.unlink(missing_ok=True)  # the next attempt starts from nothing
        raise requests.RequestException(answer)
    if code in (408, 429) or code >= 500:
        raise requests.RequestException(answer)
    if code not in (200, 206):
        raise _PermanentError(answer)


def _validator(response: requests.Response) -> str:
    """What If-Range may hold: a strong ETag, else the date; empty if the server tells neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _progress(name: str, done: int, total: int | None) -> "tqdm.tqdm[Any]":
    """A bar on stderr, which shows only in a terminal."""
    return tqdm.tqdm(
        desc=name,
        initial=done,
        total=total,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
        file=sys.stderr,
    )
