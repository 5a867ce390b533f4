"""What a GPU's float32 means here: float32, unless TF32 is allowed."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Choose how CUDA devices multiply float32 numbers, and how they sum half-precision products.

    TF32 rounds the factors of convolutions and matrix products to 10 bits of mantissa: several times faster, and off by
    1e-3. PyTorch allows it in convolutions unless told otherwise. Sums of float16 and bfloat16 products may be rounded
    to half precision on the way, which has nothing to do with TF32 and is never allowed here.

    Reference: https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html

    Args:
        allowed: False for float32 as on a CPU, to its last digits.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def tf32_allowed() -> bool:
    """Whether convolutions or products of float32 numbers may be TF32 on a CUDA device."""
    return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32


Kind = dict[str, str | bool]  # as `computed_in` gives it
KINDS: tuple[Kind, ...] = (
    {"device": "cpu", "tf32": False},
    {"device": "cuda", "tf32": False},
    {"device": "cuda", "tf32": True},
)


def every_kind() -> tuple[Kind, ...]:
    """KINDS, those of this machine first, and of them float32 as it says."""
    here = "cuda" if torch.cuda.is_available() else "cpu"
    return tuple(sorted(KINDS, key=lambda kind: kind["device"] != here))


def computed_in(device: torch.device) -> Kind:
    """The kind of device, and whether its float32 is TF32, as results record them."""
    return {"device": device.type, "tf32": device.type == "cuda" and tf32_allowed()}
