"""What can be chosen of a Skip-Tuned network and its images: quick to import, as torch is not."""

from typing import Literal

BATCH = 64
LEAST_BATCH, MOST_BATCH = 16, 256
DTYPES = ("float32", "float16", "bfloat16")  # torch's names

# How rho changes over layers and noise levels, see skip.scale.SkipScale.
Spacing = Literal["paper", "one-based", "inclusive"]
Time = Literal["constant", "increasing", "decreasing"]
Axis = Literal["edm", "sigma", "log-sigma", "time"]

# Of noise levels, in score matching -> MODULE:NAME, of a module of skip/studies.
WEIGHTINGS = {"edm": "score_matching:weight", "one": "score_matching:one"}
