"""CIFAR's archives: what is read of one that is no CIFAR, and what in it is no file."""

import gzip
import tarfile
from pathlib import Path

import pytest
from dataset_files import cifar, tar_gz

from training.data import cifar as dataset_cifar
from training.data.cifar import read_cifar

NAME = "cifar-10-batches-bin/test_batch.bin"


class Watched(gzip.GzipFile):
    """How far any of them was unfolded."""

    furthest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        Watched.furthest = max(Watched.furthest, self.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        place = super().seek(offset, whence)
        Watched.furthest = max(Watched.furthest, place)
        return place


@pytest.mark.parametrize(
    "members", [{"filler": bytes(200_000)}, {"x" * 150_000: b""}], ids=["a file", "a name"]
)
def test_no_more_is_unfolded_than_cifar_has(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is passed over, which is sought through, and of a long name, which is read whole."""
    monkeypatch.setattr(dataset_cifar, "_MOST_UNFOLDED", 100_000)
    monkeypatch.setattr(dataset_cifar, "GzipFile", Watched)
    Watched.furthest = 0
    source = tar_gz(tmp_path / "c.tar.gz", members | {NAME: cifar(1)[0]})
    with pytest.raises(ValueError, match="which is more than CIFAR has"):
        read_cifar(source, "test")
    assert 0 < Watched.furthest <= 100_000


def test_an_immense_file_of_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_cifar, "_MOST_BYTES", 3073)
    file = tmp_path / NAME
    file.parent.mkdir()
    file.write_bytes(cifar(1)[0])
    assert read_cifar(file.parent, "test")[0].shape == (1, 32, 32, 3)
    file.write_bytes(cifar(2)[0])
    with pytest.raises(ValueError, match="claims 6146 bytes, more than CIFAR has"):
        read_cifar(file.parent, "test")


@pytest.mark.parametrize(
    "kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
def test_only_files_of_an_archive_are_read(kind: bytes, tmp_path: Path) -> None:
    entry = tarfile.TarInfo(NAME)
    entry.type, entry.linkname = kind, "/etc/hostname"
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        archive.addfile(entry)
    with pytest.raises(ValueError, match=r"c\.tar is not CIFAR-10 or CIFAR-100"):
        read_cifar(tmp_path / "c.tar", "test")
