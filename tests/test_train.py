"""train.py's flags: the published command lines give the published networks; pictures and FID on the way."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import train
from programs.train.work import training_config
from training.precond import EDMPrecond

GOLDEN = Path(__file__).parent / "golden"


def settings(line: str) -> dict[str, Any]:
    """What the run of these flags would be, without looking for its data."""
    context = train.main.make_context(
        "train.py", ["--outdir", "none", "--data", "d.zip", *shlex.split(line)]
    )
    return json.loads(json.dumps(asdict(training_config(train.TrainingFlags.of(context.params)))))


@pytest.mark.parametrize(
    "name", ["imagenet64_cond_adm", "afhqv2_64_uncond_vp", "afhqv2_64_uncond_ve"]
)
def test_published_command_lines_give_the_published_networks(name: str) -> None:
    facts = json.loads((GOLDEN / f"fullsize_edm_{name}.json").read_text())
    got = settings(facts["train_options"])
    published = {k: v for k, v in facts["network_kwargs"].items() if k != "class_name"}
    assert facts["network_kwargs"]["class_name"].endswith(got["precond"])
    shape = {key: published.pop(key) for key in ("img_resolution", "img_channels", "label_dim")}
    assert got["network"] == published
    small = {key: value for key, value in got["network"].items() if key != "model_channels"}
    EDMPrecond(**shape, **small, model_channels=32)  # the keywords are those of the class
    assert got["cond"] == bool(shape["label_dim"])
    if name == "imagenet64_cond_adm":
        assert (got["duration"], got["batch"], got["lr"], got["ema_halflife"]) == (
            2_500_000_000,
            4096,
            1e-4,
            50_000_000,
        )
        assert (got["dtype"], got["loss_scale"], got["tick"], got["snap"]) == (
            "float16",
            100,
            200_000,
            10_000_000,
        )
        assert got["augment"] == 0
    else:
        assert (got["batch"], got["lr"], got["augment"], got["dtype"]) == (
            256,
            2e-4,
            0.15,
            "float32",
        )
    assert got["ema_rampup"] == 0.05
    # What EDM's help states as defaults
    defaults = settings("")
    assert (defaults["batch"], defaults["lr"], defaults["augment"]) == (512, 1e-3, 0.12)
    assert (defaults["tick"], defaults["snap"], defaults["duration"]) == (
        50_000,
        2_500_000,
        200_000_000,
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("name", ["--duration", "--lr-rampup", "--ema", "--dropout"])
def test_numbers_are_finite(name: str, value: str) -> None:
    result = CliRunner().invoke(
        train.main, ["--outdir", "o", "--data", "d", name, value, "--dry-run"]
    )
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith(
        f"Error: Invalid value for '{name}'"
    )


def test_contradicting_flags() -> None:
    result = CliRunner().invoke(
        train.main,
        ["--outdir", "o", "--data", "d", "--fp16", "1", "--dtype", "bfloat16", "--dry-run"],
    )
    assert result.exit_code == 2
    assert result.output.strip().startswith("Error: --fp16 and --dtype=bfloat16")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, image in enumerate(
        np.random.RandomState(0).randint(0, 256, [16, 32, 32], dtype=np.uint8)
    ):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


LINE = "--arch ddpmpp --cbase 16 --cres 1 --num-blocks 1 --attn 0 --batch 16 --lr 1e-9 --duration 0.000016"


def test_picture_and_fid_of_a_snapshot(data: Path, tmp_path: Path) -> None:
    flags = [*shlex.split(LINE), "--grid", "2x1", "--fid-num", "4"]
    result = CliRunner().invoke(
        train.main, ["--outdir", str(tmp_path / "run"), "--data", str(data), *flags]
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "run" / "images-000000.png") as picture:
        assert picture.size == (2 * 320 + 6, 320 + 4)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["images"] == 16 and line["fid-demo-fashion-mnist"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid", "8by8"], "--grid=8by8 is not COLSxROWS"),
        (["--grid", "99999x99999"], "--grid=99999x99999 is no sheet of 1 to 10,000 images"),
        (["--grid", "9" * 5000 + "x1"], "is not COLSxROWS"),
        (["--num-blocks", "10000000"], "more than 5,000 tensors of weights"),
        (["--batch", "10000000"], "batch is 10,000,000 images; it must be at most 1,000,000"),
        (["--batch", "32", "--duration", "0.000016"], "no more than the duration, 16 images"),
        (["--lr", "1e-320"], "lr is 9.99989e-321; float32 can compute"),
        (["--ls", "1e300"], "loss_scale is 1e+300; float32 can compute"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--fid-num", "10", "--fid-ref", "nothing.npz"], "nothing.npz"),
        (["--fid-num", "10", "--fid-detector", "nobody"], "nobody"),
    ],
)
def test_a_monitor_that_cannot_work_is_refused_before_training(
    data: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    line = ["--outdir", str(tmp_path / "run"), "--data", str(data), *shlex.split(LINE), *flags]
    result = CliRunner().invoke(train.main, line)
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--duration inf", "inf is no finite number"),
        ("--ema nan", "nan is no finite number"),
        ("--lr-rampup inf", "inf is no finite number"),
        ("--cres 1,,2", "'1,,2' is not a list"),
        ("--cres 0,1", "'0,1' has a number below 1"),
        ("--attn -8", "'-8' has a number below 0"),
    ],
)
def test_numbers_that_are_none(flags: str, message: str) -> None:
    result = CliRunner().invoke(
        train.main, ["--outdir", "o", "--data", "d", "--dry-run", *shlex.split(flags)]
    )
    assert result.exit_code == 2 and message in result.output


def dry_run(data: Path, outdir: Path, *flags: str) -> Result:
    line = [
        "--outdir",
        str(outdir),
        "--data",
        str(data),
        *shlex.split(LINE),
        "--grid",
        "none",
        "--dry-run",
        *flags,
    ]
    return CliRunner().invoke(train.main, line)


def test_a_dry_run_prints_the_settings_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    result = dry_run(data, tmp_path / "new" / "run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["batch"] == 16
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data nowhere.zip", "nowhere.zip"),
        ("--cond 1", "label"),
        ("--fid-num 4 --ref nothing.npz", "nothing.npz"),
        ("--fid-num 4 --detector nobody", "nobody"),
        ("--ref nothing.npz", "--ref=nothing.npz does nothing without --fid-num"),
        ("--detector nobody", "--detector=nobody does nothing without --fid-num"),
        ("--fid-num 4 --ref assets/demo/images.zip", "holds images, not their statistics: make"),
        ("--device cpu:7", "cpu:7"),
        ("--transfer demo", "cannot begin with the weights of demo"),
        ("--outdir /proc/nowhere", "/proc/nowhere"),
        ("--lr 0.5", "was trained with lr=1e-09, now 0.5; use another --outdir"),
        ("--batch 3 --batch-gpu 0", "--batch-gpu"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    data: Path, tmp_path: Path, flags: str, message: str
) -> None:
    if "--lr" in flags:
        line = [
            "--outdir",
            str(tmp_path / "run"),
            "--data",
            str(data),
            *shlex.split(LINE),
            "--grid",
            "none",
        ]
        assert CliRunner().invoke(train.main, line).exit_code == 0
    result = dry_run(data, tmp_path / "run", *shlex.split(flags))
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr.splitlines()[-1]


def test_a_dry_run_reads_the_pictures(data: Path, tmp_path: Path) -> None:
    picture = data / "03.png"
    picture.write_bytes(picture.read_bytes()[:-30])
    result = dry_run(data, tmp_path / "run")
    assert result.exit_code == 2 and "03.png" in result.stderr.splitlines()[-1]


def test_attention_among_few_channels_is_none_and_said(data: Path, tmp_path: Path) -> None:
    adm = ["--arch", "adm", "--cres", "2,4", "--attn", "32,16"]
    told = dry_run(data, tmp_path / "run", *adm).stderr
    assert (
        "Warning: there is no attention at 32x32: 32 channels are fewer than the 64 of a head"
        in told
    )
    assert "16x16" not in told
    assert (
        "attention"
        not in dry_run(data, tmp_path / "run", "--cres", "2,4", "--attn", "32,16").stderr
    )
    absent = dry_run(data, tmp_path / "run", "--cres", "2,4", "--attn", "32,7").stderr
    assert (
        "no attention at 7x7, which --attn names: the network's levels are 32x32, 16x16" in absent
    )


def test_averages_of_transferred_weights_begin_at_full_length() -> None:
    assert settings("--transfer demo")["ema_rampup"] == 0


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("imagenet", "imagenet64_cond_adm"),
        ("afhqv2-vp", "afhqv2_64_uncond_vp"),
        ("afhqv2-ve", "afhqv2_64_uncond_ve"),
    ],
)
def test_the_documented_command_lines_are_the_published_ones(run: str, name: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text().replace("\\\n", " ")
    [line] = [
        line.partition(" train.py ")[2] for line in text.splitlines() if f"runs/{run} " in line
    ]
    published = json.loads((GOLDEN / f"fullsize_edm_{name}.json").read_text())["train_options"]
    assert settings(line) | {"data": "d.zip"} == settings(published)
