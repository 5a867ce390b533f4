"""Inception-v3 against the official implementations' vectors; what a file of weights may be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_json, golden_npz, relative_error
from inception_files import made_up_weights, saved
from torch import Tensor

from dnnlib.util import file_sha256
from metrics.detector import load_entries
from metrics.gaussian import Gaussian
from metrics.inception import InceptionV3, load_inception, weights_name
from metrics.measure import measure
from metrics.metric import Evidence
from metrics.statistics import Statistics

TOLERANCE = 1e-5  # tests/golden/README.md, section 4
BATCH_TOLERANCE = 5e-6  # of one feature in batches of different size: of the largest feature
SOURCES = {"tensorflow": "torch_fidelity", "torch": "pytorch_fid"}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return made_up_weights()


@pytest.fixture(scope="module")
def files(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inception")
    gain = float(golden_json("inception")["gain"])
    strong = {name: value * gain if value.ndim >= 2 else value for name, value in state.items()}
    return {"std": saved(state, folder / "std.pth"), "gain": saved(strong, folder / "gain.pth")}


@pytest.fixture(scope="module")
def net(files: dict[str, Path]) -> InceptionV3:
    loaded = load_inception(files["gain"])
    assert isinstance(loaded, InceptionV3)
    return loaded


def images(size: int = 32) -> Tensor:
    return torch.from_numpy(golden_npz("inception")[f"{size}/images_uint8"])


def test_the_state_dict_is_the_published_one(state: dict[str, Tensor]) -> None:
    found = {
        name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in state.items()
    }
    expected = golden_json("inception")["state_dict"]
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("weights", ["std", "gain"])
@pytest.mark.parametrize("resize", SOURCES)
def test_every_tap_is_the_official_one(weights: str, resize: str, files: dict[str, Path]) -> None:
    expected = golden_npz("inception")
    net = load_inception(files[weights], resize)
    assert isinstance(net, InceptionV3)
    compared = 0
    for size in (32, 64, 299):
        with torch.inference_mode():
            taps = net.taps(net.prepare(images(size)[:1]))
        for tap, value in taps.items():
            key = f"{size}/{weights}/{SOURCES[resize]}/{tap}"
            if key in expected:  # pytorch-fid has no logits without bias
                assert relative_error(value, expected[key][:1]) < TOLERANCE, key
                compared += 1
    assert compared == 3 * (6 if resize == "tensorflow" else 5)


def test_the_call_gives_pool3_and_logits_without_bias(net: InceptionV3) -> None:
    features, logits = net(images())
    expected = golden_npz("inception")
    assert features.shape == (3, 2048) and logits.shape == (3, 1008)
    assert features.dtype == logits.dtype == torch.float32
    assert relative_error(features, expected["32/gain/torch_fidelity/2048"]) < TOLERANCE
    assert relative_error(logits, expected["32/gain/torch_fidelity/logits_unbiased"]) < TOLERANCE


def test_features_do_not_depend_on_the_batch(net: InceptionV3) -> None:
    batch = torch.cat([images(), images().flip(3)])[:5]
    features, logits = net(batch)
    for sizes in ([2, 3], [4, 1]):
        parts = [net(part) for part in batch.split(sizes)]
        assert relative_error(torch.cat([f for f, _ in parts]), features) < BATCH_TOLERANCE
        assert relative_error(torch.cat([x for _, x in parts]), logits) < BATCH_TOLERANCE


def test_spatial_features_are_the_graphs_mixed_6_conv(
    net: InceptionV3, files: dict[str, Path]
) -> None:
    """The first 7 channels behind convolution, batch norm and ReLU, by their weights' names; row, column, channel."""
    kept: list[Tensor] = []
    hook = net.Mixed_6c.register_forward_hook(lambda _m, _i, output: kept.append(output))
    features, logits, spatial = net.with_spatial(images()[:1])
    hook.remove()
    assert spatial.shape == (1, 2023) and net.spatial_dim == 2023
    for found, usual in zip((features, logits), net(images()[:1]), strict=True):
        assert torch.equal(found, usual)

    state = {
        name.removeprefix("Mixed_6d.branch1x1."): w.double()
        for name, w in torch.load(files["gain"]).items()
        if name.startswith("Mixed_6d.branch1x1.")
    }
    x = torch.einsum("oi,nihw->nhwo", state["conv.weight"][:7, :, 0, 0], kept[0].double())
    x = (x - state["bn.running_mean"][:7]) / (state["bn.running_var"][:7] + 0.001).sqrt()
    x = (x * state["bn.weight"][:7] + state["bn.bias"][:7]).clamp(min=0)
    assert x.shape == (1, 17, 17, 7) and (x > 0).any() and (x == 0).any()
    assert relative_error(spatial, x.reshape(1, -1).numpy()) < TOLERANCE


def test_grayscale_is_repeated(net: InceptionV3) -> None:
    gray = images()[:, :1]
    assert torch.equal(net(gray)[0], net(gray.repeat(1, 3, 1, 1))[0])


def test_any_size_and_shape_of_image(net: InceptionV3) -> None:
    assert net(torch.zeros(1, 3, 7, 400, dtype=torch.uint8))[0].shape == (1, 2048)


def test_taps_have_gradients(net: InceptionV3) -> None:
    x = net.prepare(images()[:1]).requires_grad_()
    net.taps(x)["2048"].sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_dtype(files: dict[str, Path], net: InceptionV3) -> None:
    exact = load_inception(files["gain"], dtype=torch.float64)
    half = load_inception(files["gain"], dtype=torch.bfloat16)
    expected, _ = exact(images()[:1])
    features, logits = half(images()[:1])
    assert expected.dtype == torch.float64 and features.dtype == logits.dtype == torch.float32
    assert relative_error(net(images()[:1])[0], expected) < 1e-5
    assert 1e-4 < relative_error(features, expected) < 0.05
    own = weights_name(file_sha256(files["gain"]))
    assert (exact.name, half.name) == (f"{own}-float64", f"{own}-bfloat16")


def test_what_a_result_says_of_it(files: dict[str, Path], net: InceptionV3) -> None:
    assert net.name == f"other-inception-{net.sha256[:8]}"
    assert load_inception(files["std"], "torch").name.endswith("-torch-resize")
    assert net.sha256 == file_sha256(files["gain"])
    assert (net.feature_dim, net.num_logits) == (2048, 1008)


def test_only_the_published_weights_have_their_name() -> None:
    """By the hash of the file: pytorch-fid's, whose name begins with it, and NVIDIA's TorchScript."""
    published = [entry for name, entry in load_entries().items() if name.startswith("inception")]
    assert len(published) == 4
    for entry in published:
        assert weights_name(f"{entry.sha256:0<64}") == "inception-2015-12-05"
    other = weights_name("1" * 64)
    assert other == "other-inception-11111111" and InceptionV3().name == "other-inception-unsaved"
    x = Gaussian(Statistics(np.zeros(2), np.eye(2)), "x")
    y = Gaussian(Statistics(np.ones(2), np.eye(2)), "y")
    found = measure(["fid"], Evidence(x, y), other)
    assert list(found.values) == ["fid-other-inception-11111111"]


def test_hostile_state_dicts_are_one_line(tmp_path: Path) -> None:
    for content in (
        {7: torch.zeros(1)},
        {("a", "b"): torch.zeros(1)},
        {None: torch.zeros(1)},
        {"a": "text"},
    ):
        with pytest.raises(ValueError, match="not a state dict of tensors by name"):
            load_inception(saved(content, tmp_path / "keys.pth"))


def test_counters_of_training_steps_may_be_absent(state: dict[str, Tensor], tmp_path: Path) -> None:
    lean = {
        name: value for name, value in state.items() if not name.endswith("num_batches_tracked")
    }
    assert len(lean) == len(state) - 94
    features, _ = load_inception(saved(lean, tmp_path / "lean.pth"))(images())
    assert (
        relative_error(features, golden_npz("inception")["32/std/torch_fidelity/2048"]) < TOLERANCE
    )


def test_a_file_that_does_not_fit_is_explained(state: dict[str, Tensor], tmp_path: Path) -> None:
    wrong = dict(state) | {"fc.bias": torch.zeros(1000), "extra": torch.zeros(1)}
    del wrong["Mixed_5b.branch1x1.conv.weight"]
    words = (
        r"wrong.pth: the tensors do not fit the network: 1 missing \(Mixed_5b.branch1x1.conv.weight\); "
        r"1 unexpected \(extra\); 1 of the wrong shape \(fc.bias \[1000\] for \[1008\]\)"
    )
    with pytest.raises(ValueError, match=words):
        load_inception(saved(wrong, tmp_path / "wrong.pth"))
    with pytest.raises(ValueError, match=r"564 missing \(.*, \.\.\.\)|472 missing \(.*, \.\.\.\)"):
        load_inception(saved({}, tmp_path / "empty.pth"))


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>no such page</html>", b"PK\x03\x04 cut off", b"\x80\x02cposix\nsystem\n"],
)
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"file.pth: neither a whole state dict .* nor a TorchScript"
    ):
        load_inception(path)


def test_other_mistakes_are_one_line(
    net: InceptionV3, files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: no such file"):
        load_inception(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="not a state dict of tensors"):
        load_inception(saved([1, 2], tmp_path / "list.pth"))
    with pytest.raises(ValueError, match="unknown resize 'bicubic'; choose from tensorflow, torch"):
        load_inception(files["std"], "bicubic")
    with pytest.raises(
        ValueError, match=r"other-inception-\w+ reads uint8 .* not float32 \[2, 3, 8, 8\]"
    ):
        net(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"C = 1 or 3, not uint8 \[2, 4, 8, 8\]"):
        net(torch.zeros(2, 4, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"not uint8 \[3, 8, 8\]"):
        net(torch.zeros(3, 8, 8, dtype=torch.uint8))
