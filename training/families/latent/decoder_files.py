"""Published autoencoders: what builds a decoder follows from the shapes of its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_utils.lightning import is_lightning, read_lightning
from torch_utils.weights import assembled, read_state_dict
from training.families.latent.autoencoder import DECODERS, LatentDecoder

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
            f"the file is no state_dict of a KL or VQ autoencoder ({error!r})"
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
    """The decoder of a published autoencoder, whose sizes follow from the shapes.

    Args:
        path: a torch.save archive of its state_dict (autoencoder_kl_ema.pth), or a Lightning checkpoint with that in it
            (LDM's model.ckpt of a first stage); the encoder's tensors and others are left alone.
        scale_factor: see `decoder_arguments`.
    Returns:
        The decoder, in eval mode and without gradients.
    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds no such decoder.
    """
    with open(path, "rb") as file:
        lightning = is_lightning(file.read(512))
    tensors = decoder_parts(read_lightning(path) if lightning else read_state_dict(path))
    kwargs = decoder_arguments(tensors, scale_factor)
    kind = DECODERS[kwargs.pop("class")]

    def make() -> LatentDecoder:
        try:
            return kind(**kwargs)
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"the file is no state_dict of a KL or VQ autoencoder ({error!r})"
            ) from error

    return assembled(make, tensors).eval().requires_grad_(False)
