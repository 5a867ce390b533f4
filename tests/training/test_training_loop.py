"""Training: against a step written out by hand, and killed runs against uninterrupted ones."""

import copy
import dataclasses
import filecmp
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from click.testing import CliRunner
from edm_pickles import edm_snapshot
from PIL import Image
from small_network import image_folder, small

from dnnlib.claims import claim
from dnnlib.interrupts import Stopped
from dnnlib.json_files import read_json_lines
from train import main as program_main
from training import training_loop
from training.checkpoint import load_network, save_network
from training.dataset import ImageDataset
from training.loss import EDMLoss
from training.precond import EDMPrecond
from training.run import state as run_state
from training.run import watch
from training.run.config import TrainingConfig, crossed
from training.run.snapshots import snapshot_path
from training.run.state import CONFIG_FILE, STATE_FILE, TrainingState, start
from training.training_loop import rank_batches, train, training_step

CPU = torch.device("cpu")
LATEST = "network-snapshot-latest.safetensors"
NETWORK = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1], "num_blocks": 1,
           "attn_resolutions": [], "dropout": 0.1}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path)


def config(data: Path, **changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "duration": 96,
        "batch": 16,
        "lr_rampup": 64,
        "snap": 32,
        "tick": 32,
        "ema_halflife": 50,
        "network": NETWORK,
    }
    return TrainingConfig(data=str(data), **(settings | changes))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_network(path).state_dict()


def same(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return all(torch.equal(one[name], two[name]) for name in one)


def test_loss_is_the_formula() -> None:
    loss = EDMLoss(P_mean=-1.0, P_std=0.5, sigma_data=0.5)
    images = torch.randn(4, 1, 2, 2)
    sigma, noise = loss.draw(images, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(sigma, (torch.randn([4], generator=generator) * 0.5 - 1.0).exp())
    assert torch.equal(noise, torch.randn([4, 1, 2, 2], generator=generator))

    def halve(x: torch.Tensor, sigma: torch.Tensor, labels: None) -> torch.Tensor:
        return x / 2

    got = loss(halve, images, None, sigma, noise)  # type: ignore[arg-type]
    for i in range(4):
        s = float(sigma[i])
        expected = (
            (s**2 + 0.25) / (s * 0.5) ** 2 * ((images[i] + s * noise[i]) / 2 - images[i]) ** 2
        )
        assert torch.allclose(got[i], expected, rtol=1e-5)


def test_schedules() -> None:
    c = TrainingConfig(
        data="", network={}, batch=10, lr=0.5, lr_rampup=100, ema_halflife=200, ema_rampup=0.5
    )
    assert [c.learning_rate(n) for n in (0, 50, 100, 1000)] == [0.0, 0.25, 0.5, 0.5]
    assert c.ema_beta(1000) == 0.5 ** (10 / 200)
    assert c.ema_beta(100) == 0.5 ** (10 / 50)
    assert c.ema_beta(0) == 0.0
    assert [n for n in range(10, 100, 10) if crossed(n, 10, 25)] == [30, 50, 80]


def test_step_is_adam_on_the_mean_loss(data: Path, tmp_path: Path) -> None:
    c = config(data, lr_rampup=1, network=NETWORK | {"dropout": 0.0})
    dataset = ImageDataset(data)
    state = start(c, dataset, tmp_path / "run", CPU)
    state.images_seen = 160
    before = {name: value.clone() for name, value in state.net.named_parameters()}
    ema_before = {name: value.clone() for name, value in state.ema.named_parameters()}
    images = torch.randn(16, 1, 8, 8)
    labels = torch.eye(3)[torch.arange(16) % 3]
    training_step(c, state, state.net, EDMLoss(), (images, labels))

    grads = {
        name: value.grad.clone()
        for name, value in state.net.named_parameters()
        if value.grad is not None
    }
    assert len(grads) == len(before)
    beta = c.ema_beta(160)
    for name, value in state.net.named_parameters():
        first_adam_step = before[name] - c.lr * grads[name] / (grads[name].abs() + 1e-8)
        assert torch.allclose(value, first_adam_step, atol=1e-7), name
        averaged = beta * ema_before[name] + (1 - beta) * value
        assert torch.allclose(dict(state.ema.named_parameters())[name], averaged, atol=1e-7), name


def test_accumulation_gives_the_same_gradients(data: Path, tmp_path: Path) -> None:
    grads = []
    for batch_gpu in (None, 5):
        c = config(data, batch_gpu=batch_gpu, network=NETWORK | {"dropout": 0.0})
        state = start(c, ImageDataset(data), tmp_path / str(batch_gpu), CPU)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(16, 1, 8, 8, generator=generator)
        with torch.no_grad():
            for param in state.net.parameters():
                param += 0.05 * torch.randn(param.shape, generator=generator)
        training_step(c, state, state.net, EDMLoss(), (images, torch.eye(3)[torch.arange(16) % 3]))
        grads.append(
            torch.cat([p.grad.flatten() for p in state.net.parameters() if p.grad is not None])
        )
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-4 * float(grads[0].abs().max()))


def test_stopped_run_ends_like_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    last = train(config(data), whole, CPU)
    train(config(data, duration=64), parts, CPU)
    resumed = train(config(data), parts, CPU)
    assert resumed.name == last.name == "network-snapshot-000000-096.safetensors"
    assert same(last, resumed)
    assert filecmp.cmp(last, resumed, shallow=False)
    saved = [torch.load(run / STATE_FILE, weights_only=True) for run in (whole, parts)]
    for key in ("net", "ema"):
        assert all(torch.equal(saved[0][key][name], saved[1][key][name]) for name in saved[0][key])
    lines = [
        [json.loads(x) for x in (run / "stats.jsonl").read_text().splitlines()]
        for run in (whole, parts)
    ]
    assert [x["images"] for x in lines[0]] == [32, 64, 96]
    assert [[x["images"], x["loss"], x["lr"]] for x in lines[0]] == [
        [x["images"], x["loss"], x["lr"]] for x in lines[1]
    ]


def test_loss_falls_on_two_gray_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i, gray in enumerate((40, 200)):
        Image.new("L", (8, 8), gray).save(tmp_path / "data" / f"{i}.png")
    c = config(
        tmp_path / "data",
        cond=False,
        duration=640,
        lr=3e-3,
        lr_rampup=16,
        tick=160,
        snap=640,
        network=NETWORK | {"dropout": 0.0},
    )
    train(c, tmp_path / "run", CPU)
    losses = [
        json.loads(x)["loss"] for x in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_keeps_float32_weights(data: Path, tmp_path: Path) -> None:
    snapshot = train(config(data, dtype="bfloat16", duration=32), tmp_path / "run", CPU)
    assert {value.dtype for value in weights(snapshot).values()} == {torch.float32}
    assert not same(snapshot, train(config(data, duration=32), tmp_path / "other", CPU))


def test_other_settings_are_refused(data: Path, tmp_path: Path) -> None:
    train(config(data, duration=16), tmp_path / "run", CPU)
    with pytest.raises(ValueError, match=r"trained with lr=0.001, now 0.002; use another --outdir"):
        train(config(data, lr=0.002), tmp_path / "run", CPU)


def test_damaged_state_is_named(data: Path, tmp_path: Path) -> None:
    train(config(data, duration=16), tmp_path / "run", CPU)
    state = tmp_path / "run" / STATE_FILE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot resume from .*training-state.pt"):
        train(config(data), tmp_path / "run", CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"precond": "DDPM"}, "EDMPrecond, VPPrecond"),
        ({"batch_gpu": 0}, "batch_gpu is 0"),
    ],
)
def test_nonsense_is_refused(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(config(data, **changes), tmp_path / "run", CPU)


def test_batch_must_fit_the_ranks(data: Path) -> None:
    with pytest.raises(ValueError, match="16 cannot be shared by 3 ranks"):
        dataclasses.replace(config(data)).check(3)


FLAGS = "--cond 1 --arch adm --cbase 16 --cres 1 --num-blocks 1 --attn 4 --dropout 0 --batch 16 --lr-rampup 0.000064"


def arguments(data: Path, outdir: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--outdir", str(outdir), *FLAGS.split(), *more]


def test_killed_program_goes_on(data: Path, tmp_path: Path) -> None:
    """The state is saved after each step, as if each took ten minutes."""
    more = ["--duration", "0.00008", "--grid", "none", "--device", "cpu"]
    outdir, save = tmp_path / "killed", {"training.run.watch:SAVE_SECONDS": 0.0}
    at = ("training.run.watch:Watch.step", 4)
    processes.run("train.py", *arguments(data, outdir, *more), patches=save, kill_at=at)
    assert [path.name for path in outdir.glob("*.safetensors")] == [LATEST]
    assert torch.load(outdir / STATE_FILE, weights_only=True)["images_seen"] == 48
    done = processes.run("train.py", *arguments(data, outdir, *more))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("network-snapshot-000000.safetensors")
    whole = CliRunner().invoke(program_main, arguments(data, tmp_path / "whole", *more))
    snapshot = Path(whole.stdout.strip())
    assert filecmp.cmp(snapshot, outdir / snapshot.name, shallow=False)


def losses_of(run: Path) -> list[list[float]]:
    return [[x["images"], x["loss"], x["lr"]] for x in read_json_lines(run / "stats.jsonl")]


def test_a_signal_saves_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a tick; and the state is saved after each step, as if each took ten minutes."""
    one = {"duration": 64, "snap": 64, "tick": 64}
    last = train(config(data, **one), tmp_path / "whole", CPU)
    steps = []

    def signalled(*args: Any) -> torch.Tensor:
        steps.append(args[1].images_seen)
        if len(steps) == 3:
            saved = torch.load(tmp_path / "run" / STATE_FILE, weights_only=True)
            assert saved["images_seen"] == 32 and (tmp_path / "run" / LATEST).exists()
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(*args)

    monkeypatch.setattr(training_loop, "training_step", signalled)
    monkeypatch.setattr(watch, "SAVE_SECONDS", 0.0)
    with pytest.raises(Stopped, match="Stopped by a signal after 48 images") as stopped:
        train(config(data, **one), tmp_path / "run", CPU)
    assert stopped.value.number == signal.SIGTERM
    latest = tmp_path / "run" / LATEST
    state = torch.load(tmp_path / "run" / STATE_FILE, weights_only=True)
    assert all(torch.equal(value, state["ema"][name]) for name, value in weights(latest).items())

    resumed = train(config(data, **one), tmp_path / "run", CPU)
    assert steps == [0, 16, 32, 48] and not latest.exists()
    assert filecmp.cmp(last, resumed, shallow=False)
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")


def test_a_run_that_diverges_keeps_its_last_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(data, duration=16), tmp_path, CPU)
    kept = {
        path.name: path.read_bytes()
        for path in tmp_path.iterdir()
        if path.suffix in (".pt", ".safetensors")
    }

    def diverging(self: TrainingConfig, images: int) -> float:
        return 1e30 if images >= 16 else self.lr

    monkeypatch.setattr(TrainingConfig, "learning_rate", diverging)
    with pytest.raises(
        RuntimeError, match=r"what net returns holds NaN or infinity: the run stops"
    ):
        train(config(data, duration=32), tmp_path, CPU)
    with pytest.raises(
        RuntimeError, match=r"the loss of the step to 48 images is (nan|inf): the run stops"
    ):
        train(config(data, duration=96, snap=96), tmp_path, CPU)
    for name, content in kept.items():
        assert (tmp_path / name).read_bytes() == content
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_run_that_gets_nowhere_leaves_its_folder_to_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "one"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingConfig, "learning_rate", lambda self, images: 1e30)
        with pytest.raises(RuntimeError, match="the loss of the step to 32 images is"):
            train(config(data, duration=64, tick=64, snap=64), folder, CPU)
        assert not (tmp_path / "runs").exists()
        with pytest.raises(RuntimeError, match="NaN or infinity"):
            train(config(data, duration=16), folder, CPU)
    assert (folder / "stats.jsonl").exists() and (folder / STATE_FILE).exists()  # it got somewhere


@pytest.mark.parametrize("part", ["net", "ema", "optimizer"])
def test_no_part_of_a_state_may_be_nan(data: Path, tmp_path: Path, part: str) -> None:
    state = start(config(data), ImageDataset(data), tmp_path, CPU)
    training_step(
        config(data),
        state,
        state.net,
        EDMLoss(),
        (torch.zeros(16, 1, 8, 8), torch.eye(3)[[0] * 16]),
    )
    state.check(CPU)
    moments = next(iter(state.optimizer.state.values()))["exp_avg_sq"]
    tensors = {
        "net": next(state.net.parameters()),
        "ema": next(state.ema.parameters()),
        "optimizer": moments,
    }
    tensors[part].data.flatten()[0] = float("nan")
    with pytest.raises(RuntimeError, match=f"{part} holds NaN or infinity"):
        state.check(CPU)


def test_a_flipped_bit_in_what_a_run_goes_on_from_is_named(data: Path, tmp_path: Path) -> None:
    train(config(data, duration=16), tmp_path, CPU)
    for name, message in (
        (STATE_FILE, r"cannot resume from .*training-state\.pt: .*checksum"),
        ("stats.jsonl", r"stats\.jsonl, line 1 is damaged"),
    ):
        whole = (tmp_path / name).read_bytes()
        flipped = bytearray(whole)
        flipped[whole.index(b"loss") + 9 if name == "stats.jsonl" else len(whole) // 2] ^= 1
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=message):
            train(config(data, duration=32), tmp_path, CPU)
        (tmp_path / name).write_bytes(whole)


def after_a_step(data: Path, folder: Path) -> TrainingState:
    small = config(data)
    state = start(small, ImageDataset(data), folder, CPU)
    training_step(
        small, state, state.net, EDMLoss(), (torch.zeros(16, 1, 8, 8), torch.eye(3)[[0] * 16])
    )
    state.images_seen = 16
    return state


def test_a_state_that_holds_something_else_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checksum that is right: what torch would take, and use or fail at later."""
    state, path = after_a_step(data, tmp_path / "none"), tmp_path / STATE_FILE
    state.save(path)
    name, one = next(iter(state.net.state_dict())), torch.zeros(())
    wrong: list[tuple[list[Any], Any, str]] = [
        (["images_seen"], -1, "images_seen is -1; it must be a count"),
        (["images_seen"], 10**30, "it must be a count"),
        (["images_seen"], 16.0, "images_seen is 16.0; it must be a count"),
        (["loss_sum"], float("nan"), "loss_sum is nan; it must be a finite number"),
        (["seconds"], "1", "seconds is '1'; it must be a finite number"),
        (["net"], [one], "in the place of tensors by name"),
        (["ema", name], 1, "in the place of tensors by name"),
        (["ema", name], one, "of the wrong shape"),
        (["net", name], state.net.state_dict()[name].half(), "torch.float16"),
        (["optimizer"], None, "in the place of the optimizer's moments"),
        (["optimizer", "state", 999], {}, "not of number 999"),
        (["optimizer", "state", 0, "exp_avg"], one, "of the wrong shape"),
        (["optimizer", "state", 0, "step"], -one - 1, "the optimizer has made -1.0 steps"),
    ]
    whole = torch.load(path, weights_only=True)
    for keys, value, message in wrong:
        saved = copy.deepcopy(whole)
        place = saved
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        monkeypatch.setattr(run_state, "read_saved", lambda path, device, saved=saved: saved)
        with pytest.raises(
            ValueError, match=rf"cannot resume from .*{STATE_FILE}: .*{re.escape(message)}"
        ):
            state.load(path, CPU)


def test_a_run_keeps_its_own_settings_of_the_optimizer(data: Path, tmp_path: Path) -> None:
    state = after_a_step(data, tmp_path / "none")
    state.optimizer.param_groups[0]["betas"] = (0.1, 0.2)
    state.save(tmp_path / STATE_FILE)
    other = start(config(data), ImageDataset(data), tmp_path, CPU).optimizer
    assert other.param_groups[0]["betas"] == (0.9, 0.999)
    for a, b in zip(state.optimizer.state.values(), other.state.values(), strict=True):
        assert torch.equal(a["exp_avg"], b["exp_avg"]) and float(b["step"]) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, " " * 2_000_000, '"\udcff"'])
def test_a_damaged_config_is_named(data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json is damaged") as error:
        train(config(data), tmp_path, CPU)
    assert len(str(error.value)) < 500


def test_snapshots_whose_state_is_gone_are_not_written_over(data: Path, tmp_path: Path) -> None:
    snapshot = train(config(data, duration=16), tmp_path, CPU)
    before = snapshot.read_bytes()
    (tmp_path / STATE_FILE).unlink()
    with pytest.raises(
        ValueError, match=rf"{snapshot.name} but no training-state\.pt to go on from"
    ):
        train(config(data, duration=32), tmp_path, CPU)
    assert snapshot.read_bytes() == before and not (tmp_path / STATE_FILE).exists()


def test_a_run_killed_at_its_first_snapshot_goes_on(data: Path, tmp_path: Path) -> None:
    def killed(snapshot: Path, images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(data, duration=16), tmp_path, CPU, killed)
    assert train(config(data, duration=16), tmp_path, CPU).exists()


def test_a_second_run_in_the_folder_is_refused(data: Path, tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(RuntimeError, match="another run is at work in"):
        train(config(data), tmp_path, CPU)
    assert not (tmp_path / CONFIG_FILE).exists()


def test_no_snapshot_overwrites_another(tmp_path: Path) -> None:
    def keep(images: int) -> str:
        path = snapshot_path(tmp_path, images)
        save_network(small(), path, images_seen=images)
        return path.stem.removeprefix("network-snapshot-")

    assert [keep(n) for n in (500, 12_544, 500, 900, 12_800)] == [
        "000000", "000012", "000000", "000000-900", "000012-800"
    ]  # fmt: skip


def test_the_warm_up_is_in_the_step(data: Path, tmp_path: Path) -> None:
    """Adam's first step is the learning rate in size, and that is lr * 48 / 64 after 48 images."""
    c = config(data, lr_rampup=64, network=NETWORK | {"dropout": 0.0})
    state = start(c, ImageDataset(data), tmp_path / "run", CPU)
    state.images_seen = 48
    before = [value.clone() for value in state.net.parameters()]
    training_step(
        c,
        state,
        state.net,
        EDMLoss(),
        (torch.randn(16, 1, 8, 8), torch.eye(3)[torch.arange(16) % 3]),
    )
    moved = max(
        float((a - b).detach().abs().max())
        for a, b in zip(state.net.parameters(), before, strict=True)
    )
    assert moved == pytest.approx(c.lr * 0.75, rel=1e-3)


def test_two_ranks_train_together(data: Path, tmp_path: Path) -> None:
    result = processes.run(
        "train.py", *arguments(data, tmp_path / "two", "--duration", "0.000064"), ranks=2
    )
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip().splitlines()[-1]).exists()
    lines = (tmp_path / "two" / "stats.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["images"] == 64


def test_bad_input_is_one_line_and_status_2(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(program_main, arguments(tmp_path / "none.zip", tmp_path / "run"))
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert "none.zip" in result.stderr and "Traceback" not in result.stderr


def test_transfer_begins_with_the_given_weights(data: Path, tmp_path: Path) -> None:
    first = train(config(data), tmp_path / "first", CPU)
    settings = config(data, transfer=str(first), seed=1)
    begun = start(settings, ImageDataset(settings.data, use_labels=True), tmp_path / "second", CPU)
    given = weights(first)
    for net in (begun.net, begun.ema):
        assert all(torch.equal(value, given[name]) for name, value in net.state_dict().items())
    state = tmp_path / "second" / STATE_FILE
    begun.net.load_state_dict({name: value + 1 for name, value in begun.net.state_dict().items()})
    begun.save(state)
    resumed = start(
        settings, ImageDataset(settings.data, use_labels=True), tmp_path / "second", CPU
    )
    assert not torch.equal(next(iter(resumed.net.parameters())), next(iter(begun.ema.parameters())))


def test_transfer_from_a_network_of_another_shape_is_refused(data: Path, tmp_path: Path) -> None:
    first = train(config(data), tmp_path / "first", CPU)
    wider = config(data, transfer=str(first), network={**NETWORK, "model_channels": 32})
    with pytest.raises(
        ValueError, match=r"cannot begin with the weights of .*wrong shape.*give its --arch"
    ):
        train(wider, tmp_path / "second", CPU)
    assert not (tmp_path / "second").exists()


def test_transfer_to_images_of_another_size_says_so(data: Path, tmp_path: Path) -> None:
    """No architecture would mend it: the names of the layers tell the resolution."""
    for name, sizes, words in (
        (
            "larger",
            {"img_resolution": 16},
            "of images of 16 pixels, the data set has 8; make .* --resolution",
        ),
        (
            "colour",
            {"img_channels": 3},
            "of images of 3 channels, the data set has 1; make .* --channels",
        ),
    ):
        net = EDMPrecond(**{"img_resolution": 8, "img_channels": 1, **NETWORK, **sizes})
        save_network(net, tmp_path / name)
        with pytest.raises(ValueError, match=words):
            train(config(data, transfer=str(tmp_path / name)), tmp_path / "second", CPU)
    assert not (tmp_path / "second").exists()


AUGMENTED = {"augment": 0.5, "network": NETWORK | {"augment_dim": 9}}


@pytest.mark.parametrize("precond", ["EDMPrecond", "VPPrecond", "VEPrecond"])
def test_augmented_runs_resume_too(data: Path, tmp_path: Path, precond: str) -> None:
    settings = AUGMENTED | {"precond": precond, "xflip": True}
    last = train(config(data, **settings), tmp_path / "whole", CPU)
    train(config(data, duration=64, **settings), tmp_path / "parts", CPU)
    resumed = train(config(data, **settings), tmp_path / "parts", CPU)
    assert filecmp.cmp(last, resumed, shallow=False)
    assert type(load_network(resumed)).__name__ == precond
    assert load_network(resumed).init_kwargs["augment_dim"] == 9


def test_augmented_parts_are_one_batch(data: Path, tmp_path: Path) -> None:
    grads = []
    for batch_gpu in (None, 5):
        changes = {
            "augment": 0.5,
            "network": NETWORK | {"augment_dim": 9, "dropout": 0.0},
            "batch_gpu": batch_gpu,
        }
        c = config(data, **changes)
        state = start(c, ImageDataset(data), tmp_path / str(batch_gpu), CPU)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for param in state.net.parameters():
                param += 0.05 * torch.randn(param.shape, generator=generator)
        images = torch.randn(16, 1, 8, 8, generator=generator)
        training_step(c, state, state.net, EDMLoss(), (images, torch.eye(3)[torch.arange(16) % 3]))
        grads.append(
            torch.cat([p.grad.flatten() for p in state.net.parameters() if p.grad is not None])
        )
        assert state.net.model.map_augment.weight.grad.abs().sum() > 0
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-4 * float(grads[0].abs().max()))


def test_loss_scaling_is_undone(data: Path, tmp_path: Path) -> None:
    runs = [
        train(config(data, loss_scale=scale), tmp_path / str(scale), CPU) for scale in (1.0, 128.0)
    ]
    one, two = weights(runs[0]), weights(runs[1])
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_xflip_shows_each_image_both_ways(data: Path) -> None:
    c = config(data, xflip=True, batch=80)
    images, labels = next(rank_batches(c, ImageDataset(data), 0, CPU))
    originals = ImageDataset(data).to_tensor()[0].float() / 127.5 - 1
    both = {tuple(x.flatten().tolist()) for x in [*originals, *originals.flip(3)]}
    assert {tuple(x.flatten().tolist()) for x in images} == both and len(labels) == 80


def test_augment_needs_a_network_that_is_told(data: Path) -> None:
    with pytest.raises(
        ValueError, match=r"augment is 0\.1, which needs a network with augment_dim=9"
    ):
        config(data, augment=0.1).check(1)


def test_a_run_from_before_a_setting_goes_on(data: Path, tmp_path: Path) -> None:
    train(config(data, duration=64), tmp_path, CPU)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["augment"], settings["loss_scale"], settings["crc32"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert train(config(data), tmp_path, CPU).exists()


def test_snapshots_are_shown_before_the_state_is_saved(data: Path, tmp_path: Path) -> None:
    seen = []

    def look(snapshot: Path, images: int) -> None:
        seen.append((images, snapshot.exists()))
        if images == 64 and len(seen) < 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(data), tmp_path, CPU, look)
    train(config(data), tmp_path, CPU, look)
    assert seen == [(32, True), (64, True), (64, True), (96, True)]


def test_transfer_from_a_pickle_with_other_labels(data: Path, tmp_path: Path) -> None:
    shape = {"img_resolution": 8, "img_channels": 1, "label_dim": 5} | NETWORK
    source = EDMPrecond(**shape)
    source.load_state_dict(
        {name: torch.randn_like(value) for name, value in source.state_dict().items()}
    )
    (tmp_path / "edm.pkl").write_bytes(edm_snapshot("EDMPrecond", shape, source.state_dict()))
    settings = config(
        data, transfer=str(tmp_path / "edm.pkl"), augment=0.1, network=NETWORK | {"augment_dim": 9}
    )
    net = start(settings, ImageDataset(settings.data, use_labels=True), tmp_path / "run", CPU).net
    new = {"model.map_label.weight", "model.map_augment.weight"}
    for name, value in net.state_dict().items():
        assert name in new or torch.equal(value, source.state_dict()[name]), name
    assert net.state_dict()["model.map_label.weight"].shape == (64, 3)
    assert not net.state_dict()["model.map_augment.weight"].any()


def test_a_changed_setting_of_the_network_is_named_alone(data: Path, tmp_path: Path) -> None:
    train(config(data, duration=16), tmp_path / "run", CPU)
    with pytest.raises(ValueError, match=r"was trained with dropout=0\.1, now 0\.2; use another"):
        train(config(data, network=NETWORK | {"dropout": 0.2}), tmp_path / "run", CPU)
