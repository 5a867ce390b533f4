"""`skip-tuning completion SHELL`: by it a shell's TAB knows the programs, their flags and the names of things.

click answers the shell (`answer`), from the programs' own commands, of which the one that is typed is loaded.
"""

import contextlib
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

from skip_tuning import part
from skip_tuning.commands import COMMANDS, NAME, VARIABLE, program

FLAGS = ("--help", "--version")  # of skip-tuning itself
SHELLS = ("bash", "zsh", "fish")


class Everything(click.Group):
    """All programs as commands of one, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The programs' names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """One program; None if there is none of that name."""
        if name not in COMMANDS:
            return None
        found: click.Command = program(name)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The programs that begin so; none of them is loaded."""
        if incomplete.startswith("-"):
            return [CompletionItem(one) for one in FLAGS if one.startswith(incomplete)]
        return [
            CompletionItem(name, help=what)
            for name, (_, what) in COMMANDS.items()
            if name.startswith(incomplete)
        ]


class _Whole(ShellComplete):
    """A shell puts its choice in place of the whole word: of --flag=value the flag is kept."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """What begins as the word that is typed."""
        found = super().get_completions(args, incomplete)
        flag, sign, _ = incomplete.partition("=")
        if not sign or not flag.startswith("--"):
            return found
        names = (item for item in found if item.type == "plain")
        return [CompletionItem(f"{flag}={item.value}", help=item.help) for item in names]


@add_completion_class
class Zsh(_Whole, ZshComplete):
    """click's answers to zsh."""


@add_completion_class
class Fish(_Whole, FishComplete):
    """click's answers to fish, whose script would cut names and descriptions at their first comma."""

    def source(self) -> str:
        """The script."""
        return super().source().replace('string split ","', 'string split -m 1 ","')


@add_completion_class
class Bash(_Whole, BashComplete):
    """click's answers to bash, which gives --flag=value as three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that one."""
        args, incomplete = super().get_completion_args()
        before = ["", *args]
        kept = [word for last, word in pairwise(before) if word != "=" or not last.startswith("--")]
        return kept, incomplete


def answer(asked: str) -> int:
    """Write what the shell is to offer; an exit status. Whatever goes wrong, a line that is being typed stays clean.

    Args:
        asked: by the variable, such as "bash_complete".
    """
    with contextlib.suppress(Exception):
        return shell_complete(Everything(NAME), {}, NAME, VARIABLE, asked)
    return 1


@click.command(cls=part("dnnlib.cli").Command)
@click.argument("shell", type=click.Choice(SHELLS))
def main(shell: str) -> None:
    """Print what makes TAB complete commands, flags and names in SHELL: bash, zsh or fish.

    \b
    Examples:
      eval "$(skip-tuning completion bash)"
      eval "$(skip-tuning completion zsh)"
      skip-tuning completion fish | source

    In a checkout `python -m skip_tuning completion bash` completes its own `python generate.py` too. TAB then runs this
    checkout's code, and no file that happens to be called so elsewhere.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, NAME, VARIABLE).source())
    if shell == "bash" and not part("dnnlib.places").INSTALLED:
        click.echo(_of_checkout())


# `python FILE.py ...` becomes `skip-tuning NAME ...`, if FILE.py is ours: -ef compares files, not names.
_CHECKOUT = """\
_skip_tuning_python() {
    local root=%(root)s at=1 word ours=() response type value
    [[ ${COMP_WORDS[1]} == -m ]] && at=2
    (( COMP_CWORD > at )) || return 0
    word=${COMP_WORDS[at]}
    if (( at == 2 )); then
        [[ . -ef $root ]] || return 0
        case $word in
%(modules)s
        esac
    elif [[ $word -ef $root/${word##*/} ]]; then
        case ${word##*/} in
%(files)s
        esac
    fi
    (( ${#ours[@]} )) || return 0

    local words="${ours[*]} ${COMP_WORDS[*]:at+1}"
    local number=$(( COMP_CWORD - at - 1 + ${#ours[@]} ))
    response=$(cd "$root" && env COMP_WORDS="$words" COMP_CWORD=$number \\
        %(variable)s=bash_complete %(python)s -m skip_tuning 2>/dev/null)
    compopt +o default
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}

complete -o default -o nosort -F _skip_tuning_python python python3"""


def _of_checkout() -> str:
    """For bash: the completion of `python` where it runs a program of this checkout."""
    files, modules = [], [f"{'':12}skip_tuning) ours=({NAME}) ;;"]
    for name, (module, _) in COMMANDS.items():
        ours = f"ours=({NAME} {name}) ;;"
        if "." in module:
            modules.append(f"{'':12}{module.removesuffix('.__main__')}) {ours}")
        else:
            files.append(f"{'':12}{module}.py) {ours}")
    return _CHECKOUT % {
        "root": shlex.quote(str(Path(__file__).resolve().parent.parent)),
        "modules": "\n".join(modules),
        "files": "\n".join(files),
        "variable": VARIABLE,
        "python": shlex.quote(sys.executable),
    }
