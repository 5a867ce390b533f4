"""How training goes: a progress bar on stderr and one line a tick in stats.jsonl."""

import errno
import os
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from dnnlib.files import atomic_write
from dnnlib.json_files import json_line, read_json_lines
from dnnlib.sinks.mirror import Mirror
from torch_utils import distributed
from training.run.config import TrainingConfig, crossed
from training.run.entries import STATS_FILE
from training.run.state import TrainingState


class Reporter:
    """Reports on rank 0, within its block: each line has the mean loss of the steps since the last one.

    Args:
        config: the run's settings.
        outdir: where stats.jsonl is; lines of a killed session beyond its last state are dropped.
        state: of the run, read and counted in at each step.
        mirror: brought up to date after each line.
    """

    def __init__(
        self, config: TrainingConfig, outdir: Path, state: TrainingState, mirror: Mirror
    ) -> None:
        self.config, self.state, self.path = config, state, outdir / STATS_FILE
        self.mirror = mirror
        self.quiet = distributed.rank() != 0
        self.began = time.monotonic() - state.seconds
        self._new_tick()
        self.bar = tqdm(
            total=config.duration,
            initial=state.images_seen,
            unit="img",
            unit_scale=True,
            disable=self.quiet,
        )

    def __enter__(self) -> "Reporter":
        if not self.quiet and self.path.exists():
            lines = [
                x
                for x in read_json_lines(self.path)
                if x.get("images", 0) <= self.state.images_seen
            ]
            with atomic_write(self.path) as file:
                file.write("".join(map(json_line, lines)).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def _new_tick(self) -> None:
        self.tick_images, self.tick_began = self.state.images_seen, time.monotonic()

    def step(self, loss: float, done: bool) -> None:
        """Count one step with its mean loss over the ranks."""
        state = self.state
        state.seconds = time.monotonic() - self.began
        state.loss_sum += loss
        state.loss_steps += 1
        self.bar.update(self.config.batch)
        if not done and not crossed(state.images_seen, self.config.batch, self.config.tick):
            return

        mean = state.loss_sum / state.loss_steps
        line = {
            "images": state.images_seen,
            "loss": round(mean, 6),
            "lr": self.config.learning_rate(state.images_seen),
            "images_per_second": round(
                (state.images_seen - self.tick_images) / (time.monotonic() - self.tick_began), 1
            ),
            "seconds": round(state.seconds, 1),
        }
        if not self.quiet:
            self.bar.set_postfix(loss=f"{mean:.4f}")
            _append(self.path, line)
            self.mirror.update()

        state.loss_sum, state.loss_steps = 0.0, 0
        self._new_tick()


def _append(path: Path, line: dict[str, float]) -> None:
    """Add a line to a file, whole or not at all; OSError names the file."""
    try:
        with open(path, "ab", buffering=0) as file:
            length = file.tell()
            data = json_line(line).encode()
            if file.write(data) != len(data):
                file.truncate(length)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
