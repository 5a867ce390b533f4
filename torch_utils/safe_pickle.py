"""Reading EDM's snapshot pickles as data: nothing that a file carries is ever imported, called or executed.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the
program names. The machine here knows only the opcodes that build plain data, and the few globals of
pickle_globals.py, each of which stands for a checking function of our own. Anything else is refused by name.
No class, function or module of the interpreter ever lies on the stack: a hostile file finds nothing to grasp.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

from torch_utils.pickle_globals import (
    GLOBALS,
    BoundedFile,
    Named,
    Recorded,
    UnsafePickleError,
    exactly,
    named,
    plain_key,
    set_state,
)

__all__ = ["Recorded", "Rules", "UnsafePickleError", "load"]

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
     "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING"}
)  # fmt: skip
_EMPTY: dict[str, type] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IDLE = ("PROTO", "FRAME")  # say nothing that is needed
_COPIES = 4  # of its own bytes that a pickle may make: protocol 2 has them as text, then as bytes, then as numbers


class Rules:
    """What a pickle may do beyond making literals and containers; a subclass may know of more.

    Every method raises UnsafePickleError for what is not allowed. A few bytes name something that was there before,
    so that a small file could have a large part of itself copied without end: what is copied is counted.
    """

    def __init__(self) -> None:
        self.left = 0

    def limit(self, size: int) -> None:
        """Allow copies for a pickle of `size` bytes."""
        self.left = _COPIES * size

    def _copies(self, *values: Any) -> None:
        self.left -= sum(
            len(value) for value in values if isinstance(value, bytes | str | list | dict)
        )
        if self.left < 0:
            raise UnsafePickleError("damaged pickle: it unfolds to many times its own size")

    def named(self, module: str, name: str) -> Any:
        """What stands on the stack for the global `module.name`."""
        return named(module, name)

    def called(self, function: Any, args: Any) -> Any:
        """What comes of calling `function`, or of making an instance of it."""
        self._copies(*exactly(tuple, args))
        return GLOBALS[exactly(Named, function).name](*args)

    def set_state(self, target: Any, state: Any) -> None:
        """Give an object that was made before its attributes."""
        self._copies(state, *(state if isinstance(state, tuple) else ()))
        set_state(target, state)

    def container(self, kind: type, target: Any) -> Any:
        """The dict, list or set `kind` that is filled when `target` is."""
        return exactly(kind, target)

    def key(self, value: Any) -> Any:
        """What stands for `value` as a key, or in a set."""
        return plain_key(value)

    def stored(self, reference: Any) -> Any:
        """What is kept outside of the pickle under a persistent id."""
        raise UnsafePickleError(
            "safe loading refuses the opcode BINPERSID: plain weights have no need of it"
        )


def load(file: IO[bytes], rules: Rules | None = None) -> Any:
    """Read one pickle from a seekable binary file; execute nothing.

    Dictionaries of every kind come back as dict, torch modules and "persistent" objects as Recorded,
    parameters and buffers as tensors on the CPU wherever they were saved, numpy scalars as Python numbers, strings of
    Python 2 as str of one character a byte.

    Args:
        file: open for reading, standing at the first byte of the pickle.
        rules: what it may do; by default what EDM's snapshots need.
    Returns:
        The object that the pickle describes.
    Raises:
        UnsafePickleError: (a ValueError) one line that names what is not allowed, or says that the file is
            cut short.
    """
    try:
        stream, rules = BoundedFile(file), rules or Rules()
        rules.limit(stream.size)
        return _Machine(rules).run(stream)
    except UnsafePickleError:
        raise
    except EOFError:
        raise UnsafePickleError("truncated pickle: it ends in the middle of an object") from None
    except Exception as error:  # a malformed program can fail in any way at all
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnsafePickleError(f"damaged pickle: {reason}") from error


class _Machine:
    """The stack machine that a pickle is a program for, with those opcodes that build data.

    Args:
        rules: what it asks before it does more than move values.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # stacks that wait until what follows a mark is gathered
        self.memo: dict[Any, Any] = {}

    def run(self, stream: BoundedFile) -> Any:
        """Interpret one pickle up to its STOP."""
        for opcode, arg, _position in pickletools.genops(stream):  # type: ignore[arg-type]
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(bytes(arg) if isinstance(arg, bytearray) else arg)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                self.stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                items = [self.stack.pop() for _ in range(_TUPLES[name])]
                self.stack.append(tuple(reversed(items)))
            elif name in _OPCODES:
                _OPCODES[name](self, arg)
            elif name not in _IDLE:
                raise UnsafePickleError(
                    f"safe loading refuses the opcode {name}: plain weights have no need of it"
                )

        raise EOFError

    # ---- marks and the memo

    def mark(self, arg: Any) -> None:
        """Gather what follows, until an opcode takes all of it."""
        self.marks.append(self.stack)
        self.stack = []

    def _gathered(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def memoize(self, arg: Any) -> None:
        """Number the value on top."""
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, arg: Any) -> None:
        """Give the value on top the number that is told."""
        self.memo[arg] = self.stack[-1]

    def get(self, arg: Any) -> None:
        """The value of a number again."""
        self.stack.append(self.memo[arg])

    # ---- containers

    def make_tuple(self, arg: Any) -> None:
        """A tuple of what was gathered."""
        items = self._gathered()
        self.stack.append(tuple(items))

    def set_item(self, arg: Any) -> None:
        """One entry of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self.rules.container(dict, self.stack[-1])[self.rules.key(key)] = value

    def set_items(self, arg: Any) -> None:
        """Entries of a dict: keys and values in turn."""
        items = self._gathered()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.rules.container(dict, self.stack[-1])[self.rules.key(key)] = value

    def append(self, arg: Any) -> None:
        """One item of a list."""
        item = self.stack.pop()
        self.rules.container(list, self.stack[-1]).append(item)

    def appends(self, arg: Any) -> None:
        """Items of a list."""
        items = self._gathered()
        self.rules.container(list, self.stack[-1]).extend(items)

    def add_items(self, arg: Any) -> None:
        """Items of a set."""
        items = self._gathered()
        self.rules.container(set, self.stack[-1]).update(self.rules.key(item) for item in items)

    # ---- what the rules know of

    def named(self, arg: Any) -> None:
        """A global, told as "module name"."""
        module, name = str(arg).split(" ", 1)
        self.stack.append(self.rules.named(module, name))

    def named_on_the_stack(self, arg: Any) -> None:
        """A global, whose module and name were put before."""
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.rules.named(exactly(str, module), exactly(str, name)))

    def call(self, arg: Any) -> None:
        """What comes of a function or of a new instance."""
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.rules.called(function, args))

    def build(self, arg: Any) -> None:
        """Attributes of the object on top."""
        state = self.stack.pop()
        self.rules.set_state(self.stack[-1], state)

    def fetch(self, arg: Any) -> None:
        """What is kept outside of the pickle."""
        self.stack.append(self.rules.stored(self.stack.pop()))


_OPCODES: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.make_tuple,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_on_the_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.fetch,
}
