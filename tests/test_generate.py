"""generate.py as its users run it."""

import itertools
import os
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from click.testing import CliRunner, Result
from slow_folder import SlowFolder
from tiny_network import saved, tiny_network

import dnnlib.seed_images
import generate
from dnnlib.json_files import read_json_object
from dnnlib.pictures import decode_png, encode_png
from dnnlib.seed_images import SeedImages
from skip.flags import SamplingFlags, SkipFlags
from skip.options import image_source
from skip.source import LoadedSource
from training.checkpoint import save_network
from training.dataset import ImageDataset

PROGRAM = str(Path(generate.__file__).resolve())
TORCHRUN = ["-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    saved(folder, "tiny")
    saved(folder, "plain", label_dim=0, channels=3)
    saved(folder, "four", channels=4)
    net = tiny_network()
    net.model.map_layer0.weight.data[0, 0] = float("nan")
    save_network(net, folder / "nan.safetensors")
    net = tiny_network()
    net.model.map_layer0.weight.data *= 1e38
    save_network(net, folder / "overflow.safetensors")
    whole = (folder / "tiny.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "picture.safetensors").write_bytes(b"\x89PNG\r\n")
    return folder


def arguments(networks: Path, outdir: Path | str, args: str, network: str = "tiny") -> list[str]:
    return [f"--network={networks / network}.safetensors", f"--outdir={outdir}", *args.split()]


def run(networks: Path, outdir: Path | str, args: str, network: str = "tiny") -> Result:
    return CliRunner().invoke(generate.main, arguments(networks, outdir, args, network))


def made(networks: Path, outdir: Path, args: str, network: str = "tiny") -> Path:
    result = run(networks, outdir, args, network)
    assert result.exit_code == 0, result.stderr
    return outdir


def pixels(outdir: Path) -> dict[str, np.ndarray]:
    names = sorted(path for path in outdir.rglob("*.png"))
    return {
        str(path.relative_to(outdir)): decode_png(path.read_bytes()).astype(int) for path in names
    }


def record(outdir: Path) -> dict[str, Any]:
    return read_json_object(outdir / "run.json")


def assert_same_files(first: Path, second: Path) -> None:
    """Byte for byte; of run.json all but the sessions."""
    names = [
        sorted(str(p.relative_to(d)) for p in d.rglob("*") if p.is_file()) for d in (first, second)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        if name != "run.json":
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert record(first) | {"sessions": []} == record(second) | {"sessions": []}


def assert_same_images(first: Path, second: Path) -> None:
    """At least 99.9% of the values equal and none off by more than 1."""
    a, b = pixels(first), pixels(second)
    assert a.keys() == b.keys() and a
    difference = np.abs(np.concatenate([(a[name] - b[name]).ravel() for name in a]))
    assert difference.max() <= 1 and (difference == 0).mean() >= 0.999


# ---- flags


def test_every_flag_of_edm_and_of_ours_is_there() -> None:
    asked = """--network --outdir --seeds --subdirs --class --batch --steps --sigma_min --sigma_max --rho --S_churn
        --S_min --S_max --S_noise --solver --disc --schedule --scaling --sampler --order --variant --predict --exact
        --thresholding --sigmas --ending --rho-bottom --rho-top --rho-spacing --rho-layers --rho-time --rho-sigma
        --skip-target --skip-method --guide-rho --guidance-sigma --labels --device --dtype --compile --grid --format
        --noise-device"""
    assert set(asked.split()) <= {
        name for parameter in generate.main.params for name in parameter.opts
    }


def test_help_fits_the_screen_and_its_examples_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    text = CliRunner().invoke(generate.main, ["--help"], terminal_width=130).output
    assert max(len(line) for line in text.splitlines()) <= 130
    examples = re.findall(r"generate\.py (--.*)", text.replace("\\\n", " "))
    assert len(examples) == 5
    for example in examples:
        flags = generate.main.make_context("generate.py", shlex.split(example)).params
        found = image_source(SamplingFlags.of(flags), SkipFlags.of(flags))
        assert found.sampler.nfe(tiny_network()) in (9, 19, 63)


# ---- what is made


def test_the_demo_network_draws_in_one_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        generate.main, f"--outdir {tmp_path}/out --seeds 0-3 --steps 2 --grid 2x2 --zoom 3".split()
    )
    assert (
        result.exit_code == 0 and result.stdout == f"{tmp_path}/out\n" and "img/s" in result.stderr
    )
    assert sorted(os.listdir(tmp_path / "out")) == [
        *(f"00000{i}.png" for i in range(4)),
        "grid.png",
        "run.json",
    ]
    images = pixels(tmp_path / "out")
    sheet = images.pop("grid.png")
    assert sheet.shape == (1, 3 * 64 + 6, 3 * 64 + 6)
    assert np.array_equal(sheet[:, 100:196:3, 2:98:3], images["000002.png"])


@pytest.mark.parametrize(
    "flags, said",
    [("--zoom 3", "--zoom=3 enlarges the contact sheet, and there is none; add --grid"),
     ("--grid 8x8 --seeds 0-63 --zoom 64", "each 64 times as large"),
     ("--grid 2x2 --zoom 0", "--zoom")],
)  # fmt: skip
def test_a_zoom_of_nothing_or_too_large_is_refused_first(
    tmp_path: Path, flags: str, said: str
) -> None:
    result = CliRunner().invoke(generate.main, f"--outdir {tmp_path}/out {flags}".split())
    assert result.exit_code == 2 and said in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_run_leaves_a_record(networks: Path, tmp_path: Path) -> None:
    outdir = made(
        networks, tmp_path, "--seeds 3,5-7 --steps 4 --rho-bottom 0.5 --class 2 --subdirs --batch 3"
    )
    found = record(outdir)
    settings, (session,) = found["settings"], found["sessions"]
    assert found["seeds"] == "3,5-7" and found["complete"]
    assert (
        settings["skip"]["rho"] == [0.5, 0.625, 0.75, 0.875]
        and settings["labels"] == 2
        and settings["subdirs"]
    )
    assert settings["sampler"]["nfe"] == 7 and settings["sampler"]["sigmas"][0] == 80
    assert session["network"]["path"] == str(networks / "tiny.safetensors")
    assert (
        session["network"]["sha256"] == settings["network_sha256"]
        and len(settings["network_sha256"]) == 64
    )
    assert (session["images"], session["ranks"], session["batch"], session["device"]) == (
        4,
        1,
        3,
        "cpu",
    )
    assert session["compile"] is False
    assert (
        session["torch"] == torch.__version__
        and session["seconds"] >= 0
        and session["started"].startswith("20")
    )
    assert sorted(pixels(outdir)) == [f"000000/00000{seed}.png" for seed in (3, 5, 6, 7)]


def test_an_image_depends_on_its_seed_alone(networks: Path, tmp_path: Path) -> None:
    args = "--steps 5 --S_churn 8 --S_noise 1.01 --rho-bottom 0.7 --labels random"
    whole = made(networks, tmp_path / "whole", f"--seeds 0-39 {args}")
    assert_same_images(whole, made(networks, tmp_path / "single", f"--seeds 0-39 --batch 1 {args}"))
    part = pixels(made(networks, tmp_path / "part", f"--seeds 30,7 {args}"))
    assert all(np.abs(image - pixels(whole)[name]).max() <= 1 for name, image in part.items())


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_archives_hold_the_images_in_order_with_their_classes(
    networks: Path, tmp_path: Path, kind: str
) -> None:
    single = pixels(made(networks, tmp_path / "png", "--seeds 0-5 --steps 3"))
    args = f"--seeds 0-5 --steps 3 --subdirs --grid 3x2 --format {kind}"
    outdir = made(networks, tmp_path / kind, args)
    assert sorted(os.listdir(outdir)) == ["grid.png", f"images.{kind}", "run.json"]
    archive = (outdir / f"images.{kind}").read_bytes()
    if kind == "zip":
        data = ImageDataset(outdir / "images.zip")
        images = np.stack([data[i][0].numpy() for i in range(6)])
        classes = [int(data[i][1].argmax()) for i in range(6)]
    else:
        with np.load(outdir / "images.npz") as arrays:
            images, classes = arrays["arr_0"].transpose(0, 3, 1, 2), arrays["arr_1"].tolist()
            assert arrays["seeds"].tolist() == list(range(6))
    assert np.array_equal(images, np.stack(list(single.values())))
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    for generator in generators:
        torch.randn([1, 8, 8], generator=generator)
    assert classes == [int(torch.randint(10, [], generator=generator)) for generator in generators]

    result = run(networks, outdir, args)  # again: nothing to do
    assert (
        result.stdout == f"{outdir}/images.{kind}\n"
        and (outdir / f"images.{kind}").read_bytes() == archive
    )
    (outdir / "grid.png").unlink()
    assert "for a contact sheet make its images again" in run(networks, outdir, args).stderr


def test_colour_images_without_classes(networks: Path, tmp_path: Path) -> None:
    outdir = made(networks, tmp_path, "--seeds 0-1 --steps 3 --format zip", network="plain")
    data = ImageDataset(outdir / "images.zip", use_labels=False)
    assert data.image_shape == (3, 8, 8) and record(outdir)["settings"]["labels"] is None


# ---- what is refused


@pytest.mark.parametrize(
    "args, network, message",
    [
        ("--steps=1", "tiny", "steps is 1, but a grid has 2 noise levels or more"),
        ("--class=0", "plain", "class 0 is asked for, but the network is unconditional"),
        ("--class=10", "tiny", "class 10 is asked for, but the network has classes 0 to 9"),
        ("--seeds=,", "tiny", "seeds ',' are not a list"),
        ("--seeds=3-1", "tiny", "seeds '3-1' are none"),
        ("--seeds=1,x", "tiny", "seeds '1,x' are not a list"),
        ("--grid=9x9", "tiny", "--grid=9x9 needs 81 images; there are 64 seeds"),
        ("--grid=8", "tiny", "--grid=8 is not COLSxROWS"),
        ("--steps=4", "truncated", "truncated"),
        (
            "--steps=4",
            "picture",
            "LDM's .ckpt, U-ViT's .pth, OpenAI's .pt); it looks like a PNG image",
        ),
        ("--steps=4", "nan", "its tensor model.map_layer0.weight holds NaN"),
        ("--steps=4", "four", "images of 4 channels cannot be PNGs"),
        ("--steps=4", "absent", "no such file"),
        ("--network=demoo", "tiny", "no network is called 'demoo'; choose from demo, "),
        ("--sampler=unipc --steps=2", "tiny", "unipc of order 3 needs at least 3 steps, got 2"),
        ("--sampler=euler --S_churn=1", "tiny", "the sampler euler has no such setting"),
        ("--sampler=euler_a --tau=1", "tiny", "the sampler euler_a has no such setting"),
        ("--sampler=sa_solver --steps=2", "tiny", "sa_solver of order 3 needs at least 3 steps"),
        ("--sampler=deis --solver=heun", "tiny", "--solver selects EDM's ablation sampler"),
        ("--device=tpu", "tiny", "unknown device 'tpu'"),
        ("--device=cuda:99", "tiny", "device cuda:99 asked for"),
        (
            "--steps=4 --rho=0.001 --rho-bottom=0.9",
            "tiny",
            "exponent 0.001 leaves no 4 different values from 80 to 0.002",
        ),
        ("--rho-layers=1,2", "tiny", "2 skip coefficients given; this network has 4 long skips"),
    ],
)
def test_bad_input_is_one_line_status_2_and_no_folder(
    networks: Path, tmp_path: Path, args: str, network: str, message: str
) -> None:
    result = run(networks, tmp_path / "out", args, network)
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr) and message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("outdir", ["/dev/null/x", PROGRAM])
def test_an_unwritable_outdir_is_one_line(networks: Path, outdir: str) -> None:
    result = run(networks, outdir, "--steps=2")
    assert result.exit_code == 2 and re.fullmatch(
        rf"Error: [^\n]*{re.escape(outdir)}[^\n]*\n", result.stderr
    )


def test_usage_errors_end_in_one_line(tmp_path: Path) -> None:
    for args in (
        "",
        "--outdir=a --steps=0",
        "--outdir=a --no-such-flag",
        "--outdir=a --S_churn=5 --S_noise=-1",
        "--outdir=a --sampler=euler_a --eta=-1",
        "--outdir=a --sampler=sa_solver --corrector-order=5",
    ):
        result = CliRunner().invoke(generate.main, args.replace("=a", f"={tmp_path}/a").split())
        assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("Error: ")
    assert os.listdir(tmp_path) == []


def test_other_settings_do_not_mix(networks: Path, tmp_path: Path) -> None:
    outdir = made(networks, tmp_path, "--seeds 0-1 --steps 3")
    before = {name: image.tolist() for name, image in pixels(outdir).items()}
    result = run(networks, outdir, "--seeds 0-3 --steps 3 --rho-bottom 0.5")
    assert (
        result.exit_code == 2
        and "made with skip.rho=None (now [0.5, 0.625, 0.75, 0.875])" in result.stderr
    )
    assert {name: image.tolist() for name, image in pixels(outdir).items()} == before
    made(networks, outdir, "--seeds 2-3 --steps 3 --rho-bottom 0.5 --overwrite")
    assert list(pixels(outdir)) == ["000002.png", "000003.png"]


def test_numbers_that_overflow_leave_no_image_and_no_claim(networks: Path, tmp_path: Path) -> None:
    result = run(networks, tmp_path, "--seeds 0-3 --steps 3", network="overflow")
    assert result.exit_code == 2 and re.search(
        r"^Error: the network returned NaN or infinity at.*$", result.stderr, re.M
    )
    assert os.listdir(tmp_path) == []
    assert record(made(networks, tmp_path, "--seeds 0 --steps 3"))["complete"]


# ---- what goes wrong on the way


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(networks, tmp_path / "whole", "--seeds 0-9 --steps 5")
    encoded = itertools.count()  # by several threads

    def until_full(image: np.ndarray) -> bytes:
        if next(encoded) >= 4:
            raise OSError(28, "No space left on device")
        return encode_png(image)

    with monkeypatch.context() as patch:
        patch.setattr(dnnlib.seed_images, "encode_png", until_full)
        result = run(networks, tmp_path / "part", "--seeds 0-9 --steps 5")
    message = rf"Error: {tmp_path}/part/00000\d\.png: the disk is full; make room, or .* place"
    assert result.exit_code == 2 and re.fullmatch(message, result.stderr.splitlines()[-1])
    assert len(pixels(tmp_path / "part")) == 4 and len(os.listdir(tmp_path / "part")) == 5
    assert_same_files(whole, made(networks, tmp_path / "part", "--seeds 0-9 --steps 5"))
    assert [session["images"] for session in record(tmp_path / "part")["sessions"]] == [6]


def test_a_killed_run_makes_what_is_missing_and_ends_with_the_same_files(
    networks: Path, tmp_path: Path
) -> None:
    args = "--seeds 0-39 --steps 6 --S_churn 2 --batch 8 --grid 4x4"
    whole, part = made(networks, tmp_path / "whole", args), tmp_path / "part"
    processes.run(
        PROGRAM, *arguments(networks, part, args), kill_at=("dnnlib.run_folder:RunFolder.save", 19)
    )
    early = {path: path.stat().st_mtime_ns for path in part.glob("0*.png")}
    assert 19 <= len(early) < 40
    next(iter(sorted(early))).unlink()  # and something from the middle of a batch
    (part / ".000039.png.0123abcd.tmp").write_bytes(b"half")

    made(networks, part, args)
    assert_same_files(whole, part)
    again = {path: path.stat().st_mtime_ns for path in sorted(early)[1:]}
    assert again == {path: early[path] for path in again}, "images that were there were made again"
    assert [session["images"] for session in record(part)["sessions"]] == [40 - len(again)]


@pytest.mark.parametrize(
    "flags", ["", "--format zip", "--format npz --subdirs", "--grid 2x2 --subdirs"]
)
def test_a_folder_that_is_deleted_during_the_run_is_one_line(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    outdir, encoded = tmp_path / "out", itertools.count(1)

    def deleted_at_the_third(image: np.ndarray) -> bytes:
        if next(encoded) == 3:
            outdir.rename(tmp_path / "gone")  # at once: other threads are writing in it
            outdir.mkdir()  # as by a user who wants to begin anew
        return encode_png(image)

    monkeypatch.setattr(dnnlib.seed_images, "encode_png", deleted_at_the_third)
    result = run(networks, outdir, f"--seeds 0-3 --steps 2 --batch 2 {flags}")
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert re.search(rf"^Error: [^\n]*{outdir}[^\n]*\n\Z", result.stderr, re.M)
    assert not (outdir / "run.json").exists() and not list(outdir.rglob("images.*"))


@pytest.mark.parametrize("flags", ["", "--grid 2x2", "--format npz", "--format zip"])
def test_a_damaged_image_of_an_earlier_run_is_made_again(
    networks: Path, tmp_path: Path, flags: str
) -> None:
    whole = made(networks, tmp_path / "whole", f"--seeds 0-3 --steps 2 {flags}")
    outdir = made(networks, tmp_path / "part", "--seeds 0-3 --steps 2")
    (outdir / "000001.png").write_bytes(b"")
    result = run(networks, outdir, f"--seeds 0-3 --steps 2 {flags}")
    assert (
        result.exit_code == 0
        and f"{outdir}/000001.png is no PNG, or is corrupt: it is made again\n" in result.stderr
    )
    assert_same_files(whole, outdir)


def test_a_hundred_million_images_begin_at_once(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is listed or counted seed by seed before the first image: 10 s at the least, and 800 MB."""
    images, listed = [], []

    def until_full(image: np.ndarray) -> bytes:
        images.append(image)
        if len(images) >= 3:
            raise OSError(28, "No space left on device")
        return encode_png(image)

    full = rf"{tmp_path}/000000/00000\d\.png"

    path = SeedImages.path
    monkeypatch.setattr(
        SeedImages,
        "path",
        lambda self, seed: listed.append(seed) or path(self, seed),
    )
    monkeypatch.setattr(dnnlib.seed_images, "encode_png", until_full)
    result = run(networks, tmp_path, "--seeds 0-99999999 --steps 2 --batch 2 --subdirs")
    assert result.exit_code == 2 and re.search(full, result.stderr.splitlines()[-1])
    assert record(tmp_path)["seeds"] == "0-99999999" and len(listed) < 100
    images.clear()
    # Going on, too.
    result = run(networks, tmp_path, "--seeds 0-99999999 --steps 2 --batch 2 --subdirs")
    assert result.exit_code == 2 and len(listed) < 200


def test_a_batch_with_a_gap_is_computed_whole(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that rounding, which depends on the size of a batch, is that of an uninterrupted run."""
    args = "--seeds 0-9 --steps 3 --batch 4"
    made(networks, tmp_path, args)
    (tmp_path / "000005.png").unlink()
    batches, seen = LoadedSource.batches, []

    def watched(source: LoadedSource, seeds: list[int], size: int) -> Any:
        seen.append((seeds, size))
        return batches(source, seeds, size)

    monkeypatch.setattr(LoadedSource, "batches", watched)
    made(networks, tmp_path, args)
    assert seen == [([4, 5, 6, 7], 4)]
    assert [session["images"] for session in record(tmp_path)["sessions"]] == [10, 1]


def test_the_process_ends_with_status_2(networks: Path, tmp_path: Path) -> None:
    result = processes.run(PROGRAM, *arguments(networks, tmp_path / "out", "--steps=1"))
    assert (result.returncode, result.stdout) == (2, "") and re.fullmatch(
        r"Error: [^\n]+\n", result.stderr
    )


def test_two_ranks_make_the_files_of_one_process(networks: Path, tmp_path: Path) -> None:
    args = "--seeds 0-12 --steps 5 --S_churn 8 --rho-bottom 0.8 --batch 4 --subdirs --grid 2x2"
    result = processes.run(PROGRAM, *arguments(networks, tmp_path / "two", args), ranks=2)
    assert result.returncode == 0 and result.stdout == f"{tmp_path}/two\n", result.stderr
    one = made(networks, tmp_path / "one", args)
    assert_same_images(one, tmp_path / "two")
    records = record(one), record(tmp_path / "two")
    assert records[0] | {"sessions": []} == records[1] | {"sessions": []} and records[1]["complete"]
    assert [(r["sessions"][0]["ranks"], r["sessions"][0]["images"]) for r in records] == [
        (1, 13),
        (2, 13),
    ]


def test_two_machines_make_the_files_of_one_process(networks: Path, tmp_path: Path) -> None:
    """Each with a launcher of its own, and a process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    args = "--seeds 0-4 --steps 2 --batch 2"
    machine = ["--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=static", "--master-addr=127.0.0.1",
               f"--master-port={port}"]  # fmt: skip
    result = processes.run(
        *TORCHRUN, *machine, PROGRAM, *arguments(networks, tmp_path / "two", args), ranks=2
    )
    assert result.returncode == 0, result.stderr
    assert_same_images(made(networks, tmp_path / "one", args), tmp_path / "two")
    (session,) = record(tmp_path / "two")["sessions"]
    assert (session["ranks"], session["images"]) == (2, 5)


def test_images_that_show_late_are_waited_for(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = "--seeds 0-3 --steps 3 --batch 2"
    outdir = made(networks, tmp_path, args)
    (outdir / "000000.png").unlink()
    slow, listed = SlowFolder(monkeypatch, known=range(1, 4)), SeedImages.stored
    monkeypatch.setattr(SeedImages, "stored", lambda self: set(slow.shown(listed(self))))
    assert record(made(networks, outdir, args))["complete"]


def test_an_error_on_one_rank_ends_the_others(networks: Path, tmp_path: Path) -> None:
    outdir = tmp_path / "out"
    outdir.mkdir()
    (outdir / "001000").write_text("in the way of rank 1")
    args = "--seeds 0,1000 --steps 3 --subdirs"
    result = processes.run(
        *TORCHRUN, "--standalone", "--nproc_per_node=2", PROGRAM, *arguments(networks, outdir, args)
    )
    assert (
        result.returncode != 0
        and f"Error: [Errno 17] File exists: '{outdir}/001000'\n" in result.stderr
    )
    assert result.stderr.count("Traceback") == 1  # torchrun's own
    # Rank 0 may be ended early.
    assert not record(outdir)["complete"] and set(pixels(outdir)) <= {"000000/000000.png"}
    (outdir / "001000").unlink()
    assert record(made(networks, outdir, args))["complete"]


@pytest.mark.parametrize(
    ("network", "shape"),
    [("demo-color", (3, 32, 32)), ("demo-ldm", (1, 32, 32)), ("demo-uvit", (1, 32, 32))],
)
def test_bundled_networks_in_colour_and_of_latents_draw_by_their_name(
    network: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    args = ["--network", network, "--outdir", str(tmp_path / "out"), "--seeds", "0", "--steps", "4"]
    result = CliRunner().invoke(generate.main, [*args, "--device", "cpu"])
    assert result.exit_code == 0, result.output

    (path,) = (tmp_path / "out").rglob("*.png")
    image = decode_png(path.read_bytes())
    assert image.shape == shape and image.std() > 20
