"""configs/networks.toml, and what a source may be."""

import dataclasses
import hashlib
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import golden_json

from dnnlib import catalogue
from dnnlib.places import ROOT
from training import presets
from training.checkpoint import load_network
from training.families.edm2.unet import EDM2Precond
from training.presets import Preset, load_presets, resolve


def test_the_shipped_file_is_sound() -> None:
    found = load_presets()
    assert list(found)[:4] == ["demo", "demo-uncond", "demo-cd", "demo-di"] and len(found) == 62
    for preset in found.values():
        if preset.url is None:
            assert (preset.obtain == "") == preset.name.startswith("demo")
            assert preset.obtain == "" or str(preset.path).startswith("downloads/")
        elif preset.url.startswith("https://nvlabs-fi-cdn.nvidia.com/"):
            assert preset.licence == "CC BY-NC-SA 4.0"
            # EDM2's say in their last words what they were chosen for.
            name = re.sub("(-guid|-autog)?-(fid|dino)$", "", preset.name)
            assert re.fullmatch(rf"{name}(-\d{{7}}-\d\.\d{{3}})?", Path(preset.url).stem)
        elif preset.url.startswith("https://openaipublic.blob.core.windows.net/consistency/"):
            assert "research" in preset.licence
        else:
            assert preset.name == "ldm4-imagenet-256" and preset.url.startswith(
                "https://ommer-lab.com/"
            )
        assert preset.sha256 == "" or len(preset.sha256) == 64
        assert (
            preset.licence
            and "\n" not in preset.obtain + preset.note
            and not preset.obtain.endswith(".")
        )
    assert found["demo"].local_path == ROOT / "assets/demo/network.safetensors"


def test_networks_whose_authors_sampled_in_half_precision_do_so_here() -> None:
    half = {name for name, preset in load_presets().items() if preset.dtype == "float16"}
    openai = {
        "cd-imagenet-64x64-lpips",
        "cd-imagenet-64x64-l2",
        "ct-imagenet-64x64",
        "edm-imagenet-64x64-openai",
    }
    assert half == openai | {"uvit-h2-imagenet-256", "ldm4-imagenet-256"}


@pytest.mark.parametrize(
    ("name", "most"),
    [("demo", 8e6), ("demo-uncond", 8e6), ("demo-cd", 4e6), ("demo-di", 4e6), ("demo-eps", 4e6)],
)
def test_the_bundled_networks_are_here_and_small(name: str, most: float) -> None:
    preset = load_presets()[name]
    assert preset.licence == "Apache-2.0" and preset.local_path.stat().st_size <= most
    net = load_network(name)
    assert (net.img_channels, net.img_resolution) == (1, 32)
    assert net.label_dim == (0 if name == "demo-uncond" else 10)
    with torch.inference_mode():
        drawn = net(
            2.5 * torch.randn(2, 1, 32, 32), 2.5, torch.eye(10)[:2] if net.label_dim else None
        )
    assert 0.1 < drawn.std() < 1


@pytest.mark.parametrize(
    ("name", "golden", "parts"),
    [
        ("edm-imagenet-64x64-cond-adm", "edm_imagenet64_cond_adm", None),
        ("edm-afhqv2-64x64-uncond-vp", "edm_afhqv2_64_uncond_vp", None),
        ("edm-afhqv2-64x64-uncond-ve", "edm_afhqv2_64_uncond_ve", None),
        ("cd-imagenet-64x64-lpips", "cd_imagenet64", None),
        ("edm2-img64-s", "edm2_img64_s", None),
        ("uvit-h2-imagenet-256", "imagenet256_uvit_huge", None),
        ("ldm4-imagenet-256", "ldm_cin256_v2", ("unet", "first_stage", "cond_stage")),
    ],
)
def test_sizes_are_those_of_the_published_tensors(
    name: str, golden: str, parts: tuple[str, ...] | None
) -> None:
    facts = golden_json(f"fullsize_{golden}")
    shapes = [
        entry
        for part in parts or [None]
        for entry in (facts[part] if part else facts)["state_dict"].values()
    ]
    width = 2 if name == "edm2-img64-s" else 4  # EDM2 stores float16
    size = sum(
        width * math.prod(entry[0] if entry and isinstance(entry[0], list) else entry)
        for entry in shapes
    )
    assert load_presets()[name].size == round(size / 1e6)


@cache
def edm2_megabytes(model_channels: int, label_dim: int) -> int:
    """Of a published file: float16; a channel of the image more or less does not count."""
    with torch.device("meta"):
        net = EDM2Precond(64, 4, label_dim, model_channels=model_channels)
    return round(sum(2 * value.numel() for value in net.state_dict().values()) / 1e6)


def test_the_presets_of_edm2_are_whole() -> None:
    """What their names and addresses say: the architecture, whose size is computed here; a guide or none; latents."""
    channels = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
    found = {name: p for name, p in load_presets().items() if name.startswith("edm2-")}
    kinds = [name.rpartition("-")[2] for name in found]
    assert (kinds.count("fid"), kinds.count("dino"), len(found)) == (20, 16, 37)

    for name, preset in found.items():
        _, resolution, size, *more = name.split("-")
        label_dim = 0 if "uncond" in more else 1000
        assert preset.size == edm2_megabytes(channels[size], label_dim)
        assert (preset.autoencoder is not None) == (resolution == "img512")

        defaults = dict(preset.defaults)
        assert defaults.pop("steps") == 32
        if not {"guid", "autog"} & set(more):
            assert defaults == {}
            continue
        guide, scale = Path(defaults.pop("guide")).stem, defaults.pop("guidance")
        assert defaults == {} and 1 < scale < 3 and guide.startswith(f"edm2-{resolution}-")
        length = Path(str(preset.url)).stem.split("-")[-1]
        if "guid" in more:  # the same length of the EMA, and no classes
            assert re.fullmatch(rf"edm2-img512-xs-uncond-2147483-{length}", guide)
        else:  # less trained
            assert int(guide.split("-")[-2]) < int(Path(str(preset.url)).stem.split("-")[-2])
            assert ("uncond" in guide) == ("uncond" in more)


def test_a_guide_that_is_not_here_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    preset = load_presets()["edm2-img512-s-autog-fid"]
    assert len(preset.missing) == 3
    for path in preset.missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert preset.missing == []


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
        (
            '[a]\nlicence = "MIT"\nurl = "http://a"\ndefaults = "heun"',
            "defaults is 'heun'; it must be a table",
        ),
        (
            '[a]\nlicence = "MIT"\nurl = "http://a"\ndtype = "float64"',
            "dtype is 'float64'; it may be float16 or bfloat16",
        ),
        ("a = 3", r"\[a\]: it is 3, no table"),
        ('[a]\nlicence = 1\nurl = "http://a"', "licence is 1; it must be a text"),
        (
            '[a]\nlicence = "MIT"\nurl = ["http://a"]',
            "url is of the type list; it must be a text or absent",
        ),
        (
            '[a]\nlicence = "MIT"\nurl = "http://a"\nsize = 1e9',
            "size is 1000000000.0; it must be a whole number",
        ),
        ("a = " + "[" * 100_000, "is not valid TOML"),
        ("[" + "x" * 10_000 + "]", "need|missing|x"),
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


def test_what_nothing_fetches_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    preset = Preset(
        "a", "MIT", path="downloads/a.pth", obtain="ask me", autoencoder="downloads/b.pth"
    )
    found = {"a": preset, "b": Preset("b", "MIT", path="gone.pth")}
    monkeypatch.setattr(presets, "load_presets", lambda: found)
    for ask, message in (
        (lambda: resolve("a"), f"a is not here: ask me; save it as {tmp_path}/downloads/a.pth"),
        (
            preset.autoencoder_file,
            f"the autoencoder of a is not here: ask me; save it as {tmp_path}/downloads/b.pth",
        ),
        (lambda: resolve("b"), f"b is not here: there is no file {tmp_path}/gone.pth"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            ask()
        assert str(caught.value) == message
    (tmp_path / "downloads").mkdir()
    for name in ("a.pth", "b.pth"):
        (tmp_path / "downloads" / name).touch()
    assert resolve("a") == (tmp_path / "downloads/a.pth", preset)
    assert preset.autoencoder_file() == tmp_path / "downloads/b.pth"
    assert found["b"].autoencoder_file() is None


def test_a_network_is_here_with_its_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    local, fetched = (
        Preset("x", "MIT", path="a.pth", autoencoder=b) for b in ("b.pth", "https://x.org/b.pth")
    )
    assert local.missing == [tmp_path / "a.pth", tmp_path / "b.pth"]
    (tmp_path / "a.pth").touch()
    assert local.missing == [tmp_path / "b.pth"] and fetched.missing[0].parent == tmp_path / "cache"
    (tmp_path / "b.pth").touch()
    assert not local.missing


def test_an_autoencoder_may_be_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "fetch", lambda url, sha256: Path(f"copy of {url}, {sha256}"))
    preset = Preset("a", "MIT", url="https://host/a.pth", autoencoder="https://host/b.pth")
    assert preset.autoencoder_file() == Path("copy of https://host/b.pth, None")
    checked = replace(preset, autoencoder_sha256="12ab")
    assert checked.autoencoder_file() == Path("copy of https://host/b.pth, 12ab")


def test_a_damaged_autoencoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    (tmp_path / "b.pth").write_bytes(b"cut")
    preset = Preset("a", "MIT", path="a.pth", autoencoder="b.pth", autoencoder_sha256="12ab")
    with pytest.raises(ValueError, match=r"b\.pth is damaged: expected sha256 12ab, found "):
        preset.autoencoder_file()


def test_what_is_bundled_is_checked() -> None:
    bundled = [one for one in load_presets().values() if str(one.path).startswith("assets/")]
    assert len(bundled) >= 8
    for preset in bundled:
        assert len(preset.sha256) == 64, preset.name
        assert preset.autoencoder is None or len(preset.autoencoder_sha256) == 64, preset.name


def test_urls_and_presets_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, sha256: str | None = None) -> Path:
        asked.append((url, sha256))
        return Path("copy")

    monkeypatch.setattr(catalogue, "fetch", fetch)
    preset = Preset("a", "MIT", url="https://host/a.pkl", sha256="1" * 64)
    monkeypatch.setattr(presets, "load_presets", lambda: {"a": preset})
    assert resolve("a") == (Path("copy"), preset)
    assert resolve("https://host/b.pkl") == (Path("copy"), None)
    assert asked == [("https://host/a.pkl", "1" * 64), ("https://host/b.pkl", None)]


def test_a_bundled_file_that_changed_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    (tmp_path / "net.safetensors").write_bytes(b"one")
    good = hashlib.sha256(b"one").hexdigest()
    assert (
        Preset("mine", "MIT", path="net.safetensors", sha256=good).file().name == "net.safetensors"
    )
    with pytest.raises(ValueError, match=r"net\.safetensors is damaged: expected sha256 "):
        Preset("mine", "MIT", path="net.safetensors", sha256="0" * 64).file()
