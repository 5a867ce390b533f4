"""How training goes: a progress bar on stderr and one line a tick in stats.jsonl."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.files import atomic_write, read_json_lines
from torch_utils import distributed
from training.training_config import TrainingConfig, crossed
from training.training_state import TrainingState

STATS_FILE = "stats.jsonl"


class Reporter:
    """Reports on rank 0; the loss is the mean over ranks and over the steps since the last line.

    Args:
        config: the run's settings.
        outdir: where stats.jsonl is; lines of a killed session beyond its last state are dropped.
        state: of the run, read at each step.
        device: where the loss is.
    """

    def __init__(self, config: TrainingConfig, outdir: Path, state: TrainingState, device: torch.device) -> None:
        self.config, self.state, self.path = config, state, outdir / STATS_FILE
        self.quiet = distributed.rank() != 0
        self.began = time.monotonic() - state.seconds
        self._new_tick(device)
        self.bar = tqdm(
            total=config.duration, initial=state.images_seen, unit="img", unit_scale=True, disable=self.quiet
        )
        if not self.quiet and self.path.exists():
            lines = [x for x in read_json_lines(self.path) if x["images"] <= state.images_seen]
            with atomic_write(self.path) as file:
                file.write("".join(json.dumps(x) + "\n" for x in lines).encode())

    def _new_tick(self, device: torch.device) -> None:
        self.sum, self.steps, self.tick_began = torch.zeros([], device=device), 0, time.monotonic()

    def seconds(self) -> float:
        """Training time so far, earlier sessions included."""
        return time.monotonic() - self.began

    def step(self, loss: Tensor, done: bool) -> None:
        """Count one step with this rank's mean loss."""
        self.sum += loss
        self.steps += 1
        self.bar.update(self.config.batch)
        if not done and not crossed(self.state.images_seen, self.config.batch, self.config.tick):
            return
        images = self.steps * self.config.batch
        mean = float(distributed.all_reduce_sum(self.sum / self.steps)) / distributed.world_size()
        line = {
            "images": self.state.images_seen,
            "loss": round(mean, 6),
            "lr": self.config.learning_rate(self.state.images_seen),
            "images_per_second": round(images / (time.monotonic() - self.tick_began), 1),
            "seconds": round(self.seconds(), 1),
        }
        if not self.quiet:
            self.bar.set_postfix(loss=f"{mean:.4f}")
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        self._new_tick(self.sum.device)

    def close(self) -> None:
        """End the progress bar."""
        self.bar.close()
