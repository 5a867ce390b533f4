"""Tables 11 and 12: cells that train first, then measure as any other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fill
from few_images import few_images

from skip.finetune.objectives import tune_rho
from skip.scale import SkipScale
from skip.scale_file import load_scale
from skip.tables.cells import finetuned
from skip.tables.cells.finetuned import FineTuned
from skip.tables.cells.generated import Images
from skip.tables.cells.settings import Job
from skip.tables.cells.words import build
from skip.tables.item import Cell, nfe, setting
from skip.tables.measured import MeasuredItem
from skip.tables.results import Results
from skip.tables.runner import run
from skip.tables.show.render import markdown
from skip.tables.show.verdicts import verdicts
from skip.tables.spec import item_names, load_item
from training.checkpoint import save_network
from training.precond import EDMPrecond

CPU = torch.device("cpu")
ITEM = """
title = "Fine-tuned"
source = "Table 11"
study = "finetuned"
[settings]
sampler = "unipc"
steps = 3
train_batch = 4
[[cells]]
rho = [1.0, 0.8]
[[cells]]
trained = ["free rho", "bounded rho"]
train_images = 16
[[cells]]
trained = "all weights"
train_images = [8, 16]
train_every = 8
[plot]
x = "index"
y = ["rho"]
series = ["trained", "rho", "train_images"]
[[claims]]
says = "FID changes"
kind = "lower"
metric = "fid"
along = "trained, rho, train_images"
baseline = "nothing, rho 1, train images 0"
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    net = EDMPrecond(32, 1, 10, model_type="SongUNet", model_channels=16, channel_mult=[1], num_blocks=1,
                     attn_resolutions=[])  # fmt: skip
    fill(net)
    save_network(net, tmp_path / "small.safetensors")
    return {
        "network": str(tmp_path / "small.safetensors"), "detector": "demo", "reference": "assets/demo/reference.npz",
        "data": few_images(tmp_path), "seeds": "0-7", "sampler": "unipc", "steps": 3, "train_batch": 4,
    }  # fmt: skip


def job(folder: Path, name: str = "one") -> Job:
    return Job(CPU, 4, folder / "results" / ".partial" / name, folder / "results" / name)


def images_of(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not name.startswith("train")}


def test_nothing_trained_is_the_study_of_images(settings: dict[str, Any], tmp_path: Path) -> None:
    found = build(FineTuned, settings | {"rho": 0.8}).run(job(tmp_path))
    plain = build(Images, images_of(settings) | {"rho": 0.8}).run(job(tmp_path, "plain"))
    assert {name: found[name] for name in plain} == plain
    rho = [found[f"rho[{i}]"].value for i in range(len(found) - len(plain) - 3)]
    assert rho == pytest.approx([0.8 + 0.2 * i / len(rho) for i in range(len(rho))]) and rho
    assert found["rho_max"].value == max(rho) and found["rho_min"].value == 0.8


@pytest.mark.parametrize("trained", ["free rho", "bounded rho"])
def test_trained_rho_is_measured_and_kept(
    settings: dict[str, Any], tmp_path: Path, trained: Any
) -> None:
    study = build(FineTuned, settings | {"trained": trained, "train_images": 16})
    found = study.run(job(tmp_path))
    fitted = tune_rho(
        study.settings(), 16, tmp_path / "state", CPU, trained == "bounded rho", batch_gpu=4
    )
    layers = fitted.scale.layers or ()
    assert tuple(found[f"rho[{i}]"].value for i in range(len(layers))) == layers
    assert load_scale(tmp_path / "results" / "rho" / "one.json") == fitted.scale
    assert found["rho_mean"].value == pytest.approx(sum(layers) / len(layers))
    source = replace(build(Images, images_of(settings)).source(), scale=fitted.scale)
    expected = build(Images, images_of(settings)).measure(job(tmp_path, "plain"), source)
    assert {name: found[name] for name in expected} == expected
    plain = build(Images, images_of(settings)).run(job(tmp_path, "other"))
    assert all(found[name].value != plain[name].value for name in plain)


def test_lengths_share_a_run(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    train = finetuned.tune_network
    monkeypatch.setattr(
        finetuned,
        "tune_network",
        lambda s, until, *rest: (calls.append(until), train(s, until, *rest)),
    )
    found = {}
    for images in (16, 8, 24):
        study = build(
            FineTuned,
            settings
            | {
                "trained": "all weights",
                "train_images": images,
                "train_every": 8,
                "train_lr": 1e-3,
            },
        )
        found[images] = study.run(job(tmp_path, f"cell{images}"))
    assert calls == [16, 24]
    (folder,) = (tmp_path / "results" / ".partial").glob("training-*")
    for images, values in found.items():
        path = folder / f"network-snapshot-000000-{images:03d}.safetensors"
        expected = build(Images, images_of(settings) | {"network": str(path)}).run(
            job(tmp_path, f"plain{images}")
        )
        assert values == expected
    assert len({next(iter(values.values())).value for values in found.values()}) == 3


def test_cost_and_sources(settings: dict[str, Any]) -> None:
    nothing = build(FineTuned, settings)
    trained = build(
        FineTuned,
        settings
        | {"trained": "free rho", "train_images": 400, "train_detector": "inception-2015-12-05"},
    )
    assert (nothing.evaluations(), trained.evaluations()) == (3 * 8, 3 * 8 + 3 * 400)
    assert [nfe(Cell("finetuned", one, {})) for one in (nothing, trained)] == [3, 3]
    assert set(nothing.sources()) == {"network", "detector", "reference"}
    assert trained.sources()["detector training"] == "inception-2015-12-05"
    assert trained.sources()["data"] == settings["data"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trained": "something"}, "unknown trained 'something'; choose from nothing, free rho"),
        ({"trained": "free rho"}, "trained is 'free rho' and train_images 0; these do not fit"),
        ({"train_images": 8}, "trained is 'nothing' and train_images 8"),
        (
            {"trained": "free rho", "train_images": 8, "scale": SkipScale(0.8)},
            r"rho is 0\.8, but it is trained",
        ),
        (
            {"trained": "free rho", "train_images": 7},
            "train_images is 7; it must be a positive multiple of the batch, 4",
        ),
        (
            {"trained": "all weights", "train_images": 12, "train_every": 8},
            "train_images is 12; .* multiple of 8",
        ),
        (
            {"trained": "free rho", "train_images": 8, "data": None},
            "fine-tuning needs the real images",
        ),
    ],
)
def test_nonsense_is_refused(
    settings: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(build(FineTuned, settings), **changed)


def test_a_table_from_end_to_end(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "table11.toml").write_text(ITEM)
    profile = {
        name: settings[name] for name in ("network", "detector", "reference", "data", "seeds")
    }
    (tmp_path / "profiles.toml").write_text(
        "[demo]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in profile.items())
    )
    item, results = load_item("table11", "demo", folder=tmp_path), Results(tmp_path / "results")
    assert run(item.cells, results, CPU, 4) == 6
    assert run(item.cells, results, CPU, 4) == 0
    left = sorted(
        path.name.partition("-")[0] for path in (tmp_path / "results" / ".partial").iterdir()
    )
    assert left == ["training"], "one run of all weights, for other lengths"
    text = markdown([MeasuredItem.read(item, results)])
    assert "rho max" in text and "| bounded rho |" in text and "index | rho" in text
    (judged,) = verdicts(MeasuredItem.read(item, results))
    assert (
        judged.seen is not None
        and "at trained nothing, rho 1" not in judged.sentence.partition(" against ")[0]
    )


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_the_papers_tables_can_be_read(profile: str) -> None:
    assert {"table11", "table12"} <= set(item_names())
    rows = {
        name: [
            (setting(cell, "trained"), setting(cell, "rho"))
            for cell in load_item(name, profile).cells
        ]
        for name in ("table11", "table12")
    }
    assert rows["table11"] == [
        ("nothing", 1),
        ("nothing", 0.8),
        ("free rho", 1),
        ("bounded rho", 1),
    ]
    plain = rows["table11"][:2]  # of every detector that measures
    trained = [row for row in rows["table12"] if row not in plain]
    assert rows["table12"][:2] == plain and {row[0] for row in trained} == {"all weights"}
    detectors = {
        load_item(name, "paper").cells[-1].settings.sources()["detector training"] for name in rows
    }
    assert detectors == {"resnet-101", "inception-2015-12-05"}
