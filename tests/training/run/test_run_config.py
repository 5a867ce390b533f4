"""The schedules of a training run, and what cannot be trained."""

from dataclasses import replace

import pytest

from training.run.config import TrainingConfig, crossed

RUN = TrainingConfig("data.zip", {}, duration=1000, batch=8, lr=0.1, lr_rampup=100)


def test_the_learning_rate_rises_in_a_line_and_stays() -> None:
    assert [RUN.learning_rate(n) for n in (0, 25, 100, 500)] == pytest.approx([0, 0.025, 0.1, 0.1])
    assert replace(RUN, lr_rampup=0).learning_rate(1) == pytest.approx(0.1)


def test_the_average_forgets_half_in_its_half_life() -> None:
    run = replace(RUN, ema_halflife=80, ema_rampup=0.0)
    assert run.ema_beta(1) ** 10 == pytest.approx(0.5)
    early = replace(run, ema_rampup=0.05)
    assert early.ema_beta(160) == pytest.approx(0.5)  # of 5% of 160 images, one batch
    assert early.ema_beta(10**6) == run.ema_beta(1)


def test_multiples_are_crossed_once() -> None:
    assert [n for n in range(8, 60, 8) if crossed(n, 8, 20)] == [24, 40]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"duration": 0}, "duration is 0"),
        ({"batch": 2000}, "batch is 2,000 images"),
        ({"batch_gpu": 0}, "batch_gpu is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"precond": "Other"}, "no loss for the precond 'Other'"),
        ({"seed": -1}, "seed is -1"),
        ({"augment": 0.1}, "needs a network with augment_dim"),
        ({"label_dropout": 2.0}, "label_dropout is 2"),
        ({"label_dropout": 0.1, "cond": False}, "no labels to leave out"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RUN, **changes).check(1)  # type: ignore[arg-type]


def test_a_batch_is_shared_by_all_ranks_or_refused() -> None:
    RUN.check(4)
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared by 3 ranks"):
        RUN.check(3)
