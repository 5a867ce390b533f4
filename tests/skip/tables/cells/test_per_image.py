"""Values per image: in order, shared out over ranks, and kept in chunks from which a killed run goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skip.tables.cells.per_image import collect
from torch_utils import distributed


def compute(seeds: list[int]) -> dict[str, torch.Tensor]:
    return {
        "square": torch.tensor(seeds, dtype=torch.float64) ** 2,
        "row": torch.tensor([[s, -s] for s in seeds]),
    }


def test_collect_gives_every_seed_in_order(tmp_path: Path) -> None:
    seeds = [*range(50, 80), 3, 1]
    found = collect(tmp_path, seeds, 3, compute, "test")
    assert found["square"].tolist() == [s**2 for s in seeds]
    assert found["row"].tolist() == [[s, -s] for s in seeds]


def test_collect_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []

    def dying(seeds: list[int]) -> dict[str, torch.Tensor]:
        if len(seen) >= 40:
            raise KeyboardInterrupt
        seen.extend(seeds)
        return compute(seeds)

    seeds = list(range(60))
    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path, seeds, 2, dying, "test")
    kept = len(list(tmp_path.glob("*.npz")))
    assert kept == 20
    seen.clear()
    found = collect(tmp_path, seeds, 2, dying, "test")
    assert seen == seeds[40:]
    assert found["square"].tolist() == [s**2 for s in seeds]


def test_no_flipped_bit_of_a_chunk_goes_unseen(tmp_path: Path) -> None:
    """A chunk that was cut or changed is named and made again; the values come out right."""
    seeds = [3, 4, 5]
    right = collect(tmp_path, seeds, 3, compute, "test")
    (path,) = tmp_path.glob("*.npz")
    whole, made = path.read_bytes(), list[int]()

    def counted(seeds: list[int]) -> dict[str, torch.Tensor]:
        made.append(len(made))
        return compute(seeds)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = collect(tmp_path, seeds, 3, counted, "test")
        assert found.keys() == right.keys()
        assert all(np.array_equal(found[name], right[name]) for name in right)

    places = range(0, len(whole), 23)
    for place in places:
        check(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    assert len(made) > 0.6 * len(places)  # dates and flags in a zip have no effect
    made.clear()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        check(whole[:length])
    assert len(made) == 4


def test_a_damaged_chunk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(tmp_path, list(range(6)), 3, compute, "test")
    path = sorted(tmp_path.glob("*.npz"))[1]
    path.write_bytes(b"no zip")
    collect(tmp_path, list(range(6)), 3, compute, "test")
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert said == [f"{path} is damaged (File is not a zip file); its 3 images are done again"]


def test_chunks_of_other_arrays_are_not_joined(tmp_path: Path) -> None:
    collect(tmp_path, list(range(6)), 3, compute, "test")
    sorted(tmp_path.glob("*.npz"))[1].unlink()
    with pytest.raises(
        ValueError, match=r"000001-batch3.npz holds other arrays than 000000-batch3.npz"
    ):
        collect(
            tmp_path, list(range(6)), 3, lambda seeds: {"other": torch.zeros(len(seeds))}, "test"
        )


def test_collect_shares_batches_over_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "require_shared", lambda *_: None)
    # Nothing was there.
    monkeypatch.setattr(distributed, "as_rank_0_says", lambda flags: [True] * len(flags))
    calls: dict[int, list[list[int]]] = {0: [], 1: []}
    for rank in (1, 0):  # rank 0 comes last, as the barrier would have it
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)

        def spied(seeds: list[int], rank: int = rank) -> dict[str, torch.Tensor]:
            calls[rank].append(seeds)
            return compute(seeds)

        if rank == 0:  # it looked before rank 1 wrote
            for path in tmp_path.glob("*.npz"):
                path.rename(path.with_suffix(".kept"))
            monkeypatch.setattr(distributed, "barrier", Barrier(tmp_path))
        found = collect(tmp_path, list(range(50)), 2, spied, "test")
    assert found["square"].tolist() == [s**2 for s in range(50)]
    assert [batch[0] for batch in calls[1]] == list(range(2, 50, 4))
    assert [batch[0] for batch in calls[0]] == list(range(0, 50, 4))


class Barrier:
    """The other rank's files appear at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        for path in self.folder.glob("*.kept"):
            path.rename(path.with_suffix(".npz"))
