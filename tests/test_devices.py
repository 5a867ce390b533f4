"""The same numbers on a CPU and on a GPU; and, where there is none, no mix of devices."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import test_networks as networks
import torch
from click.testing import CliRunner
from conftest import relative_error
from device_cases import CASES, ON_A_GPU_ONLY, STOCHASTIC, stored, tiny_on
from fake_cuda import fake_cuda
from tiny_network import saved

import generate
from dnnlib.pictures import decode_png
from sampling.generate import generate as generate_batches
from sampling.guidance import Guidance
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from skip.diffusers import sigma_from_scheduler
from skip.scale import SkipScale
from skip.source import ImageSource
from skip.tuned import SkipTuned
from torch_utils import distributed
from torch_utils.precision import allow_tf32
from training import presets
from training.families.latent import precond as latent
from training.families.latent.autoencoder import VQDecoder
from training.families.latent.precond import LatentPrecond
from training.presets import Preset

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# On fake tensors: by generate.py, and in float32.
SEEN_ELSEWHERE = ("churn", "tuned", "training bfloat16")
# The last digit may fall on the other side of a rounding.
PIXELS = ("tuned", "churn", "consistency", "ablation", *(f"solver {name}" for name in STOCHASTIC))


def test_a_mix_would_be_seen() -> None:
    with fake_cuda(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device=CUDA) + torch.zeros(3)


@pytest.mark.parametrize("name", [name for name in CASES if name not in SEEN_ELSEWHERE])
def test_nothing_mixes_devices(name: str, tmp_path: Path) -> None:
    with fake_cuda():
        assert CASES[name](CUDA, tmp_path).device == CPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES | ON_A_GPU_ONLY)
def test_a_gpu_computes_what_the_cpu_does(name: str, tmp_path: Path) -> None:
    allow_tf32(False)
    case = (CASES | ON_A_GPU_ONLY)[name]
    expected, got = case(CPU, tmp_path), case(CUDA, tmp_path)
    if name in PIXELS:
        assert (got - expected).abs().max() <= 1
    else:
        assert relative_error(got, expected) < 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 3e-3), (torch.bfloat16, 2.5e-2)])
@pytest.mark.parametrize("name", networks.NETS)
@torch.inference_mode()
def test_half_precision_on_a_gpu_is_near_the_golden_vectors(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    net = networks.build(name).channels_last().cuda().set_dtype(dtype)
    labels = networks.labels_of(name)
    x, sigma = networks.tensor(name, "x").cuda(), networks.tensor(name, "sigma").cuda()
    got = net(x, sigma, None if labels is None else labels.cuda())
    assert relative_error(got.cpu(), networks.ARRAYS[f"{name}/D"]) < tolerance


@pytest.mark.gpu
@torch.inference_mode()
def test_a_compiled_network_on_a_gpu_agrees() -> None:
    allow_tf32(False)
    net = networks.tiny().cuda()
    x, sigma, labels = (value.cuda() for value in networks.inputs())
    tuned = SkipTuned(net, SkipScale(bottom=0.7, window=(0.5, 5)))
    expected = tuned(x, sigma, labels)
    net.model.compile()
    assert relative_error(tuned(x, sigma, labels).cpu(), expected.cpu()) < 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_noise_drawn_on_a_gpu_is_that_gpus_own(device: str) -> None:
    generator = torch.Generator(device).manual_seed(3)
    expected = torch.randn(1, 8, 8, generator=generator, device=device)
    assert torch.equal(SeedNoise([3], device).randn([1, 1, 8, 8])[0], expected)


def run(program: Any, *args: str) -> None:
    result = CliRunner().invoke(program, args)
    assert result.exit_code == 0, result.output


def test_generate_py_mixes_no_devices(tmp_path: Path) -> None:
    network = saved(tmp_path)
    with fake_cuda():
        run(
            generate.main,
            *f"--network {network} --outdir {tmp_path / 'out'} --seeds 0-4 --batch 3 --steps 3".split(),
            *["--device", "cuda", "--rho-bottom", "0.8", "--rho-sigma", "0.1,10", "--S_churn", "2"],
        )
    session = json.loads((tmp_path / "out" / "run.json").read_text())["sessions"][0]
    assert (session["device"], session["tf32"]) == ("cuda", False)


@pytest.mark.parametrize(
    "asked, device, expected",
    [(None, "cuda", "bfloat16"), ("float32", "cuda", "float32"), (None, "cpu", "float32")],
)
def test_a_networks_entry_says_what_it_computes_in_on_cuda(
    asked: str | None, device: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Preset("half", "MIT", path=saved(tmp_path), dtype="bfloat16")
    monkeypatch.setattr(presets, "load_presets", lambda: {"half": entry})
    with fake_cuda():
        source = ImageSource("half", dtype=asked).load(device)
    assert source.record["dtype"] == expected
    assert source.net.net.model.enc["8x8_conv"].weight.dtype == getattr(torch, expected)


def test_on_cuda_a_decoder_takes_several_images_in_the_networks_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored("uvit", tmp_path)
    asked = ImageSource(
        str(tmp_path / "uvit.pth"), dtype="bfloat16", autoencoder=str(tmp_path / "kl.ckpt")
    )
    assert "decoder_dtype" not in asked.load("cpu").record
    monkeypatch.setattr(latent, "AT_ONCE", 3)
    calls: list[tuple[int, torch.dtype]] = []
    with fake_cuda():
        source = asked.load("cuda")
        net = source.net.net
        assert isinstance(net, LatentPrecond) and net.first_stage_model is not None
        tower = net.first_stage_model.decoder
        tower.register_forward_pre_hook(
            lambda _, given: calls.append((len(given[0]), given[0].dtype))
        )
        latents = torch.zeros(
            5, net.img_channels, net.img_resolution, net.img_resolution, device=CUDA
        )
        assert net.decode(latents).dtype == torch.float32
    assert calls == [(3, torch.bfloat16), (2, torch.bfloat16)]
    assert source.record["decoder_dtype"] == "bfloat16"


def test_on_cuda_the_codebook_stays_float32(tmp_path: Path) -> None:
    net = stored("ldm", tmp_path)
    with fake_cuda():
        decoder = net.to("cuda").set_dtype(torch.float16).first_stage_model
    assert isinstance(decoder, VQDecoder) and decoder.dtype == torch.float16
    assert decoder.decoder.conv_in.weight.dtype == torch.float16
    assert decoder.quantize["embedding"].weight.dtype == torch.float32


@torch.inference_mode()
def test_a_decoder_that_overflows_says_so(tmp_path: Path) -> None:
    net = stored("ldm", tmp_path)
    assert isinstance(net, LatentPrecond) and net.first_stage_model is not None
    net.first_stage_model.set_dtype(torch.bfloat16)
    net.first_stage_model.decoder.conv_out.bias.fill_(torch.inf)
    with pytest.raises(RuntimeError, match=r"NaN or infinity in bfloat16.*--dtype float32"):
        net.decode(torch.zeros(1, net.img_channels, net.img_resolution, net.img_resolution))


@pytest.mark.parametrize("own_guide, waits", [(True, 1), (False, 2)])
def test_a_batch_waits_for_the_device_once_for_each_denoiser(own_guide: bool, waits: int) -> None:
    """With itself as its guide a network denoises both in one call."""
    scale = SkipScale(bottom=0.7, time="decreasing", window=(0.05, 10))
    settings = SamplerSettings(steps=3, S_churn=2)
    with fake_cuda() as device:
        net = SkipTuned(tiny_on(CUDA), scale)
        guide = None if own_guide else tiny_on(CUDA)
        batches = generate_batches(net, settings, range(2), "cuda", guidance=Guidance(1.5, guide))
        device.waits.clear()
        batch = next(batches)
        assert sum(device.waits.values()) == waits, device.waits
        assert batch.nfe == 2 * 5 and len(batch.images) == 2


@pytest.mark.parametrize("sampler", ["heun", "unipc", "ablation", "dpmpp_sde", "sa_solver"])
def test_more_steps_send_no_more_numbers_to_the_device(sampler: str) -> None:
    """A copy that is waited for in each step would let a GPU run dry in each step."""
    churn = 2.0 if sampler in ("heun", "ablation") else None
    scale = SkipScale(bottom=0.7, time="decreasing", window=(0.05, 10))
    copies = []
    for steps in (4, 5):
        settings = SamplerSettings(sampler=sampler, steps=steps, S_churn=churn)
        with fake_cuda() as device:
            net = SkipTuned(tiny_on(CUDA), scale)
            batches = generate_batches(net, settings, range(2), "cuda", guidance=Guidance(1.5))
            device.uploads.clear()
            next(batches)
        copies.append(device.uploads)
    assert copies[0] == copies[1] and sum(copies[0].values()) > 0


def test_a_tuned_unet_of_diffusers_sends_nothing_to_the_device() -> None:
    """Of rho by noise level: neither its layers nor the scheduler's table is waited for at a call."""
    scheduler = SimpleNamespace(alphas_cumprod=torch.linspace(0.99, 0.01, 10), config={})
    scale = SkipScale(bottom=0.7, time="decreasing")
    with fake_cuda() as device:
        timestep = torch.tensor(3, device="cuda")
        device.uploads.clear()
        scale(4, sigma_from_scheduler(scheduler)(timestep))
    assert device.uploads.total() == device.waits.total() == 0


def test_a_gpu_gets_larger_batches_of_smaller_images(tmp_path: Path) -> None:
    source = ImageSource(network=saved(tmp_path))
    with fake_cuda():
        on_gpu = source.load("cuda")
        found = {}
        for side in (16, 32, 64, 128, 512):
            on_gpu.net.net.img_resolution = side
            found[side] = on_gpu.usual_batch
    assert found == {16: 256, 32: 256, 64: 64, 128: 16, 512: 16}
    assert source.load("cpu").usual_batch == 64


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_noise_device_cuda_is_the_gpu_that_computes(device: str, tmp_path: Path) -> None:
    with fake_cuda():
        source = ImageSource(network=saved(tmp_path), noise_device="cuda").load(device)
    assert source.noise_device == torch.device(device)


def test_grids_of_a_table_are_the_cpus_wherever_the_network_is(tmp_path: Path) -> None:
    net = stored("uvit", tmp_path)
    expected = {name: grid(7) for name, grid in net.sigma_grids.items()}
    with fake_cuda():
        grids = net.to("cuda").sigma_grids
        assert all(torch.equal(grids[name](7), sigmas) for name, sigmas in expected.items())


@pytest.mark.gpu
def test_generate_py_on_a_gpu_draws_the_cpus_images(tmp_path: Path) -> None:
    network = saved(tmp_path)
    for device in ("cpu", "cuda"):
        flags = f"--network {network} --outdir {tmp_path / device} --seeds 0-4 --batch 3 --steps 3 --device {device}"
        run(generate.main, *flags.split())
    for path in (tmp_path / "cpu").glob("*.png"):
        a, b = (
            decode_png(file.read_bytes()).astype(int)
            for file in (path, tmp_path / "cuda" / path.name)
        )
        assert abs(a - b).max() <= 1


@pytest.mark.gpu
def test_nccl_with_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29431",
    }.items():
        monkeypatch.setenv(name, value)
    device = distributed.init("cuda")
    assert float(distributed.all_reduce_sum(torch.ones(1, device=device))) == 1
    distributed.barrier()
    distributed.shutdown()
