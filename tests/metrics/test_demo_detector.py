"""The demo detector: how it is trained and stored, what the shipped one can do."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor, nn

from dnnlib.archives import write_zip
from dnnlib.pictures import encode_png
from fid import main as fid
from metrics.demo_detector.__main__ import main
from metrics.demo_detector.bodies import BODIES, ResidualBlock, ResNetBody
from metrics.demo_detector.files import FORMAT, load_demo_detector, read_facts, save
from metrics.demo_detector.learning import accuracy, train
from metrics.demo_detector.network import DemoDetector
from metrics.demo_detector.shape import Shape
from metrics.demo_detector.work import _read, name_of
from metrics.detector import load_detector
from metrics.statistics import Statistics

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "assets/demo/detector.safetensors"
SECOND = ROOT / "assets/demo/detector2.safetensors"
TEST_SET = ROOT / "datasets/fashion-mnist-32-test.zip"


def stripes(count: int) -> tuple[Tensor, Tensor]:
    """Ten classes of noisy images that are bright in row 3 c + 1."""
    classes = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 1, 32, 32), dtype=torch.uint8)
    images[torch.arange(count), 0, 3 * classes + 1] = 255
    return images, classes


def zipped(path: Path, count: int = 200, size: int = 32) -> Path:
    images, classes = stripes(count)
    pngs = [encode_png(image[:, :size, :size]) for image in images.numpy()]
    with open(path, "wb") as file:
        write_zip(file, pngs, range(count), classes.tolist())
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, args)])


def test_it_learns_and_repeats() -> None:
    images, classes = stripes(100)
    few = images[:40], classes[:40]
    nets = [train(*few, epochs=2, batch=20, seed=seed) for seed in (1, 1, 2)]
    assert accuracy(train(images, classes, epochs=12, batch=20), images, classes) > 0.9
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["fc.weight"], states[2]["fc.weight"])


def test_training_leaves_the_global_generator_alone() -> None:
    images, classes = stripes(20)
    before = torch.get_rng_state()
    train(images, classes, epochs=1, batch=10)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_and_logits() -> None:
    net = DemoDetector().eval()
    images, _ = stripes(4)
    features, logits = net(images)
    assert features.shape == (4, 128) and logits.shape == (4, 10)
    with torch.inference_mode():
        assert torch.allclose(net.fc(features), logits)
    assert torch.allclose(net(images[2:3])[0], features[2:3], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"with C = 1, not uint8 \[1, 3, 32, 32\]"),
        (torch.zeros(1, 1, 32, 32), r"not float32"),
        (torch.zeros(1, 1, 64, 28, dtype=torch.uint8), r"images of 32x32 pixels, not 28x64"),
    ],
)
def test_other_images_are_refused(images: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DemoDetector().eval()(images)


def test_a_file_keeps_it_and_equal_ones_are_equal_files(tmp_path: Path) -> None:
    net = DemoDetector().eval()
    for name in ("a", "b"):
        save(net, tmp_path / name, {"test_accuracy": 0.5, "seed": 3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    images, _ = stripes(3)
    assert torch.equal(load_demo_detector(tmp_path / "a")(images)[0], net(images)[0])
    assert read_facts(tmp_path / "a")["seed"] == 3


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_demo_detector(tmp_path / "absent")
    (tmp_path / "cut").write_bytes(SHIPPED.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut: "):
        load_demo_detector(tmp_path / "cut")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="not of a demo detector"):
        load_demo_detector(tmp_path / "foreign")


@pytest.mark.parametrize(("path", "right"), [(SHIPPED, 0.92), (SECOND, 0.91)])
def test_the_shipped_ones_keep_their_promises(path: Path, right: float) -> None:
    facts = read_facts(path)
    assert facts["test_accuracy"] >= right and facts["test_images"] == 10000  # type: ignore[operator]
    assert path.stat().st_size < 1.5e6


def test_the_second_one_is_another_network_with_its_own_reference() -> None:
    first, second = (load_detector(name, "cpu") for name in ("demo", "demo-resnet"))
    assert isinstance(first, DemoDetector) and isinstance(second, DemoDetector)
    assert (first.arch, second.arch) == ("conv", "resnet") and first.name != second.name
    assert read_facts(SHIPPED)["seed"] != read_facts(SECOND)["seed"]
    reference = Statistics.load(ROOT / "assets/demo/reference2.npz")
    assert (reference.detector, reference.detector_hash) == (second.name, second.sha256)
    assert reference.detector_source == "demo-resnet" and reference.count == 60000


@pytest.mark.parametrize("path", [SHIPPED, SECOND])
def test_the_shipped_ones_know_the_clothes(path: Path) -> None:
    """Of the first 500 images of the test set, whose share has a standard error of 0.012."""
    images, classes = _read(ROOT / "assets/demo/images.zip")
    found = accuracy(load_demo_detector(path), images[:500], classes[:500])
    assert found == pytest.approx(read_facts(path)["test_accuracy"], abs=0.04)


@pytest.mark.skipif(not TEST_SET.is_file(), reason="needs the test set: see the README on datasets")
@pytest.mark.parametrize("path", [SHIPPED, SECOND])
def test_the_recorded_accuracy_is_true(path: Path) -> None:
    images, classes = _read(TEST_SET)
    found = accuracy(load_demo_detector(path), images, classes)
    # Another CPU may tip a few.
    assert found == pytest.approx(read_facts(path)["test_accuracy"], abs=5e-4)


@pytest.mark.parametrize(("arch", "ending"), [("conv", ""), ("resnet", "-resnet")])
def test_the_command(arch: str, ending: str, tmp_path: Path) -> None:
    data, test = zipped(tmp_path / "data.zip"), zipped(tmp_path / "test.zip", count=30)
    out = tmp_path / "new" / "detector.safetensors"
    learned = ["--epochs", 2, "--seed", 5, *(["--arch", arch] if ending else [])]
    result = run("--data", data, "--test", test, "--out", out, *learned)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    facts = read_facts(out)
    assert facts.pop("format") == FORMAT and facts.pop("name") == f"demo-data{ending}"
    assert facts.pop("arch") == arch
    assert facts.pop("shape") == {"channels": 1, "height": 32, "width": 32, "classes": 10}
    assert facts.items() <= printed.items()
    assert printed["train_images"] == 200 and printed["test_images"] == 30 and printed["seed"] == 5
    assert printed["bytes"] == out.stat().st_size


def test_training_that_diverges_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = zipped(tmp_path / "data.zip", 300), tmp_path / "out"
    out.write_bytes(b"an earlier one")
    monkeypatch.setattr("metrics.demo_detector.learning.LEARNING_RATE", 1e38)
    result = run("--data", data, "--dest", out, "--epochs", 3)
    assert result.exit_code == 2 and ": the run stops" in result.stderr.splitlines()[-1]
    assert out.read_bytes() == b"an earlier one"


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run(
        "--data", zipped(tmp_path / "data.zip", 300), "--dest", tmp_path / "out", "--epochs", 1
    )
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert (
        result.stderr.splitlines()[-1]
        == f"Error: {tmp_path / 'out'}: the disk is full; make room, or choose another place"
    )


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    data, small = zipped(tmp_path / "data.zip", 20), zipped(tmp_path / "small.zip", 20, size=16)
    color = tmp_path / "color.zip"
    with open(color, "wb") as file:
        write_zip(file, [encode_png(np.zeros((3, 32, 32), np.uint8))] * 10, range(10), range(10))
    for wrong, words in (
        (tmp_path / "absent.zip", "absent.zip"),
        (small, "1x16x16"),
        (color, "3x32x32"),
    ):
        result = run("--data", data, "--test", wrong, "--out", tmp_path / "out")
        assert result.exit_code == 2 and words in result.stderr.splitlines()[-1]
        assert not (tmp_path / "out").exists()
    unlabelled = tmp_path / "unlabelled.zip"
    with open(unlabelled, "wb") as file:
        write_zip(file, [encode_png(np.zeros((1, 32, 32), np.uint8))] * 10, range(10))
    none = run("--data", unlabelled, "--out", tmp_path / "out")
    assert none.exit_code == 2 and "a detector learns classes too" in none.stderr
    few = run("--data", data, "--test", data, "--out", tmp_path / "out")
    assert (
        few.exit_code == 2
        and "6.0 epochs of 20 images in batches of 128 are too little" in few.stderr
    )
    Image.new("L", (4, 4)).save(tmp_path / "image.png")
    assert (
        run("--data", tmp_path / "image.png", "--test", data, "--out", tmp_path / "out").exit_code
        == 2
    )


@pytest.mark.parametrize("arch", BODIES)
@pytest.mark.parametrize(
    ("channels", "height", "width", "classes"), [(3, 32, 32, 10), (3, 64, 48, 3), (1, 28, 28, 2)]
)
def test_any_labelled_images(
    channels: int, height: int, width: int, classes: int, arch: str, tmp_path: Path
) -> None:
    labels = torch.arange(60) % classes
    images = torch.randint(0, 60, (60, channels, height, width), dtype=torch.uint8)
    images[torch.arange(60), 0, 2 * labels + 1] = 255
    net = train(images, labels, epochs=2, batch=20, name="demo-mine", arch=arch)
    save(net, tmp_path / "mine.safetensors", {})
    loaded = load_detector(tmp_path / "mine.safetensors", "cpu")
    features, logits = loaded(images[:4])
    assert (
        features.shape == (4, 128) and logits.shape == (4, classes) and loaded.name == "demo-mine"
    )
    assert isinstance(loaded, DemoDetector) and loaded.arch == arch
    assert loaded.num_logits == classes and torch.allclose(features, net(images[:4])[0], atol=1e-5)
    with pytest.raises(
        ValueError, match=f"demo-mine reads images of {width}x{height} pixels, not 8x8"
    ):
        loaded(torch.zeros(1, channels, 8, 8, dtype=torch.uint8))


def test_own_images_offline_from_the_data_set_to_the_distance(tmp_path: Path) -> None:
    data = tmp_path / "my birds-32.zip"
    pixels = np.random.RandomState(0).randint(0, 256, [300, 3, 16, 16], dtype=np.uint8)
    with open(data, "wb") as file:
        write_zip(file, map(encode_png, pixels), range(300), [i % 4 for i in range(300)])
    trained = run("--data", data, "--out", tmp_path / "own.safetensors", "--epochs", 1)
    assert trained.exit_code == 0, trained.output
    facts = json.loads(trained.stdout)
    assert (facts["train_images"], facts["test_images"]) == (270, 30)
    made = [
        "--detector", str(tmp_path / "own.safetensors"), "--data", str(data), "--dest",
        str(tmp_path / "ref.npz"),
    ]  # fmt: skip
    assert CliRunner().invoke(fid, ["ref", *made]).exit_code == 0
    asked = ["--images", str(data), "--num", "300", "--ref", str(tmp_path / "ref.npz"), *made[:2]]
    found = CliRunner().invoke(fid, ["calc", *asked])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["metrics"]["fid-demo-my-birds"] == pytest.approx(0, abs=1e-4)


def test_a_residual_block_by_hand() -> None:
    block = ResidualBlock(3, 3, stride=1).eval()
    x = torch.randn(2, 3, 8, 8)
    for conv in (block.first[0], block.second[0]):
        nn.init.dirac_(conv.weight)  # both are the identity, and so are new norms but for their eps
    assert torch.allclose(block(x), (x.relu() + x).relu(), atol=1e-4)
    assert ResidualBlock(3, 5, stride=2)(x).shape == (2, 5, 4, 4)


def test_a_resnets_stages() -> None:
    x, found = torch.zeros(1, 1, 32, 32), []
    body = ResNetBody(Shape()).eval()
    for stage in body.stages:
        x = stage(x)
        found.append(tuple(x.shape[1:]))
    assert found == [(32, 16, 16), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    assert torch.equal(body(torch.zeros(1, 1, 32, 32)), x.mean((2, 3)))


def test_a_name_tells_the_architecture_and_stays_short() -> None:
    assert name_of(Path("clothes-32.zip"), "resnet") == "demo-clothes-resnet"
    assert name_of(Path("---.zip"), "resnet") == "demo-resnet" and name_of(Path("-.zip")) == "demo"
    assert len(name_of(Path("x" * 90 + ".zip"), "resnet")) <= len("demo") + 60


def test_files_of_before_architectures_are_convolutions() -> None:
    assert "arch" not in read_facts(SHIPPED) and load_demo_detector(SHIPPED).arch == "conv"


def test_the_bundled_one_is_as_it_was() -> None:
    assert DemoDetector().state_dict().keys() == load_demo_detector(SHIPPED).state_dict().keys()
    assert (
        name_of(Path("datasets/fashion-mnist-32.zip"))
        == load_demo_detector(SHIPPED).name
        == "demo-fashion-mnist"
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("[1, 2]", "no JSON object"),
        ("[" * 20000, "no JSON"),
        ("{", "no JSON"),
        ({"format": FORMAT, "shape": [1]}, "the shape of its images is none"),
        ({"format": FORMAT, "shape": {"depth": 3}}, "the shape of its images is none"),
        ({"format": FORMAT, "shape": {"height": 10**12}}, "32x1000000000000 pixels"),
        ({"format": FORMAT, "shape": {"classes": "10"}}, "classes is '10', not a whole number"),
        ({"format": FORMAT, "shape": {"classes": 10**9}}, "1000000000 classes"),
        ({"format": FORMAT, "shape": {"channels": 3}}, "of the wrong shape"),
        ({"format": FORMAT, "name": "inception-2015-12-05"}, "it records the name 'inception"),
        ({"format": FORMAT, "name": ["demo"]}, "it records the name"),
        ({"format": FORMAT, "arch": "vit"}, "the architecture is 'vit'; need conv or resnet"),
        ({"format": FORMAT, "arch": ["conv"]}, "it records the architecture .*, no name"),
        ({"format": FORMAT, "arch": "resnet"}, "the tensors do not fit the network: 45 missing"),
    ],
)
def test_hostile_records_are_one_line(facts: object, words: str, tmp_path: Path) -> None:
    text = facts if isinstance(facts, str) else json.dumps(facts)
    path = tmp_path / "hostile.safetensors"
    safetensors.torch.save_file(DemoDetector().state_dict(), path, {"detector": text})
    with pytest.raises(ValueError, match=f"hostile.safetensors: .*{words}") as refused:
        load_detector(path, "cpu")
    assert len(str(refused.value)) < len(str(path)) + 250


def test_metadata_that_is_a_list_is_one_line(tmp_path: Path) -> None:
    header = b'{"__metadata__":[1,2]}'
    (tmp_path / "list.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"list\.safetensors: "):
        load_detector(tmp_path / "list.safetensors", "cpu")
