"""The paper's tables and figures, for any event log: cells are trained in parallel, recorded, and never run twice."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from atrank_lib.recipes import RECIPES, Recipe, RecipeName
from tqdm import tqdm

from atrank_lib.competitors.floors import FLOORS
from atrank_lib.evaluation import Evaluation, fixed_candidates, paired_difference, user_auc
from atrank_lib.evaluation import evaluate as evaluate_model
from atrank_lib.log.events import EventLog
from atrank_lib.runs import MODELS, OPTIONS, load_run, prepare, train_run
from atrank_lib.samples import history_lengths, split
from experiments import search as searching
from experiments.records import provenance, read_record, record_run, result, slug, unpack, write_record
from experiments.search import some_users

Profile = Literal["fast", "full"]
Variant = Literal["searched", "paper-recipe", "no-time", "normalized", "raw", "raw-alone", "runner-up"]
# variants that change options, for models that have them
VARIANTS: dict[str, dict[str, Any]] = {
    "no-time": {"time": "none"},
    "normalized": {"normalized": True},
    "raw": {"told": "raw"},
    "raw-alone": {"told": "raw", "blocks": 0},
}

# the order of the paper's Table 3, then the others; its numbers for (Electronics, Clothing)
PAPER_TABLE_3 = {
    "bpr-mf": (0.7982, 0.7061),
    "bi-lstm": (0.8757, 0.7869),
    "bi-lstm-attention": (0.8769, 0.7835),
    "cnn": (0.8804, 0.7786),
    "atrank": (0.8921, 0.7905),
}
PAPER_TABLE_1 = {"Electronics": (192_403, 63_001, 801, 1_689_188), "Clothing": (39_387, 23_033, 484, 278_677)}
PAPER_TABLE_2 = {"users": 30_358, "item": 447_878, "query": 111_646, "coupon": 64_388, "average length": 19.8}
PAPER_TABLE_4 = (0.2494, 0.1655, 0.1737, 0.1770, 0.1584, 0.1259, 0.1188)  # from [0, 2) days to [64, 128)
COMPARED = [*FLOORS, "bpr-mf", "wide-deep", "bi-lstm", "bi-lstm-attention", "cnn", "din", "bst", "atrank"]

# what `fast` does instead of a full run: seconds a cell, and recorded as such, beside the full records
FAST_USERS, FAST_EPOCHS, FAST_SIZES = 400, 2, {"embedding_size": 16, "hidden": 32}


class ReproduceError(ValueError):
    """A table cannot be made as asked."""


# what the paper leaves open, or its code does otherwise, one at a time: (options, changes of the recipe)
SWITCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "base": ({}, {}),
    "dot-attention": ({"attention": "dot"}, {}),
    "residual-attended": ({"residual": "attended"}, {}),
    "shared-target-attention": ({"target_attention": "shared"}, {}),
    "target-residual": ({"target_residual": True}, {}),
    "raw-target": ({"ranked": "raw"}, {}),
    "object-bias": ({"object_bias": True}, {}),
    "network-as-f": ({"ranking": "mlp"}, {}),
    "linear-projection": ({"linear_projection": True}, {}),
    "one-hot-time": ({"time": "one_hot"}, {}),
    "no-time": ({"time": "none"}, {}),
    "no-self-attention": ({"blocks": 0}, {}),
    "no-dropout": ({"embedding_dropout": 0.0, "id_dropout": 0.0}, {}),
    "pointwise-loss": ({}, {"loss": "pointwise", "negatives": 1}),
    "negatives-drawn-once": ({}, {"redraw_negatives": False}),
    "original-code": (
        {
            "attention": "dot",
            "time": "one_hot",
            "target_residual": True,
            "object_bias": True,
            "linear_projection": True,
            "residual": "attended",
        },
        {"loss": "pointwise", "negatives": 1, "redraw_negatives": False},
    ),
}


@dataclass(frozen=True)
class Cell:
    """One model trained with one seed, and the file of its record."""

    model: str
    seed: int
    options: dict[str, Any]
    recipe: Recipe
    chosen_by: str
    profile: Profile
    file: Path  # of the record; its stem names the cell

    def records(self) -> list[Path]:
        """The files that finish the cell."""
        return [self.file]

    def settings(self) -> dict[str, Any]:
        """What a record of this cell must agree with."""
        if self.model in FLOORS:
            return {"model": self.model, "profile": self.profile}
        options = MODELS[self.model].Config(**self.options).model_dump(mode="json")
        recipe = self.recipe.model_dump(mode="json")
        return {"model": self.model, "seed": self.seed, "profile": self.profile, "options": options, "recipe": recipe}


def table_folder(out: Path, table: str, log_name: str, profile: Profile) -> Path:
    """Where the records of a table lie; those of the fast profile never mix with full ones."""
    return out / table / (slug(log_name) + ("-fast" if profile == "fast" else ""))


def settings(
    model: str, log_name: str, profile: Profile, out: Path, epochs: int, named: RecipeName | None = None
) -> tuple[dict[str, Any], Recipe, str]:
    """A model's options and recipe, and where they come from: the named recipe, its search, or the modern recipe."""
    fields = set(MODELS[model].Config.model_fields) if model in MODELS else set()
    options = {name: value for name, value in OPTIONS[named or "modern"].items() if name in fields}
    recipe = RECIPES[named or "modern"].model_copy(update={"epochs": epochs})
    chosen_by = f"{named or 'modern'} recipe, no search"
    if profile == "fast":
        options |= {name: value for name, value in FAST_SIZES.items() if name in fields}
        return options, recipe.model_copy(update={"epochs": FAST_EPOCHS, "batch_size": 64}), chosen_by
    found = None if named else searching.chosen(model, log_name, out, epochs)
    return found or (options, recipe, chosen_by)


def plan_switches(log: EventLog, names: list[str], seeds: int, profile: Profile, out: Path, epochs: int) -> list[Cell]:
    """ATRank with one thing changed at a time; the base has the settings of table 3.

    Raises:
        ReproduceError: an unknown switch.
    """
    unknown = [name for name in names if name not in SWITCHES]
    if unknown or not names:
        raise ReproduceError(f"switches {unknown or 'none given'}; use some of {list(SWITCHES)}")
    options, recipe, chosen_by = settings("atrank", log.schema.name, profile, out, epochs)
    folder = table_folder(out, "switches", log.schema.name, profile)
    cells = []
    for name in names:
        changed, training = SWITCHES[name]
        for seed in range(seeds):
            own = recipe.model_copy(update=training)
            cells.append(
                Cell("atrank", seed, options | changed, own, chosen_by, profile, folder / f"{name}-seed{seed}.json")
            )
    return cells


def plan(
    log: EventLog,
    models: list[str],
    seeds: int,
    profile: Profile,
    out: Path,
    epochs: int,
    variant: Variant = "searched",
) -> list[Cell]:
    """The cells of table 3. Settings are the best of the model's search, or those of the modern recipe.

    With another ``variant`` the records lie beside those of table 3: ``paper-recipe`` takes options and training from
    the paper, ``no-time`` the time feature away, ``normalized`` makes DIN's weights sum to one, ``raw`` lets ATRank's
    target read the behaviors as they are, ``raw-alone`` leaves self-attention out besides, ``runner-up`` takes the
    second of the search's finals (models without such an option, or finals, are left out).

    Raises:
        ReproduceError: an unknown model.
    """
    unknown = [name for name in models if name not in (*MODELS, *FLOORS)]
    if unknown or not models:
        raise ReproduceError(f"models {unknown or 'none given'}; use some of {COMPARED}")
    cells = []
    table = "table3" if variant == "searched" else f"table3-{variant}"
    folder = table_folder(out, table, log.schema.name, profile)
    changed = VARIANTS.get(variant, {})
    for model in models:
        if changed and (model in FLOORS or not changed.keys() <= MODELS[model].Config.model_fields.keys()):
            continue
        options, recipe, chosen_by = settings(model, log.schema.name, profile, out, epochs)
        options = {**options, **changed}
        if variant == "runner-up":
            second = searching.chosen(model, log.schema.name, out, epochs, place=1) if profile == "full" else None
            if second is None:
                continue
            options, recipe, chosen_by = second
        if variant == "paper-recipe":
            paper = {} if profile == "full" else {"epochs": FAST_EPOCHS}
            options = {name: value for name, value in options.items() if name in FAST_SIZES}
            recipe, chosen_by = RECIPES["paper"].model_copy(update=paper), "the paper"
        for seed in range(1 if model in FLOORS else seeds):
            cells.append(Cell(model, seed, options, recipe, chosen_by, profile, folder / f"{model}-seed{seed}.json"))
    return cells


def is_finished(cell: Any, fingerprint: str, force: bool) -> bool:
    """Whether all records of a cell (of table 3, the switches or table 5) are there, made in the same way.

    Raises:
        ReproduceError: one was made in another way.
    """
    if force or not all(file.exists() for file in cell.records()):
        return False
    for file in cell.records():
        check_same(file, {**cell.settings(), "data_fingerprint": fingerprint})
    return True


def check_same(file: Path, wanted: Mapping[str, Any]) -> None:
    """Whether a record says what is wanted.

    A setting that came later than the record has its default, which is what was done before there was a choice.

    Raises:
        ReproduceError: it says something else.
    """
    record = read_record(file)
    try:
        if "recipe" in record:
            record["recipe"] = Recipe.model_validate(record["recipe"]).model_dump(mode="json")
        if "options" in record:
            record["options"] = MODELS[record["model"]].Config(**record["options"]).model_dump(mode="json")
    except (ValueError, KeyError) as error:
        raise ReproduceError(f"{file} holds other settings than this version knows ({error}); give --force") from None
    different = [name for name, value in wanted.items() if record.get(name) != value]
    if different:
        raise ReproduceError(
            f"{file} was made with another {', '.join(different)}; give --force to make it again, or another --out"
        )


def run_cell(data: Path, cell: Cell, runs: Path) -> None:
    """Train, test and record one cell, on one thread. A cut-off training goes on from its last epoch."""
    torch.set_num_threads(1)
    log = EventLog.read(data)
    used = some_users(log, FAST_USERS, 0) if cell.profile == "fast" else log
    more = {"profile": cell.profile, "chosen_by": cell.chosen_by}
    if cell.model in FLOORS:
        content = {"model": cell.model, "seed": cell.seed, **result(test_floor(used, cell.model)), **more}
        write_record(cell.file, {**content, "protocol": "validated", **provenance(log)})
        return
    run = runs.joinpath(*cell.file.parts[-3:-1], cell.file.stem)
    train_run(
        used,
        run,
        model=cell.model,
        options=cell.options,
        recipe=cell.recipe,
        seed=cell.seed,
        resume=True,
        progress=False,
    )
    trained = load_run(run)
    histories = trained.histories_of(used)
    test = split(histories, trained.config.protocol, trained.config.targets).test
    record_run(run, trained.config, log, evaluate_model(trained.model, histories, test), cell.file, **more)


def test_floor(log: EventLog, name: str) -> Evaluation:
    """A floor on the same test users and negatives as the models."""
    histories, parts = prepare(log, "validated")
    candidates = fixed_candidates(histories, parts.test)
    aucs = {g: user_auc(s, FLOORS[name](histories, s, candidates[g], parts.train[g])) for g, s in parts.test.items()}
    return Evaluation.of(aucs, negatives=1, seed=0)


def run_cells(
    data: Path, cells: Sequence[Any], runs: Path | None, workers: int, run: Callable[[Path, Any, Path], None] = run_cell
) -> list[str]:
    """Run cells in processes of one thread each; one that fails does not stop the others. Returns what failed.

    An interrupt drops what has not begun; finished cells are recorded, a cut-off one goes on from its last epoch.
    """
    failures = []
    with tempfile.TemporaryDirectory() as scratch, tqdm(total=len(cells), desc="cells") as bar:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(cells)) or 1, mp_context=context) as pool:
            waiting = {pool.submit(run, data, cell, runs or Path(scratch)): cell for cell in cells}
            try:
                for done in as_completed(waiting):
                    error = done.exception()
                    if error is not None:
                        failures.append(f"{waiting[done].file.stem}: {error}")
                    bar.update()
                    bar.set_postfix_str(waiting[done].file.stem)
            except KeyboardInterrupt:
                stop(pool)
                raise
    return failures


def stop(pool: ProcessPoolExecutor) -> None:
    """End a pool at once: leaving it would first run what it holds. Nothing is half-written, see ``write_record``."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in multiprocessing.active_children():
        process.terminate()


def read_table(folder: Path, order: Sequence[str] = COMPARED) -> dict[str, list[dict[str, Any]]]:
    """The records ``<name>-seed<n>.json`` of a folder, by name in the given order, each sorted by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in folder.glob("*-seed*.json"):
        found.setdefault(file.stem.rpartition("-seed")[0], []).append(read_record(file))
    names = [name for name in order if name in found] + sorted(set(found) - set(order))
    return {name: sorted(found[name], key=lambda r: r["seed"]) for name in names}


def switch_table(records: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """What each switch changes: mean and spread over seeds, and the difference to the base on the same seeds' users."""
    rows = []
    for name, runs in records.items():
        aucs = [run["average_user_auc"] for run in runs]
        spread = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan")
        row: dict[str, Any] = {"switch": name, "seeds": len(runs), "AUC": float(np.mean(aucs)), "sd": spread}
        if name != "base":
            row |= {**difference(runs, records["base"]), "seeds": len(runs)}
        rows.append(row)
    return pd.DataFrame(rows).set_index("switch")


def table3(records: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Average user AUC: mean and spread over seeds, beside the paper's numbers, and the distance to ATRank.

    The difference is ``atrank`` minus the model, over the same users and negatives, with its paired bootstrap interval.
    """
    rows = []
    ours = per_user(records["atrank"]) if "atrank" in records else None
    for model, runs in records.items():
        aucs = [run["average_user_auc"] for run in runs]
        row: dict[str, Any] = {"model": model, "seeds": len(runs), "AUC": float(np.mean(aucs))}
        row["sd"] = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan")
        row["interval"] = f"{np.mean([r['ci95'][0] for r in runs]):.4f} to {np.mean([r['ci95'][1] for r in runs]):.4f}"
        if ours is not None and model != "atrank":
            mean, low, high = paired_difference(ours, per_user(runs))
            row["atrank better by"], row["95 %"] = mean, f"{low:+.4f} to {high:+.4f}"
        row["paper, Electronics"], row["paper, Clothing"] = PAPER_TABLE_3.get(model, (float("nan"),) * 2)
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")


def per_user(runs: list[dict[str, Any]]) -> np.ndarray:
    """AUC of every test user, ``[seeds, users]``."""
    return np.stack([unpack(run["per_user"]) for run in runs])


def difference(changed: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, float]:
    """By how much the AUC of ``changed`` is above that of ``base``, on the seeds that both have, and its interval."""
    both = {run["seed"] for run in changed} & {run["seed"] for run in base}
    ours, theirs = (per_user([run for run in runs if run["seed"] in both]) for runs in (changed, base))
    mean, low, high = paired_difference(ours, theirs)
    return {"seeds": len(both), "difference": mean, "low": low, "high": high}


def by_length(
    log: EventLog, records: dict[str, list[dict[str, Any]]], edges: Sequence[int] = (4, 8, 16, 32)
) -> pd.DataFrame:
    """Test AUC of every model by the length of a user's history (all groups), the mean over its seeds.

    Args:
        edges: a bucket begins at each; the first one holds what is shorter.

    Raises:
        ReproduceError: the records hold other test users than the log.
    """
    histories, parts = prepare(log, "validated")
    lengths = np.concatenate(
        [
            history_lengths(samples, histories, tuple(histories.groups))[samples.users.argsort(stable=True)].numpy()
            for samples in parts.test.values()
        ]
    )
    bucket = np.searchsorted(edges, lengths, side="right")
    names = [f"below {edges[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(edges)), f"from {edges[-1]}"]
    rows = []
    for model, runs in records.items():
        wins = per_user(runs).mean(axis=0)
        if wins.shape != lengths.shape:
            raise ReproduceError(f"records of {model!r} hold {len(wins):,} users, the log {len(lengths):,} test users")
        for number in np.unique(bucket):
            own = wins[bucket == number]
            rows.append((model, names[number], len(own), own.mean(), own.std() / len(own) ** 0.5))
    return pd.DataFrame(rows, columns=["model", "behaviors", "users", "AUC", "standard error"])


def curves(records: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Figure 2 as a table: validation AUC after each epoch, with the samples seen and the seconds spent until then.

    Seconds are processor time: cells train on one thread each, beside others on the same machine.
    """
    rows = []
    for model, runs in records.items():
        for run in runs:
            samples, seconds = 0, 0.0
            for epoch in run.get("epochs", []):
                samples, seconds = samples + epoch["samples"], seconds + epoch["cpu_seconds"]
                rows.append((model, run["seed"], epoch["epoch"], samples, seconds, epoch["validation_auc"]))
    return pd.DataFrame(rows, columns=["model", "seed", "epoch", "samples", "seconds", "AUC"])
