"""Networks out of EDM's snapshot pickles: official outputs, official names, nothing executed."""

from pathlib import Path
from typing import Any

import edm_pickles
import pytest
import torch
from conftest import fill, golden_json, golden_npz, relative_error
from small_network import SMALL, assert_same, refusal, small, written

from training import edm_pickle
from training.checkpoint import load_network
from training.precond import PRECONDS


def ema(class_name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"ema": edm_pickles.persistent(class_name, state)}


@pytest.mark.parametrize("name", ["edm_adm", "edm_ddpmpp"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"protocol": 2}, {"core": "numpy._core"}, {"location": "cuda:0"}],
    ids=["proto4", "proto2", "numpy2", "cuda"],
)
def test_snapshots_give_the_official_outputs(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    kwargs = golden_json("pickle_facts")["edm"]["scans"][f"public/{name}"]["init_kwargs"]
    tensors = fill(PRECONDS["EDMPrecond"](**kwargs)).state_dict()
    path = written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", kwargs, tensors, **settings))
    net = load_network(path)
    expected = golden_npz("pickles_expected")
    labels = (
        torch.eye(10)[torch.from_numpy(expected[f"{name}/class_idx"])] if net.label_dim else None
    )
    x, sigma = (torch.from_numpy(expected[f"{name}/{key}"]) for key in ("x", "sigma"))
    assert relative_error(net(x, sigma, labels), expected[f"{name}/D"]) < 1e-5


@pytest.mark.parametrize(
    "name", ["edm_imagenet64_cond_adm", "edm_afhqv2_64_uncond_vp", "edm_afhqv2_64_uncond_ve"]
)
def test_names_of_the_full_size_networks_pass_through_the_pickle(name: str, tmp_path: Path) -> None:
    """The official names, with one number for every tensor, nest and unnest to the same names."""
    facts = golden_json(f"fullsize_{name}")
    names = {key: torch.zeros(1) for key in facts["state_dict"]}
    path = written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", {"a": 1}, names))
    class_name, kwargs, tensors = edm_pickle.read_snapshot(path)
    assert (class_name, kwargs) == ("EDMPrecond", {"a": 1}) and tensors.keys() == names.keys()


def test_buffers_that_are_no_part_of_the_state_are_left_out(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "_init_args": (),
        "_init_kwargs": {"a": 1},
        "_parameters": {},
        "_modules": {},
    }
    state["_buffers"] = {name: edm_pickles.tensor(torch.ones(2)) for name in ("kept", "computed")}
    path = written(
        tmp_path,
        edm_pickles.dumps(ema("EDMPrecond", state | {"_non_persistent_buffers_set": {"computed"}})),
    )
    assert list(edm_pickle.read_snapshot(path)[2]) == ["kept"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: value.to(dtype) for name, value in small().state_dict().items()}
    net = load_network(
        written(tmp_path, edm_pickles.edm_snapshot("EDMPrecond", SMALL, tensors, location="cuda:0"))
    )
    for name, value in net.state_dict().items():
        assert value.dtype == torch.float32 and value.device.type == "cpu"
        assert torch.equal(value, tensors[name].float())


def test_of_a_distilled_generator_the_entry_ema_is_read_and_sg_is_not(tmp_path: Path) -> None:
    score = {name: value + 1 for name, value in small().state_dict().items()}
    path = written(
        tmp_path, edm_pickles.generator_snapshot("EDMPrecond", SMALL, small().state_dict(), score)
    )
    assert_same(load_network(path), small())


@pytest.mark.parametrize("class_name", list(PRECONDS))
def test_every_class_loads_from_a_snapshot(class_name: str, tmp_path: Path) -> None:
    net = small(class_name)
    path = written(tmp_path, edm_pickles.edm_snapshot(class_name, SMALL, net.state_dict()))
    assert_same(load_network(path), net)


def test_a_hostile_snapshot_is_refused_by_name(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    attack = edm_pickles.Made(edm_pickles.Global("posix", "system"), (f"touch {canary}",))
    assert "refuses posix.system" in refusal(written(tmp_path, edm_pickles.dumps({"ema": attack})))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1}, "no network under the key 'ema'"),
        ([1, 2], "no network under the key 'ema'"),
        ({"ema": {"a": 1}}, "no network under the key 'ema'"),
        (ema("EDMPrecond", {}), "constructor arguments"),
        (ema("EDMPrecond", {"_init_args": (8,), "_init_kwargs": {}}), "constructor arguments"),
        (
            ema("os.system", {"_init_args": (), "_init_kwargs": {}}),
            "unknown network class 'os.system'",
        ),
        (ema("EDMPrecond", {"_init_args": (), "_init_kwargs": {}}), "EDMPrecond cannot be built"),
        (
            ema("EDMPrecond", {"_init_args": (), "_init_kwargs": SMALL, "_modules": [1]}),
            "_modules of a EDMPrecond",
        ),
    ],
)
def test_pickles_that_are_no_snapshot(value: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(written(tmp_path, edm_pickles.dumps(value)))


def test_a_module_that_is_used_twice_is_refused(tmp_path: Path) -> None:
    layer = edm_pickles.persistent("Layer", {"_parameters": {}, "_modules": {}})
    ema = {"_init_args": (), "_init_kwargs": SMALL, "_modules": {"a": layer, "b": layer}}
    message = refusal(
        written(tmp_path, edm_pickles.dumps({"ema": edm_pickles.persistent("EDMPrecond", ema)}))
    )
    assert "uses one module twice: b" in message
