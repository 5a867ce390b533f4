"""Streaming statistics against numpy.cov, over ranks, and in files."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from conftest import golden_npz

from metrics.statistics import FeatureStatistics, Statistics, same_summary

ROOT = Path(__file__).resolve().parents[2]


def gather(features: np.ndarray, sizes: list[int]) -> FeatureStatistics:
    """Statistics of consecutive batches of these sizes."""
    stats = FeatureStatistics(features.shape[1], "cpu")
    for batch in np.split(features, np.cumsum(sizes)[:-1]):
        stats.update(batch)
    return stats


def sample(offset: float = 0.0, rows: int = 300) -> np.ndarray:
    """Correlated features of 5 dimensions, float64."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 5)) @ rng.standard_normal((5, 5)) + offset


@pytest.mark.parametrize("sizes", [[300], [1, 299], [100, 0, 150, 50], [1] * 300])
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_equals_numpy_whatever_the_batches_and_the_offset(sizes: list[int], offset: float) -> None:
    """With an offset of 1e7 the difference of raw moments has no right digit in the covariance."""
    x = sample(offset)
    result = gather(x, sizes).result()
    np.testing.assert_allclose(result.mean, x.mean(0), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(
        result.cov, np.cov(x, rowvar=False), rtol=0, atol=1e-12 if offset == 0 else 1e-7
    )
    assert result.count == 300 and result.mean.dtype == result.cov.dtype == np.float64
    assert np.array_equal(result.cov, result.cov.T)


def test_equals_the_reference_vectors() -> None:
    stored = golden_npz("metrics")
    for name in ("generated", "real"):
        result = gather(
            stored[f"features_{name}"], [33] * 12 + [len(stored[f"features_{name}"]) - 396]
        ).result()
        np.testing.assert_allclose(result.mean, stored[f"mu_{name}"], rtol=0, atol=1e-14)
        np.testing.assert_allclose(result.cov, stored[f"sigma_{name}"], rtol=0, atol=1e-14)


RANKS = """
import sys
import numpy as np
from metrics.statistics import FeatureStatistics
from torch_utils import distributed

distributed.init("cpu")
x = np.load(sys.argv[1])
for name, first in (("shared", 110), ("one", len(x))):  # in the second, rank 1 has no image
    stats = FeatureStatistics(x.shape[1], "cpu")
    part = x[:first] if distributed.rank() == 0 else x[first:]
    for batch in np.array_split(part, 7):
        stats.update(batch)
    together = stats.all_reduced().result()
    if distributed.rank() == distributed.world_size() - 1:
        together.save(f"{sys.argv[2]}/{name}.npz")
distributed.shutdown()
"""


def test_two_ranks_are_one(tmp_path: Path) -> None:
    x = sample(offset=3.0)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "ranks.py").write_text(RANKS)
    done = processes.run(
        tmp_path / "ranks.py", tmp_path / "x.npy", tmp_path, ranks=2, PYTHONPATH=str(processes.ROOT)
    )
    assert done.returncode == 0, done.stderr
    alone = gather(x, [300]).result()
    for name in ("shared", "one"):
        together = Statistics.load(tmp_path / f"{name}.npz")
        assert together.count == 300
        np.testing.assert_allclose(together.mean, alone.mean, rtol=1e-13)
        np.testing.assert_allclose(together.cov, alone.cov, rtol=0, atol=1e-12)  # 1e-9 asked for


def test_a_process_alone_reduces_to_itself() -> None:
    stats = gather(sample(), [300])
    assert np.array_equal(stats.all_reduced().result().cov, stats.result().cov)


def test_files_keep_everything_and_need_no_pickle(tmp_path: Path) -> None:
    made = gather(sample(), [300]).result("inception-2015-12-05", "6726825d")
    made.save(tmp_path / "new folder" / "ref.npz")
    read = Statistics.load(tmp_path / "new folder" / "ref.npz")
    assert read.channels is None
    dataclasses.replace(made, channels=3).save(tmp_path / "colour.npz")
    assert Statistics.load(tmp_path / "colour.npz").channels == 3
    assert np.array_equal(read.mean, made.mean) and np.array_equal(read.cov, made.cov)
    assert (read.count, read.detector, read.detector_hash) == (
        300,
        "inception-2015-12-05",
        "6726825d",
    )
    with np.load(tmp_path / "new folder" / "ref.npz", allow_pickle=False) as file:
        assert file["mu"].shape == (5,) and file["sigma"].shape == (5, 5)


def test_reads_what_others_write(tmp_path: Path) -> None:
    """EDM: mu and sigma alone. ADM's evaluator: spatial statistics and the images too."""
    cov, cov_s = np.eye(4), 2 * np.eye(3)
    np.savez(tmp_path / "edm.npz", mu=np.zeros(4), sigma=cov)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    np.savez(
        tmp_path / "adm.npz",
        mu=np.ones(4, np.float32),
        sigma=cov,
        mu_s=np.zeros(3),
        sigma_s=cov_s,
        arr_0=images,
    )
    edm, adm = Statistics.load(tmp_path / "edm.npz"), Statistics.load(tmp_path / "adm.npz")
    assert (edm.count, edm.detector, edm.dim) == (None, None, 4)
    assert adm.mean.dtype == np.float64 and np.array_equal(adm.mean, np.ones(4))
    assert np.array_equal(Statistics.load(tmp_path / "adm.npz", "mu_s", "sigma_s").cov, cov_s)


def test_files_that_are_no_statistics(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.npz: no such file"):
        Statistics.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "images.npz", arr_0=np.zeros(3))
    with pytest.raises(ValueError, match=r"images\.npz has no array mu, sigma; it holds arr_0$"):
        Statistics.load(tmp_path / "images.npz")
    np.savez(tmp_path / "object.npz", mu=np.array([{}]), sigma=np.eye(1))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"mu": 0}))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "images.npz").read_bytes()[:60])
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("object.npz", "pickle.npz", "cut.npz", "empty.npz", "array.npy"):
        with pytest.raises(
            ValueError,
            match=f"{name} (is damaged|is not an npz file of plain arrays|has no statistics; it holds neither)",
        ):
            Statistics.load(tmp_path / name)
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(
        ValueError, match=r"shapes\.npz: mean has shape \[3\] and cov \[2, 2\]; need"
    ):
        Statistics.load(tmp_path / "shapes.npz")
    for name, values in (("text", {"mu": np.array(["a"])}), ("complex", {"sigma": np.eye(1) + 0j})):
        np.savez(tmp_path / f"{name}.npz", **{"mu": np.zeros(1), "sigma": np.eye(1)} | values)
        with pytest.raises(
            ValueError, match=f"{name}\\.npz: (mean|cov) is of type .*, not of real numbers"
        ):
            Statistics.load(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "counts.npz", mu=np.zeros(1), sigma=np.eye(1), count=np.arange(2))
    with pytest.raises(ValueError, match=r"counts\.npz: "):
        Statistics.load(tmp_path / "counts.npz")
    np.savez(tmp_path / "nan.npz", mu=np.zeros(2), sigma=np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match=r"nan\.npz: .* NaN or infinity"):
        Statistics.load(tmp_path / "nan.npz")


def pickled(path: Path, value: object) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=4))
    return path


def test_edm2s_references_are_read_without_executing_them(tmp_path: Path) -> None:
    """{"fid": {"mu", "sigma"}, "fd_dinov2": {"mu", "sigma"}}, as EDM2's program pickles them."""
    inception = {"mu": np.arange(4.0), "sigma": np.eye(4)}
    dino = {"mu": np.ones(3), "sigma": 2 * np.eye(3)}
    path = pickled(tmp_path / "img64.pkl", {"num_images": 50, "fid": inception, "fd_dinov2": dino})
    read = Statistics.load(path)
    assert (
        np.array_equal(read.mean, np.arange(4.0))
        and np.array_equal(read.cov, np.eye(4))
        and read.count == 50
    )
    assert np.array_equal(Statistics.load(path, detector="dinov2-1024d").cov, 2 * np.eye(3))
    assert Statistics.load(path, detector="dinov2-1024d").detector == "dinov2-1024d"
    with pytest.raises(
        ValueError, match="no statistics for the detector demo-x; it holds fid, fd_dinov2"
    ):
        Statistics.load(path, detector="demo-x")
    assert Statistics.load(path, detector="inception-2015-12-05-bfloat16").dim == 4
    with pytest.raises(
        ValueError, match=r"no statistics for the detector .*clean-resize; it holds"
    ):
        Statistics.load(path, detector="inception-2015-12-05-clean-resize")
    alone = pickled(tmp_path / "alone.pkl", {"fid": inception})
    with pytest.raises(
        ValueError,
        match=r"alone\.pkl has no statistics for the detector dinov2-1024d; it holds fid$",
    ):
        Statistics.load(alone, detector="dinov2-1024d")
    for name, value, said in [
        ("list.pkl", [1, 2], "it holds neither fid nor fd_dinov2"),
        ("numbers.pkl", {"fid": 3}, "fid is not a mean mu and a covariance sigma"),
        ("half.pkl", {"fid": {"mu": np.zeros(2)}}, "fid is not a mean mu and a covariance sigma"),
        ("code.pkl", {"fid": print}, "refuses builtins.print"),
        ("shapes.pkl", {"fid": inception | {"mu": np.zeros(3)}}, "need \\[d\\] and \\[d, d\\]"),
    ]:
        with pytest.raises(ValueError, match=f"{name}.*{said}"):
            Statistics.load(pickled(tmp_path / name, value))


def test_torch_fidelitys_cache_is_read_without_executing_it(tmp_path: Path) -> None:
    """torch.save of {"mu", "sigma"} as numpy arrays."""
    rows = sample().astype(np.float32)
    made = {"mu": rows.mean(0), "sigma": np.cov(rows, rowvar=False)}
    torch.save(made, tmp_path / "set-stat-fid-2048.pt")
    read = Statistics.load(tmp_path / "set-stat-fid-2048.pt")
    assert np.array_equal(read.mean, made["mu"].astype(np.float64))
    assert np.array_equal(read.cov, made["sigma"]) and read.detector is None

    for name, value, said in [
        ("code.pt", {"mu": print}, "refuses __builtin__.print"),
        ("weights.pt", torch.nn.Linear(2, 2).state_dict(), "not of a mean mu and a covariance"),
        ("tensor.pt", torch.zeros(3), "not of a mean mu and a covariance sigma"),
        ("half.pt", {"mu": np.zeros(2)}, "not of a mean mu and a covariance sigma"),
        ("shapes.pt", {"mu": np.zeros(2), "sigma": np.eye(3)}, "need \\[d\\] and \\[d, d\\]"),
        ("nan.pt", {"mu": np.zeros(2), "sigma": np.eye(2) * np.nan}, "NaN or infinity"),
    ]:
        torch.save(value, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}.*{said}"):
            Statistics.load(tmp_path / name)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "nan.pt").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        Statistics.load(tmp_path / "cut.pt")


def test_a_summary_tells_statistics_apart_and_not_their_rounding() -> None:
    made = gather(sample(), [300]).result()
    rounded = Statistics(
        made.mean.astype(np.float32).astype(float), made.cov.astype(np.float32).astype(float)
    )
    assert same_summary(made.summary(), rounded.summary())
    order = np.array([1, 0, 2, 3, 4])
    others = [
        gather(sample()[:299], [299]).result(),
        Statistics(made.mean[order], made.cov[order][:, order]),
        Statistics(made.mean, made.cov * 1.001),
        Statistics(made.mean[:4], made.cov[:4, :4]),
    ]
    assert not any(same_summary(made.summary(), other.summary()) for other in others)


def test_what_cannot_be_gathered_or_compared() -> None:
    stats = FeatureStatistics(5, "cpu")
    with pytest.raises(ValueError, match="features have 4 dimensions, the statistics 5"):
        stats.update(np.zeros((2, 4)))
    stats.update(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="needs at least 2 images; 1 given"):
        stats.result()
    a = Statistics(np.zeros(2), np.eye(2), detector="inception", detector_hash="1")
    a.require_comparable(Statistics(np.zeros(2), np.eye(2)))
    for other, message in [
        (Statistics(np.zeros(3), np.eye(3)), "dimension 2 and 3"),
        (Statistics(np.zeros(2), np.eye(2), detector="demo"), "detector inception and demo"),
        (
            Statistics(np.zeros(2), np.eye(2), detector="inception", detector_hash="2"),
            "detector hash 1 and 2",
        ),
    ]:
        with pytest.raises(ValueError, match=f"^statistics of {message} cannot be compared"):
            a.require_comparable(other)
