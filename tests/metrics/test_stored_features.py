"""Features of real images from clean-fid's and torch-fidelity's files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.references import References
from metrics.stored_features import StoredFeatures, holds_features


@pytest.fixture
def features() -> np.ndarray:
    return np.random.RandomState(0).randn(20, 3).astype(np.float32)


def test_they_are_what_the_other_tools_write(features: np.ndarray, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set_clean_custom_na_kid.npz", feats=features)
    torch.save(torch.from_numpy(features), tmp_path / "set-features-2048.pt")
    for path in sorted(tmp_path.iterdir()):
        assert holds_features(path)
        found = StoredFeatures(path)
        assert len(found) == 20 and np.array_equal(found.features.numpy(), features)
        stats = found.statistics()
        assert np.allclose(stats.mean, features.mean(0), atol=1e-6)
        assert np.allclose(stats.cov, np.cov(features, rowvar=False), atol=1e-6)

        asked = References(None, str(path))
        assert isinstance(asked.real, StoredFeatures) and asked.statistics is None
        assert asked.record["reference_images_num"] == 20
        assert asked.record["reference_images_are"].startswith("features, of which")

    with pytest.raises(ValueError, match=r"kid\.npz holds 3 features an image, and net has 4"):
        StoredFeatures(tmp_path / "set_clean_custom_na_kid.npz").require_dim(4, "net")
    with pytest.raises(ValueError, match=r"holds the features of real images.*it takes the place"):
        References(str(tmp_path / "set_clean_custom_na_kid.npz"), None)


def test_what_holds_none(features: np.ndarray, tmp_path: Path) -> None:
    assert not holds_features(tmp_path) and not holds_features(tmp_path / "none.npz")
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8), feats=features)
    assert not holds_features(tmp_path / "images.npz")

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("executed",)

    storage = torch.zeros(6000)
    files = {
        "flat.pt": torch.zeros(5),
        "whole.pt": torch.zeros(5, 2, dtype=torch.int64),
        "dict.pt": {"features": torch.zeros(5, 2)},
        "hostile.pt": [Hostile()],
        "vast.pt": torch.as_strided(storage, (3000, 3000), (1, 1)),
        "nan.pt": torch.full((5, 2), torch.nan),
        "one.pt": torch.zeros(1, 2),
    }
    for name, value in files.items():
        torch.save(value, tmp_path / name)
    np.savez(tmp_path / "text.npz", feats=np.array(["a"]))
    np.savez(tmp_path / "objects.npz", feats=np.array([{}]))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "one.pt").read_bytes()[:-40])
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"feats": 0}))
    for path in sorted(tmp_path.iterdir()):
        if path.name == "images.npz":
            continue
        said = "exceeds its 6000 numbers" if path.name == "vast.pt" else path.name
        with pytest.raises(ValueError, match=said) as caught:
            StoredFeatures(path)
        assert "\n" not in str(caught.value) and "pickle=" not in str(caught.value)
