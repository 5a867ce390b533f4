"""Storing and loading networks: golden outputs through every format, one clear line for every bad file."""

import json
import math
import os
from pathlib import Path
from typing import Any

import edm_pickles
import pytest
import safetensors
import safetensors.torch
import torch
from click.testing import CliRunner
from conftest import fill, golden_json, golden_npz, relative_error

from dnnlib.util import file_sha256
from training import checkpoint, edm_pickle, presets
from training.checkpoint import describe, load_network, save_network
from training.precond import PRECONDS, Precond

SMALL = {
    "img_resolution": 8, "img_channels": 1, "label_dim": 3, "model_type": "DhariwalUNet",
    "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.1,
}  # fmt: skip


def small(class_name: str = "EDMPrecond", **changes: Any) -> Precond:
    net = PRECONDS[class_name](**{**SMALL, **changes})
    fill(net)
    return net.eval()


def small_snapshot(**settings: Any) -> bytes:
    return edm_pickles.edm_snapshot("EDMPrecond", SMALL, small().state_dict(), **settings)


def written(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def ema(class_name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"ema": edm_pickles.persistent(class_name, state)}


def refusal(source: str | Path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        load_network(source)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# ---- golden: pickles as EDM writes them


@pytest.mark.parametrize("name", ["edm_adm", "edm_ddpmpp"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"protocol": 2}, {"core": "numpy._core"}, {"location": "cuda:0"}],
    ids=["proto4", "proto2", "numpy2", "cuda"],
)
def test_snapshots_give_the_official_outputs(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    kwargs = golden_json("pickle_facts")["edm"]["scans"][f"public/{name}"]["init_kwargs"]
    tensors = fill(PRECONDS["EDMPrecond"](**kwargs)).state_dict()
    path = written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", kwargs, tensors, **settings))
    net = load_network(path)
    expected = golden_npz("pickles_expected")
    labels = torch.eye(10)[torch.from_numpy(expected[f"{name}/class_idx"])] if net.label_dim else None
    x, sigma = (torch.from_numpy(expected[f"{name}/{key}"]) for key in ("x", "sigma"))
    assert relative_error(net(x, sigma, labels), expected[f"{name}/D"]) < 1e-5


@pytest.mark.parametrize("name", ["edm_imagenet64_cond_adm", "edm_afhqv2_64_uncond_vp", "edm_afhqv2_64_uncond_ve"])
def test_names_of_the_full_size_networks_pass_through_the_pickle(name: str, tmp_path: Path) -> None:
    """The official names, with one number for every tensor, nest and unnest to the same names."""
    facts = golden_json(f"fullsize_{name}")
    names = {key: torch.zeros(1) for key in facts["state_dict"]}
    path = written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", {"a": 1}, names))
    class_name, kwargs, tensors = edm_pickle.read_snapshot(path)
    assert (class_name, kwargs) == ("EDMPrecond", {"a": 1}) and tensors.keys() == names.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: value.to(dtype) for name, value in small().state_dict().items()}
    net = load_network(written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", SMALL, tensors, location="cuda:0")))
    for name, value in net.state_dict().items():
        assert value.dtype == torch.float32 and value.device.type == "cpu"
        assert torch.equal(value, tensors[name].float())


@pytest.mark.parametrize("class_name", list(PRECONDS))
def test_every_class_loads_from_a_snapshot(class_name: str, tmp_path: Path) -> None:
    net = small(class_name)
    path = written(tmp_path, edm_pickles.edm_snapshot(class_name, SMALL, net.state_dict()))
    assert_same(load_network(path), net)


# ---- our own format


def assert_same(actual: Precond, expected: Precond) -> None:
    assert type(actual) is type(expected) and actual.init_kwargs == expected.init_kwargs
    assert not actual.training and not any(p.requires_grad for p in actual.parameters())
    a, b = actual.state_dict(), expected.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("class_name", list(PRECONDS))
def test_what_is_stored_comes_back(class_name: str, tmp_path: Path) -> None:
    net = small(class_name)
    save_network(net, tmp_path / "net.safetensors")
    assert_same(load_network(tmp_path / "net.safetensors"), net)


def test_the_metadata_is_plain_json(tmp_path: Path) -> None:
    net = small(sigma_max=math.inf)
    path = tmp_path / "net"
    save_network(net, path, licence="Apache-2.0", images=1_000_000, loss=math.nan, seen=(1, 2))
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert metadata["format"] == "skip-tuning-edm/1" and metadata["class"] == "EDMPrecond"
    assert json.loads(metadata["kwargs"], parse_constant=refuse)["sigma_max"] == {"float": "inf"}
    found = json.loads(metadata["provenance"], parse_constant=refuse)
    assert found == {"licence": "Apache-2.0", "images": 1_000_000, "loss": {"float": "nan"}, "seen": [1, 2]}
    assert load_network(path).sigma_max == math.inf


def test_the_original_keeps_its_state(tmp_path: Path) -> None:
    net = small().train()
    save_network(net, tmp_path / "net")
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    nets = [small(), small(), small().train().to(memory_format=torch.channels_last)]
    for i, net in enumerate(nets):
        save_network(net, tmp_path / str(i), licence="Apache-2.0", images=3, note="ü")
    assert len({file_sha256(tmp_path / str(i)) for i in range(len(nets))}) == 1


def test_storing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_network(small(), tmp_path / "net")
    before = file_sha256(tmp_path / "net")

    def fails(*_args: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save", fails)
    with pytest.raises(OSError, match="No space"):
        save_network(small(), tmp_path / "net")
    assert file_sha256(tmp_path / "net") == before and os.listdir(tmp_path) == ["net"]


def test_only_known_classes_are_stored(tmp_path: Path) -> None:
    class Other(PRECONDS["EDMPrecond"]):  # type: ignore[misc]
        pass

    with pytest.raises(ValueError, match="cannot store a Other; known are EDMPrecond"):
        save_network(Other(**SMALL), tmp_path / "net")


def test_the_format_is_told_from_the_content(tmp_path: Path) -> None:
    save_network(small(), tmp_path / "net.pkl")
    written(tmp_path, small_snapshot(), "net.safetensors")
    assert_same(load_network(tmp_path / "net.pkl"), small())
    load_network(str(tmp_path / "net.safetensors"))


# ---- bad files, one clear line each


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG image"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (b"\x1f\x8b\x08" + bytes(99), "a gzip archive"),
        (b"\n  <!DOCTYPE html><html>", "an HTML page"),
        (b"<HTML><body>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a torch.save file of the old kind"),
        (b"hello world", "it begins with b'hello wo'"),
    ],
)
def test_other_files_are_recognised(data: bytes, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, data, "network.pkl")
    message = refusal(path)
    assert words in message and str(path) in message


def test_truncated_files(tmp_path: Path) -> None:
    save_network(small(), tmp_path / "net")
    for whole in ((tmp_path / "net").read_bytes(), small_snapshot()):
        for end in (20, 1000, len(whole) // 2, len(whole) - 1):
            assert "truncated" in refusal(written(tmp_path, whole[:end]))


def test_a_hostile_snapshot_is_refused_by_name(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    attack = edm_pickles.Made(edm_pickles.Global("posix", "system"), (f"touch {canary}",))
    assert "refuses posix.system" in refusal(written(tmp_path, edm_pickles.dumps({"ema": attack})))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1}, "no network under the key 'ema'"),
        ([1, 2], "no network under the key 'ema'"),
        ({"ema": {"a": 1}}, "no network under the key 'ema'"),
        (ema("EDMPrecond", {}), "constructor arguments"),
        (ema("EDMPrecond", {"_init_args": (8,), "_init_kwargs": {}}), "constructor arguments"),
        (ema("os.system", {"_init_args": (), "_init_kwargs": {}}), "unknown network class 'os.system'"),
        (ema("EDMPrecond", {"_init_args": (), "_init_kwargs": {}}), "EDMPrecond cannot be built"),
        (
            ema("EDMPrecond", {"_init_args": (), "_init_kwargs": SMALL, "_modules": [1]}),
            "_modules of a EDMPrecond",
        ),
    ],
)
def test_pickles_that_are_no_snapshot(value: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(written(tmp_path, edm_pickles.dumps(value)))


def test_a_module_that_is_used_twice_is_refused(tmp_path: Path) -> None:
    layer = edm_pickles.persistent("Layer", {"_parameters": {}, "_modules": {}})
    ema = {"_init_args": (), "_init_kwargs": SMALL, "_modules": {"a": layer, "b": layer}}
    message = refusal(written(tmp_path, edm_pickles.dumps({"ema": edm_pickles.persistent("EDMPrecond", ema)})))
    assert "uses one module twice: b" in message


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    data = edm_pickles.edm_snapshot("EDMPrecond", {**SMALL, "colour": "red"}, small().state_dict())
    assert "'colour'" in refusal(written(tmp_path, data))
    data = edm_pickles.edm_snapshot("EDMPrecond", {**SMALL, "model_channels": "red"}, small().state_dict())
    assert "EDMPrecond cannot be built" in refusal(written(tmp_path, data))


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = small().state_dict()
    gone = [name for name in tensors if name.endswith("bias")]
    for name in gone:
        del tensors[name]
    tensors |= {"model.extra.weight": torch.zeros(2), "model.map_layer0.weight": torch.zeros(2, 3)}
    message = refusal(written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", SMALL, tensors)))
    assert f"{len(gone)} missing ({', '.join(gone[:3])}, ...)" in message
    assert "1 unexpected (model.extra.weight)" in message
    assert "1 of the wrong shape (model.map_layer0.weight [2, 3] for [" in message


def test_safetensors_of_other_programs(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(2)}
    for metadata, words in [
        (None, "its format is 'none'"),
        ({"format": "pt"}, "its format is 'pt'"),
        ({"format": "skip-tuning-edm/2"}, "its format is 'skip-tuning-edm/2'"),
        ({"format": "skip-tuning-edm/1"}, "metadata of the safetensors file is damaged"),
        (
            {"format": "skip-tuning-edm/1", "class": "EDMPrecond", "kwargs": "{"},
            "metadata of the safetensors",
        ),
        (
            {"format": "skip-tuning-edm/1", "class": "EDMPrecond", "kwargs": "3"},
            "metadata of the safetensors",
        ),
        ({"format": "skip-tuning-edm/1", "class": "Sequential", "kwargs": "{}"}, "unknown network class"),
    ]:
        assert words in refusal(written(tmp_path, safetensors.torch.save(tensors, metadata)))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "choose from demo, edm-imagenet-64x64-cond-adm" in refusal("edm-imagenet", FileNotFoundError)
    assert f"no such file: {tmp_path}/net.pkl" in refusal(tmp_path / "net.pkl", FileNotFoundError)
    assert "is a folder" in refusal(tmp_path, FileNotFoundError)


# ---- where it came from, and the programs


def test_describe_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, b"abc")
    assert describe(path) == {
        "source": str(path),
        "path": str(path),
        "sha256": file_sha256(path),
        "licence": None,
    }


def test_a_preset_loads_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    name = "edm-cifar10-32x32-uncond-vp"
    path = presets.load_presets()[name].local_path
    path.write_bytes(small_snapshot())
    load_network(name)
    assert describe(name)["licence"] == "CC BY-NC-SA 4.0" and describe(name)["path"] == str(path)


def run(*args: Any) -> Any:
    return CliRunner().invoke(checkpoint.main, [str(arg) for arg in args])


def test_convert_gives_the_same_network(tmp_path: Path) -> None:
    source, target = written(tmp_path, small_snapshot(), "net.pkl"), tmp_path / "folder" / "net.safetensors"
    result = run("convert", source, target)
    assert result.exit_code == 0 and "EDMPrecond" in result.output
    assert_same(load_network(target), load_network(source))
    with safetensors.safe_open(target, framework="pt") as file:
        assert json.loads(file.metadata()["provenance"])["source_sha256"] == file_sha256(source)


def test_convert_fails_in_one_line(tmp_path: Path) -> None:
    source = written(tmp_path, small_snapshot(), "net.pkl")
    kept = written(tmp_path, b"kept", "kept")
    for args, words in [
        ((tmp_path / "gone.pkl", tmp_path / "new"), "no such file"),
        ((kept, tmp_path / "new"), "neither a safetensors file nor an EDM snapshot"),
        ((source, kept), "exists"),
        ((source, kept / "below"), ""),
        ((source, Path("/proc/no/net")), ""),
    ]:
        result = run("convert", *args)
        assert result.exit_code == 2 and words in result.output
        assert result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert kept.read_bytes() == b"kept" and sorted(os.listdir(tmp_path)) == ["kept", "net.pkl"]


def test_list_tells_names_licences_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    presets.load_presets()["edm-ffhq-64x64-uncond-ve"].local_path.write_bytes(bytes(2_500_000))
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == list(presets.load_presets())
    (ffhq,) = [line for line in lines if line.startswith("edm-ffhq-64x64-uncond-ve ")]
    assert "2.5 MB" in ffhq and "CC BY-NC-SA 4.0" in ffhq
    assert "not here" in lines[1]
