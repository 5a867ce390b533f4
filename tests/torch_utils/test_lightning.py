"""Lightning checkpoints are read as data: nothing that they name is imported, called or believed."""

import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from standins_ldm import write_lightning

from torch_utils.lightning import is_lightning, read_lightning

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.uint8, torch.bool,
)  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    found = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    whole = torch.randn(4, 5)
    return found | {
        "rows": whole[1:3],
        "columns": whole.T,
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 2),
    }


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    write_lightning(tmp_path / "model.ckpt", tensors())
    found, expected = read_lightning(tmp_path / "model.ckpt"), tensors_of(tmp_path / "model.ckpt")
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The same by torch itself, which needs the classes: here they are only made up again."""
    with zipfile.ZipFile(path) as file:
        assert b"pytorch_lightning.callbacks.model_checkpoint" in file.read(f"{path.stem}/data.pkl")
    blind = pickle_module_without_classes()
    return torch.load(path, weights_only=False, pickle_module=blind)["state_dict"]


def pickle_module_without_classes() -> Any:
    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("pytorch_lightning"):
                return type(name, (), {})
            return super().find_class(module, name)

    module: Any = type(sys)("blind")
    module.Unpickler = Unpickler
    module.load = lambda file, **options: Unpickler(file, **options).load()
    return module


def test_lightning_is_not_imported(tmp_path: Path) -> None:
    write_lightning(tmp_path / "model.ckpt", tensors())
    before = set(sys.modules)
    read_lightning(tmp_path / "model.ckpt")
    assert not any(name.startswith("pytorch_lightning") for name in set(sys.modules) - before)
    # Which reading it otherwise would need.
    with pytest.raises(ModuleNotFoundError, match="pytorch_lightning"):
        torch.load(tmp_path / "model.ckpt", weights_only=False)


class Calls:
    """An object that is unpickled by calling something."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.made = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class Holds(dict):
    """A dict with a class, attributes and items of its own."""


def hostile(canary: Path) -> dict[str, Any]:
    touch = Calls(os.system, f"touch {canary}")
    holds = Holds(a=touch)
    holds.attribute = touch  # type: ignore[attr-defined]
    return {
        "callbacks": touch,
        "hyper_parameters": [
            touch,
            {"nested": (touch, holds)},
            Calls(eval, f"open({str(canary)!r}, 'w')"),
        ],
        "loops": {
            ("a", "tuple"): {1, 2},
            3: frozenset([4]),
            "ordered": OrderedDict(a=1),
            "complex": 1j,
        },
    }


def test_what_a_checkpoint_asks_for_is_not_done(tmp_path: Path) -> None:
    path, canary = tmp_path / "model.ckpt", tmp_path / "executed"
    write_lightning(path, {"w": torch.ones(2)}, **hostile(canary))
    assert read_lightning(path).keys() == {"w"} and not canary.exists()
    torch.load(path, weights_only=False, pickle_module=pickle_module_without_classes())
    assert canary.exists(), "the attack above is no attack"


def test_the_state_dict_holds_tensors_only(tmp_path: Path) -> None:
    path, canary = tmp_path / "model.ckpt", tmp_path / "executed"
    for value in (Calls(os.system, f"touch {canary}"), [1.0], {"more": torch.ones(1)}, 3):
        write_lightning(path, {"w": torch.ones(2), "bad": value})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match="other things than tensors by name: 'bad'") as caught:
            read_lightning(path)
        assert "\n" not in str(caught.value) and not canary.exists()
    for contents in ({"epoch": 3}, [1], {"state_dict": Calls(os.system, f"touch {canary}")}):
        torch.save(contents, path)
        with pytest.raises(ValueError, match="no state_dict"):
            read_lightning(path)
    assert not canary.exists()


def rewritten(
    source: Path,
    target: Path,
    change: Callable[[str, bytes], bytes],
    method: int = zipfile.ZIP_STORED,
) -> None:
    """Write the archive again, not aligned as torch does, its files changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))


def test_an_archive_that_is_not_aligned_is_read_too(tmp_path: Path) -> None:
    write_lightning(tmp_path / "model.ckpt", tensors())
    rewritten(tmp_path / "model.ckpt", tmp_path / "again.ckpt", lambda name, data: data)
    found = read_lightning(tmp_path / "again.ckpt")
    expected = read_lightning(tmp_path / "model.ckpt")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


DAMAGES: dict[str, Callable[[str, bytes], bytes]] = {
    "short storage": lambda name, data: data[:4] if "/data/" in name else data,
    "odd storage": lambda name, data: data[:-1] if "/data/" in name else data,
    "other storage": lambda _, data: data.replace(b"FloatStorage", b"EvilsStorage"),
    "missing storage": lambda _, data: data.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x009"),
    "cut pickle": lambda name, data: data[:-9] if name.endswith("pkl") else data,
    "no pickle": lambda name, data: b"garbage" if name.endswith("pkl") else data,
    "big tensor": lambda _, data: data.replace(b"K\x07\x85", b"K\x7f\x85"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.ckpt"
    write_lightning(path, {"w": torch.ones(7)}, callbacks={}, optimizer_states=[])
    rewritten(path, tmp_path / "damaged.ckpt", DAMAGES[name])
    refused(tmp_path / "damaged.ckpt")


def test_files_that_are_cut_or_compressed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_lightning(path, {"w": torch.ones(7)})
    rewritten(path, tmp_path / "compressed.ckpt", lambda name, data: data, zipfile.ZIP_DEFLATED)
    refused(tmp_path / "compressed.ckpt")
    path.write_bytes(path.read_bytes()[:-100])
    refused(path)


def refused(path: Path) -> None:
    with pytest.raises(ValueError, match="truncated or damaged") as caught:
        read_lightning(path)
    assert "\n" not in str(caught.value)


def test_the_first_bytes_tell(tmp_path: Path) -> None:
    write_lightning(tmp_path / "model.ckpt", {"w": torch.ones(2)})
    torch.save({"state_dict": {"time_embed.0.weight": torch.ones(2)}}, tmp_path / "bare.pt")
    torch.save({"time_embed.0.weight": torch.ones(2)}, tmp_path / "my_state_dict.pt")
    torch.save(
        {"epoch": 3, "state_dict": {}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    found = {path.name: is_lightning(path.read_bytes()[:512]) for path in tmp_path.iterdir()}
    assert found == {
        "model.ckpt": True,
        "bare.pt": True,
        "my_state_dict.pt": False,
        "old.pt": False,
    }
