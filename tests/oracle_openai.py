"""OpenAI's U-Net, plainly, over a state dict of its own names: an oracle for what the golden vectors do not have.

Reference: Dhariwal & Nichol, 2021, https://arxiv.org/abs/2105.05233; Nichol & Dhariwal, 2021, on scale-shift
norms, https://arxiv.org/abs/2102.09672
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Resample = Callable[[Tensor], Tensor]


def smaller(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def larger(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Oracle:
    """F(x, t, y).

    Args:
        state: the tensors.
        blocks: residual blocks a level.
        head_channels: of the attention; or
        heads: their number.
        order: of the channels of qkv, "qhd" (q|k|v, head, d) or "hqd" (head, q|k|v, d).
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        blocks: int,
        head_channels: int = 64,
        heads: int | None = None,
        order: str = "qhd",
    ) -> None:
        self.state = state
        self.blocks = blocks
        self.head_channels = head_channels
        self.heads = heads
        self.order = order

    def __call__(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        width = self.state["time_embed.0.weight"].shape[1]
        freqs = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
        angles = times[:, None].float() * freqs
        emb = self.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))
        emb = self.linear("time_embed.2", F.silu(emb))
        if labels is not None:
            emb = emb + self.state["label_emb.weight"][labels]

        count = len({name.split(".")[1] for name in self.state if name.startswith("input_blocks.")})
        skips = []
        for i in range(count):
            if i == 0:
                x = self.conv("input_blocks.0.0", x)
            else:
                down = smaller if i % (self.blocks + 1) == 0 else None
                x = self.residual(f"input_blocks.{i}.0", x, emb, down)
                x = self.attended(f"input_blocks.{i}.1", x)
            skips.append(x)
        x = self.residual("middle_block.0", x, emb)
        x = self.attended("middle_block.1", x)
        x = self.residual("middle_block.2", x, emb)
        for i in range(count):
            x = self.residual(f"output_blocks.{i}.0", torch.cat([x, skips.pop()], dim=1), emb)
            x = self.attended(f"output_blocks.{i}.1", x)
            for j in (1, 2):
                if f"output_blocks.{i}.{j}.in_layers.0.weight" in self.state:
                    x = self.residual(f"output_blocks.{i}.{j}", x, emb, larger)
        return self.conv("out.2", F.silu(self.norm("out.0", x)))

    def residual(
        self, name: str, x: Tensor, emb: Tensor, resample: Resample | None = None
    ) -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample is not None:
            h, x = resample(h), resample(x)
        h = self.conv(f"{name}.in_layers.2", h)
        change = self.linear(f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
        if change.shape[1] == 2 * h.shape[1]:
            scale, shift = change.split(h.shape[1], dim=1)
            h = self.norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self.norm(f"{name}.out_layers.0", h + change)
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        if f"{name}.skip_connection.weight" in self.state:
            x = self.conv(f"{name}.skip_connection", x)
        return x + h

    def attended(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.qkv.weight" not in self.state:
            return x
        N, C, H, W = x.shape
        heads = self.heads or C // self.head_channels
        weight = self.state[f"{name}.qkv.weight"].flatten(1)
        qkv = torch.einsum("oc,ncp->nop", weight, self.norm(f"{name}.norm", x).flatten(2))
        qkv = qkv + self.state[f"{name}.qkv.bias"][:, None]
        if self.order == "qhd":
            q, k, v = qkv.reshape(N, 3, heads, C // heads, H * W).unbind(1)
        else:
            q, k, v = qkv.reshape(N, heads, 3, C // heads, H * W).unbind(2)
        weights = (torch.einsum("nhdp,nhdq->nhpq", q, k) / math.sqrt(C // heads)).softmax(-1)
        y = torch.einsum("nhpq,nhdq->nhdp", weights, v).reshape(N, C, H * W)
        y = torch.einsum("oc,ncp->nop", self.state[f"{name}.proj_out.weight"].flatten(1), y)
        return x + (y + self.state[f"{name}.proj_out.bias"][:, None]).reshape(x.shape)

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
