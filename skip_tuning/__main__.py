"""The command skip-tuning, which is also `python -m skip_tuning`: one name for all programs."""

import difflib
import os
import sys

from skip_tuning import part
from skip_tuning.commands import COMMANDS, VARIABLE, program


def main() -> None:
    """Run the program that the first argument names; or answer a shell whose user has pressed TAB."""
    if asked := os.environ.get(VARIABLE):
        part("dnnlib.start")  # first, before all else
        from skip_tuning.completion import answer  # which needs click

        sys.exit(answer(asked))
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS)) + 2
        print(
            "Usage: skip-tuning COMMAND [OPTIONS]\n\nSkip-Tuning (arXiv 2402.15170) on EDM.\n\nCommands:"
        )
        print("\n".join(f"  {command:{width}}{what}" for command, (_, what) in COMMANDS.items()))
        print(
            "\nEach has its own --help: skip-tuning generate --help; --version tells the versions at work"
        )
        return
    if name == "--version":
        print(part("dnnlib.versions").versions())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        sys.exit(_refused(f"skip-tuning has no command {ascii(name)[:60]}: {hint}"))

    called = f"skip-tuning {name}"
    sys.argv = [called, *arguments]
    program(name).main(prog_name=called)


def _refused(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
