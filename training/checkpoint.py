"""`python -m training.checkpoint`: stored networks as a program; and the names that Python users import from here.

They are those of training/storage.py, imported when they are asked for, as torch takes seconds.
"""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import Group
from dnnlib.completion import names
from dnnlib.flags import add_flags
from dnnlib.start import importing
from training.checkpoint_flags import ConvertFlags, ListFlags, ReconstructFlags
from training.names import networks

if TYPE_CHECKING:
    from training.storage import describe, load_network, save_network

__all__ = ["describe", "load_network", "main", "save_network"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(f"{__package__}.storage:{name}")


@click.group(cls=Group)
def main() -> None:
    """Look at and convert stored networks.

    \b
    Examples:
      python -m training.checkpoint list
      python -m training.checkpoint convert edm-cifar10-32x32-uncond-vp cifar10.safetensors
      python -m training.checkpoint convert network-snapshot.pkl network.safetensors
    """


@main.command("list")
@add_flags(ListFlags)
def list_networks(flags: ListFlags) -> None:
    """Show the networks that load by name: which are on this machine, and with which defaults they are sampled.

    The size of a file that is not here is computed from its parameters. Without defaults: heun, 18 steps.
    """
    with importing():
        from training import checkpoint_work as work
    work.list_networks(flags)


@main.command()
@click.argument("source", shell_complete=names(networks))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@add_flags(ConvertFlags)
def convert(flags: ConvertFlags, source: str, target: Path) -> None:
    """Rewrite the network SOURCE (a name, path or URL) as the safetensors file TARGET, which may be on the Hub.

    \b
    Examples:
      python -m training.checkpoint convert network-snapshot.pkl network.safetensors
      python -m training.checkpoint convert network-snapshot.pkl hf://OWNER/NAME/network.safetensors
    """
    with importing():
        from training import checkpoint_work as work
    work.convert(flags, source, target)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@add_flags(ReconstructFlags)
def reconstruct(flags: ReconstructFlags, folder: Path, target: Path) -> None:
    """Make an average of another length, after training, from those that it stored.

    FOLDER is a run's of train.py --power-ema, or one of EDM2's raw snapshots. TARGET is a safetensors file.

    \b
    Example:
      python -m training.checkpoint reconstruct runs/small network.safetensors --std 0.07
    """
    with importing():
        from training import checkpoint_work as work
    work.reconstruct(flags, folder, target)


if __name__ == "__main__":
    main()
