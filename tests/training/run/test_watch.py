"""What all ranks are told after a step."""

import os
import signal

import pytest
import torch

from torch_utils import distributed
from training.run import watch
from training.run.watch import Watch, check_tensors

CPU = torch.device("cpu")


def other_rank(monkeypatch: pytest.MonkeyPatch, *answers: float) -> None:
    """A second rank that answers so; what it leaves out is 0."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)

    def add(value: torch.Tensor) -> torch.Tensor:
        theirs = torch.zeros_like(value)
        theirs[: len(answers)] = torch.tensor(answers, dtype=value.dtype)
        return value + theirs

    monkeypatch.setattr(distributed, "all_reduce_sum", add)


def test_the_loss_is_the_mean_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    other_rank(monkeypatch, 3.0)
    assert Watch(CPU).step(torch.tensor(1.0), 16) == (2.0, False, None)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_all_ranks(
    loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RuntimeError, match=r"the loss of the step to 1,600 images is -?(nan|inf): the run stops"
    ):
        Watch(CPU).step(torch.tensor(loss), 1600)
    other_rank(monkeypatch, loss)
    with pytest.raises(RuntimeError, match="the run stops"):
        Watch(CPU).step(torch.tensor(1.0), 1600)


def test_any_ranks_signal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with Watch(CPU) as ours:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert ours.step(torch.tensor(1.0), 16).signal == signal.SIGUSR1
    other_rank(
        monkeypatch, 1.0, 0.0, *(float(number == signal.SIGTERM) for number in watch.SIGNALS)
    )
    assert Watch(CPU).step(torch.tensor(1.0), 16).signal == signal.SIGTERM


def test_the_clock_is_the_first_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    ours = Watch(CPU)
    assert not ours.step(torch.tensor(1.0), 16).due
    now[0] = 600.0
    assert ours.step(torch.tensor(1.0), 16).due
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert not ours.step(torch.tensor(1.0), 16).due
    monkeypatch.undo()
    ours.saved()
    assert not ours.step(torch.tensor(1.0), 16).due


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [torch.ones(2), torch.tensor(3)]
    check_tensors({"net": good, "none": []}, CPU)
    with pytest.raises(RuntimeError, match="ema holds NaN or infinity"):
        check_tensors({"net": good, "ema": [*good, torch.tensor([1.0, value])]}, CPU)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda bad: bad + 1)
    with pytest.raises(RuntimeError, match="net holds"):
        check_tensors({"net": good}, CPU)
