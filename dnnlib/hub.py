"""Files of the Hugging Face Hub, hf://OWNER/NAME/FILE or hf://OWNER/NAME@REVISION/FILE, kept in the Hub's own cache."""

import os
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dnnlib.text import printable

SCHEME = "hf://"
_PART = re.compile(r"[\w.-]+")


class HubFile(NamedTuple):
    """A file of a repository.

    Attributes:
        repository: OWNER/NAME.
        revision: a branch, a tag or a commit; None is the main branch.
        file: its path in the repository.
    """

    repository: str
    revision: str | None
    file: str

    @property
    def where(self) -> str:
        """The repository, as it is written."""
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    def __str__(self) -> str:
        return f"{self.where}/{self.file}"


def is_hub(source: str | os.PathLike[str]) -> bool:
    """Whether `source` names a file of the Hub; a Path, which has lost one of the two slashes, does too."""
    return str(source).startswith((SCHEME, "hf:/"))


def parse(source: str | os.PathLike[str]) -> HubFile:
    """The repository and the file that `source` names.

    Raises:
        ValueError: if it is not of that form.
    """
    text = str(source)
    parts = text.split(":", 1)[1].lstrip("/").split("/")
    name, at, revision = parts[1].partition("@") if len(parts) > 2 else ("", "", "")
    words = [parts[0], name, *parts[2:]]
    fine = all(_PART.fullmatch(word) and word not in (".", "..") for word in words)
    if not fine or (at and not _PART.fullmatch(revision)):
        raise ValueError(
            f"{printable(text)} names no file of the Hub; write hf://OWNER/NAME/FILE, or "
            "hf://OWNER/NAME@REVISION/FILE"
        )
    return HubFile(f"{parts[0]}/{name}", revision or None, "/".join(parts[2:]))


def fetch(source: str | os.PathLike[str]) -> Path:
    """The local copy of a file of the Hub, downloaded into the Hub's cache if it is not there yet.

    Of a branch the newest version, where the Hub can be reached; else the one in the cache.

    Raises:
        ValueError: if `source` is not of the form above.
        FileNotFoundError: if there is no such repository, revision or file.
        RuntimeError: if the package huggingface_hub is missing, or the download fails.
    """
    wanted = parse(source)
    hub = _package(str(source))
    try:
        found = hub.hf_hub_download(wanted.repository, wanted.file, revision=wanted.revision)
    except Exception as error:
        raise _in_one_line(hub, wanted, error) from error
    return Path(found)


def cached_path(source: str | os.PathLike[str]) -> Path:
    """Where a file is in the Hub's cache; a place where no file is, if it is not there.

    Raises:
        ValueError: as `fetch`.
        RuntimeError: if the package huggingface_hub is missing.
    """
    wanted = parse(source)
    hub = _package(str(source))
    found = hub.try_to_load_from_cache(wanted.repository, wanted.file, revision=wanted.revision)
    if isinstance(found, str):
        return Path(found)
    owner, name = wanted.repository.split("/")
    return Path(hub.constants.HF_HUB_CACHE) / f"models--{owner}--{name}" / wanted.file


def upload(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Store a local file on the Hub, in a repository that is there and that the user's token may write.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: as `fetch`.
    """
    wanted = parse(target)
    hub = _package(str(target))
    try:
        hub.HfApi().upload_file(
            path_or_fileobj=str(path),
            path_in_repo=wanted.file,
            repo_id=wanted.repository,
            revision=wanted.revision,
        )
    except Exception as error:
        raise _in_one_line(hub, wanted, error) from error


def _package(source: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise RuntimeError(
            f"{source} is on the Hugging Face Hub, which needs a package: pip install huggingface_hub"
        ) from None
    return huggingface_hub


def _in_one_line(hub: ModuleType, wanted: HubFile, error: Exception) -> Exception:
    """What went wrong, by the package's classes, from the special to the general."""
    errors = hub.errors
    where = wanted.where
    if isinstance(error, errors.GatedRepoError):
        return RuntimeError(
            f"{where} is open to those who were granted access: ask for it at "
            f"https://huggingface.co/{wanted.repository}, then log in (hf auth login, or HF_TOKEN)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no {where} on the Hub, or it is private: then log in (hf auth login, or HF_TOKEN)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"there is no revision {wanted.revision} of {SCHEME}{wanted.repository}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return RuntimeError(
            f"{wanted} is not in the Hub's cache, and the Hub cannot be reached (or HF_HUB_OFFLINE is "
            "set): fetch it on a machine that can, and copy the cache (HF_HOME), or name the file itself"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"there is no file {wanted.file} in {where}")
    if isinstance(error, errors.HFValidationError):
        return ValueError(f"{wanted}: {printable(error)}")
    reason = f"{type(error).__name__}: {printable(error)}"
    return RuntimeError(f"{wanted}: the Hub does not answer as it should ({reason})")
