"""Where the files are that cells are made from."""

from pathlib import Path

from skip.tables.sources import location


def test_where_files_are() -> None:
    assert location("detector resnet-101", "demo") == location("detector", "demo")
    assert str(location("detector", "demo")).endswith("assets/demo/detector.safetensors")
    assert str(location("network", "edm-imagenet-64x64-cond-adm")).startswith("https://")
    assert location("detector", "resnet-101") is None
    assert location("reference", "https://example.org/a.npz") == "https://example.org/a.npz"
    assert location("data", "assets/demo/images.zip") == Path("assets/demo/images.zip")
