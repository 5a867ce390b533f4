"""What a run needs in order to go on: weights, their average, the optimiser, and how many images were seen."""

import contextlib
import copy
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dnnlib.files import remove_partial_files
from dnnlib.json_files import read_json_object, write_json
from dnnlib.keywords import shown
from dnnlib.text import printable
from torch_utils import distributed
from torch_utils.weights import check_like, check_names, read_saved, write_saved
from training.families.table import FAMILIES
from training.latents import TrainingData
from training.power_ema import PowerAverages
from training.precond import Precond
from training.run.config import TrainingConfig
from training.run.optimizer import adam, take_moments
from training.run.size import check_batch, check_network
from training.run.snapshots import refuse_snapshots_without_state
from training.run.watch import check_tensors
from training.storage import load_network

LABEL_LAYERS = ("model.map_label.", "model.map_augment.")
STATE_FILE = "training-state.pt"
CONFIG_FILE = "config.json"
NUMBERS: dict[str, type[int] | type[float]] = {
    "images_seen": int,
    "seconds": float,
    "loss_sum": float,
    "loss_steps": int,
}
# States of before they were kept lack them.
_NEWER: dict[str, Any] = {"seconds": 0.0, "loss_sum": 0.0, "loss_steps": 0, "powers": {}}
MOST_IMAGES = 10**15  # that a run can have seen
# None of them changes what a step does.
_MAY_DIFFER = {"duration", "snap", "tick", "batch_gpu", "workers"}


@dataclass
class TrainingState:
    """The moving parts of a run.

    Attributes:
        net, ema: the network, and its averaged weights.
        optimizer: Adam over `net`.
        images_seen: over all ranks and sessions.
        seconds: training time, earlier sessions included.
        loss_sum, loss_steps: of the steps since the last line of stats.jsonl.
        powers: further averages, of `config.power_ema`.
    """

    # Of the file, beside the numbers.
    PARTS: ClassVar[tuple[str, ...]] = ("net", "ema", "optimizer", "powers")

    net: Precond
    ema: Precond
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    powers: PowerAverages = field(default_factory=PowerAverages)

    def check(self, device: torch.device) -> None:
        """Refuse to save what a run cannot go on from; every rank calls it.

        Weights may be finite and yet so large that the network is not: each is asked once.

        Raises:
            RuntimeError: if a part holds NaN or infinity on one of the ranks, or a network returns it.
        """
        parts = {name: getattr(self, name) for name in self.PARTS}
        check_tensors({name: _tensors(part) for name, part in parts.items()}, device)
        answers = {
            f"what {name} returns": [answer(net)]
            for name, net in parts.items()
            if isinstance(net, Precond)
        }
        check_tensors(answers, device)

    def save(self, path: Path) -> None:
        """Write plain tensors and numbers, atomically."""
        saved = {name: getattr(self, name).state_dict() for name in self.PARTS}
        saved |= {name: getattr(self, name) for name in NUMBERS}
        write_saved(path, saved)

    def load(self, path: Path, device: torch.device) -> None:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            ValueError: if the file is damaged or of another network.
        """
        try:
            saved = _NEWER | read_saved(path, device)
            for name in self.PARTS:
                part = getattr(self, name)
                if isinstance(part, torch.optim.Optimizer):
                    take_moments(part, saved[name])
                else:
                    check_like(saved[name], part.state_dict())
                    part.load_state_dict(saved[name])
            for name, kind in NUMBERS.items():
                setattr(self, name, saved_number(name, saved[name], kind))
        except Exception as error:  # damage can show in any way
            raise ValueError(
                f"cannot resume from {path}: {printable(error)}; remove it to start anew"
            ) from error


def saved_number(name: str, value: Any, kind: type[int] | type[float]) -> Any:
    """A number that a state holds: a count, or any finite one.

    Raises:
        ValueError: naming it.
    """
    if kind is int and type(value) is int and 0 <= value <= MOST_IMAGES:
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"{name} is {shown(value)}; it must be {'a count' if kind is int else 'a finite number'}"
    )


def start(
    config: TrainingConfig, dataset: TrainingData, outdir: Path, device: torch.device
) -> TrainingState:
    """A new run's state, or that of the run in `outdir`; nothing is written.

    Raises:
        ValueError: as `resume`, if network or batch are larger than the machine, or `config.transfer` names a network
            of another shape.
    """

    def make() -> Precond:
        return FAMILIES[config.precond](
            img_resolution=dataset.resolution,
            img_channels=dataset.num_channels,
            label_dim=dataset.label_dim,
            **config.network,
        )

    check_network(make, device, averages=len(config.power_ema or ()))
    check_batch(config.batch // distributed.world_size(), dataset.image_shape)
    torch.manual_seed(config.seed)
    net = make()
    if config.transfer is not None and not (outdir / STATE_FILE).exists():
        _transfer(config.transfer, net)
    net = net.to(device).train()
    if device.type == "cuda":
        net.channels_last()
    # None: as use_fp16 says.
    net.dtype = None if config.dtype == "float16" else getattr(torch, config.dtype)
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = adam(net.parameters(), config.lr)
    powers = PowerAverages(net, config.power_ema or ())
    state = TrainingState(net, ema, optimizer, powers=powers)
    resume(config, state, outdir, device)
    return state


def resume(
    config: TrainingConfig, state: TrainingState, outdir: Path, device: torch.device
) -> None:
    """Take over the state of the run in `outdir`, if there is one; nothing is written.

    Raises:
        ValueError: if the run in `outdir` has other settings, or its state is damaged, or gone though there are
            snapshots, which a new run would write over.
    """
    settings = _as_json(config)
    if (outdir / CONFIG_FILE).exists():
        # Of settings that are newer than the run.
        defaults = {f.name: f.default for f in fields(config)}
        _check_same(defaults | read_json_object(outdir / CONFIG_FILE), settings, outdir)
    if (outdir / STATE_FILE).exists():
        state.load(outdir / STATE_FILE, device)
        return
    refuse_snapshots_without_state(outdir, STATE_FILE)


@contextlib.contextmanager
def recorded(config: TrainingConfig, state: TrainingState, outdir: Path) -> Iterator[None]:
    """Write what tells of a run before its first step: its settings, and a new run's state.

    If the block, which is the run, fails before it has kept anything else, both go: other settings can be tried in the
    same folder.
    """
    distributed.barrier()  # no rank may write before all have looked
    is_new = not any((outdir / name).exists() for name in (CONFIG_FILE, STATE_FILE))

    first: float | None = None
    try:
        if distributed.rank() == 0:
            remove_partial_files(outdir)
            write_json(outdir / CONFIG_FILE, _as_json(config), checksum=True)
            if not (outdir / STATE_FILE).exists():
                state.save(outdir / STATE_FILE)
            first = (outdir / STATE_FILE).stat().st_mtime_ns
        yield
    except Exception:
        if distributed.rank() == 0 and is_new:
            _withdraw(outdir, first)
        raise


def _withdraw(outdir: Path, first: float | None) -> None:
    """Remove the record of a run that got nowhere: its state is still the first, and nothing else is in the folder."""
    with contextlib.suppress(OSError):
        if {path.name for path in outdir.iterdir() if not path.name.startswith(".")} - {
            CONFIG_FILE,
            STATE_FILE,
        }:
            return
        state = outdir / STATE_FILE
        if state.exists() and state.stat().st_mtime_ns != first:
            return
        (outdir / CONFIG_FILE).unlink(missing_ok=True)
        state.unlink(missing_ok=True)


def _as_json(config: TrainingConfig) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return settings


def _tensors(part: nn.Module | torch.optim.Optimizer) -> list[Tensor]:
    if isinstance(part, nn.Module):
        return list(part.state_dict().values())
    return [
        value for one in part.state.values() for value in one.values() if isinstance(value, Tensor)
    ]


def answer(net: Precond) -> Tensor:
    """What the network makes of one image of noise, squared as in a loss; at noise level 1 or the nearest it knows."""
    device, training = next(net.parameters()).device, net.training
    noise = torch.randn(
        [1, net.img_channels, net.img_resolution, net.img_resolution],
        generator=torch.Generator().manual_seed(0),
    )
    sigma = min(max(1.0, float(net.sigma_min)), float(net.sigma_max))
    net.eval()
    # Without, layers would keep packed copies of weights that soon change.
    with torch.enable_grad():
        labels = torch.eye(net.label_dim, device=device)[:1] if net.label_dim else None
        found: Tensor = net(
            sigma * noise.to(device), torch.tensor(sigma, device=device), labels
        ).detach()
    net.train(training)
    return found.square()


def _transfer(source: str, net: Precond) -> None:
    """Copy all weights but those of label layers that the two networks do not share, which stay as they are."""
    first = net.state_dict()
    other = load_network(source)
    for what, unit, flag in (
        ("img_resolution", "pixels", "--resolution"),
        ("img_channels", "channels", "--channels"),
    ):
        a, b = getattr(other, what), getattr(net, what)
        if a != b:
            raise ValueError(
                f"cannot begin with the weights of {source}: it is a network of images of {a} {unit}, the data set "
                f"has {b}; make the data set with dataset_tool.py {flag}, or take another network"
            )

    # Label layers of another shape, or that one of the two lacks, are those of other classes: ours stay as they are.
    theirs = {
        name: value for name, value in other.state_dict().items() if name.startswith("model.")
    }
    labels = {name for name in first.keys() | theirs.keys() if name.startswith(LABEL_LAYERS)}
    own = {n for n in labels & first.keys() if n not in theirs or theirs[n].shape != first[n].shape}
    weights = {n: value for n, value in theirs.items() if n in first or n not in labels} | {
        n: first[n] for n in own
    }

    try:
        check_names(first, weights)
    except ValueError as error:
        raise ValueError(
            f"cannot begin with the weights of {source}: {error}; give its --arch, --cbase, --cres, --num-blocks and "
            "--attn (networks of other families than EDM's cannot be trained here)"
        ) from error
    net.load_state_dict(weights)


def _check_same(old: dict[str, Any], new: dict[str, Any], outdir: Path) -> None:
    old, new = _flat(old), _flat(new)
    for key in sorted((set(old) | set(new)) - _MAY_DIFFER):
        a, b = old.get(key), new.get(key)
        if key == "data":  # the data set may have moved
            a, b = Path(str(a)).name, Path(str(b)).name
        if a != b:
            before, now = printable(repr(old.get(key)), 60), printable(repr(new.get(key)), 60)
            name = printable(key, 60)
            raise ValueError(
                f"{outdir} was trained with {name}={before}, now {now}; use another --outdir"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of the network and of the loss beside the others."""
    inner = {
        k: v for value in settings.values() if isinstance(value, dict) for k, v in value.items()
    }
    return {k: v for k, v in settings.items() if not isinstance(v, dict)} | inner
