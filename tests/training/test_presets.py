"""configs/networks.toml, and what a source may be."""

import dataclasses
from pathlib import Path

import pytest

from training import presets
from training.presets import Preset, load_presets, resolve


def test_the_shipped_file_is_sound() -> None:
    found = load_presets()
    assert list(found)[:2] == ["demo", "edm-imagenet-64x64-cond-adm"] and len(found) == 16
    for preset in found.values():
        if preset.url is None:
            assert preset.licence == "Apache-2.0"
        elif preset.url.startswith("https://nvlabs-fi-cdn.nvidia.com/"):
            assert preset.licence == "CC BY-NC-SA 4.0"
            assert Path(preset.url).stem.startswith(preset.name)
        else:
            assert preset.url.startswith("https://openaipublic.blob.core.windows.net/consistency/")
            assert "research" in preset.licence
        assert preset.sha256 is None or len(preset.sha256) == 64
    assert found["demo"].local_path == presets.REPOSITORY / "assets/demo/network.safetensors"


def test_a_preset_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_presets()["demo"].licence = "MIT"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[a]\nurl = "http://a"\nlicense = "MIT"', r"\[a\].*'license'"),
        ('[a]\nurl = "http://a"', r"\[a\].*'licence'"),
        ('[a]\nlicence = "MIT"', "either a url or a path"),
        ('[a]\nlicence = "MIT"\nurl = "http://a"\npath = "b"', "either a url or a path"),
        ("[a\n", "not valid TOML"),
        ("a = 1", r"\[a\]"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "networks.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_presets(tmp_path / "networks.toml")


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "net"
    path.touch()
    assert resolve(path) == (path, None) and resolve(str(path)) == (path, None)


def test_a_name_comes_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.touch()
    preset = Preset("demo", "MIT", path=str(shipped))
    monkeypatch.setattr(presets, "load_presets", lambda: {"demo": preset})
    monkeypatch.chdir(tmp_path)
    Path("demo").touch()
    assert resolve("demo") == (shipped, preset)
    assert resolve("./demo") == (Path("demo"), None)


def test_urls_and_presets_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, sha256: str | None = None) -> Path:
        asked.append((url, sha256))
        return Path("copy")

    monkeypatch.setattr(presets, "fetch", fetch)
    preset = Preset("a", "MIT", url="https://host/a.pkl", sha256="1" * 64)
    monkeypatch.setattr(presets, "load_presets", lambda: {"a": preset})
    assert resolve("a") == (Path("copy"), preset)
    assert resolve("https://host/b.pkl") == (Path("copy"), None)
    assert asked == [("https://host/a.pkl", "1" * 64), ("https://host/b.pkl", None)]
