"""The loop of fine-tuning: any parameters, a loss for each image; a killed run goes on and ends the same.

Everything random about an image is a function of the run's seed and of the image's position in it. So neither the
number of ranks nor where a run was killed changes anything but the order in which gradients are added up.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.claims import claim_file
from dnnlib.numbers import check_positive
from dnnlib.text import printable
from sampling.noise import SeedNoise
from skip.scale import SkipScale
from skip.studies.inputs import RealImages
from skip.studies.score_matching import WEIGHTINGS, draw_sigma
from skip.tuned import SkipTuned
from torch_utils import distributed
from torch_utils.weights import check_like, read_saved, write_saved
from training.dataset import InfiniteSampler
from training.precond import Precond
from training.run.loop import repeat
from training.run.optimizer import adam, sum_over_ranks, take_moments
from training.run.state import saved_number
from training.run.watch import check_tensors

PRELOAD_BYTES = 2**30
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class FineTuning:
    """What determines a run, but for its length, which is counted in images.

    The optimiser is Adam (0.9, 0.999) with a constant learning rate. The network stays in eval mode, hence without
    dropout: the loss is that of the network as it samples. Noise levels are drawn as in EDM's training.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        data: data set zip or folder.
        detector: the feature network f; a name in configs/detectors.toml, a path or a URL.
        batch: images a step over all ranks.
        lr: learning rate.
        seed: of order, noise levels and noise.
        weighting: of noise levels, see `skip.studies.score_matching.losses`.
        dtype: of the network's computation; its weights stay float32.
    Raises:
        ValueError: if a choice is unknown or a number out of range.
    """

    network: str
    data: str
    detector: str
    batch: int = 32
    lr: float = 0.01
    seed: int = 0
    weighting: str = "edm"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; it must be at least 1")
        check_positive("lr", self.lr)
        if self.weighting not in WEIGHTINGS:
            raise ValueError(
                f"unknown weighting {self.weighting!r}; choose from {', '.join(WEIGHTINGS)}"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; choose from {', '.join(DTYPES)}")

    def check_length(self, name: str, images: int) -> None:
        """Refuse a number of images that is not one of whole steps.

        Raises:
            ValueError: naming it.
        """
        if images < 1 or images % self.batch:
            raise ValueError(
                f"{name} is {images}; it must be a positive multiple of the batch, {self.batch}"
            )


class Examples(NamedTuple):
    """Images x [N, C, H, W] in [-1, 1], one-hot classes [N, L] or None, noise levels [N] and noise n like x."""

    images: Tensor
    labels: Tensor | None
    sigma: Tensor
    noise: Tensor


Losses = Callable[[Examples], Tensor]  # -> [N], with gradients


@dataclass
class Run:
    """The moving parts of a run.

    Args:
        settings: what determines it, as JSON; a state of other settings is refused.
        parameters: leaves that require gradients; changed in place.
        lr: Adam's learning rate.
        also: further tensors that belong to the state, such as averaged weights.
    Attributes:
        images_seen: over all ranks and sessions.
        history: float64 [steps, 1 + ...]: of each step the mean loss, then whatever `fit` watches.
        kept: whether something was saved since the first state.
    """

    settings: dict[str, object]
    parameters: Sequence[Tensor]
    lr: float
    also: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        self.optimizer = adam(self.parameters, self.lr)
        self.images_seen, self.kept = 0, False
        self.history: list[Tensor] = []

    def check(self, device: torch.device) -> None:
        """Refuse to save what a run cannot go on from; every rank calls it.

        Raises:
            RuntimeError: if a part holds NaN or infinity on one of the ranks.
        """
        moments = [value for one in self.optimizer.state.values() for value in one.values()]
        parts = {
            "parameters": list(self.parameters),
            "what is kept beside the parameters": list(self.also),
        }
        check_tensors(parts | {"optimizer": moments}, device)

    def save(self, path: Path) -> None:
        """Write plain tensors and numbers, atomically; on rank 0."""
        if distributed.rank() != 0:
            return
        saved = {
            "settings": json.dumps(self.settings, sort_keys=True),
            "images_seen": self.images_seen,
            "parameters": [value.detach() for value in self.parameters],
            "also": list(self.also),
            "optimizer": self.optimizer.state_dict(),
            "history": torch.stack(self.history)
            if self.history
            else torch.zeros(0, 1, dtype=torch.float64),
        }
        write_saved(path, saved)

    @torch.no_grad()
    def load(self, path: Path, device: torch.device) -> None:
        """Go on where the run of `path` was saved, if there is one; nothing in the file is executed.

        Raises:
            ValueError: if the file is damaged, or the run had other settings.
        """
        found = path.exists()
        distributed.barrier()  # every rank has looked before one writes
        if not found:
            return
        try:
            saved = read_saved(path, device)
            settings = json.loads(saved["settings"])
            if not isinstance(settings, dict):
                raise ValueError("what it records as the settings is no object")
            if settings == self.settings:
                self._take(saved)
        except Exception as error:  # damage can show in any way
            raise ValueError(
                f"cannot resume from {path}: {printable(error)}; remove it to start anew"
            ) from error
        for name in sorted(settings.keys() | self.settings.keys()):
            a, b = settings.get(name), self.settings.get(name)
            if a != b:
                before = printable(f"{name}={a!r}")
                raise ValueError(
                    f"{path} is of a run with {before}, now {b!r}; choose another place or remove it"
                )

    def _take(self, saved: dict[str, Any]) -> None:
        """Go on from what `save` wrote; errors as of `load`."""
        for mine, theirs in ((self.parameters, saved["parameters"]), (self.also, saved["also"])):
            own = {str(index): value for index, value in enumerate(mine)}
            found = {str(index): value for index, value in enumerate(theirs)}
            check_like(found, own)
            for name, value in own.items():
                value.copy_(found[name])
        take_moments(self.optimizer, saved["optimizer"])
        self.images_seen = saved_number("images_seen", saved["images_seen"], int)
        history = saved["history"]
        if history.ndim != 2 or history.dtype != torch.float64 or not history.isfinite().all():
            raise ValueError("its history is no table of numbers")
        self.history = list(history.cpu())


@dataclass(frozen=True)
class Hooks:
    """What else happens on the way, on every rank.

    Attributes:
        after_step: called after each step; returns what to record of it, float64 [...] on the CPU, or None.
        on_snapshot: called with the images seen where they are a multiple of the interval, and at the end, before the
            state is saved: if the run is killed meanwhile, it is called again.
    """

    after_step: Callable[[], Tensor | None] = lambda: None
    on_snapshot: Callable[[int], None] = lambda images: None


def fit(
    run: Run,
    loss: Losses,
    real: RealImages,
    settings: FineTuning,
    until: int,
    every: int,
    saved: Path,
    device: torch.device,
    batch_gpu: int | None = None,
    hooks: Hooks | None = None,
) -> None:
    """Adam on the mean of a loss over images, noise levels and noise.

    Args:
        run: where it stands; changed in place.
        loss: of each of this rank's examples.
        real: the images.
        settings: of the run.
        until: images to see in all; a run that has seen more stays as it is.
        every: images between two saved states; the end is saved too, and what would be ten minutes without.
        saved: the file of the state, from which a killed run goes on.
        device: of this rank.
        batch_gpu: most images a rank holds at once; the rest of its share is accumulated. None: all at once.
        hooks: called on the way.
    Raises:
        ValueError: if a length is not one of whole steps, the batch cannot be shared out, or the state does not fit.
        RuntimeError: if a loss, or what would be saved, is not finite, or another run writes the state; what was saved
            before is untouched.
        Stopped: at a signal, on every rank.
    """
    settings.check_length("the length", until)
    settings.check_length("the interval", every)
    ranks = distributed.world_size()
    if settings.batch % ranks:
        raise ValueError(
            f"a batch of {settings.batch} cannot be shared by {ranks} ranks; choose a multiple of {ranks}"
        )
    if batch_gpu is not None and batch_gpu < 1:
        raise ValueError(f"batch_gpu is {batch_gpu}; it must be at least 1")

    with _alone(saved):
        is_new = not saved.exists()
        run.load(saved, device)
        try:
            if not run.history:
                run.save(saved)  # from here on a missing state means that it was removed

            batches = _examples(real, settings, run.images_seen, until, device)
            fitting = _Fit(run, loss, batches, settings.batch, batch_gpu, hooks or Hooks())
            with tqdm(
                total=until, initial=run.images_seen, unit="img", disable=distributed.rank() != 0
            ) as bar:
                repeat(
                    fitting.step, run, until, settings.batch, every, device,
                    report=lambda loss, done: fitting.report(bar),
                    keep=lambda snapshot: fitting.keep(saved, snapshot, device),
                )  # fmt: skip
        except Exception:
            if is_new and not run.kept and distributed.rank() == 0:
                # It got nowhere: other settings can be tried in the same place.
                saved.unlink(missing_ok=True)
            raise
        distributed.barrier()  # what rank 0 wrote is there


class _Fit:
    """A run on its way: its steps, what is recorded of each, and what is kept."""

    def __init__(
        self,
        run: Run,
        loss: Losses,
        batches: Iterator[Examples],
        batch: int,
        batch_gpu: int | None,
        hooks: Hooks,
    ) -> None:
        self.run = run
        self.loss = loss
        self.batches = batches
        self.batch = batch
        self.batch_gpu = batch_gpu
        self.hooks = hooks

    def step(self) -> Tensor:
        self.examples = next(self.batches)
        # Of all ranks.
        self.mean = step(self.run, self.loss, self.examples, self.batch, self.batch_gpu)
        return self.mean / distributed.world_size()

    def report(self, bar: tqdm) -> None:
        found = self.hooks.after_step()
        self.run.history.append(self.mean if found is None else torch.cat([self.mean, found]))
        bar.set_postfix(loss=f"{float(self.mean):.4g}", refresh=False)
        bar.update(self.batch)

    def keep(self, saved: Path, snapshot: bool, device: torch.device) -> None:
        self.run.check(device)
        # Without, layers would keep packed copies of weights that soon change.
        with torch.enable_grad():
            # Finite, and yet too large?
            after_step = self.loss(_rows(self.examples, slice(self.batch_gpu))).detach()
        check_tensors({"the loss with what would be saved": [after_step]}, device)
        self.run.kept = True
        if snapshot:
            self.hooks.on_snapshot(self.run.images_seen)
        self.run.save(saved)


@contextlib.contextmanager
def _alone(saved: Path) -> Iterator[None]:
    with claim_file(saved) if distributed.rank() == 0 else contextlib.nullcontext():
        distributed.require_shared(saved.parent)  # no rank begins before
        yield


def step(
    run: Run, loss: Losses, examples: Examples, batch: int, batch_gpu: int | None = None
) -> Tensor:
    """One step of Adam, on the sum of the ranks' losses over `batch`; returns that mean, float64 [1] on the CPU."""
    run.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros(1, dtype=torch.float64, device=examples.images.device)
    with torch.inference_mode(False), torch.enable_grad():
        share = len(examples.images)
        for first in range(0, share, batch_gpu or share):
            rows = slice(first, first + (batch_gpu or share))
            losses = loss(_rows(examples, rows))
            losses.sum().div(batch).backward()
            total += losses.detach().sum() / batch
    sum_over_ranks([one.grad for one in run.parameters if one.grad is not None])
    run.optimizer.step()
    return distributed.all_reduce_sum(total).cpu()


def _rows(examples: Examples, rows: slice) -> Examples:
    return Examples(*(None if part is None else part[rows] for part in examples))  # type: ignore[arg-type]


def real_images(settings: FineTuning, net: Precond) -> RealImages:
    """The images to train on, decoded once if they are few.

    Raises:
        FileNotFoundError, ValueError: if they do not fit the network.
    """
    real = RealImages(settings.data, SkipTuned(net, SkipScale()), 1)
    if real.data.nbytes <= PRELOAD_BYTES:
        real.data.to_tensor()
    return real


def example_seeds(seed: int, positions: Sequence[int]) -> list[int]:
    """A seed below 2^32 for the noise level and the noise of each position of a run."""
    return [int(np.random.SeedSequence([seed % 2**32, p]).generate_state(1)[0]) for p in positions]


def _examples(
    real: RealImages, settings: FineTuning, start: int, until: int, device: torch.device
) -> Iterator[Examples]:
    """This rank's share of each batch: of positions p = start + rank, start + rank + ranks, ..."""
    rank, ranks = distributed.rank(), distributed.world_size()
    order = iter(InfiniteSampler(len(real.data), rank, ranks, seed=settings.seed, start=start))
    for first in range(start, until, settings.batch):
        seeds = example_seeds(settings.seed, range(first + rank, first + settings.batch, ranks))
        images, labels = real.batch(list(itertools.islice(order, len(seeds))), device)
        noise = SeedNoise(seeds).randn(list(images.shape)).to(device)
        yield Examples(images, labels, draw_sigma(seeds).to(device), noise)


def as_json(settings: FineTuning, **more: object) -> dict[str, object]:
    """The settings and more, as a state holds them."""
    return json.loads(json.dumps(asdict(settings) | more))
