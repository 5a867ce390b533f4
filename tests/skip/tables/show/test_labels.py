"""What values are called."""

import pytest

from skip.tables.show.labels import label, resolve


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fid", "FID"),
        ("fid-demo-fashion-mnist", "demo FID"),
        ("is-demo", "demo IS"),
        ("precision-demo", "demo precision"),
        ("immd_median", "IMMD (median sigma)"),
        ("fid-clip-vitl14", "FID (clip-vitl14)"),
        ("resnet-101 loss", "resnet-101 loss"),
        ("gradient_norm", "gradient norm"),
    ],
)
def test_labels(name: str, text: str) -> None:
    assert label(name) == text


def test_resolve() -> None:
    assert resolve("fid", ["is-demo", "fid-demo"]) == "fid-demo"
    assert resolve("fid", ["fid-demo", "fid"]) == "fid"
    assert resolve("resnet", ["resnet-101 loss"]) is None and resolve("fid", []) is None
