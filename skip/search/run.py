"""tables.py tune: the search of skip.search.search over cells of generated images, and its files."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib.claims import claim
from dnnlib.cli import warn
from dnnlib.json_files import read_json_object, write_json
from dnnlib.text import printable, reason
from metrics.detector import load_detector
from metrics.measure import metric_of
from metrics.names import QUANTITIES
from skip.evidence.estimate import Estimate
from skip.methods.table import Range, parse_ranges, written
from skip.scale import TIMES
from skip.scale_file import save_scale
from skip.search.report import DIGITS, orders, short, stage
from skip.search.search import Round, clearly_better, even_grid, search
from skip.source import ImageSource
from skip.tables.cells.generated import Images
from skip.tables.cells.words import record_of
from skip.tables.item import Cell
from skip.tables.measured import SKIP_SETTINGS
from skip.tables.results import Results
from skip.tables.runner import run as run_cells
from skip.tables.show.labels import resolve
from torch_utils import distributed

# Of the jackknife that gives metrics without an influence of each image their paired errors.
GROUPS = 10
RECORD = "tune.json"
MOST_BYTES = 64 * 2**20  # of it
GROWING = ("budget", "precision")  # with others than before, a search goes on


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, and how much it may cost.

    Attributes:
        bottom, top: ranges of rho of the deepest layer and of what the layers approach; none leaves it at 1.
        methods: ranges of the parameters of other methods on the skips, searched one after the other.
        skip_method: what acts on the skips from the beginning, as `skip.methods.table.parse_methods` reads it.
        time: compare the orders in time at the coefficients found.
        points: of the grid over a range.
        images: of each point in the first round.
        budget: images in all, of each of bottom, top, time and each range of methods.
        precision: the error of rho with which a search ends early.
    Raises:
        ValueError: if a range cannot be searched, or the budget is too small.
    """

    bottom: tuple[float, float] | None = (0.6, 1.0)
    top: tuple[float, float] | None = None
    methods: tuple[Range, ...] = ()
    skip_method: str | None = None
    time: bool = False
    points: int = 7
    images: int = 500
    budget: int = 6000
    precision: float | None = None

    def __post_init__(self) -> None:
        if self.time and len(TIMES) * self.images > self.budget:
            raise ValueError(
                f"three orders in time of {self.images} images are more than the budget {self.budget}"
            )
        if self.points * self.images > self.budget:
            raise ValueError(
                f"{self.points} points of {self.images} images are more than the budget of {self.budget}"
            )
        ranges = [(one.low, one.high) for one in self.methods]
        for ends in (self.bottom, self.top, *ranges):
            if ends is not None:
                even_grid(*ends, self.points)
        if self.bottom is None and self.top is None and not ranges:
            raise ValueError("there is nothing to search: give a range of rho or of a method")

    @property
    def farthest_methods(self) -> str | None:
        """What acts on the skips with each parameter at an end of its range where it is not 1."""
        parameters, _ = parse_ranges(self.skip_method or "")
        for one in self.methods:
            end = one.low if one.high == 1 else one.high
            parameters.setdefault(one.method, {})[one.parameter] = end
        return written(parameters) or None


def baseline_cell(
    source: ImageSource, metric: str, detector: str, reference: str, data: str | None
) -> Images:
    """The cell of a network and a sampler, plain and of two seeds, that measures one metric.

    Args:
        source: what samples, without Skip-Tuning.
        metric: a key of `metrics.names.QUANTITIES` that judges images.
        detector: its feature network.
        reference, data: statistics of the real images, and these images themselves, for metrics that need them.
    Raises:
        ValueError: if the metric judges no images, needs data and there are none, or the source has a setting that
            cells lack.
    """
    if not QUANTITIES[metric].judges:
        raise ValueError(
            f"{metric} does not say how good images are, so that none is best by it; search another metric"
        )
    measured = metric_of(metric)
    cell = Images(
        network=source.network,
        dtype=source.dtype,
        sampler=source.sampler,
        labels=source.labels,
        guidance=source.guidance,
        guide_rho=source.guide_rho,
        guidance_sigma=source.guidance_sigma,
        seeds="0-1",
        detector=detector,
        reference=reference,
        data=data,
        metrics=(measured.name,),
        groups=0 if measured.by_image else GROUPS,
    )

    made = cell.source()
    for field in fields(source):
        value = getattr(source, field.name)
        if getattr(made, field.name) != value:
            raise ValueError(
                f"a search cannot have {field.name} = {value}: cells of tables.py lack it; leave it out"
            )
    return cell


class Search:
    """A search, its cells and its folder.

    What it holds of the cells is on every rank, so that all decide alike.

    Args:
        baseline: the cell without Skip-Tuning.
        metric: a key of `metrics.names.QUANTITIES` that judges images.
        folder: gets scale.json, tune.json and, in `features`, what the images' features are; may be removed at the end.
        results: of the cells.
        device: of this rank.
        batch: images at a time.
        compile: torch.compile the network.
    """

    def __init__(
        self,
        baseline: Images,
        metric: str,
        folder: Path,
        results: Results,
        device: torch.device,
        batch: int,
        compile: bool = False,
    ) -> None:
        self.baseline, self.metric, self.folder, self.results = baseline, metric, folder, results
        self.device, self.batch, self.compile = device, batch, compile
        self.maximise = QUANTITIES[metric].higher_is_better
        self.stages: dict[str, list[Round]] = {}
        self.made: dict[str, int] = {}  # settings without seeds -> images

    def run(self, asked: SearchSettings) -> dict[str, Any]:
        """Search, and write the files.

        Returns:
            The summary, as JSON.
        Raises:
            ValueError, OSError, RuntimeError: as `skip.search.search.search` and the cells.
        """
        far = replace(self.baseline, skip_method=asked.farthest_methods)
        replace(far, seeds=f"0-{asked.images - 1}").check()
        warnings = self._warnings(asked)
        alone = claim(self.folder) if distributed.rank() == 0 else contextlib.nullcontext()
        with alone:
            if distributed.rank() == 0:
                self.begin(asked)
            return self._run(asked, warnings)

    def _warnings(self, asked: SearchSettings) -> list[str]:
        """What the numbers asked for make uncertain; said at once, as the search takes long."""
        detector = load_detector(self.baseline.detector, "cpu")
        dims = {"fid": detector.feature_dim, "sfid": getattr(detector, "spatial_dim", 0)}
        dim = dims.get(self.metric, 0)  # of a covariance
        if asked.images > dim:
            return []
        text = (
            f"{asked.images} images of each point are no more than the {dim} features of {detector.name}: "
            f"covariances are singular, and the {QUANTITIES[self.metric].label} is too large by an amount that may "
            "depend on rho; take several times as many (--num, --budget)"
        )
        warn(text)
        return [text]

    def begin(self, asked: SearchSettings) -> None:
        """Record what is searched, unless the folder says it already.

        Raises:
            ValueError: if the folder is of another search, or what it says cannot be read.
        """
        path = self.folder / RECORD
        now = json.loads(json.dumps(self.about(asked)))
        if not path.exists():
            write_json(path, now, checksum=True)
            return

        try:
            before = read_json_object(path, "remove it, or choose another --outdir", MOST_BYTES)
            found = [_differences(before[name], now[name]) for name in ("settings", "asked")]
            found.append(_differences({"metric": before["metric"]}, {"metric": now["metric"]}))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({reason(error)}); remove it, or choose another --outdir"
            ) from error

        different = ", ".join(text for text in found if text)
        if different:
            raise ValueError(
                f"{self.folder} is of a search with {printable(different)}; choose another --outdir"
            )

    def about(self, asked: SearchSettings) -> dict[str, Any]:
        """Metric, settings and what was asked for, as JSON."""
        said = record_of(self.baseline)
        settings = {
            name: value for name, value in said.items() if name not in SKIP_SETTINGS | {"seeds"}
        }
        wanted = {name: value for name, value in asdict(asked).items() if value not in (None, ())}
        return {"metric": self.metric, "settings": settings, "asked": wanted}

    def _run(self, asked: SearchSettings, warnings: list[str]) -> dict[str, Any]:
        best, report = self._best(asked)

        # What it cost is counted by the images that were made, whatever round they served.
        images = sum(self.made.values())
        cost = {
            "images": images,
            "evaluations": images * self.baseline.evaluations() // self.baseline.count,
        }
        about = self.about(asked)
        told = {"warnings": warnings} if warnings else {}
        summary = {
            name: short(part) if isinstance(part, dict) else part for name, part in report.items()
        }

        if distributed.rank() == 0:
            write_json(self.folder / RECORD, about | report | {"cost": cost} | told, checksum=True)
            found = {name: one for name, one in summary.items() if name != "skip_method"}
            provenance = {name: about[name] for name in ("metric", "settings")} | found | told
            save_scale(self.folder / "scale.json", best.scale, best.skip_method, **provenance)
        return {
            "scale": str(self.folder / "scale.json"),
            "metric": self.metric,
            **summary,
            **cost,
            **told,
        }

    def _best(self, asked: SearchSettings) -> tuple[Images, dict[str, Any]]:
        """The cell with the best coefficients, found one after the other, and how they were found, as JSON."""
        best = replace(self.baseline, skip_method=asked.skip_method)
        report: dict[str, Any] = {}
        for name, ends in (("bottom", asked.bottom), ("top", asked.top)):
            if ends is not None:
                rounds = self.stages[name] = self._search(best, name, ends, asked)
                best = _at(best, name, round(rounds[-1].best.rho, DIGITS))
                report[name] = stage(rounds)

        for one in asked.methods:
            rounds = self._search(best, one, (one.low, one.high), asked)
            self.stages[f"{one.method}:{one.parameter}"] = rounds
            best = _at(best, one, round(rounds[-1].best.rho, DIGITS))
            report[f"{one.method}:{one.parameter}"] = stage(rounds)
        if best.skip_method is not None:
            report["skip_method"] = best.skip_method

        if asked.time:
            last = list(self.stages.values())[-1]
            images = min(asked.budget // len(TIMES), last[-1].images)
            found = self._measure([_with(best, time=time) for time in TIMES], images)
            chosen = TIMES[clearly_better(found, self.maximise)]
            best = _with(best, time=chosen)
            report["time"] = orders(chosen, images, found)
        return best, report

    def _search(
        self, best: Images, what: str | Range, ends: tuple[float, float], asked: SearchSettings
    ) -> list[Round]:
        """The rounds over one coefficient, "bottom" or "top", or one parameter of a method."""

        def measure(rhos: Sequence[float], images: int) -> list[Estimate]:
            return self._measure([_at(best, what, rho) for rho in rhos], images)

        low, high = ends
        return search(
            measure,
            low,
            high,
            asked.points,
            asked.images,
            asked.budget,
            asked.precision,
            self.maximise,
        )

    def _measure(self, studies: Sequence[Images], images: int) -> list[Estimate]:
        """The metric of the seeds 0 to images - 1 of each."""
        cells = []
        for one in studies:
            self.made[repr(one)] = max(images, self.made.get(repr(one), 0))
            cells.append(
                Cell("images", replace(one, seeds=f"0-{images - 1}"), _told_apart(one, images))
            )
        run_cells(
            cells, self.results, self.device, self.batch, self.folder / "features", self.compile
        )
        return self._shared(cells)

    def _shared(self, cells: list[Cell]) -> list[Estimate]:
        """The metric of cells that are done, from rank 0: other machines may not see its files."""
        found = [self._estimate(cell) for cell in cells] if distributed.rank() == 0 else []
        # As many as the metric gives of these seeds, which all cells have in common.
        known = len(found[0].blocks) if found else 0
        blocks = int(distributed.all_reduce_sum(torch.tensor(known, device=self.device)))
        rows = torch.zeros(len(cells), 2 + blocks, dtype=torch.float64, device=self.device)
        for row, one in zip(rows, found, strict=False):
            numbers = [one.value, one.error or 0.0, *one.blocks]
            row.copy_(torch.tensor(numbers, dtype=torch.float64))
        return [
            Estimate(row[0], row[1], tuple(row[2:]))
            for row in distributed.all_reduce_sum(rows).tolist()
        ]

    def _estimate(self, cell: Cell) -> Estimate:
        """The metric of a cell that is done; how many blocks it has is its own matter."""
        found = self.results.read(cell)
        one = found.values.get(resolve(self.metric, found.values) or self.metric)
        if one is None or not one.blocks:
            raise ValueError(
                f"{found.path} lacks {self.metric} with blocks of seeds; remove it and start again"
            )
        return one


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Which settings of a search were others: "points=7 (now 5)"; not those that may be added to it."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        added = name in ("top", "time") and not old
        if old != new and name not in GROWING and not added:
            found.append(f"{name}={old} (now {new})")
    return ", ".join(found)


def _with(study: Images, **changed: Any) -> Images:
    """The study with some fields of its scale changed."""
    return replace(study, scale=replace(study.scale, **changed))


def _at(study: Images, what: str | Range, value: float) -> Images:
    """The study at a value of a coefficient of its scale, or of a parameter of its methods."""
    if isinstance(what, str):
        return _with(study, **{what: value})
    parameters, _ = parse_ranges(study.skip_method or "")
    parameters.setdefault(what.method, {})[what.parameter] = value
    return replace(study, skip_method=written(parameters))


def _told_apart(study: Images, images: int) -> dict[str, Any]:
    """What tells the cells of a search from each other, said while they are measured."""
    scale = study.scale
    found: dict[str, Any] = {"rho": scale.bottom}
    if scale.top != 1:
        found["top"] = scale.top
    if scale.time != "constant":
        found["time"] = scale.time
    if study.skip_method:
        found["skip_method"] = study.skip_method
    return found | {"images": images}
