"""One front door for stored networks: `load_network(name | path | URL)`, whatever the format.

Our own format is safetensors, with what is needed to build the network in the metadata:

    format      "skip-tuning-edm/1"
    class       a name in FAMILIES, such as "EDMPrecond"
    kwargs      its constructor keywords, as JSON; infinity and NaN are written {"float": "inf"}
    provenance  JSON: where the weights come from, in free words and numbers
"""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
import math
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import safetensors
import torch
from torch import Tensor

from dnnlib.cli import Group, warn
from dnnlib.files import check_writable
from dnnlib.keywords import check_keywords
from dnnlib.text import printable
from dnnlib.util import copy_note, file_sha256
from torch_utils.lightning import is_lightning
from torch_utils.safetensors_files import check_safetensors, write_safetensors
from torch_utils.torch_files import check_tensors
from torch_utils.weights import assembled
from training.edm_pickle import read_snapshot
from training.families import openai as networks_openai
from training.families.latent.autoencoder import read_decoder
from training.families.latent.precond import LatentPrecond
from training.families.ldm import checkpoint as ldm_checkpoint
from training.families.ldm.checkpoint import read_ldm
from training.families.openai import is_openai, read_openai
from training.families.table import FAMILIES
from training.families.uvit import checkpoint as uvit_checkpoint
from training.families.uvit.checkpoint import is_uvit, read_uvit
from training.precond import Precond
from training.presets import NETWORKS_TOML, Preset, load_presets, resolve

FORMAT = "skip-tuning-edm/1"
LINE = 130  # characters in a line of the list
MAX_RESOLUTION = 8192  # of a network in a file: no shape tells it, and noise of that size is made
_HEAD_BYTES = 1 << 20  # the names of all tensors in a torch.save archive, whatever their order
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"


# ---- reading


def load_network(
    source: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    autoencoder: str | os.PathLike[str] | None = None,
) -> Precond:
    """Load a denoiser, in eval mode and without gradients.

    The format is told from the content of the file, not from its name. Nothing in the file is executed.

    Args:
        source: a name in configs/networks.toml, a path, or a URL (which is fetched into the cache).
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
    try:
        kind = _format(path)
        class_name, kwargs, tensors = kind.read(path)
        heads = preset.heads if preset else {}
        kwargs = _with_heads(kind, kwargs, heads)
        net = _build(class_name, kwargs, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}{copy_note(path)}") from error
    told = {kind.heads[name] for name in heads}
    net.assumed = ", ".join(words for name, words in kind.assumed(kwargs).items() if name not in told)
    if net.assumed:
        way_out = f"; other heads: num_heads or head_channels of an entry in {NETWORKS_TOML}" if not told else ""
        warn(f"{source}: its file does not tell all; taken from the published networks: {net.assumed}{way_out}")
    if preset is not None and preset.dtype is not None:
        net.cuda_dtype = getattr(torch, preset.dtype)
    second = _autoencoder_file(preset, autoencoder)
    if second is not None:
        if not isinstance(net, LatentPrecond):
            raise ValueError(f"{path}: this network makes images, not latents: drop the autoencoder {second}")
        try:
            net.attach(read_decoder(second))
        except ValueError as error:
            raise ValueError(f"{second}: {error}{copy_note(second)}") from error
    return net.to(device).eval().requires_grad_(False)


def describe(source: str | os.PathLike[str], autoencoder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
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


def _autoencoder_file(preset: Preset | None, autoencoder: str | os.PathLike[str] | None) -> Path | None:
    if autoencoder is not None:
        return resolve(autoencoder)[0]
    return preset.autoencoder_file() if preset else None


Contents = tuple[str, dict[str, Any], dict[str, Tensor]]  # class name, constructor keywords, state_dict


def _read_safetensors(path: Path) -> Contents:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except safetensors.SafetensorError as error:
        raise ValueError(f"the safetensors file is truncated or damaged ({printable(error)})") from error
    check_tensors(tensors, path.stat().st_size, "the safetensors file")
    check_safetensors(path)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise ValueError(f"a safetensors file of another program: its format is {found[:50]!r}, not {FORMAT!r}")
    try:
        kwargs = json.loads(metadata["kwargs"], object_hook=_decode_float)
        if not isinstance(kwargs, dict):
            raise ValueError(f"the arguments are a {type(kwargs).__name__}")
        return metadata["class"], kwargs, tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata of the safetensors file is damaged ({printable(repr(error))})") from error


@dataclass(frozen=True)
class _Format:
    name: str
    recognise: Callable[[bytes], bool]  # from the first bytes of the file
    read: Callable[[Path], Contents]
    assumed: Callable[[dict[str, Any]], dict[str, str]] = lambda kwargs: {}  # arguments that it does not tell, in words
    heads: Mapping[str, str] = field(default_factory=dict)  # of these, by `Preset.heads`' names


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def _is_pickle(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 0x80 and head[1] in range(2, 6) and not head.startswith(_OLD_TORCH)


# A further kind of checkpoint is one more line here.
_FORMATS = (
    _Format("safetensors", _is_safetensors, _read_safetensors),
    _Format("a snapshot pickle of EDM or EDM2", _is_pickle, read_snapshot),
    _Format("LDM's .ckpt", is_lightning, read_ldm, ldm_checkpoint.assumed,
            {"num_heads": "num_heads", "head_channels": "num_head_channels"}),
    # Some of U-ViT's have a time_embed as well.
    _Format("U-ViT's .pth", is_uvit, read_uvit, uvit_checkpoint.assumed, {"num_heads": "num_heads"}),
    _Format("OpenAI's .pt", is_openai, read_openai, networks_openai.assumed,
            {"head_channels": "channels_per_head"}),
)  # fmt: skip

_OTHER_FILES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive (as .npz, data sets and torch.save files are)",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a numpy array",
    b"version https://git-lfs": "a Git LFS pointer: the real file was not fetched",
    b"<!doctype html": "an HTML page: perhaps a download that needs a login",
    b"<html": "an HTML page: perhaps a download that needs a login",
    b"<?xml": "an XML file: perhaps the error message of a server",
    _OLD_TORCH: "a torch.save file of the old kind",
}


def _format(path: Path) -> _Format:
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    for kind in _FORMATS:
        if kind.recognise(head):
            return kind
    if not head:
        raise ValueError("the file is empty")
    text = head.lstrip().lower()
    looks = [words for magic, words in _OTHER_FILES.items() if head.startswith(magic) or text.startswith(magic)]
    guess = f"it looks like {looks[0]}" if looks else f"it begins with {head[:8]!r}"
    raise ValueError(f"no network in a known format ({', '.join(kind.name for kind in _FORMATS)}); {guess}")


def _with_heads(kind: _Format, kwargs: dict[str, Any], heads: Mapping[str, int]) -> dict[str, Any]:
    """The arguments, with the heads that an entry of configs/networks.toml gives in place of the assumed ones."""
    for name in heads:
        if name not in kind.heads:
            known = f"give {', '.join(kind.heads)}" if kind.heads else "its files tell it themselves"
            raise ValueError(f"{NETWORKS_TOML} gives {name}, which {kind.name} does not take: {known}")
    if not heads:
        return kwargs
    others = {name: value for name, value in kwargs.items() if name not in kind.heads.values()}
    return others | {kind.heads[name]: value for name, value in heads.items()}


def _build(class_name: str, kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> Precond:
    if class_name not in FAMILIES:  # a text, whatever the format
        raise ValueError(f"unknown network class {class_name[:50]!r}; known are {', '.join(FAMILIES)}")
    family = FAMILIES[class_name]

    def make() -> Precond:
        try:
            check_keywords(kwargs, family.constructors())
            net = family(**kwargs)
            if not 1 <= net.img_resolution <= MAX_RESOLUTION:
                raise ValueError(f"img_resolution is {net.img_resolution}; it must be from 1 to {MAX_RESOLUTION}")
        except Exception as error:  # the arguments come from a file: anything can be wrong with them
            reason = printable(error)
            raise ValueError(f"{class_name} cannot be built from the arguments in the file: {reason}") from error
        return net

    return assembled(make, tensors)


# ---- writing


def save_network(net: Precond, path: str | os.PathLike[str], **provenance: Any) -> None:
    """Store a network as safetensors, atomically.

    Args:
        net: one of FAMILIES.
        path: the file to create or replace.
        provenance: what is worth knowing of the weights and JSON can hold, as licence="CC BY-NC-SA 4.0".
    Raises:
        ValueError: if the class of `net` is not in FAMILIES.
        OSError: if the file cannot be written.
    """
    name = type(net).__name__
    if name not in FAMILIES:
        raise ValueError(f"cannot store a {name}; known are {', '.join(FAMILIES)}")
    metadata = {
        "format": FORMAT,
        "class": name,
        "kwargs": json.dumps(_encode_floats(net.init_kwargs), allow_nan=False),
        "provenance": json.dumps(_encode_floats(provenance), allow_nan=False),
    }
    write_safetensors(path, net.state_dict(), metadata)


def _encode_floats(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {key: _encode_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode_floats(item) for item in value]
    return value


def _decode_float(value: dict[str, Any]) -> Any:
    return float(value["float"]) if value.keys() == {"float"} else value


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


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="All that is known of each, as JSON.")
def list_networks(as_json: bool) -> None:
    """Show the networks that load by name: which are on this machine, and with which defaults they are sampled.

    The size of a file that is not here is computed from its parameters. Without defaults: heun, 18 steps.
    """
    presets = [_facts(preset) for preset in load_presets().values()]
    click.echo(json.dumps(presets, indent=2) if as_json else "\n".join(_table(presets)))


def _facts(preset: Preset) -> dict[str, Any]:
    """What is known of a network, as JSON; the size in MB, measured if it is here with all that it needs."""
    here, missing = not preset.missing, [str(path) for path in preset.missing]
    size = round(preset.local_path.stat().st_size / 1e6, 1) if here else preset.size
    return asdict(preset) | {"file": str(preset.local_path), "here": here, "missing": missing, "size": size}


def _table(presets: list[dict[str, Any]]) -> list[str]:
    """The lines of a table, with the notes in its last column broken to fit."""
    heads = ("name", "MB", "here", "licence", "defaults", "note")
    rows = [heads]
    for p in presets:
        size = "?" if p["size"] is None else f"{p['size']:.1f}" if p["here"] else f"~{p['size']}"
        defaults = [str(value) if name == "sampler" else f"{name} {value}" for name, value in p["defaults"].items()]
        here = "yes" if p["here"] else "no"
        rows.append((p["name"], f"{size:>6s}", here, p["licence"], ", ".join(defaults) or "-", p["note"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads) - 1)]
    left = sum(width + 2 for width in widths)
    lines = []
    for *cells, note in rows:
        line = "".join(f"{cell:{width + 2}s}" for cell, width in zip(cells, widths, strict=True))
        first, *more = textwrap.wrap(note, LINE - left, break_on_hyphens=False) or [""]
        lines += [(line + first).rstrip(), *(" " * left + rest for rest in more)]
    return lines


@main.command()
@click.argument("source")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--autoencoder", metavar="PATH|URL", help="Of a latent network: its decoder is stored with it.")
@click.option("--half", is_flag=True, help="Store the weights as float16: half the size, rounded to 11 bits.")
def convert(source: str, target: Path, autoencoder: str | None, half: bool) -> None:
    """Rewrite the network SOURCE (a name, path or URL) as the safetensors file TARGET.

    \b
    Example:
      python -m training.checkpoint convert network-snapshot.pkl network.safetensors
    """
    if target.exists():
        raise ValueError(f"{target} exists; delete it first, or choose another name")
    if target.suffix.lower() not in ("", ".safetensors"):
        raise ValueError(f"{target}: the result is a safetensors file; name it so, as {target.stem}.safetensors")
    check_writable(target, "TARGET")
    net = load_network(source, autoencoder=autoencoder)
    for param in net.parameters() if half else ():
        param.data = param.data.half()
    facts = describe(source, autoencoder)
    licence = facts["licence"] or "that of the source"
    more = {name: value for name, value in facts.items() if name == "autoencoder_sha256"}
    if net.assumed:
        more["assumed"] = net.assumed  # in the file of the result it is one argument among others
    save_network(net, target, source=source, source_sha256=facts["sha256"], licence=licence, **more)
    count = sum(p.numel() for p in net.parameters())
    click.echo(f"{target}: {type(net).__name__}, {count:,} parameters; licence: {licence}")


if __name__ == "__main__":
    main()
