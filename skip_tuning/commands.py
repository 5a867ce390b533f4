"""The programs by the names that follow `skip-tuning`; nothing is imported but the one that is asked for."""

import importlib
from typing import Any

from skip_tuning import part

NAME, VARIABLE = "skip-tuning", "_SKIP_TUNING_COMPLETE"  # and what a shell asks click by
COMMANDS = {  # what is typed -> its module, and what it does
    "demo": ("demo", "the bundled network, plain and Skip-Tuned, in one picture"),
    "explore": ("explore", "Skip-Tuning by sliders, in the browser"),
    "generate": ("generate", "images from a network, plain or Skip-Tuned"),
    "fid": ("fid", "FID and other metrics; statistics of real images"),
    "tables": ("tables", "the paper's tables and figures; the best rho of a network"),
    "train": ("train", "train a network"),
    "distill": ("distill", "train a one-step student"),
    "autoencoder": ("autoencoder", "train an autoencoder, make latents"),
    "dataset": ("dataset_tool", "make a data set from images"),
    "finetune": ("skip.finetune.__main__", "fine-tune rho, or a network with it"),
    "checkpoint": ("training.checkpoint", "list, show and convert networks"),
    "detector": (
        "metrics.demo_detector.__main__",
        "train a small feature network of your own images",
    ),
    "plot": ("training.plot", "the curve of a training"),
    "completion": ("skip_tuning.completion", "what makes a shell's TAB know all this"),
}


def program(name: str) -> Any:
    """The click command of a name in COMMANDS."""
    part("dnnlib.start")  # first, before all else
    module, _ = COMMANDS[name]
    if module.startswith("skip_tuning."):  # of this package, wherever the others are
        return importlib.import_module(module).main
    return part(module).main
