"""Files of autoencoders: published ones, whose sizes follow from the shapes of their tensors, and our own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from dnnlib.files import check_readable
from dnnlib.keywords import check_keywords
from dnnlib.text import printable, reason
from torch_utils.lightning import is_lightning, read_lightning
from torch_utils.weights import assembled, read_state_dict
from training import own_format
from training.families.latent.autoencoder import DECODERS, KLDecoder, LatentDecoder
from training.families.latent.diffusers_names import is_diffusers, ldm_names
from training.families.latent.encoder import KLAutoencoder

D = TypeVar("D", bound=LatentDecoder)
_OWN = KLAutoencoder.__name__
_PARTS = ("decoder.", "post_quant_conv.", "quantize.")  # of an autoencoder, what decodes


def decoder_parts(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Of an autoencoder's tensors, those below `prefix` that belong to its decoder, under their names without it."""
    parts = tuple(prefix + part for part in _PARTS)
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(parts)
    }


def decoder_arguments(
    tensors: Mapping[str, Tensor], scale_factor: float | None = None
) -> dict[str, Any]:
    """What builds the decoder, from the shapes of its tensors: "class", and keywords of that class.

    Args:
        tensors: of the decoder, without a prefix; with a codebook it is a VQDecoder, else a KLDecoder.
        scale_factor: see `LatentDecoder`; None: that of the published ones, 0.18215 for KL and 1 for VQ.
    Raises:
        ValueError: if there is no such decoder among the tensors.
    """
    try:
        kwargs = _sizes(tensors)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"the file is no state_dict of a KL or VQ autoencoder ({reason(error)})"
        ) from error

    levels = range(len(kwargs["ch_mult"]))
    attended = [level for level in levels if f"decoder.up.{level}.attn.0.norm.weight" in tensors]
    if attended:
        kwargs["attn_levels"] = attended
    kwargs["class"] = "KLDecoder"
    if "quantize.embedding.weight" in tensors:
        kwargs |= {"class": "VQDecoder", "n_embed": len(tensors["quantize.embedding.weight"])}
    if scale_factor is not None:
        kwargs["scale_factor"] = scale_factor
    return kwargs


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of `LatentDecoder` that shapes tell."""
    levels = len({name.split(".")[2] for name in tensors if name.startswith("decoder.up.")})
    widths = [len(tensors[f"decoder.up.{level}.block.0.conv1.weight"]) for level in range(levels)]
    out_ch, ch = tensors["decoder.conv_out.weight"].shape[:2]
    z_channels, embed_dim = tensors["post_quant_conv.weight"].shape[:2]
    blocks = sum(
        name.startswith("decoder.up.0.block.") and name.endswith(".conv2.weight")
        for name in tensors
    )
    if any(width % ch for width in widths):
        raise ValueError(f"widths {widths} are no multiples of {ch}")

    return {
        "ch": ch, "ch_mult": [width // ch for width in widths], "num_res_blocks": blocks - 1, "out_ch": out_ch,
        "z_channels": z_channels, "embed_dim": embed_dim,
    }  # fmt: skip


def read_decoder(path: Path, scale_factor: float | None = None) -> LatentDecoder:
    """The decoder of an autoencoder.

    Args:
        path: what `save_autoencoder` wrote; or published files, whose sizes follow from the shapes: a torch.save
            archive of a state_dict (autoencoder_kl_ema.pth), a Lightning checkpoint with that in it (LDM's model.ckpt
            of a first stage), or safetensors, with LDM's names or those of diffusers' AutoencoderKL (Stable
            Diffusion's diffusion_pytorch_model.safetensors). The encoder's tensors and others are left alone.
        scale_factor: of published files, see `decoder_arguments`.
    Returns:
        The decoder, in eval mode and without gradients.
    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds no such decoder.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    if own_format.is_safetensors(head):
        metadata, tensors = own_format.read_tensors(path)
        if metadata.get("format") == own_format.FORMAT:
            kwargs, tensors = _own(path)
            return _built(KLDecoder, kwargs, decoder_parts(tensors))
    else:
        tensors = read_lightning(path) if is_lightning(head) else read_state_dict(path)

    tensors = ldm_names(tensors) if is_diffusers(tensors) else decoder_parts(tensors)
    kwargs = decoder_arguments(tensors, scale_factor)
    return _built(DECODERS[kwargs.pop("class")], kwargs, tensors)


def save_autoencoder(
    autoencoder: KLAutoencoder, path: str | os.PathLike[str], **provenance: Any
) -> None:
    """Store an autoencoder as safetensors, atomically.

    Raises:
        OSError: if the file cannot be written.
    """
    contents = (_OWN, autoencoder.init_kwargs, autoencoder.state_dict())
    own_format.write(path, contents, provenance)


def load_autoencoder(path: Path) -> KLAutoencoder:
    """Read what `save_autoencoder` wrote, in eval mode and without gradients.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or no such file; a published one has another format.
    """
    check_readable(path)
    with open(path, "rb") as file:
        known = own_format.is_safetensors(file.read(512))
    if not known:
        raise ValueError(
            f"{path} is no autoencoder of this project: make one with autoencoder.py train"
        )
    try:
        return _built(KLAutoencoder, *_own(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _own(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    name, kwargs, tensors = own_format.read(path)
    if name != _OWN:
        raise ValueError(f"the file holds a {printable(name, 50)}, no {_OWN}")
    return kwargs, tensors


def _built(kind: type[D], kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> D:
    def make() -> D:
        try:
            check_keywords(kwargs, [kind])
            return kind(**kwargs)
        except Exception as error:
            # The arguments come from a file: anything can be wrong with them.
            raise ValueError(
                f"the file is no state_dict of a KL or VQ autoencoder ({reason(error)})"
            ) from error

    return assembled(make, tensors).eval().requires_grad_(False)
