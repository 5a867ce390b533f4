"""DINOv2, CLIP's image encoder and ResNet as feature networks, by the package transformers.

It is optional: `pip install '.[features]'`. FD-DINOv2 as Stein et al. define it takes DINOv2 ViT-L/14's class token;
the Skip-Tuning paper's CLIP feature is ViT-L/14's pooled output before its projection (1024-d), its ResNet feature
ResNet-101's pooled output (2048-d).
"""

import importlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnnlib.text import printable
from dnnlib.util import file_sha256
from metrics.pixels import as_rgb, check_images

FILES = ("config.json", "model.safetensors")
SIZE = 224  # pixels along an edge, unless an entry says otherwise


@dataclass(frozen=True)
class Family:
    """How one kind of network is loaded, and what pixels it was trained on.

    Attributes:
        model: class of transformers, whose pooler_output is the feature.
        mean, std: of the three channels in [0, 1].
    """

    model: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = Family(
    "CLIPVisionModel", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
FAMILIES: dict[str, Family] = {  # by model_type in config.json
    "dinov2": Family("Dinov2Model", *_IMAGENET),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "resnet": Family("ResNetModel", *_IMAGENET),
}


class TransformersDetector(nn.Module):
    """A vision network of transformers as detector; it has no logits.

    Images are resized to 224 x 224 (or `size`), bicubic and antialiased, as NVIDIA's EDM2 does for FD-DINOv2. DINOv2's
    position embedding is interpolated as Meta's own code does, which EDM2 and dgm-eval run; see `dinov2_positions`.

    Reference: Stein et al., 2023, https://arxiv.org/abs/2306.04675

    Args:
        net: whose output has pooler_output.
        kind: a key of FAMILIES.
        sha256: of the weights.
        size: pixels along an edge of what it reads.
        projected: of CLIP: take the embedding behind the projection, scaled to length 1, in place of the pooled output.
    Attributes:
        name: such as dinov2-1024d, or clip-768d-projected-336px where the size is not 224; goes into every result.
        feature_dim, num_logits: length of the pooled output; 0.
    """

    num_logits = 0
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        kind: str,
        sha256: str = "",
        size: int = SIZE,
        projected: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.kind, self.sha256 = net, kind, sha256
        self.size, self.projected = size, projected
        config: Any = net.config
        if kind == "dinov2":
            _store_positions(net, size)
        if projected:
            self.feature_dim: int = config.projection_dim
        elif kind == "resnet":
            self.feature_dim = config.hidden_sizes[-1]
        else:
            self.feature_dim = config.hidden_size
        for name, value in (("mean", FAMILIES[kind].mean), ("std", FAMILIES[kind].std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1))

    @property
    def name(self) -> str:
        """The kind of network, the length of its features, and what is unusual: projection, size and dtype."""
        dtype = next(self.net.parameters()).dtype
        size = "-projected" if self.projected else ""
        size += "" if self.size == SIZE else f"-{self.size}px"
        suffix = "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
        return f"{self.kind}-{self.feature_dim}d{size}{suffix}"

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and logits of length 0.

        Args:
            images: uint8 [N, 1 or 3, H, W]; grayscale is repeated.
        Returns:
            features [N, feature_dim] and an empty [N, 0].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name)
        return self.embed(images)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` with gradients, of grey levels of any type in [0, 255], unchecked."""
        x = as_rgb(images).float()
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)
        x = (x / 255 - self.mean) / self.std
        found = self.net(x.to(next(self.net.parameters()).dtype))
        if self.projected:
            features = F.normalize(found.image_embeds.float(), dim=1)
        else:
            features = found.pooler_output.flatten(1).float()
        return features, features.new_empty(len(features), 0)


def dinov2_positions(embedding: Tensor, side: int) -> Tensor:
    r"""A grid of position embeddings for another number of patches, as DINOv2's own code interpolates it.

    Bicubic, with patch i of the new grid read at (i + 1/2) / s - 1/2 of the old one, where s = (side + 0.1) / old side:
    the 0.1 keeps rounding from losing a patch, and moves all samples a little. Interpolation to the size `side` (that
    is with s = side / old side, as the package transformers does) gives other features.

    Reference: https://github.com/facebookresearch/dinov2, interpolate_pos_encoding

    Args:
        embedding: [1, 1 + old side^2, d]; the class token's comes first and stays.
        side: patches along an edge of the image.
    Returns:
        [1, 1 + side^2, d], of the dtype of `embedding`; computed in float32.
    Raises:
        ValueError: if the old grid is no square.
    """
    count = embedding.shape[1] - 1
    old = math.isqrt(count)
    if old * old != count:
        raise ValueError(f"{count} position embeddings are no square grid")
    if old == side:
        return embedding
    grid = embedding[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / old
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    rows = grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)
    return torch.cat([embedding[:, :1], rows.to(embedding.dtype)], dim=1)


def _store_positions(net: Any, size: int) -> None:
    """Interpolate the position embedding once: of the right size, transformers takes it as it is."""
    side = size // net.config.patch_size
    old = net.embeddings.position_embeddings
    net.embeddings.position_embeddings = nn.Parameter(dinov2_positions(old.detach(), side))


def load_transformers(
    source: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    size: int = SIZE,
    projected: bool = False,
) -> TransformersDetector:
    """Load a network from a folder, or from the Hugging Face hub and its cache, on the CPU, ready for use.

    Args:
        source: a folder with config.json and model.safetensors, or the name of a model on the hub.
        dtype: of the network.
        size: pixels along an edge of what it reads.
        projected: of CLIP, its embedding of length 1 behind the projection.
    Raises:
        FileNotFoundError: if the folder lacks a file.
        ValueError: if the network is of another kind, or the weights do not fit.
        RuntimeError: if transformers is not installed, or the download fails.
    """
    try:
        # Not at the top: the package is optional, and slow to import.
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise RuntimeError(
            f"{source} needs the package transformers: pip install '.[features]'"
        ) from error
    folder = Path(source) if Path(source).is_dir() else _fetch(transformers, str(source))
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}; a folder as save_pretrained writes it is needed"
            )
    kind = _kind(folder)
    model = FAMILIES[kind].model
    if projected:
        if FAMILIES[kind] is not _CLIP:
            raise ValueError(f"{folder} holds a network of type {kind}, which has no projection")
        model += "WithProjection"
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # else it lists each weight of CLIP's text half, which is not needed
    try:
        net, report = getattr(transformers, model).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # the package raises many kinds for a damaged file
        raise ValueError(f"{folder}: the weights cannot be read: {printable(error)}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    if report["missing_keys"]:  # transformers would start from random values
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
    kind = "clip" if kind == "clip_vision_model" else kind
    sha256 = file_sha256(folder / "model.safetensors")
    detector = TransformersDetector(net, kind, sha256, size, projected)
    return detector.requires_grad_(False).eval()


def _kind(folder: Path) -> str:
    """The kind of network that a folder's config.json tells of."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged, or tells no model_type") from error
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"{folder} holds a network of type {printable(repr(kind), 80)}; known are {', '.join(FAMILIES)}"
        )
    return kind


def is_cached(hub: str) -> bool:
    """Whether the files of a model on the hub are on this machine."""
    try:
        hub_library: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        return False
    files = [hub_library.try_to_load_from_cache(hub, name) for name in FILES]
    return all(isinstance(file, str) and Path(file).is_file() for file in files)


def _fetch(transformers: Any, hub: str) -> Path:
    try:
        files = [transformers.utils.cached_file(hub, name) for name in FILES]
    except OSError as error:
        raise RuntimeError(
            f"cannot get {hub} from the Hugging Face hub; try again, or download it and give the folder's path"
        ) from error
    return Path(files[-1]).parent
