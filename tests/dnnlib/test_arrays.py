"""Arrays from npz files: what numpy writes is read, and hostile or damaged files are one line and no memory."""

import io
import pickle
import re
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dnnlib.arrays import map_array, open_arrays, read_arrays


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    made = {
        "rows": np.arange(12, dtype=np.float32).reshape(3, 4),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array("inception"),
        "none": np.zeros((0, 5)),
        "one": np.array(7),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **made)
        for name, array in zip(made, read_arrays(tmp_path / "x.npz", made), strict=True):
            assert np.array_equal(array, made[name]) and array.dtype == made[name].dtype
        with open_arrays(tmp_path / "x.npz") as arrays:
            assert arrays.names == list(made) and arrays.header("rows").shape == (3, 4)
            mapped = arrays.mapped("columns")
            assert (mapped is not None) == (save is np.savez)
            assert mapped is None or np.array_equal(mapped, made["columns"])


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"


def archive(path: Path, member: bytes, name: str = "x.npy", compressed: bool = False) -> None:
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr(name, member)


def flipped(path: Path) -> None:
    np.savez(path, x=np.zeros(1000))
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)


def lying(path: Path) -> None:
    """The directory says 8 GB, and so does the array; there are 80 bytes."""
    archive(path, header("(1000000000,)") + bytes(80), compressed=True)
    data = path.read_bytes()
    true, size = len(header("(1000000000,)")) + 80, len(header("(1000000000,)")) + 8_000_000_000
    path.write_bytes(
        data.replace(true.to_bytes(4, "little"), min(size, 2**32 - 2).to_bytes(4, "little"))
    )


def objects(path: Path) -> None:
    np.savez(path, x=np.array([{}], dtype=object))


HOSTILE: dict[str, Callable[[Path], None]] = {
    "8 TiB": lambda path: archive(path, header("(1099511627776,)") + bytes(80)),
    "negative": lambda path: archive(path, header("(-1, -10)") + bytes(80)),
    "true": lambda path: archive(path, header("(True,)") + bytes(8)),
    "deep": lambda path: archive(path, header("(" * 300 + ")" * 300)),
    "deep lists": lambda path: archive(path, header("[" * 200 + "]" * 200)),
    "long": lambda path: archive(path, header("(" + "1, " * 15000 + ")") + bytes(8)),
    "nothing": lambda path: archive(path, b""),
    "pickle": lambda path: archive(path, pickle.dumps([1, 2])),
    "version": lambda path: archive(path, b"\x93NUMPY\x09\x00" + bytes(100)),
    "no dtype": lambda path: archive(path, header("(1,)", "'nonsense'") + bytes(8)),
    "nested dtype": lambda path: archive(
        path, header("(1,)", "[('a', '<f8', (1099511627776,))]") + bytes(8)
    ),
    "objects": objects,
    "flipped": flipped,
    "lying": lying,
    "a lone array": lambda path: path.write_bytes(header("(1,)") + bytes(8)),
    "a lone pickle": lambda path: path.write_bytes(pickle.dumps([1, 2])),
    "empty": lambda path: path.write_bytes(b""),
    "escape": lambda path: archive(path, header("(1,)") + bytes(8), name="\x1b[31m.npy"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.npz"
    HOSTILE[kind](path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as refused:
            read_arrays(path, ["x"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(refused.value)
    assert message.startswith(str(path)) and len(message) < len(str(path)) + 300
    assert message.isprintable() and not re.search("allow_|trust|max_header", message), message
    assert peak < 20e6


def test_a_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(1_000_000))
    archive(tmp_path / "bomb.npz", buffer.getvalue(), compressed=True)
    with open_arrays(tmp_path / "bomb.npz") as arrays:
        assert arrays.read("x").sum() == 0
    with (
        pytest.raises(
            ValueError, match=r"unfolds to 8,000,128 bytes, of which no more than 100,000 are read"
        ),
        open_arrays(tmp_path / "bomb.npz") as arrays,
    ):
        arrays.read("x", most_bytes=100_000)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("more", [-8, 8])
def test_a_member_of_another_size_than_claimed_is_refused(
    tmp_path: Path, compressed: bool, more: int
) -> None:
    """Also where checksum and array agree with the claim: what follows it would be passed over without a word."""
    claimed = header("(4,)") + bytes(32)
    path, kind = tmp_path / "x.npz", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("x.npy", (claimed + bytes(8))[: len(claimed) + more])
        file.filelist[0].file_size = len(claimed)
        file.filelist[0].CRC = zlib.crc32(claimed)
    with pytest.raises(ValueError, match=r"x\.npz is"), open_arrays(path) as arrays:
        arrays.read("x")
    if not compressed:
        with (
            pytest.raises(ValueError, match=r"its array x is of two sizes"),
            open_arrays(path) as arrays,
        ):
            arrays.mapped("x")


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    member = bytearray(header("(1,)") + bytes(8))
    member[6] = 9
    archive(tmp_path / "x.npz", bytes(member))
    with pytest.raises(ValueError, match=r"unknown version 9\.0"):
        read_arrays(tmp_path / "x.npz", ["x"])


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header("(3,)") + bytes(32), "its array x claims 24 bytes, and has 32"),
        (header("(5,)") + bytes(32), "its array x claims 40 bytes, and has 32"),
        (header("(1,)", "'|O'") + bytes(8), "its array x holds Python objects"),
        (header("(9,)", "'<U0'"), "its array x has an impossible shape"),
    ],
)
def test_a_header_that_cannot_be_is_refused_before_the_data_is_read(
    member: bytes, message: str, tmp_path: Path
) -> None:
    archive(tmp_path / "x.npz", member)
    with pytest.raises(ValueError, match=message), open_arrays(tmp_path / "x.npz") as arrays:
        arrays.header("x")


def test_the_bound_of_memory_is_exact(tmp_path: Path) -> None:
    member = header("(4,)") + bytes(32)
    archive(tmp_path / "x.npz", member)
    with open_arrays(tmp_path / "x.npz") as arrays:
        assert arrays.read("x", most_bytes=len(member)).shape == (4,)
    with pytest.raises(ValueError, match="unfolds to"), open_arrays(tmp_path / "x.npz") as arrays:
        arrays.read("x", most_bytes=len(member) - 1)


def test_checksums_are_compared_where_nothing_is_read_into_memory(tmp_path: Path) -> None:
    flipped(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="Bad CRC"), open_arrays(tmp_path / "x.npz") as arrays:
        arrays.mapped("x")
    with (
        pytest.raises(ValueError, match=r"the checksum of x\.npy is wrong"),
        open_arrays(tmp_path / "x.npz") as arrays,
    ):
        arrays.check()


def test_what_cannot_stay_on_disk_is_for_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((0, 3)))
    with open_arrays(tmp_path / "x.npz") as arrays:
        assert arrays.mapped("x") is None and arrays.read("x").shape == (0, 3)


def test_an_archive_within_another_file_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "x.npz", header("(1,)") + bytes(8))
    (tmp_path / "x.npz").write_bytes(b"#!/bin/sh\n" + (tmp_path / "x.npz").read_bytes())
    with pytest.raises(ValueError, match="it is no zip archive"):
        read_arrays(tmp_path / "x.npz", ["x"])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_numpys_format_is_read(version: tuple[int, int], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(3), version=version)
    archive(tmp_path / "x.npz", buffer.getvalue())
    assert read_arrays(tmp_path / "x.npz", ["x"])[0].tolist() == [0, 1, 2]


def test_a_member_with_two_names_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(3), detector=np.array("demo"))
    data = path.read_bytes()
    # In the directory at the end: the array would be missing without a word.
    last = data.rindex(b"detector.npy")
    path.write_bytes(data[:last] + b"d" + b"f" + data[last + 2 :])
    with pytest.raises(ValueError, match=r"statistics\.npz is damaged"):
        read_arrays(path, ["mu"])


@pytest.mark.parametrize(
    "made",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 5), np.float32),
        np.array(7),
    ],
)
def test_an_npy_file_is_mapped(tmp_path: Path, made: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", made)
    found = map_array(tmp_path / "x.npy")
    assert np.array_equal(found, made) and found.dtype == made.dtype and found.shape == made.shape
    assert not found.size or (isinstance(found, np.memmap) and not found.flags.writeable)


def test_hostile_npy_files_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.arange(1000))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    whole = (tmp_path / "good.npy").read_bytes()
    for name, data, said in [
        ("cut.npy", whole[:-1], "its array claims 8,000 bytes, and has 7,999"),
        ("longer.npy", whole + b"x", "its array claims 8,000 bytes, and has 8,001"),
        ("huge.npy", header("(1000000000, 1000000000)"), "its array claims"),
        ("pickle.npy", pickle.dumps([1]), "it is no array of plain numbers"),
        ("empty.npy", b"", "it is no array of plain numbers"),
        ("version.npy", whole[:6] + b"\x09" + whole[7:], "npy of the unknown version 9.0"),
        ("objects.npy", None, "its array holds Python objects, which are never loaded"),
    ]:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} .*{re.escape(said)}") as caught:
            map_array(tmp_path / name)
        assert "\n" not in str(caught.value) and "allow_pickle" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.npy: no such file"):
        map_array(tmp_path / "none.npy")
