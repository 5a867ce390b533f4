import pytest

from training.run.snapshots import snapshot_name


@pytest.mark.parametrize(
    "images, name",
    [(64, "000000-064"), (12_000, "000012"), (12_544, "000012-544"), (10**9, "1000000")],
)
def test_names_tell_thousands_of_images_and_the_rest(images: int, name: str) -> None:
    assert snapshot_name(images) == f"network-snapshot-{name}.safetensors"
