"""One front door for stored networks: `load_network(name | path | URL)`, whatever the format (training/formats.py)."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from dnnlib import hub
from dnnlib.cli import Group, warn
from dnnlib.files import check_writable
from dnnlib.flags import COUNT, Finite, Flags, add_flags, flag
from dnnlib.keywords import check_keywords
from dnnlib.text import in_columns, printable
from dnnlib.util import copy_note, file_sha256
from torch_utils.weights import assembled
from training import own_format
from training.families.latent.decoder_files import read_decoder
from training.families.latent.precond import LatentPrecond
from training.families.table import FAMILIES
from training.formats import format_of
from training.power_ema import LENGTH, find_stored
from training.power_ema import reconstruct as reconstruct_average
from training.precond import Precond
from training.presets import NETWORKS_TOML, Preset, load_presets, resolve

MAX_RESOLUTION = 8192  # of a network in a file: no shape tells it, and noise of that size is made


# ---- reading


def load_network(
    source: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    autoencoder: str | os.PathLike[str] | None = None,
) -> Precond:
    """Load a denoiser, in eval mode and without gradients.

    The format is told from the content of the file, not from its name. Nothing in the file is executed.

    Args:
        source: a name in configs/networks.toml, a path, a URL (which is fetched into the cache), or a file of the
            Hugging Face Hub, hf://OWNER/NAME/FILE.
        device: where the network goes.
        autoencoder: path or URL of the autoencoder that decodes a latent network; None: that of the network's file or
            entry, if there is one.
    Returns:
        The network D(x; sigma), with float32 weights. Its attribute `assumed` says what no file of that format tells,
        such as the number of attention heads, and was taken from the published networks.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, of another format, or does not fit the network that it names.
        RuntimeError: if a download fails.
    """
    path, preset = resolve(source)
    heads = preset.heads if preset else {}
    try:
        kind = format_of(path)
        class_name, kwargs, tensors = kind.read(path)
        kwargs = kind.with_heads(kwargs, heads)
        net = _build(class_name, kwargs, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}{copy_note(path)}") from error

    net.assumed = kind.assumed_but(kwargs, heads)
    if net.assumed:
        way_out = (
            ""
            if heads
            else f"; other heads: num_heads or head_channels of an entry in {NETWORKS_TOML}"
        )
        warn(
            f"{source}: its file does not tell all; taken from the published networks: {net.assumed}{way_out}"
        )
    if preset is not None and preset.dtype is not None:
        net.cuda_dtype = getattr(torch, preset.dtype)

    second = _autoencoder_file(preset, autoencoder)
    if second is not None:
        _attach(net, second, path)
    return net.to(device).eval().requires_grad_(False)


def _attach(net: Precond, second: Path, path: Path) -> None:
    """Give the network of the file `path` the decoder of the file `second`."""
    if not isinstance(net, LatentPrecond):
        raise ValueError(
            f"{path}: this network makes images, not latents: drop the autoencoder {second}"
        )
    try:
        net.attach(read_decoder(second))
    except ValueError as error:
        raise ValueError(f"{second}: {error}{copy_note(second)}") from error


def describe(
    source: str | os.PathLike[str], autoencoder: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """What a record of a run should say of a network: source, path, sha256 and licence (None if unknown).

    Where its entry in configs/networks.toml says so, also num_heads or head_channels. If the network has its
    autoencoder from another file (see `load_network`), also autoencoder and autoencoder_sha256.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: as `training.presets.resolve`.
    """
    path, preset = resolve(source)
    licence = preset.licence if preset else None
    facts: dict[str, Any] = {
        "source": str(source), "path": str(path), "sha256": file_sha256(path), "licence": licence
    }  # fmt: skip
    facts |= preset.heads if preset else {}
    second = _autoencoder_file(preset, autoencoder)
    if second is not None:
        facts |= {"autoencoder": str(second), "autoencoder_sha256": file_sha256(second)}
    return facts


def _autoencoder_file(
    preset: Preset | None, autoencoder: str | os.PathLike[str] | None
) -> Path | None:
    if autoencoder is not None:
        return resolve(autoencoder)[0]
    return preset.autoencoder_file() if preset else None


def _build(class_name: str, kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> Precond:
    if class_name not in FAMILIES:  # a text, whatever the format
        raise ValueError(
            f"unknown network class {class_name[:50]!r}; known are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[class_name]

    def make() -> Precond:
        try:
            check_keywords(kwargs, family.constructors())
            net = family(**kwargs)
            if not 1 <= net.img_resolution <= MAX_RESOLUTION:
                raise ValueError(
                    f"img_resolution is {net.img_resolution}; it must be from 1 to {MAX_RESOLUTION}"
                )
        except Exception as error:
            # The arguments come from a file: anything can be wrong with them.
            reason = printable(error)
            raise ValueError(
                f"{class_name} cannot be built from the arguments in the file: {reason}"
            ) from error
        return net

    return assembled(make, tensors)


# ---- writing


def save_network(net: Precond, path: str | os.PathLike[str], **provenance: Any) -> None:
    """Store a network as safetensors, atomically.

    Args:
        net: one of FAMILIES.
        path: the file to create or replace; hf://OWNER/NAME/FILE is on the Hugging Face Hub, see `dnnlib.hub.upload`.
        provenance: what is worth knowing of the weights and JSON can hold, as licence="CC BY-NC-SA 4.0".
    Raises:
        ValueError: if the class of `net` is not in FAMILIES.
        OSError: if the file cannot be written.
        FileNotFoundError, RuntimeError: if the Hub does not take it.
    """
    name = type(net).__name__
    if name not in FAMILIES:
        raise ValueError(f"cannot store a {name}; known are {', '.join(FAMILIES)}")
    content = name, net.init_kwargs, net.state_dict()
    if not hub.is_hub(path):
        own_format.write(path, content, provenance)
        return
    file = hub.parse(path).file  # refuses now what would be refused after the work
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / Path(file).name
        own_format.write(local, content, provenance)
        hub.upload(local, path)


# ---- command line


@click.group(cls=Group)
def main() -> None:
    """Look at and convert stored networks.

    \b
    Examples:
      python -m training.checkpoint list
      python -m training.checkpoint convert edm-cifar10-32x32-uncond-vp cifar10.safetensors
      python -m training.checkpoint convert network-snapshot.pkl network.safetensors
    """


@dataclass(frozen=True, kw_only=True)
class ListFlags(Flags):
    """How `list` answers."""

    json: bool = flag("All that is known of each, as JSON.", default=False)


@main.command("list")
@add_flags(ListFlags)
def list_networks(flags: ListFlags) -> None:
    """Show the networks that load by name: which are on this machine, and with which defaults they are sampled.

    The size of a file that is not here is computed from its parameters. Without defaults: heun, 18 steps.
    """
    presets = [_facts(preset) for preset in load_presets().values()]
    click.echo(json.dumps(presets, indent=2) if flags.json else "\n".join(_table(presets)))


def _facts(preset: Preset) -> dict[str, Any]:
    """What is known of a network, as JSON; the size in MB, measured if it is here with all that it needs."""
    here, missing = not preset.missing, [str(path) for path in preset.missing]
    size = round(preset.local_path.stat().st_size / 1e6, 1) if here else preset.size
    return asdict(preset) | {
        "file": str(preset.local_path),
        "here": here,
        "missing": missing,
        "size": size,
    }


def _table(presets: list[dict[str, Any]]) -> list[str]:
    """The lines of a table, with the notes in its last column broken to fit."""
    heads = ("name", "MB", "here", "licence", "defaults", "note")
    return in_columns([heads, *(_row(preset) for preset in presets)])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a network: name, size, whether it is here, licence, defaults, note."""
    size = "?"
    if facts["size"] is not None:
        size = f"{facts['size']:.1f}" if facts["here"] else f"~{facts['size']}"

    defaults = []
    for name, value in facts["defaults"].items():
        shown = {"sampler": str(value), "guide": "a guide"}
        defaults.append(shown.get(name, f"{name} {value}"))

    here = "yes" if facts["here"] else "no"
    return (
        facts["name"],
        f"{size:>6s}",
        here,
        facts["licence"],
        ", ".join(defaults) or "-",
        facts["note"],
    )


def _check_target(target: Path) -> None:
    """Refuse what a network cannot be stored as."""
    _written(target)
    if target.exists():
        raise ValueError(f"{target} exists; delete it first, or choose another name")
    if target.suffix.lower() not in ("", ".safetensors"):
        raise ValueError(
            f"{target}: the result is a safetensors file; name it so, as {target.stem}.safetensors"
        )
    if not hub.is_hub(target):
        check_writable(target, "TARGET")


def _written(target: Path) -> str:
    """TARGET as it was given: of hf://OWNER/NAME/FILE a Path keeps one slash."""
    return str(hub.parse(target) if hub.is_hub(target) else target)


@dataclass(frozen=True, kw_only=True)
class ConvertFlags(Flags):
    """How `convert` reads and writes."""

    # fmt: off
    autoencoder: str | None = flag("Of a latent network: its decoder is stored with it.", metavar="PATH|URL")
    half: bool              = flag("Store the weights as float16: half the size, rounded to 11 bits.", default=False)
    # fmt: on


@main.command()
@click.argument("source")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@add_flags(ConvertFlags)
def convert(flags: ConvertFlags, source: str, target: Path) -> None:
    """Rewrite the network SOURCE (a name, path or URL) as the safetensors file TARGET, which may be on the Hub.

    \b
    Examples:
      python -m training.checkpoint convert network-snapshot.pkl network.safetensors
      python -m training.checkpoint convert network-snapshot.pkl hf://OWNER/NAME/network.safetensors
    """
    _check_target(target)
    net = load_network(source, autoencoder=flags.autoencoder)
    for param in net.parameters() if flags.half else ():
        param.data = param.data.half()

    facts = describe(source, flags.autoencoder)
    licence = facts["licence"] or "that of the source"
    more = {name: value for name, value in facts.items() if name == "autoencoder_sha256"}
    if net.assumed:
        more["assumed"] = net.assumed  # in the file of the result it is one argument among others

    save_network(net, target, source=source, source_sha256=facts["sha256"], licence=licence, **more)
    count = sum(p.numel() for p in net.parameters())
    click.echo(
        f"{_written(target)}: {type(net).__name__}, {count:,} parameters; licence: {licence}"
    )


@dataclass(frozen=True, kw_only=True)
class ReconstructFlags(Flags):
    """Which average `reconstruct` makes."""

    # fmt: off
    std: float         = flag("Its length: the spread of what it averages, as a share of the training.",
                              type=Finite(), required=True, metavar="FLOAT")
    images: int | None = flag("After how many images of training  [default: at the last that is stored]", type=COUNT,
                              metavar="INT")
    # fmt: on


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
    _check_target(target)
    stored = find_stored(folder)
    net = _build(*reconstruct_average(stored, flags.std, flags.images))
    last = flags.images or stored[-1].images_seen
    save_network(net, target, images_seen=last, **{LENGTH: flags.std})
    click.echo(
        f"{_written(target)}: length {flags.std:g} after {last:,} images, from {len(stored)} files"
    )


if __name__ == "__main__":
    main()
