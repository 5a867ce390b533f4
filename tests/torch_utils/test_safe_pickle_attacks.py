"""The safe pickle machine neither executes nor believes what a file carries."""

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import edm_pickles as ep
import pytest
import torch
from edm_pickles import loads, refusal

# ---- globals and opcodes


def call(name: str, *args: Any, protocol: int = 4) -> bytes:
    module, _, attribute = name.rpartition(".")
    return ep.dumps(ep.Made(ep.Global(module, attribute), args), protocol)


HOSTILE = [
    "posix.system", "nt.system", "os.system", "os.popen", "subprocess.Popen",
    "subprocess.check_output", "builtins.eval", "builtins.exec", "builtins.compile",
    "builtins.getattr", "builtins.setattr", "builtins.open", "builtins.__import__",
    "builtins.print", "__builtin__.eval", "__builtin__.getattr", "importlib.import_module",
    "runpy.run_path", "pickle.loads", "_pickle.loads", "marshal.loads", "types.FunctionType",
    "types.CodeType", "functools.partial", "functools.reduce", "operator.attrgetter",
    "operator.methodcaller", "_codecs.decode", "copyreg._reconstructor", "copyreg.__newobj__",
    "torch.load", "torch.serialization.load", "torch.hub.load", "torch.jit.load",
    "torch.storage._load_from_bytes.__globals__", "torch.utils.cpp_extension.load",
    "torch._utils._rebuild_parameter_with_state", "torch._utils._set_obj_state", "numpy.load",
    "numpy.f2py.compile", "numpy.testing._private.utils.runstring",
    "numpy.core.multiarray.fromfile", "torch.nn.modules.container.Sequential",
    "torch_utils.persistence.import_hook", "torch_utils.persistence._src_to_module",
    "dnnlib.util.call_func_by_name", "dnnlib.util.get_obj_by_name",
    "collections.OrderedDict.__init__", "collections.abc.sys.modules", "code.interact",
    "torch_utils.safe_pickle.load", "pty.spawn", "asyncio.run", "webbrowser.open", "timeit.timeit",
]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_global_off_the_list_is_refused_by_name(name: str, protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    assert f"refuses {name}" in refusal(call(name, f"touch {canary}", protocol=protocol))
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    pickle.loads(call("posix.system", f"touch {canary}"))
    assert canary.exists(), "the attack of the tests above is no attack"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "storage.io.os.system"),
        ("torch.storage", "io.open"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("collections", "OrderedDict.fromkeys.__self__"),
        ("", "eval"),
        ("os\nsystem", "x"),
        ("builtins", "ev\u0430l"),
        ("posix system", "x"),
    ],
)
def test_dotted_and_odd_names_of_protocol_4_are_refused(module: str, name: str) -> None:
    assert "safe loading refuses" in refusal(ep.dumps(ep.Made(ep.Global(module, name), ("id",))))


def test_a_global_that_is_only_mentioned_is_refused_too() -> None:
    assert "refuses posix.system" in refusal(b"\x80\x02cposix\nsystem\n.")


def test_the_source_in_a_snapshot_is_not_executed() -> None:
    data = ep.small_snapshot()
    assert ep.MODULE_SRC.encode() in data
    loads(data)  # MODULE_SRC raises when it is run


@pytest.mark.parametrize(
    ("opcode", "data"),
    [
        ("INST", b"(S'id'\niposix\nsystem\n."),
        ("OBJ", b"(cposix\nsystem\nX\x02\x00\x00\x00ido."),
        ("EXT1", b"\x80\x02\x82\x01."),
        ("EXT2", b"\x80\x02\x83\x01\x00."),
        ("EXT4", b"\x80\x02\x84\x01\x00\x00\x00."),
        ("PERSID", b"Pposix.system\n."),
        ("BINPERSID", b"\x80\x02X\x02\x00\x00\x00idQ."),
        ("NEWOBJ_EX", b"\x80\x04ccollections\nOrderedDict\n)}\x92."),
        ("DUP", b"\x80\x02]2."),
        ("POP", b"\x80\x02]]0."),
        ("NEXT_BUFFER", b"\x80\x05\x97."),
    ],
)
def test_opcodes_without_need_are_refused(opcode: str, data: bytes) -> None:
    message = refusal(data)
    assert (
        f"refuses the opcode {opcode}" in message
        or "posix.system" in message
        or "STRING" in message
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__code__K\x01sb.",  # BUILD on a global
        b"\x80\x02ctorch.storage\n_load_from_bytes\nN}X\x0c\x00\x00\x00__defaults__)s\x86b.",  # with slots
        b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.",  # BUILD on a dict
        b"\x80\x02]K\x01K\x02s.",  # SETITEM on a list
        b"\x80\x02}K\x01a.",  # APPEND to a dict
        b"\x80\x02}(K\x01u.",  # SETITEMS with a key and no value
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x02K\x01)R.",  # a call of a number
        b"\x80\x02ccollections\nOrderedDict\nK\x01R.",  # arguments that are no tuple
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x02.", b"\x80\x02K\x01\x86.", b"\x80\x02t.", b"\x80\x02s.",
        b"\x80\x02h\x05.", b"\xff.", b"\x80\x02q\x01.",
    ],
)  # fmt: skip
def test_programs_that_misuse_the_machine_are_refused(data: bytes) -> None:
    refusal(data)
    assert not hasattr(OrderedDict, "__code__")


def test_deeply_nested_keys_cannot_overflow_the_stack() -> None:
    refusal(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.")


@pytest.mark.parametrize("encoding", ["rot13", "zlib_codec", "utf-8", "idna"])
def test_codecs_encode_knows_latin1_only(encoding: str) -> None:
    assert "latin1" in refusal(call("_codecs.encode", "text", encoding, protocol=2))


@pytest.mark.parametrize("args", [((("a", 1),),), ([["a", 1]],)])
def test_containers_start_empty(args: tuple[Any, ...]) -> None:
    refusal(call("collections.OrderedDict", *args))


def tensor_of(storage: Any, offset: Any, size: Any, stride: Any) -> bytes:
    return ep.dumps(ep.Made(ep.TENSOR, (storage, offset, size, stride, False, OrderedDict())))


FOUR = ep.Made(ep.STORAGE, (ep.storage_bytes(torch.arange(4.0)),))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (2,), (2**62,)),
        (0, (2**62, 2**62), (0, 0)),
        (0, (10**9,), (0,)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (4, (1,), (1,)),
        (2**63, (1,), (1,)),
        (0, (2,), (1, 1)),
        (0, [4], [1]),
        (0.0, (4,), (1,)),
        (0, (True,), (1,)),
        (0, ("4",), (1,)),
    ],
)
def test_a_tensor_stays_inside_of_its_storage(offset: Any, size: Any, stride: Any) -> None:
    refusal(tensor_of(FOUR, offset, size, stride))


def test_tensor_functions_take_nothing_else() -> None:
    refusal(tensor_of([1, 2, 3, 4], 0, (4,), (1,)))
    refusal(ep.dumps(ep.Made(ep.PARAMETER, ("not a tensor", True, OrderedDict()))))
    refusal(ep.dumps(ep.Made(ep.STORAGE, ("text",))))
    refusal(ep.dumps(ep.Made(ep.PERSISTENT, ({"type": "module", "class_name": "A", "state": {}},))))
    refusal(ep.dumps(ep.Made(ep.PERSISTENT, ([],))))


@pytest.mark.parametrize("code", ["O8", "V8", "O", "i4,O", "object", "S8"])
def test_numpy_objects_are_refused(code: str) -> None:
    dtype = ep.Made(ep.DTYPE, (code, False, True))
    assert "refuses the numpy type" in refusal(
        ep.dumps(ep.Made(ep.Global("numpy.core.multiarray", "scalar"), (dtype, b"8" * 8)))
    )


def test_numpy_sizes_are_checked() -> None:
    dtype = ep.Made(ep.DTYPE, ("f4", False, True))
    reconstruct = ep.Global("numpy.core.multiarray", "_reconstruct")
    for shape, data in [((2**40,), b"1234"), ((-1,), b"1234"), ((2,), b"1234")]:
        refusal(
            ep.dumps(
                ep.Made(reconstruct, (ep.NDARRAY, (0,), b"b"), state=(1, shape, dtype, False, data))
            )
        )
    big_endian = ep.Made(ep.DTYPE, ("f4", False, True), state=(3, ">", None, None, None, -1, -1, 0))
    assert "big-endian" in refusal(ep.dumps(big_endian))


@pytest.mark.parametrize("kind", ["storage", "set", "bytes", "state", "array", "buffer"])
def test_copies_of_what_was_there_before_are_counted(kind: str) -> None:
    """A reference takes two bytes; what it names may be long, and would be copied each time."""
    items, numbers, text = list(range(1000)), bytes(4000), "x" * 4000
    dtype, module = ep.Made(ep.DTYPE, ("f4", False, True)), dict.fromkeys(map(str, range(1000)))
    state = (1, (1000,), dtype, False, numbers)
    stored = ep.storage_bytes(torch.zeros(1000))
    array = ep.Global("numpy.core.multiarray", "_reconstruct")
    made = {
        "storage": lambda: ep.Made(ep.STORAGE, (stored,)),
        "set": lambda: ep.Made(ep.Global("builtins", "set"), (items,)),
        "bytes": lambda: ep.Made(ep.Global("_codecs", "encode"), (text, "latin1")),
        "state": lambda: ep.Made(ep.MODULE_DICT, (), module, newobj=True),
        "array": lambda: ep.Made(array, (ep.NDARRAY, (0,), b"b"), state=state),
        "buffer": lambda: ep.Made(
            ep.Global("numpy.core.numeric", "_frombuffer"), (numbers, dtype, (1000,), "C")
        ),
    }[kind]
    loads(ep.dumps([made() for _ in range(2)]))
    assert "unfolds to many times its own size" in refusal(ep.dumps([made() for _ in range(200)]))


# ---- tensors carry a pickle of their own


class Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def saved(value: Any, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_hostile_payload_inside_of_a_tensor_is_not_executed(zipped: bool, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    payload = saved(Bomb(f"touch {canary}"), zipped)
    message = refusal(ep.dumps(ep.Made(ep.STORAGE, (payload,))))
    assert zipped or "refuses posix.system" in message
    assert not canary.exists()
    torch.load(io.BytesIO(payload), weights_only=False)
    assert canary.exists(), "the attack is no attack"


def test_hostile_headers_inside_of_a_tensor_are_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    attack = call("posix.system", f"touch {canary}", protocol=2)
    good = ep.storage_bytes(torch.arange(4.0))
    magic = len(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    for payload in (
        attack,
        attack + good,
        good[:magic] + attack + good[magic:],
        good[:magic] + attack,
    ):
        refusal(ep.dumps(ep.Made(ep.STORAGE, (payload,))))
    called = good[:magic] + b"\x80\x02ctorch\nFloatStorage\n(tR." + good[magic:]
    assert "refuses the opcode REDUCE" in refusal(ep.dumps(ep.Made(ep.STORAGE, (called,))))
    swapped = good.replace(b"ctorch\nFloatStorage\n", b"cposix\nsystem\n")
    assert "refuses posix.system" in refusal(ep.dumps(ep.Made(ep.STORAGE, (swapped,))))
    assert not canary.exists()


def test_a_tensor_may_not_be_something_else() -> None:
    for value in (torch.arange(3.0), {"a": 1}, [1]):
        refusal(ep.dumps(ep.Made(ep.STORAGE, (saved(value, zipped=False),))))
