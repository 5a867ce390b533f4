"""A run that no machine could finish is refused before anything is made."""

import pytest
import torch

from training.precond import EDMPrecond
from training.run.size import check_batch, check_network, memory

CPU = torch.device("cpu")


def network(**changes: int) -> EDMPrecond:
    kwargs = {"model_channels": 16, "num_blocks": 1} | changes
    return EDMPrecond(8, 1, model_type="SongUNet", channel_mult=[1], attn_resolutions=[], **kwargs)


def test_networks_beyond_the_machine_are_refused_unmade() -> None:
    check_network(network, CPU)
    with pytest.raises(ValueError, match=r"more than 5,000 tensors of weights$"):
        check_network(lambda: network(num_blocks=10**7), CPU)
    with pytest.raises(ValueError, match=r"weights, whose training takes [0-9,]+ GiB; cpu has"):
        check_network(lambda: network(model_channels=10**7), CPU)


def test_a_network_takes_five_copies_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sum(parameter.numel() for parameter in network().parameters())
    monkeypatch.setattr("training.run.size.memory", lambda device: 20.0 * weights)
    check_network(network, CPU)
    monkeypatch.setattr("training.run.size.memory", lambda device: 20.0 * weights - 1)
    with pytest.raises(ValueError, match=r"fewer channels .* or blocks \(--num-blocks\)$"):
        check_network(network, CPU)


def test_each_further_average_takes_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sum(parameter.numel() for parameter in network().parameters())
    monkeypatch.setattr("training.run.size.memory", lambda device: 28.0 * weights)
    check_network(network, CPU, averages=2)
    with pytest.raises(ValueError, match=r"fewer averages \(--power-ema\)$"):
        check_network(network, CPU, averages=3)


def test_images_of_a_step_beyond_the_memory_are_refused() -> None:
    check_batch(4096, (3, 64, 64))
    with pytest.raises(ValueError, match=r"1,000,000 images a step of 3x512x512 take 3,662 GiB"):
        check_batch(10**6, (3, 512, 512))
    assert memory(CPU) > 2**30
