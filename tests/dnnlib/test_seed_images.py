"""Images in files named by their seeds."""

from pathlib import Path

import numpy as np
import pytest

from dnnlib.seed_images import SeedImages

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


@pytest.mark.parametrize("subdirs, name", [(False, "001042.png"), (True, "001000/001042.png")])
def test_an_image_comes_back_and_is_found_by_its_seed(
    subdirs: bool, name: str, tmp_path: Path
) -> None:
    images = SeedImages(tmp_path, subdirs)
    assert images.stored() == set() and not images.is_whole(1042)
    images.save(1042, IMAGE)
    assert (tmp_path / name).is_file() and np.array_equal(images.load(1042), IMAGE)
    assert images.stored() == {1042} and list(images.among([1, 1042])) == [1042]
    assert images.is_whole(1042)


def test_images_of_the_other_layout_are_not_counted(tmp_path: Path) -> None:
    SeedImages(tmp_path, subdirs=True).save(7, IMAGE)
    SeedImages(tmp_path).save(8, IMAGE)
    assert SeedImages(tmp_path).stored() == {8}
    assert SeedImages(tmp_path, subdirs=True).stored() == {7}


def test_other_sizes_and_damage_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = SeedImages(tmp_path, size=(4, 4))
    images.save(0, IMAGE)
    assert not images.is_whole(0)
    assert "has 2x2 pixels instead of 4x4: it is made again" in capsys.readouterr().err
    (tmp_path / "000001.png").write_bytes(b"\x89PNG")
    assert not images.is_whole(1)


def test_removing_leaves_what_is_not_ours(tmp_path: Path) -> None:
    images = SeedImages(tmp_path, subdirs=True)
    for seed in (0, 1000, 2000):
        images.save(seed, IMAGE)
    (tmp_path / "001000" / "notes").write_text("mine")
    images.remove([0, 1000, 3000])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001000", "002000"]
    assert [path.name for path in (tmp_path / "001000").iterdir()] == ["notes"]
    assert images.stored() == {2000}
