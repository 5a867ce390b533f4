"""What can be chosen of networks and their training: quick to import, as torch is not."""

from typing import Literal

# What in a decoder block sees the scaled skip: the block, or a part of it.
SkipTarget = Literal["full", "shortcut", "norm_input", "norm_output"]

# Of images, in consistency distillation -> MODULE:NAME, of a module of training/distillation.
DISTANCES = {"l2": "consistency:l2", "huber": "consistency:pseudo_huber"}
