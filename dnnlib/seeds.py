"""Lists of seeds as text, such as 1,2,5-10."""

from collections.abc import Sequence

MOST = 100_000_000  # a slip of the keyboard, or more images than any disk holds


def parse_seeds(text: str) -> list[int]:
    """Seeds from text such as "0-63" or "1,2,5-10", in that order, each once.

    Raises:
        ValueError: if the text is no such list, is empty or immense, or a seed is negative.
    """
    seeds: dict[int, None] = {}
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise ValueError(f"seeds {text!r} are not a list such as 0-63 or 1,2,5-10")
        low, high = int(first), int(last or first)
        if low > high:
            raise ValueError(f"seeds {part!r} are none: {low} is above {high}")
        if high - low >= MOST:
            raise ValueError(f"seeds {part!r} are more than {MOST:,}; split the run")
        seeds |= dict.fromkeys(range(low, high + 1))
    return list(seeds)


def format_seeds(seeds: Sequence[int]) -> str:
    """The shortest text of the sorted seeds that `parse_seeds` reads back."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
