"""Time the full-size ImageNet-64 ADM against the plain oracle of the tests, in one run and interleaved.

    python benchmarks/network.py --rounds 5

Prints JSON: the median over rounds of each time ratio, oracle / ours, and what share of this machine's own 3x3
convolution rate each reaches. Random weights: the arithmetic is the same.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import oracle_adm  # noqa: E402
from clock import seconds  # noqa: E402

from torch_utils.precision import allow_tf32  # noqa: E402
from training.kernels import choose  # noqa: E402
from training.precond import EDMPrecond  # noqa: E402

GFLOP = 219  # one evaluation of one image, multiplications and additions


def convolution_rate(dtype: torch.dtype, device: torch.device) -> float:
    """GFLOP/s of a 3x3 convolution of 384 channels at 32x32, batch 4, in this dtype: the best of a few."""
    x = torch.randn(4, 384, 32, 32, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    w = torch.randn(384, 384, 3, 3, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    best = min(seconds(lambda: F.conv2d(x, w, padding=1), device) for _ in range(10))
    return 2 * 4 * 384 * 384 * 9 * 32 * 32 / best / 1e9


def build(device: torch.device) -> tuple[EDMPrecond, EDMPrecond, dict[str, torch.Tensor]]:
    """The float32 network, the same in bfloat16, and their weights in plain memory."""
    net = EDMPrecond(64, 3, 1000, model_type="DhariwalUNet").eval().to(device)
    # The published initialisation has zeros, on which the outputs could not differ.
    for param in net.parameters():
        if not param.any():
            param.data.normal_(std=0.02)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    net.channels_last()
    half = EDMPrecond(64, 3, 1000, model_type="DhariwalUNet").eval().to(device)
    half.load_state_dict(weights)
    half.channels_last().set_dtype(torch.bfloat16)
    return net, half, weights


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    help="Interleaved rounds, after one uncounted",
)
@click.option("--batch", type=click.IntRange(min=1), default=4, help="Images an evaluation")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu or cuda; benchmarks/gpu.py tells more of a GPU",
)
def main(rounds: int, batch: int, device: str) -> None:
    """Print the ratios as JSON."""
    torch.manual_seed(0)
    allow_tf32(False)
    net, half, weights = build(torch.device(device))
    with torch.inference_mode():
        click.echo(
            json.dumps(measure(net, half, weights, rounds, batch, torch.device(device)), indent=2)
        )


def measure(
    net: EDMPrecond,
    half: EDMPrecond,
    weights: dict[str, torch.Tensor],
    rounds: int,
    batch: int,
    device: torch.device,
) -> dict[str, object]:
    """The medians over `rounds` of interleaved runs."""
    x = (torch.randn(batch, 3, 64, 64) * 2).to(device)
    sigma = torch.full([batch], 2.0, device=device)
    labels = torch.eye(1000, device=device)[torch.arange(batch, device=device)]

    runs: dict[str, Callable[[], torch.Tensor]] = {
        "oracle_float32": lambda: oracle_adm.denoise(weights, x, sigma, labels),
        "ours_float32": lambda: net(x, sigma, labels),
        "ours_bfloat16": lambda: half(x, sigma, labels),
    }
    outputs, kernels = {}, {}
    for name, run in runs.items():
        with choose.watched() as chosen:
            outputs[name] = run()
        kernels[name] = {
            f"{operation}: {kernel}": count for (operation, kernel), count in sorted(chosen.items())
        }

    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    expected = outputs["oracle_float32"]
    rates = {
        name: convolution_rate(getattr(torch, name), device) for name in ("float32", "bfloat16")
    }
    result: dict[str, object] = {
        "batch": batch,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }
    for name in ("ours_float32", "ours_bfloat16"):
        ratios = [a / b for a, b in zip(times["oracle_float32"], times[name], strict=True)]
        rate = GFLOP * batch / statistics.median(times[name])
        result[name] = {
            "oracle_time_over_ours": round(statistics.median(ratios), 2),
            "share_of_3x3_convolution_rate": round(rate / rates[name.removeprefix("ours_")], 2),
            "difference_relative_to_max": float(
                (outputs[name] - expected).abs().max() / expected.abs().max()
            ),
            "kernels": kernels[name],
        }
    return result


if __name__ == "__main__":
    main()
