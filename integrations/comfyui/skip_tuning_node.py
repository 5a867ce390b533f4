"""Skip-Tuning as a node of ComfyUI: copy this one file into ComfyUI/custom_nodes and restart.

Method: Skip-Tuning, section 3, https://arxiv.org/abs/2402.15170. The file stands alone, since a custom node brings
nothing else along; rho of a layer is that of skip/scale.py, which a test compares.
"""

from typing import Any

from torch import Tensor

SPACINGS = ("paper", "one-based", "inclusive")
HIGHEST = 10000.0  # above every noise level: Stable Diffusion begins at 14.6, with zero terminal SNR near 4500


class SkipTuning:
    r"""Multiply the long skips of a Stable Diffusion U-Net by rho, from the deepest output block to the top one.

    hidden <- block_i(cat([hidden, rho_i * skip_i])),   rho_i = bottom + (top - bottom) * position_i,   i = 0 .. k-1
        paper       position_i = i / k        (as the paper writes it: the top block stays below `top`)
        one-based   position_i = (i + 1) / k
        inclusive   position_i = i / (k - 1)
    where sigma_low < sigma <= sigma_high, and nothing elsewhere. k is 12 in SD 1.5 and SD 2, 9 in SDXL.

    The patcher's output-block patch does it, as it does FreeU's: both may be in one graph, in any order, and two
    Skip-Tuning nodes multiply. ControlNet's residuals are scaled with the skips they are added to.
    """

    CATEGORY = "model_patches/unet"
    DESCRIPTION = (
        "Multiplies the long skip connections of the U-Net by a factor from rho_bottom (deepest) to "
        "rho_top. Below 1, few sampling steps give better images (arXiv 2402.15170)."
    )
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        rho = {"min": 0.0, "max": 2.0, "step": 0.01, "round": 0.001}
        sigma = {"min": 0.0, "max": HIGHEST, "step": 0.01, "round": 0.0001}
        bottom = {"default": 0.9, "tooltip": "Factor on the deepest long skip; 1 changes nothing."}
        top = {"default": 1.0, "tooltip": "What the factors approach towards the top."}
        spacing = {"tooltip": "paper: the top block stays below rho_top; inclusive: it reaches it."}
        low = {"default": 0.0, "tooltip": "Acts only above this noise level."}
        high = {"default": HIGHEST, "tooltip": "Acts only up to this noise level."}
        return {
            "required": {
                "model": ("MODEL",),
                "rho_bottom": ("FLOAT", rho | bottom),
                "rho_top": ("FLOAT", rho | top),
                "spacing": (list(SPACINGS), spacing),
                "sigma_low": ("FLOAT", sigma | low),
                "sigma_high": ("FLOAT", sigma | high),
            }
        }

    def patch(
        self,
        model: Any,
        rho_bottom: float,
        rho_top: float,
        spacing: str,
        sigma_low: float,
        sigma_high: float,
    ) -> tuple[Any]:
        """A clone of the model with its long skips tuned; the model itself stays as it is.

        Raises:
            ValueError: if the model is no U-Net with output blocks, a spacing is unknown, or the window is empty.
        """
        blocks = getattr(model.get_model_object("diffusion_model"), "output_blocks", None)
        if not blocks:
            raise ValueError(
                "Skip-Tuning: this model has no output blocks with long skips; SD 1.5, SD 2 and SDXL have"
            )
        if not 0 <= sigma_low < sigma_high:
            raise ValueError(
                f"Skip-Tuning: sigma_low {sigma_low:g}, sigma_high {sigma_high:g}; need 0 <= low < high"
            )
        factors = rho_of_blocks(rho_bottom, rho_top, spacing, len(blocks))
        everywhere = sigma_low == 0 and sigma_high >= HIGHEST

        def scale_skip(
            hidden: Tensor, skip: Tensor, transformer_options: dict[str, Any]
        ) -> tuple[Tensor, Tensor]:
            _, index = transformer_options["block"]  # ("output", i)
            rho = factors[index]
            if everywhere:
                return hidden, skip * rho

            # One level a step for the whole batch. It stays on its device: a GPU need not be waited for.
            sigma = transformer_options["sigmas"].flatten()[0]
            inside = (sigma > sigma_low) & (sigma <= sigma_high)
            return hidden, skip * (1 + (rho - 1) * inside).to(skip.device, skip.dtype)

        patched = model.clone()
        if any(rho != 1 for rho in factors):
            patched.set_model_output_block_patch(scale_skip)
        return (patched,)


def rho_of_blocks(bottom: float, top: float, spacing: str, count: int) -> list[float]:
    """rho of each output block, deepest first, by the formula of `SkipTuning`.

    Raises:
        ValueError: if the spacing is unknown.
    """
    if spacing not in SPACINGS:
        raise ValueError(
            f"Skip-Tuning: unknown spacing {spacing!r}; choose from {', '.join(SPACINGS)}"
        )
    first = 1 if spacing == "one-based" else 0
    parts = max(count - 1, 1) if spacing == "inclusive" else count
    return [bottom + (top - bottom) * (first + i) / parts for i in range(count)]


NODE_CLASS_MAPPINGS = {"SkipTuning": SkipTuning}
NODE_DISPLAY_NAME_MAPPINGS = {"SkipTuning": "Skip-Tuning"}
