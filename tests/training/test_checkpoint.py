"""Storing and loading networks: our own format, one clear line for every bad file, the command line."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import edm_pickles
import pytest
import safetensors
import safetensors.torch
import torch
from click.testing import CliRunner
from small_network import SMALL, assert_same, refusal, small, small_snapshot, written

from dnnlib.util import file_sha256
from training import checkpoint, presets
from training.checkpoint import describe, load_network, save_network
from training.precond import PRECONDS

# ---- our own format


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
    assert found == {
        "licence": "Apache-2.0",
        "images": 1_000_000,
        "loss": {"float": "nan"},
        "seen": [1, 2],
    }
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


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    data = edm_pickles.edm_snapshot("EDMPrecond", {**SMALL, "colour": "red"}, small().state_dict())
    assert "'colour'" in refusal(written(tmp_path, data))
    data = edm_pickles.edm_snapshot(
        "EDMPrecond", {**SMALL, "model_channels": "red"}, small().state_dict()
    )
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
        (
            {"format": "skip-tuning-edm/1", "class": "Sequential", "kwargs": "{}"},
            "unknown network class",
        ),
    ]:
        assert words in refusal(written(tmp_path, safetensors.torch.save(tensors, metadata)))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "choose from demo, demo-uncond, " in refusal("edm-imagenet", FileNotFoundError)
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
    source = written(tmp_path, small_snapshot(), "net.pkl")
    target = tmp_path / "folder" / "net.safetensors"
    result = run("convert", source, target)
    assert result.exit_code == 0 and "EDMPrecond" in result.output
    assert_same(load_network(target), load_network(source))
    with safetensors.safe_open(target, framework="pt") as file:
        assert json.loads(file.metadata()["provenance"])["source_sha256"] == file_sha256(source)


def test_convert_to_half_rounds_the_weights_only(tmp_path: Path) -> None:
    source, target = str(tmp_path / "net.safetensors"), tmp_path / "half.safetensors"
    net = small("iDDPMPrecond")
    save_network(net, source)
    assert run("convert", "--half", source, str(target)).exit_code == 0
    rounded = {name: value.half().float() for name, value in net.named_parameters()}
    expected = {**net.state_dict(), **rounded}
    loaded = load_network(target).state_dict()
    assert all(
        torch.equal(value, expected[name]) and value.dtype == torch.float32
        for name, value in loaded.items()
    )
    with safetensors.safe_open(target, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in rounded} == {torch.float16}


def test_convert_fails_in_one_line(tmp_path: Path) -> None:
    source = written(tmp_path, small_snapshot(), "net.pkl")
    kept = written(tmp_path, b"kept", "kept")
    for args, words in [
        ((tmp_path / "gone.pkl", tmp_path / "new"), "no such file"),
        ((kept, tmp_path / "new"), "no network in a known format"),
        ((source, kept), "exists"),
        ((source, kept / "below"), ""),
        ((source, Path("/proc/no/net")), ""),
    ]:
        result = run("convert", *args)
        assert result.exit_code == 2 and words in result.output
        assert result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert kept.read_bytes() == b"kept" and sorted(os.listdir(tmp_path)) == ["kept", "net.pkl"]


def test_list_tells_names_licences_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    presets.load_presets()["edm-ffhq-64x64-uncond-ve"].local_path.write_bytes(bytes(2_500_000))
    head, *lines = run("list").output.splitlines()
    assert max(map(len, [head, *lines])) <= 130 and head.split() == [
        "name",
        "MB",
        "here",
        "licence",
        "defaults",
        "note",
    ]
    rows = [line for line in lines if not line.startswith(" ")]
    assert [row.split()[0] for row in rows] == list(presets.load_presets())
    cells = {row.split()[0]: [cell.strip() for cell in re.split(" {2,}", row)[1:]] for row in rows}
    assert cells["edm-ffhq-64x64-uncond-ve"] == ["2.5", "yes", "CC BY-NC-SA 4.0", "-", "NCSN++"]
    assert cells["edm-ffhq-64x64-uncond-vp"] == ["~247", "no", "CC BY-NC-SA 4.0", "-", "DDPM++"]
    assert cells["cd-imagenet-64x64-l2"][3:] == [
        "consistency, sigmas 80",
        "consistency distillation, L2",
    ]
    assert cells["uvit-h2-imagenet-256"][3] == "dpmpp, steps 50, guidance 1.4"
    assert cells["edm2-img512-s-autog-fid"][3] == "steps 32, guidance 2.1, a guide"
    assert cells["diff-instruct-imagenet-64x64"][:2] == ["?", "no"]
    notes = " ".join(" ".join([head, *lines]).split())
    for preset in presets.load_presets().values():  # broken into lines, none is cut
        assert all(word in notes for word in preset.note.split())


def test_list_as_json_tells_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    found = {entry["name"]: entry for entry in json.loads(run("list", "--json").output)}
    assert list(found) == list(presets.load_presets())
    uvit, cd = found["uvit-h2-imagenet-256"], found["cd-imagenet-64x64-l2"]
    assert uvit["defaults"] == {"sampler": "dpmpp", "steps": 50, "guidance": 1.4}
    assert (
        uvit["file"].endswith("/downloads/imagenet256_uvit_huge.pth")
        and "Google Drive" in uvit["obtain"]
    )
    assert (cd["here"], cd["size"], Path(cd["file"]).parent) == (False, 1184, tmp_path)
    assert cd["missing"] == [cd["file"]] and uvit["missing"][-1].endswith(
        "/downloads/autoencoder_kl.pth"
    )
    assert found["demo"]["here"] and found["demo"]["size"] == 4.5


def test_a_flipped_bit_of_a_network_is_noticed(tmp_path: Path) -> None:
    save_network(small(), tmp_path / "net")
    whole = bytearray((tmp_path / "net").read_bytes())
    for place in (len(whole) - 3, whole.index(b"dropout") + 13):
        whole[place] ^= 1
        assert "net: the safetensors file is damaged: its checksum" in refusal(
            written(tmp_path, bytes(whole), "net")
        )
        whole[place] ^= 1


def test_convert_writes_safetensors_and_says_so(tmp_path: Path) -> None:
    result = run("convert", "demo", tmp_path / "net.pkl")
    assert (
        result.exit_code == 2
        and "net.safetensors" in result.stderr
        and not list(tmp_path.iterdir())
    )
