"""The simulated marketplace: what is drawn agrees with what is planted and exported."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from pydantic import ValidationError
from scipy import stats
from typer.testing import CliRunner

from atrank_lib.log.events import EventLog
from data_scripts.marketplace import GROUPS, LINKS, MarketplaceConfig
from data_scripts.simulate import Marketplace, command, simulate
from data_scripts.truth import Truth

CONFIG = MarketplaceConfig(users=2500, seed=11)  # more than one block of users


@pytest.fixture(scope="module")
def market() -> Marketplace:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def merged(market: Marketplace) -> pd.DataFrame:
    """All events with their causes, and the events that caused them joined in (suffix _cause)."""
    tables = []
    for group in GROUPS:
        events = market.log.events[group]
        number = pd.Index(market.log.objects[group]["object_id"]).get_indexer(pd.Index(events["object_id"]))
        first = market.truth.world.first[GROUPS.index(group)]
        table = pd.concat([events, market.truth.causes[group]], axis=1).assign(group=group, number=number + first)
        tables.append(
            table.assign(row=np.arange(len(table))).astype({"cause_group": str, "feature": str, "action": str})
        )
    events = pd.concat(tables, ignore_index=True)
    return events.merge(
        events[["group", "row", "user_id", "timestamp", "number", "action"]],
        how="left",
        left_on=["cause_group", "cause_row"],
        right_on=["group", "row"],
        suffixes=("", "_cause"),
        validate="many_to_one",
    )


def test_every_user_has_enough_behaviors_in_every_group(market: Marketplace) -> None:
    for group in GROUPS:
        counts = market.log.events[group]["user_id"].value_counts()
        assert len(counts) == CONFIG.users
        assert counts.min() >= 3
    lengths = pd.concat([market.log.events[group]["user_id"] for group in GROUPS]).value_counts()
    assert lengths.mean() == pytest.approx(CONFIG.behaviors, rel=0.05)
    assert lengths.max() <= 5 * CONFIG.behaviors
    assert stats.skew(lengths) > 1


def test_times_are_unique_and_bursty_and_rows_ordered(market: Marketplace) -> None:
    every = pd.concat(market.log.events.values()).assign(user=lambda t: t["user_id"].str[4:].astype(int))
    assert not every.duplicated(["user", "timestamp"]).any()
    for events in market.log.events.values():
        order = np.lexsort((events["timestamp"], events["user_id"].str[4:].astype(int)))
        np.testing.assert_array_equal(order, np.arange(len(events)))
    every = every.sort_values(["user", "timestamp"])
    gaps = every.groupby("user")["timestamp"].diff().dropna() / 86400
    paused = gaps > 0.1
    assert paused.mean() == pytest.approx(np.exp(-0.1 / 4) / CONFIG.session_length, rel=0.03)
    assert gaps[paused].mean() - 0.1 == pytest.approx(CONFIG.session_gap, rel=0.03)


def test_actions_are_drawn_from_their_mix(market: Marketplace) -> None:
    share = market.log.events["item"]["action"].value_counts(normalize=True)
    for action, expected in CONFIG.action_mix.items():
        assert share[action] == pytest.approx(expected, abs=0.01)


def test_causes_come_before_their_effects_and_share_the_link(market: Marketplace, merged: pd.DataFrame) -> None:
    caused = merged[merged["cause_group"] != ""]
    assert (caused["user_id"] == caused["user_id_cause"]).all()
    assert (caused["timestamp"] > caused["timestamp_cause"]).all()
    value = market.truth.world.value
    feature = caused["feature"].map(LINKS.index).to_numpy()
    mine, theirs = value[feature, caused["number"]], value[feature, caused["number_cause"].astype(int)]
    assert (mine >= 0).all()
    np.testing.assert_array_equal(mine, theirs)
    free = merged[merged["cause_group"] == ""]
    assert (free["cause_row"] == -1).all()
    assert (free["feature"] == "").all()


@pytest.mark.parametrize("group", GROUPS)
def test_exported_probabilities_are_the_true_ones(market: Marketplace, group: str) -> None:
    events, objects = market.log.events[group], market.log.objects[group]
    chosen = pd.Index(objects["object_id"]).get_indexer(pd.Index(events["object_id"]))
    scores = market.truth.scores(market.log, group, np.arange(len(events)), chosen[:, None])[:, 0]
    np.testing.assert_allclose(market.truth.causes[group]["probability"], scores, rtol=1e-9)


@pytest.mark.parametrize("group", GROUPS)
def test_objects_are_chosen_as_often_as_their_probability_says(market: Marketplace, group: str) -> None:
    """Calibration: of (event, object) pairs of like probability, that share is chosen."""
    events, objects = market.log.events[group], market.log.objects[group]
    rows = np.random.default_rng(0).choice(len(events), 6000, replace=False)
    scores = market.truth.scores(market.log, group, rows, np.arange(len(objects)))
    chosen = pd.Index(objects["object_id"]).get_indexer(pd.Index(events["object_id"].iloc[rows]))
    hits = np.zeros(scores.shape, dtype=bool)
    hits[np.arange(len(rows)), chosen] = True
    bins = np.digitize(scores, np.quantile(scores, [0.5, 0.9, 0.99, 0.999]))
    for b in range(5):
        expected, seen = scores[bins == b].sum(), hits[bins == b].sum()
        assert abs(seen - expected) < 4.5 * np.sqrt(expected), f"bin {b}: {seen} chosen, {expected:.1f} expected"


@pytest.mark.parametrize("group", GROUPS)
def test_causes_are_as_frequent_as_their_posterior_says(market: Marketplace, group: str) -> None:
    causes = market.truth.causes[group]
    rows = np.random.default_rng(0).choice(len(causes), 6000, replace=False)
    posterior = market.truth.posterior(market.log, group, rows)
    event = np.repeat(np.arange(len(rows)), np.diff(posterior.offsets))
    truth = causes.iloc[rows[event]]
    code = truth["cause_group"].cat.codes.to_numpy() - 1  # categories: "" first, then the groups
    hit = (code == posterior.group) & (truth["cause_row"].to_numpy() == posterior.row)
    np.testing.assert_allclose(np.add.reduceat(posterior.probability, posterior.offsets[:-1]), 1, rtol=1e-12)
    assert hit.sum() == len(rows)
    for low, high in [(0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.1)]:
        inside = (posterior.probability >= low) & (posterior.probability < high)
        p = posterior.probability[inside]
        assert abs(hit[inside].sum() - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum() + 1)


def test_the_age_of_causes_shows_the_half_life() -> None:
    """With two behaviors that compete, the odds of the older one fall by half every half life.

    Among events with exactly two possible causes of one group, everything else equal, the log odds of the
    older are -(difference in age) * log 2 / half life: a logistic regression without intercept finds the
    rate.
    """
    config = MarketplaceConfig(
        users=6000,
        behaviors=12,
        cross_influence=0,
        background=0.01,
        session_gap=2,
        action_weight=dict.fromkeys(("browse", "mark", "buy", "search", "receive"), 1.0),
        quench=1,
    )
    market = simulate(config)
    for group in GROUPS:
        events, causes = market.log.events[group], market.truth.causes[group]
        place = events.groupby("user_id").cumcount().to_numpy()
        third = np.flatnonzero(place == 2)
        third = third[causes["cause_row"].to_numpy()[third] >= 0]
        time = events["timestamp"].to_numpy() / 86400
        older = causes["cause_row"].to_numpy()[third] == third - 2
        apart = time[third - 1] - time[third - 2]
        if group == "query":  # a query without a brand has other links, but never none
            assert (market.truth.world.pull[market.truth.world.group == 1, 1] > 0).all()
        if group == "coupon":
            assert (market.truth.world.pull[market.truth.world.group == 2, 2] > 0).all()
        rate = 0.1
        for _ in range(30):  # Newton's method
            p = 1 / (1 + np.exp(rate * apart))
            information = (p * (1 - p) * apart**2).sum()
            rate += ((p - older) * apart).sum() / information
        assert rate == pytest.approx(np.log(2) / config.half_lives[group], abs=4 / np.sqrt(information))


def test_without_cross_influence_no_cause_is_in_another_group() -> None:
    market = simulate(MarketplaceConfig(users=300, cross_influence=0))
    for group in GROUPS:
        assert set(market.truth.causes[group]["cause_group"]) == {"", group}
        alone = market.truth.auc(market.log, group, use_groups=(group,), use_quench=False)
        assert alone == pytest.approx(market.truth.auc(market.log, group, use_quench=False), abs=1e-12)


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    config = MarketplaceConfig(users=60, seed=8)
    one, same = simulate(config), simulate(config)
    assert one.log.fingerprint() == same.log.fingerprint()
    assert one.truth.best_auc == same.truth.best_auc
    for group in GROUPS:
        pd.testing.assert_frame_equal(one.truth.causes[group], same.truth.causes[group])
    assert simulate(config.model_copy(update={"seed": 9})).log.fingerprint() != one.log.fingerprint()


def test_features_that_link_are_related_but_not_the_same(market: Marketplace) -> None:
    items = market.log.objects["item"]
    for column in ("brand_id", "shop_id"):
        table = pd.crosstab(items["category_id"], items[column])
        association = stats.contingency.association(table, method="cramer")
        assert 0.15 < association < 0.7
        assert (table > 0).sum(axis=0).median() >= 3  # a brand or shop has items of several categories


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 0}, "greater than or equal to 1"),
        ({"behaviors": 5}, "greater than or equal to 12"),
        (
            {"half_lives": {"item": 1.0}},
            "half_lives must have exactly the keys item, query, coupon; got item",
        ),
        ({"influence": {"query": {"coupon": 1.0}}}, "query -> coupon is 1.0 but links has no feature"),
        ({"influence": {"shop": {"item": 1.0}}}, "shop -> item: groups are item, query, coupon"),
        (
            {"links": {"query": {"item": {"shop": 1.0}}}, "influence": {}},
            "they share ..category., .brand.., not .shop.",
        ),
        ({"sedd": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(change: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MarketplaceConfig(**change)


def test_too_few_objects_for_a_negative_are_refused() -> None:
    with pytest.raises(ValueError, match="every user touched all 2 objects of item; simulate more objects"):
        simulate(MarketplaceConfig(users=1, items=2, behaviors=60))


def test_a_world_of_one_user_and_one_of_everything_works() -> None:
    market = simulate(MarketplaceConfig(users=1, categories=1, brands=1, shops=1, coupon_types=1))
    assert set(market.truth.best_auc) == set(GROUPS)
    for group in GROUPS:
        every = np.arange(len(market.log.objects[group]))
        np.testing.assert_allclose(market.truth.scores(market.log, group, np.array([0]), every).sum(), 1)


def test_a_failing_write_leaves_nothing(market: Marketplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    small = simulate(MarketplaceConfig(users=20))
    small.write(tmp_path / "kept")
    before = EventLog.read(tmp_path / "kept").fingerprint()
    monkeypatch.setattr(Truth, "write", full)
    with pytest.raises(OSError, match="no space"):
        small.write(tmp_path / "log")
    with pytest.raises(OSError, match="no space"):
        small.write(tmp_path / "kept", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert EventLog.read(tmp_path / "kept").fingerprint() == before


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    small = simulate(MarketplaceConfig(users=20))
    small.write(tmp_path / "log")
    with pytest.raises(FileExistsError, match="exists already"):
        small.write(tmp_path / "log")
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="holds no event log"):
        small.write(tmp_path / "photos", overwrite=True)
    other = simulate(MarketplaceConfig(users=20, seed=1))
    other.write(tmp_path / "log", overwrite=True)
    assert EventLog.read(tmp_path / "log").fingerprint() == other.log.fingerprint()


def run(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_writes_a_log_with_its_truth(tmp_path: Path) -> None:
    out = tmp_path / "log"
    code, summary, _ = run("--users", 50, "--seed", 2, "--behaviors", 15, "--cross-influence", 0, "--out", out)
    assert code == 0
    assert "behaviors of 50 users" in summary
    assert len(summary.splitlines()) == 1
    log = EventLog.read(out)
    truth = Truth.read(out, log)
    assert truth.config == MarketplaceConfig(users=50, seed=2, behaviors=15, cross_influence=0)
    assert log.fingerprint() == simulate(truth.config).log.fingerprint()
    code, _, message = run("--users", 50, "--out", out)
    assert (code, "exists already" in message) == (1, True)
    assert run("--users", 20, "--out", out, "--overwrite")[0] == 0
    assert len(EventLog.read(out).events["item"]["user_id"].unique()) == 20


def test_the_command_names_a_wrong_option(tmp_path: Path) -> None:
    code, _, message = run("--users", 0, "--out", tmp_path / "log")
    assert code == 1
    assert message.strip() == "--users 0: Input should be greater than or equal to 1"
    assert not list(tmp_path.iterdir())
