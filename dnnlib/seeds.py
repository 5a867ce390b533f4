"""Lists of seeds as text, such as 1,2,5-10; ranges stay ranges, however long."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import overload

from dnnlib.numbers import LARGEST_SEED
from dnnlib.text import printable

MOST = 100_000_000  # a slip of the keyboard, or more images than any disk holds
DIGITS = 18  # of one seed
Interval = tuple[int, int]  # first and last


class Seeds(Sequence[int]):
    """Distinct seeds in a given order, kept as ranges: 0-99999999 takes no more room than 0-9.

    Slices are Seeds too, and equal to the slices of the list.

    Args:
        ranges: in order, none with a number of another's; the numbers from a range's least to its greatest belong to
            no other range.
    """

    def __init__(self, ranges: Iterable[range]) -> None:
        self.ranges = [part for part in ranges if part]
        # Positions where each range ends.
        self._ends = list(accumulate(len(part) for part in self.ranges))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        for part in self.ranges:
            yield from part

    def __contains__(self, seed: object) -> bool:
        if not isinstance(seed, int):
            return False
        lows, sorted_ranges = self._sorted
        place = bisect_right(lows, seed) - 1
        return place >= 0 and seed in sorted_ranges[place]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Seeds) and self.ranges == other.ranges:
            return True
        if not isinstance(other, Seeds | list | tuple | range):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"Seeds({self.ranges})"

    @overload
    def __getitem__(self, which: int) -> int: ...
    @overload
    def __getitem__(self, which: slice) -> "Seeds": ...
    def __getitem__(self, which: int | slice) -> "int | Seeds":
        """One seed, or those of a slice."""
        positions = range(len(self))[which]
        if isinstance(positions, int):
            place = bisect_right(self._ends, positions)
            return self.ranges[place][positions - self._begin(place)]
        if positions.step < 0:
            upwards = list(self._at(positions[::-1]))
            return Seeds(part[::-1] for part in reversed(upwards))
        return Seeds(self._at(positions))

    def _at(self, positions: range) -> Iterator[range]:
        """The ranges at ascending positions."""
        if not positions:
            return
        for place in range(bisect_right(self._ends, positions[0]), len(self.ranges)):
            begin = self._begin(place)
            if begin > positions[-1]:
                return
            # Positions before this range.
            skipped = max(0, -((positions.start - begin) // positions.step))
            first = positions.start + skipped * positions.step
            yield self.ranges[place][first - begin : positions.stop - begin : positions.step]

    def _begin(self, place: int) -> int:
        """The position of the first number of a range."""
        return self._ends[place - 1] if place else 0

    @cached_property
    def _sorted(self) -> tuple[list[int], list[range]]:
        """The least number of each range, and the ranges, in ascending order."""
        pairs = sorted((min(part[0], part[-1]), place) for place, part in enumerate(self.ranges))
        return [low for low, _ in pairs], [self.ranges[place] for _, place in pairs]


def parse_seeds(text: str) -> Seeds:
    """Seeds from text such as "0-63" or "1,2,5-10", in that order, each once.

    Raises:
        ValueError: if the text is no such list, is empty or immense, or a seed is negative or beyond 2^32 - 1.
    """
    found, taken = list[range](), _Taken()
    for part in text.replace(" ", "").split(","):
        low, high = _first_and_last(part, text)
        if high - low >= MOST:
            raise ValueError(f"seeds {part!r} are more than {MOST:,}; split the run")
        for first, last in taken.add(low, high):
            if found and found[-1].stop == first:
                first = found.pop().start
            found.append(range(first, last + 1))
    seeds = Seeds(found)
    if len(seeds) > MOST:
        raise ValueError(f"{len(seeds):,} seeds are more than {MOST:,}; split the run")
    return seeds


def _first_and_last(part: str, text: str) -> Interval:
    first, dash, last = part.partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else True)):
        raise ValueError(f"seeds {text!r} are not a list such as 0-63 or 1,2,5-10")
    for seed in (first, last):
        if len(seed) > DIGITS or int(seed or "0") > LARGEST_SEED:
            raise ValueError(
                f"seeds {printable(part, 60)!r} go beyond {LARGEST_SEED:,}, after which images repeat"
            )
    low, high = int(first), int(last or first)
    if low > high:
        raise ValueError(f"seeds {part!r} are none: {low} is above {high}")
    return low, high


def format_seeds(seeds: Sequence[int]) -> str:
    """The shortest text of the sorted seeds that `parse_seeds` reads back."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in _intervals(seeds))


def united(*some: Sequence[int]) -> Seeds:
    """The seeds that are in any of some lists, in ascending order."""
    taken = _Taken()
    for seeds in some:
        for low, high in _intervals(seeds):
            taken.add(low, high)
    return Seeds(range(low, high + 1) for low, high in taken.intervals())


def without(seeds: Sequence[int], others: Sequence[int]) -> Seeds:
    """The seeds that are not among others, in ascending order."""
    taken = _Taken()
    for low, high in _intervals(others):
        taken.add(low, high)
    return Seeds(
        range(first, last + 1)
        for low, high in _intervals(seeds)
        for first, last in taken.gaps(low, high)
    )


def shared(seeds: Sequence[int], others: Sequence[int]) -> Seeds:
    """The seeds that are in both lists, in ascending order."""
    return without(seeds, without(seeds, others))


def _intervals(seeds: Sequence[int]) -> list[Interval]:
    """First and last of each run of consecutive seeds, in ascending order."""
    if isinstance(seeds, range):
        seeds = Seeds([seeds])
    if isinstance(seeds, Seeds) and all(part.step == 1 for part in seeds.ranges):
        runs = sorted((part[0], part[-1]) for part in seeds.ranges)
    else:
        runs = [(seed, seed) for seed in sorted(set(seeds))]
    found: list[Interval] = []
    for low, high in runs:
        if found and low == found[-1][1] + 1:
            low = found.pop()[0]
        found.append((low, high))
    return found


class _Taken:
    """Numbers that were taken, as disjoint intervals in ascending order."""

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.highs: list[int] = []

    def intervals(self) -> Iterator[Interval]:
        """The intervals."""
        return zip(self.lows, self.highs, strict=True)

    def gaps(self, low: int, high: int) -> list[Interval]:
        """What is not taken of low to high."""
        found = []
        for place in range(bisect_left(self.highs, low), len(self.lows)):
            if self.lows[place] > high:
                break
            if low < self.lows[place]:
                found.append((low, self.lows[place] - 1))
            low = self.highs[place] + 1
        if low <= high:
            found.append((low, high))
        return found

    def add(self, low: int, high: int) -> list[Interval]:
        """Take low to high; returns what of it was not taken before."""
        new = self.gaps(low, high)
        begin, end = bisect_left(self.highs, low), bisect_right(self.lows, high)
        if begin < end:
            low, high = min(low, self.lows[begin]), max(high, self.highs[end - 1])
        self.lows[begin:end], self.highs[begin:end] = [low], [high]
        return new
