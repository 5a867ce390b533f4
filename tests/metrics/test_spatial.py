"""sFID, on a small detector with spatial features: its value, its references, its refusals."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from fid import main
from metrics.detector import SpatialDetector
from metrics.gaussian import Gaussian
from metrics.measure import measure
from metrics.metric import Evidence
from metrics.statistics import Statistics


class Corners:
    """Mean and deviation of an image, and the means of its four quarters as spatial features."""

    name = "inception-2015-12-05-tiny"
    feature_dim, num_logits, spatial_dim = 2, 3, 4
    sha256 = "0" * 64

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float().flatten(1)
        features = torch.stack([x.mean(1), x.std(1)], 1)
        return features, features.repeat(1, 2)[:, :3]

    def with_spatial(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the quarters."""
        return *self(images), quarters(images)


class Blind:
    """A detector without them."""

    name, feature_dim, num_logits, sha256 = "blind", 2, 0, ""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = Corners()(images)[0]
        return features, features[:, :0]


def quarters(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).mean(1).flatten(1)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """By scipy's square root of a matrix."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(first + second - 2 * root))


def pictures(seed: int, count: int = 40) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, [count, 8, 8, 3], dtype=np.uint8)


def seen(images: np.ndarray) -> np.ndarray:
    return quarters(torch.from_numpy(images).permute(0, 3, 1, 2)).double().numpy()


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "programs.fid.work.load_detector",
        lambda source, *_: Blind() if source == "blind" else Corners(),
    )
    np.save(tmp_path / "real.npy", pictures(0))
    np.save(tmp_path / "made.npy", pictures(1) // 2)
    yield


def run(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def values(command: str) -> dict[str, float]:
    done = run(command)
    assert done.exit_code == 0, done.output
    found: dict[str, float] = json.loads(done.stdout)["metrics"]
    return found


def refused(command: str) -> str:
    done = run(command)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return line


CALC = "calc --images made.npy --num 40"


def test_it_is_the_distance_of_spatial_features_whatever_they_are_compared_with() -> None:
    expected = distance(seen(pictures(1) // 2), seen(pictures(0)))
    assert isinstance(Corners(), SpatialDetector) and not isinstance(Blind(), SpatialDetector)
    done = run("ref --data real.npy --dest ref.npz --spatial")
    assert done.exit_code == 0, done.output
    with np.load("ref.npz") as held:
        assert held["mu_s"].shape == (4,) and held["sigma_s"].shape == (4, 4)
        adm = {name: held[name] for name in ("mu", "sigma", "mu_s", "sigma_s")}
    np.savez("adm.npz", **adm, arr_0=pictures(5, 3))
    run("ref --data real.npy --dest plain.npz")

    plain = values(f"{CALC} --ref ref.npz")
    for given in (
        "--ref ref.npz", "--ref-images real.npy", "--ref adm.npz", "--ref-images adm.npz",
        "--ref plain.npz --ref-images real.npy",
    ):  # fmt: skip
        found = values(f"{CALC} {given} --metrics sfid,fid")
        assert found["sfid"] == pytest.approx(expected, rel=1e-6), given
        assert found["fid"] == pytest.approx(plain["fid"], rel=1e-9), given
        assert found["sfid_standard_error"] > 0
    assert values(f"{CALC} --ref ref.npz --metrics sfid")["sfid"] == pytest.approx(expected)
    assert values("calc --images real.npy --num 40 --ref ref.npz --metrics sfid")[
        "sfid"
    ] == pytest.approx(0, abs=1e-5)


def test_the_error_is_that_of_the_distance() -> None:
    x, y = seen(pictures(1)), seen(pictures(0))
    plain = Evidence(
        features=x,
        generated=_gaussian(x),
        reference=_gaussian(y),
    )
    spatial = measure(["sfid"], Evidence(spatial=plain), "inception-2015-12-05").found["sfid"]
    fid = measure(["fid"], plain, "inception-2015-12-05").found["fid"]
    assert (spatial.value, spatial.error) == (fid.value, fid.error)
    assert spatial.influence is not None and fid.influence is not None
    assert torch.equal(spatial.influence, fid.influence)
    assert spatial.beside == {"sfid_standard_error": fid.error}


def _gaussian(rows: np.ndarray) -> Gaussian:
    return Gaussian(Statistics(rows.mean(0), np.cov(rows, rowvar=False), len(rows)), "cov")


def test_features_that_are_kept_are_used_again(tmp_path: Path) -> None:
    asked = f"{CALC} --ref-images real.npy --metrics sfid,fid --features kept --batch 8"
    first = values(asked)
    (chunk,) = Path("kept").glob("*.npz")
    before = chunk.stat().st_mtime_ns
    assert values(asked) == first and chunk.stat().st_mtime_ns == before
    assert "other images or another detector" in refused(
        f"{CALC} --ref-images real.npy --features kept"
    )

    # A chunk without them is made again.
    with np.load(chunk) as held:
        arrays = {name: held[name] for name in held.files if name != "spatial"}
    np.savez(chunk, **arrays)
    assert values(asked) == first and chunk.stat().st_mtime_ns != before
    shutil.rmtree("kept")


def test_what_has_no_sfid() -> None:
    run("ref --data real.npy --dest plain.npz")
    said = "sfid needs Inception-v3's spatial features, and blind has none"
    assert said in refused(f"{CALC} --ref-images real.npy --metrics sfid --detector blind")
    assert said in refused("ref --data real.npy --dest new.npz --spatial --detector blind")
    assert not Path("new.npz").exists()
    assert "sfid needs mu_s and sigma_s of the real images, which the reference lacks" in refused(
        f"{CALC} --ref plain.npz --metrics sfid"
    )
    assert "sfid needs the real images' statistics: give --ref, or" in refused(
        f"{CALC} --metrics sfid"
    )

    statistics = {"mu": np.zeros(2), "sigma": np.eye(2)}
    for name, wrong, words in [
        ("shape", {"mu_s": np.zeros(4), "sigma_s": np.eye(3)}, "mean has shape [4] and cov [3, 3]"),
        ("nan", {"mu_s": np.zeros(4), "sigma_s": np.full([4, 4], np.nan)}, "NaN or infinity"),
        ("objects", {"mu_s": np.array([{}]), "sigma_s": np.eye(4)}, "Python objects"),
        (
            "negative",
            {"mu_s": np.zeros(4), "sigma_s": -np.eye(4)},
            "spatial covariance has the eig",
        ),
    ]:
        np.savez(f"{name}.npz", **statistics, **wrong)  # type: ignore[arg-type]
        assert words in refused(f"{CALC} --ref {name}.npz --metrics sfid")
    np.savez("other.npz", **statistics, mu_s=np.zeros(3), sigma_s=np.eye(3))
    assert "dimension 4 and 3" in refused(f"{CALC} --ref other.npz --metrics sfid")
