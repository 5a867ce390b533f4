"""The formats that networks are stored in: how a file is told from others, and who reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnnlib.download import OLD_TORCH
from torch_utils.lightning import is_lightning
from training import own_format
from training.edm_pickle import is_pickle, read_snapshot
from training.families import openai
from training.families.ldm import checkpoint as ldm
from training.families.uvit import checkpoint as uvit
from training.own_format import Contents
from training.presets import NETWORKS_TOML

_HEAD_BYTES = 1 << 20  # the names of all tensors in a torch.save archive, whatever their order


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: for people.
        recognise: whether a file is one, from its first bytes.
        read: class name, constructor keywords and state_dict of the network in it.
        assumed: the keywords that it does not tell and `read` took from the published networks, in words.
        heads: of these, what `Preset.heads` calls the keywords of attention.
    """

    name: str
    recognise: Callable[[bytes], bool]
    read: Callable[[Path], Contents]
    assumed: Callable[[dict[str, Any]], dict[str, str]] = lambda kwargs: {}
    heads: Mapping[str, str] = field(default_factory=dict)

    def with_heads(self, kwargs: dict[str, Any], heads: Mapping[str, int]) -> dict[str, Any]:
        """The keywords, with the heads that an entry of configs/networks.toml gives in place of the assumed ones.

        Raises:
            ValueError: if the format does not take them.
        """
        for name in heads:
            if name not in self.heads:
                known = (
                    f"give {', '.join(self.heads)}"
                    if self.heads
                    else "its files tell it themselves"
                )
                raise ValueError(
                    f"{NETWORKS_TOML} gives {name}, which {self.name} does not take: {known}"
                )
        if not heads:
            return kwargs
        others = {name: value for name, value in kwargs.items() if name not in self.heads.values()}
        return others | {self.heads[name]: value for name, value in heads.items()}

    def assumed_but(self, kwargs: dict[str, Any], heads: Mapping[str, int]) -> str:
        """What was assumed, in words, but for the heads that were given."""
        told = {self.heads[name] for name in heads}
        return ", ".join(words for name, words in self.assumed(kwargs).items() if name not in told)


# A further kind of checkpoint is one more line here.
FORMATS = (
    Format("safetensors", own_format.is_safetensors, own_format.read),
    Format("a snapshot pickle of EDM or EDM2", is_pickle, read_snapshot),
    Format("LDM's .ckpt", is_lightning, ldm.read_ldm, ldm.assumed,
           {"num_heads": "num_heads", "head_channels": "num_head_channels"}),
    # Some of U-ViT's have a time_embed as well.
    Format("U-ViT's .pth", uvit.is_uvit, uvit.read_uvit, uvit.assumed, {"num_heads": "num_heads"}),
    Format("OpenAI's .pt", openai.is_openai, openai.read_openai, openai.assumed,
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
    OLD_TORCH: "a torch.save file of the old kind",
}


def format_of(path: Path) -> Format:
    """The format of a file, told from its content.

    Raises:
        ValueError: if it is none of FORMATS; says what it looks like.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    for kind in FORMATS:
        if kind.recognise(head):
            return kind
    if not head:
        raise ValueError("the file is empty")

    guess, text = f"it begins with {head[:8]!r}", head.lstrip().lower()
    for magic, words in _OTHER_FILES.items():
        if head.startswith(magic) or text.startswith(magic):
            guess = f"it looks like {words}"
            break
    raise ValueError(
        f"no network in a known format ({', '.join(kind.name for kind in FORMATS)}); {guess}"
    )
