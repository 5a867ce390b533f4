"""What can be chosen of networks and their training: quick to import, as torch is not."""

from typing import Literal

# What in a decoder block sees the scaled skip: the block, or a part of it.
SkipTarget = Literal["full", "shortcut", "norm_input", "norm_output"]
