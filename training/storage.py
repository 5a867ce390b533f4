"""One front door for stored networks: `load_network(name | path | URL)`, whatever the format (training/formats.py)."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib import hub
from dnnlib.cli import warn
from dnnlib.keywords import check_keywords
from dnnlib.text import printable
from dnnlib.util import copy_note, file_sha256
from torch_utils.weights import assembled
from training import own_format
from training.families.latent.decoder_files import read_decoder
from training.families.latent.precond import LatentPrecond
from training.families.table import FAMILIES
from training.formats import format_of
from training.precond import Precond
from training.presets import NETWORKS_TOML, Preset, resolve

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
        net = built(class_name, kwargs, tensors)
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


def built(class_name: str, kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> Precond:
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
