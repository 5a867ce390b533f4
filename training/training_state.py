"""What a run needs in order to go on: weights, their average, the optimiser, and how many images were seen."""

import copy
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from dnnlib.files import atomic_write, remove_partial_files, write_json
from torch_utils import distributed
from torch_utils.weights import check_names
from training.checkpoint import load_network
from training.dataset import ImageDataset
from training.precond import PRECONDS, Precond
from training.training_config import TrainingConfig

LABEL_LAYERS = ("model.map_label.", "model.map_augment.")
STATE_FILE = "training-state.pt"
CONFIG_FILE = "config.json"
_MAY_DIFFER = {"duration", "snap", "tick", "batch_gpu", "workers"}  # none of them changes what a step does


@dataclass
class TrainingState:
    """The moving parts of a run.

    Attributes:
        net, ema: the network, and its averaged weights.
        optimizer: Adam over `net`.
        images_seen: over all ranks and sessions.
        seconds: training time, earlier sessions included.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("net", "ema", "optimizer")  # of the file, beside the two numbers

    net: Precond
    ema: Precond
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write plain tensors and numbers, atomically."""
        saved = {name: getattr(self, name).state_dict() for name in self.PARTS}
        saved |= {"images_seen": self.images_seen, "seconds": self.seconds}
        with atomic_write(path) as file:
            torch.save(saved, file)

    def load(self, path: Path, device: torch.device) -> None:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            ValueError: if the file is damaged or of another network.
        """
        try:
            saved = torch.load(path, map_location=device, weights_only=True)
            for name in self.PARTS:
                getattr(self, name).load_state_dict(saved[name])
            self.images_seen, self.seconds = int(saved["images_seen"]), float(saved["seconds"])
        except Exception as error:  # torch.load raises whatever the damage happens to cause
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"cannot resume from {path}: {reason}; remove it to start anew") from error


def start(config: TrainingConfig, dataset: ImageDataset, outdir: Path, device: torch.device) -> TrainingState:
    """A new run's state, or that of the run in `outdir`.

    Raises:
        ValueError: if the run in `outdir` has other settings, or `config.transfer` names a network of another shape.
    """
    torch.manual_seed(config.seed)
    net = PRECONDS[config.precond](
        img_resolution=dataset.resolution,
        img_channels=dataset.num_channels,
        label_dim=dataset.label_dim,
        **config.network,
    )
    if config.transfer is not None and not (outdir / STATE_FILE).exists():
        _transfer(config.transfer, net)
    net = net.to(device).train()
    if device.type == "cuda":
        net.channels_last()
    net.dtype = None if config.dtype == "float16" else getattr(torch, config.dtype)  # None: as use_fp16 says
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8)
    state = TrainingState(net, ema, optimizer)
    resume(config, state, outdir, device)
    return state


def resume(config: TrainingConfig, state: TrainingState, outdir: Path, device: torch.device) -> None:
    """Take over the state of the run in `outdir`, if there is one, and record the settings there.

    Raises:
        ValueError: if the run in `outdir` has other settings, or its state is damaged.
    """
    settings = json.loads(json.dumps(asdict(config)))
    if (outdir / CONFIG_FILE).exists():
        defaults = {f.name: f.default for f in fields(config)}  # of settings that are newer than the run
        _check_same(defaults | json.loads((outdir / CONFIG_FILE).read_text()), settings, outdir)
    if (outdir / STATE_FILE).exists():
        state.load(outdir / STATE_FILE, device)
    distributed.barrier()  # no rank may write before all have looked
    if distributed.rank() == 0:
        remove_partial_files(outdir)
        write_json(outdir / CONFIG_FILE, settings)


def _transfer(source: str, net: Precond) -> None:
    """Copy all weights but those of label layers that the two networks do not share, which stay as they are."""
    first = net.state_dict()
    theirs = {name: value for name, value in load_network(source).state_dict().items() if name.startswith("model.")}
    labels = {name for name in first.keys() | theirs.keys() if name.startswith(LABEL_LAYERS)}
    own = {n for n in labels & first.keys() if n not in theirs or theirs[n].shape != first[n].shape}
    weights = {n: value for n, value in theirs.items() if n in first or n not in labels} | {n: first[n] for n in own}
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
            raise ValueError(
                f"{outdir} was trained with {key}={old.get(key)!r}, now {new.get(key)!r}; use another --outdir"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of the network and of the loss beside the others."""
    inner = {k: v for value in settings.values() if isinstance(value, dict) for k, v in value.items()}
    return {k: v for k, v in settings.items() if not isinstance(v, dict)} | inner
