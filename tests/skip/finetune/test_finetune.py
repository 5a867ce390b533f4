"""Fine-tuning: against optima in closed form, finite differences and a step by hand; killed, shared out, refused."""

import errno
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from click.testing import CliRunner
from conftest import fill
from few_images import few_images
from PIL import Image
from torch import Tensor

from dnnlib.claims import claim_file
from dnnlib.interrupts import Stopped
from metrics.detector import load_detector
from skip.finetune import objectives
from skip.finetune.__main__ import main
from skip.finetune.examples import Examples, example_seeds
from skip.finetune.objectives import (
    coefficients,
    first_theta,
    network_losses,
    rho_losses,
    tune_network,
    tune_rho,
)
from skip.finetune.settings import FineTuning
from skip.finetune.state import Run
from skip.scale_file import load_scale
from skip.studies.score_matching import draw_sigma, losses, pixels, smooth_features, weight
from torch_utils.weights import read_saved, write_saved
from training.checkpoint import load_network, save_network
from training.precond import EDMPrecond

CPU = torch.device("cpu")


@pytest.fixture
def small(tmp_path: Path) -> FineTuning:
    """A run of 8 images a step, with a network of 32x32 pixels and two long skips."""
    net = EDMPrecond(32, 1, 10, model_type="SongUNet", model_channels=16, channel_mult=[1], num_blocks=1,
                     attn_resolutions=[], dropout=0.5)  # fmt: skip
    fill(net)
    save_network(net, tmp_path / "small.safetensors")
    return FineTuning(
        str(tmp_path / "small.safetensors"), few_images(tmp_path), "demo", batch=8, lr=0.02
    )


def some_examples(count: int = 4) -> Examples:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(images.shape, generator=generator)
    return Examples(images, torch.eye(10)[torch.arange(count)], draw_sigma(range(count)), noise)


def on_the_cpu(small: FineTuning, where: str, place: Path) -> list[str]:
    """Flags of both programs; `where` names their result."""
    return [
        "--network", small.network, "--data", small.data, "--batch", "8", "--device", "cpu", where, str(place),
    ]  # fmt: skip


# ---- features with gradients


def test_smooth_features_are_the_detectors_where_images_are_uint8() -> None:
    detector = load_detector("demo", CPU)
    grey = torch.randint(0, 256, (3, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    x = (grey / 127.5 - 1).requires_grad_()
    found = smooth_features(detector)(x)
    expected = detector(grey.to(torch.uint8))[0]
    torch.testing.assert_close(found.detach(), expected.clone(), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    between, outside = x.detach() + 0.003, x.detach() * 2  # neither rounded nor cut off
    assert not torch.allclose(smooth_features(detector)(between), found, rtol=1e-4)
    assert not torch.allclose(
        smooth_features(detector)(outside), smooth_features(detector)(outside.clamp(-1, 1))
    )


def test_a_detector_without_gradients_is_refused() -> None:
    class Scripted:
        name, feature_dim, num_logits, sha256 = "scripted", 1, 0, ""

        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            raise AssertionError

    with pytest.raises(ValueError, match="scripted gives no gradients; take another one"):
        smooth_features(Scripted())


# ---- rho


class Constant:
    """D = rho_0 c_0 + rho_1 c_1, whatever is put in; c_0 and c_1 are the halves of an image, in white."""

    label_dim, img_channels, img_resolution, num_skips = 0, 1, 4, 2

    def __call__(
        self, x: Tensor, sigma: Tensor, class_labels: Tensor | None, skip_scale: Tensor
    ) -> Tensor:
        assert x.dtype == torch.float32 and sigma.shape == (len(x),) and class_labels is None
        halves = torch.zeros(2, *x.shape[1:])
        halves[0, :, :2], halves[1, :, 2:] = 1, 1
        return (skip_scale.reshape(2, 1, 1, 1) * halves).sum(0).expand_as(x)


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FineTuning:
    """Images whose halves are a and b grey; the feature doubles pixels, so the best rho is their mean grey level."""
    (tmp_path / "data").mkdir()
    for i, (a, b) in enumerate([(153, 255), (204, 255)]):
        pixels = np.full([4, 4], a, np.uint8)
        pixels[2:] = b
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i}.png")
    monkeypatch.setattr(
        objectives, "_loaded", lambda settings, device: (Constant(), lambda x: 2 * x)
    )
    return FineTuning("none", str(tmp_path / "data"), "none", batch=2, lr=0.02, weighting="one")


def test_free_rho_finds_the_optimum(halves: FineTuning, tmp_path: Path) -> None:
    """E ||f(D) - f(x)||^2 = 4 * 8 * sum_i E (rho_i - x_i)^2: least at the mean of x_i."""
    fitted = tune_rho(halves, 1200, tmp_path / "state", CPU, start=0.3)
    expected = [(153 + 204) / 2 / 127.5 - 1, 1.0]
    assert fitted.scale.layers == pytest.approx(expected, abs=1e-3)
    assert fitted.path.shape == (600, 2) and fitted.path[-1].tolist() == list(
        fitted.scale.layers or ()
    )
    spread = ((204 - 153) / 2 / 127.5) ** 2
    assert float(fitted.losses[-1]) == pytest.approx(4 * 8 * spread, rel=1e-3)
    first = torch.tensor([[0.2, 1.0], [0.6, 1.0]], dtype=torch.float64)
    assert float(fitted.losses[0]) == pytest.approx(
        4 * 8 * float((first - 0.3).square().sum(1).mean()), rel=1e-6
    )


def test_bounded_rho_stays_inside(halves: FineTuning, tmp_path: Path) -> None:
    fitted = tune_rho(halves, 1200, tmp_path / "state", CPU, bounded=True, start=0.5)
    assert float(fitted.path.min()) > 0 and float(fitted.path.max()) < 1
    low, high = fitted.scale.layers or ()
    # The optimum is 1 itself.
    assert low == pytest.approx((153 + 204) / 2 / 127.5 - 1, abs=2e-3) and 0.9 < high < 1


def test_coefficients() -> None:
    assert coefficients(first_theta(3, 0.95, True), True).tolist() == pytest.approx(
        [0.95] * 3, rel=1e-12
    )
    assert first_theta(2, 1.0, False).tolist() == [1, 1]
    theta = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float64)
    rho = coefficients(theta, True)
    assert (
        rho.tolist() == pytest.approx([np.exp(-30), 0.5, 1], rel=1e-12)
        and rho[0] > 0
        and rho[2] < 1
    )
    assert torch.equal(coefficients(theta, False), theta)


@pytest.mark.parametrize("bounded", [False, True])
def test_gradient_is_the_finite_difference(bounded: bool) -> None:
    net, feature = load_network("demo"), smooth_features(load_detector("demo", CPU))
    examples = some_examples()
    theta = first_theta(net.num_skips, 0.9, bounded).requires_grad_()

    def mean(theta: Tensor) -> Tensor:
        return rho_losses(net, coefficients(theta, bounded), feature, "edm", examples).mean()

    (gradient,) = torch.autograd.grad(mean(theta), theta)
    assert gradient.shape == (net.num_skips,) and gradient.abs().min() > 0
    h = 0.02 if bounded else 0.005
    with torch.no_grad():
        for i in (0, 4, 8):
            move = h * torch.eye(net.num_skips, dtype=torch.float64)[i]
            numeric = float(mean(theta + move) - mean(theta - move)) / (2 * h)
            assert float(gradient[i]) == pytest.approx(
                numeric, rel=0.02, abs=0.01 * float(gradient.abs().max())
            )


def test_losses_are_those_of_the_study() -> None:
    net = load_network("demo")
    feature = smooth_features(load_detector("demo", CPU))
    examples = some_examples()
    x, labels, sigma, noise = examples
    rho = torch.full([net.num_skips], 0.8, dtype=torch.float64)
    with torch.no_grad():
        found = rho_losses(net, rho, feature, "edm", examples)
        plain = losses(net, x, labels, sigma, noise, {"pixel": pixels, "f": feature})
        both = network_losses(net, feature, 0.5, "edm", examples)
        D = net(
            (x + sigma.reshape(-1, 1, 1, 1) * noise).float(), sigma.float(), labels, skip_scale=rho
        )
        expected = weight(sigma) * (feature(D) - feature(x)).double().square().sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both, plain["pixel"] + 0.5 * plain["f"], rtol=1e-6, atol=1e-9)


# ---- all weights


def test_the_first_step_is_adam_and_nothing_is_dropped(small: FineTuning, tmp_path: Path) -> None:
    (path,) = tune_network(small, 8, 8, tmp_path / "run", CPU, factor=0.25)
    before, after = load_network(small.network), load_network(path)
    given = first_examples(small)
    before.requires_grad_(True)
    network_losses(
        before, smooth_features(load_detector("demo", CPU)), 0.25, "edm", given
    ).mean().backward()
    moved = 0
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if old.grad is None:
            assert torch.equal(old, new), name
            continue
        step = old.grad / (old.grad.abs() + 1e-8)
        # Of others, rounding may turn the sign.
        clear = old.grad.abs() > 1e-3 * old.grad.abs().max()
        torch.testing.assert_close(
            new[clear], (old - small.lr * step)[clear].detach(), rtol=1e-4, atol=1e-5
        )
        moved += int(clear.sum())
    assert moved > 1000


def first_examples(settings: FineTuning) -> Examples:
    """The first batch, from the definitions."""
    from_zip = objectives.real_images(settings, load_network(settings.network))
    order = np.random.RandomState([settings.seed, 0]).permutation(len(from_zip.data))[
        : settings.batch
    ]
    images, labels = from_zip.batch([int(i) for i in order], CPU)
    seeds = [
        int(np.random.SeedSequence([settings.seed, p]).generate_state(1)[0])
        for p in range(settings.batch)
    ]
    noise = torch.stack(
        [torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(s)) for s in seeds]
    )
    return Examples(images, labels, draw_sigma(seeds), noise)


def test_snapshots_hold_weights_or_their_average(small: FineTuning, tmp_path: Path) -> None:
    plain = tune_network(small, 16, 8, tmp_path / "plain", CPU)
    mean = tune_network(small, 16, 8, tmp_path / "mean", CPU, ema_halflife=8)
    assert [path.name for path in plain] == [
        "network-snapshot-000000-008.safetensors",
        "network-snapshot-000000-016.safetensors",
    ]
    w0, w1, w2 = (load_network(path).state_dict() for path in (small.network, *plain))
    e1, e2 = (load_network(path).state_dict() for path in mean)
    for name in w0:
        torch.testing.assert_close(e1[name], (w0[name] + w1[name]) / 2, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            e2[name], (w0[name] + w1[name] + 2 * w2[name]) / 4, rtol=1e-5, atol=1e-6
        )
    assert any(not torch.equal(w1[name], w2[name]) for name in w0)


# ---- killed, shared out, refused


class KilledError(Exception):
    pass


def test_a_killed_run_ends_the_same(
    small: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune_rho(small, 40, tmp_path / "whole", CPU, every=16)
    steps = []

    def dying(*args: Any) -> Tensor:
        steps.append(1)
        if len(steps) == 4:
            raise KilledError
        return rho_losses(*args)

    monkeypatch.setattr(objectives, "rho_losses", dying)
    with pytest.raises(KilledError):
        tune_rho(small, 40, tmp_path / "killed", CPU, every=16)
    again = tune_rho(small, 40, tmp_path / "killed", CPU, every=16)
    assert len(steps) == 4 + 3 + 2, (
        "it goes on after the second step, and looks at the loss at each of two saves"
    )
    assert torch.equal(again.path, whole.path) and torch.equal(again.losses, whole.losses)
    assert again.scale == whole.scale
    shorter = tune_rho(small, 16, tmp_path / "killed", CPU, every=16)
    assert torch.equal(shorter.path, whole.path[:2]) and len(steps) == 9


def test_a_killed_network_ends_the_same(small: FineTuning, tmp_path: Path) -> None:
    whole = tune_network(small, 24, 8, tmp_path / "whole", CPU, ema_halflife=16)
    tune_network(small, 8, 8, tmp_path / "parts", CPU, ema_halflife=16)
    parts = tune_network(small, 24, 8, tmp_path / "parts", CPU, ema_halflife=16)
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]
    parts[0].unlink()
    with pytest.raises(ValueError, match=r"network-snapshot-000000-008\.safetensors is gone"):
        tune_network(small, 24, 8, tmp_path / "parts", CPU, ema_halflife=16)


def test_a_run_that_diverges_keeps_its_last_state(halves: FineTuning, tmp_path: Path) -> None:
    tune_rho(halves, 4, tmp_path / "state", CPU, start=0.3)
    before = (tmp_path / "state").read_bytes()

    def no_number(net: Any, rho: Tensor, *rest: Any) -> Tensor:
        return rho.sum() * torch.tensor([float("nan"), 1.0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "rho_losses", no_number)
        with pytest.raises(
            RuntimeError, match="the loss of the step to 6 images is nan: the run stops"
        ):
            tune_rho(halves, 8, tmp_path / "state", CPU, start=0.3)
    assert (tmp_path / "state").read_bytes() == before
    flipped = bytearray(before)
    flipped[len(before) // 2] ^= 1
    (tmp_path / "state").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"cannot resume from .*state"):
        tune_rho(halves, 8, tmp_path / "state", CPU, start=0.3)


def test_coefficients_that_the_network_cannot_bear_are_not_saved(
    small: FineTuning, tmp_path: Path
) -> None:
    tune_rho(small, 8, tmp_path / "state", CPU)
    with pytest.raises(RuntimeError, match=r"a skip coefficient has become 1e\+18: the run stops"):
        tune_rho(replace(small, lr=1e18), 8, tmp_path / "other", CPU)
    assert sorted(path.name for path in tmp_path.iterdir() if "other" in path.name) == []


def test_a_network_that_diverges_keeps_its_state_and_ends_in_one_line(
    small: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = on_the_cpu(small, "--outdir", tmp_path / "run")
    first = ["network", *flags, "--every", "8", "--duration-images", "8", "--lr", "1e18"]
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", lambda self: None)  # a first step that goes well
        assert CliRunner().invoke(main, first).exit_code == 0
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    again = CliRunner().invoke(main, [*first[:-4], "--duration-images", "24", "--lr", "1e18"])
    assert again.exit_code == 2
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("Error: ")]
    assert "NaN or infinity" in line or "is nan" in line
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == kept


def test_a_full_disk_is_one_line_of_its_own(
    small: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    flags = on_the_cpu(small, "--outdir", tmp_path / "run")
    result = CliRunner().invoke(main, ["network", *flags, "--duration-images", "8"])
    assert result.exit_code == 2
    assert "finetuning-state.pt: the disk is full; make room" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_snapshots_whose_state_is_gone_are_not_written_over(
    small: FineTuning, tmp_path: Path
) -> None:
    (path,) = tune_network(small, 8, 8, tmp_path / "run", CPU)
    (tmp_path / "run" / objectives.STATE_FILE).unlink()
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"network-snapshot-000000-008\.safetensors but no finetuning-state\.pt"
    ):
        tune_network(small, 8, 8, tmp_path / "run", CPU)
    assert path.read_bytes() == before


def test_a_signal_saves_and_the_run_goes_on(halves: FineTuning, tmp_path: Path) -> None:
    whole = tune_rho(halves, 8, tmp_path / "whole", CPU, start=0.3)
    steps = []

    def signalled(*args: Any) -> Tensor:
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return rho_losses(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "rho_losses", signalled)
        with pytest.raises(Stopped, match="after 4 images"):
            tune_rho(halves, 8, tmp_path / "state", CPU, start=0.3)
    resumed = tune_rho(halves, 8, tmp_path / "state", CPU, start=0.3)
    assert torch.equal(resumed.path, whole.path) and torch.equal(resumed.losses, whole.losses)


def test_two_runs_on_one_state_are_refused(halves: FineTuning, tmp_path: Path) -> None:
    with (
        claim_file(tmp_path / "state"),
        pytest.raises(RuntimeError, match=r"another run is writing .*state"),
    ):
        tune_rho(halves, 8, tmp_path / "state", CPU, start=0.3)


def test_parts_of_a_batch_add_up(small: FineTuning, tmp_path: Path) -> None:
    whole = tune_rho(small, 24, tmp_path / "whole", CPU)
    parts = tune_rho(small, 24, tmp_path / "parts", CPU, batch_gpu=3)
    torch.testing.assert_close(parts.path, whole.path, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.losses, whole.losses, rtol=1e-5, atol=1e-5)


def test_examples_differ_by_seed_and_position() -> None:
    seeds = example_seeds(0, range(1000)) + example_seeds(1, range(1000))
    assert len(set(seeds)) > 1990 and all(0 <= seed < 2**32 for seed in seeds)
    assert example_seeds(0, [7]) == seeds[7:8]


def on_two_ranks(*args: str) -> dict[str, Any]:
    done = processes.run("-m", "skip.finetune", *args, "--device", "cpu", ranks=2)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_ranks_agree_with_one_on_rho(small: FineTuning, tmp_path: Path) -> None:
    flags = [
        "--network", small.network, "--data", small.data, "--batch", "8", "--duration-images", "24", "--bounded",
        "--rho-start", "0.5",
    ]  # fmt: skip
    two = on_two_ranks("rho", *flags, "--lr", "0.1", "--out", str(tmp_path / "two.json"))
    one = tune_rho(replace(small, lr=0.1), 24, tmp_path / "one", CPU, bounded=True, start=0.5)
    assert two["rho"] == pytest.approx(one.scale.layers, rel=1e-5)
    assert two["loss_last_quarter"] == pytest.approx(float(one.losses[-1]), rel=1e-5)
    assert max(abs(rho - 0.5) for rho in two["rho"]) > 0.01


def test_two_ranks_agree_with_one_on_weights(small: FineTuning, tmp_path: Path) -> None:
    """By the losses: where a gradient is 0, Adam makes steps of its rounding, and no weight is the same."""
    flags = [
        "--network", small.network, "--data", small.data, "--batch", "8", "--duration-images", "24", "--lr", "0.001",
    ]  # fmt: skip
    two = on_two_ranks("network", *flags, "--out", str(tmp_path / "two"))
    assert two["snapshots"] == [str(tmp_path / "two" / "network-snapshot-000000-024.safetensors")]
    tune_network(replace(small, lr=0.001), 24, 24, tmp_path / "one", CPU)
    states = [
        torch.load(tmp_path / name / objectives.STATE_FILE, weights_only=True)
        for name in ("one", "two")
    ]
    torch.testing.assert_close(states[1]["history"], states[0]["history"], rtol=1e-5, atol=0)


def test_the_program_writes_what_generate_reads(small: FineTuning, tmp_path: Path) -> None:
    out = tmp_path / "rho.json"
    flags = ["--duration", "16", *on_the_cpu(small, "--out", out)]
    result = CliRunner().invoke(main, ["rho", *flags])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert load_scale(out).layers == tuple(found["rho"])
    assert found["max"] == max(found["rho"]) and found["images"] == 16 and not found["bounded"]
    provenance = json.loads(out.read_text())["provenance"]
    assert (provenance["images"], provenance["detector"], provenance["lr"]) == (16, "demo", 0.01)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "rho --duration-images 20",
            "the length is 20; it must be a positive multiple of the batch, 8",
        ),
        ("rho --duration-images 16 --lr 0", "lr is 0; it must be positive"),
        (
            "rho --duration-images 16 --bounded --rho-start 1",
            "starts at 1.0; it must lie between 0 and 1",
        ),
        ("rho --duration-images 16 --detector nonsense", "no detector is called 'nonsense'"),
        ("rho --duration-images 16 --data nowhere.zip", "nowhere.zip"),
        (
            "network --duration-images 24 --every 16",
            "the length is 24; it must be a multiple of the interval of snapshots, 16",
        ),
        ("network --duration-images 16 --factor -1", "the factor is -1;"),
        ("network --duration-images 16 --factor nan", "nan is no finite number"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    small: FineTuning, tmp_path: Path, flags: str, message: str
) -> None:
    command, *wrong = flags.split()
    args = [command, *on_the_cpu(small, "--out", tmp_path / "x"), *wrong]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert message in line


def test_a_state_that_holds_something_else_is_named(tmp_path: Path) -> None:
    """With a checksum that is right."""
    run = Run({"lr": 0.1}, [torch.zeros(3, requires_grad=True)], 0.1)
    run.history, path = [torch.ones(2, dtype=torch.float64)], tmp_path / "state"
    run.save(path)
    saved = torch.load(path, weights_only=True)
    for name, value, message in (
        ("settings", "[]", "what it records as the settings is no object"),
        ("parameters", [torch.zeros(())], "of the wrong shape"),
        ("images_seen", "8", "images_seen is '8'; it must be a count"),
        ("history", saved["history"] * float("nan"), "its history is no table of numbers"),
    ):
        torch.save(saved | {name: value}, path)
        with pytest.raises(ValueError, match=rf"cannot resume from .*state: .*{message}"):
            run.load(path, CPU)


def test_a_run_of_other_settings_is_refused(small: FineTuning, tmp_path: Path) -> None:
    tune_rho(small, 8, tmp_path / "state", CPU)
    with pytest.raises(ValueError, match="of a run with bounded=False, now True; choose another"):
        tune_rho(small, 8, tmp_path / "state", CPU, bounded=True)
    saved = read_saved(tmp_path / "state", CPU)
    write_saved(tmp_path / "state", saved | {"settings": json.dumps({"a\n\x1b[31m": 1})})
    with pytest.raises(ValueError, match="of a run with a") as told:
        tune_rho(small, 8, tmp_path / "state", CPU)
    assert str(told.value).isprintable()
    (tmp_path / "state").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"cannot resume from .*remove it to start anew"):
        tune_rho(small, 8, tmp_path / "state", CPU)


def test_coefficients_whose_state_is_gone_are_not_written_over(
    small: FineTuning, tmp_path: Path
) -> None:
    (tmp_path / "rho.json").write_text("{}")
    flags = on_the_cpu(small, "--dest", tmp_path / "rho.json")
    result = CliRunner().invoke(main, ["rho", *flags, "--duration-images", "8"])
    assert (
        result.exit_code == 2 and "but no rho.json.state beside it to go on from" in result.stderr
    )
    assert (tmp_path / "rho.json").read_text() == "{}"


def test_a_network_that_returns_nan_ends_the_run_with_advice(
    small: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        objectives.Precond,
        "forward",
        lambda net, x, *args, **more: x * math.nan + more["skip_scale"].sum(),
    )
    with pytest.raises(
        RuntimeError, match=r"the loss of the step to 8 images is nan: .* a lower learning rate"
    ):
        tune_rho(small, 8, tmp_path / "state", CPU)
    assert not (tmp_path / "state").exists()
