"""configs/detectors.toml, and the front door: a name, a path, a URL."""

import os
from pathlib import Path

import pytest
import torch
from inception_files import made_up_weights, saved

from dnnlib.places import ROOT
from dnnlib.util import cached_path, file_sha256
from metrics import detector
from metrics.demo_detector.files import save
from metrics.demo_detector.network import DemoDetector
from metrics.detector import Detector, DetectorEntry, Floored, load_detector, load_entries
from metrics.statistics import Statistics
from skip.studies.score_matching import smooth_features


def demo_file(path: Path) -> Path:
    save(DemoDetector().eval(), path, {})
    return path


def test_the_shipped_file_is_sound() -> None:
    entries = load_entries()
    assert next(iter(entries)) == "inception-2015-12-05" and "demo" in entries
    for entry in entries.values():
        assert entry.licence in ("Apache-2.0", "MIT")
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.sha256 == entry.sha256.lower()
    default = entries["inception-2015-12-05"]
    # The file's name holds the first digits.
    assert default.url and default.url.endswith(f"-{default.sha256}.pth")
    assert len(entries["inception-2015-12-05-torchscript"].sha256) == 64
    for resize in ("torch", "clean"):
        assert entries[f"inception-2015-12-05-{resize}-resize"].resize == resize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[a]\nurl = "http://a"\nlicense = "MIT"', r"\[a\].*'license'"),
        ('[a]\nlicence = "MIT"', "exactly one of url, path and hub"),
        ('[a]\nlicence = "MIT"\nurl = "http://a"\nhub = "b"', "exactly one of url, path and hub"),
        ("[a\n", "not valid TOML"),
        ("a = 1", r"\[a\]"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "detectors.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_entries(tmp_path / "detectors.toml")


def test_the_demo_by_name_and_by_path() -> None:
    named: Detector = load_detector("demo", "cpu")
    path = ROOT / "assets/demo/detector.safetensors"
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    features, logits = named(images)
    assert features.shape == (5, named.feature_dim) and logits.shape == (5, named.num_logits)
    assert torch.equal(load_detector(path, "cpu")(images)[0], features)
    assert "demo" in named.name and named.sha256 == file_sha256(path)
    with pytest.raises(ValueError, match="the demo detector runs in float32, not bfloat16"):
        load_detector("demo", "cpu", torch.bfloat16)


def test_behind_a_floor_what_is_nearly_black_is_black() -> None:
    floored: Detector = load_detector("demo-floor3", "cpu")
    plain = load_detector("demo", "cpu")
    images = torch.randint(0, 9, (5, 1, 32, 32), dtype=torch.uint8)
    black = torch.tensor([0, 0, 0, 0, 4, 5, 6, 7, 8], dtype=torch.uint8)[images.long()]
    for found, wanted in zip(floored(images), plain(black), strict=True):
        assert torch.equal(found, wanted)
    assert not torch.equal(floored(images)[0], plain(images)[0])
    assert floored.name == "demo-fashion-mnist-floor3", "no distance may be taken from its own"
    assert (floored.feature_dim, floored.num_logits) == (plain.feature_dim, plain.num_logits)
    assert floored.sha256 == plain.sha256
    with pytest.raises(ValueError, match="demo-fashion-mnist-floor3 gives no gradients"):
        smooth_features(floored)
    with pytest.raises(ValueError, match=r"floor is 255; .* must be 1 to 254"):
        Floored(plain, 255)


def test_the_references_are_of_their_detectors() -> None:
    for name, file in (("demo", ""), ("demo-resnet", "2"), ("demo-floor3", "-floor3")):
        statistics = Statistics.load(ROOT / f"assets/demo/reference{file}.npz")
        assert statistics.detector == load_detector(name, "cpu").name
        assert (statistics.count, statistics.detector_source) == (60000, name)


def test_inception_by_name_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    url = "https://host/inception.pth"
    path = saved(made_up_weights(), cached_path(url))
    entry = DetectorEntry("mine", "MIT", url=url, sha256=file_sha256(path)[:8], resize="torch")
    monkeypatch.setattr(detector, "load_entries", lambda: {"mine": entry})
    other = f"other-inception-{file_sha256(path)[:8]}"
    for source, name in (("mine", f"{other}-torch-resize"), (url, other)):
        found = load_detector(source, "cpu")
        assert found.name == name and found.sha256 == file_sha256(path)
    monkeypatch.setattr("metrics.inception.PUBLISHED", (file_sha256(path)[:8],))
    assert load_detector(url, "cpu").name == "inception-2015-12-05"
    monkeypatch.setattr(
        detector,
        "load_entries",
        lambda: {"mine": DetectorEntry("mine", "MIT", url=url, sha256="12345678")},
    )
    with pytest.raises(ValueError, match=r"expected sha256 12345678, found .*; deleted the copy"):
        load_detector("mine", "cpu")


def test_what_is_not_in_the_cache_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    asked = []

    def fetch(url: str) -> Path:
        asked.append(url)
        return demo_file(tmp_path / "copy")

    monkeypatch.setattr("dnnlib.catalogue.fetch", fetch)
    assert load_detector("https://host/d.safetensors", "cpu").feature_dim == 128
    assert asked == ["https://host/d.safetensors"]


def test_missing_weights_offline_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    monkeypatch.setattr("dnnlib.download.RETRY_SECONDS", 0)
    url = "http://127.0.0.1:9/inception.pth"
    monkeypatch.setattr(
        detector, "load_entries", lambda: {"mine": DetectorEntry("mine", "MIT", url=url)}
    )
    with pytest.raises(
        RuntimeError, match=rf"cannot download {url} \(.*\); .* save it as {cached_path(url)}"
    ):
        load_detector("mine", "cpu")


def test_what_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"no detector is called 'inceptoin'; choose from inception-2015-12-05, .*demo",
    ):
        load_detector("inceptoin", "cpu")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.pth"):
        load_detector(tmp_path / "absent.pth", "cpu")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is no ordinary file"):
        load_detector(tmp_path / "pipe", "cpu")
