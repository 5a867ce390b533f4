"""Skip-Tuning (https://arxiv.org/abs/2402.15170, ICML 2024), and what the paper does with it.

`skip.apply(pipe.unet, skip.SkipScale(...))` tunes a diffusers U-Net, and `skip.tune_pipeline` finds the coefficients
that suit a pipeline. They are plain imports: none needs diffusers.
"""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from skip.diffusers import apply
from skip.diffusers.tune import tune_pipeline
from skip.scale import SkipScale

__all__ = ["SkipScale", "apply", "tune_pipeline"]
