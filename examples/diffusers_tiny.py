"""Skip-Tuning in a diffusers pipeline: a tiny random U-Net, so it runs offline in seconds and shows the calls only.

    pip install diffusers
    python examples/diffusers_tiny.py

With real weights nothing changes but the pipeline: `skip.apply(pipe.unet, SkipScale(bottom=0.9))`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import skip
from skip.scale import SkipScale


def tiny_pipeline() -> DDIMPipeline:
    """An untrained pipeline of 16x16 images."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    pipe = DDIMPipeline(unet.eval(), DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    """Sample plain, Skip-Tuned, tuned at middle noise levels only, and plain again."""
    pipe = tiny_pipeline()

    def images() -> np.ndarray:
        random = torch.Generator().manual_seed(1)
        return pipe(batch_size=2, generator=random, num_inference_steps=5, output_type="np").images

    plain = images()
    with skip.apply(pipe.unet, SkipScale(bottom=0.8, top=1.0)) as applied:
        tuned = images()
        print(
            f"{applied.num_skips} long skips, rho {applied.scale.per_layer(applied.num_skips).tolist()}"
        )
    with skip.apply(pipe.unet, SkipScale(bottom=0.8, window=(0.1, 10.0)), scheduler=pipe.scheduler):
        windowed = images()
    for name, changed in (("tuned", tuned), ("tuned in the window", windowed)):
        print(f"{name}: a pixel changes by {abs(changed - plain).mean():.4f} of 1")
    print(f"after removal bitwise the plain images: {np.array_equal(images(), plain)}")


if __name__ == "__main__":
    main()
