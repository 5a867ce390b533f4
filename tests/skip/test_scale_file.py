"""Files of skip coefficients: they say all, come back as they were, and what is wrong in one is named in one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_network import saved

import generate
from skip.flags import SkipFlags
from skip.options import skips
from skip.scale import SkipScale
from skip.scale_file import FORMAT, Skips, load_scale, load_skips, save_scale


@pytest.mark.parametrize(
    "scale",
    [
        SkipScale(bottom=0.1 + 0.2),
        SkipScale(),
        SkipScale(layers=(0.5, 1.0, 0.0, 1 / 3)),
        SkipScale(
            0.8,
            1.1,
            "inclusive",
            time="decreasing",
            axis="log-sigma",
            sigma_min=0.01,
            sigma_max=50.0,
        ),
        SkipScale(0.8, window=(0.1, math.inf)),
        SkipScale(layers=(0.5, 0.6), time="increasing", window=(0.0, 2.0)),
    ],
)
def test_comes_back_as_it_was(scale: SkipScale, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scale.json"
    save_scale(path, scale, network="demo", points=[1, 2])
    assert load_scale(path) == scale
    record = json.loads(path.read_text())
    assert record["format"] == FORMAT == "skip-tuning-scale/1"
    assert record["provenance"] == {"network": "demo", "points": [1, 2]}
    assert [p.name for p in path.parent.iterdir()] == ["scale.json"]


def test_what_a_file_by_hand_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "hand.json"
    path.write_text(json.dumps({"format": FORMAT, "layers": [1, 0.5]}))
    assert load_scale(path) == SkipScale(layers=(1.0, 0.5))
    path.write_text(json.dumps({"format": FORMAT, "top": 0.9, "window": [0, "inf"]}))
    assert load_scale(path) == SkipScale(top=0.9, window=(0.0, math.inf))


@pytest.mark.parametrize(
    "record, message",
    [
        ("{", "Expecting"),
        ("[]", "it is no JSON object"),
        ({"format": "skip-tuning-scale/2", "bottom": 0.5}, "it is not a file of skip coefficients"),
        ({"format": None, "bottom": 0.5}, "it is not a file of skip coefficients"),
        ({"bottm": 0.5}, "unknown key 'bottm'; there are bottom, top"),
        ({"bottom": "0.5"}, "bottom has '0.5' where a number must be"),
        ({"bottom": True}, "bottom has True where a number must be"),
        ({"top": None}, "top has None where a number must be"),
        ({"bottom": "inf"}, "bottom has 'inf' where a number must be"),
        ({"bottom": math.nan}, "a skip coefficient is nan"),
        ({"bottom": 10**400}, "too large"),
        ({"bottom": 0.5, "spacing": [1]}, "spacing is of the type list; it must be a text"),
        ({"bottom": 0.5, "axis": {}}, "axis is of the type dict; it must be a text"),
        ({"layers": [[0.5]]}, "layers has of the type list where a number must be"),
        ({"bottom": 10**400}, "too large"),
        ({"x" * 10**6: 1}, "unknown key 'xxx"),
        ({"layers": 0.5}, "layers is 0.5; it must be a list of numbers"),
        ({"layers": [0.5, "x"]}, "layers has 'x' where a number must be"),
        ({"layers": []}, "layers is empty"),
        ({"layers": [0.5], "bottom": 0.5}, "not both"),
        ({"bottom": 0.5, "window": [1]}, r"window has 1 numbers; it must be \[low, high\]"),
        ({"bottom": 0.5, "window": [2, 1]}, "the sigma window is 2.0 to 1.0"),
        ({"bottom": 0.5, "time": "sometimes"}, "unknown time 'sometimes'"),
        ({"bottom": 0.5, "time": ["constant"]}, "time is of the type list; it must be a text"),
        ({"bottom": 0.5, "skip_method": 1}, "skip_method is 1; it must be a text"),
        ({"skip_method": "free:b1=2"}, "unknown method 'free'"),
        ({"bottom": 1, "provenance": {"skip_method": "free:b1=2"}}, "unknown method 'free'"),
        ({"time": "increasing"}, "it has no coefficients; give bottom or top or layers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(record: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    if isinstance(record, dict):
        record = {"format": FORMAT} | record
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    with pytest.raises(ValueError, match=message) as caught:
        load_scale(path)
    assert str(caught.value).startswith(f"{path}")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.json"):
        load_scale(tmp_path / "none.json")
    (tmp_path / "scale.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match=r"scale\.json"):
        load_scale(tmp_path / "scale.json")


def made(folder: Path, network: str, *flags: str) -> list[np.ndarray]:
    args = ["--network", network, "--outdir", str(folder), "--seeds", "0-2", "--steps", "3", *flags]
    result = CliRunner().invoke(generate.main, args)
    assert result.exit_code == 0, result.output
    return [np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_generate_makes_the_images_of_the_same_flags(tmp_path: Path) -> None:
    network, file = saved(tmp_path), tmp_path / "scale.json"
    save_scale(
        file, SkipScale(0.3, 0.8, "inclusive", time="increasing", axis="sigma", window=(0.0, 20.0))
    )
    flags = "--rho-bottom 0.3 --rho-top 0.8 --rho-spacing inclusive --rho-time increasing"
    flags += " --rho-axis sigma --rho-sigma 0,20"
    by_flags = made(tmp_path / "flags", network, *flags.split())
    by_file = made(tmp_path / "file", network, "--rho-layers", str(file))
    plain = made(tmp_path / "plain", network)
    assert len(by_flags) == 3
    for one, two, other in zip(by_flags, by_file, plain, strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one != other).any()
    assert (tmp_path / "flags/run.json").exists()
    records = [
        json.loads((tmp_path / name / "run.json").read_text())["settings"]
        for name in ("flags", "file")
    ]
    assert records[0] == records[1]


METHOD = "freeu2:b1=1.3,s1=0.6+scalelong:kappa=0.9"
EARLIER = {"format": FORMAT, "bottom": 0.5, "provenance": {"skip_method": METHOD}}


@pytest.mark.parametrize("earlier", [False, True])
def test_the_method_that_a_file_says_is_applied(earlier: bool, tmp_path: Path) -> None:
    """Earlier searches wrote it among where their file came from."""
    network, file = saved(tmp_path), tmp_path / "scale.json"
    save_scale(file, SkipScale(0.5), METHOD, network="demo")
    if earlier:
        file.write_text(json.dumps(EARLIER))
    assert load_skips(file) == (SkipScale(0.5), METHOD)

    flags = f"--rho-bottom 0.5 --skip-method {METHOD}".split()
    by_flags = made(tmp_path / "flags", network, *flags)
    by_file = made(tmp_path / "file", network, "--rho-layers", str(file))
    without = made(tmp_path / "without", network, "--rho-bottom", "0.5")
    for one, two, other in zip(by_flags, by_file, without, strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one != other).any()

    records = [
        json.loads((tmp_path / name / "run.json").read_text())["settings"]
        for name in ("flags", "file")
    ]
    assert records[0] == records[1] and set(records[1]["skip"]["methods"]) == {
        "freeu2",
        "scalelong",
    }

    with pytest.raises(
        ValueError, match=rf"scale.json says --skip-method {METHOD[:6]}.* load_skips"
    ):
        load_scale(file)


def test_a_method_beside_a_file(tmp_path: Path) -> None:
    """It is added to a file without one; the same one may stand there twice; another contradicts."""
    plain, full = str(tmp_path / "plain.json"), str(tmp_path / "full.json")
    save_scale(plain, SkipScale(0.5))
    save_scale(full, SkipScale(0.5), METHOD)
    assert skips(SkipFlags(layers=plain, method="freeu:b1=2")) == (SkipScale(0.5), "freeu:b1=2")
    again = METHOD.replace("1.3", "1.30")
    assert skips(SkipFlags(layers=full, method=again)) == (SkipScale(0.5), METHOD)
    with pytest.raises(ValueError, match=r"full.json says --skip-method .*; drop --skip-method=fr"):
        skips(SkipFlags(layers=full, method="freeu:b1=2"))


def test_a_file_by_hand_of_a_method_alone(tmp_path: Path) -> None:
    path = tmp_path / "hand.json"
    path.write_text(json.dumps({"format": FORMAT, "skip_method": METHOD, "window": [1, 2]}))
    assert load_skips(path) == (SkipScale(window=(1.0, 2.0)), METHOD)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--rho-bottom", "0.5"], "says all of it; drop --rho-bottom"),
        (["--rho-time", "increasing"], "says all of it; drop --rho-time"),
        (["--rho-sigma", "0,1"], "says all of it; drop --rho-sigma"),
        ([], "2 skip coefficients given; this network has 4 long skips"),
    ],
)
def test_flags_beside_a_file_and_a_wrong_number_of_layers(
    flags: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "scale.json"
    save_scale(file, SkipScale(layers=(0.5, 0.6)))
    args = [
        "--network", saved(tmp_path), "--outdir", str(tmp_path / "out"), "--rho-layers", str(file),
        *flags,
    ]  # fmt: skip
    result = CliRunner().invoke(generate.main, args)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_neither_numbers_nor_a_file(tmp_path: Path) -> None:
    args = [
        "--network", saved(tmp_path), "--outdir", str(tmp_path / "out"), "--rho-layers",
        str(tmp_path / "none.json"),
    ]  # fmt: skip
    result = CliRunner().invoke(generate.main, args)
    assert result.exit_code == 2
    assert "none.json is not a list of numbers such as 0.8,0.9,1, nor a file" in result.stderr


def test_a_changed_coefficient_is_noticed_and_a_file_by_hand_has_no_checksum(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scale.json"
    save_scale(path, SkipScale(bottom=0.8))
    path.write_text(path.read_text().replace("0.8", "0.9"))
    with pytest.raises(
        ValueError, match=r"scale\.json is damaged \(its checksum is another; if you changed it"
    ):
        load_scale(path)
    record = json.loads(path.read_text())
    del record["crc32"]
    path.write_text(json.dumps(record))
    assert load_scale(path) == SkipScale(bottom=0.9)


def test_a_method_without_effect_is_none(tmp_path: Path) -> None:
    """As a search ends with where nothing helps."""
    path = tmp_path / "scale.json"
    save_scale(path, SkipScale(0.8), "freeu2:b1=1")
    assert "skip_method" not in json.loads(path.read_text())
    assert load_scale(path) == SkipScale(0.8)

    for said in ('"freeu2:b1=1"', '""', "null"):
        path.write_text(f'{{"format": "{FORMAT}", "time": "increasing", "skip_method": {said}}}')
        with pytest.raises(ValueError, match="it has no coefficients"):
            load_skips(path)
    path.write_text(f'{{"format": "{FORMAT}", "provenance": {{"skip_method": "freeu2:b1=1.2"}}}}')
    assert load_skips(path) == Skips(SkipScale(), "freeu2:b1=1.2")
