"""Simulate a marketplace: an event log with known answers.

    python -m data_scripts.simulate --users 2000 --seed 0 --out my_log

writes the event log and, in `my_log/truth/`, what was planted: the cause of every behavior, its true
probability, and the best AUC that any model can reach. `--world` plants something else: `marketplace.py` has the
generating process and the worlds, `truth.py` the truth.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from jaxtyping import Float, Int
from pydantic import ValidationError
from tqdm import tqdm

from atrank_lib.log import EventLog
from atrank_lib.log.schema import SCHEMA_FILE
from atrank_lib.log.writing import explain, writing_folder
from data_scripts.marketplace import ACTIONS, BUY, DAY, GROUPS, LINKS, SCHEMA, WORLDS, MarketplaceConfig
from data_scripts.timeline import Timeline
from data_scripts.truth import Truth
from data_scripts.world import World, build_world

BLOCK = 2048  # users simulated together; each block has its own random stream
LEAST = 3  # behaviors that each user has in each group, as in the paper's data
MOST = 5  # no user has more than this many times the mean number of behaviors
AUC_USERS = 2000  # users on which best_auc is computed
KINDS = (*LINKS, "", "taste", "pair")  # what a behavior came from: a link to one cause, the background, ...
BACKGROUND = KINDS.index("")
FIXED = 3  # columns of the background, the favorite and the pair, ahead of those of the behaviors


@dataclass(frozen=True)
class Marketplace:
    """A simulated event log and what was planted in it."""

    log: EventLog
    truth: Truth

    def write(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write the log with `truth/` inside. The folder appears complete or not at all.

        Raises FileExistsError if it exists, unless `overwrite` is given and it holds an event log.
        """
        folder = Path(folder).resolve()
        _check_place(folder, overwrite)
        with writing_folder(folder, overwrite) as beside:
            self.log.write_tables(beside)
            self.truth.write(beside)


def simulate(config: MarketplaceConfig, progress: bool = False, log_name: str = SCHEMA.name) -> Marketplace:
    """Simulate the marketplace of `config` as a log called `log_name`; `progress` shows a bar on stderr."""
    world, objects = build_world(config, np.random.default_rng([config.seed, 0]))
    blocks = []
    with tqdm(total=config.users, unit="user", disable=not progress, file=sys.stderr) as bar:
        for number, begin in enumerate(range(0, config.users, BLOCK)):
            users = min(BLOCK, config.users - begin)
            blocks.append(_block(world, users, np.random.default_rng([config.seed, 1 + number])))
            bar.update(users)
    drawn = {name: np.concatenate([block.pop(name) for block in blocks]) for name in tuple(blocks[0])}
    del blocks

    lengths, group = drawn["lengths"], drawn["group"]
    row = np.empty(len(group), dtype=np.int32)
    for g in range(len(GROUPS)):
        members = np.flatnonzero(group == g)
        row[members] = np.arange(len(members))
    first = np.concatenate([[0], np.cumsum(lengths)])
    user_id = pd.Series([f"user{u}" for u in range(config.users)], dtype="str")
    timeline = Timeline(first, group, row, drawn["time"], drawn["action"], drawn["object"], world, pd.Index(user_id))

    # causes are counted from each user's first behavior; -1 is the background
    caused = drawn["cause"] >= 0
    cause = drawn["cause"] + np.repeat(first[:-1], lengths)
    cause_group = np.where(caused, group[cause], -1)
    cause_row = np.where(caused, row[cause], -1)
    kinds = KINDS if config.taste or config.conjunction else KINDS[: BACKGROUND + 1]
    events, causes = {}, {}
    for g, name in enumerate(GROUPS):
        members = np.flatnonzero(group == g)
        thing = timeline.object[members] - world.first[g]
        events[name] = pd.DataFrame(
            {
                "user_id": user_id.take(timeline.user[members]).array,
                "timestamp": timeline.time[members],
                "action": _categorical(timeline.action[members], ACTIONS[name]),
                "object_id": objects[name]["object_id"].astype("str").take(thing).array,
            }
        )
        causes[name] = pd.DataFrame(
            {
                "cause_group": _categorical(cause_group[members] + 1, ("", *GROUPS)),
                "cause_row": cause_row[members],
                "feature": _categorical(drawn["feature"][members], kinds),
                "probability": drawn["probability"][members],
            }
        )
    favorite = pd.Series(drawn["favorite"], pd.Index(user_id)) if config.taste else None
    truth = Truth(world, causes, favorite)
    truth.measure(timeline, AUC_USERS)
    return Marketplace(EventLog.from_tables(SCHEMA.model_copy(update={"name": log_name}), events, objects), truth)


def _block(world: World, users: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Everything about some users, flat by (user, time)."""
    config = world.config
    floor = LEAST * len(GROUPS)
    spread = 0.7  # of the log-normal excess over the floor
    excess = rng.lognormal(np.log(config.behaviors - floor) - spread**2 / 2, spread, users)
    lengths = np.minimum(floor + np.round(excess), round(MOST * config.behaviors)).astype(np.int64)
    start = np.cumsum(lengths) - lengths
    user = np.repeat(np.arange(users), lengths)
    count = len(user)

    # sessions: short gaps, and now and then a long one; at least a second, so times are unique for a user
    pause = rng.random(count) < 1 / config.session_length
    gap = rng.exponential(np.where(pause, config.session_gap, config.behavior_gap) * DAY)
    gap[start] = rng.random(users) * config.arrival_days * DAY
    step = 1 + gap.astype(np.int64)
    elapsed = np.cumsum(step)
    time = config.start + elapsed - np.repeat((elapsed - step)[start], lengths)

    # the first three places in a random order of a user's behaviors go to group 0, the next three to group 1
    # ...
    order = np.lexsort((rng.random(count), user))
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count) - start[user]
    group = np.where(place < floor, place // LEAST, _draw(config.group_mix, GROUPS, count, rng)).astype(np.int8)
    action = np.where(group == 0, _draw(config.action_mix, ACTIONS["item"], count, rng), 0).astype(np.int8)
    uniform = rng.random((3, count))
    (more,) = rng.spawn(1)
    items = slice(*world.first[:2])
    favorite = more.choice(config.items, users, p=world.popularity[items]) + world.first[0]
    chosen = _choose_objects(world, lengths, time, group, action, favorite, uniform)
    return {"lengths": lengths, "time": time, "group": group, "action": action, "favorite": favorite, **chosen}


def _choose_objects(
    world: World,
    lengths: Int[np.ndarray, " U"],
    time: Int[np.ndarray, " T"],
    group: Int[np.ndarray, " T"],
    action: Int[np.ndarray, " T"],
    favorite: Int[np.ndarray, " U"],
    uniform: Float[np.ndarray, "3 T"],
) -> dict[str, np.ndarray]:
    """The objects of all behaviors, one step in all users' lives at a time; longest lives first.

    Columns of every [U, 3 + L] table: the background, the user's favorite, the pair, and the user's behaviors.
    """
    config, users, longest = world.config, len(lengths), int(lengths.max())
    order = np.argsort(-lengths, kind="stable")
    start = (np.cumsum(lengths) - lengths)[order]
    half_life = np.array([config.half_lives[name] for name in GROUPS])
    action_weight = np.zeros((len(GROUPS), len(ACTIONS["item"])))
    for g, name in enumerate(GROUPS):
        action_weight[g, : len(ACTIONS[name])] = [config.action_weight[a] for a in ACTIONS[name]]
    first_cell, cumulative, pool = world.pools

    width = FIXED + longest
    day = np.zeros((users, width))  # time, in days since the user's first behavior
    rate = np.zeros((users, width))  # one over the half life
    reach = np.zeros((len(GROUPS), users, width))  # weight on an effect in each group, without decay
    reach[:, :, 0] = config.background
    thing = np.zeros((users, width), dtype=np.int32)
    value = np.full((len(LINKS), users, width), -1, dtype=np.int32)
    if config.taste:
        thing[:, 1] = favorite[order]
        value[:, :, 1], reach[:, :, 1] = world.sources[:, thing[:, 1]], world.charm[thing[:, 1]].T
    latest = np.full((2, users), -1)  # number of the latest item and of the latest query
    result: dict[str, np.ndarray] = {
        "object": np.empty(len(time), dtype=np.int32),
        "cause": np.empty(len(time), dtype=np.int32),
        "feature": np.empty(len(time), dtype=np.int8),
        "probability": np.empty(len(time)),
    }
    for e in range(longest):
        alive = int(np.count_nonzero(lengths > e))  # the first so many users in `order`
        every, past = np.arange(alive), slice(0, FIXED + e)
        at = start[:alive] + e
        g, now = group[at].astype(np.int64), (time[at] - time[start[:alive]]) / DAY
        if config.conjunction:
            both = np.flatnonzero((latest[:, :alive] >= 0).all(axis=0))
            a, b = value[0, both, FIXED + latest[:, both]]
            thing[both, 2] = world.first[-1] + world.table[a, b]
            value[:, both, 2], reach[:, both, 2] = world.sources[:, thing[both, 2]], world.pull[thing[both, 2]].T
        weight = reach[g, every, past] * np.exp2((day[:alive, past] - now[:, None]) * rate[:alive, past])
        cumulated = np.cumsum(weight, axis=1)
        cause = _pick(cumulated, uniform[0, at])
        caused, source = cause > 0, thing[every, cause]
        feature = _pick(np.cumsum(np.where(caused[:, None], world.link[source, g], 1.0), axis=1), uniform[1, at])
        feature = np.where(caused, feature, BACKGROUND)
        today = world.period(world.day(time[at]))
        cell = first_cell[g, feature] + np.where(caused, value[feature % BACKGROUND, every, cause], today)
        draw = np.minimum(cell + uniform[2, at], np.nextafter(cell + 1.0, 0))  # rounding must not leave the cell
        new = pool[np.searchsorted(cumulative, draw, side="right")]

        # p(new | history): the background, and every earlier behavior that shares a value with it
        mass = config.background * world.moment[today, new]
        for f in range(len(LINKS)):
            theirs, mine = value[f, :alive, past], world.value[f, new]
            who, when = np.nonzero((theirs == mine[:, None]) & (mine >= 0)[:, None])
            through = weight[who, when] * world.link[thing[who, when], g[who], f]
            mass += np.bincount(who, through, minlength=alive) * world.share[f, new]

        kind = np.where((cause == 1) | (cause == 2), BACKGROUND + cause, feature)
        cause = np.where(cause == 2, latest[0, :alive], np.maximum(cause - FIXED, -1))
        for name, column in (("object", new), ("cause", cause), ("feature", kind)):
            result[name][at] = column
        result["probability"][at] = mass / cumulated[:, -1]

        lived, here = slice(FIXED, FIXED + e), FIXED + e
        bought = np.flatnonzero((g == 0) & (action[at] == BUY))
        quenched = value[0, bought, lived] == world.value[0, new[bought]][:, None]
        reach[:, bought, lived] *= np.where(quenched, config.quench, 1.0)
        day[:alive, here], rate[:alive, here], thing[:alive, here] = now, 1 / half_life[g], new
        value[:, :alive, here] = world.value[:, new]
        reach[:, :alive, here] = action_weight[g, action[at]] * world.pull[new].T
        for place, wanted in enumerate(("item", "query")):
            latest[place, :alive][g == GROUPS.index(wanted)] = e
    return result


def _pick(cumulated: Float[np.ndarray, "n m"], uniform: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """One column for each row, with chances in proportion to the weights whose cumulative sums are given."""
    total = cumulated[:, -1]
    below = np.minimum(uniform * total, np.nextafter(total, 0))  # never past the last column with a weight
    return np.argmax(cumulated > below[:, None], axis=1)


def _draw(mix: dict[str, float], names: tuple[str, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of names, drawn in the proportions of `mix`."""
    share = np.array([mix[name] for name in names])
    return rng.choice(len(names), count, p=share / share.sum())


def _check_place(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists already; choose another folder, or overwrite it")
    if folder.exists() and not (folder / SCHEMA_FILE).is_file():
        raise FileExistsError(f"{folder} holds no event log ({SCHEMA_FILE}); choose another folder")


def _categorical(codes: np.ndarray, names: tuple[str, ...]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes.astype(np.int8), pd.Index(names))


def _option(text: str, name: str) -> Any:
    """An option that the world decides where it is not given, with the default of most worlds."""
    return typer.Option(help=text, show_default=str(getattr(MarketplaceConfig(), name)))


def command(
    out: Annotated[Path, typer.Option(help="folder to write")],
    world: Annotated[str, typer.Option(help=f"what is planted: {', '.join(WORLDS)}")] = "marketplace",
    users: Annotated[int | None, _option("number of users", "users")] = None,
    seed: Annotated[int | None, _option("same seed and options, same log", "seed")] = None,
    behaviors: Annotated[float | None, _option("mean number of behaviors of a user", "behaviors")] = None,
    items: Annotated[int | None, _option("number of items", "items")] = None,
    queries: Annotated[int | None, _option("number of queries", "queries")] = None,
    coupons: Annotated[int | None, _option("number of coupons", "coupons")] = None,
    cross_influence: Annotated[
        float | None,
        _option("factor on the influence between different groups; 0 switches it off", "cross_influence"),
    ] = None,
    quench: Annotated[
        float | None, _option("what is left of a behavior's influence after a later buy in its category", "quench")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the log, which results carry; by default that of the world")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the event log in the folder")] = False,
) -> None:
    """Simulate a marketplace and write it as an event log, with the planted truth in truth/."""
    options = {
        "users": users,
        "seed": seed,
        "behaviors": behaviors,
        "items": items,
        "queries": queries,
        "coupons": coupons,
        "cross_influence": cross_influence,
        "quench": quench,
    }
    try:
        if world not in WORLDS:
            raise ValueError(f"--world {world}: no such world; use one of {', '.join(WORLDS)}")
        given = {option: value for option, value in options.items() if value is not None}
        config = MarketplaceConfig(**WORLDS[world].model_dump() | given)
        _check_place(out, overwrite)  # before the work, not only after it
        market = simulate(config, progress=True, log_name=name or f"simulated {world}")
        market.write(out, overwrite=overwrite)
    except ValidationError as error:
        for problem in error.errors():
            option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
            typer.echo(f"{option} {problem['input']}: {problem['msg']}", err=True)
        raise typer.Exit(1) from None
    except (OSError, ValueError) as error:
        typer.echo(explain(error) if isinstance(error, OSError) else str(error), err=True)
        raise typer.Exit(1) from None
    events = sum(len(table) for table in market.log.events.values())
    best = ", ".join(f"{group} {auc:.3f}" for group, auc in market.truth.best_auc.items())
    typer.echo(f"{out}: {events:,} behaviors of {config.users:,} users; best AUC any model can reach: {best}")


if __name__ == "__main__":
    typer.run(command)
