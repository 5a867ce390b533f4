"""TF32 is off unless it is asked for, in every program; results say which it was."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from torch_utils import distributed
from torch_utils.precision import allow_tf32, computed_in, tf32_allowed

MATMUL = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Whatever a test switches is switched back."""
    before = torch.backends.cudnn.allow_tf32, MATMUL.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, MATMUL.allow_tf32 = before


def test_init_switches_tf32_off() -> None:
    torch.backends.cudnn.allow_tf32 = MATMUL.allow_tf32 = True
    distributed.init("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not MATMUL.allow_tf32
    assert not tf32_allowed()


@pytest.mark.parametrize("which", [torch.backends.cudnn, MATMUL], ids=["convolutions", "products"])
def test_either_of_the_two_is_tf32(which: Any) -> None:
    allow_tf32(False)
    which.allow_tf32 = True
    assert tf32_allowed() and computed_in(torch.device("cuda"))["tf32"]


def test_init_allows_tf32_when_asked() -> None:
    distributed.init("cpu", tf32=True)
    assert torch.backends.cudnn.allow_tf32
    assert MATMUL.allow_tf32


@pytest.mark.parametrize("allowed", [False, True])
def test_half_precision_is_always_summed_in_float32(allowed: bool) -> None:
    MATMUL.allow_fp16_reduced_precision_reduction = (
        MATMUL.allow_bf16_reduced_precision_reduction
    ) = True
    allow_tf32(allowed)
    assert not MATMUL.allow_fp16_reduced_precision_reduction
    assert not MATMUL.allow_bf16_reduced_precision_reduction


def test_only_a_gpu_computes_in_tf32() -> None:
    allow_tf32(True)
    assert computed_in(torch.device("cpu")) == {"device": "cpu", "tf32": False}
    assert computed_in(torch.device("cuda", 1)) == {"device": "cuda", "tf32": True}
    allow_tf32(False)
    assert computed_in(torch.device("cuda")) == {"device": "cuda", "tf32": False}


@pytest.mark.parametrize(
    "program",
    ["generate.py", "fid.py ref", "fid.py calc", "fid.py gen", "train.py", "distill.py consistency",
     "distill.py diff-instruct", "tables.py run", "tables.py tune",
     "skip/finetune/__main__.py rho", "skip/finetune/__main__.py network"],
)  # fmt: skip
def test_every_program_that_computes_takes_the_flag(program: str) -> None:
    path, _, command = program.partition(" ")
    main: Any = importlib.import_module(path.removesuffix(".py").replace("/", ".")).main
    parameters = (main.commands[command] if command else main).params
    assert [p.is_flag for p in parameters if p.name == "tf32"] == [True]
