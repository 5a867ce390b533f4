"""Time the Inception-v3 detector against torch-fidelity's extractor: same weights, same images, one interleaved run.

    pip install --no-deps torch-fidelity
    python benchmarks/inception.py --rounds 5

Prints JSON: the median over rounds of each time ratio, theirs / ours, and how far the features differ. Where the
package torch-fidelity is not installed, the reference is this repository's own network as torch-fidelity runs it: batch
norms not folded, channels first. `reference` tells which it was. Weights are the made-up ones of the reference vectors
unless --weights names a published state dict: the arithmetic is the same.
"""

import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from clock import seconds  # noqa: E402
from conftest import fill  # noqa: E402

from metrics.inception import InceptionV3, load_inception  # noqa: E402
from torch_utils.precision import allow_tf32  # noqa: E402


def torch_fidelity(weights: Path, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """torch-fidelity's extractor of the 2048 features, None if it is not installed."""
    found = importlib.util.find_spec("torch_fidelity")
    if found is None:
        return None
    # The package imports torchvision, the extractor does not: an empty package of that name lets it load alone.
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["torch_fidelity"] = package
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    names = ["2048", "logits_unbiased"]
    extractor = module.FeatureExtractorInceptionV3(
        "inception", names, feature_extractor_weights_path=str(weights)
    )
    extractor = extractor.to(device)
    return lambda images: extractor(images)[0]


def plain(weights: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The same arithmetic without what makes ours fast."""
    net = InceptionV3().eval().requires_grad_(False)
    net.load_state_dict(torch.load(weights, weights_only=True))
    net = net.to(device)
    return lambda images: net.taps(net.prepare(images).contiguous())["2048"]


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    help="Interleaved rounds, after one uncounted",
)
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Images a call")
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    default=64,
    help="Of the images, before they are resized",
)
@click.option(
    "--weights", type=click.Path(exists=True, path_type=Path), help="A published state dict (.pth)"
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu or cuda; benchmarks/gpu.py tells more of a GPU",
)
def main(rounds: int, batch: int, resolution: int, weights: Path | None, device: str) -> None:
    """Print the ratios as JSON."""
    torch.manual_seed(0)
    allow_tf32(False)
    place = torch.device(device)
    images = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8).to(place)
    with tempfile.TemporaryDirectory() as folder:
        if weights is None:
            weights = Path(folder) / "inception.pth"
            torch.save(fill(InceptionV3()).state_dict(), weights)
        ours, half = (
            load_inception(weights, dtype=d).to(place) for d in (torch.float32, torch.bfloat16)
        )
        judge = torch_fidelity(weights, place)
        reference = judge or plain(weights, place)

    runs: dict[str, Callable[[], Tensor]] = {
        "reference": lambda: reference(images),
        "ours_float32": lambda: ours(images)[0],
        "ours_bfloat16": lambda: half(images)[0],
    }
    with torch.inference_mode():
        outputs = {name: run() for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in tqdm(range(rounds), desc="rounds"):
            for name, run in runs.items():
                times[name].append(seconds(run, place))

    result: dict[str, object] = {
        "reference": "torch-fidelity" if judge else "plain, as torch-fidelity is not installed",
        "batch": batch,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "reference_milliseconds_an_image": round(
            1000 * statistics.median(times["reference"]) / batch, 1
        ),
    }
    expected = outputs["reference"]
    for name in ("ours_float32", "ours_bfloat16"):
        ratios = [a / b for a, b in zip(times["reference"], times[name], strict=True)]
        result[name] = {
            "reference_time_over_ours": round(statistics.median(ratios), 2),
            "difference_relative_to_max": float(
                (outputs[name] - expected).abs().max() / expected.abs().max()
            ),
        }
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
