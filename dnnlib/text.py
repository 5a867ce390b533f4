"""Text that is not ours, made fit for a terminal: names in files, servers' answers, libraries' messages."""

MOST = 200  # characters of one name or answer


def printable(text: object, most: int = MOST) -> str:
    r"""`text` in one line of at most `most` characters, each of which a terminal shows as itself.

    White space of any kind becomes one blank; control and bidirectional characters, terminal escapes and lone
    surrogates are written as escapes, such as \x1b; what is too long keeps its beginning and its end.

    Args:
        text: a str, or what str() makes one of.
        most: at least 10.
    """
    words = _cut(" ".join(str(text).split()), most)
    shown = [character if character.isprintable() else _escaped(character) for character in words]
    return _cut("".join(shown), most)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, most: int) -> str:
    """`text` without its middle, if it is too long; the end often tells the way out."""
    if len(text) <= most:
        return text
    mark = " ... "
    end = (most - len(mark)) // 3
    return text[: most - len(mark) - end] + mark + text[len(text) - end :]
