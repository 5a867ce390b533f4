"""Every solver against final states that the official implementations reached with the same networks."""

import hashlib
from functools import cache, partial
from typing import Any

import pytest
import torch
from conftest import fill, golden_json, golden_npz, relative_error
from torch import Tensor

from sampling.ablation import ablation
from sampling.denoiser import Counted, Denoiser, bind
from sampling.noise import SeedNoise
from sampling.onestep import heun
from sampling.samplers import SAMPLERS, sample
from sampling.sigmas import SIGMAS, default_range
from training.precond import PRECONDS

FACTS, ARRAYS = golden_json("samplers"), golden_npz("samplers")
EDM_TOLERANCE = 2e-5
TOLERANCE = {"nothr": 2e-5, "f64": 2e-5, "thr": 1e-4, "f32": 1e-4}
NAMES = {"dpm2": "dpm_2", "deis_tab": "deis", "deis_rhoab": "deis"}
# Every solver and setting with one network plain and with another Skip-Tuned; the other runs repeat them.
DIFF_SAMPLER_RUNS = [
    entry
    for entry in FACTS["diffsampler"]
    if entry["name"].startswith(("edm_adm/rho1/", "edm_ddpmpp/skip/"))
    if "rho1" in entry["name"] or entry["kwargs"]["num_steps"] == 6
]


@cache
def network(name: str) -> Any:
    spec = FACTS["networks"][name]
    return fill(PRECONDS[spec["precond_class"]](**spec["kwargs"])).eval().requires_grad_(False)


ANSWERS: dict[bytes, Tensor] = {}


def remembered(denoise: Denoiser, of: str) -> Denoiser:
    """The denoiser, which answers the same question once: many solvers take the same first steps."""

    def answer(x: Tensor, sigma: Tensor) -> Tensor:
        asked = of.encode() + x.numpy().tobytes() + sigma.numpy().tobytes()
        question = hashlib.sha256(asked).digest()
        if question not in ANSWERS:
            ANSWERS[question] = denoise(x, sigma)
        return ANSWERS[question].clone()

    return answer


def denoiser(entry: dict[str, Any], images: int) -> Any:
    """The run's network with its labels and rho bound, counting its evaluations."""
    name = entry["name"].split("/")[0]
    net = network(name)
    labels = None
    if net.label_dim > 0:
        labels = torch.eye(net.label_dim)[torch.from_numpy(ARRAYS[f"{name}/class_idx"])][:images]
    if entry["rho"] is not None:
        bottom, top = entry["rho"]
        rho = bottom + (top - bottom) / net.num_skips * torch.arange(net.num_skips)
        net = partial(net, skip_scale=rho)
    return Counted(remembered(bind(net, labels), f"{name} {entry['rho']}"))


def watched(denoise: Denoiser, seen: list[float]) -> Any:
    """The denoiser, which also writes down the noise levels it is asked for."""

    def watch(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(float(sigma))
        return denoise(x, sigma)

    return watch


@pytest.mark.parametrize("entry", FACTS["edm"], ids=lambda e: e["name"])
@torch.inference_mode()
def test_edm(entry: dict[str, Any]) -> None:
    """Seeds in, images out: the draws, the grid, churn and every solver of EDM's two samplers."""
    name = entry["name"].split("/")[0]
    net, settings = network(name), dict(entry["kwargs"])
    noise = SeedNoise(FACTS["settings"]["seeds"])
    latents = noise.randn(ARRAYS[f"{name}/latents"].shape)
    assert relative_error(latents, ARRAYS[f"{name}/latents"]) < 1e-6
    if net.label_dim > 0:
        assert noise.randint(net.label_dim).tolist() == ARRAYS[f"{name}/class_idx"].tolist()

    grid, num_steps = settings.pop("discretization", "edm"), settings.pop("num_steps")
    low, high = default_range(grid)
    low, high = max(low, net.sigma_min), min(high, net.sigma_max)
    nodes = net.round_sigma(SIGMAS[grid](num_steps, low, high))
    if entry["sampler"] == "edm_sampler":
        sampler = partial(heun, **settings)
    else:
        sampler = partial(ablation, sigma_range=(low, high), **settings)
    sampler = partial(sampler, randn_like=noise.randn_like, round_sigma=net.round_sigma)

    denoise, seen = denoiser(entry, len(latents)), []
    images = sample(sampler, watched(denoise, seen), latents, nodes, "zero")
    assert relative_error(images, ARRAYS[entry["name"]]) < EDM_TOLERANCE
    assert denoise.nfe == entry["nfe"]
    assert seen == pytest.approx(
        entry["sigmas_passed_to_net"], rel=1e-9 if name.startswith("edm") else 1e-6
    )


@pytest.mark.parametrize("entry", DIFF_SAMPLER_RUNS, ids=lambda e: e["name"])
@torch.inference_mode()
def test_diff_sampler(entry: dict[str, Any]) -> None:
    """The multistep solvers, with thresholding (`thr`, and `f32` as shipped) and without."""
    name, kwargs, solver = entry["name"], entry["kwargs"], entry["solver"]
    settings = {key: kwargs[key] for key in ("variant", "lower_order_final") if key in kwargs}
    if "max_order" in kwargs:
        settings["order"] = kwargs["max_order"]
    if solver == "deis_rhoab":
        settings["variant"] = "rhoab"
    sampler = partial(SAMPLERS[NAMES.get(solver, solver)], **settings)
    grid = {"polynomial": "edm", "logsnr": "logsnr"}[kwargs["schedule_type"]]
    nodes = SIGMAS[grid](kwargs["num_steps"], 0.002, 80.0)
    ending = "denoise" if kwargs.get("denoise_to_zero") else "sigma_min"
    latents = torch.from_numpy(ARRAYS[f"{name.split('/')[0]}/latents"][:2])

    if solver in ("unipc", "dpmpp"):
        runs = {("nothr",): sampler, ("thr", "f32"): partial(sampler, thresholding=True)}
    else:
        runs = {("f64", "f32"): sampler}
    for modes, run in runs.items():
        denoise, seen = denoiser(entry, 2), []
        images = sample(run, watched(denoise, seen), latents, nodes, ending)
        assert denoise.nfe == entry["nfe"]
        if "sigmas_passed_to_net" in entry:
            assert seen == pytest.approx(entry["sigmas_passed_to_net"], rel=1e-6)  # float32's
        compared = [mode for mode in modes if f"{name}/{mode}" in ARRAYS]
        assert compared
        for mode in compared:
            assert relative_error(images, ARRAYS[f"{name}/{mode}"]) < TOLERANCE[mode]
