"""The search for rho: on curves whose minimum is known, and as people run it."""

import dataclasses
import filecmp
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import fill
from few_images import few_images

from dnnlib.claims import claim
from dnnlib.json_files import write_json
from metrics.feature_store import FeatureStore
from metrics.names import QUANTITIES
from metrics.statistics import Statistics
from sampling.settings import SamplerSettings
from skip.evidence.estimate import Estimate
from skip.scale import SkipScale
from skip.scale_file import load_scale, load_skips
from skip.search.plot import plot_search
from skip.search.run import Search, SearchSettings, baseline_cell
from skip.search.search import Measure, clearly_better, gain, search
from skip.source import ImageSource
from skip.tables.item import Cell
from skip.tables.results import Results, key
from skip.tables.spec import load_item
from tables import main
from training.checkpoint import save_network
from training.precond import EDMPrecond

REFERENCE = "assets/demo/reference.npz"
BEST = 0.77


class Curve:
    """5 + 4 (rho - best)^2 of every image, with noise: common to all rho, rising with rho, and each rho's own."""

    def __init__(
        self,
        seed: int,
        best: float = BEST,
        slope: float = 1.0,
        own: float = 0.05,
        sign: float = 1.0,
    ) -> None:
        self.seed, self.best, self.own, self.sign = seed, best, own, sign
        rng = np.random.default_rng(seed)
        self.common, self.slopes = rng.standard_normal((2, 4000)) * [[2.0], [slope]]
        self.calls: list[tuple[tuple[float, ...], int]] = []

    def __call__(self, rhos: Sequence[float], images: int) -> list[Estimate]:
        self.calls.append((tuple(rhos), images))
        found = []
        for rho in rhos:
            own = self.own * np.random.default_rng([self.seed, round(1e4 * rho)]).standard_normal(
                4000
            )
            values = 5 + self.common + self.slopes * rho + own + 4 * (rho - self.best) ** 2
            found.append(Estimate.of_mean(self.sign * values[:images]))
        return found


def cost(curve: Curve) -> int:
    """Images in all: of each rho the most that were asked for."""
    most: dict[float, int] = {}
    for rhos, images in curve.calls:
        most |= {rho: max(images, most.get(rho, 0)) for rho in rhos}
    return sum(most.values())


@pytest.mark.parametrize(
    "settings, at_most",
    [
        ({}, 1.35),
        ({"slope": 3.0}, 1.35),
        ({"best": 0.65, "slope": 2.0}, 1.35),
        ({"slope": 0.2, "own": 0.3}, 2.5),
    ],
)
def test_the_error_is_what_the_result_misses_by(settings: dict[str, float], at_most: float) -> None:
    """Over 100 searches 1 error covers about 68%, 2 cover 95%, there is no bias, and each keeps to its budget.

    Where the noise is each rho's own, some resamples have no valley: the error is then too large, not too small.
    """
    missed, errors = [], []
    for seed in range(100):
        curve = Curve(seed, **settings)
        best = search(curve, 0.6, 1.0, 7, 250, 4000)[-1].best
        assert cost(curve) <= 4000
        assert best.error is not None
        missed.append(best.rho - curve.best)
        errors.append(best.error)
    ratio = np.abs(missed) / errors
    # A rate over 100 is known to 0.047.
    assert 0.54 <= np.mean(ratio <= 1) <= (0.82 if at_most < 2 else 0.95)
    assert np.mean(ratio <= 2) >= 0.86
    spread = np.std(missed, ddof=1)
    assert np.mean(missed) == pytest.approx(0, abs=3 * spread / 10)
    assert 0.74 < np.sqrt(np.mean(np.square(errors))) / spread < at_most
    assert spread < 0.03


def test_common_noise_leaves_the_vertex_exact_and_far_points_go() -> None:
    curve = Curve(1, slope=0.0, own=0.0)
    rounds = search(curve, 0.6, 1.0, 9, 100, 2000)
    assert rounds[-1].best.rho == pytest.approx(BEST, abs=1e-9)
    assert rounds[-1].best.error == pytest.approx(0, abs=1e-9)
    assert rounds[0].rhos == pytest.approx([0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
    assert rounds[1].rhos == (0.7, 0.75, 0.8)
    # 900 + 3 * 100 + 3 * 200; 3 * 66 more are not worth it.
    assert [one.images for one in rounds] == [100, 200, 400]
    compared = gain(rounds)
    assert compared is not None and compared[0] == 100
    assert compared[1].value == pytest.approx(4 * (0.02**2 - 0.23**2))
    assert gain(rounds, rho=0.99) is None


@pytest.mark.parametrize("at, end", [(0.5, 0.6), (1.2, 1.0)])
def test_a_minimum_beyond_the_range_is_flagged(at: float, end: float) -> None:
    best = search(Curve(0, best=at), 0.6, 1.0, 5, 100, 1000)[-1].best
    assert (best.rho, best.at_edge) == (end, True)
    assert not search(Curve(0), 0.6, 1.0, 5, 100, 1000)[-1].best.at_edge


def test_more_is_better_is_the_mirror_image() -> None:
    falls = search(Curve(3), 0.6, 1.0, 7, 250, 4000)
    rises = search(Curve(3, sign=-1.0), 0.6, 1.0, 7, 250, 4000, maximise=True)
    assert [one.rhos for one in rises] == [one.rhos for one in falls]
    assert rises[-1].best.rho == pytest.approx(falls[-1].best.rho, abs=1e-12)
    assert rises[-1].best.error == pytest.approx(falls[-1].best.error or 0, rel=1e-9)
    assert rises[-1].best.value.value == pytest.approx(-falls[-1].best.value.value)


def test_it_stops_when_rho_is_known_well_enough() -> None:
    errors = [one.best.error or 0 for one in search(Curve(1, slope=3.0), 0.6, 1.0, 7, 250, 6000)]
    assert len(errors) == 4 and errors[1] < errors[0]
    stopped = search(Curve(1, slope=3.0), 0.6, 1.0, 7, 250, 6000, precision=errors[1])
    assert [one.best.error for one in stopped] == errors[:2]


def test_points_that_were_dropped_come_back() -> None:
    """The best moves from 0.6 to 0.9 as images are added: the points between are measured again."""

    def measure(rhos: Sequence[float], images: int) -> list[Estimate]:
        best = 0.6 if images == 100 else 0.9
        common = np.random.default_rng(0).standard_normal(images)
        return [Estimate.of_mean(common - common.mean() + (rho - best) ** 2) for rho in rhos]

    rounds = search(measure, 0.6, 1.0, 5, 100, 4500)
    expected = [(0.6, 0.7, 0.8, 0.9, 1.0), (0.6, 0.7, 0.8), (0.7, 0.8, 0.9), (0.8, 0.9, 1.0)]
    assert [one.rhos for one in rounds[:4]] == expected
    assert rounds[-1].best.rho == pytest.approx(0.9, abs=1e-9)


def test_another_order_in_time_must_be_clearly_better() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal(1000), 0.1 * rng.standard_normal((2, 1000))
    own -= own.mean(1, keepdims=True)
    error = float((own[0] - own[1]).std(ddof=1)) / 1000**0.5

    def pair(lower_by: float) -> list[Estimate]:
        return [Estimate.of_mean(common + own[0]), Estimate.of_mean(common + own[1] - lower_by)]

    assert clearly_better(pair(1.7 * error), maximise=False) == 0
    assert clearly_better(pair(2.3 * error), maximise=False) == 1
    assert clearly_better(pair(-2.3 * error), maximise=False) == 0
    assert clearly_better(pair(-2.3 * error), maximise=True) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"low": 1.0}, "the range is 1 to 1; need finite numbers low < high"),
        ({"high": float("inf")}, "the range is 0.6 to inf"),
        ({"low": 0.9999}, "0.9999 to 1, is too narrow for 7 points"),
        ({"points": 2}, "2 points say nothing"),
        ({"budget": 1749}, "7 points of 250 images are more than the budget of 1749"),
    ],
)
def test_what_cannot_be_searched(change: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {
        "low": 0.6,
        "high": 1.0,
        "points": 7,
        "images": 250,
        "budget": 1750,
    } | change
    with pytest.raises(ValueError, match=message):
        search(Curve(0), **asked)


def test_a_metric_without_blocks_is_refused() -> None:
    measure: Measure = lambda rhos, images: [Estimate.plain(rho, 0.1) for rho in rhos]  # noqa: E731
    with pytest.raises(ValueError, match="without blocks of seeds"):
        search(measure, 0.6, 1.0)


def test_a_cell_is_that_of_figure_4() -> None:
    source = ImageSource("demo", SamplerSettings("unipc", steps=9))
    cell = baseline_cell(source, "fid", "demo", REFERENCE, "assets/demo/images.zip")
    cell = dataclasses.replace(cell, scale=SkipScale(0.8), seeds="0-1999")
    assert key(Cell("images", cell, {})) in {key(one) for one in load_item("figure4", "demo").cells}


def test_what_a_cell_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a search cannot have class_idx = 3"):
        baseline_cell(ImageSource(class_idx=3), "fid", "demo", REFERENCE, None)
    with pytest.raises(ValueError, match="a search cannot have noise_device = cuda"):
        baseline_cell(ImageSource(noise_device="cuda"), "fid", "demo", REFERENCE, None)
    with pytest.raises(ValueError, match="pr compares images with images"):
        baseline_cell(ImageSource(), "precision", "demo", REFERENCE, None)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """32x32, as the demo's detector reads, and small."""
    net = EDMPrecond(
        img_resolution=32, img_channels=1, label_dim=10, model_type="SongUNet", model_channels=8, channel_mult=[1, 1],
        num_blocks=1, attn_resolutions=[],
    )  # fmt: skip
    fill(net)
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    save_network(net.eval().requires_grad_(False), path)
    return str(path)


Tune = Callable[..., list[str]]


@pytest.fixture(scope="module")
def command(network: str) -> Tune:
    def build(out: Path, *more: str) -> list[str]:
        flags = "--sampler euler --steps 2 --points 3 --num 24 --budget 150 --batch 8 --device cpu --detector demo"
        return [
            "tune",
            "--network",
            network,
            "--ref",
            REFERENCE,
            *flags.split(),
            "--out",
            str(out),
            *more,
        ]

    return build


def tables(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.fixture(scope="module")
def whole(command: Tune, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that nothing disturbed."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    assert tables(*command(folder)).exit_code == 0
    return folder


def files(folder: Path) -> list[Path]:
    return [folder / name for name in ("scale.json", "tune.json", "curve.png")]


def test_from_network_to_file(command: Tune, tmp_path: Path) -> None:
    ran = tables(*command(tmp_path, "--top", "0.5,1.5", "--time"))
    assert ran.exit_code == 0, ran.stderr
    summary, record = json.loads(ran.stdout), json.loads((tmp_path / "tune.json").read_text())
    scale = load_scale(tmp_path / "scale.json")
    expected = (summary["bottom"]["rho"], summary["top"]["rho"], summary["time"]["chosen"])
    assert (scale.bottom, scale.top, scale.time) == expected
    assert scale == dataclasses.replace(
        SkipScale(), bottom=scale.bottom, top=scale.top, time=scale.time
    )
    assert summary["scale"] == str(tmp_path / "scale.json")
    assert 0.6 <= scale.bottom <= 1 and 0.5 <= scale.top <= 1.5
    assert f"rho_bottom = {scale.bottom:.1f}"[:14] in ran.stderr
    rounds = record["bottom"]["rounds"]
    assert rounds[0]["images"] == 24 and [p["rho"] for p in rounds[0]["points"]] == [0.6, 0.8, 1.0]
    assert len(rounds) == 2 and rounds[1]["images"] == 48
    # Of the nearest to the vertex with itself.
    assert min(p["error_of_difference"] for p in rounds[1]["points"]) == 0
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"

    stored = [
        json.loads(path.read_text())["values"] for path in (tmp_path / "results").glob("*.json")
    ]
    exact = {
        value["value"]
        for values in stored
        for name, value in values.items()
        if name.startswith("fid-")
    }
    assert {point["value"] for one in rounds for point in one["points"]} <= exact

    # every image is made once, and what is said to have been made is what was made
    made = {}
    for folder in (tmp_path / "features").iterdir():
        store = FeatureStore(folder, json.loads((folder / "settings.json").read_text()))
        ids = [i for chunk in store.chunks() for i in np.load(chunk)["ids"].tolist()]
        assert sorted(ids) == list(range(len(ids)))
        made[folder.name] = len(ids)
    assert sum(made.values()) == summary["images"] <= 3 * 150
    assert summary["evaluations"] == 2 * summary["images"]

    again = tables(*command(tmp_path, "--top", "0.5,1.5", "--time"))
    assert json.loads(again.stdout) == summary
    assert "[1/" not in again.stderr  # nothing is measured again


def test_the_value_of_a_later_round_is_that_of_all_its_images_at_once(
    command: Tune, whole: Path, tmp_path: Path
) -> None:
    assert tables(*command(tmp_path, "--num", "48")).exit_code == 0
    later = json.loads((whole / "tune.json").read_text())["bottom"]["rounds"][1]
    once = json.loads((tmp_path / "tune.json").read_text())["bottom"]["rounds"][0]
    assert later["images"] == once["images"] == 48
    for one, other in zip(later["points"], once["points"], strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("metric, blocks", [("is", 10), ("density", 10), ("vendi", 24)])
def test_other_metrics_have_paired_errors(
    metric: str, blocks: int, command: Tune, tmp_path: Path
) -> None:
    ran = tables(
        *command(tmp_path, "--metric", metric, "--data", "assets/demo/images.zip", "--budget", "72")
    )
    assert ran.exit_code == 0, ran.stderr
    record = json.loads((tmp_path / "tune.json").read_text())
    values = [point["value"] for point in record["bottom"]["rounds"][-1]["points"]]
    assert max(values) > min(values)
    # A parabola through three points passes through the best.
    assert record["bottom"]["value"] >= max(values) - 1e-9
    (result, *_) = (tmp_path / "results").glob("*.json")
    name = next(
        name for name in json.loads(result.read_text())["values"] if name.startswith(metric)
    )
    assert len(json.loads(result.read_text())["values"][name]["blocks"]) == blocks


class Quarters:
    """A detector of four features, so that few images are enough for every metric."""

    name, sha256 = "quarters", "0" * 64
    feature_dim, num_logits, spatial_dim = 4, 4, 4

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).mean(1).flatten(1)
        return found, found / 9

    def with_spatial(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return *self(images), self(images)[0]


@pytest.fixture
def quarters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A reference of this detector, which every search now has."""
    for place in ("skip.search.run", "skip.tables.cells.generated"):
        monkeypatch.setattr(f"{place}.load_detector", lambda *_: Quarters())
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # no time for pictures
    plain = Statistics(np.full(4, 90.0), 900 * np.eye(4), 1000, channels=1)
    dataclasses.replace(plain, spatial=plain).save(tmp_path / "quarters.npz")
    return str(tmp_path / "quarters.npz")


JUDGES = [name for name, one in QUANTITIES.items() if one.judges]
SHARES = (
    "precision",
    "recall",
    "coverage",
)  # of so few images, which may be the same at all points


@pytest.mark.parametrize("metric", [name for name in JUDGES if name not in SHARES])
def test_every_metric_is_searched_to_the_end(
    metric: str, command: Tune, quarters: str, tmp_path: Path
) -> None:
    more = f"--metric {metric} --ref {quarters} --ref-images {few_images(tmp_path)}"
    ran = tables(*command(tmp_path, *more.split(), "--num=40", "--budget=120", "--batch=80"))
    assert ran.exit_code == 0, ran.stderr
    (only,) = json.loads((tmp_path / "tune.json").read_text())["bottom"]["rounds"]
    for point in only["points"]:
        assert point["error"] is not None and point["error_of_difference"] is not None


def test_points_that_are_all_the_same_have_no_best() -> None:
    """It would be known exactly."""
    same = Estimate(1.0, 0.0, (1.0,) * 10)
    with pytest.raises(
        ValueError, match="all 5 points have the value 1 with 100 images: the metric"
    ):
        search(lambda rhos, images: [same] * len(rhos), 0.6, 1.0, 5, 100, 1000)


def test_what_judges_no_images_is_no_metric_of_a_search(command: Tune, tmp_path: Path) -> None:
    ran = tables(*command(tmp_path / "out", "--metric", "fid_bias"))
    assert ran.exit_code == 2
    assert "Invalid value for '--metric': 'fid_bias'" in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="fid_bias does not say how good images are"):
        baseline_cell(ImageSource(), "fid_bias", "demo", REFERENCE, None)


def test_sfid_needs_a_reference_with_spatial_statistics(
    command: Tune, quarters: str, tmp_path: Path
) -> None:
    Statistics(np.zeros(4), np.eye(4), 1000).save(tmp_path / "plain.npz")
    more = ("--metric", "sfid", "--ref", str(tmp_path / "plain.npz"))
    ran = tables(*command(tmp_path / "out", *more))
    assert ran.exit_code == 2
    assert "plain.npz lacks: give a reference with them" in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_killed_and_started_again_ends_with_the_same_files(
    command: Tune, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    processes.run(
        "tables.py", *command(folder), kill_at=("metrics.feature_store:FeatureStore.add", 2)
    )
    assert not (folder / "scale.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("features/*/*.npz")}
    assert len(kept) == 2
    assert tables(*command(folder)).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for one, other in zip(files(whole), files(folder), strict=True):
        assert filecmp.cmp(one, other, shallow=False), one.name


def test_two_ranks_find_the_same(command: Tune, tmp_path: Path) -> None:
    assert tables(*command(tmp_path / "1", "--batch", "4")).exit_code == 0
    ran = processes.run("tables.py", *command(tmp_path / "2", "--batch", "4"), ranks=2)
    assert ran.returncode == 0, ran.stderr
    one, two = (
        json.loads((tmp_path / ranks / "tune.json").read_text())["bottom"] for ranks in "12"
    )
    assert two["rho"] == pytest.approx(one["rho"], abs=2e-3)
    assert two["rounds"][0]["points"][0] == pytest.approx(
        one["rounds"][0]["points"][0], rel=1e-4, abs=1e-6
    )
    assert json.loads(ran.stdout)["bottom"]["rho"] == two["rho"]


def test_another_search_in_the_same_folder_is_refused(
    command: Tune, network: str, tmp_path: Path
) -> None:
    plain = baseline_cell(
        ImageSource(network, SamplerSettings("euler", steps=2)), "fid", "demo", REFERENCE, None
    )
    search_there = Search(
        plain, "fid", tmp_path, Results(tmp_path / "results"), torch.device("cpu"), 8
    )
    asked = SearchSettings(points=3, images=24, budget=150)
    search_there.begin(asked)
    before = (tmp_path / "tune.json").read_bytes()
    others = {
        "--points=4": "points=3 (now 4)",
        "--bottom=0.7,1": "bottom=[0.6, 1.0] (now [0.7, 1.0])",
        "--metric=is": "metric=fid (now is)",
        "--steps=4": "steps=2 (now 4)",
        "--num=25": "images=24 (now 25)",
        "--labels=balanced": "labels=random (now balanced)",
    }
    for flag, difference in others.items():
        ran = tables(*command(tmp_path, flag))
        assert ran.exit_code == 2
        assert f"{tmp_path} is of a search with " in ran.stderr and difference in ran.stderr
        assert "choose another --outdir" in ran.stderr.splitlines()[-1]
    assert (tmp_path / "tune.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tune.json"]

    changes: list[dict[str, Any]] = [
        {"budget": 300},
        {"precision": 0.01},
        {"time": True},
        {"top": (0.8, 1.2)},
    ]
    for further in changes:
        search_there.begin(dataclasses.replace(asked, **further))
    write_json(
        tmp_path / "tune.json", search_there.about(dataclasses.replace(asked, top=(0.8, 1.2)))
    )
    with pytest.raises(ValueError, match=r"top=\[0.8, 1.2\] \(now None\)"):
        search_there.begin(asked)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"metric": "fid", "settings": 1, "asked": 2}', "[" * 100_000]
)
def test_a_damaged_record_is_named(command: Tune, tmp_path: Path, text: str) -> None:
    (tmp_path / "tune.json").write_text(text)
    ran = tables(*command(tmp_path))
    assert ran.exit_code == 2
    assert f"{tmp_path / 'tune.json'} is damaged" in ran.stderr.splitlines()[-1]


def test_two_searches_at_once_in_one_folder_are_refused(command: Tune, tmp_path: Path) -> None:
    with claim(tmp_path):
        ran = tables(*command(tmp_path))
    assert ran.exit_code == 2
    assert f"another run is at work in {tmp_path}" in ran.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.glob("*")] == []


@pytest.mark.parametrize(
    "dim, channels, message",
    [
        (64, None, "statistics of dimension 128 and 64 cannot be compared"),
        (128, 3, "are grayscale, those of"),
    ],
)
def test_a_wrong_reference_is_refused_before_there_are_images(
    dim: int, channels: int | None, message: str, command: Tune, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.npz"
    Statistics(np.zeros(dim), np.eye(dim), 1000, channels=channels).save(wrong)
    ran = tables(*command(tmp_path / "out", "--reference", str(wrong)))  # its former name
    assert ran.exit_code == 2
    assert message in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_fewer_images_than_features_are_warned_of(command: Tune, tmp_path: Path) -> None:
    ran = tables(*command(tmp_path, "--num", "20", "--budget", "60"))
    first = ran.stderr.splitlines()[0]
    assert first.startswith(
        "Warning: 20 images of each point are no more than the 128 features of demo"
    )
    assert json.loads(ran.stdout)["warnings"] == [first.removeprefix("Warning: ")]
    assert "warnings" in json.loads((tmp_path / "tune.json").read_text())


def test_without_matplotlib_there_is_no_picture(
    command: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = tables(*command(tmp_path, "--budget", "72"))
    assert ran.exit_code == 0
    assert "no curve.png: pictures need the package matplotlib" in ran.stderr
    assert [path.exists() for path in files(tmp_path)] == [True, True, False]


def test_equal_rounds_make_equal_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        rounds = search(Curve(0), 0.6, 1.0, 5, 100, 1000)
        plot_search({"bottom": rounds, "top": rounds}, "FID", tmp_path / name)
    assert filecmp.cmp(tmp_path / "a.png", tmp_path / "b.png", shallow=False)


def test_parameters_of_other_methods(command: Tune, tmp_path: Path) -> None:
    asked = "freeu2:b1=1..1.4,s1=0.9+scalelong:kappa=0.8..1"
    ran = tables(*command(tmp_path, "--skip-method", asked))
    assert ran.exit_code == 0, ran.stderr
    summary = json.loads(ran.stdout)
    b1, kappa = (summary[name]["rho"] for name in ("freeu2:b1", "scalelong:kappa"))
    assert 1 <= b1 <= 1.4 and 0.8 <= kappa <= 1 and "bottom" not in summary
    assert summary["skip_method"] == f"freeu2:b1={b1:g},s1=0.9+scalelong:kappa={kappa:g}"
    assert ran.stderr.splitlines()[-1].endswith(f"--rho-layers={tmp_path / 'scale.json'}")
    assert load_skips(tmp_path / "scale.json") == (SkipScale(), summary["skip_method"])

    # The second is searched where the first was found.
    stored = [
        json.loads(path.read_text())["settings"]["skip_method"]
        for path in (tmp_path / "results").glob("*.json")
    ]
    assert {text.partition("+")[0] for text in stored if "kappa=0.8" in text} == {
        f"freeu2:b1={b1:g},s1=0.9"
    }


def test_rho_beside_a_method_that_stays(command: Tune, tmp_path: Path) -> None:
    more = ["--skip-method", "freeu:s1=0.8", "--bottom", "0.8,1"]
    ran = tables(*command(tmp_path, *more))
    assert ran.exit_code == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["skip_method"] == "freeu:s1=0.8" and 0.8 <= summary["bottom"]["rho"] <= 1
    found = SkipScale(summary["bottom"]["rho"]), "freeu:s1=0.8"
    assert load_skips(tmp_path / "scale.json") == found


def test_a_parameter_that_touches_no_skip_is_refused_before_there_are_images(
    command: Tune, tmp_path: Path
) -> None:
    asked = ("--network", "demo-uvit", "--skip-method", "freeu:b1=1.1,b2=1..1.3")
    ran = tables(*command(tmp_path / "out", *asked))
    assert ran.exit_code == 2
    assert "freeu:b2=1.3 touches no long skip of demo-uvit" in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--skip-method", "freeu:b1=1..x"], "freeu:b1='x' is not a number"),
        (["--skip-method", "freeu:b1=1.4..1"], "the range is 1.4 to 1"),
        (["--skip-method", "freeu"], "freeu does nothing without a parameter"),
        (["--bottom", "0.6"], "--bottom=0.6 is not LOW,HIGH, such as 0.6,1"),
        (["--bottom", "1,0.6"], "the range is 1 to 0.6"),
        (["--top", "1.2,0.8"], "the range is 1.2 to 0.8"),
        (["--top", "x,1"], "--top=x,1 is not LOW,HIGH"),
        (["--budget", "71"], "3 points of 24 images are more than the budget of 71"),
        (
            ["--time", "--num", "51", "--points", "3"],
            "three orders in time of 51 images are more than the budget 150",
        ),
        (["--class", "3"], "a search cannot have class_idx = 3"),
        (["--class", "3", "--labels", "random"], "--class and --labels both choose the classes"),
        (
            ["--metric", "kid"],
            "kid compares images with images: give the real ones as --ref-images",
        ),
        (["--metric", "recall"], "recall compares images with images: give the real ones as"),
        (
            ["--metric", "fid_inf"],
            "fid_inf needs ten images for each of the 128 features, 1,280 or more; 24 given",
        ),
        (["--ref", "none.npz"], "none.npz"),
    ],
)
def test_errors_are_one_line(more: list[str], message: str, command: Tune, tmp_path: Path) -> None:
    ran = tables(*command(tmp_path / "out", *more))
    assert ran.exit_code == 2
    assert message in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "scale.json").exists()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
