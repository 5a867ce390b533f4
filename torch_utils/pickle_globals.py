"""The globals that a pickle of network weights may name, and what each of them stands for here.

Every entry of GLOBALS is a function of this file that checks its arguments and returns plain data; the module
that the pickle names is never imported. The layout of the files: tests/golden/README.md, section 3.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import torch


class UnsafePickleError(pickle.UnpicklingError, ValueError):
    """The file is truncated, damaged, or asks for something that plain weights do not need."""


@dataclass
class Recorded:
    """An object as the pickle tells of it: the name of its class and its attributes, but no code.

    Attributes:
        class_name: the bare name, such as "EDMPrecond" or "ModuleDict".
        state: the `__dict__` of the instance; of a torch module, `_modules`, `_parameters`, `_buffers`, ...
    """

    class_name: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """An allowed global, standing on the machine's stack in place of the thing itself."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers that one or several tensors are views of."""

    flat: torch.Tensor


@dataclass(frozen=True)
class Dtype:
    """A numpy number type."""

    numpy: np.dtype[Any]


class BoundedFile:
    """A file that never allocates more than it holds: a length field is a claim, not a fact."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        here = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        self.size = self._end - here  # bytes of the pickle, and of whatever follows it
        file.seek(here)

    def tell(self) -> int:
        """Position in the file, in bytes."""
        return self._file.tell()

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, or EOFError."""
        if count > self._end - self._file.tell():
            raise EOFError
        return self._file.read(count)

    def readline(self) -> bytes:
        """A whole line, or EOFError."""
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line


def named(module: str, name: str) -> Named:
    """The stand-in for `module.name`; UnsafePickleError if that is not in GLOBALS."""
    full = f"{module}.{name}"
    if full not in GLOBALS:
        shown = ascii(full)[1:-1][:100]
        raise UnsafePickleError(f"safe loading refuses {shown}: plain weights have no need of it")
    return Named(full)


def exactly(kind: type, value: Any) -> Any:
    """`value` itself if its type is `kind` and no subclass of it; else UnsafePickleError."""
    if type(value) is not kind:
        raise UnsafePickleError(
            f"safe loading refuses a {type(value).__name__} in place of a {kind.__name__}"
        )
    return value


def plain_key(value: Any) -> Any:
    """`value` itself if it may be a key; tuples may not: hashing a deep one overflows the C stack."""
    if type(value) not in (str, int, float, bool, bytes, type(None)):
        raise UnsafePickleError(f"safe loading refuses a {type(value).__name__} as a key")
    return value


def set_state(target: Any, state: Any) -> None:
    """What the opcode BUILD does: give an object that was made before its attributes.

    Raises:
        UnsafePickleError: if `target` is no Recorded, Dtype or numpy array, or `state` does not fit it.
    """
    if type(target) is Recorded:
        target.state.update(
            (exactly(str, key), value) for key, value in exactly(dict, state).items()
        )

    elif type(target) is Dtype:
        if exactly(tuple, state)[1] not in ("<", "|", "="):
            raise UnsafePickleError("safe loading refuses big-endian numbers")

    elif type(target) is np.ndarray:
        _version, shape, dtype, fortran_order, data = exactly(tuple, state)
        if type(data) is str:  # Python 2's bytes
            data = data.encode("latin1")
        expected = math.prod(_sizes(shape)) * exactly(Dtype, dtype).numpy.itemsize
        if len(exactly(bytes, data)) != expected:
            raise UnsafePickleError(
                f"damaged pickle: a numpy array of {expected} bytes comes with {len(data)}"
            )
        target.__setstate__((1, shape, dtype.numpy, exactly(bool, fortran_order), data))
    else:
        raise UnsafePickleError(
            f"safe loading refuses to set the state of a {type(target).__name__}"
        )


def _sizes(values: Any) -> tuple[int, ...]:
    if any(type(v) is not int or v < 0 for v in exactly(tuple, values)):
        raise UnsafePickleError("damaged pickle: sizes must be integers of at least 0")
    return values


def _persistent(meta: Any) -> Recorded:
    """EDM's own function would execute meta["module_src"]; this one does not even keep it."""
    meta = exactly(dict, meta)
    if meta.get("type") != "class":
        raise UnsafePickleError(
            "safe loading refuses persistent objects of another type than 'class'"
        )
    return Recorded(exactly(str, meta.get("class_name")), exactly(dict, meta.get("state")))


def _module_dict() -> Recorded:
    return Recorded("ModuleDict")


def _empty_dict() -> dict[Any, Any]:
    return {}


def _no_bytes() -> bytes:
    """Protocol 2's b""."""
    return b""


def _set_of(items: Any) -> set[Any]:
    return {plain_key(item) for item in exactly(list, items)}


def _encode(text: Any, encoding: Any) -> bytes:
    """Protocol 2 has no bytes: they travel as text, one character a byte."""
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError("safe loading refuses bytes in another encoding than latin1")
    return exactly(str, text).encode("latin1")


# A storage as torch.save wrote it before its zip format: five pickles, then the raw numbers.
_STORAGE_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STORAGE_OPCODES = frozenset(
    {"PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
     "BINUNICODE", "BINPUT", "BINGET", "EMPTY_DICT", "EMPTY_LIST", "SETITEM", "SETITEMS", "APPEND", "TUPLE",
     "BINPERSID"}
)  # fmt: skip
_STORAGE_CLASSES = frozenset(
    f"torch {kind}Storage"
    for kind in (
        "Double",
        "Float",
        "Half",
        "BFloat16",
        "Long",
        "Int",
        "Short",
        "Char",
        "Byte",
        "Bool",
    )
)


def _storage(data: Any) -> Storage:
    """Stands for `torch.storage._load_from_bytes`, which is an unrestricted torch.load of `data`.

    The opcodes are looked through before torch sees them: so a refusal names its reason, and nothing but a
    storage reaches `weights_only`, which had holes in older versions of torch.
    """
    if not exactly(bytes, data).startswith(_STORAGE_MAGIC):
        raise UnsafePickleError("safe loading refuses tensor data that is not a torch storage")
    stream = BoundedFile(io.BytesIO(data))
    for _ in range(5):
        for opcode, arg, _position in pickletools.genops(stream):  # type: ignore[arg-type]
            if opcode.name == "GLOBAL":
                if arg not in _STORAGE_CLASSES:
                    shown = ascii(str(arg).replace(" ", "."))[1:-1][:100]
                    raise UnsafePickleError(
                        f"safe loading refuses {shown} inside of a tensor's data"
                    )
            elif opcode.name not in _STORAGE_OPCODES:
                raise UnsafePickleError(
                    f"safe loading refuses the opcode {opcode.name} inside of a tensor's data"
                )
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise UnsafePickleError(
            f"safe loading refuses a {type(storage).__name__} as a tensor's data"
        )
    # not storage.untyped(), which warns of the deprecation of the class that this old format comes as
    return Storage(torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage))


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any
) -> torch.Tensor:
    flat = exactly(Storage, storage).flat
    (offset,) = _sizes((offset,))
    size, stride = _sizes(size), _sizes(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # With stride 0 an enormous tensor could be made of one number; no weight is stored like that.
    if math.prod(size) > flat.numel() or (0 not in size and last >= flat.numel()):
        raise UnsafePickleError(
            f"damaged pickle: a tensor {list(size)} exceeds its {flat.numel()} numbers"
        )
    return flat.as_strided(size, stride, flat.storage_offset() + offset)


def _parameter(tensor: Any, _grad: Any, _hooks: Any) -> torch.Tensor:
    return exactly(torch.Tensor, tensor)


_NUMPY_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def _dtype(code: Any, _align: Any = False, _copy: Any = True) -> Dtype:
    if exactly(str, code) not in _NUMPY_CODES:
        raise UnsafePickleError(f"safe loading refuses the numpy type {ascii(code)[:30]}")
    return Dtype(np.dtype(f"<{code}"))


def _scalar(dtype: Any, data: Any) -> int | float | bool:
    (value,) = np.frombuffer(exactly(bytes, data), exactly(Dtype, dtype).numpy)
    return value.item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """Protocol 5's array: order "C" or "F", or "K" with the axes that a "C" array is to be transposed by."""
    sizes, numbers = _sizes(shape), exactly(Dtype, dtype).numpy
    expected = math.prod(sizes) * numbers.itemsize
    if len(exactly(bytes, data)) != expected:
        raise UnsafePickleError(
            f"damaged pickle: a numpy array of {expected} bytes comes with {len(data)}"
        )
    array = np.frombuffer(data, numbers)
    if order == "K" and axes is not None:
        return array.reshape(sizes).transpose(_sizes(axes))
    if order not in ("C", "F"):
        raise UnsafePickleError(
            "safe loading refuses numpy arrays of another order than C, F and K"
        )
    return array.reshape(sizes, order=order)


def _array(kind: Any, _shape: Any, _code: Any) -> np.ndarray:
    if kind != Named("numpy.ndarray"):
        raise UnsafePickleError("safe loading refuses numpy arrays of another class than ndarray")
    return np.empty(0)  # BUILD fills it


def _never_called(*_args: Any) -> Any:
    raise UnsafePickleError("safe loading refuses a call of numpy.ndarray")


GLOBALS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
        "torch.nn.modules.container.ModuleDict": _module_dict,
        "collections.OrderedDict": _empty_dict,
        "dnnlib.util.EasyDict": _empty_dict,
        "__builtin__.set": _set_of,
        "builtins.set": _set_of,
        "__builtin__.bytes": _no_bytes,
        "builtins.bytes": _no_bytes,
        "_codecs.encode": _encode,
        "torch.storage._load_from_bytes": _storage,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "numpy.dtype": _dtype,
        "numpy.ndarray": _never_called,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
        "numpy.core.multiarray._reconstruct": _array,
        "numpy._core.multiarray._reconstruct": _array,
        "numpy.core.numeric._frombuffer": _from_buffer,
        "numpy._core.numeric._frombuffer": _from_buffer,
    }
)
