"""Devices by name, a process that is alone, and what several agree on; see also tests/test_generate.py."""

import socket
import textwrap
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.distributed as dist

from dnnlib.start import ROOT
from torch_utils import distributed


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "SLURM_STEP_NUM_TASKS",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "meta", "cpu,"])
def test_unknown_devices_are_refused_in_few_words(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"^unknown device {name!r}; use cpu, cuda, cuda:1 or mps$"
    ):
        distributed.choose_device(name)


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match="device cuda:2 asked for, but this machine has 2 CUDA devices"
    ):
        distributed.choose_device("cuda:2")
    with pytest.raises(ValueError, match="device mps asked for"):
        distributed.choose_device("mps")


def test_cuda_is_the_gpu_of_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.choose_device("cuda") == torch.device("cuda", 1)
    assert distributed.choose_device("cuda:0") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="device cuda:2 asked for"):
        distributed.choose_device("cuda")


def test_a_process_alone_is_rank_0_of_1() -> None:
    assert distributed.init("cpu") == torch.device("cpu")
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.all_reduce_sum(torch.tensor(3)) == 3
    distributed.barrier()
    distributed.shutdown()


def test_there_is_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.choose_device("cpu:0").type == "cpu"
    with pytest.raises(ValueError, match="device cpu:7 asked for, but there is one cpu only"):
        distributed.choose_device("cpu:7")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="device mps:1 asked for, but there is one mps only"):
        distributed.choose_device("mps:1")


# ---- several processes


@pytest.mark.parametrize(
    ("variable", "launcher"), [("SLURM_STEP_NUM_TASKS", "srun"), ("OMPI_COMM_WORLD_SIZE", "mpirun")]
)
def test_copies_that_do_not_know_of_one_another_are_refused(
    variable: str, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    distributed.init("cpu")
    monkeypatch.setenv(variable, "8")
    with pytest.raises(
        ValueError,
        match=rf"^{launcher} started 8 copies .* torchrun.* WORLD_SIZE=1 if each has work",
    ):
        distributed.init("cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    distributed.init("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Rank 1 of 2 on a machine with two GPUs; returns what process groups are asked for."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(
        dist,
        "init_process_group",
        lambda backend, **given: asked.append({"backend": backend} | given),
    )
    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    return asked


def test_ranks_do_not_share_a_gpu(
    two_gpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ValueError, match=r"cuda:0 would be the one GPU of all 2 ranks .* the device cuda is"
    ):
        distributed.init("cuda:0")
    assert not two_gpus
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # the other rank is on another machine
    assert distributed.init("cuda:0") == torch.device("cuda", 0)


def test_nccl_is_told_the_gpu(two_gpus: list[dict[str, Any]]) -> None:
    distributed.init("cuda")
    distributed.init("cpu")
    nccl, gloo = two_gpus
    assert (nccl["backend"], nccl["device_id"]) == ("nccl", torch.device("cuda", 1))
    assert (gloo["backend"], gloo["device_id"]) == ("gloo", None)


def test_what_shows_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "LOOK_SECONDS", 0.0)
    looks = iter([False, False, True])
    assert not distributed.wait_for(lambda: next(looks))  # a process alone has nobody to wait for
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert distributed.wait_for(lambda: next(looks))
    assert not distributed.wait_for(lambda: False, seconds=0.0)


RANK = textwrap.dedent("""
    import os, sys
    from torch_utils import distributed
    os.chdir(f"machine{os.environ['RANK']}")
    os.environ["MASTER_PORT"] = sys.argv[2]
    del os.environ["TORCHELASTIC_USE_AGENT_STORE"]  # not started by torchrun: rank 0 opens the port
    distributed.TOKEN_SECONDS = 0.2
    distributed.init("cpu")
    assert distributed.as_rank_0_says([distributed.rank() == 0, False]) == [True, False]
    distributed.require_shared(sys.argv[1])
    try:
        distributed.require_shared("out")
    except RuntimeError as error:
        print(error)
    distributed.shutdown()
""")


def test_a_folder_that_is_another_one_on_each_machine_is_refused(tmp_path: Path) -> None:
    """Two processes in folders of their own, as on two machines; one of their folders is shared."""
    (tmp_path / "rank.py").write_text(RANK)
    for rank in range(2):
        (tmp_path / f"machine{rank}").mkdir()
    done = processes.run(
        *(tmp_path / "rank.py", tmp_path / "shared", str(free_port())),
        folder=tmp_path,
        ranks=2,
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(
            "out is not one folder for all ranks: 1 of 2 do not see what rank 0 writes to it on "
        )
        assert line.endswith(
            "choose one that all machines share (for the cache: SKIP_TUNING_CACHE)"
        )
    assert [p.name for p in tmp_path.rglob("*") if not p.is_dir()] == ["rank.py"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])
