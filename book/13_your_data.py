# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-your-data)=
# # Your own data
#
# Wei runs a shop for hiking gear in Hangzhou. On his desk lies a folder with exports: orders, products, searches,
# coupons. The columns have names that somebody once found handy, the times are those of the clock on the wall, some
# prices are missing, and nobody has looked at row 7,000. He has read this book up to here and wants to know what
# attention over behaviors is worth *to him*. How does he get from this folder to a ranked list, in one sitting?
#
# ```{admonition} In this chapter
# **Question**: How does a folder of exported tables become a ranked list for one user, in one sitting?
#
# You will
#
# - turn raw tables into an event log with `atrank init`, and check what it guessed;
# - explain every line of a schema, and know what to change in it;
# - read what is said of a log that is not in order, and mend it;
# - ask whether a log is fit for training at all: what validation cannot see;
# - train, evaluate against floors, explain one user and rank for one user, by command and in Python.
#
# **Runtime** (`fast`): about 30 seconds on one core. **Before this**: {ref}`ch-behaviors`; {ref}`ch-interpret` for the
# words *attention* and *erasure*. **Modules**: `atrank_lib.log`, `runs`; `data_scripts.drafting`.
# ```

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("13_your_data", profile=profile, seed=seed)

# %% tags=["hide-input"]
import contextlib
import io
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import INK, group_color, model_color, named_line
from atrank_book.narrow import narrow
from atrank_lib import (
    EventLog,
    Ranker,
    Recipe,
    evaluate,
    interpret,
    split,
)
from atrank_lib.cli import app
from atrank_lib.competitors.floors import last_category, popularity
from atrank_lib.evaluation import fixed_candidates, user_auc
from atrank_lib.runs import load_run, train_run
from data_scripts import recbole
from data_scripts.drafting import Hints, draft
from data_scripts.simulate import MarketplaceConfig, simulate

home = Path.cwd()

# %% [markdown]
# ## A folder of exports
#
# Wei's shop is our simulated marketplace in disguise: the tables are written out as a shop system would export them.
# So in the end we can ask how close his model came to the best possible. We work in a folder of our own; replace it
# by yours.

# %% tags=["hide-input"]
# exports of a shop, made from a simulated log
workshop = tempfile.TemporaryDirectory()
os.chdir(workshop.name)
exports = Path("exports")
exports.mkdir()

users, items = (1200, 300) if profile == "fast" else (10_000, 1_000)
market = simulate(MarketplaceConfig(users=users, items=items, seed=seed))
behaviors, things = market.log.events, market.log.objects


def wall_clock(group):
    """The times of a group as the clock in Hangzhou shows them: no zone is
    written."""
    moments = pd.to_datetime(behaviors[group]["timestamp"], unit="s", utc=True)
    return moments.dt.tz_convert("Asia/Shanghai").dt.strftime("%Y-%m-%d %H:%M:%S")


item, query, coupon = behaviors["item"], behaviors["query"], behaviors["coupon"]
verbs = {"browse": "view", "mark": "wishlist", "buy": "order"}
orders = pd.DataFrame(
    {
        "customer": item["user_id"],
        "ordered_at": wall_clock("item"),
        "sku": item["object_id"],
    }
)
orders["event"] = item["action"].astype("str").map(verbs)
orders["channel"] = np.where(np.arange(len(orders)) % 3, "web", "app")

# some are missing
price = things["item"]["price"].round(2).mask(np.arange(items) % 40 == 7)
sort = np.where(
    things["item"]["price"] > things["item"]["price"].median(), "premium", "basic"
)
products = things["item"][["object_id", "brand_id", "shop_id"]].set_axis(
    ["sku", "brand_name", "shop"], axis=1
)
products = products.assign(
    price=price, tags=things["item"]["category_id"] + "|" + sort
)

searches = pd.DataFrame(
    {
        "customer": query["user_id"],
        "searched_at": wall_clock("query"),
        "phrase": query["object_id"],
    }
)
phrases = things["query"].set_axis(["phrase", "words"], axis=1)
phrases["words"] = phrases["words"].map(" ".join)
coupons = coupon[["user_id", "timestamp"]].set_axis(
    ["customer", "received_ms"], axis=1
)
coupons["received_ms"] *= 1000
coupons = coupons.join(coupon["object_id"].rename("coupon"))
coupons = coupons.merge(
    things["coupon"].set_axis(["coupon", "shop", "sort"], axis=1), on="coupon"
)

# what happens to tables in real life
accidents = [
    "user1,2017-08-32 10:00:00,item5,view,web",
    ",2017-09-03 10:00:00,item5,view,web",
    "user2,2017-09-03 10:00:00,itm5,view,web",
    "user2,2017-09-03 10:00:00,item5,view,web,mobile",
]
lines = orders.to_csv(index=False).splitlines()
for place, line in zip((4, 70, 700, 7000), accidents, strict=True):
    lines.insert(place, line)
Path("exports/orders.csv").write_text("\n".join(lines) + "\n")
again = products.to_csv(index=False).splitlines()[4]
text = (
    products.astype({"price": "str"})
    .replace({"price": {"nan": ""}})
    .to_csv(index=False)
)
text = text.replace(
    text.splitlines()[8], text.splitlines()[8].replace(",,", ",n/a,", 1)
)
Path("exports/products.csv").write_text(text + again + "\n")
exported = {path.name: path.read_text().splitlines() for path in exports.iterdir()}
for name, table in (
    ("searches", searches),
    ("phrases", phrases),
    ("coupons", coupons),
):
    table.to_csv(exports / f"{name}.csv", index=False)

# %%
for path in sorted(exports.iterdir()):
    print(f"--- {path.name}")
    print("".join(path.open().readlines()[:3]))

# %% [markdown]
# What the folder must become is the event log of {ref}`ch-behaviors`: `schema.yaml`, and for each group of behaviors
# two tables, `<group>.events` (user_id, timestamp, action, object_id) and `<group>.objects` (object_id and one column
# for every feature).
#
# ## One row by hand
#
# Take the first order. Names are easy: `customer` is the user, `sku` the object, `event` the action. The time is not.
# The log wants a number: the seconds since the first of January 1970, in UTC. The export shows the clock on Wei's
# wall, which is eight hours ahead of UTC. With $d$ days since 1970, and $h$, $m$, $s$ on a clock that is $z$ hours
# ahead,
#
# $$
# t = 86400\, d + 3600\, (h - z) + 60\, m + s .
# $$ (eq-wall-clock)

# %%
customer, wall, sku, event, channel = lines[1].split(",")
day, clock = wall.split(" ")
d = np.datetime64(day, "D").astype(int)  # days since 1970-01-01
h, m, s = (int(part) for part in clock.split(":"))
t = 86_400 * d + 3_600 * (h - 8) + 60 * m + s
print(f"{customer} {event} {sku} at {wall} on the wall: t = {t}")

# %% [markdown]
# The library must find the same, from a table of this one row:

# %%
Path("one").mkdir(exist_ok=True)
Path("one/orders.csv").write_text("\n".join(lines[:2]) + "\n")
one = draft("one", Hints(time_zone="Asia/Shanghai")).log.events["item"]
assert one.values.tolist() == [[customer, t, event, sku]]
one

# %% [markdown]
# Does the zone matter, if all times are off by the same eight hours? For what ATRank reads, elapsed time, it does not,
# as long as *all* tables are off by the same. As soon as one table is in UTC and another is not, searches move behind
# the orders that they led to, or orders in front of what caused them. An exercise below measures it.
#
# ## `atrank init`
#
# The program does the rest. Commands are shown as they are typed in a terminal; the small function below runs them
# inside this page.


# %%
def atrank(command):
    """Run the program `atrank` here and print what it says, errors included."""
    os.environ.pop("FORCE_COLOR", None)  # a notebook sets it; we want plain text
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        app(shlex.split(command), prog_name="atrank", standalone_mode=False)
    shown = command if len(command) < 70 else command.replace(" --", " \\\n    --")
    print(f"$ atrank {shown}\n{said.getvalue()}")


atrank("init exports --out my_shop")

# %% [markdown]
# It asks back. Three kinds of behaviors are three groups, and a group is drafted by naming its events. Whatever is
# not named is guessed, from names and from contents.

# %%
atrank("init exports --events orders.csv --time-zone Asia/Shanghai --out my_shop")

# %% [markdown]
# It found its way through the columns, and then found faults. Each line says the table, the column, the row (counted
# from 0, without the header), the value, and what to do. All come at once, in the words of *your* tables, and nothing
# was written: a log is valid, or it is not there.
#
# Nothing was repaired either, and that is meant. Is `itm5` a typing error or a product that was deleted? Is a row
# without a customer a visitor who was not logged in? Only the owner knows. Wei does: the four strange rows are test
# orders of the person who set up the till. The product was listed twice, and `n/a` is a price that nobody knows, which
# in CSV is an empty field.


# %%
def mend(table, changes):
    """Replace whole lines of a CSV file; None takes a line out, once."""
    lines = exported[table].copy()
    for old, new in changes.items():
        place = len(lines) - 1 - lines[::-1].index(old)  # the last such line
        lines[place : place + 1] = [] if new is None else [new]
    (exports / table).write_text("\n".join(lines) + "\n")


unknown = next(line for line in exported["products.csv"] if ",n/a," in line)
mend("orders.csv", dict.fromkeys(accidents))
mend("products.csv", {again: None, unknown: unknown.replace("n/a", "")})
atrank(
    "init exports --events orders.csv --time-zone Asia/Shanghai "
    "--out my_shop --name 'hiking gear'"
)

# %% [markdown]
# The first four lines are the mapping. An option overrules each of them: `--user`, `--time`, `--object`, `--action`,
# and `--key` for the id in the table of objects. `--kind tags=tokens` overrules the kind of a feature. Times may be
# ISO 8601, or numbers since 1970, whose unit is told by their size. What cannot be told for certain is refused: is
# `01/02/2024` in January or in February? Then `--time-format '%d/%m/%Y'` says it.
#
# In Python the same is a function. It returns the log and the text of the schema, and writes when told to:

# %%
made = draft(
    "exports",
    Hints(events="orders.csv", time_zone="Asia/Shanghai", name="hiking gear"),
)
assert made.log.fingerprint() == EventLog.read("my_shop").fingerprint()

# %% [markdown]
# ## The schema, line by line

# %%
print(Path("my_shop/schema.yaml").read_text())

# %% [markdown]
# `name`
# : Appears in messages and records. Say which shop, and which year.
#
# `timestamp_unit`
# : What one step of the column `timestamp` is: `s`, `ms`, `us` or `ns`. One unit for all groups. The draft takes the
#   coarsest that loses nothing.
#
# `groups`
# : The paper's behavior groups. A group is what shares features: products here, searches and coupons next. Two
#   actions on the same objects are *one* group with two actions; do not make a group "views" and a group "orders", for
#   then the model has to learn every product twice.
#
# `actions`
# : All that can be done to an object of the group, the most frequent first. An action that is not listed is an error,
#   so a new one never slips in unnoticed.
#
# `features`
# : The columns of `item.objects` that the model reads; others may stand in the table and are ignored. Take a line out
#   and the model is blind to it. There are three kinds. `categorical` is one value, `tokens` a list of values,
#   `continuous` a number. Numbers that only name something, such as the number of a department, are `categorical`.
#
# `object_id`
# : The id as a feature. With it the model can learn what is special about *this* product; without it, only brand,
#   shop, price and tags speak, also for products that are new. {ref}`ch-honest` shows what such products do to a test.
#
# `vocabulary`
# : Not here yet. Columns that name the same vocabulary share one table of embeddings ({ref}`ch-time`): a shop is the
#   same shop, whether it sells a tent or gives a coupon.
#
# `time`
# : How elapsed time falls into buckets {eq}`eq-bucket`. The draft takes the finest unit with which the buckets reach
#   over the whole log. For a group in which minutes matter, take minutes; `edges: [1, 7, 30]` names the borders
#   yourself.
#
# ## More groups
#
# Searches have their texts in a second table; a search is always a search, so one action is given for all rows.
# Coupons come as a single flat table, as many exports do. Which of its columns describe the *coupon*, and not the
# moment? The shop and the sort. `--feature` takes them along, and refuses a column that differs between two rows of
# one coupon. `--add` puts a group beside those that are there.

# %%
atrank(
    "init exports --out my_shop --add --group query "
    "--events searches.csv --objects phrases.csv"
    " --one-action search --kind words=tokens --time-zone Asia/Shanghai"
)

# %%
atrank(
    "init exports --out my_shop --add --group coupon --events coupons.csv"
    " --one-action receive --feature shop --feature sort"
)

# %%
log = EventLog.read("my_shop")
for name, group in log.schema.groups.items():
    print(
        name,
        {
            column: spec.vocabulary
            for column, spec in group.features.items()
            if spec.vocabulary
        },
    )

# %% [markdown]
# The two columns called `shop` hold the same values, so they got one vocabulary. Had they been called `shop` and
# `store`, nobody would have noticed: then write `vocabulary: shop` at both yourself.
#
# Whatever you change by hand, `atrank check` reads the folder as training will, and sums it up:

# %%
atrank("check my_shop")

# %% tags=["hide-input"]
# the disguise is off: what was drafted is what was simulated, row by row
for group in log.schema.groups:
    columns = ["user_id", "timestamp", "object_id"]
    pd.testing.assert_frame_equal(
        log.events[group][columns], behaviors[group][columns]
    )

# %% [markdown]
# What else can be wrong with a log, and what is said about it, stands on {doc}`a page of its own <messages>`: come back to
# it when yours is refused.
#
# ## Is my log fit for this?
#
# A valid log is not yet a *useful* one. What follows no program can refuse, since it may be as it should be. Each
# question has a line of code; put your log in its place, and think about each answer.

# %%
main, group = "item", log.events["item"]
everything = pd.concat(
    log.events.values(), keys=log.events, names=["group"]
).reset_index("group")
lengths, per_object = (
    group.groupby("user_id").size(),
    group["object_id"].value_counts(),
)
moments = pd.to_datetime(
    group["timestamp"], unit=log.schema.timestamp_unit, utc=True
).dt.tz_convert("Asia/Shanghai")
ordered = group.sort_values("timestamp", kind="stable")
last = ordered.groupby("user_id").tail(1)  # what the protocol `validated` tests on
seen = set(ordered.drop(last.index)["object_id"])
tested = (
    last["object_id"]
    .value_counts()
    .reindex(log.objects[main]["object_id"], fill_value=0)
    .to_numpy()
)
at_once = everything.groupby(["user_id", "timestamp"])["group"].nunique()

fit_for_this = {
    "users": lengths.size,
    "share of users with at least 4 behaviors": (lengths >= 4).mean(),
    "behaviors of an object (median)": per_object.median(),
    "share of tested objects that training never shows": (
        ~last["object_id"].isin(seen)
    ).mean(),
    "share of rows that are there twice": everything.astype({"action": "str"})
    .duplicated()
    .mean(),
    "longest history / median history": lengths.max() / lengths.median(),
    "share of moments with behaviors of several groups": (at_once > 1).mean(),
    "share of behaviors from 2 to 5 at night": moments.dt.hour.between(2, 4).mean(),
    "rank correlation of price with being tested": log.objects[main]["price"]
    .rank()
    .corr(pd.Series(tested).rank()),
    "days from first to last": (moments.max() - moments.min()).days,
}
pd.DataFrame(
    {
        "answer": [
            f"{a:,.3f}" if a % 1 else f"{a:,.0f}" for a in fit_for_this.values()
        ]
    },
    index=fit_for_this,
)

# %% [markdown]
# How many users?
# : The interval of the test shrinks with the root of their number. With a hundred users it is so wide that models
#   cannot be told apart; with a thousand, large differences can ({ref}`ch-honest`).
#
# Long enough?
# : A history needs something to predict from. The protocol `validated` takes the last behavior for the test, the one
#   before for validation; whoever has fewer than four teaches nothing.
#
# Enough behaviors of an object?
# : Ids that occur once or twice are learned by heart. Then let features speak, or hide ids in training (`id_dropout`).
#
# New objects?
# : What training never shows is *unknown* to the model, all such objects alike but for their features. If many tests
#   are of this kind, the id cannot help and the test says so.
#
# Duplicates?
# : The same user, time, action and object twice is often a retry of the export, and "what comes next" becomes "the same
#   again". But two identical orders may be two orders. Only you know.
#
# Bots?
# : A history a hundred times the median belongs to a crawler, a test account or a till. One such user can fill most
#   batches.
#
# Leakage through equal times?
# : If a purchase and the coupon it redeems have one timestamp, neither is history of the other, and that is right. If
#   *most* moments are shared, times are too coarse: whole days, perhaps.
#
# Time zone?
# : People sleep. If a shop's activity has no dip between two and five, or has it at noon, the zone is wrong. (Our
#   simulated customers never sleep: an eighth of the behaviors falls into these three of 24 hours. The check would have
#   caught that they are not people.)
#
# Leakage through features?
# : A column may know the future: "sold so far", counted at the time of the export, includes the very behaviors of the
#   test. Such a column correlates with what is tested. Price does not. An exercise builds one that does.
#
# ## Training, by command and in Python
#
# In a terminal, two lines train and test:
#
# ```console
# $ atrank train --data my_shop --out my_run --targets item --recipe small
# $ atrank evaluate --run my_run --data my_shop --negatives 20
# ```
#
# In Python the first is `train_run`. It takes the same choices and more. To save your time, we train on the latest
# eight behaviors of each group, in a small model; it is tested on all of them.

# %%
options = {
    "embedding_size": 16,
    "hidden": 64,
    "spaces": 4,
    "attention": "dot",
    "linear_projection": True,
}
# half of the ids are hidden, so that features must speak; all as in "Looking inside"
options |= {"id_dropout": 0.5}
recipe = Recipe(
    loss="pairwise",
    negatives=8,
    batch_size=128,
    learning_rate=5e-3,
    average=0.98,
    epochs=3 if profile == "fast" else 8,
    max_length=8 if profile == "fast" else None,
)
choices = {"options": options, "targets": ["item"], "recipe": recipe, "seed": seed}
# goes on where it was interrupted
fitted = train_run(log, Path("my_run"), **choices, resume=True, progress=False)
pd.DataFrame(fitted.epochs)[["epoch", "loss", "validation_auc"]].set_index(
    "epoch"
).round(3)

# %% [markdown]
# The folder `my_run` holds all that is needed to go on: `config.json`, the vocabularies, the weights. The second command,
# this time for real:

# %%
atrank(f"evaluate --run my_run --data my_shop --negatives 20 --seed {seed}")

# %% [markdown]
# And in Python, with floors beside it ({ref}`ch-competitors`): `popularity` counts how often an object was a training
# target, `last category` how many features a candidate shares with the user's latest behavior. A model that does not
# beat both has learned nothing that a list of bestsellers does not know.

# %%
run = load_run("my_run")
histories = run.histories_of(log)
parts = split(histories, "validated", ["item"])
test, train = parts.test["item"], parts.train["item"]
result = evaluate(run.model, histories, {"item": test}, negatives=20, seed=seed)

# the same for all
candidates = fixed_candidates(histories, {"item": test}, negatives=20, seed=seed)[
    "item"
]
floors = {"popularity": popularity, "last category": last_category}
scores = {
    name: user_auc(test, floor(histories, test, candidates, train))
    for name, floor in floors.items()
}
table = pd.DataFrame(
    {
        name: {
            "AUC": float(auc),
            **dict(zip(("low", "high"), auc.interval(), strict=True)),
        }
        for name, auc in scores.items()
    }
    | {
        "ATRank": {
            "AUC": result.average_user_auc,
            "low": result.ci95[0],
            "high": result.ci95[1],
        }
    }
).T
table.round(3)

# %% tags=["hide-input"]
best = market.truth.best_auc["item"]
auc = table.loc["ATRank", "AUC"]

# %% tags=["remove-cell"]
claim(
    best=(best, 0.85, 0.95),
    auc=(auc, 0.77, best),
    popularity=(table.loc["popularity", "AUC"], 0.6, 0.75),
    last=(table.loc["last category", "AUC"], 0.6, 0.8),
    width=(table.loc["ATRank", "high"] - table.loc["ATRank", "low"], 0.01, 0.05),
    gain=(auc - table.loc[list(floors), "AUC"].max(), 0.04),
    gap=(best - auc, 0.02, 0.15),
)

# %% mystnb={"figure": {"caption": "What Wei's model is worth: average user AUC of two floors and of ATRank, with bootstrap intervals over users. The dashed line is the best that any model can reach, known only because the shop is simulated. See where the model stands between the lines: well above both floors, and some way below the best.", "name": "fig-your-data"}, "image": {"alt": "Three dots with short horizontal bars: popularity lowest, last category next, ATRank clearly to the right of both, and right of it a dashed vertical line for the best possible; a dotted line marks one half at the far left."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.6, 2.0))
for row, (name, values) in enumerate(table.iterrows()):
    color = model_color("atrank") if name == "ATRank" else INK
    ax.plot([values["low"], values["high"]], [-row, -row], color=color, lw=2)
    ax.plot(values["AUC"], -row, "o", color=color, markersize=6)
named_line(ax, best, "best possible", at=0.9)
named_line(ax, 0.5, "guessing", at=0.1, side="right", style=":")
ax.set_yticks([-row for row in range(len(table))], table.index)
_ = ax.set(
    xlabel="average user AUC",
    ylim=(-len(table) + 0.5, 0.5),
    xlim=(0.48, best + 0.02),
)

# %% [markdown]
# The model reaches {glue:text}`auc:.3f`, with an interval {glue:text}`width:.3f` wide. The better of the two
# floors is {glue:text}`gain:.3f` below it, far more than the interval. So the histories are worth something to
# Wei. The best possible, which on a real log nobody knows, is {glue:text}`gap:.3f` above: a short training of a
# small model leaves that much on the table. `--recipe modern` trains longer.
#
# One training run is one draw. Before he decides anything he should train again with `--seed 1`, `--seed 2`, and look
# at the spread, as {ref}`ch-honest` does.
#
# ## Why this one?
#
# Wei wants to know what the model looks at. {ref}`ch-interpret` has all the caveats; here is the recipe. `attention`
# says which earlier behaviors the target looked at, `erasure` by how much its lead over other products falls when one
# of them is taken away.

# %%
found = interpret.attention(run.model, histories, test[:200])
lengths_shown = found["sample"].value_counts(sort=False)
# a history that is short enough to print
shown = int(lengths_shown.index[lengths_shown.between(8, 12)][0])
sample = test[[shown]]
one = found[found["sample"] == shown].reset_index(drop=True)
rivals = fixed_candidates(histories, {"item": sample}, negatives=20, seed=seed)[
    "item"
]
one["erasure"] = interpret.erasure(run.model, histories, sample, rivals)
one = one.sort_values("elapsed", ascending=False, kind="stable")


def name_of(group, row):
    """What was done to what, with the words of the objects table."""
    event = log.events[group].iloc[row]
    row = log.objects[group].set_index("object_id").loc[event["object_id"]]
    words = (
        row["words"]
        if "words" in row.index
        else [row.get("brand_name") or row.get("sort"), row["shop"]]
    )
    return f"{event['action']} {event['object_id']} ({', '.join(words[:3])})"


labels = [name_of(g, r) for g, r in zip(one["group"], one["row"], strict=True)]
target = name_of("item", int(histories.groups["item"].rows[sample.positions]))
print(f"{histories.user_ids[int(sample.users)]} then did: {target}")

# %% mystnb={"figure": {"caption": "One user of Wei's shop, oldest behavior at the top. Compare the bars row by row. Left: the attention that the true next product gives to each behavior, the mean over spaces. Right: by how much the product's lead over twenty others falls when the behavior is erased; what is left of zero spoke against it.", "name": "fig-your-user"}, "image": {"alt": "Two bar charts with one row for each earlier behavior. On the left bars of attention of different lengths around a dashed line; on the right bars of erasure, some to the right of zero and some to the left, largest where attention is large."}} tags=["hide-input"]
rows, colors = np.arange(len(one)), [group_color(name) for name in one["group"]]
fig, (left, right) = plt.subplots(
    1, 2, figsize=(7.6, 0.9 + 0.28 * len(one)), sharey=True
)
left.barh(rows, one["attention"], color=colors)
named_line(left, 1 / len(one), "even attention", at=0.02, side="right")
left.set_yticks(rows, labels, fontsize=8)
for tick, color in zip(left.get_yticklabels(), colors, strict=True):
    tick.set_color(color)
left.set(xlabel="attention", ylim=(len(one) + 0.3, -0.5))
right.barh(rows, one["erasure"], color=colors)
right.axvline(0, color=INK, lw=1)
right.set(xlabel="erasure (fall of the lead)")


def break_labels(figure):
    """Below each other, the names of the rows take two lines."""
    for ax in figure.axes:
        ax.set_yticks(rows, [label.replace(" (", "\n(") for label in labels])
        for tick, color in zip(ax.get_yticklabels(), colors, strict=True):
            tick.set_color(color)


narrow(fig, height=0.9 + 0.42 * len(one), tune=break_labels)

# %% [markdown]
# ## A list for one user
#
# What should the shop show this user now? `atrank rank` encodes the history once and scores every product that the user
# has not touched. `--at` asks for a moment in the past, `--include-seen` ranks what was touched as well.

# %%
who = histories.user_ids[int(sample.users)]
atrank(f"rank --run my_run --data my_shop --user {who} --group item --top 5")

# %% [markdown]
# In Python:

# %%
top = Ranker(run.model, histories, "item").top(who, 5)
assert top["rank"].tolist() == [1, 2, 3, 4, 5]
top.merge(log.objects["item"], on="object_id").round({"score": 3})

# %% [markdown]
# A score has no unit; only the order within one user means something. To serve such lists from a web page or from
# another language, `atrank export` writes the model as JSON or ONNX.
#
# ## A second log: files that others share
#
# Public data sets often come as the *atomic files* of RecBole {cite:p}`zhao2021recbole`: `NAME.inter` holds behaviors,
# `NAME.item` objects, and a kind stands beside every column's name. Wei's log in that form, and back:

# %%
recbole.write(log, Path("atomic"))
print("\n".join(Path("atomic/item/item.inter").read_text().splitlines()[:2]))
atrank("init atomic --out second")

# %% tags=["hide-input"]
# every row is back, in its order
second = EventLog.read("second")
for group, events in log.events.items():
    pd.testing.assert_frame_equal(
        second.events[group].astype({"action": "str"}),
        events.astype({"action": "str"}),
    )

# %% [markdown]
# And a log of real people that anybody may use: some 180 sites of Stack Exchange publish who asked, answered, commented
# and edited, with an open license. Take one of your own field.
#
# ```console
# $ python -m data_scripts.stackexchange --dump beer.stackexchange.com.7z --out beer
# $ atrank check beer
# $ make book DATA=beer
# ```
#
# The last line runs the chapters on it. {doc}`The page of all logs <logs>` counts what is in the beer site, and the
# sections *On your own log* of chapters 7 to 10 show what rules and models reach there.
#
# ## What we learned
#
# From raw CSV to a list took five commands: `init`, `check`, `train`, `evaluate`, `rank`. The machine's part was small.
# What took thought was Wei's: which tables are one group, what describes an object and what an event, which clock the
# times came from, what to do with a row that makes no sense. Validation makes sure that none of these questions is
# answered by accident. The checklist asks those that validation cannot.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: a schema for a music player
# :label: ex-music
# ```
# A music player has songs, which one can `play`, `skip` and `like`. A song has one `artist`, several `genres`, and a
# length in `seconds`. There are also concerts: one can `attend` one, by an `artist`, in a `city`. Write the
# `schema.yaml` as text, with groups `song` and `concert`. Which two columns share a vocabulary?

# %%
mine = ...  # your turn

check.your_data.schema(mine)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-music
# :class: dropdown
# ```

# %%
mine = """
name: music player
groups:
  song:
    actions: [play, skip, like]
    features:
      artist: {kind: categorical, vocabulary: artist}
      genres: {kind: tokens}
      seconds: {kind: continuous}
  concert:
    actions: [attend]
    features:
      artist: {kind: categorical, vocabulary: artist}
      city: {kind: categorical}
"""

verdict = check.your_data.schema(mine)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} The clock on the wall
# :label: ex-wall-clock
# ```
# Write {eq}`eq-wall-clock` for a list of texts such as `2017-08-20 02:01`, shown by a clock that is `hours` ahead of
# UTC (behind it, if `hours` is below zero). Return whole numbers.


# %%
def to_seconds(texts, hours): ...  # your turn


check.your_data.to_seconds(to_seconds)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-wall-clock
# :class: dropdown
# ```


# %%
def to_seconds(texts, hours):
    # NumPy counts from 1970, too
    minutes = np.array(texts, dtype="datetime64[m]").astype(np.int64)
    return (60 * minutes - 3_600 * hours).tolist()


verdict = check.your_data.to_seconds(to_seconds)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Of the object, or of the event?
# :label: ex-describing
# ```
# In a flat table, which columns describe the *object*? Those that have one value in all rows of an object; gaps do not
# count. Write `describing(table, column)`: `table` is a data frame, `column` the name of the object's column; return the
# names.


# %%
def describing(table, column): ...  # your turn


check.your_data.describing(describing)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-describing
# :class: dropdown
# ```
# On Wei's coupons the answer is the two columns that we took along. The rule has a trap: in a table where every object
# occurs only once, all columns pass it.


# %%
def describing(table, column):
    counts = table.groupby(column).nunique()  # missing values are not counted
    return [name for name in counts if (counts[name] <= 1).all()]


verdict = check.your_data.describing(describing)
assert verdict
assert describing(pd.read_csv("exports/coupons.csv"), "coupon") == ["shop", "sort"]
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Break it and see: a column that knows the future
# :label: ex-sold
# ```
# Products often carry a column "sold so far", counted when the table was exported. Use it as a scorer (the behaviors of
# all users are `histories.groups["item"].objects`, and `user_auc(test, ...)` judges a score for each of `candidates`):
# how often does a product occur in *all* behaviors, those of the test included? How far does this beat honest
# popularity? Would a model that reads such a column deserve its AUC? Then think of a log with many more products and as
# few behaviors of each as yours has.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-sold
# :class: dropdown
# ```

# %%
sold = torch.bincount(
    histories.groups["item"].objects.long(),
    minlength=len(histories.catalogs["item"]),
)
with_future = user_auc(test, sold[candidates].float())

# a young shop: three behaviors of each user
few = log.events["item"].groupby("user_id").tail(3)
counts = few["object_id"].value_counts()
final = few.groupby("user_id").tail(1)["object_id"].value_counts()
share = float((final / counts.reindex(final.index)).mean())

# %% tags=["remove-cell"]
claim(
    sold=(float(with_future) - table.loc["popularity", "AUC"], 0.001, 0.05),
    own_share=(share, 0.2, 0.5),
)

# %% [markdown]
# It is {glue:text}`sold:.3f` better, out of nothing but the test itself: each tested behavior has counted for its
# own product. Here a product has dozens of behaviors, and one of them hardly shows. In a log with three behaviors
# a user, {glue:text}`own_share:.0%` of a product's count would be test targets, and the column would nearly give
# them away. Count such features up to the *end of training* only, or leave them out.
#
# ```{solution-end}
# ```
#
# ```{exercise-start} Break it and see: two clocks
# :label: ex-two-clocks
# ```
# Draft Wei's log again, but forget `--time-zone` for the searches. What is said? Compare the searches of the two logs
# with the orders: of all searches that come less than eight hours before an order of the same user, how many still come
# before it?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-two-clocks
# :class: dropdown
# ```

# %%
lines = []
wrong = draft(
    "exports",
    Hints(
        events="searches.csv",
        objects="phrases.csv",
        group="query",
        one_action="search",
        kinds={"words": "tokens"},
    ),
    say=lines.append,
).log
print(next(line for line in lines if "timestamp" in line))

right, shifted = log.events["query"], wrong.events["query"]
orders_by_time = (
    log.events["item"]
    .sort_values("timestamp")[["user_id", "timestamp"]]
    .assign(order=lambda f: f["timestamp"])
)
both = (
    right[["user_id", "timestamp"]]
    .assign(shifted=shifted["timestamp"])
    .sort_values("timestamp")
)
pairs = pd.merge_asof(
    both,
    orders_by_time,
    on="timestamp",
    by="user_id",
    direction="forward",
    allow_exact_matches=False,
)
near = pairs[pairs["order"] - pairs["timestamp"] < 8 * 3_600]

# %% tags=["remove-cell"]
claim(lost_searches=((near["shifted"] > near["order"]).mean(), 0.9, 1.0))

# %% [markdown]
# The draft says that it took the times as UTC, and nothing else: such times are valid. All searches move eight hours
# into the future, and {glue:text}`lost_searches:.0%` of those that led to an order soon after now lie
# *behind* it. For a model they never happened. Had the orders been shifted instead, searches would stand in front of
# what caused them: no error either, and an AUC that looks into the future.
#
# ```{solution-end}
# ```
#
# ```{exercise-start} Open-ended: your own log
# :label: ex-your-log
# ```
# Take a log of your own. Write down, before you train: which groups, which actions, what you expect popularity to
# reach, and by how much ATRank must beat it to be worth serving. Go through the checklist and note what you would have
# to ask the people who made the tables. Then train with three seeds, and compare with what you wrote down.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-your-log
# :class: dropdown
# ```
# There is no single answer, but there are signs of a good one. The expectation stands in writing before the first run.
# Every item of the checklist has a number beside it, or a question to a person. The gain over the better floor has an
# interval, from users and from seeds. And if it holds zero, the report says so, and what was learned about the log.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# - **`atrank init`** maps columns, converts times and guesses kinds; it says why, asks when it cannot tell, and writes a
#   valid log or nothing.
# - **The schema** says what is one group, what can be done, what describes an object, which columns share a vocabulary,
#   and how fast time passes.
# - **Errors** name table, column, row, value and remedy, all at once; {doc}`one page <messages>` has them all.
# - **Fit for this?** Users, lengths, new objects, duplicates, bots, shared moments, time zone, columns that know the
#   future: one line each.
# - **Train, evaluate, rank**: three commands; to compare with floors and to explain takes some lines of Python.
#
# **Where next?** {doc}`The live model <live_model>` shows a trained model in the browser, and `atrank export` makes one
# of yours. {doc}`Paper against code <paper_against_code>` tells which choices are worth trying on your log.

# %% tags=["remove-cell"]
os.chdir(home)
workshop.cleanup()
