"""The feature pass: equal to direct computation, resumable, refusing what does not belong together."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import lapack
from slow_folder import SlowFolder
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.feature_store import FeatureStore, Part, extract
from metrics.frechet import frechet_distance
from metrics.gaussian import Gaussian
from metrics.images import ArrayImages, open_images
from metrics.inception_score import inception_score
from metrics.measure import measure, parse_metrics
from metrics.metric import Evidence
from metrics.names import METRICS
from metrics.statistics import Statistics

CPU = torch.device("cpu")


class Pooled:
    """A detector that is easy to know: means of quarters as features, scaled as logits."""

    name, feature_dim, num_logits, sha256 = "pooled", 4, 4, "0" * 64

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(len(images))
        features = torch.nn.functional.adaptive_avg_pool2d(
            images.float().mean(1, keepdim=True), 2
        ).flatten(1)
        return features, features / 40


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, [count, 8, 8, 3], dtype=np.uint8)


def folder(path: Path, images: np.ndarray) -> Path:
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:06d}.png")
    return path


def direct(images: np.ndarray) -> np.ndarray:
    return Pooled()(torch.from_numpy(images.transpose(0, 3, 1, 2)))[0].numpy().astype(np.float64)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))


def test_of_two_stores_that_begin_together_with_other_settings_one_is_refused(
    tmp_path: Path,
) -> None:
    first, second = (FeatureStore(tmp_path / "store", {"images": name}) for name in "ab")
    with first.opened():
        pass
    with pytest.raises(ValueError, match="store holds features of other images"), second.opened():
        pass
    for name in (".settings.json.0123abcd.tmp", ".000000000-000000001-2.npz.0123abcd.tmp"):
        (first.folder / name).touch()
    with first.opened():
        pass
    assert [path.name for path in first.folder.iterdir()] == ["settings.json"]


def test_metrics_equal_those_of_the_features(tmp_path: Path) -> None:
    made, real = pictures(60), pictures(50, seed=1)
    images = open_images(folder(tmp_path / "a", made))
    reference = open_images(folder(tmp_path / "b", real))
    ev = Evaluation(Pooled(), CPU, batch=7)
    with ev.features_of(images) as store:
        result = ev.measure(
            ["fid", "fid_inf", "is", "pr", "kid", "dc", "immd"], store, range(60), None, reference
        ).values
    x, y = direct(made), direct(real)
    fid = frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert result["fid-pooled"] == pytest.approx(fid, rel=1e-6)
    assert result["fid_inf-pooled"] + result["fid_bias-pooled"] == pytest.approx(fid, rel=1e-6)
    assert 0 < result["fid_inf_standard_error-pooled"] < fid
    keys = [
        hashlib.blake2b(image.transpose(2, 0, 1).tobytes(), digest_size=8).digest()[::-1]
        for image in made
    ]
    order = sorted(range(60), key=keys.__getitem__)
    assert result["is-pooled"] == pytest.approx(inception_score(x[order] / 40)[0], rel=1e-6)
    assert {
        "precision-pooled",
        "recall-pooled",
        "kid-pooled",
        "density-pooled",
        "immd_median-pooled",
    } <= set(result)
    assert not list((tmp_path / "cache").rglob("*.npz")), "a temporary store is removed"


def test_features_in_float64_keep_their_digits(tmp_path: Path) -> None:
    class Fine(Pooled):
        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features, logits = super().__call__(images)
            return features.double() / 3, logits

    images = open_images(folder(tmp_path / "a", pictures(10)))
    with Evaluation(Fine(), CPU).features_of(images) as store:
        features, logits = store.load(range(10))
    assert features.dtype == np.float64 and logits.dtype == np.float32
    np.testing.assert_allclose(features, direct(pictures(10)) / 3, rtol=1e-15)


def test_inception_alone_makes_fid() -> None:
    x = Gaussian(Statistics(np.zeros(2), np.eye(2)), "x")
    y = Gaussian(Statistics(np.ones(2), np.eye(2)), "y")
    found = measure(["fid"], Evidence(x, y), "inception-2015-12-05")
    assert found.values == {"fid": pytest.approx(2)} and not found.refused


@pytest.mark.parametrize(
    ("detector", "made_with", "doubtful"),
    [
        ("resnet-101", None, True),
        ("resnet-101", "resnet-101", False),
        ("inception-2015-12-05", None, False),
    ],
)
def test_statistics_without_a_name_are_doubted_beside_another_network_than_inception(
    detector: str,
    made_with: str | None,
    doubtful: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pooled, "name", detector)
    images = open_images(folder(tmp_path / "a", pictures(60)))
    ev = Evaluation(Pooled(), CPU)
    with ev.features_of(images) as store:
        d = Pooled.feature_dim
        reference = Statistics(np.zeros(d), np.eye(d), detector=made_with)
        result = ev.measure(["fid"], store, range(60), reference, None).as_json()
    said = any("does not say which detector" in line for line in result.get("warnings", []))
    assert said == doubtful


def test_a_killed_pass_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metrics.feature_store.CHUNK_IMAGES", 10)
    made = pictures(45)
    tensor = torch.from_numpy(made.transpose(0, 3, 1, 2))
    store = FeatureStore(tmp_path / "store", {"images": "these"})

    def dying(ids: list[int]) -> Iterator[tuple[list[int], Tensor]]:
        for start in range(0, len(ids), 5):
            if start >= 25:
                raise KeyboardInterrupt
            yield ids[start : start + 5], tensor[ids[start : start + 5]]

    def whole(ids: list[int]) -> Iterator[tuple[list[int], Tensor]]:
        yield ids, tensor[ids]

    with pytest.raises(KeyboardInterrupt):
        extract(store, Pooled(), range(45), dying, CPU)
    assert store.done() == set(range(20))
    again = Pooled()
    assert extract(store, again, range(45), whole, CPU) == 25
    assert again.seen == [25]
    features, _ = store.load(range(45))
    assert np.allclose(features, direct(made), rtol=1e-6)
    shuffled = [7, 3, 44]
    assert np.array_equal(store.load(shuffled)[0], features[shuffled])
    got = store.statistics(range(10, 45), 4, CPU).result()
    assert np.allclose(got.mean, features[10:].mean(0), rtol=1e-6)
    assert got.count == 35


def test_chunks_that_show_late_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.from_numpy(pictures(45).transpose(0, 3, 1, 2))
    store, slow, listed = FeatureStore(tmp_path, {}), SlowFolder(monkeypatch), FeatureStore.chunks
    monkeypatch.setattr(FeatureStore, "chunks", lambda self: slow.shown(listed(self)))
    made = extract(store, Pooled(), range(45), lambda ids: [(ids, tensor[ids])], CPU)
    assert made == 23 and store.done() == set(range(0, 45, 2))


def test_features_of_other_images_are_refused(tmp_path: Path) -> None:
    with FeatureStore(tmp_path, {"images": "a"}).opened():
        pass
    with pytest.raises(ValueError, match="other images or another detector"):
        FeatureStore(tmp_path, {"images": "b"})


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {})
    with store.opened():
        pass
    store.add(Part([0, 1], torch.zeros(2, 4), torch.zeros(2, 0), np.zeros(2, np.uint64)))
    (chunk,) = store.chunks()
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(ValueError, match=f"{chunk.name} is damaged"):
        store.done()


def test_of_an_image_that_is_in_two_chunks_the_first_counts(tmp_path: Path) -> None:
    """As where two runs filled one folder: statistics and arrays must take the same one."""
    store = FeatureStore(tmp_path, {})
    with store.opened():
        pass
    for ids, value in (([2, 3], 5.0), ([1, 2], 1.0)):  # not in the order of their names
        store.add(
            Part(
                ids,
                torch.full([2, 1], value),
                torch.full([2, 1], -value),
                np.full(2, int(value), np.uint64),
            )
        )
    features, logits = store.load([1, 2, 3])
    assert features.tolist() == [[1], [1], [5]] and logits.tolist() == [[-1], [-1], [-5]]
    assert store.statistics([1, 2, 3], 1, CPU).result().mean == pytest.approx(7 / 3)
    assert store.by_content([3, 2, 1]).tolist() == [1, 2, 0]


def flip_a_bit(path: Path) -> None:
    """In the middle of the largest array of an npz, far from any header."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def without_digests(path: Path) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "digests"}
    np.savez(path, **kept)


@pytest.mark.parametrize("damage", [flip_a_bit, cut, without_digests])
def test_a_damaged_chunk_is_made_again(
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("metrics.feature_store.CHUNK_IMAGES", 40)
    tensor = torch.from_numpy(pictures(100).transpose(0, 3, 1, 2))
    store = FeatureStore(tmp_path, {})

    def batches(ids: list[int]) -> Iterator[tuple[list[int], Tensor]]:
        for start in range(0, len(ids), 20):
            yield ids[start : start + 20], tensor[ids[start : start + 20]]

    extract(store, Pooled(), range(100), batches, CPU)
    features, logits = store.load(range(100))
    chunk = store.chunks()[1]
    damage(chunk)
    assert extract(store, Pooled(), range(100), batches, CPU) == 40, (
        "only its images are done again"
    )
    assert str(chunk) in capsys.readouterr().err
    again = store.load(range(100))
    assert np.array_equal(again[0], features) and np.array_equal(again[1], logits)


def test_the_inception_score_does_not_see_how_images_are_stored(tmp_path: Path) -> None:
    """Sorted by class, each split would hold one class: a score near 1."""
    made = np.repeat(pictures(10), 20, axis=0).astype(int) + np.random.RandomState(1).randint(
        0, 9, [200, 8, 8, 3]
    )
    made = made.clip(0, 255).astype(np.uint8)
    shuffled = made[np.random.RandomState(2).permutation(200)]
    classes = tmp_path / "classes"
    for i, image in enumerate(made):
        (classes / f"{i // 20}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(classes / f"{i // 20}" / f"{i % 20}.png")
    np.savez(tmp_path / "sorted.npz", made)
    np.savez(tmp_path / "shuffled.npz", shuffled)

    class Sure(Pooled):
        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features, logits = super().__call__(images)
            return features, logits * 20

    ev = Evaluation(Sure(), CPU, batch=7)
    scores = []
    for path in (classes, tmp_path / "sorted.npz", tmp_path / "shuffled.npz"):
        images = open_images(path)
        with ev.features_of(images) as store:
            scores.append(ev.measure(["is"], store, range(200), None, None).values["is-pooled"])
    assert scores[1:] == pytest.approx([scores[0], scores[0]], rel=1e-6)
    x = direct(shuffled) / 2
    expected = np.mean([inception_score(x, shuffle_seed=seed)[0] for seed in range(20)])
    assert scores[0] == pytest.approx(expected, rel=0.02)
    assert inception_score(direct(made) / 2)[0] < 0.8 * expected


def evidence(count: int, real: int) -> Evidence:
    x = np.random.RandomState(0).randn(count, 3).astype(np.float32)
    y = np.random.RandomState(1).randn(real, 3).astype(np.float32)
    own = Statistics(x.mean(0).astype(np.float64), np.cov(x.T.astype(np.float64)))
    reference = Statistics(np.zeros(3), np.eye(3))
    return Evidence(Gaussian(own, "own"), Gaussian(reference, "reference"), x, x, y)


def test_one_fid_decomposes_each_matrix_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 2048 dimensions each takes a while: the reference's root is found once, the rest serves value and error."""
    calls: list[str] = []
    for place, name in ((torch.linalg, "eigvalsh"), (torch.linalg, "eigh"), (lapack, "dpstrf")):
        original = getattr(place, name)

        def counted(*args: Any, name: str = name, original: Any = original, **how: Any) -> Any:
            calls.append(name)
            return original(*args, **how)

        monkeypatch.setattr(place, name, counted)
    images = open_images(folder(tmp_path / "a", pictures(60)))
    dim = Pooled().feature_dim
    reference = Statistics(np.zeros(dim), np.eye(dim))
    ev = Evaluation(Pooled(), CPU)
    with ev.compared_with(["fid"], reference, None) as target, ev.features_of(images) as store:
        assert calls == ["dpstrf"]
        for ids in (range(60), range(30)):
            calls.clear()
            ev.compare(["fid"], store, ids, target)
            assert calls == ["dpstrf", "eigh"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_metric_that_refuses_leaves_the_others() -> None:
    equal = evidence(20, 20)
    equal = replace(equal, features=np.ones((20, 3), np.float32), real=np.ones((20, 3), np.float32))
    found = measure(["fid", "pr", "immd"], equal, "inception-2015-12-05")
    assert {"fid", "precision", "recall", "immd_sigma10"} <= set(found.values)
    assert list(found.refused) == ["immd"] and "median distance is 0" in found.refused["immd"]
    few = measure(["is", "fid", "dc"], evidence(5, 4), "inception-2015-12-05")
    assert set(few.refused) == {"is", "dc"} and "fid" in few.values
    with pytest.raises(
        ValueError, match="logits have 5 rows; this needs at least 10; real features have 4 rows"
    ):
        measure(["is", "dc"], evidence(5, 4), "inception-2015-12-05")


def test_kid_has_no_spread_where_each_subset_is_the_whole_set() -> None:
    with pytest.warns(
        RuntimeWarning, match="kid_std is left out: each subset is all 20 images of both sets"
    ):
        whole = measure(["kid"], evidence(20, 20), "inception-2015-12-05").values
    assert set(whole) == {"kid", "kid_subset_size"}
    with pytest.warns(
        RuntimeWarning, match="kid_std is too small: each subset has all 20 real images"
    ):
        half = measure(["kid"], evidence(30, 20), "inception-2015-12-05").values
    assert half["kid_std"] > 0


def test_arrays_and_folders_hold_the_same_images(tmp_path: Path) -> None:
    made = pictures(6)
    np.savez(tmp_path / "images.npz", arr_0=made)
    a, b = open_images(tmp_path / "images.npz"), open_images(folder(tmp_path / "folder", made))
    assert len(a) == len(b) == 6
    assert torch.equal(a.batch([4, 0]), b.batch([4, 0]))
    assert torch.equal(a.batch([1])[0].permute(1, 2, 0), torch.from_numpy(made[1]))


def test_arrays_stay_on_disk_unless_compressed(tmp_path: Path) -> None:
    made = pictures(7)
    np.savez(tmp_path / "plain.npz", labels=np.arange(7), arr_0=made)
    np.savez_compressed(tmp_path / "compressed.npz", arr_0=made)
    np.savez(tmp_path / "columns.npz", np.asfortranarray(made))
    stored = {
        name: ArrayImages(tmp_path / f"{name}.npz") for name in ("plain", "compressed", "columns")
    }
    expected = torch.from_numpy(made[[6, 2]].transpose(0, 3, 1, 2).copy())
    assert all(torch.equal(images.batch([6, 2]), expected) for images in stored.values())
    assert [isinstance(images._images, np.memmap) for images in stored.values()] == [
        True,
        False,
        True,
    ]


def test_a_damaged_array_is_seen_before_it_is_measured(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arr_0=pictures(50))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[5000] ^= 255
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.npz is damaged.*Bad CRC-32"):
        open_images(tmp_path / "x.npz")


def test_a_subset_is_a_function_of_its_seed(tmp_path: Path) -> None:
    path = folder(tmp_path / "folder", pictures(20))
    chosen = [open_images(path, 5, seed).batch(range(5)) for seed in (0, 0, 1)]
    assert torch.equal(chosen[0], chosen[1]) and not torch.equal(chosen[0], chosen[2])
    assert open_images(path, 5, 0).fingerprint != open_images(path, 5, 1).fingerprint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros([3, 8, 8, 3])}, "float64"),
        ({"arr_0": np.zeros([3, 8, 8], np.uint8)}, r"\[3, 8, 8\]"),
        ({"a": np.zeros(1), "b": np.zeros(1)}, "no array arr_0"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        open_images(tmp_path / "x.npz")


def test_too_few_images(tmp_path: Path) -> None:
    path = folder(tmp_path / "folder", pictures(3))
    with pytest.raises(ValueError, match="holds 3 images, but 50 are expected"):
        open_images(path, 50)
    with pytest.raises(ValueError, match="at least 2"):
        open_images(folder(tmp_path / "one", pictures(1)))


def test_unknown_metric() -> None:
    assert parse_metrics("fid, is,fid") == ["fid", "is"]
    with pytest.raises(ValueError, match=rf"unknown metric 'FD'; choose from {', '.join(METRICS)}"):
        parse_metrics("FD")


def test_missing_evidence_is_named() -> None:
    x = Gaussian(Statistics(np.zeros(2), np.eye(2)), "x")
    with pytest.raises(ValueError, match="fid needs reference statistics"):
        measure(["fid"], Evidence(x), "demo")
    with pytest.raises(ValueError, match="kid compares images with images"):
        measure(["kid"], Evidence(x), "demo")
    with pytest.raises(ValueError, match="classes"):
        measure(["is"], Evidence(x, logits=np.zeros([5, 0])), "demo")


def test_features_that_fail_before_the_first_leave_no_folder(tmp_path: Path) -> None:
    def failing(ids: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        raise ValueError("no images")
        yield

    with pytest.raises(ValueError, match="no images"):
        extract(FeatureStore(tmp_path / "new" / "store", {}), Pooled(), range(4), failing, CPU)
    assert not (tmp_path / "new").exists()


def test_a_long_range_is_not_unfolded(tmp_path: Path) -> None:
    asked: list[Sequence[int]] = []

    def batches(ids: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        asked.append(ids)
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        extract(FeatureStore(tmp_path, {}), Pooled(), range(10**8), batches, CPU)
    assert isinstance(asked[0], range)
