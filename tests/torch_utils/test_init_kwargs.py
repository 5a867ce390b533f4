"""What a module was built from is recorded: by the outermost constructor, once, with its defaults."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any, get_type_hints

import pytest
from torch import nn

from torch_utils.init_kwargs import RecordsArguments


class Inner(RecordsArguments, nn.Module):
    def __init__(self, model: nn.Module, size: int, factor: float = 2.0) -> None:
        super().__init__()
        self.model, self.size, self.factor = model, size, factor


class Outer(Inner):
    def __init__(self, size: int, taps: Sequence[int] = (1, 1), **more: Any) -> None:
        super().__init__(nn.Linear(size, size), size, 3.0)
        self.seen = dict(self.init_kwargs)


class Silent(Outer):
    """Without a constructor of its own."""


def test_the_outermost_constructor_is_recorded_with_its_defaults() -> None:
    assert Outer(4, depth=2).init_kwargs == {"size": 4, "taps": [1, 1], "depth": 2}
    assert Silent(size=4, taps=(1, 2)).init_kwargs == {"size": 4, "taps": [1, 2]}


def test_a_module_is_no_keyword() -> None:
    made = Inner(nn.Identity(), 3)
    assert made.init_kwargs == {"size": 3, "factor": 2.0}


def test_it_is_there_while_the_constructor_runs() -> None:
    assert Outer(4).seen == {"size": 4, "taps": [1, 1]}


def test_copies_have_their_own() -> None:
    made = Outer(4)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        twin.init_kwargs["size"] = 5
        assert made.init_kwargs["size"] == 4


def test_constructors_are_what_they_were() -> None:
    assert get_type_hints(Outer.__init__) == {
        "size": int,
        "taps": Sequence[int],
        "more": Any,
        "return": type(None),
    }
    with pytest.raises(
        TypeError, match=r"Outer.__init__\(\) missing 1 required positional argument: 'size'"
    ):
        Outer()  # type: ignore[call-arg]
