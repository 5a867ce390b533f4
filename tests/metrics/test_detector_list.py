"""What `fid.py detectors` tells of the feature networks, against the networks themselves."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from fid import main
from metrics.detector import load_detector, load_entries
from metrics.detector_list import HEADS, detector_facts
from metrics.inception import InceptionV3
from metrics.names import METRICS
from metrics.transformers_detector import is_cached

SPATIAL = [
    "inception-2015-12-05",
    "inception-2015-12-05-torch-resize",
    "inception-2015-12-05-clean-resize",
]


def listed(*flags: str) -> str:
    done = CliRunner().invoke(main, ["detectors", *flags])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_detector_is_in_both_forms() -> None:
    facts: list[dict[str, Any]] = json.loads(listed("--json"))
    assert [one["name"] for one in facts] == list(load_entries())
    lines = listed().splitlines()
    assert tuple(lines[0].split()) == HEADS
    assert max(map(len, lines)) <= 150
    for one in facts:
        (line,) = (line for line in lines if line.split()[0] == one["name"])
        assert one["licence"] in line and str(one["features"]) in line
        assert ("is" in one["metrics"]) == (one["classes"] != 0)
        assert ("sfid" in one["metrics"]) == (one["name"] in SPATIAL)
        assert ("all but" in line) == (len(one["metrics"]) < len(METRICS))


@pytest.mark.parametrize("name", ["demo", "demo-resnet", "demo-floor3"])
def test_facts_are_those_of_the_network(name: str) -> None:
    facts, net = detector_facts(load_entries()[name]), load_detector(name, "cpu")
    assert facts["here"] and facts["size"] == 32 and net.sha256.startswith(facts["sha256"])
    assert (facts["features"], facts["classes"]) == (net.feature_dim, net.num_logits)


def test_what_is_not_here_is_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    inception = detector_facts(load_entries()["inception-2015-12-05"])
    assert (inception["features"], inception["classes"]) == (
        InceptionV3.feature_dim,
        InceptionV3.num_logits,
    )
    assert inception["source"].startswith("https://") and "is" in inception["metrics"]
    dinov2 = detector_facts(load_entries()["dinov2"])
    assert dinov2["source"] == "facebook/dinov2-large on the Hugging Face hub"
    assert (dinov2["features"], dinov2["size"], dinov2["classes"]) == (1024, 224, 0)
    assert "is" not in dinov2["metrics"] and "fid" in dinov2["metrics"]
    former = load_entries()["dinov2-vitl14"]
    assert former.hub == load_entries()["dinov2"].hub and former.features == 1024


def test_the_hubs_cache_is_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    hub = pytest.importorskip("huggingface_hub")
    files = {"config.json": str(tmp_path / "config.json"), "model.safetensors": None}
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda _, name: files[name])
    (tmp_path / "config.json").touch()
    assert not is_cached("a/b")
    files["model.safetensors"] = str(tmp_path / "model.safetensors")
    assert not is_cached("a/b"), "the link leads nowhere"
    (tmp_path / "model.safetensors").touch()
    assert is_cached("a/b")
