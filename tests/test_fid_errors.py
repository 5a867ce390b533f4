"""What fid.py refuses, each in one line with exit status 2 and nothing left behind; and what it must not refuse."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import requests
import torch
from click.testing import CliRunner, Result
from PIL import Image

from dnnlib.util import cached_path
from fid import main
from generate import main as generate
from metrics.images import open_images

REFERENCE = Path(__file__).resolve().parents[1] / "assets/demo/reference.npz"
DEMO = f"--detector demo --ref {REFERENCE}"


def folder(path: Path, *shape: int, count: int = 12) -> Path:
    """Images of random pixels."""
    path.mkdir(parents=True)
    for i, pixels in enumerate(
        np.random.RandomState(0).randint(0, 256, [count, *shape], dtype=np.uint8)
    ):
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    good = folder(root / "good", 32, 32)
    folder(root / "nested" / "a", 32, 32)
    folder(root / "one", 32, 32, count=1)
    folder(root / "rgb", 32, 32, 3)
    folder(root / "large", 64, 64)
    (root / "empty").mkdir()
    (root / "equal").mkdir()
    for i in range(20):
        Image.fromarray(np.zeros([32, 32], np.uint8)).save(root / "equal" / f"{i}.png")
    for name, pixels in (
        ("sizes", np.zeros([16, 16])),
        ("colours", np.zeros([32, 32, 3])),
        ("alpha", np.zeros([32, 32, 4])),
    ):
        Image.fromarray(pixels.astype(np.uint8)).save(folder(root / name, 32, 32) / "07.png")
    broken = folder(root / "corrupt", 32, 32) / "07.png"
    broken.write_bytes(broken.read_bytes()[:90])
    with zipfile.ZipFile(root / "good.zip", "w") as archive:
        for path in sorted(good.iterdir()):
            archive.write(path, path.name)
    (root / "half.zip").write_bytes((root / "good.zip").read_bytes()[:3000])
    pixels = np.stack([np.array(Image.open(path)) for path in sorted(good.iterdir())])
    np.savez(root / "good.npz", arr_0=pixels[..., None])
    (root / "half.npz").write_bytes((root / "good.npz").read_bytes()[:3000])
    np.savez_compressed(root / "flipped.npz", arr_0=pixels[..., None])
    data = bytearray((root / "flipped.npz").read_bytes())
    data[2000:2100] = bytes(100)
    (root / "flipped.npz").write_bytes(data)
    (root / "text.npz").write_text("no archive")
    np.savez(root / "objects.npz", arr_0=np.array([{}], dtype=object))
    np.savez(root / "floats.npz", arr_0=pixels[..., None] / 255)
    with open(root / "array.npz", "wb") as file:
        np.save(file, pixels)
    np.save(root / "objects.npy", np.array([{}], dtype=object))
    np.save(root / "floats.npy", pixels[..., None] / 255)
    np.save(root / "good.npy", pixels[..., None])
    (root / "cut.npy").write_bytes((root / "good.npy").read_bytes()[:-1])
    np.savez(root / "feats.npz", feats=np.random.RandomState(0).randn(200, 128))
    np.savez(root / "feats3.npz", feats=np.random.RandomState(0).randn(200, 3))
    np.savez(root / "no-feats.npz", feats=np.array([{}]))
    torch.save({"mu": np.zeros(3), "sigma": print}, root / "hostile.pt")
    published = dict(np.load(REFERENCE))
    torch.save({"mu": published["mu"], "sigma": published["sigma"]}, root / "fidelity.pt")
    np.savez(root / "unnamed.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(root / "small.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(root / "other.npz", **published | {"detector": np.array("inception-2015-12-05")})
    np.savez(root / "retrained.npz", **published | {"detector_hash": np.array("0" * 64)})
    np.savez(root / "lopsided.npz", **published | {"sigma": np.triu(published["sigma"])})
    np.savez(root / "negative.npz", **published | {"sigma": -published["sigma"]})
    np.savez(root / "nan.npz", **published | {"mu": published["mu"] * np.nan})
    np.savez(root / "of-rgb.npz", **published | {"channels": np.array(3)})
    (root / "kept").mkdir()
    (root / "kept" / "settings.json").write_text("{")
    return root


@pytest.fixture(autouse=True)
def _at_the_inputs(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(inputs)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*args: Any, **settings: Any) -> NoReturn:
        raise requests.ConnectionError("Network is unreachable")

    monkeypatch.setattr("requests.get", get)
    monkeypatch.setattr("dnnlib.download.RETRY_SECONDS", 0)


def run(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def refused(command: str, early: bool = False) -> str:
    """The one line on stderr; `early`: before an image went through the detector."""
    before = set(Path().rglob("*"))
    done = run(command)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line]
    assert not (early and any(line.startswith("features:") for line in lines)), done.stderr
    (line,) = (line for line in lines if not line.startswith("features:"))
    assert line.startswith("Error: ")
    assert set(Path().rglob("*")) == before, "something was left behind"
    return line


def value(command: str) -> float:
    done = run(command)
    assert done.exit_code == 0, done.output
    return float(json.loads(done.stdout)["metrics"]["fid-demo-fashion-mnist"])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("one", "one holds 1 images, but 12 are expected: make more, or ask for fewer"),
        ("empty", "empty holds no images"),
        (
            "sizes",
            r"sizes/07.png is \(1, 16, 16\), the first image is \(1, 32, 32\).*dataset_tool.py",
        ),
        ("colours", r"colours/07.png is \(3, 32, 32\), the first image is \(1, 32, 32\)"),
        ("alpha", "alpha/07.png is transparent in places; lay it over a background first"),
        ("corrupt", "corrupt/07.png is not an image, or is corrupt: image file is truncated"),
        ("rgb", "the generated images are RGB, those of --ref grayscale; convert one set"),
        ("large", "reads images of 32x32 pixels, not 64x64"),
        ("half.zip", "half.zip is not a zip file, or is damaged"),
        ("half.npz", "half.npz is damaged"),
        ("flipped.npz", "flipped.npz is damaged"),
        (
            "text.npz",
            "text.npz is not an npz file of plain arrays, or is damaged: it is no zip archive",
        ),
        (
            "array.npz",
            "array.npz is not an npz file of plain arrays, or is damaged: it is no zip archive",
        ),
        (
            "objects.npz",
            "objects.npz is not an npz file of plain arrays, or is damaged: its array arr_0 holds Python objects",
        ),
        ("floats.npz", r"floats.npz: arr_0 is float64 \[12, 32, 32, 1\]; images are uint8"),
        (
            "small.npz",
            "small.npz holds mu, sigma, but no array arr_0 of images; these are statistics",
        ),
        ("objects.npy", "objects.npy is not an npy file of a plain array.* holds Python objects"),
        ("floats.npy", r"floats.npy: the array is float64 \[12, 32, 32, 1\]; images are uint8"),
        ("cut.npy", "cut.npy is not an npy file of a plain array, or is damaged: its array claims"),
        ("none.npy", "none.npy: no such file"),
        ("none", "none does not exist"),
        ("/dev/null", "/dev/null is no file and no folder"),
        ("none.npz", "none.npz: no such file"),
        ("good/00.png", "good/00.png is not a zip file"),
    ],
)
def test_images_that_cannot_be_measured(images: str, said: str, tmp_path: Path) -> None:
    assert re.search(said, refused(f"calc --images {images} --num 12 {DEMO}"))
    assert not list((tmp_path / "cache").rglob("settings.json")), (
        "a pass that kept nothing has left a folder"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--detector demo --ref small.npz",
            "reference does not fit the detector: statistics of dimension 128 and 3",
        ),
        (
            "--detector demo --ref other.npz",
            "statistics of detector demo-fashion-mnist and inception-2015-12-05",
        ),
        ("--detector demo --ref retrained.npz", "statistics of detector hash .* and 0000"),
        ("--detector demo --ref text.npz", "text.npz is not an npz file of plain arrays"),
        (
            "--detector demo --ref good.npz",
            "--ref=good.npz holds images, .*: give it as --ref-images, or",
        ),
        ("--detector demo --ref none.npz", "none.npz: no such file"),
        (
            "--detector demo --ref feats.npz",
            "feats.npz holds the features of .*place of the images",
        ),
        ("--detector demo --ref hostile.pt", "hostile.pt: .*refuses __builtin__.print"),
        ("--detector demo --ref-images hostile.pt", "hostile.pt: .*wants to run "),
        ("--detector demo --ref-images feats3.npz", "3 features an image, and .* has 128"),
        (
            "--detector demo --ref-images no-feats.npz",
            "no-feats.npz is not an npz file.* holds Python objects",
        ),
        ("--detector demo --ref lopsided.npz", "the reference's covariance is not symmetric"),
        ("--detector demo --ref negative.npz", "the reference's covariance has the eigenvalue -"),
        ("--detector demo --ref nan.npz", "nan.npz: the statistics hold NaN or infinity"),
        (
            "--detector demo --ref of-rgb.npz",
            "the generated images are grayscale, those of --ref RGB; convert one set",
        ),
        (
            "--detector demo",
            "fid needs the real images' statistics: give --ref, or the images as --ref-images",
        ),
        (
            "--detector demo --ref-images rgb",
            "generated images are grayscale, those of --ref-images RGB",
        ),
        ("--detector demo --ref-images large", "32x32 pixels, not 64x64"),
        (
            "--detector demo --metrics is,fid_inf",
            "fid_inf needs the real images' statistics: give --ref, or the images as --ref-images",
        ),
        (
            f"{DEMO} --metrics kid",
            "kid compares images with images: give the real ones as --ref-images",
        ),
        (
            f"{DEMO} --metrics fid,nope",
            "unknown metric 'nope'; choose from fid, fid_inf, is, kid, pr, dc, immd",
        ),
        (f"--detector gone.pth --ref {REFERENCE}", "no such file: gone.pth"),
        (
            f"--detector nope --ref {REFERENCE}",
            "no detector is called 'nope'; choose from inception-2015-12-05, ",
        ),
        (f"{DEMO} --detector-dtype float64", "the demo detector runs in float32, not float64"),
        (f"--detector text.npz --ref {REFERENCE}", "text.npz: neither a whole state dict"),
        (
            f"{DEMO} --features text.npz",
            r"cannot write to text.npz \(File exists\); choose another folder",
        ),
        (
            f"{DEMO} --features good",
            "good holds other files than features; choose an empty or a new folder",
        ),
        (
            f"{DEMO} --features kept",
            "kept/settings.json is damaged .*; remove kept, or choose another folder",
        ),
        (f"{DEMO} --device cuda:99", "device cuda:99 asked for, but this machine has"),
    ],
)
@pytest.mark.parametrize("command", ["calc --images good --num 12", "gen --seeds 0-11 --steps 2"])
def test_flags_are_refused_before_the_work(command: str, flags: str, said: str) -> None:
    assert re.search(said, refused(f"{command} {flags}", early="large" not in flags))


def test_references_of_other_tools_and_arrays_give_the_same_values() -> None:
    published = value(f"calc --images good --num 12 {DEMO}")
    fidelity = "--detector demo --ref fidelity.pt"
    assert value(f"calc --images good.npy --num 12 {fidelity}") == pytest.approx(published)
    done = run(
        "calc --images good.npy --num 12 --detector demo --ref-images feats.npz --metrics pr,fid"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["protocol"]["reference_images_num"] == 200
    assert {"precision-demo-fashion-mnist", "fid-demo-fashion-mnist"} <= found["metrics"].keys()


def test_metrics_are_checked_before_a_detector_is_fetched(offline: None) -> None:
    assert "unknown metric" in refused(
        f"calc --images good --num 12 --ref {REFERENCE} --metrics nope"
    )


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("--seeds 0-9 --seeds 5-14", "--seeds=5-14 shares 5-9 with another range"),
        ("--seeds 0-9 --seeds 0-9", "--seeds=0-9 shares 0-9 with another range"),
        ("--seeds 5", "--seeds=5 is 1 image; statistics need at least 2"),
        ("--seeds 0-9 --seeds 20", "--seeds=20 is 1 image"),
        ("--seeds 5-1", "seeds '5-1' are none: 5 is above 1"),
        ("--seeds a", "seeds 'a' are not a list such as"),
        ("--seeds 0-9 --network gone.pkl", "no such file: gone.pkl"),
    ],
)
def test_seeds(seeds: str, said: str) -> None:
    assert said in refused(f"gen {DEMO} --steps 2 {seeds}", early=True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--data good --dest good",
            "--dest=good is a folder; name a file, such as good/reference.npz",
        ),
        (
            "--data good --dest text.npz/new/x.npz",
            r"--dest=text.npz/new/x.npz: cannot write to .*text.npz \(Not a dir",
        ),
        ("--data one --dest new/x.npz", "one holds 1 image; statistics need at least 2"),
        ("--data empty --dest x.npz", "empty holds no images"),
        (
            "--data good --dest small.npz",
            "--dest=small.npz is there already; name another file, or .* --overwrite",
        ),
        (
            "--data good --dest x.pkl",
            "--dest=x.pkl: what is written there is .npz; name a file that ends so, as x.npz",
        ),
    ],
)
def test_a_reference_that_cannot_be_made(flags: str, said: str) -> None:
    assert re.search(said, refused(f"ref --detector demo {flags}", early=True))


def test_a_corrupt_image_leaves_no_reference(tmp_path: Path) -> None:
    assert "corrupt/07.png" in refused(
        f"ref --detector demo --data corrupt --dest {tmp_path}/new/x.npz"
    )
    assert not (tmp_path / "new").exists()
    done = run(f"ref --detector demo --data good --dest {tmp_path}/new/x.npz")
    assert done.exit_code == 0 and (tmp_path / "new" / "x.npz").is_file(), (
        "missing folders are made"
    )


def test_a_reference_is_replaced_when_that_is_asked_for(tmp_path: Path) -> None:
    asked = f"ref --detector demo --data good --dest {tmp_path}/x.npz"
    first = run(asked)
    assert first.exit_code == 0 and first.stderr.splitlines()[-1].endswith(
        "x.npz: 12 images, 128 features"
    )
    assert run(asked).exit_code == 2
    assert run(f"{asked} --overwrite").exit_code == 0


def test_gen_and_calc_take_the_detector_of_the_reference(tmp_path: Path) -> None:
    assert run(f"ref --detector demo --data good --dest {tmp_path}/x.npz").exit_code == 0
    with np.load(tmp_path / "x.npz") as made:
        assert made["detector_source"] == "demo"
        held = dict(made)
    for command in ("calc --images good --num 12", "gen --seeds 0-11 --steps 2"):
        done = run(f"{command} --ref {tmp_path}/x.npz")
        assert done.exit_code == 0, done.output
        assert "Detector: demo, which --ref was made with" in done.stderr
        assert json.loads(done.stdout)["detector"]["name"] == "demo-fashion-mnist"
    np.savez(
        tmp_path / "elsewhere.npz", **held | {"detector_source": np.array("https://host/evil.pt")}
    )
    said = refused(f"calc --images good --num 12 --ref {tmp_path}/elsewhere.npz", early=True)
    assert (
        "made with the detector 'https://host/evil.pt'" in said
        and "name it as the detector yourself" in said
    )


def test_an_adm_reference_batch_gives_its_own_mean_and_covariance(tmp_path: Path) -> None:
    """500 images and the statistics of many more: FID by ADM's evaluator takes the statistics."""
    with np.load(REFERENCE) as published, np.load("good.npz") as images:
        own = {
            "mu": published["mu"],
            "sigma": published["sigma"],
            "mu_s": np.zeros(4),
            "sigma_s": np.eye(4),
        }
        np.savez(tmp_path / "virtual.npz", arr_0=images["arr_0"], **own)
        np.savez(tmp_path / "other.npz", arr_0=images["arr_0"], mu=np.zeros(3), sigma=np.eye(3))
    flags = f"calc --images nested --num 12 --detector demo --metrics fid,kid --ref-images {tmp_path}/virtual.npz"
    done = run(flags)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["metrics"]["fid-demo-fashion-mnist"] == value(
        f"calc --images good --num 12 {DEMO}"
    )
    assert found["protocol"]["reference"].endswith("virtual.npz")
    assert "mu and sigma in the file of images" in found["protocol"]["reference_statistics"]
    assert found["protocol"]["reference_images_num"] == 12

    done = run(flags.replace("virtual", "other"))
    found = json.loads(done.stdout)
    assert found["metrics"]["fid-demo-fashion-mnist"] == pytest.approx(0, abs=0.01), (
        "the images' own statistics"
    )
    assert (
        "another detector's" in found["protocol"]["reference_statistics"]
        and "reference" not in found["protocol"]
    )

    made = run(f"ref --detector demo --data {tmp_path}/virtual.npz --dest {tmp_path}/own.npz")
    assert "Warning: mu and sigma in --data are not these" in made.stderr


def test_a_metric_that_refuses_leaves_the_others_and_a_status() -> None:
    done = run(f"calc --images equal --num 20 {DEMO} --ref-images equal --metrics fid,pr,immd")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert (
        "fid-demo-fashion-mnist" in found["metrics"]
        and "immd_sigma10-demo-fashion-mnist" in found["metrics"]
    )
    assert list(found["refused"]) == ["immd"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: no value of immd: the median distance is 0")
    done = run(f"calc --images equal --num 20 {DEMO} --metrics fid,fid_inf")
    assert done.exit_code == 2 and list(json.loads(done.stdout)["refused"]) == ["fid_inf"]
    last = done.stderr.splitlines()[-1]
    assert "fid_inf needs ten images for each of the 128 features, 1,280 or more; 20 given" in last
    done = run(f"gen --seeds 0-4 --seeds 5-14 --steps 2 {DEMO} --metrics fid,is")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert [set(one.get("refused", {})) for one in found["runs"]] == [{"is"}, set()]
    assert "fid-demo-fashion-mnist" in found["spread"]


def test_the_last_line_says_the_values() -> None:
    done = run(f"calc --images good --num 12 {DEMO} --metrics fid,is")
    found = json.loads(done.stdout)["metrics"]
    fid, error = (
        float(x) for x in re.findall(r"[\d.]+", done.stderr.splitlines()[-1].partition(",")[0])
    )
    assert re.fullmatch(
        r"demo FID [\d.]+ ± [\d.]+, demo IS [\d.]+ ± [\d.]+", done.stderr.splitlines()[-1]
    )
    assert fid == pytest.approx(found["fid-demo-fashion-mnist"], abs=error)
    two = run(f"gen --seeds 0-4 --seeds 5-14 --steps 2 {DEMO}")
    spread = json.loads(two.stdout)["spread"]["fid-demo-fashion-mnist"]
    mean, std = (float(x) for x in re.findall(r"[\d.]+", two.stderr.splitlines()[-1]))
    assert mean == pytest.approx(spread["mean"], abs=std) and std == pytest.approx(
        spread["std"], rel=0.5
    )


def test_offline(offline: None) -> None:
    url = "https://example.org/fid-refs/x.npz"
    said = refused(f"calc --images good --num 12 --detector demo --ref {url}", early=True)
    assert (
        f"cannot download {url} (Network is unreachable)" in said
        and f"save it as {cached_path(url)}" in said
    )
    said = refused(
        "calc --images good --num 12 --detector inception-2015-12-05 --ref unnamed.npz", early=True
    )
    assert "inception-2015-12-05" in said and "get the file in another way and save it as" in said


def test_folder_zip_and_npz_are_the_same_images() -> None:
    kinds = ("good", "good.zip", "good.npz", "nested")
    assert len({value(f"calc --images {kind} --num 12 {DEMO}") for kind in kinds}) == 1
    assert len({value(f"calc --images {kind} --num 9 --seed 5 {DEMO}") for kind in kinds}) == 1, (
        "and the same subset"
    )


def test_the_subset_is_the_one_that_edm_chooses() -> None:
    """Its ImageFolderDataset shuffles the indices, keeps the first max_size and sorts them."""
    indices = np.arange(12)
    np.random.RandomState(5).shuffle(indices)
    chosen = np.sort(indices[:7])
    every = open_images("good").batch(range(12))
    assert torch.equal(open_images("good", 7, seed=5).batch(range(7)), every[chosen])
    assert torch.equal(open_images("good", 7, seed=5 + 2**31).batch(range(7)), every[chosen])


def test_the_contact_sheet_is_no_image(tmp_path: Path) -> None:
    for name, grid in (("plain", []), ("sheet", ["--grid", "4x2"])):
        done = CliRunner().invoke(
            generate, ["--outdir", f"{tmp_path}/{name}", "--seeds", "0-11", "--steps", "2", *grid]
        )
        assert done.exit_code == 0, done.output
    assert (tmp_path / "sheet" / "grid.png").is_file()
    with_sheet, without = (
        value(f"calc --images {tmp_path}/{name} --num 12 {DEMO}") for name in ("sheet", "plain")
    )
    assert with_sheet == without
    assert "holds 12 images, but 13" in refused(f"calc --images {tmp_path}/sheet --num 13 {DEMO}")
