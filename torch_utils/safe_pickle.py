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

__all__ = ["Recorded", "UnsafePickleError", "load"]

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
     "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)  # fmt: skip
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(file: IO[bytes]) -> Any:
    """Read one pickle from a seekable binary file; execute nothing.

    Dictionaries of every kind come back as dict, torch modules and "persistent" objects as Recorded,
    parameters and buffers as tensors on the CPU wherever they were saved, numpy scalars as Python numbers.

    Args:
        file: open for reading, standing at the first byte of the pickle.
    Returns:
        The object that the pickle describes.
    Raises:
        UnsafePickleError: (a ValueError) one line that names what is not allowed, or says that the file is
            cut short.
    """
    try:
        return _run(BoundedFile(file))
    except UnsafePickleError:
        raise
    except EOFError:
        raise UnsafePickleError("truncated pickle: it ends in the middle of an object") from None
    except Exception as error:  # a malformed program can fail in any way at all
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnsafePickleError(f"damaged pickle: {reason}") from error


def _run(stream: BoundedFile) -> Any:
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
                stack.append(arg)
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
                exactly(dict, stack[-1])[plain_key(key)] = value
            case "SETITEMS":
                items = pop_mark()
                for key, value in zip(items[::2], items[1::2], strict=True):
                    exactly(dict, stack[-1])[plain_key(key)] = value
            case "APPEND":
                item = stack.pop()
                exactly(list, stack[-1]).append(item)
            case "APPENDS":
                items = pop_mark()
                exactly(list, stack[-1]).extend(items)
            case "ADDITEMS":
                items = pop_mark()
                exactly(set, stack[-1]).update(plain_key(item) for item in items)
            case "GLOBAL":
                module, name = str(arg).split(" ", 1)
                stack.append(named(module, name))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(named(exactly(str, module), exactly(str, name)))
            case "REDUCE" | "NEWOBJ":
                args, function = stack.pop(), stack.pop()
                stack.append(GLOBALS[exactly(Named, function).name](*exactly(tuple, args)))
            case "BUILD":
                state = stack.pop()
                set_state(stack[-1], state)
            case name:
                raise UnsafePickleError(f"safe loading refuses the opcode {name}: plain weights have no need of it")
    raise EOFError
