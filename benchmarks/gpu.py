"""Time what the tables need on a GPU: the ImageNet-64 network, its layers, Inception-v3, training, and whole programs.

    python benchmarks/gpu.py --json gpu.json                    # everything: twenty minutes on an H100 (estimate)
    python benchmarks/gpu.py network busy --json gpu.json       # two of the parts
    python benchmarks/gpu.py --small --device cpu               # a try on a CPU: that it runs, its numbers mean nothing

Each row goes to stderr as it is measured, so that a run cut short still tells; at the end there is a Markdown table on
stdout. Random weights: the arithmetic is the same.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import oracle_adm  # noqa: E402
from clock import seconds, timed  # noqa: E402
from conftest import fill  # noqa: E402

from metrics.frechet import frechet  # noqa: E402
from metrics.gaussian import Gaussian  # noqa: E402
from metrics.inception import InceptionV3, load_inception  # noqa: E402
from metrics.precision_recall import precision_recall  # noqa: E402
from metrics.statistics import FeatureStatistics  # noqa: E402
from skip.scale import SkipScale  # noqa: E402
from skip.tuned import SkipTuned  # noqa: E402
from torch_utils.precision import allow_tf32  # noqa: E402
from training.checkpoint import save_network  # noqa: E402
from training.kernels import cuda  # noqa: E402
from training.loss import EDMLoss  # noqa: E402
from training.precond import EDMPrecond  # noqa: E402
from training.run.optimizer import adam  # noqa: E402

NFE = 19
GFLOP = 219.3  # one evaluation of one image by the full-size network
Row = dict[str, Any]


class Bench:
    """Where things are measured, how large they are, and what came out.

    Args:
        device: of everything.
        small: tiny sizes, for a try.
    Attributes:
        rows: what was measured, in order.
    """

    def __init__(self, device: torch.device, small: bool) -> None:
        self.device, self.small = device, small
        self.rows: list[Row] = []
        self._began = time.monotonic()

    def tell(self, part: str, what: str, **values: Any) -> None:
        """Keep a row, and print it."""
        row = {"part": part, "what": what} | {key: _rounded(value) for key, value in values.items()}
        self.rows.append(row)
        shown = ", ".join(f"{key} {value}" for key, value in list(row.items())[2:])
        click.echo(f"[{time.monotonic() - self._began:5.0f} s] {part}: {what}: {shown}", err=True)

    @contextlib.contextmanager
    def attempt(self, part: str, what: str) -> Iterator[None]:
        """What fails, for want of memory say, is a row of its own; the rest goes on."""
        try:
            yield
        except Exception as error:
            self.tell(part, what, failed=f"{type(error).__name__}: {str(error)[:200]}")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def network(self, dtype: torch.dtype = torch.float32, channels_last: bool = True) -> EDMPrecond:
        """The ImageNet-64 ADM with random weights, none of them zero."""
        size: dict[str, Any] = {"model_channels": 64, "num_blocks": 1} if self.small else {}
        torch.manual_seed(0)
        with self.device:
            net = (
                EDMPrecond(64, 3, 1000, model_type="DhariwalUNet", **size)
                .eval()
                .requires_grad_(False)
            )
            for parameter in net.parameters():
                if not parameter.any():
                    parameter.data.normal_(std=0.02)
        if channels_last:
            net.channels_last()
        return net.set_dtype(dtype)

    def inputs(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy images, one noise level, classes."""
        x = 2 * torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(
            self.device
        )
        labels = torch.eye(1000, device=self.device)[torch.arange(batch, device=self.device) % 1000]
        return x, torch.tensor(2.0, device=self.device), labels

    def peak_gib(self) -> float | None:
        """The most memory that was taken since it was last reset; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self.device) / 2**30

    def batches(self) -> list[int]:
        """Images at a time."""
        return [2] if self.small else [16, 64, 256]


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _speed(
    bench: Bench, part: str, what: str, batch: int, run: Callable[[], object], **more: Any
) -> None:
    """One row about an evaluation of a batch."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    with torch.inference_mode():
        found = timed(run, bench.device)
    per_second = 1e3 * batch / found.milliseconds
    bench.tell(
        part, what, batch=batch, ms=found.milliseconds, launch_ms=found.launch, first_s=found.first,
        images_per_s_at_19=per_second / NFE, tflops=GFLOP * per_second / 1e3, peak_gib=bench.peak_gib(), **more,
    )  # fmt: skip


# ---- parts


def oracle(bench: Bench) -> None:
    """A plain eager network (NCHW, einsum attention) of the same weights: what ratios are taken to."""
    weights = {
        name: value.to(bench.device, copy=True)  # the filters of resampling are made on the CPU
        for name, value in bench.network(channels_last=False).state_dict().items()
    }

    batch = bench.batches()[-1] if bench.small else 64
    x, sigma, labels = bench.inputs(batch)

    for tf32, half in ((False, None), (True, None), (True, torch.float16), (True, torch.bfloat16)):
        name = "float32" if half is None else f"autocast {str(half).removeprefix('torch.')}"
        what = f"{name}{' with TF32' if tf32 else ''}"
        with (
            bench.attempt("oracle", what),
            torch.autocast(bench.device.type, half, enabled=half is not None),
        ):
            allow_tf32(tf32)
            levels = sigma.expand(batch)
            _speed(
                bench,
                "oracle",
                what,
                batch,
                partial(oracle_adm.denoise, weights, x, levels, labels),
            )
    allow_tf32(False)


def network(bench: Bench) -> None:
    """Ours: dtype x memory format x batch, plain and Skip-Tuned."""
    kinds = [
        (torch.float32, False),
        (torch.float32, True),
        (torch.float16, False),
        (torch.bfloat16, False),
    ]

    for dtype, tf32 in kinds:
        for channels_last in (True, False):
            net = bench.network(dtype, channels_last)
            tuned = SkipTuned(net, SkipScale(0.82))
            layout = "channels last" if channels_last else "NCHW"
            what = f"{str(dtype).removeprefix('torch.')}{' with TF32' if tf32 else ''}, {layout}"

            for batch in bench.batches():
                x, sigma, labels = bench.inputs(batch)
                allow_tf32(tf32)
                with bench.attempt("network", what):
                    _speed(bench, "network", what, batch, partial(net, x, sigma, labels))
                    if channels_last:
                        _speed(
                            bench,
                            "network",
                            f"{what}, tuned",
                            batch,
                            partial(tuned, x, sigma, labels),
                        )
    allow_tf32(False)


def compiled(bench: Bench) -> None:
    """The same under torch.compile; what compiling takes is in first_s."""
    for mode in (None, "reduce-overhead"):
        for batch in bench.batches()[:2]:
            what = f"float16, torch.compile{'' if mode is None else f'({mode})'}, tuned"
            with bench.attempt("compiled", what):
                torch._dynamo.reset()
                net = bench.network(torch.float16)
                net.model.compile(mode=mode)
                tuned = SkipTuned(net, SkipScale(0.82))
                x, sigma, labels = bench.inputs(batch)
                _speed(bench, "compiled", what, batch, partial(tuned, x, sigma, labels))


def _torch_norm(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    half = weight.to(x.dtype)
    return F.silu(F.group_norm(x, 32, half, half) * scale + shift)


def _our_norm(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.silu(cuda.group_norm(x, 32, weight, weight, 1e-5, scale, shift))


def norm(bench: Bench) -> None:
    """Group norm, modulation and SiLU at the network's sizes: torch's operator against training/kernels/cuda.py."""
    batch = 2 if bench.small else 64
    for channels, side in ((192, 64), (384, 32), (576, 16), (768, 8)):
        x = torch.randn(batch, channels, side, side, device=bench.device, dtype=torch.float16)
        x = x.to(memory_format=torch.channels_last)
        weight = torch.randn(channels, device=bench.device)
        scale, shift = torch.randn(
            2, batch, channels, 1, 1, device=bench.device, dtype=torch.float16
        ).unbind()

        with bench.attempt("norm", f"{channels} channels at {side}x{side}"), torch.inference_mode():
            runs = (
                partial(_torch_norm, x, weight, scale, shift),
                partial(_our_norm, x, weight, scale, shift),
            )
            times = [timed(run, bench.device).milliseconds for run in runs]
            # Read twice, write once, at an H100's bandwidth.
            passes = 3 * x.numel() * x.element_size() / 3.35e12 * 1e3
            bench.tell(
                "norm", f"{channels} channels at {side}x{side}", batch=batch, torch_ms=times[0], ours_ms=times[1],
                ratio=times[0] / times[1], floor_on_h100_ms=passes, values=x.numel(),
            )  # fmt: skip


def attention(bench: Bench) -> None:
    """Heads of up to and beyond 256 channels: the fused operator against two products."""
    batch = 1 if bench.small else 16
    sizes = {
        "ADM 32x32": (6, 64, 1024),
        "DDPM++": (1, 256, 256),
        "LDM 32x32": (1, 384, 1024),
        "decoder": (1, 512, 4096),
    }
    for name, (heads, width, tokens) in sizes.items():
        shape = (batch, heads, tokens if not bench.small else 64, width)
        q, k, v = torch.randn(3, *shape, device=bench.device, dtype=torch.float16).unbind()

        with bench.attempt("attention", name), torch.inference_mode():
            runs = (
                partial(F.scaled_dot_product_attention, q, k, v),
                partial(cuda.attention, q, k, v),
            )
            times = [timed(run, bench.device).milliseconds for run in runs]
            bench.tell(
                "attention", f"{name}, {heads} x {width} channels", batch=batch, fused_ms=times[0],
                products_ms=times[1], ratio=times[1] / times[0],
            )  # fmt: skip


def detector(bench: Bench) -> None:
    """Inception-v3 with its resize: ours against the same arithmetic plainly written."""
    batch = 4 if bench.small else 256
    images = torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8, device=bench.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(fill(InceptionV3()).state_dict(), path)
        plain = fill(InceptionV3()).eval().requires_grad_(False).to(bench.device)

        runs: dict[str, Callable[[], object]] = {
            "plain, float32": lambda: plain.taps(plain.prepare(images).contiguous())["2048"],
        }
        for dtype in (torch.float32, torch.bfloat16):
            net = load_inception(path, dtype=dtype).to(bench.device)
            runs[f"ours, {str(dtype).removeprefix('torch.')}"] = partial(net, images)

    base = None
    for what, run in runs.items():
        with bench.attempt("detector", what), torch.inference_mode():
            found = timed(run, bench.device)
            base = base or found.milliseconds
            bench.tell(
                "detector", what, batch=batch, ms=found.milliseconds, images_per_s=1e3 * batch / found.milliseconds,
                ratio=base / found.milliseconds,
            )  # fmt: skip


def _training_step(
    net: EDMPrecond,
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
    loss: EDMLoss,
    batch: tuple[Tensor, ...],
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss(net, *batch).mean().backward()
    optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(average, list(net.parameters()), 1e-3)


def training(bench: Bench) -> None:
    """A step of EDM's training: loss, gradients, Adam, average."""
    for dtype, batch in ((torch.float32, 32), (torch.bfloat16, 64)):
        batch = 2 if bench.small else batch
        what = str(dtype).removeprefix("torch.")
        with bench.attempt("training", what):
            net = bench.network().train().requires_grad_(True)
            net.dtype = dtype
            average = [parameter.detach().clone() for parameter in net.parameters()]
            optimizer, loss = adam(net.parameters(), 1e-4), EDMLoss()
            x, _, labels = bench.inputs(batch)
            sigma, noise = loss.draw(x, torch.Generator(bench.device).manual_seed(0))

            step = partial(
                _training_step,
                net,
                average,
                optimizer,
                loss,
                (x.clamp(-1, 1), labels, sigma, noise),
            )
            found = timed(step, bench.device, rounds=4)
            bench.tell(
                "training", what, batch=batch, ms=found.milliseconds, launch_ms=found.launch,
                images_per_s=1e3 * batch / found.milliseconds, peak_gib=bench.peak_gib(),
            )  # fmt: skip


def _fid(made: Tensor, real: Tensor) -> None:
    both = []
    for rows in (made, real):
        gathered = FeatureStatistics(rows.shape[1], rows.device)
        for part in rows.split(1000):
            gathered.update(part)
        both.append(Gaussian(gathered.result(), "covariance", rows.device))
    frechet(both[0], both[1], made)


def metrics(bench: Bench) -> None:
    """A FID with its error bar, and precision and recall, on the device and on the CPU."""
    dim = 64 if bench.small else 2048
    sizes = [(500, bench.device)] if bench.small else [(10_000, torch.device("cpu"))]
    if bench.device.type == "cuda" and not bench.small:
        sizes = [(10_000, bench.device), (50_000, bench.device), *sizes]
    for count, device in sizes:
        real, made = (
            torch.randn(count, dim, generator=torch.Generator().manual_seed(s)).to(device)
            for s in (0, 1)
        )

        what = f"on {device.type}"
        with bench.attempt("metrics", what):
            bench.tell(
                "metrics", what, images=count, fid_with_error_s=seconds(partial(_fid, made, real), device),
                precision_recall_s=seconds(partial(precision_recall, real, made), device),
            )  # fmt: skip


class Busy(threading.Thread):
    """How busy a GPU is, as nvidia-smi tells: the share of time in which some kernel ran, five times a second."""

    QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0")

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[int] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            with contextlib.suppress(OSError, ValueError):
                told = subprocess.run(
                    self.QUERY, capture_output=True, text=True, check=False
                ).stdout
                self.samples.append(int(told.split()[0]))

    def share(self) -> float | None:
        """Percent between the first and the last sample of work; None if there is no such GPU."""
        self.ended.set()
        self.join()
        work = [index for index, value in enumerate(self.samples) if value > 0]
        if not work:
            return None
        between = self.samples[work[0] : work[-1] + 1]
        return sum(between) / len(between)


def busy(bench: Bench) -> None:
    """Whole programs with the full-size network: seconds, and how busy the GPU was."""
    images, batch = (4, 2) if bench.small else (1024, 64)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_network(bench.network(), place / "adm.safetensors")
        torch.save(fill(InceptionV3()).state_dict(), place / "inception.pth")

        network = ["--network", place / "adm.safetensors", "--dtype", "float16"]
        common = [*network, "--device", bench.device.type, "--batch", batch]
        common += ["--seeds", f"0-{images - 1}", "--rho-bottom", 0.82]
        made = ["--outdir", place / "made"]
        reference = ["--ref", place / "ref.npz", "--detector", place / "inception.pth"]
        programs: dict[str, list[Any]] = {
            "generate.py, 19 evaluations": ["generate.py", *common, *made, "--steps", 10],
            "generate.py, one evaluation": ["generate.py", *common, "--outdir", place / "one", "--sigma-init", 80],
            "fid.py ref": ["fid.py", "ref", "--data", place / "made", "--dest", place / "ref.npz", "--detector",
                           place / "inception.pth", "--device", bench.device.type],
            "fid.py gen, 19 evaluations": ["fid.py", "gen", *common, "--steps", 10, *reference],
        }  # fmt: skip

        for what, command in programs.items():
            watcher, began = Busy(), time.monotonic()
            watcher.start()
            done = subprocess.run(
                [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False,
                env=os.environ | {"SKIP_TUNING_CACHE": str(place / "cache")},
            )  # fmt: skip
            taken = time.monotonic() - began
            said = {} if done.returncode == 0 else {"failed": done.stderr[-300:]}
            bench.tell(
                "busy",
                what,
                images=images,
                batch=batch,
                s=taken,
                gpu_busy_percent=watcher.share(),
                **said,
            )


PARTS: dict[str, Callable[[Bench], None]] = {
    "oracle": oracle,
    "network": network,
    "norm": norm,
    "attention": attention,
    "detector": detector,
    "training": training,
    "metrics": metrics,
    "busy": busy,
    "compiled": compiled,
}


def table(rows: list[Row]) -> str:
    """The rows in Markdown, a table for each part."""
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        columns = list(dict.fromkeys(key for row in own for key in row if key != "part"))

        lines += [
            "",
            f"**{part}**",
            "",
            "| " + " | ".join(columns) + " |",
            "|---" * len(columns) + "|",
        ]
        for row in own:
            cells = ["" if row.get(key) is None else str(row[key]) for key in columns]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option("--device", default="cuda", show_default=True, help="Where to measure")
@click.option("--small", is_flag=True, help="Tiny sizes: a try that everything runs")
@click.option("--json", "dest", type=click.Path(path_type=Path), help="Write the rows here too")
def main(parts: tuple[str, ...], device: str, small: bool, dest: Path | None) -> None:
    """Time PART..., or all of them: oracle network norm attention detector training metrics busy compiled."""
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise click.UsageError(
            "there is no CUDA device here; for a try on a CPU give --small --device cpu"
        )

    allow_tf32(False)
    bench = Bench(place, small)
    card = torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU"
    about = {"device": card, "torch": torch.__version__, "cuda": torch.version.cuda, "small": small}

    for name in parts or PARTS:
        with bench.attempt(name, "all"):
            PARTS[name](bench)
        if dest is not None:
            dest.write_text(json.dumps({"about": about, "rows": bench.rows}, indent=2) + "\n")
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()) + table(bench.rows))


if __name__ == "__main__":
    main()
