"""The checksum of safetensors files."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from torch_utils.safetensors_files import check_safetensors, write_safetensors

TENSORS = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor([1, 2])}
TEXT = {"format": "test/1", "kwargs": '{"dropout": 0.25}'}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_safetensors(tmp_path / name, TENSORS, TEXT)
        check_safetensors(tmp_path / name)
    found = safetensors.torch.load_file(tmp_path / "one")
    assert found.keys() == TENSORS.keys() and all(
        torch.equal(found[name], value) for name, value in TENSORS.items()
    )
    with safetensors.safe_open(tmp_path / "one", "pt") as file:
        assert TEXT.items() < file.metadata().items()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In the numbers, the text and the tensors' shapes; files of others, which have no checksum, pass."""
    write_safetensors(tmp_path / "file", TENSORS, TEXT)
    whole = (tmp_path / "file").read_bytes()
    for place in (
        len(whole) - 1,
        len(whole) - 30,
        whole.index(b"0.25") + 2,
        whole.index(b"[3") + 1,
    ):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (tmp_path / "file").write_bytes(flipped)
        with pytest.raises(
            ValueError, match="the safetensors file is damaged: its checksum is another"
        ):
            check_safetensors(tmp_path / "file")
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "other")
    check_safetensors(tmp_path / "other")
