"""ComfyUI's node on a stand-in of the calls that it makes: ComfyUI is on no package registry."""

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skip.methods.freeu import FreeU
from skip.scale import SPACINGS, SkipScale

NODE = Path(__file__).resolve().parents[1] / "integrations/comfyui/skip_tuning_node.py"
ALWAYS = {"sigma_low": 0.0, "sigma_high": 10000.0}


def node_module() -> ModuleType:
    """The node's file as ComfyUI loads it: by its path, without this repository's folder."""
    spec = importlib.util.spec_from_file_location("skip_tuning_node", NODE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class UNet(nn.Module):
    """ComfyUI's U-Net as far as its skips go: patches come between ControlNet's residual and the concatenation."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.input_blocks = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(blocks))
        self.output_blocks = nn.ModuleList(nn.Conv2d(4, 2, 3, padding=1) for _ in range(blocks))

    def forward(
        self, x: Tensor, transformer_options: dict[str, Any], control: Tensor | None = None
    ) -> Tensor:
        skips = []
        for block in self.input_blocks:
            x = block(x).tanh()
            skips.append(x)
        for index, block in enumerate(self.output_blocks):
            transformer_options["block"] = ("output", index)
            skip = skips.pop()
            if control is not None:
                skip = skip + control
            for patch in transformer_options.get("patches", {}).get("output_block_patch", []):
                x, skip = patch(x, skip, transformer_options)
            x = block(torch.cat([x, skip], dim=1)).tanh()
        return x


class Patcher:
    """The three calls of ComfyUI's ModelPatcher that are used, and how its sampler hands the noise level on."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.transformer_options: dict[str, Any] = {}

    def clone(self) -> "Patcher":
        other = Patcher(self.model)
        other.transformer_options = copy.deepcopy(self.transformer_options)
        return other

    def get_model_object(self, name: str) -> Any:
        assert name == "diffusion_model"
        return self.model

    def set_model_output_block_patch(self, patch: Any) -> None:
        patches = self.transformer_options.setdefault("patches", {})
        patches["output_block_patch"] = [*patches.get("output_block_patch", []), patch]

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float = 1.0, control: Tensor | None = None) -> Tensor:
        options = self.transformer_options | {"sigmas": torch.tensor([sigma])}
        return self.model(x, options, control)


def tuned(model: Patcher, *, module: ModuleType | None = None, **inputs: Any) -> Patcher:
    """What the node makes of a model."""
    defaults = {"rho_bottom": 0.8, "rho_top": 1.0, "spacing": "paper"} | ALWAYS
    node = (module or node_module()).NODE_CLASS_MAPPINGS["SkipTuning"]
    (found,) = getattr(node(), node.FUNCTION)(model, **defaults | inputs)
    return found


def by_hand(model: Patcher, x: Tensor, rho: Tensor, control: Tensor | float = 0.0) -> Tensor:
    """The network's output with its skips multiplied outside of all patches."""
    skips = []
    with torch.no_grad():
        for block in model.model.input_blocks:
            x = block(x).tanh()
            skips.append(x)
        for block, factor in zip(model.model.output_blocks, rho, strict=True):
            x = block(torch.cat([x, (skips.pop() + control) * factor], dim=1)).tanh()
    return x


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 2, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1, 9, 12])
def test_rho_is_that_of_skip_scale(spacing: Any, count: int) -> None:
    ours = node_module().rho_of_blocks(0.7, 1.1, spacing, count)
    expected = SkipScale(0.7, 1.1, spacing=spacing).per_layer(count)
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), expected)
    assert node_module().SPACINGS == SPACINGS


@pytest.mark.parametrize("spacing", SPACINGS)
def test_skips_are_multiplied_deepest_first(images: Tensor, spacing: Any) -> None:
    model = Patcher(UNet())
    plain = model(images)
    patched = tuned(model, rho_bottom=0.5, rho_top=1.2, spacing=spacing)
    rho = SkipScale(0.5, 1.2, spacing=spacing).per_layer(4).to(torch.float32)
    torch.testing.assert_close(patched(images), by_hand(model, images, rho))
    assert torch.equal(model(images), plain)  # it was cloned


def test_rho_1_is_the_plain_model(images: Tensor) -> None:
    model = Patcher(UNet())
    patched = tuned(model, rho_bottom=1.0)
    assert patched is not model and patched.transformer_options == {}
    assert torch.equal(patched(images), model(images))


@pytest.mark.parametrize(
    ("sigma", "acts"), [(0.25, False), (0.26, True), (5.0, True), (5.1, False)]
)
def test_the_window_of_noise_levels(images: Tensor, sigma: float, acts: bool) -> None:
    model = Patcher(UNet())
    patched = tuned(model, sigma_low=0.25, sigma_high=5.0)
    rho = SkipScale(0.8, window=(0.25, 5.0))(4, torch.tensor(sigma))
    torch.testing.assert_close(patched(images, sigma), by_hand(model, images, rho))
    assert torch.equal(patched(images, sigma), model(images)) is not acts


def test_control_is_scaled_with_the_skip_it_is_added_to(images: Tensor) -> None:
    model = Patcher(UNet())
    rho = SkipScale(0.8).per_layer(4).to(torch.float32)
    found = tuned(model)(images, control=torch.tensor(0.5))
    torch.testing.assert_close(found, by_hand(model, images, rho, 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_so(images: Tensor, dtype: torch.dtype) -> None:
    model = Patcher(UNet().to(dtype))
    for window in ({}, {"sigma_low": 0.3}):
        assert tuned(model, **window)(images.to(dtype)).dtype == dtype


def test_beside_freeu_in_either_order_and_twice(images: Tensor) -> None:
    """FreeU's patch is linear in the skip, as its node's is, so that the order does not matter."""
    method = FreeU(b1=1.3, s1=0.5)

    def freeu(model: Patcher) -> Patcher:
        def patch(h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            return method.join(h, skip, options["block"][1], [0, 0, 1, 1], torch.tensor(1.0))

        patched = model.clone()
        patched.set_model_output_block_patch(patch)
        return patched

    model = Patcher(UNet())
    before, after = tuned(freeu(model))(images), freeu(tuned(model))(images)
    torch.testing.assert_close(before, after)
    assert not torch.allclose(before, tuned(model)(images), atol=1e-3)

    rho = SkipScale(0.8).per_layer(4).to(torch.float32)
    torch.testing.assert_close(tuned(tuned(model))(images), by_hand(model, images, rho**2))


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"spacing": "even"}, "unknown spacing 'even'"),
        ({"sigma_low": 5.0, "sigma_high": 5.0}, "sigma_low 5, sigma_high 5"),
        ({"sigma_low": -1.0}, "sigma_low -1"),
    ],
)
def test_bad_inputs(inputs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tuned(Patcher(UNet()), **inputs)


def test_a_model_without_output_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="no output blocks with long skips"):
        tuned(Patcher(nn.Linear(2, 2)))


def test_the_inputs_are_those_of_the_function() -> None:
    """ComfyUI calls the function by these names, with these defaults where a workflow leaves them."""
    node = node_module().NODE_CLASS_MAPPINGS["SkipTuning"]
    required = node.INPUT_TYPES()["required"]
    assert list(required) == [
        "model", "rho_bottom", "rho_top", "spacing", "sigma_low", "sigma_high",
    ]  # fmt: skip
    for kind, options in (required[name] for name in required if name not in ("model", "spacing")):
        assert kind == "FLOAT" and options["min"] <= options["default"] <= options["max"]
    assert node.RETURN_TYPES == ("MODEL",) and set(node_module().NODE_DISPLAY_NAME_MAPPINGS) == {
        "SkipTuning"
    }


def test_the_file_needs_torch_alone() -> None:
    lines = [x for x in NODE.read_text().splitlines() if x.startswith(("import ", "from "))]
    assert lines == ["from typing import Any", "from torch import Tensor"]
