"""What the tests share: reference vectors, and networks filled by the rule the vectors were made with."""

import gc
import json
import os
import signal
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib import threads

threads.set_defaults()  # before torch is loaded, as in the programs

import torch

from training.kernels import choose

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun with & by a script; what the tests start would ignore Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


def golden_json(name: str) -> dict[str, Any]:
    """The facts of tests/golden/<name>.json."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def golden_npz(name: str) -> Any:
    """The arrays of tests/golden/<name>.npz."""
    return np.load(GOLDEN / f"{name}.npz", allow_pickle=False)


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Give `module` the deterministic weights of the reference vectors (tests/golden/README.md, section 1)."""
    filled = {}
    for name, value in module.state_dict().items():
        last = name.rsplit(".", 1)[-1]
        if (
            "resample_filter" in name
            or last in ("u", "num_batches_tracked")
            or not value.is_floating_point()
        ):
            continue
        draw = kept_values if value.numel() <= KEPT else values
        filled[name] = draw(name, tuple(value.shape))
    module.load_state_dict(filled, strict=False)
    return module


def values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights of this name."""
    last = name.rsplit(".", 1)[-1]
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    r = np.asarray(rng.standard_normal(shape), dtype=np.float32)
    if last == "freqs":
        r = 16 * r
    elif last == "running_mean":
        r = np.float32(0.1) * r
    elif last == "running_var":
        r = 1 + np.float32(0.1) * np.abs(r)
    elif r.ndim == 0:
        r = 1 + np.float32(0.1) * r
    elif r.ndim >= 2:
        r = r / np.float32(np.sqrt(np.prod(r.shape[1:])))
    elif name.endswith("weight"):
        r = 1 + np.float32(0.1) * r
    else:
        r = np.float32(0.1) * r
    return torch.from_numpy(np.asarray(r, dtype=np.float32))


KEPT = 40_000  # numbers in a tensor: larger ones are drawn each time
kept_values = lru_cache(maxsize=2000)(
    values
)  # the tests fill the same small networks hundreds of times


def relative_error(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """max|a - b| / max|b|, in float64: the measure of tests/golden/README.md."""
    a, b = (torch.as_tensor(v).detach().double() for v in (actual, expected))
    assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
    return float((a - b).abs().max() / b.abs().max())


def pytest_addoption(parser: pytest.Parser) -> None:
    """--kernels, so that one machine can go the ways of all of them."""
    parser.addoption(
        "--kernels",
        choices=["plain", "onednn", "winograd"],
        help="compute everything with torch's own operators, oneDNN's, or Winograd's; else as the processor suggests",
    )


@pytest.fixture(scope="session", autouse=True)
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """What --kernels asks for; without it, what this processor does best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "forced", request.config.getoption("--kernels"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power, so files need not have reached the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _same_numbers_every_time(request: pytest.FixtureRequest) -> None:
    """Seed torch's global generator, so that a test that forgets to pass one still repeats."""
    if "gpu" in request.keywords:
        torch.manual_seed(0)
    else:
        torch.default_generator.manual_seed(0)  # without those of GPUs, which take a millisecond


@pytest.fixture(autouse=True)
def _without_a_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide CUDA devices, from child processes too: equal bytes are promised for CPUs, and programs prefer a GPU."""
    if "gpu" in request.keywords:
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


LONG = {
    "test_paper_profile.py",
    "test_generate.py",
    "test_samplers_golden.py",
    "test_devices.py",
    "test_training_loop.py",
    "test_tune.py",
    "test_finetune.py",
}


def pytest_collection_finish() -> None:
    """Spare the garbage collector the many objects that stay to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker is left with one; leave out what needs CUDA where none is."""
    items.sort(key=lambda item: item.path.name not in LONG)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
