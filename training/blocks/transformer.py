"""What the transformers among the networks share (U-ViT, LDM): layers of tokens, and the token of a class."""

import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Linear
from training.kernels import compute


class Dense(Linear):
    """y = x W^T + b in the dtype of x, by the faster library where there are two."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return compute.linear(
            x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        )


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in the dtype of x, whatever that of the weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., D] over its last dimension."""
        return F.layer_norm(
            x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
        )


def class_token(embedding: nn.Embedding, labels: Tensor | None, null_class: bool = True) -> Tensor:
    """The token of each label, of an embedding whose last row is "no class".

    Args:
        embedding: [classes + 1, D].
        labels: one-hot [N, classes]; a row of zeros is "no class", and so is None.
        null_class: False for a network that has no "no class", but a row for each class only.
    Returns:
        [N, 1, D], of None [1, 1, D].
    Raises:
        ValueError: if there are no labels, and no "no class" either.
    """
    if not null_class:
        if labels is None:
            raise ValueError("this network was trained with classes only: give labels")
        return (labels.to(embedding.weight.dtype) @ embedding.weight)[:, None]
    classes, nothing = embedding.weight[:-1], embedding.weight[-1:]
    if labels is None:
        return nothing[None]
    labels = labels.to(classes.dtype)
    return (labels @ classes + (1 - labels.sum(1, keepdim=True)) * nothing)[:, None]
