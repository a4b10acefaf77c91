"""What the tables plan: rows, settings, modes and files, and that what was recorded still counts as done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atrank_lib import RECIPES, EventLog, GroupedHistories, Schema
from atrank_lib.multitask import Mode
from atrank_lib.runs import MODELS
from atrank_lib.training import RecipeName
from atrank_lib.variants import ORIGINAL
from experiments.baselines import RULES
from experiments.cells import is_finished
from experiments.cost import parameters
from experiments.models import CAME_AFTER, COMPARED, config
from experiments.plans import Cell, plan
from experiments.records import ExperimentError, Profile, read_record
from experiments.tables import DIFFERENCES, EVERY_MODE, FACTORIAL, MODES, PAPER_TO_CODE, READERS, SWITCHES, TABLES
from experiments.tasks import TaskRecipe
from tests.random_logs import random_log
from tools.project import ROOT

RESULTS = ROOT / "results"

VARIANTS = {
    "no-time": (["din", "atrank"], {"time"}),
    "normalized": (["din"], {"normalized"}),
    "raw": (["atrank"], {"told"}),
    "raw-alone": (["atrank"], {"told", "blocks"}),
}


def mode_of(cell: Cell) -> Mode:
    assert cell.mode is not None
    return cell.mode


def test_every_model_is_compared():
    assert {*COMPARED, *CAME_AFTER} == {"popularity", "last-category", *MODELS}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_change_their_options_and_leave_out_models_without_them(log, tmp_path, variant):
    models, (those, options) = ["popularity", "bpr-mf", "din", "atrank"], VARIANTS[variant]
    plain = {cell.name: cell.settings() for cell in plan("table3", log, tmp_path, models, seeds=1)}
    cells = plan(f"table3-{variant}", log, tmp_path, models, seeds=1)
    assert [cell.name for cell in cells] == those
    for cell in cells:
        assert cell.files == {"": tmp_path / f"table3-{variant}" / "random" / f"{cell.name}-seed0.json"}
        before, after = plain[cell.name], cell.settings()
        assert {name for name in after["options"] if after["options"][name] != before["options"][name]} == options
        assert {**after, "options": None} == {**before, "options": None}


def test_without_a_search_the_modern_recipe_is_used_and_said(log, tmp_path):
    for cell in plan("table3", log, tmp_path, seeds=2, epochs=5):
        assert cell.chosen_by == "modern recipe, no search"
        assert cell.recipe == TaskRecipe(**RECIPES["modern"].model_dump() | {"epochs": 5})
    (cell,) = plan("table5", log, tmp_path, ["all2all"], seeds=1, recipe="small", epochs=8)
    assert (cell.chosen_by, cell.recipe) == ("small recipe, no search", TaskRecipe(**RECIPES["small"].model_dump()))
    assert cell.options["hidden"] == 64


def test_worlds_have_the_recipe_of_the_recorded_marketplace(log, tmp_path):
    """What PROTOCOL.md promises: the marketplace's recipe, three seeds; all groups are read and predicted."""
    recorded = read_record(RESULTS / "table5/simulated_marketplace/all2all-item-seed0.json")
    cells = plan("worlds", log, tmp_path)
    assert {cell.name: cell.seed for cell in cells} == {n: 0 if n in RULES else 2 for n in TABLES["worlds"].rows}
    for cell in cells:
        assert (cell.mode, cell.chosen_by) == (None, recorded["chosen_by"])
        assert cell.recipe == TaskRecipe.model_validate(recorded["recipe"] | cell.row.recipe)
    (plain,) = (cell for cell in cells if cell.label == "atrank-seed0")
    assert config("atrank", plain.options) == config("atrank", recorded["options"])


def test_a_floor_needs_one_seed(log, tmp_path):
    cells = plan("table3", log, tmp_path, ["popularity", "cnn"], seeds=3)
    assert [cell.label for cell in cells] == ["popularity-seed0", "cnn-seed0", "cnn-seed1", "cnn-seed2"]
    cells = plan("table5", log, tmp_path, ["starts-now"], seeds=3, targets=["coupon"])
    assert [cell.label for cell in cells] == ["starts-now-coupon-seed0"]


def test_the_paper_s_recipe_has_no_dropout(log, tmp_path):
    (cell,) = plan("table3-paper-recipe", log, tmp_path, ["atrank"], seeds=1, epochs=5)
    assert (cell.options, cell.chosen_by) == ({}, "the paper")
    assert cell.recipe == TaskRecipe(**RECIPES["paper"].model_dump())


@pytest.fixture
def items(log: EventLog) -> EventLog:
    """The items of the log alone, which have an object_id among their features, as queries have not."""
    schema = Schema(name="one", groups={"item": log.schema.groups["item"]})
    return EventLog.from_tables(schema, {"item": log.events["item"]}, {"item": log.objects["item"]})


def test_every_row_differs_from_every_other(log, items, tmp_path):
    of_items = {"switches": SWITCHES, "original": PAPER_TO_CODE, "factorial": FACTORIAL}
    of_groups = {"table5": MODES, "modes": EVERY_MODE}
    every = [(t, rows, on) for some, on in ((of_items, items), (of_groups, log)) for t, rows in some.items()]
    for table, rows, on in every:
        cells = plan(table, on, tmp_path, seeds=1)
        assert {cell.name for cell in cells} == set(rows)
        said = {json.dumps([cell.settings() | {"row": None}, str(cell.row.log)], sort_keys=True) for cell in cells}
        assert len(said) == len(cells)
        assert len({file for cell in cells for file in cell.files.values()}) == sum(len(cell.files) for cell in cells)
    assert SWITCHES["original-code"].options == {
        "attention": "dot",
        "time": "one_hot",
        "target_residual": True,
        "object_bias": True,
        "linear_projection": True,
        "residual": "attended",
    }
    assert SWITCHES["original-code"].recipe == {"loss": "pointwise", "negatives": 1, "redraw_negatives": False}


def test_the_way_from_the_paper_to_the_code_is_one_difference_at_a_time(items, tmp_path):
    cells = {cell.name: cell.settings() for cell in plan("original", items, tmp_path, seeds=1)}
    paper, code = ({**cells[end]["options"], **cells[end]["recipe"]} for end in ("paper", "code"))
    between = {name for name in paper if paper[name] != code[name]}
    changed: set[str] = set()
    for difference in DIFFERENCES:
        there, back = (cells[f"{end}-{difference}"] for end in ("paper-with", "code-without"))
        added = {n for n, v in {**there["options"], **there["recipe"]}.items() if v != paper[n]}
        taken = {n for n, v in {**back["options"], **back["recipe"]}.items() if v != code[n]}
        assert added == taken
        assert added
        assert not added & changed  # no setting is two differences
        changed |= added
    # without any dropout it does not matter on what it acts
    assert between == changed | {"dropout_on"}
    assert {name: code[name] for name in ORIGINAL} == ORIGINAL
    assert {name: code[name] for name in SWITCHES["original-code"].recipe} == SWITCHES["original-code"].recipe


def test_cells_of_the_factorial_have_the_parameters_of_the_first(items, tmp_path):
    """As near as a width that is divisible by 8 allows: another one is farther off."""
    cells = plan("factorial", items, tmp_path, seeds=3)
    assert len(cells) == 3 * 16
    vocabularies = GroupedHistories.from_log(items).vocabularies

    def rest(cell: Cell, more: int = 0) -> int:
        options = config("atrank", {**cell.options, "hidden": cell.options["hidden"] + more})
        return parameters(MODELS["atrank"].build(items.schema, vocabularies, options))["rest"]

    first, *others = (cell for cell in cells if cell.seed == 0)
    wanted = rest(first)
    assert first.options["hidden"] == 128
    assert first.options.keys() - {"hidden"} == plan("original", items, tmp_path, ["paper"])[0].options.keys()
    for cell in others:
        assert abs(rest(cell) - wanted) <= min(abs(rest(cell, more) - wanted) for more in (-8, 8))
        assert cell.settings()["variation"] == "third"


def test_a_mode_has_a_record_for_every_target(log, tmp_path):
    one, two, three, everything = plan("table5", log, tmp_path, ["one2one", "all2all"], seeds=1)
    assert [mode_of(cell).name for cell in (one, two, three)] == ["item2item", "query2query", "coupon2coupon"]
    assert everything.label == "all2all-item-query-coupon-seed0"
    folder = tmp_path / "table5" / "random"
    assert everything.files == {group: folder / f"all2all-{group}-seed0.json" for group in log.schema.groups}


def test_with_equal_steps_every_target_has_a_training_of_its_own(log, items, tmp_path, capsys):
    cells = plan("modes-steps", log, tmp_path, seeds=1)
    assert len(cells) == len(READERS) * 2 * 3
    shared = next(cell for cell in cells if cell.label == "din-all2all-query-seed0")
    assert mode_of(shared).targets == ("item", "query", "coupon")
    assert shared.files == {"query": tmp_path / "modes-steps/random/din-all2all-query-seed0.json"}
    assert (shared.chosen_by, shared.recipe.patience) == ("small recipe, no search", 4)
    assert len({cell.label for cell in cells}) == len(cells)
    assert "atrank-all2all-rates" not in {cell.name for cell in plan("modes", items, tmp_path)}
    assert "atrank-all2all-rates: left out, query, coupon cannot be predicted" in capsys.readouterr().err


def test_a_switch_that_needs_a_feature_is_left_out_with_a_line(log, tmp_path, capsys):
    names = {cell.name for cell in plan("switches", log, tmp_path, seeds=1)}
    assert set(SWITCHES) - names == {"object-bias", "original-code"}
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: left out, object_id is no feature of query" for name in ("object-bias", "original-code")
    ]
    with pytest.raises(ExperimentError, match=r"no cells of switches for .*: .* no such mode or feature"):
        plan("switches", log, tmp_path, ["object-bias"])


def test_one_group_has_one_mode(items, tmp_path):
    assert {mode_of(cell).name for cell in plan("table5", items, tmp_path, seeds=1)} == {"item2item"}
    with pytest.raises(ExperimentError, match=r"a log with the groups \['item'\] has no such mode"):
        plan("table5", items, tmp_path, ["all2all"])


def test_a_group_with_short_histories_is_read_and_not_predicted(log, tmp_path):
    events = {**log.events, "coupon": log.events["coupon"].groupby("user_id").head(2)}
    short = EventLog.from_tables(log.schema, events, log.objects)
    cells = plan("table5", short, tmp_path, ["all2one", "all2all"], seeds=1)
    assert {mode_of(cell).name for cell in cells} == {"all2item", "all2query", "all2all"}
    assert all("coupon" in mode_of(cell).histories for cell in cells)
    with pytest.raises(ExperimentError, match=r"targets \['coupon'\]: no user has the four behaviors"):
        plan("table5", short, tmp_path, ["all2one"], targets=["coupon"])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("names", [["atrank", "some2some"], []])
def test_unknown_rows_are_named(log, tmp_path, table, names):
    wrong = r"\[.*'some2some'\]" if names else "none given"
    with pytest.raises(ExperimentError, match=rf"rows of {table}: {wrong}; use some of \['"):
        plan(table, log, tmp_path, names)


@pytest.mark.parametrize("variant", ["no-time", "runner-up", "before-finals"])
def test_a_variant_of_no_model_is_an_error(log, tmp_path, variant):
    with pytest.raises(ExperimentError, match="no such option or finals of these models"):
        plan(f"table3-{variant}", log, tmp_path, ["popularity"])


def test_what_is_recorded_is_finished(monkeypatch: pytest.MonkeyPatch):
    """Every record of a table lies where a cell of its log looks for it, and was made as the cell would be."""
    planned: set[Path] = set()
    files = {file for file in RESULTS.glob("*/*/*.json") if file.parts[-3] in TABLES}
    for folder in sorted({file.parent for file in files}):
        table, records = folder.parent.name, [read_record(file) for file in folder.glob("*.json")]
        fingerprint, epochs = (
            records[0]["data_fingerprint"],
            max((r["recipe"]["epochs"] for r in records if "recipe" in r), default=8),
        )
        log = random_log(4, users=7, behaviors=60, objects=30, times=40)
        groups = sorted({record.get("target", "item") for record in records})
        names = dict(zip(log.schema.groups, groups, strict="target" in records[0]))
        schema = Schema(name=records[0]["data_name"], groups={names[g]: log.schema.groups[g] for g in names})
        parts = ({names[group]: of[group] for group in names} for of in (log.events, log.objects))
        like_it = EventLog.from_tables(schema, *parts)
        monkeypatch.setattr(EventLog, "fingerprint", lambda self, fingerprint=fingerprint: fingerprint)
        profile: Profile = "fast" if folder.name.endswith("-fast") else "full"
        recipe: RecipeName | None = "small" if (table, profile) == ("table5", "full") else None
        cells = plan(table, like_it, RESULTS, profile=profile, epochs=epochs, recipe=recipe)
        there = [cell for cell in cells if all(file.exists() for file in cell.files.values())]
        assert all(is_finished(cell, fingerprint) for cell in there)
        planned |= {file for cell in there for file in cell.files.values()}
    assert planned == files
