"""The TOML files of tables and figures: all of ours are right, and wrong ones are refused by name."""

import re
from pathlib import Path
from typing import Any

import pytest

from sampling.sigmas import edm
from skip.evidence.estimate import Estimate
from skip.tables.cells.generated import Generated
from skip.tables.item import nfe, setting
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome, Results, key
from skip.tables.show.plots import plot
from skip.tables.show.verdicts import verdicts
from skip.tables.spec import CONFIGS, item_names, load_item
from training.checkpoint import load_network
from training.families.latent.discrete import NoiseTable

PROFILES = """
[demo]
network = "demo"
detector = "demo"
reference = "ref.npz"
seeds = "0-3"

[paper]
network = "edm-imagenet-64x64-cond-adm"
detector = "inception-2015-12-05"
reference = "https://example.org/ref.npz"
seeds = "0-49999"
"""
HEAD = 'title = "T"\nsource = "S"\nstudy = "images"\n'


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    return tmp_path


def written(configs: Path, text: str, **options: Any) -> Any:
    (configs / "table9.toml").write_text(HEAD + text)
    return load_item("table9", options.pop("profile", "demo"), folder=configs, **options)


@pytest.mark.parametrize("profile", ["demo", "paper"])
@pytest.mark.parametrize("name", item_names())
def test_our_items_are_right(name: str, profile: str) -> None:
    item = load_item(name, profile)
    assert (item.requires is None) == bool(item.cells)
    for cell in item.cells:
        assert (cell.settings.evaluations() > 0) == (cell.study not in ("bands", "schedule"))
        assert cell.study == "bands" or cell.settings.sources()["network"]
    for published in (p for cell in item.cells for p in cell.published):
        assert published.where


@pytest.mark.parametrize("profile", ["demo", "paper"])
@pytest.mark.parametrize("name", item_names())
def test_claims_and_plots_fit_the_cells_once_these_are_measured(name: str, profile: str) -> None:
    item = load_item(name, profile)
    metrics = {metric for claim in item.claims for metric in claim.metrics or (claim.metric,)}
    metrics |= set(item.plot.y if item.plot else ())
    outcomes = []
    for number, cell in enumerate(item.cells):
        values = {metric: Estimate.plain(1 + number % 7, 0.1) for metric in metrics}
        values |= {f"{metric}[0]": value for metric, value in values.items()}
        outcomes.append(Outcome(cell, "done", Path(key(cell)), values))

    measured = MeasuredItem(item, tuple(outcomes))
    for judged in verdicts(measured):  # a claim that does not fit is a ValueError
        assert judged.seen is not None and judged.rows, judged.says
    assert (plot(measured) is None) == (item.plot is None or item.requires is not None)


def test_every_sampler_of_the_demo_profile_fits_its_network() -> None:
    asked = {}
    for name in item_names():
        for cell in load_item(name, "demo").cells:
            if isinstance(cell.settings, Generated):
                asked[cell.settings.network, cell.settings.sampler] = name

    networks = {network: load_network(network, "cpu") for network, _ in asked}
    assert {"demo", "demo-ldm", "demo-uvit"} <= networks.keys()
    for (network, sampler), name in asked.items():
        assert sampler.nodes(networks[network]).numel() >= 1, (name, network, sampler)


def test_the_latent_networks_have_settings_of_their_own(tmp_path: Path) -> None:
    cells: Any = load_item("table7", "paper").cells
    costs = {"ldm4-imagenet-256": 2 * 10, "uvit-h2-imagenet-256": 2 * 50}
    grids = {"ldm4-imagenet-256": "ddim", "uvit-h2-imagenet-256": "timesteps"}
    for network in costs:
        own = [c for c in cells if c.settings.network == network]
        assert {nfe(c) for c in own} == {costs[network]}
        assert {setting(c, "sigmas") for c in own} == {"logsnr", grids[network]}
    assert {c.settings.network for c in cells} == costs.keys()
    stated = {
        (c.settings.network[:3], setting(c, "rho")): p.value for c in cells for p in c.published
    }
    assert stated == {
        ("ldm", 1.0): 4.91,
        ("ldm", 0.78): 4.67,
        ("ldm", 0.95): 4.67,
        ("uvi", 1.0): 2.31,
    } | {("uvi", 0.82): 2.21}
    item = load_item("table10", "paper")
    measured = MeasuredItem.read(item, Results(tmp_path))
    timed = [outcome for outcome in measured.outcomes if setting(outcome.cell, "time_range")]
    assert len(timed) == 4
    for outcome in timed:
        network = setting(outcome.cell, "network")
        betas = {"ldm4-imagenet-256": (0.0015, 0.0195), "uvit-h2-imagenet-256": (0.00085, 0.012)}[
            network
        ]
        levels = NoiseTable("scaled_linear", *betas).levels
        assert setting(outcome.cell, "time_range") == pytest.approx(
            (float(levels[0]), float(levels[-1])), rel=1e-5
        )
        baseline = measured.baseline(outcome)
        assert baseline is not None and setting(baseline.cell, "network") == network


@pytest.mark.parametrize(
    "profile, names",
    [("demo", {"demo-ldm", "demo-uvit"}), ("paper", {"ldm4-imagenet-256", "uvit-h2-imagenet-256"})],
)
def test_the_latent_networks_have_both_readings_of_the_time_axis(
    profile: str, names: set[str]
) -> None:
    item = load_item("table10", profile)
    timed = [cell for cell in item.cells if setting(cell, "axis") == "time"]
    assert {(setting(cell, "network"), setting(cell, "time")) for cell in timed} == {
        (name, time) for name in names for time in ("increasing", "decreasing")
    }
    assert all("time_range" not in cell.determined_by[1] for cell in timed)

    claimed = [(c.match or {}) for c in item.claims if c.says.endswith("linear in its own time")]
    assert [match["network"] for match in claimed] == sorted(names)
    assert {match["axis"] for match in claimed} == {"time"}


BESIDE = {"background", "bias", "calibrate_latent", "calibrate_unipc", "edm2", "guidance", "rivals"}


def test_there_is_an_item_for_everything_in_the_paper() -> None:
    names = item_names()
    assert names[:15] == [f"table{n}" for n in range(1, 16)]
    assert {f"figure{n}" for n in range(2, 16)} | {"appendix-c", *BESIDE} == set(names[15:])
    assert names.index("figure9") < names.index("figure10")


def test_windows_are_of_equally_many_levels() -> None:
    """Their bounds lie half a step between nodes, so that rounding moves none into another window."""
    for profile, levels, size in (("paper", 52, 4), ("demo", 12, 2)):
        found = [
            setting(c, "window")
            for c in load_item("figure7", profile).cells
            if setting(c, "rho") != 1
        ]
        steps = edm(levels, 0.002, 80.0) ** (1 / 7)
        between = ((steps[:-1] + steps[1:]) / 2) ** 7
        bounds = [1000.0, *between[size - 1 :: size].tolist(), 0.0]
        assert len(found) == levels // size
        for window, high, low in zip(found, bounds[:-1], bounds[1:], strict=True):
            assert window == pytest.approx((low, high), rel=1e-5)


def test_lists_make_every_combination(configs: Path) -> None:
    item = written(
        configs, '[[cells]]\nsteps = [2, 3]\nrho = [1.0, 0.8, 0.6]\nmetrics = ["fid", "is"]\n'
    )
    assert [tuple(cell.varies.values()) for cell in item.cells] == [
        (s, r) for s in (2, 3) for r in (1.0, 0.8, 0.6)
    ]
    assert all(cell.settings.metrics == ("fid", "is") for cell in item.cells)


def test_profile_overrides_item_overrides_defaults(configs: Path) -> None:
    text = '[settings]\nsteps = 5\nseeds = "0-9"\n[paper.settings]\nsteps = 7\n'
    text += "[[cells]]\nrho = 0.9\n[[demo.cells]]\nrho = 0.5\n"
    demo, paper = written(configs, text), written(configs, text, profile="paper")
    assert (setting(demo.cells[0], "steps"), setting(demo.cells[0], "rho")) == (5, 0.5)
    assert (setting(paper.cells[0], "steps"), setting(paper.cells[0], "rho")) == (7, 0.9)
    assert demo.cells[0].settings.seeds == "0-9"
    assert demo.cells[0].settings.detector == "demo"
    assert written(configs, text, seeds="5-6").cells[0].settings.seeds == "5-6"
    text = '[[cells]]\nsteps = [5, 7]\nseeds = ["0-3", "4-9"]\n'
    assert len(written(configs, text).cells) == 4
    of_one_range = written(configs, text, seeds="5-6").cells
    assert [cell.varies for cell in of_one_range] == [{"steps": 5}, {"steps": 7}]


def test_published_values_stand_at_their_cells_in_the_paper_profile(configs: Path) -> None:
    text = "[[cells]]\nrho = [1.0, 0.8]\n[[published]]\nmatch = { rho = 0.8 }\n"
    text += 'metric = "fid"\nvalue = 1.5\nwhere = "Figure 1"\n'
    first, second = written(configs, text, profile="paper").cells
    assert first.published == ()
    assert [(p.metric, p.value, p.where) for p in second.published] == [("fid", 1.5, "Figure 1")]
    assert all(cell.published == () for cell in written(configs, text).cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ("[[cells]]\nrhoo = 1.0", "unknown setting 'rhoo'"),
        ("[[cells]]\nrho = 1.0\n[demo]\ncell = 1", "unknown key 'cell'"),
        ('[[cells]]\nsampler = "hein"', "unknown sampler 'hein'"),
        ('[[cells]]\nmetrics = ["fib"]', "unknown metric 'fib'"),
        ('[[cells]]\nmetrics = ["kid"]', "name the real ones as data"),
        (
            '[[cells]]\nacross = "sideways"',
            "across is 'sideways'; it must be one of bottom-to-one, constant",
        ),
        ('[[cells]]\nseeds = "a"', "a"),
        ("[[cells]]\nrho = inf", "finite"),
        ("this is not toml", "not valid TOML"),
        ('[plot]\nx = "rhoo"\ny = ["fid"]', "[plot] names 'rhoo'"),
        ('[plot]\nx = "rho"\ny = ["fid"]\nseries = ["step"]', "[plot] names 'step'"),
    ],
)
def test_wrong_files_are_refused_by_name(configs: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        written(configs, text)
    assert "table9.toml" in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ('cells = [{rho = "x"}]', "rho is 'x'; it must be a number"),
        ("cells = [{rho = nan}]", "rho is nan; it must be a number"),
        ("cells = [{rho = 2026-11-26}]", "rho is of the type date; it must be a number"),
        ("cells = [{steps = 5.5}]", "steps is 5.5; it must be a whole number"),
        ("cells = [{seeds = 7}]", "seeds is 7; it must be a text"),
        ("cells = []", "it has no cells in the profile demo: let requires say"),
        ('settings.metrics = "fid"', "metrics is 'fid'; it must be a list, each of it a text"),
        ('cells = [{window = [["a", "b"]]}]', "window is of the type list; it must be a list of 2"),
        ("plot = [1]", "[plot] is of the type list, no table"),
        ('plot = {x = "rho", y = "fid"}', "y is 'fid'; it must be a list"),
        ("cells = 3", "table9.toml"),
        ('settings = "a"', "table9.toml"),
        ("claims = [7]", "[claim] is 7, no table"),
        ("notes = 7", "notes is 7; it must be a list, each of it a text"),
        ("demo.requires = 1", "requires is 1; it must be a text or absent"),
        (
            f"[[cells]]\nsteps = {list(range(1, 201))}\nrho = {[0.5] * 200}",
            "makes 40,000 combinations; an item may have",
        ),
    ],
)
def test_values_of_another_type_are_refused_by_file_key_and_value(
    configs: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        written(configs, text)
    assert "table9.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_of_a_profile_is_refused(configs: Path) -> None:
    (configs / "profiles.toml").write_text(
        PROFILES.replace('seeds = "0-49999"', 'sedes = "0-49999"')
    )
    with pytest.raises(
        ValueError, match=r"profiles.toml, \[paper\]: no study has a setting 'sedes'"
    ):
        written(configs, "")


def test_profiles_that_are_no_utf8_are_named(configs: Path) -> None:
    (configs / "profiles.toml").write_bytes(PROFILES.encode("utf-16"))
    with pytest.raises(ValueError, match=r"profiles.toml is not valid TOML"):
        written(configs, "")


def test_published_value_without_a_cell_is_refused(configs: Path) -> None:
    text = '[[cells]]\nrho = 1.0\n[[published]]\nmatch = { rho = 0.5 }\nmetric = "fid"\nvalue = 1.5\nwhere = "x"\n'
    with pytest.raises(ValueError, match=r"no cell matches the published value 1.5"):
        written(configs, text, profile="paper")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "match = {}\nmetric = []\nvalue = 1\nwhere = 'x'",
            "metric is of the type list; it must be a text",
        ),
        (
            "match = {}\nmetric = 'fid'\nvalue = '1'\nwhere = 'x'",
            "value is '1'; it must be a number",
        ),
        (
            "match = 3\nmetric = 'fid'\nvalue = 1\nwhere = 'x'",
            "match is 3; it must be a table of settings",
        ),
    ],
)
def test_published_values_of_another_type_are_refused(
    configs: Path, entry: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        written(configs, f"[[published]]\n{entry}\n", profile="paper")


def test_missing_items_and_profiles_are_answered_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"no item 'table99'; choose from table1"):
        load_item("table99", "demo")
    with pytest.raises(ValueError, match=r"unknown profile 'huge'; choose from paper, demo"):
        load_item("table2", "huge")


def test_what_table_5_needs_of_unipc_is_measured_for_figure_4() -> None:
    unipc = {
        Results(Path()).path(c)
        for c in load_item("table5", "demo").cells
        if setting(c, "sampler") == "unipc"
    }
    assert unipc and unipc <= {
        Results(Path()).path(cell) for cell in load_item("figure4", "demo").cells
    }


def test_the_folder_of_items_is_ours() -> None:
    assert (CONFIGS / "networks.toml").exists()


HEUN = 'sampler = "heun"\nsteps = 18\nS_min = 0.05\nS_max = 50.0\n'


TWO_UNIPC = '[[cells]]\nsampler = "unipc"\n'
TWO_HEUN = '[[cells]]\nsteps = 2\n[[cells]]\nsigmas = "80,0.002"\n'


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        # EDM's cap: S_churn / 18 above sqrt(2) - 1 = 0.414 is 0.414.
        (
            HEUN + "S_churn = [0.0, 5.0, 10.0, 20.0]",
            "cells 2 and 3 measure the same: S_churn = 10.0 and S_churn = 20.0; leave one out",
        ),
        (HEUN + "S_churn = 0.0\nS_noise = [1.0, 1.003]", "S_noise = 1.0 and S_noise = 1.003"),
        (HEUN + "S_churn = 5.0\nexponent = [7.0, 7.0]", "cells 0 and 1 are the same"),
        (TWO_UNIPC + TWO_UNIPC + "order = 3", "order = None and order = 3"),
        (TWO_HEUN, "cells 0 and 1 measure the same: steps = 2, sigmas = None and"),
    ],
)
def test_cells_that_measure_the_same_are_refused(configs: Path, cells: str, told: str) -> None:
    text = cells if cells.startswith("[[") else f"[[cells]]\n{cells}"
    with pytest.raises(ValueError, match=re.escape(told)):
        written(configs, text)


def test_cells_that_differ_below_the_cap_or_in_rho_are_let_pass(configs: Path) -> None:
    assert len(written(configs, f"[[cells]]\n{HEUN}S_churn = [0.0, 5.0, 7.0, 10.0]").cells) == 4
    across = 'across = ["constant", "bottom-to-one"]'
    assert len(written(configs, f"[[cells]]\nrho = [1.0, 0.8]\n{across}").cells) == 4
    assert len(written(configs, '[[cells]]\nsigmas = ["edm", "ddim", "timesteps"]').cells) == 3


def test_what_others_state_is_not_the_papers(configs: Path) -> None:
    text = "[[cells]]\nrho = [1.0, 0.8]\n[[quoted]]\nmatch = { rho = 1.0 }\n"
    text += 'metric = "fid"\nvalue = 1.96\nby = "EDM"\nwhere = "Karras"\n'
    first, second = written(configs, text, profile="paper").cells
    assert [(q.value, q.by, q.where) for q in first.quoted] == [(1.96, "EDM", "Karras")]
    assert first.published == second.quoted == second.published == ()
    with pytest.raises(ValueError, match="by"):
        written(configs, text.replace('by = "EDM"\n', ""), profile="paper")
