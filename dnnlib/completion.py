"""What a shell's TAB offers for the value of a flag or an argument: names that stand in a table, and files.

    network: str = flag("Name, path or URL", metavar="NAME|PATH|URL", shell_complete=names(networks))

A flag whose value is a text offers `files` by itself (dnnlib/flags.py).
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

Completions = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
# Words of a metavar that stand for a file, such as NAME|PATH|URL.
FILES = {"DIR", "FILE", "HTML", "NPY", "NPZ", "PATH", "PKL", "PNG", "PT", "ZIP"}


def names(found: Callable[[], Iterable[str]], listed: bool = False) -> Completions:
    """For `shell_complete` of click: names, and files where the metavar has one of FILES, or there is none.

    Args:
        found: gives the names; asked when TAB is pressed. Where it cannot read them, nothing is offered.
        listed: the value is several names divided by commas.
    """

    def offered(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        before, comma, last = typed.rpartition(",") if listed else ("", "", typed)
        every: list[str] = []
        with contextlib.suppress(OSError, ValueError):
            every = [name for name in found() if name.startswith(last)]
        rest = [name for name in every if name not in before.split(",")]
        # Files first: bash forgets what came before them, and offers them where no name begins so.
        return _files(param, typed) + [CompletionItem(before + comma + name) for name in rest]

    return offered


def _files(param: click.Parameter, typed: str) -> list[CompletionItem]:
    """What lets the shell offer its files, or folders alone."""
    metavar: Any = param.metavar
    words = set((metavar or "FILE").split("|"))
    if words == {"DIR"}:
        return [CompletionItem(typed, type="dir")]
    return [CompletionItem(typed, type="file")] if words & FILES else []


files = names(tuple)  # and no names
