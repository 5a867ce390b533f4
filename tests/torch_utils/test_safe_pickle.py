"""The safe pickle machine: what it reads, and what it says of damaged files. Attacks have a file of their own."""

import pickle
import random
import struct
from collections import OrderedDict
from typing import Any

import edm_pickles as ep
import numpy as np
import pytest
import torch
from conftest import golden_json
from edm_pickles import loads, refusal

from torch_utils import pickle_globals, safe_pickle
from torch_utils.safe_pickle import Recorded, UnsafePickleError

# ---- what it reads

PLAIN = {
    "none": None, "yes": True, "no": False, "ints": [0, 255, 65535, -1, 2**31 - 1, 2**40, -(2**70)],
    "float": 1.5,
    "text": "ü" * 300, "bytes": b"ab\xff" * 200, "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "empty": [{}, [], set()], "set": {"a", "b"}, 7: {"nested": {"deep": [1, [2]]}},
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_back_equal(protocol: int) -> None:
    assert loads(pickle.dumps(PLAIN, protocol)) == PLAIN


def test_identity_and_cycles_survive() -> None:
    shared = [1]
    data: dict[str, Any] = {"a": shared, "b": shared}
    data["self"] = data
    found = loads(pickle.dumps(data, 4))
    assert found["a"] is found["b"] and found["self"] is found


def test_every_dictionary_becomes_a_plain_dict() -> None:
    found = loads(pickle.dumps(OrderedDict(a=1, b=2), 4))
    assert type(found) is dict and found == {"a": 1, "b": 2}
    easy = loads(ep.dumps(ep.Made(ep.Global("dnnlib.util", "EasyDict"), newobj=True)))
    assert type(easy) is dict and easy == {}


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_scalars_and_arrays(core: str, protocol: int) -> None:
    assert loads(ep.dumps(ep.numpy_scalar(0.1, core), protocol)) == 0.1
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(loads(ep.dumps(ep.numpy_array(array, core), protocol)), array)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.5),
        np.int64(-3),
        np.bool_(True),
        np.arange(4.0),
        np.eye(2, dtype="f4")[:1].T,
        np.arange(24, dtype="f4").reshape(2, 3, 4).T,
        np.arange(24, dtype="i2").reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(24.0)[::3],
        np.zeros((0, 3)),
        np.array(2.5),
    ],
)
def test_what_the_installed_numpy_writes(value: Any, protocol: int) -> None:
    found = loads(pickle.dumps(value, protocol))
    np.testing.assert_array_equal(found, value)


def test_arrays_of_protocol_5_before_numpy_2() -> None:
    data = pickle.dumps(np.arange(3.0), 5)
    assert b"numpy._core.numeric" in data
    older = data.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
    # Without its frame.
    np.testing.assert_array_equal(loads(older[:2] + older[11:]), np.arange(3.0))


@pytest.mark.parametrize(
    ("shape", "order", "axes", "words"),
    [
        ((4,), "C", None, "an array of 32 bytes comes with 24"),
        ((2**40,), "C", None, "comes with 24"),
        ((-3,), "C", None, "sizes must be"),
        ((3,), "A", None, "another order"),
        ((3,), "K", (1,), "damaged"),
        ((3,), ["C"], None, "another order"),
    ],
)
def test_arrays_of_protocol_5_are_checked(shape: Any, order: Any, axes: Any, words: str) -> None:
    dtype = ep.Made(ep.DTYPE, ("f8", False, True))
    made = ep.Made(
        ep.Global("numpy._core.numeric", "_frombuffer"), (bytes(24), dtype, shape, order, axes)
    )
    assert words.replace("an array", "a numpy array") in refusal(ep.dumps(made))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
@pytest.mark.parametrize("location", ["cpu", "cuda:0"])
def test_tensors_of_every_type_arrive_on_the_cpu(dtype: torch.dtype, location: str) -> None:
    value = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    found = loads(ep.dumps(ep.tensor(value, location)))
    assert found.device.type == "cpu" and found.dtype == dtype
    assert torch.equal(found, value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_the_installed_torch_writes(protocol: int) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    parameter = torch.nn.Parameter(base[1:, ::2])
    data = pickle.dumps(
        {"view": base[1:, ::2].T, "parameter": parameter, "scalar": torch.tensor(3.0)}, protocol
    )
    found = loads(data)
    assert torch.equal(found["view"], base[1:, ::2].T) and torch.equal(
        found["parameter"], parameter
    )
    assert found["scalar"].shape == () and not found["parameter"].requires_grad


@pytest.mark.parametrize(
    "settings", [{}, {"protocol": 2}, {"core": "numpy._core"}, {"location": "cuda:1"}]
)
def test_a_snapshot_becomes_recorded_objects(settings: dict[str, Any]) -> None:
    found = loads(ep.small_snapshot(**settings))
    assert list(found) == ["ema", "loss_fn", "augment_pipe", "dataset_kwargs"]
    ema = found["ema"]
    assert isinstance(ema, Recorded) and ema.class_name == "EDMPrecond"
    assert ema.state["_init_kwargs"] == {"img_resolution": 8}
    model = ema.state["_modules"]["model"].state
    assert model["skip_scale"] == 0.5**0.5 and model["_buffers"]["freqs"].tolist() == [0.5, 0.25]
    enc = model["_modules"]["enc"]
    assert isinstance(enc, Recorded) and enc.class_name == "ModuleDict"
    weight = enc.state["_modules"]["8x8_conv"].state["_parameters"]["weight"]
    assert torch.equal(weight, torch.arange(24.0).reshape(2, 3, 2, 2))
    assert "module_src" not in ema.state and found["augment_pipe"] is None


@pytest.mark.parametrize(("style", "settings"), [("proto2", {"protocol": 2}), ("proto4", {})])
def test_the_helper_writes_the_globals_of_the_official_pickles(
    style: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = golden_json("pickle_facts")["edm_torch1_numpy1_style"][f"public/edm_adm/{style}"]
    seen: dict[str, int] = {}

    def spy(module: str, name: str) -> Any:
        seen[f"{module} {name}"] = seen.get(f"{module} {name}", 0) + 1
        return pickle_globals.named(module, name)

    monkeypatch.setattr(safe_pickle, "named", spy)
    loads(ep.small_snapshot(**settings))
    assert seen.keys() == facts["globals"].keys()


# ---- truncated, damaged, boastful


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_truncation_is_one_clear_line(protocol: int) -> None:
    data = ep.small_snapshot(protocol=protocol)
    for end in range(0, len(data) - 1, 37):
        assert "truncated" in refusal(data[:end])


def test_a_cut_inside_of_a_tensor_is_noticed() -> None:
    good = ep.storage_bytes(torch.arange(1000.0))
    for end in (0, 5, 100, 200, 300, len(good) - 1):
        refusal(ep.dumps(ep.Made(ep.STORAGE, (good[:end],))))


@pytest.mark.parametrize(
    "claim",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60),
        b"\x80\x04\x8d" + struct.pack("<Q", 2**63 - 1),
        b"\x80\x04B" + struct.pack("<I", 2**32 - 1),
        b"\x80\x04X" + struct.pack("<I", 2**31),
        b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1),
    ],
)
def test_claims_of_length_allocate_nothing(claim: bytes) -> None:
    assert "truncated" in refusal(claim + b"abc")


def test_a_storage_that_claims_more_than_it_holds_is_refused() -> None:
    good = ep.storage_bytes(torch.arange(4.0))
    many = good.replace(b"K\x04", b"J\xff\xff\xff\x7f")
    assert many != good
    refusal(ep.dumps(ep.Made(ep.STORAGE, (many,))))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch looks at the damaged header
def test_random_damage_never_escapes() -> None:
    rng = random.Random(0)
    original = ep.small_snapshot()
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            loads(bytes(data))
        except UnsafePickleError as error:
            assert "\n" not in str(error)
