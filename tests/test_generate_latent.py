"""generate.py with networks of latents: LDM, which brings its decoder, and U-ViT, which needs an autoencoder's file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from standins_edm2 import edm2_snapshot, fill_edm2
from standins_ldm import write_kl, write_ldm
from standins_uvit import write_uvit
from tiny_network import saved

import generate
from dnnlib.pictures import decode_png
from dnnlib.util import file_sha256
from sampling.generate import to_uint8
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from skip.source import ImageSource
from training import checkpoint
from training.checkpoint import load_network
from training.families.edm2.unet import EDM2Precond
from training.presets import load_presets

NETWORKS = ("model.ckpt", "uvit.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    write_ldm(folder / "model.ckpt")
    write_uvit(folder / "uvit.pth")
    write_kl(folder / "kl.pth")
    saved(folder, "pixels")
    return folder


def run(folder: Path, outdir: Path, network: str, *flags: str) -> Result:
    own = ["--autoencoder", str(folder / "kl.pth")] if network == "uvit.pth" else []
    arguments = [
        "--network", str(folder / network), "--outdir", str(outdir), "--seeds=0-3", *own, *flags,
    ]  # fmt: skip
    return CliRunner().invoke(generate.main, arguments)


def made(folder: Path, outdir: Path, network: str, *flags: str) -> np.ndarray:
    """The images as int16, [N, C, H, W]."""
    result = run(folder, outdir, network, *flags)
    assert result.exit_code == 0, result.stderr
    files = sorted(outdir.glob("*.png"))
    return np.stack([decode_png(path.read_bytes()) for path in files]).astype(np.int16)


def ddim(folder: Path, network: str, steps: int) -> str:
    """The noise levels of the network's DDIM, but for the last, as --sigmas takes them."""
    net: Any = load_network(folder / network)
    return ",".join(map(repr, net.table.ddim_sigmas(steps)[:-1].tolist()))


@pytest.mark.parametrize("network", NETWORKS)
def test_images_are_decoded_and_rho_changes_them(
    folder: Path, tmp_path: Path, network: str
) -> None:
    flags = ["--sampler=euler", f"--sigmas={ddim(folder, network, 5)}"]
    plain = made(folder, tmp_path / "plain", network, *flags)
    side = {"model.ckpt": 32, "uvit.pth": 16}[network]
    assert plain.shape == (4, 3, side, side) and plain.std() > 10
    tuned = made(folder, tmp_path / "tuned", network, *flags, "--rho-bottom=0.7")
    assert (np.abs(tuned - plain).mean((1, 2, 3)) > 1).all()
    single = made(folder, tmp_path / "single", network, *flags, "--batch=1")
    # The codebook may amplify a rounding of the batch; the images are the same all but for that.
    assert (np.abs(single - plain) > 1).mean() < 0.01


@torch.inference_mode()
def test_euler_over_its_levels_is_ddim_as_ldm_has_it(folder: Path, tmp_path: Path) -> None:
    """In LDM's own variables: x_t = x / sqrt(1 + sigma^2), predicted noise, and abar."""
    images = made(
        folder,
        tmp_path / "out",
        "model.ckpt",
        "--sampler=euler",
        f"--sigmas={ddim(folder, 'model.ckpt', 4)}",
    )
    net: Any = load_network(folder / "model.ckpt")
    noise = SeedNoise(range(4))
    x = noise.randn([4, 3, 16, 16]).double()
    labels = torch.eye(9)[noise.randint(9)]
    times = [751, 501, 251, 1]
    abar = torch.cat([net.table.alphas_cumprod[times], torch.ones(1, dtype=torch.float64)])
    x = x * (1 - abar[0]).sqrt()  # of the noise alone: sigma / sqrt(1 + sigma^2)
    for i, t in enumerate(times):
        eps = net.model(x.float(), torch.tensor([float(t)]), labels).double()
        x0 = (x - (1 - abar[i]).sqrt() * eps) / abar[i].sqrt()
        x = abar[i + 1].sqrt() * x0 + (1 - abar[i + 1]).sqrt() * eps
    expected = to_uint8(net.first_stage_model(x.float())).numpy().astype(np.int16)
    assert (np.abs(images - expected) > 1).mean() < 0.01


def edm2_of_latents(path: Path, num_blocks: int = 1) -> None:
    net = EDM2Precond(
        8,
        4,
        4,
        model_channels=16,
        channel_mult=[1, 2],
        num_blocks=num_blocks,
        attn_resolutions=[4],
        channels_per_head=16,
    )
    path.write_bytes(edm2_snapshot(fill_edm2(net), latent_encoder=True))


def test_latents_of_edm2_are_decoded(folder: Path, tmp_path: Path) -> None:
    edm2_of_latents(folder / "edm2.pkl")
    own = ("--autoencoder", str(folder / "kl.pth"))
    plain = made(folder, tmp_path / "plain", "edm2.pkl", "--steps=3", *own)
    assert plain.shape == (4, 3, 16, 16) and plain.std() > 10
    tuned = made(folder, tmp_path / "tuned", "edm2.pkl", "--steps=3", *own, "--rho-bottom=0.7")
    assert (np.abs(tuned - plain).mean((1, 2, 3)) > 1).all()

    without = run(folder, tmp_path / "without", "edm2.pkl", "--steps=3")
    assert without.exit_code == 2 and without.stderr.count("\n") == 1
    assert "its file holds no decoder: give that of its autoencoder" in without.stderr
    assert not (tmp_path / "without").exists()


def test_a_preset_brings_its_guide_and_its_autoencoder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edm2_of_latents(folder / "edm2.pkl")
    edm2_of_latents(folder / "weaker.pkl", num_blocks=2)
    toml = tmp_path / "networks.toml"
    toml.write_text(
        f'[edm2-mine]\npath = "{folder / "edm2.pkl"}"\nlicence = "none"\n'
        f'autoencoder = "{folder / "kl.pth"}"\n'
        f'defaults = {{ steps = 3, guidance = 2.0, guide = "{folder / "weaker.pkl"}" }}\n'
    )
    presets = load_presets(toml)
    for module in ("training.presets", "skip.options"):
        monkeypatch.setattr(f"{module}.load_presets", lambda: presets)
    arguments = ["--network=edm2-mine", "--outdir", str(tmp_path / "out"), "--seeds=0-1"]
    result = CliRunner().invoke(generate.main, arguments)
    assert result.exit_code == 0, result.stderr
    settings = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert settings["guidance"] == {
        "scale": 2.0,
        "guide_sha256": file_sha256(folder / "weaker.pkl"),
    }
    assert settings["autoencoder_sha256"] == file_sha256(folder / "kl.pth")
    assert (settings["sampler"]["steps"], settings["sampler"]["nfe"]) == (3, 2 * 5)


def test_the_record_tells_the_autoencoder(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "uvit", "uvit.pth", "--steps=3")
    record = json.loads((tmp_path / "uvit" / "run.json").read_text())
    digest = file_sha256(folder / "kl.pth")
    assert digest in json.dumps(record["settings"]) and digest in json.dumps(record["sessions"])
    made(folder, tmp_path / "ldm", "model.ckpt", "--steps=3")
    # It is in the network's own file.
    assert "autoencoder" not in (tmp_path / "ldm" / "run.json").read_text()


def test_an_autoencoder_of_the_entry_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "networks.toml"
    toml.write_text(
        f'[mine]\npath = "{folder / "uvit.pth"}"\nlicence = "none"\nautoencoder = "{folder / "kl.pth"}"\n'
    )
    presets = load_presets(toml)
    monkeypatch.setattr("training.presets.load_presets", lambda: presets)
    named = ImageSource("mine", SamplerSettings(steps=3)).load("cpu")
    given = ImageSource(
        str(folder / "uvit.pth"), SamplerSettings(steps=3), autoencoder=str(folder / "kl.pth")
    ).load("cpu")
    assert named.record == given.record
    (one,), (other,) = named.batches([5], 1), given.batches([5], 1)
    assert torch.equal(one.images, other.images)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_converted_network_keeps_its_decoder(folder: Path, tmp_path: Path, network: str) -> None:
    own = ["--autoencoder", str(folder / "kl.pth")] if network == "uvit.pth" else []
    target = tmp_path / "converted.safetensors"
    result = CliRunner().invoke(
        checkpoint.main, ["convert", str(folder / network), str(target), *own]
    )
    assert result.exit_code == 0, result.stderr
    if own:
        assert file_sha256(folder / "kl.pth").encode() in target.read_bytes()[:20_000]
    before = made(folder, tmp_path / "before", network, "--steps=3")
    outdir = tmp_path / "after"
    arguments = ["--network", str(target), "--outdir", str(outdir), "--seeds=0-3", "--steps=3"]
    assert CliRunner().invoke(generate.main, arguments).exit_code == 0
    after = np.stack([decode_png(path.read_bytes()) for path in sorted(outdir.glob("*.png"))])
    assert np.array_equal(after.astype(np.int16), before)


@pytest.mark.parametrize(
    ("network", "flags", "message"),
    [
        ("uvit.pth", [], "makes latents, and its file holds no decoder"),
        ("pixels.safetensors", ["--autoencoder", "kl.pth"], "makes images, not latents"),
        ("model.ckpt", ["--autoencoder", "kl.pth"], "latents of 4 channels, the network of 3"),
        ("uvit.pth", ["--autoencoder", "uvit.pth"], "no state_dict of a KL or VQ autoencoder"),
        ("uvit.pth", ["--autoencoder", "nothing.pth"], "no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    folder: Path, tmp_path: Path, network: str, flags: list[str], message: str
) -> None:
    flags = [str(folder / flag) if flag.endswith(".pth") else flag for flag in flags]
    arguments = [
        "--network", str(folder / network), "--outdir", str(tmp_path / "out"), "--seeds=0", *flags,
    ]  # fmt: skip
    result = CliRunner().invoke(generate.main, arguments)
    told = [
        line
        for line in result.stderr.strip().splitlines()
        if "its file does not tell all" not in line
    ]
    assert result.exit_code == 2 and message in result.stderr and len(told) == 1
    assert not list(tmp_path.glob("out/*.png"))
