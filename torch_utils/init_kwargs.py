"""Modules that remember what they were built from."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


class RecordsArguments:
    """A class whose objects keep the keywords that build them anew, defaults included.

    It is the outermost constructor that counts: that of the object's class, or of the class from which it has it.

    Attributes:
        init_kwargs: by name, lists in the place of tuples, as JSON gives them back. Arguments that are modules are left
            out: other arguments say what they are made of. Constructors may change it.
    """

    init_kwargs: dict[str, Any]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    parameters = list(inspect.signature(init).parameters.values())[1:]  # without self
    names = [
        parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD
    ]
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }

    @functools.wraps(init)
    def recording(self: RecordsArguments, *args: Any, **kwargs: Any) -> None:
        if "init_kwargs" not in vars(self):  # else the constructor of a subclass called this one
            given = defaults | dict(zip(names, args, strict=False)) | kwargs
            self.init_kwargs = {
                name: _plain(value)
                for name, value in given.items()
                if not isinstance(value, nn.Module)
            }
        init(self, *args, **kwargs)

    return recording


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
