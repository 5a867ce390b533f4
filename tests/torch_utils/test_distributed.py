"""Devices by name, and a process that is alone; several processes: tests/test_generate.py."""

import pytest
import torch

from torch_utils import distributed


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "meta", "cpu,"])
def test_unknown_devices_are_refused_in_few_words(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown device {name!r}; use cpu, cuda, cuda:1 or mps$"):
        distributed.choose_device(name)


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device cuda:2 asked for, but this machine has 2 CUDA devices"):
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
