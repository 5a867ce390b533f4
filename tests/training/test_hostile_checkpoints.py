"""Files that ask for much and hold little: each is refused in one line, for no more than its own size in memory."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edm_pickles
import pytest
import safetensors.torch
import standins_ldm
import standins_openai
import standins_uvit
import torch
from small_network import SMALL, refusal, small, small_snapshot, written
from torch.overrides import TorchFunctionMode

from training.checkpoint import load_network, save_network

BIG = 10**9
DECODER = {"class": "KLDecoder", "embed_dim": 4}
GIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "channels": ("EDMPrecond", {"model_channels": 10_048}),
    "more channels": ("EDMPrecond", {"model_channels": BIG, "channel_mult": [BIG]}),
    "blocks": ("EDMPrecond", {"num_blocks": 100_000}),
    "labels": ("EDMPrecond", {"label_dim": 10_000_000}),
    "embedding": ("EDMPrecond", {"channel_mult_emb": 10_000}),
    "resolution": ("EDMPrecond", {"img_resolution": BIG}),
    "a list times a number": ("EDMPrecond", {"model_channels": [1], "channel_mult": [BIG]}),
    "a table of levels": ("iDDPMPrecond", {"M": 100_000_000}),
    "DDPM++": ("VPPrecond", {"num_blocks": 100_000}),
    "EDM2": ("EDM2Precond", {"num_blocks": 100_000}),
    "EDM2's frequencies": ("EDM2Precond", {"logvar_channels": BIG}),
    "EDM2's filter": ("EDM2Precond", {"resample_filter": [1] * 10_000}),
    "U-ViT": ("UViTPrecond", {"depth": BIG}),
    "U-ViT's patches": ("UViTPrecond", {"img_resolution": 8192}),
    "times": ("UViTPrecond", {"num_timesteps": BIG}),
    "LDM": ("LDMPrecond", {"num_heads": 1, "num_res_blocks": BIG}),
    "transformers": (
        "LDMPrecond",
        {"num_heads": 1, "transformer_depth": BIG, "label_dim": 3, "context_dim": 8},
    ),
    "a codebook": (
        "UViTPrecond",
        {"first_stage": {**DECODER, "class": "VQDecoder", "n_embed": BIG}},
    ),
    "a decoder": ("UViTPrecond", {"first_stage": {**DECODER, "num_res_blocks": BIG}}),
    "another decoder": ("UViTPrecond", {"first_stage": {**DECODER, "ch_mult": [1] * 10_000}}),
}


class Made(TorchFunctionMode):
    """Counts the numbers that torch's functions make, and those with memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.numbers = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(made, torch.Tensor) and made.device.type != "meta":
            self.numbers += made.numel()
        return made


@pytest.fixture
def made() -> Iterator[Made]:
    with Made() as counter:
        yield counter


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "safetensors") for name in GIANTS]
    + [(name, "pickle") for name in ("channels", "blocks", "labels", "LDM")],
)
def test_a_small_file_that_asks_for_a_giant(
    name: str, form: str, tmp_path: Path, made: Made
) -> None:
    class_name, asked = GIANTS[name]
    kwargs = {"img_resolution": 8, "img_channels": 4} | asked
    tensors = {"model.a.weight": torch.zeros(3)}
    if form == "pickle":
        data = edm_pickles.edm_snapshot(class_name, kwargs, tensors)
    else:
        metadata = {
            "format": "skip-tuning-edm/1",
            "class": class_name,
            "kwargs": json.dumps(kwargs),
        }
        data = safetensors.torch.save(tensors, metadata)
    message = refusal(written(tmp_path, data))
    assert len(message) < 600
    assert made.numbers < 20_000 and made.calls < 20_000


@pytest.mark.parametrize(
    "kwargs",
    [
        '"80"',
        "[]",
        "[[1, 2]]",
        "null",
        "{" * 10,
        "[" * 100_000,
        '{"a": ' * 100_000,
        "1" * 10_000,
        '{"1": NaN}',
    ],
)
def test_metadata_that_are_no_arguments(kwargs: str, tmp_path: Path) -> None:
    metadata = {"format": "skip-tuning-edm/1", "class": "EDMPrecond", "kwargs": kwargs}
    assert (
        len(refusal(written(tmp_path, safetensors.torch.save({"a": torch.zeros(1)}, metadata))))
        < 500
    )


@pytest.mark.parametrize(
    "metadata", [[["format", "pt"]], "text", 3, {"format": 3}, {"format": ["a"]}]
)
def test_metadata_of_another_shape(metadata: Any, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": metadata}).encode()
    assert "truncated or damaged" in refusal(
        written(tmp_path, len(header).to_bytes(8, "little") + header)
    )


def test_an_argument_of_another_type_in_a_good_file(tmp_path: Path) -> None:
    for wrong, words in (
        ("80", "sigma_max is '80'; it must be a number"),
        ([80], "sigma_max is of the type list"),
    ):
        net = small()
        net.init_kwargs["sigma_max"] = wrong
        save_network(net, tmp_path / "net")
        assert words in refusal(tmp_path / "net")
        data = edm_pickles.edm_snapshot(
            "EDMPrecond", SMALL | {"sigma_max": wrong}, net.state_dict()
        )
        assert words in refusal(written(tmp_path, data))


def test_a_pickle_whose_references_unfold(tmp_path: Path) -> None:
    bomb: Any = ["x"]
    for _ in range(100):
        bomb = [bomb, bomb]
    for name in ("img_resolution", "channel_mult", "model_type", "colour"):
        data = edm_pickles.edm_snapshot("EDMPrecond", SMALL | {name: bomb}, small().state_dict())
        assert len(refusal(written(tmp_path, data))) < 500
    data = edm_pickles.edm_snapshot(
        "UViTPrecond", {"first_stage": {"class": bomb}}, {"a": torch.zeros(1)}
    )
    assert len(refusal(written(tmp_path, data))) < 500


def good_files(folder: Path) -> dict[str, Path]:
    """One small file of each format."""
    save_network(small(), folder / "net.safetensors")
    written(folder, small_snapshot(), "net.pkl")
    standins_ldm.write_ldm(folder / "model.ckpt")
    standins_uvit.write_uvit(folder / "uvit.pth")
    standins_openai.written(folder, "cd_tiny.pt")
    return {path.name: path for path in folder.iterdir()}


def damaged(data: bytes, random: random.Random) -> bytes:
    """The file with a few bytes changed, removed, inserted or repeated, mostly near an end, where the structure is."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        near = random.choice([200, 5000, len(changed)])
        at = min(random.randrange(near), len(changed) - 1)
        at = random.choice([at, len(changed) - 1 - at])
        kind = random.randrange(5)
        if kind == 0:
            changed[at] = random.randrange(256)
        elif kind == 1:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            del changed[at : at + random.choice([1, 4, 100])]
        elif kind == 3:
            changed[at:at] = random.randbytes(random.choice([1, 4]))
        else:
            changed[at:at] = changed[at : at + 50] * 2
    return bytes(changed)


@pytest.mark.parametrize(
    "name", ["net.safetensors", "net.pkl", "model.ckpt", "uvit.pth", "cd_tiny.pt"]
)
def test_damage_of_any_kind_is_one_line_or_nothing(name: str, tmp_path: Path) -> None:
    data = good_files(tmp_path)[name].read_bytes()
    source = random.Random(name)
    refused = 0
    for _ in range(15):
        path = written(tmp_path, damaged(data, source), f"damaged_{name}")
        try:
            load_network(path)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000 and str(error).isprintable()
            refused += 1
    assert refused > 3
