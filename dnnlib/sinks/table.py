"""The sinks that there are."""

from dnnlib.sinks.sink import Kind
from dnnlib.sinks.tensorboard import TENSORBOARD
from dnnlib.sinks.trackio import TRACKIO
from dnnlib.sinks.wandb import WANDB

SINKS: dict[str, Kind] = {"tensorboard": TENSORBOARD, "wandb": WANDB, "trackio": TRACKIO}
