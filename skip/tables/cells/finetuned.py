"""Images of a network that was fine-tuned first: its skip coefficients, or all of its weights."""

import contextlib
from dataclasses import dataclass, replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from dnnlib.claims import FOREVER, locked
from dnnlib.places import located
from dnnlib.util import file_sha256
from metrics.detector import load_detector
from skip.evidence.estimate import Estimate
from skip.finetune.objectives import FittedRho, tune_network, tune_rho
from skip.finetune.settings import FineTuning, as_json
from skip.scale_file import save_scale
from skip.tables.cells.generated import Images
from skip.tables.cells.settings import Job
from torch_utils import distributed
from torch_utils.precision import computed_in
from training.run.snapshots import snapshot_name
from training.storage import describe

Trained = Literal["nothing", "free rho", "bounded rho", "all weights"]
LEARNING_RATES: dict[Trained, float] = {"free rho": 0.01, "bounded rho": 0.1, "all weights": 1e-5}


@dataclass(frozen=True, kw_only=True)
class FineTuned(Images):
    """Metrics after fine-tuning on score matching in feature space.

    Args:
        trained: "nothing" measures the network with the coefficients that `rho` says; "free rho" and "bounded rho"
            (rho in (0, 1)) take those that were trained; "all weights" trains the network, and `rho` is applied to it.
        train_images: length of the training in images; 0 with "nothing".
        train_every: between snapshots, of "all weights". Cells that differ in train_images alone share one run.
        train_lr: of Adam; None: 0.01 for free rho, 0.1 for bounded rho (d rho = 0.05 d theta at 0.95), 1e-5 for all
            weights.
        train_batch, train_seed: images of a step, and of which random numbers.
        train_weighting, train_dtype: weight of the noise levels, "edm" or "one", and what the network computes in.
        train_detector: its feature network; None is that of the metric.
        train_factor: of the feature loss, of "all weights".
        train_ema: half-life of the averaged weights, in images; 0 averages none.
        train_start: rho at the beginning, of "free rho" and "bounded rho".
    """

    trained: Trained = "nothing"
    train_images: int = 0
    train_every: int | None = None
    train_batch: int = 64
    train_lr: float | None = None
    train_seed: int = 0
    train_weighting: str = "edm"
    train_detector: str | None = None
    train_dtype: str = "float32"
    train_factor: float = 1.0
    train_ema: int = 0
    train_start: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained not in get_args(Trained):
            raise ValueError(
                f"unknown trained {self.trained!r}; choose from {', '.join(get_args(Trained))}"
            )
        if (self.trained == "nothing") != (self.train_images == 0):
            raise ValueError(
                f"trained is {self.trained!r} and train_images {self.train_images}; these do not fit"
            )
        if self.trained != "nothing":
            self._check_training()

    def _check_training(self) -> None:
        if self.trained.endswith("rho") and self.scale.bottom != 1:
            raise ValueError(
                f"rho is {self.scale.bottom}, but it is trained: leave it out, or say train_start"
            )

        # Snapshots are written after whole batches, and the last one is what is measured.
        settings = self.settings()
        settings.check_length("train_images", self.train_images)
        if self.train_every is not None:
            settings.check_length("train_every", self.train_every)
            if self.train_images % self.train_every:
                raise ValueError(
                    f"train_images is {self.train_images}; it must be a multiple of {self.train_every}"
                )

    def settings(self) -> FineTuning:
        """The training.

        Raises:
            ValueError: if there are no real images to train on.
        """
        if self.data is None:
            raise ValueError("fine-tuning needs the real images: name them as data")
        lr = self.train_lr
        if lr is None:
            lr = LEARNING_RATES[self.trained]
        return FineTuning(
            self.network, self.data, self.train_detector or self.detector, self.train_batch, lr,
            self.train_seed, self.train_weighting, self.train_dtype,
        )  # fmt: skip

    def evaluations(self) -> int:
        """Those of the images, and three for each image of the training, as if no other cell shared it."""
        return super().evaluations() + 3 * self.train_images

    def sources(self) -> dict[str, str]:
        """Those of the images and, where something is trained, the images and the feature network that train it."""
        if self.trained == "nothing" or self.data is None:
            return super().sources()
        found = super().sources() | {"data": self.data}
        if self.train_detector:
            found["detector training"] = self.train_detector
        return found

    def run(self, job: Job) -> dict[str, Estimate]:
        """The metrics; and rho_mean, rho_min, rho_max and rho[i], unless all weights are trained.

        The error of a trained rho is its standard deviation over the last quarter of the steps: how much the optimiser
        still moves it. Trained coefficients go to rho/<result>.json beside the result, for generate.py --rho-layers.
        """
        source = self.source()
        if self.trained == "all weights":
            return self.measure(job, replace(source, network=str(self._network(job))))

        if self.trained == "nothing":
            k = job.load(source).net.num_skips
            values, errors = source.scale.per_layer(k), torch.zeros(k, dtype=torch.float64)
        else:
            fitted = self._fitted(job)
            source = replace(source, scale=fitted.scale)
            values, errors = fitted.path[-1], _spread(fitted.path)

        found = self.measure(replace(job, folder=job.folder / "images"), source)
        return found | _coefficients(values, errors) if found else {}

    def _fitted(self, job: Job) -> FittedRho:
        """Train the skip coefficients, and write them beside the result."""
        fitted = tune_rho(
            self.settings(),
            self.train_images,
            job.folder / "training.state",
            job.device,
            self.trained == "bounded rho",
            self.train_start,
            job.batch,
        )
        if distributed.rank() == 0:
            path = job.result.parent / "rho" / f"{job.result.name}.json"
            about = {"trained": self.trained, "images": self.train_images}
            save_scale(path, fitted.scale, self.skip_method, **as_json(self.settings()), **about)
        return fitted

    def _network(self, job: Job) -> Path:
        """The snapshot of train_images; its run is in a folder of its own, from which longer ones go on.

        Raises:
            ValueError, RuntimeError: as `skip.finetune.objectives.tune_network`.
        """
        every = self.train_every or self.train_images
        folder = self._folder_of_the_run(job, every)
        path = folder / snapshot_name(self.train_images)
        folder.mkdir(parents=True, exist_ok=True)

        # Two cells of one run, started side by side: one waits for the other.
        alone = (
            locked(folder / "lock", FOREVER)
            if distributed.rank() == 0
            else contextlib.nullcontext()
        )
        with alone:
            if not all(distributed.as_rank_0_says([path.exists()])):
                tune_network(
                    self.settings(),
                    self.train_images,
                    every,
                    folder,
                    job.device,
                    self.train_factor,
                    self.train_ema,
                    job.batch,
                )
        distributed.wait_for(path.exists)
        return path

    def _folder_of_the_run(self, job: Job, every: int) -> Path:
        """Named by everything that the run depends on, but its length."""
        settings = self.settings()
        hashes = [describe(self.network)["sha256"], load_detector(settings.detector, "cpu").sha256]
        data = located(settings.data)
        if data.is_file():
            hashes.append(file_sha256(data))
        if job.device.type != "cpu":
            hashes.append(dumps(computed_in(job.device), sort_keys=True))

        told = as_json(
            settings, hashes=hashes, every=every, factor=self.train_factor, ema=self.train_ema
        )
        name = sha256(dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        return job.folder.parent / f"training-{name}"


def _spread(path: Tensor) -> Tensor:
    """Standard deviation of each coefficient over the last quarter of [steps, k]; 0 where that is one step."""
    return path[-max(len(path) // 4, 1) :].std(0, correction=0)


def _coefficients(rho: Tensor, errors: Tensor) -> dict[str, Estimate]:
    """Mean, least and greatest coefficient, and each of them, with the errors of those that they are."""
    least, most = int(rho.argmin()), int(rho.argmax())
    found = {
        "rho_mean": Estimate.plain(float(rho.mean())),
        "rho_min": Estimate.plain(float(rho[least]), float(errors[least])),
        "rho_max": Estimate.plain(float(rho[most]), float(errors[most])),
    }
    pairs = zip(rho.tolist(), errors.tolist(), strict=True)
    return found | {
        f"rho[{i}]": Estimate.plain(value, error) for i, (value, error) in enumerate(pairs)
    }
