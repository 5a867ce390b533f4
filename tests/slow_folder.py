"""A folder of a network file system as rank 0 of two sees it: what is new there shows late."""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

import pytest

from torch_utils import distributed

Name = TypeVar("Name", bound=Hashable)
LOOKS = 2


class SlowFolder:
    """Leaves a new name out of the first LOOKS listings that it is in; to be patched into what lists.

    Args:
        known: names that show at once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, known: Iterable[Hashable] = ()) -> None:
        self.looks = Counter(dict.fromkeys(known, LOOKS))
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(distributed, "require_shared", lambda *_: None)
        monkeypatch.setattr(distributed, "as_rank_0_says", list)

    def shown(self, names: Iterable[Name]) -> list[Name]:
        """Those that show in this listing."""
        names = list(names)
        self.looks.update(names)
        return [name for name in names if self.looks[name] > LOOKS]
