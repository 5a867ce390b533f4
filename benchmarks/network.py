"""Time the full-size ImageNet-64 ADM against the plain oracle of the tests, in one run and interleaved.

    python benchmarks/network.py --rounds 5

Prints JSON: the median over rounds of each time ratio, oracle / ours, and what share of this machine's own 3x3
convolution rate each reaches. Random weights: the arithmetic is the same.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import oracle_adm  # noqa: E402

from training.precond import EDMPrecond  # noqa: E402

GFLOP = 219  # one evaluation of one image, multiplications and additions


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def convolution_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a 3x3 convolution of 384 channels at 32x32, batch 4, in this dtype: the best of a few."""
    x = torch.randn(4, 384, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
    w = torch.randn(384, 384, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    best = min(seconds(lambda: F.conv2d(x, w, padding=1)) for _ in range(10))
    return 2 * 4 * 384 * 384 * 9 * 32 * 32 / best / 1e9


def build() -> tuple[EDMPrecond, EDMPrecond, dict[str, torch.Tensor]]:
    """The float32 network, the same in bfloat16, and their weights in plain memory."""
    net = EDMPrecond(64, 3, 1000, model_type="DhariwalUNet").eval()
    for param in net.parameters():  # the published initialisation has zeros, on which the outputs could not differ
        if not param.any():
            param.data.normal_(std=0.02)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    net.channels_last()
    half = EDMPrecond(64, 3, 1000, model_type="DhariwalUNet").eval()
    half.load_state_dict(weights)
    half.channels_last().set_dtype(torch.bfloat16)
    return net, half, weights


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Interleaved rounds, after one uncounted")
@click.option("--batch", type=click.IntRange(min=1), default=4, help="Images an evaluation")
def main(rounds: int, batch: int) -> None:
    """Print the ratios as JSON."""
    torch.manual_seed(0)
    net, half, weights = build()
    with torch.inference_mode():
        click.echo(json.dumps(measure(net, half, weights, rounds, batch), indent=2))


def measure(
    net: EDMPrecond, half: EDMPrecond, weights: dict[str, torch.Tensor], rounds: int, batch: int
) -> dict[str, object]:
    """The medians over `rounds` of interleaved runs."""
    x, sigma = torch.randn(batch, 3, 64, 64) * 2, torch.full([batch], 2.0)
    labels = torch.eye(1000)[torch.arange(batch)]

    runs: dict[str, Callable[[], torch.Tensor]] = {
        "oracle_float32": lambda: oracle_adm.denoise(weights, x, sigma, labels),
        "ours_float32": lambda: net(x, sigma, labels),
        "ours_bfloat16": lambda: half(x, sigma, labels),
    }
    outputs = {name: run() for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, run in runs.items():
            times[name].append(seconds(run))
    expected = outputs["oracle_float32"]
    rates = {"float32": convolution_rate(torch.float32), "bfloat16": convolution_rate(torch.bfloat16)}
    result: dict[str, object] = {"batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    for name in ("ours_float32", "ours_bfloat16"):
        ratios = [a / b for a, b in zip(times["oracle_float32"], times[name], strict=True)]
        rate = GFLOP * batch / statistics.median(times[name])
        result[name] = {
            "oracle_time_over_ours": round(statistics.median(ratios), 2),
            "share_of_3x3_convolution_rate": round(rate / rates[name.removeprefix("ours_")], 2),
            "difference_relative_to_max": float((outputs[name] - expected).abs().max() / expected.abs().max()),
        }
    return result


if __name__ == "__main__":
    main()
