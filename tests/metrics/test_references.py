"""Which statistics and images --ref and --ref-images stand for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics.references import References, detector_of, has_statistics


def detector(name: str = "inception-2015-12-05", dim: int = 3) -> Any:
    return SimpleNamespace(name=name, feature_dim=dim)


@pytest.fixture
def batch(tmp_path: Path) -> str:
    """Two images, and the statistics of more, as ADM's evaluator has them."""
    np.savez(
        tmp_path / "adm.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8), mu=np.ones(3), sigma=np.eye(3)
    )
    return str(tmp_path / "adm.npz")


@pytest.fixture
def ref(tmp_path: Path) -> str:
    np.savez(tmp_path / "ref.npz", mu=np.full(3, 2.0), sigma=np.eye(3))
    return str(tmp_path / "ref.npz")


def test_ref_comes_before_the_statistics_in_the_file_of_ref_images(ref: str, batch: str) -> None:
    both = References(ref, batch)
    assert both.statistics is not None and both.statistics.mean.tolist() == [2, 2, 2]
    found = both.fitting(detector())
    assert found is not None and found.mean.tolist() == [2, 2, 2]
    assert both.record["reference"] == ref and both.record["reference_images"] == batch
    assert "reference_statistics" not in both.record and both.record["reference_images_num"] == 2


def test_the_statistics_of_a_batch_are_its_own(batch: str) -> None:
    own = References(None, batch)
    found = own.fitting(detector())
    assert found is not None and found.mean.tolist() == [1, 1, 1]
    assert (
        own.record["reference"] == batch
        and "mu and sigma in the file" in own.record["reference_statistics"]
    )


def test_of_another_detector_the_images_count(batch: str) -> None:
    own = References(None, batch)
    assert own.fitting(detector(dim=128)) is None
    said = own.record["reference_statistics"]
    assert said == "of the images: mu and sigma in their file are another detector's"
    assert own.record.keys() == {"reference_statistics", "reference_images", "reference_images_num"}


def test_images_alone_and_nothing(tmp_path: Path) -> None:
    # Half of the statistics.
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8), mu=np.ones(3))
    path = str(tmp_path / "images.npz")
    assert not has_statistics(path) and not has_statistics(tmp_path)
    images = References(None, path)
    assert (
        images.statistics is None and images.fitting(detector()) is None and images.real is not None
    )
    nothing = References(None, None)
    assert (nothing.statistics, nothing.real, nothing.record) == (None, None, {})


def test_the_detector_is_that_of_the_statistics_unless_one_is_given() -> None:
    made: Any = SimpleNamespace(detector_source="demo")
    assert detector_of(made, None) == "demo" and detector_of(made, "other") == "other"
    assert detector_of(None, None, "default") == "default"
    assert detector_of(SimpleNamespace(detector_source=None), None, "default") == "default"  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"the detector 'http://x/y', which configs/detectors.toml does not name"
    ):
        detector_of(SimpleNamespace(detector_source="http://x/y"), None)  # type: ignore[arg-type]


def test_files_of_the_repository_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = References("assets/demo/reference.npz", "assets/demo/images.zip")
    assert found.statistics is not None and found.real is not None and len(found.real) == 2000
