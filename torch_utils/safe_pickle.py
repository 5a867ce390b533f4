"""Reading EDM's snapshot pickles as data: nothing that a file carries is ever imported, called or executed.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the
program names. The machine here knows only the opcodes that build plain data, and the few globals of
pickle_globals.py, each of which stands for a checking function of our own. Anything else is refused by name.
No class, function or module of the interpreter ever lies on the stack: a hostile file finds nothing to grasp.
"""

import pickletools
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
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
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
        self.left -= sum(len(value) for value in values if isinstance(value, bytes | str | list | dict))
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
        raise UnsafePickleError("safe loading refuses the opcode BINPERSID: plain weights have no need of it")


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
        return _run(stream, rules)
    except UnsafePickleError:
        raise
    except EOFError:
        raise UnsafePickleError("truncated pickle: it ends in the middle of an object") from None
    except Exception as error:  # a malformed program can fail in any way at all
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnsafePickleError(f"damaged pickle: {reason}") from error


def _run(stream: BoundedFile, rules: Rules) -> Any:
    """Interpret one pickle up to its STOP."""
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[Any, Any] = {}

    def pop_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    for opcode, arg, _position in pickletools.genops(stream):  # type: ignore[arg-type]
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name if name in _LITERALS:
                stack.append(bytes(arg) if isinstance(arg, bytearray) else arg)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case name if name in _TUPLES:
                items = [stack.pop() for _ in range(_TUPLES[name])]
                stack.append(tuple(reversed(items)))
            case "MARK":
                marks.append(stack)
                stack = []
            case "TUPLE":
                items = pop_mark()
                stack.append(tuple(items))
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                rules.container(dict, stack[-1])[rules.key(key)] = value
            case "SETITEMS":
                items = pop_mark()
                for key, value in zip(items[::2], items[1::2], strict=True):
                    rules.container(dict, stack[-1])[rules.key(key)] = value
            case "APPEND":
                item = stack.pop()
                rules.container(list, stack[-1]).append(item)
            case "APPENDS":
                items = pop_mark()
                rules.container(list, stack[-1]).extend(items)
            case "ADDITEMS":
                items = pop_mark()
                rules.container(set, stack[-1]).update(rules.key(item) for item in items)
            case "GLOBAL":
                module, name = str(arg).split(" ", 1)
                stack.append(rules.named(module, name))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(rules.named(exactly(str, module), exactly(str, name)))
            case "REDUCE" | "NEWOBJ":
                args, function = stack.pop(), stack.pop()
                stack.append(rules.called(function, args))
            case "BUILD":
                state = stack.pop()
                rules.set_state(stack[-1], state)
            case "BINPERSID":
                stack.append(rules.stored(stack.pop()))
            case name:
                raise UnsafePickleError(f"safe loading refuses the opcode {name}: plain weights have no need of it")
    raise EOFError
