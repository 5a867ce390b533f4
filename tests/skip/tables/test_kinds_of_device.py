"""Results tell what they were computed in: a CPU's, a GPU's and TF32's have names of their own."""

from pathlib import Path

import pytest
import torch
from small_items import Desk

from skip.evidence.estimate import Estimate
from skip.source import ImageSource, LastNetwork
from skip.tables.cells.settings import Job
from skip.tables.measured import MeasuredItem
from skip.tables.plan import lines, nothing_to_do, summary
from skip.tables.results import Results, key, kind_in_words
from skip.tables.show.render import markdown
from skip.tables.spec import load_item
from torch_utils.precision import KINDS, every_kind

CPU_KIND, CUDA_KIND, TF32_KIND = KINDS


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_keys_differ_and_the_cpus_is_as_it_was() -> None:
    cell = load_item("table2", "demo").cells[0]
    assert key(cell) == key(cell, CPU_KIND)
    assert len({key(cell, kind) for kind in KINDS}) == 3
    assert Path(f"results/{cell.study}-{key(cell, CPU_KIND)}.json").exists()


def test_this_machines_kind_is_looked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert every_kind() == KINDS
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert every_kind() == (CUDA_KIND, TF32_KIND, CPU_KIND)


def test_a_run_measures_what_is_there_from_another_device_only(desk: Desk) -> None:
    cell = desk.images(rho=0.9)
    item = desk.item(cell)
    desk.save(cell, fid_demo=6.0)
    here = Results(desk.results.folder, [CUDA_KIND])
    assert (
        desk.results.state(cell) == "done"
        and here.state(cell) == "to do"
        and here.load(cell) is None
    )
    assert list(nothing_to_do([MeasuredItem.read(item, here)], here.folder)) == []
    assert here.partial(cell) != desk.results.partial(cell), (
        "nor does it go on with what a CPU began"
    )


def test_show_takes_another_devices_value_and_says_so(desk: Desk) -> None:
    both, elsewhere = desk.images(rho=0.9), desk.images(rho=1.0)
    cuda = Results(desk.results.folder, [CUDA_KIND])
    for cell, value in ((both, 6.0), (elsewhere, 7.0)):
        cuda.save(cell, {"fid-demo": Estimate(value)}, {"dtype": "float16"})
    desk.save(both, fid_demo=5.0)

    results, item = Results(desk.results.folder, KINDS), desk.item(both, elsewhere)
    assert [results.load(cell) for cell in item.cells] == [
        {"fid-demo": Estimate(5.0)},
        {"fid-demo": Estimate(7.0)},
    ]
    measured = MeasuredItem.read(item, results)
    assert "- Computed in float16 on cuda, not as this machine would: cells 1 of" in markdown(
        [measured]
    )
    assert "2/2   done, 1 on another kind of device" in summary(measured)
    assert [line.endswith("(in float16 on cuda)") for line in lines(measured)] == [False, True]
    assert results.read(elsewhere).computed_in == CUDA_KIND | {"dtype": "float16"}
    assert "Computed in" not in markdown([MeasuredItem.read(desk.item(both), results)])


def test_kinds_in_words() -> None:
    assert kind_in_words(CPU_KIND) == "float32 on cpu"
    assert kind_in_words(TF32_KIND | {"dtype": "float32"}) == "float32 on cuda with TF32"
    assert kind_in_words(CUDA_KIND) == "the network's dtype on cuda"


def test_a_network_is_kept_for_the_next_cell_and_only_one() -> None:
    keep = LastNetwork()
    cpu = torch.device("cpu")
    first = keep("demo", cpu, None, None)
    tuned = ImageSource("demo").load(cpu, network=keep)
    assert tuned.net.net is first
    assert keep("demo", cpu, None, "bfloat16") is not first
    assert keep("demo", cpu, None, None) is not first


def test_networks_are_compiled_where_images_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    job = Job(torch.device("cpu"), 4, tmp_path / "partial", tmp_path / "result", compile=True)
    net = job.load(ImageSource("demo"), job.compile).net.net
    assert compiled == [net.model] and job.computed == {"dtype": "float32", "compile": True}
    assert job.load(ImageSource("demo")).net.net is not net  # a study that looks into the network
    assert len(compiled) == 1
