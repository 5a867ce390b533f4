"""Adam, and moments from a file."""

import copy

import pytest
import torch
from torch import Tensor

from training.run.optimizer import adam, take_moments
from training.run.steps import descend, follow, parts


def moved() -> tuple[list[Tensor], torch.optim.Adam]:
    weights = [torch.ones(2, requires_grad=True), torch.full([3], 2.0, requires_grad=True)]
    optimizer = adam(weights, lr=0.1)
    sum(weight.square().sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    return weights, optimizer


def test_the_first_step_is_the_learning_rate_in_size() -> None:
    weights, _ = moved()
    assert torch.allclose(weights[0], torch.full([2], 0.9)) and torch.allclose(
        weights[1], torch.full([3], 1.9)
    )


def test_moments_come_back_and_the_settings_stay() -> None:
    weights, optimizer = moved()
    fresh = adam([weight.detach().requires_grad_() for weight in weights], lr=0.5)
    take_moments(fresh, copy.deepcopy(optimizer.state_dict()))
    assert fresh.param_groups[0]["lr"] == 0.5
    for a, b in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "saved, message",
    [
        (None, "something else in the place"),
        ({"state": {5: {}}}, "moments of 2 parameters, not of number 5"),
        (
            {
                "state": {
                    0: {
                        "step": torch.tensor(0.0),
                        "exp_avg": torch.zeros(2),
                        "exp_avg_sq": torch.zeros(2),
                    }
                }
            },
            "has made 0",
        ),
    ],
)
def test_what_is_no_state_is_named(saved: object, message: str) -> None:
    _, optimizer = moved()
    with pytest.raises(ValueError, match=message):
        take_moments(optimizer, saved)


def test_descending_replaces_what_is_not_finite_and_forgets_the_gradients() -> None:
    weight = torch.zeros(3, requires_grad=True)
    weight.grad = torch.tensor([1.0, torch.nan, torch.inf])
    descend(torch.optim.SGD([weight], lr=1.0), lr=0.5)
    assert weight.tolist() == [-0.5, 0.0, -0.5e5] and weight.grad is None


def test_an_average_follows_and_parts_cover_the_batch() -> None:
    mean, net = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for layer, value in ((mean, 1.0), (net, 3.0)):
        torch.nn.init.constant_(layer.weight, value)
    follow(mean, net, 0.75)
    assert mean.weight.item() == pytest.approx(1.5)

    class Config:
        batch_gpu = 3

    rows = list(range(8))
    assert [rows[part] for part in parts(Config(), 8)] == [[0, 1, 2], [3, 4, 5], [6, 7]]  # type: ignore[arg-type]
