"""fid.py, killed and started again: the same result, and nothing is computed twice."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import processes
import pytest
import torch
from click.testing import CliRunner
from few_images import few_images
from tiny_network import saved
from torch import Tensor

from fid import main
from metrics.evaluation import Evaluation
from metrics.images import StoredImages

ROOT = Path(__file__).resolve().parents[1]
DEMO = ["--detector", "demo", "--ref", str(ROOT / "assets/demo/reference.npz"), "--device", "cpu"]
CHUNK = 16  # images


@pytest.fixture
def small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metrics.feature_store.CHUNK_IMAGES", CHUNK)
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))


def finished(args: list[str]) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(main, [*args, *DEMO])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def killed_at_the_first_chunk(args: list[str], where: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of the chunks that a process leaves below `where` that dies when it has written one."""
    processes.run(
        "fid.py", *args, *DEMO,
        kill_at=("metrics.feature_store:FeatureStore.add", 1), patches={"metrics.feature_store:CHUNK_IMAGES": CHUNK},
    )  # fmt: skip
    return {path: identity(path) for path in where.rglob("0*.npz")}


def identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def images_in(chunks: Any) -> int:
    return sum(len(np.load(path)["ids"]) for path in chunks)


def first_and_last_count(progress: str) -> tuple[int, int]:
    counts = [int(done) for done in re.findall(r"(\d+)/\d+ \[", progress)]
    return counts[0], counts[-1]


@pytest.mark.usefixtures("small_chunks")
def test_gen_goes_on(tmp_path: Path) -> None:
    args = [
        "gen", "--seeds", "0-39", "--sampler", "euler", "--steps", "2", "--rho-bottom", "0.8",
        "--batch", "8", "--metrics", "fid,is",
    ]  # fmt: skip
    args += ["--network", saved(tmp_path, resolution=32)]
    whole, progress = finished([*args, "--features", str(tmp_path / "whole")])
    assert first_and_last_count(progress) == (0, 40)

    kept = tmp_path / "kept"
    early = killed_at_the_first_chunk([*args, "--features", str(kept)], kept)
    assert images_in(early) == CHUNK
    again, progress = finished([*args, "--features", str(kept)])
    assert again == whole
    assert {path: identity(path) for path in early} == early, (
        "chunks that were there were made again"
    )
    assert images_in(kept.glob("0*.npz")) == 40, "images that were there were made again"
    assert first_and_last_count(progress) == (CHUNK, 40)


@pytest.mark.usefixtures("small_chunks")
def test_calc_goes_on_in_the_cache_and_leaves_nothing_there(tmp_path: Path) -> None:
    images, cache = tmp_path / "images.npz", tmp_path / "cache"
    np.savez(
        images, arr_0=np.random.RandomState(0).randint(0, 256, [100, 32, 32, 1], dtype=np.uint8)
    )
    args = [
        "calc", "--images", str(images), "--num", "90", "--seed", "3", "--batch", "4", "--metrics",
        "fid,is",
    ]  # fmt: skip
    whole, _ = finished(args)
    assert not list(cache.rglob("*.npz"))

    assert images_in(killed_at_the_first_chunk(args, cache)) == CHUNK
    again, progress = finished(args)
    assert again == whole
    assert first_and_last_count(progress) == (CHUNK, 90)
    assert not [path for path in cache.rglob("*") if path.is_file()]


class Brightness:
    """A detector that computes next to nothing, and counts."""

    name, feature_dim, num_logits, sha256 = "brightness", 2, 0, "0" * 64

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(len(images))
        x = images.float().mean((1, 2, 3))
        # Roots, so that sums are rounded.
        return torch.stack([x, x.sqrt()], 1), x.new_zeros(len(x), 0)


def batches(ids: list[int]) -> Any:
    for start in range(0, len(ids), 8):
        part = ids[start : start + 8]
        yield part, torch.stack([torch.full((1, 2, 2), i, dtype=torch.uint8) for i in part])


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    return Evaluation(Brightness(), torch.device("cpu"), 8)


def test_statistics_do_not_depend_on_the_chunks(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As chunks end where the time is up, or the run was killed."""
    found = []
    for size in (8, 24, 1000):
        monkeypatch.setattr("metrics.feature_store.CHUNK_IMAGES", size)
        with evaluation.features({}, batches, range(100)) as store:
            assert len(store.chunks()) == -(-100 // size)
            found.append(evaluation.statistics(store, range(100)))
    assert all(
        (other.mean == found[0].mean).all() and (other.cov == found[0].cov).all() for other in found
    )
    assert found[0].mean[0] == pytest.approx(49.5)


def test_slow_images_are_kept_before_a_chunk_is_full(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.feature_store.CHUNK_SECONDS", 0.0)
    with evaluation.features({}, batches, range(20)) as store:
        assert len(store.chunks()) == 3, "one for each batch"


def test_two_runs_do_not_disturb_each_other(evaluation: Evaluation) -> None:
    with evaluation.features({}, batches, range(10)) as store:
        with evaluation.features({}, batches, range(10, 20)) as other:
            assert other.folder != store.folder
        assert store.done() == set(range(10)), "the other run's end took features away"
        with pytest.raises(RuntimeError, match="another run is at the same images"):
            evaluation.features({}, batches, range(10)).__enter__()
    with evaluation.features({}, batches, range(10)) as store:
        assert store.done() == set(range(10))


def test_two_runs_read_the_same_stored_images(evaluation: Evaluation, tmp_path: Path) -> None:
    """Each on its own; and what a killed run left serves the next, wherever it is."""
    images = StoredImages(few_images(tmp_path, 10))
    with evaluation.features_of(images) as store:
        with evaluation.features_of(images) as other:
            assert other.folder == store.folder.with_name(f"{store.folder.name}-2")
            assert other.done() == store.done() == set(range(10))
        assert not other.folder.exists() and store.done() == set(range(10))

        left = shutil.copytree(store.folder, other.folder)
    with evaluation.features_of(images) as store:
        assert store.folder == left
    assert not list((tmp_path / "cache" / "features").iterdir())


def test_the_lock_of_a_killed_run_is_free(evaluation: Evaluation, tmp_path: Path) -> None:
    with evaluation.features({}, batches, range(10)) as store:
        folder = store.folder
    Path(f"{folder}.lock").touch()
    (folder.parent / "0123.lock").touch()  # and of one that nobody will repeat
    with evaluation.features({}, batches, range(10)) as store:
        assert store.folder == folder
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(f"{folder}.lock").acquire(timeout=0)
    assert not list((tmp_path / "cache" / "features").iterdir())
