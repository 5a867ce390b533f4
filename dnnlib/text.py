"""Text that is not ours, made fit for a terminal: names in files, servers' answers, libraries' messages."""

import re
import textwrap
from collections.abc import Sequence

MOST = 200  # characters of one name or answer
_UNSAFE = re.compile(
    r"allow_pickle|pickle\.load|weights_only|add_safe_globals|can still be loaded|unsafely|trusted source"
)


def printable(text: object, most: int = MOST) -> str:
    r"""`text` in one line of at most `most` characters, each of which a terminal shows as itself.

    White space of any kind becomes one blank; control and bidirectional characters, terminal escapes and lone
    surrogates are written as escapes, such as \x1b; what is too long keeps its beginning and its end. A library's
    advice to load a file unsafely is left out.

    Args:
        text: a str, or what str() makes one of.
        most: at least 10.
    """
    words = _cut(" ".join(_safe(str(text)).split()), most)
    shown = [character if character.isprintable() else _escaped(character) for character in words]
    return _cut("".join(shown), most)


def reason(error: Exception) -> str:
    """Why what a file holds could not be read: for a key that is not there, Python's own words are the key alone."""
    if isinstance(error, KeyError):
        return f"{printable(error)} is missing"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return f"a value in it is of another kind: {printable(error)}"
    return printable(error) or type(error).__name__


def in_columns(rows: Sequence[Sequence[str]], width: int = 130) -> list[str]:
    """The lines of a table whose last column is broken to fit.

    Args:
        rows: of one length each, the headings first.
        width: of a line, in characters.
    """
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    left = sum(width + 2 for width in widths)

    lines = []
    for *cells, last in rows:
        line = "".join(f"{cell:{width + 2}s}" for cell, width in zip(cells, widths, strict=True))
        first, *more = textwrap.wrap(last, max(20, width - left), break_on_hyphens=False) or [""]
        lines += [(line + first).rstrip(), *(" " * left + rest for rest in more)]
    return lines


def _safe(text: str) -> str:
    """`text` without the sentences that say how to execute what a file carries, as numpy's and torch's do."""
    if _UNSAFE.search(text) is None:
        return text
    kept = [
        sentence
        for sentence in re.split(r"(?<=[.!?])\s+", text)
        if _UNSAFE.search(sentence) is None
    ]
    return " ".join(kept) or "it holds objects, which are not loaded"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, most: int) -> str:
    """`text` without its middle, if it is too long; the end often tells the way out."""
    if len(text) <= most:
        return text
    mark = " ... "
    end = (most - len(mark)) // 3
    return text[: most - len(mark) - end] + mark + text[len(text) - end :]
