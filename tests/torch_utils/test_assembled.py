"""Modules that are made for tensors: on the meta device, and no larger than the tensors are."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import nn

from dnnlib.files import atomic_write
from torch_utils import weights
from torch_utils.weights import assembled, check_names, read_saved, read_state_dict, write_saved


class Layer(nn.Module):
    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.made_on = torch.zeros(1).device.type
        self.weight = nn.Parameter(torch.randn(size, 2))
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("own", torch.arange(3.0, device="cpu"), persistent=False)


def test_the_tensors_become_the_weights_in_the_modules_dtype() -> None:
    tensors = {
        "weight": torch.arange(8.0, dtype=torch.float64).view(2, 4).T,
        "table": torch.ones(3).half(),
    }
    made = assembled(Layer, tensors)
    assert made.made_on == "meta" and all(
        value.device.type == "cpu" for value in made.state_dict().values()
    )
    assert torch.equal(made.weight, tensors["weight"].float()) and made.weight.is_contiguous()
    assert isinstance(made.weight, nn.Parameter) and made.table.dtype == torch.float32
    assert made.own.tolist() == [0, 1, 2]
    tensors["weight"].zero_()
    assert made.weight.sum() == 28  # a copy


def test_tensors_of_the_modules_own_dtype_are_copied_too() -> None:
    tensors = {"weight": torch.ones(4, 2), "table": torch.ones(3)}
    made = assembled(Layer, tensors)
    tensors["weight"].zero_()
    assert made.weight.sum() == 8


def test_names_that_may_be_missing() -> None:
    expected = {"a.weight": torch.ones(1), "a.scale": torch.ones(1)}
    check_names(expected, {"a.weight": torch.ones(1)}, optional=".scale")
    with pytest.raises(ValueError, match=r"1 missing \(a\.scale\)"):
        check_names(expected, {"a.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"1 missing \(a\.weight\)"):
        check_names(expected, {"a.scale": torch.ones(1)}, optional=".scale")


def test_three_names_are_shown_and_more_are_hinted_at() -> None:
    many = {name: torch.ones(1) for name in "abcd"}
    with pytest.raises(ValueError, match=r"4 unexpected \(a, b, c, \.\.\.\)"):
        check_names({}, many)
    del many["d"]
    with pytest.raises(ValueError, match=r"3 unexpected \(a, b, c\)"):
        check_names({}, many)


def test_a_flipped_bit_in_a_saved_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    assert read_saved(path)["a"].shape == (1000,)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"the checksum of state/data/0 is another"):
        read_saved(path)


def test_no_random_number_is_drawn() -> None:
    before = torch.get_rng_state()
    assembled(Layer, {"weight": torch.ones(4, 2), "table": torch.ones(3)})
    assert torch.equal(before, torch.get_rng_state())


def test_what_does_not_fit_is_named_before_it_is_made() -> None:
    tensors = {"weight": torch.ones(4, 2), "table": torch.ones(3)}
    with pytest.raises(
        ValueError, match=r"1 of the wrong shape \(weight \[4, 2\] for \[1000000000, 2\]\)"
    ):
        assembled(lambda: Layer(10**9), tensors)
    with pytest.raises(ValueError, match="1 missing"):
        assembled(Layer, {"weight": torch.ones(4, 2)})


def test_a_module_of_many_more_parameters_than_tensors_is_stopped() -> None:
    made = []

    def endless() -> nn.Module:
        while True:
            made.append(nn.Linear(1, 1))

    with pytest.raises(
        ValueError, match="more than 1,004 tensors of weights, far more than the file"
    ):
        assembled(endless, {"a": torch.ones(1), "b": torch.ones(1)})
    assert len(made) < 1000
    nn.Linear(1, 1)  # outside of it, nothing is counted


def test_long_and_odd_names_do_not_reach_the_screen() -> None:
    with pytest.raises(ValueError, match="unexpected") as caught:
        check_names({}, {"\x1b[31m" + "x" * 10**6: torch.ones(1), "b\nc": torch.ones(1)})
    message = str(caught.value)
    assert len(message) < 300 and "\x1b" not in message and "\n" not in message


def test_tensors_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    shared = torch.zeros(10_000)
    torch.save({f"{i}": shared for i in range(100)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="claim 4,000,000 bytes"):
        read_state_dict(tmp_path / "file.pt")
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="exceeds its 1 numbers"):
        read_state_dict(tmp_path / "file.pt")


def test_keys_that_are_no_text_are_refused(tmp_path: Path) -> None:
    torch.save({3: torch.zeros(1)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="a key that is no text"):
        read_state_dict(tmp_path / "file.pt")


@pytest.mark.parametrize("space", [0, 100, 2000])
def test_a_disk_that_is_full_in_the_middle_of_a_state_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: int
) -> None:
    """Where torch's writer says "unexpected pos 64 vs 0"."""

    @contextlib.contextmanager
    def filling_up(path: Path) -> Iterator[IO[bytes]]:
        with atomic_write(path) as file:
            write = file.raw.write  # type: ignore[attr-defined]

            class Disk:
                def write(self, data: bytes) -> int:
                    if file.tell() + len(data) > space:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    return int(write(data))

                def flush(self) -> None:
                    pass

            yield Disk()  # type: ignore[misc]

    monkeypatch.setattr(weights, "atomic_write", filling_up)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/state'"):
        write_saved(tmp_path / "state", {"a": torch.zeros(500), "b": torch.ones(300)})
    assert not list(tmp_path.iterdir())
