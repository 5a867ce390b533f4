import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import golden_json, golden_npz

from sampling.names import Labels
from sampling.noise import DrawnAhead, SeedNoise, first_draws

ENTRIES = golden_json("rng")["entries"]
TOLERANCE = 1e-5  # processors without AVX2 take other logarithms and cosines: up to 2e-6


def near(actual: Any, expected: Any) -> Any:
    return torch.allclose(
        actual.double(), torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: str(e["seed"]))
def test_draws_of_one_seed_match_the_reference(entry: dict[str, Any]) -> None:
    noise = SeedNoise([entry["seed"]])
    latent = noise.randn([1, 3, 64, 64])
    assert latent.dtype == torch.float32
    assert near(latent.flatten()[:8], entry["latent_first8"])
    assert near(latent.flatten()[-4:], entry["latent_last4"])
    label = noise.randint(1000)
    assert label.dtype == torch.int64 and label.tolist() == [entry["class_idx_1000"]]
    churn = noise.randn_like(latent.double())
    assert churn.dtype == torch.float64
    assert near(churn.flatten()[:8], entry["next_float64_randn_like_first8"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: str(e["seed"]))
def test_other_shapes_and_dtypes_match_the_reference(entry: dict[str, Any]) -> None:
    seeds = [entry["seed"]]
    small = SeedNoise(seeds)
    assert near(small.randn([1, 3, 16, 16]).flatten()[:8], entry["latent_3x16x16_first8"])
    assert small.randint(10).tolist() == [entry["class_idx_10_after_3x16x16"]]
    double = SeedNoise(seeds).randn([1, 3, 64, 64], torch.float64)
    assert near(double.flatten()[:8], entry["direct_float64_randn_first8"])
    assert near(SeedNoise(seeds).randn([1, 5]).flatten(), entry["randn_5_values"])


def test_stacked_draws_match_the_reference() -> None:
    facts, arrays = golden_json("rng"), golden_npz("rng")
    seeds = [entry["seed"] for entry in facts["entries"]]
    noise = SeedNoise(seeds)
    latents = noise.randn([len(seeds), 3, 64, 64])
    for latent, seed in zip(latents, seeds, strict=True):
        expected = arrays[f"seed{seed}/latent_3x64x64"]
        assert near(latent[tuple(slice(n) for n in expected.shape)], expected)
    assert noise.randint(1000).tolist() == facts["stacked_class_idx_1000"]


def test_an_image_does_not_depend_on_its_batch() -> None:
    together, alone = SeedNoise([7, 8, 9]), SeedNoise([8])
    shape = [2, 5, 5]
    assert torch.equal(together.randn([3, *shape])[1], alone.randn([1, *shape])[0])
    assert together.randint(50)[1] == alone.randint(50)[0]
    x = torch.zeros(3, *shape, dtype=torch.float64)
    assert torch.equal(together.randn_like(x)[1], alone.randn_like(x[1:2])[0])


def test_a_seed_counts_modulo_2_to_the_32() -> None:
    assert torch.equal(SeedNoise([5]).randn([1, 20]), SeedNoise([5 + 2**32]).randn([1, 20]))
    assert not torch.equal(SeedNoise([5]).randn([1, 20]), SeedNoise([5 + 2**31]).randn([1, 20]))


def test_wrong_batch_and_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 4\) for 2 seeds"):
        SeedNoise([0, 1]).randn([3, 4])
    with pytest.raises(ValueError, match="for 1 seeds"):
        SeedNoise([0]).randn([])
    for none in ([], torch.zeros(0, dtype=torch.int64)):
        with pytest.raises(ValueError, match="at least one seed"):
            SeedNoise(none)


@pytest.mark.parametrize(
    "seeds", [range(3), np.arange(3), torch.arange(3)], ids=["range", "numpy", "torch"]
)
def test_seeds_come_in_any_sequence(seeds: Sequence[int]) -> None:
    assert torch.equal(SeedNoise(seeds).randn([3, 5]), SeedNoise([0, 1, 2]).randn([3, 5]))


@pytest.mark.gpu
def test_draws_are_the_cpus_for_a_state_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    on_gpu = SeedNoise([3]).randn_like(x.cuda())
    assert on_gpu.is_cuda and torch.equal(on_gpu.cpu(), SeedNoise([3]).randn_like(x))


def test_draws_made_ahead_are_the_same_ones() -> None:
    x = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    random = SeedNoise([5, 6, 7])
    expected = [random.randn_like(x) for _ in range(4)]
    with DrawnAhead(SeedNoise([5, 6, 7])) as ahead:
        assert all(torch.equal(ahead(x), noise) for noise in expected)
        with pytest.raises(
            ValueError,
            match=r"noise of shape \[3, 2, 4, 4\] was drawn ahead, for x of shape \[3, 1",
        ):
            ahead(x[:, :1])


def test_the_thread_of_draws_made_ahead_is_gone_at_the_end() -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), DrawnAhead(SeedNoise([1])) as ahead:
        ahead(torch.zeros(1, 1, 2, 2))
        assert threading.active_count() == before + 1
        raise KeyError
    assert threading.active_count() == before


SHAPE = (1, 8, 8)


def test_the_first_draws_are_noise_then_class_and_later_ones_follow() -> None:
    draws, by_hand = first_draws([7, 8], SHAPE, 10), SeedNoise([7, 8])
    assert torch.equal(draws.noise, by_hand.randn([2, *SHAPE]))
    assert draws.classes == by_hand.randint(10).tolist()
    x = torch.zeros(2, *SHAPE, dtype=torch.float64)
    assert torch.equal(draws.random.randn_like(x), by_hand.randn_like(x))


@pytest.mark.parametrize(
    ("labels", "class_idx", "classes"), [("balanced", None, [7, 2]), ("random", 3, [3, 3])]
)
def test_classes_that_are_not_drawn_leave_later_draws_as_they_are(
    labels: Labels, class_idx: int | None, classes: list[int]
) -> None:
    x = torch.zeros(2, *SHAPE, dtype=torch.float64)
    drawn = first_draws([7, 12], SHAPE, 10).random.randn_like(x)
    draws = first_draws([7, 12], SHAPE, 10, labels, class_idx)
    assert draws.classes == classes
    assert torch.equal(draws.random.randn_like(x), drawn)


def test_the_first_draws_of_an_image_depend_on_its_seed_alone() -> None:
    together, alone = first_draws([7, 8, 9], SHAPE, 10), first_draws([8], SHAPE, 10)
    assert torch.equal(together.noise[1:2], alone.noise)
    assert together.classes[1:2] == alone.classes


def test_without_classes_none_is_drawn() -> None:
    draws, by_hand = first_draws([7], SHAPE, 0), SeedNoise([7])
    by_hand.randn([1, *SHAPE])
    assert draws.classes == []
    assert draws.random.randint(1000).tolist() == by_hand.randint(1000).tolist()
