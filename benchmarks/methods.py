"""Time what acts on the long skips against the plain network: one evaluation, in one run and interleaved.

    python benchmarks/methods.py --network demo --rounds 9

Prints JSON: of each method of configs/rivals.toml, with the first parameters it has there for this network, the median
over rounds of the ratio of its time to the plain network's, and the ratios' quartiles.
"""

import json
import statistics
import sys
from pathlib import Path

import click
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clock import seconds  # noqa: E402

from skip.methods.table import parse_methods  # noqa: E402
from skip.source import ready_network  # noqa: E402
from skip.tables.item import method  # noqa: E402
from skip.tables.spec import load_item  # noqa: E402
from skip.tuned import SkipTuned  # noqa: E402


def tuned_by_method(name: str, device: torch.device) -> dict[str, SkipTuned]:
    """The network as each method changes it; the plain one is the first."""
    net = ready_network(name, device, None, None)
    found: dict[str, SkipTuned] = {}
    cells = load_item("rivals", "demo").cells
    own = [cell for cell in cells if cell.by_name["network"] == name]
    for cell in own or cells:
        settings = cell.settings
        found.setdefault(
            method(cell) or "plain",
            SkipTuned(net, settings.scale, methods=parse_methods(settings.skip_method)),
        )
    return found


@click.command()
@click.option("--network", default="demo", show_default=True, help="A name, path or URL")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=9, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
def main(network: str, batch: int, rounds: int, device: str) -> None:
    """Print the ratios as JSON."""
    place = torch.device(device)
    nets = tuned_by_method(network, place)
    plain = nets["plain"]
    size = plain.img_resolution
    x = 2 * torch.randn(batch, plain.img_channels, size, size, device=place)
    sigma = torch.full([batch], 2.0, device=place)
    labels = None
    if plain.label_dim:
        labels = torch.eye(plain.label_dim, device=place)[torch.arange(batch) % plain.label_dim]

    times: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for number in tqdm(range(1 + rounds), desc="rounds"):
            for name, net in nets.items():
                taken = seconds(lambda net=net: net(x, sigma, labels), place)  # type: ignore[misc]
                if number > 0:  # the first is uncounted
                    times[name].append(taken)

    found: dict[str, object] = {}
    for name in nets:
        ratios = [own / base for own, base in zip(times[name], times["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found[name] = {"ratio": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}
    click.echo(
        json.dumps(
            {"network": network, "batch": batch, "rounds": rounds, "device": device, **found},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
