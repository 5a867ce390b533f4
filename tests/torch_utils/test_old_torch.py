"""torch.load is only trusted where its weights_only keeps what it promises."""

from pathlib import Path

import pytest
import torch

from metrics.inception import load_inception
from torch_utils.weights import OldTorchError, load_pickled


@pytest.mark.parametrize(
    "version, safe", [("2.4.1+cu121", False), ("2.9.1", False), ("2.10.0", True), ("3.0", True)]
)
def test_an_old_torch_reads_no_pickled_tensors(
    version: str, safe: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", version)
    if safe:
        assert torch.equal(load_pickled(tmp_path / "a.pth")["a"], torch.ones(2))
        return
    with pytest.raises(
        OldTorchError, match=r"a\.pth is read by torch.load, which torch 2\..* cannot do safely"
    ):
        load_pickled(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="upgrade torch"):
        load_inception(tmp_path / "a.pth")
