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
# (ch-behaviors)=
# # Users as behaviors
#
# On Monday morning Mia searches for "trail shoes". She opens a pair, closes it, and buys it on Tuesday. On Friday she
# opens the shop again, and the front page has room for one product. Running socks, or a second pair of shoes? All we
# know of Mia is what she did, and when. How do we write down what a person did, and how do we tell a good guess at
# what comes next from a bad one?
#
# ```{admonition} In this chapter
# **Question**: How do we write down what a person did, and tell a good guess at what comes next from a bad one?
#
# You will
#
# - write a person down as a list of behaviors, and say what a table of counts would lose;
# - store such lists as an event log, and read what validation says when something is wrong;
# - cut a log into samples (a user, a moment, a target) without letting the future in;
# - compute the average user AUC by hand, and say why it is taken per user;
# - see how far one gets without learning anything, and how far one could get.
#
# **Runtime** (`fast`): about 10 seconds on one core. **Before this**: Python, pandas, a little PyTorch. The symbols are
# listed in {doc}`notation`. **Modules**: `atrank_lib.log`, `samples`, `negatives`, `evaluation`.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("01_behaviors", profile=profile, data=data, seed=seed)

# %% tags=["hide-input"]
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import FAINT, INK, group_color, named_line
from atrank_book.play import Play
from atrank_lib import (
    EventLog,
    EventLogError,
    GroupedHistories,
    average_user_auc,
    split,
)
from atrank_lib.evaluation import fixed_candidates, user_auc
from data_scripts.simulate import MarketplaceConfig, simulate

# %% [markdown]
# ## Why a list, and not a table of features
#
# The usual way to describe a person to a model is a row of numbers: how often they visited in thirty days, how many
# shoes they looked at, how much they spent. Somebody chose each of those numbers. Somebody else has to choose again
# when a new kind of behavior arrives, and what nobody thought of is lost. The authors of ATRank begin with that
# complaint {cite:p}`zhou2018atrank`: summed-up features are a lot of work, they go only as far as human instinct, and
# they forget the single behavior that a target may depend on.
#
# Here are two people and a row of features for each.

# %%
mia = [
    ("search", "trail shoes"),
    ("browse", "shoes"),
    ("buy", "shoes"),
    ("browse", "socks"),
]
tom = [
    ("browse", "socks"),
    ("search", "trail shoes"),
    ("buy", "shoes"),
    ("browse", "shoes"),
]

features = pd.DataFrame(
    {"Mia": pd.Series(mia).value_counts(), "Tom": pd.Series(tom).value_counts()}
).T
assert (features.loc["Mia"] == features.loc["Tom"]).all()
features

# %% [markdown]
# The rows are the same, so any model on top of them says the same about both. Their lists differ. Mia has her shoes
# and moved on to socks; Tom keeps looking at shoes after he bought a pair, and may want to return them. We could add
# a feature for that, "looked at the category again after buying". Then the next one. Or we could keep the list and
# let the model find out what matters in it. That is what this book does.
#
# ## A behavior is a triple
#
# The paper writes one behavior as a triple $(a, o, t)$: an *action* $a$, the *object* $o$ that it was done to, and
# the *time* $t$. A user is the list of all $m$ of them,
#
# $$
# U = \{(a_j, o_j, t_j) \mid j = 1, 2, \dots, m\} .
# $$ (eq-user)
#
# Actions and times are simple things: a word from a short list, and a number. Objects are not. An item has a
# category, a brand and a price, a search has words, a coupon has a shop. So an object stands for *all its features*,
# and objects with the same features form a **group**: here items, queries and coupons. An action belongs to a group,
# too. One can buy an item but not a query.
#
# ## The event log
#
# All chapters read their data from one kind of folder, the *event log*. It holds one file that says what there is,
# `schema.yaml`, and two tables for each group: `<group>.events`, one row a behavior, and `<group>.objects`, one row
# an object. They are Parquet files, or CSV when written by hand. This is Mia's log, complete, with her first three
# behaviors:

# %%
tiny = {
    "schema.yaml": """
        name: three behaviors
        timestamp_unit: s                       # s, ms, us or ns since 1970
        groups:
          item:
            actions: [browse, buy]              # what one can do to an item
            features:
              category_id: {kind: categorical}  # one text value
              price:       {kind: continuous}   # one number
            time: {unit: day}        # how fast time passes for this group: chapter 3
          query:
            actions: [search]
            features:
              words:       {kind: tokens}       # a list of text values
            time: {unit: hour}
        """,
    "item.events.csv": (
        "user_id,timestamp,action,object_id\n"
        "mia,1499677500,browse,i7\nmia,1499763900,buy,i7\n"
    ),
    "item.objects.csv": "object_id,category_id,price\ni7,shoes,89.5\ni8,socks,9.5\n",
    "query.events.csv": (
        "user_id,timestamp,action,object_id\nmia,1499677200,search,q1\n"
    ),
    "query.objects.csv": "object_id,words\nq1,trail shoes\n",
}

# %% [markdown]
# Three kinds of features are enough for everything in this book: `categorical`, `tokens` and `continuous`. Two
# features that mean the same thing, such as the shop of an item and the shop of a coupon, may name the same
# `vocabulary`; they then share one table of embeddings ({ref}`ch-time`). The objects tables hold more than the
# objects that were touched: nobody has touched the socks `i8` yet, but they can be recommended.
#
# A third table of a group is optional, `<group>.impressions`: what a user saw when choosing. It names the row of the
# behavior (`event`), each object that was shown, and what `context:` in the schema declares, such as the place in the
# list. {ref}`ch-multitask` uses one.


# %%
def read_log(files):
    """Write the files into a folder of their own and read it as an event log."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        return EventLog.read(folder)


log = read_log(tiny)
log.events["item"]

# %% [markdown]
# Ids are text everywhere, and the order of the rows is kept: when two behaviors have the same time, the order of the
# rows decides which one came first.
#
# What if something is wrong? Logs come out of joins and exports, and a log that is a little wrong trains a model that
# is a little wrong, quietly. So reading checks everything and repairs nothing. Let us break four things at once.

# %%
broken = tiny | {
    "schema.yaml": tiny["schema.yaml"].replace("kind: tokens", "kind: token"),
    "item.events.csv": (
        "user_id,timestamp,action,object_id\n"
        "mia,1499677500,brows,i7\nmia,on Tuesday,buy,i9\n"
    ),
}
try:
    read_log(broken)
except EventLogError as error:
    found = error.problems
    print(error)
assert len(found) == 4

# %% [markdown]
# One line a problem: the table, the column, the row (counted from 0), the value, and what to do. All problems come at
# once, so nobody repairs a log ten times in a row.
#
# ## A marketplace with known answers
#
# The paper's own log of items, searches and coupons belongs to Alibaba and was never published. Its other logs,
# reviews on Amazon, are public, but nobody knows the truth behind them: when a model reaches some score, could a
# better one have reached more? So our default is a *simulated* marketplace of the same shape as the paper's. It has
# items (with shop, brand, category, price), queries (with tokens) and coupons (with shop and type), and it was made
# by a rule that we can read:
#
# - A behavior is either *background*, drawn by popularity alone, or *caused* by one earlier behavior of the same
#   person.
# - A cause works through one feature that the two objects share: the same category, brand, shop or coupon type.
# - The influence of a behavior halves again and again, with a half-life of its own for each group.
# - Actions weigh differently: to mark an item leads to much, to buy it to little. And a purchase *quenches* what came
#   before it in its category: whoever has bought shoes is done with shoes.
#
# Nothing of this is told to a model. It is exported beside the log, so that a chapter can ask whether the model found
# it.

# %%
config = MarketplaceConfig(users=2000 if profile == "fast" else 20_000, seed=seed)
planted = (
    pd.DataFrame(config.influence)
    .T.fillna(0)
    .rename_axis(index="a behavior on", columns="acts on")
)
planted.assign(**{"half-life (days)": pd.Series(config.half_lives)})

# %% [markdown]
# Read a row as "an item acts on items, queries and coupons with these weights". A query acts on items, but not on
# coupons. The weights compete with a background of weight 1.
#
# The parameter `data` puts another log in its place: the folder of any event log. Nobody planted anything there, so
# what needs the truth is left out.

# %%
market = None if data else simulate(config)
log = EventLog.read(data) if data else market.log
log.summary().round(1).T

# %% [markdown]
# ```{list-table} The paper's logs: multi-behavior (its Table 2) and Amazon (its Table 1)
# :header-rows: 1
# :name: tab-paper-logs
#
# * -
#   - multi-behavior
#   - Amazon Electronics
#   - Amazon Clothing
# * - users
#   - 30,358
#   - 192,403
#   - 39,387
# * - items
#   - 447,878
#   - 63,001
#   - 23,033
# * - categories
#   - 4,704
#   - 801
#   - 484
# * - shops, brands
#   - 109,665 and 49,859
#   -
#   -
# * - queries, coupons
#   - 111,646 and 64,388
#   -
#   -
# * - records or samples
#   - 247,313
#   - 1,689,188
#   - 278,677
# * - average length
#   - 19.8
#   -
#   -
# ```
#
# The simulated log has the groups, the features and, roughly, the lengths of {numref}`tab-paper-logs`, with fewer
# objects, so that it fits into a laptop's minute. (Whoever divides the paper's 247,313 records by its 30,358 users
# finds about 8, not 19.8. The paper does not say how the two numbers go together.) The real logs that this book reads
# stand side by side, with their licenses and the commands that make them, in {ref}`logs`.
#
# What does one such user look like?

# %% tags=["hide-input"]
# one table with all groups; `row` is the row in the group's own table
events = pd.concat(
    [
        table.assign(group=name, row=np.arange(len(table)))
        for name, table in log.events.items()
    ],
    ignore_index=True,
)
SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[log.schema.timestamp_unit]
DAY = 86_400 * SECOND

people = events.groupby("user_id").agg(
    groups=("group", "nunique"), length=("row", "size")
)
people = people[people["groups"] == people["groups"].max()]
people["from 24"] = (
    people["length"] - 24
).abs()  # enough to see something, few enough to see each
person = people.sort_values(["from 24", "length"], kind="stable").index[0]
life = events[events["user_id"] == person].sort_values("timestamp", kind="stable")
days = (life["timestamp"] - life["timestamp"].min()) / DAY
visit = (days.diff() > 0.25).cumsum()  # a pause of six hours begins a new visit
x = pd.Series(np.arange(len(life)), life.index) + 1.0 * visit

# %% mystnb={"figure": {"caption": "The life of one user, visit by visit. Each mark is a behavior in the order in which it happened, on the line of its group; each band is a visit, with its day below. In the simulated log an arc leads from a behavior to the one that it caused; a behavior without an arc to its left is background. Follow the arcs: causes reach across groups and across visits.", "name": "fig-one-user"}, "image": {"alt": "A timeline with one line for each group of behaviors. Bands mark visits that are days apart, each with a few marks; thin arcs connect causes to effects, some inside a visit, some over many days, some from one group to another."}} tags=["hide-input"]
height = {name: -i for i, name in enumerate(log.schema.groups)}
fig, ax = plt.subplots(figsize=(7.8, 1.4 + 0.7 * len(height)))
for begins, ends in x.groupby(visit).agg(["min", "max"]).itertuples(index=False):
    ax.axvspan(begins - 0.6, ends + 0.6, color=FAINT, alpha=0.5, lw=0)
if market:
    place = {
        (r.group, r.row): (x[r.Index], height[r.group]) for r in life.itertuples()
    }
    arc = {
        "arrowstyle": "-",
        "color": INK,
        "alpha": 0.6,
        "lw": 0.9,
        "connectionstyle": "arc3,rad=-0.3",
    }
    for (group, row), end in place.items():
        cause = market.truth.causes[group].iloc[row]
        if cause["cause_row"] >= 0:
            ax.annotate(
                "",
                end,
                place[cause["cause_group"], cause["cause_row"]],
                arrowprops=arc,
            )
actions = [
    action for group in log.schema.groups.values() for action in group.actions
]
for group, schema in log.schema.groups.items():
    for action in schema.actions:
        marks = x[(life["group"] == group) & (life["action"] == action)]
        look = {
            "color": group_color(group),
            "marker": "o^sDvPX"[actions.index(action) % 7],
        }
        ax.scatter(
            marks,
            [height[group]] * len(marks),
            s=55,
            lw=0,
            zorder=3,
            label=action,
            **look,
        )
ax.set_yticks(list(height.values()), list(height))
for label, group in zip(ax.get_yticklabels(), height, strict=True):
    label.set_color(group_color(group))
ax.set_xticks(x.groupby(visit).mean(), days.groupby(visit).min().round().astype(int))
ax.set(xlabel="day of the visit", ylim=(min(height.values()) - 0.6, 1.0))
ax.grid(axis="x", visible=False)
_ = fig.legend(
    loc="outside upper center",
    ncols=len(actions),
    handletextpad=0.1,
    columnspacing=1.2,
)

# %% [markdown]
# ## The task: what comes next
#
# We hide a behavior, show everything that came before it, and ask for its object. One such question is a **sample**:
# a user, a moment, and the *target*, the object that the user turned to at that moment. The action and the time of
# the target are not given to the model as properties of the target; whether the user will act, and when, is just what
# a shop does not know.
#
# What exactly came before? The rule used throughout is
#
# ```{important}
# The history of a sample is everything **strictly before** the target: earlier times in any group and, inside the
# target's own group, earlier rows at the same time. A behavior of *another* group at the same time is not history.
# ```
#
# The last sentence may look fussy. In many logs a time is a day. If a coupon is redeemed and a product bought on the
# same day, the log does not say which came first, and the product must not be explained by the coupon that it was
# paid with. Inside one group we trust the order of the rows.


# %%
def history_of(group, row):
    """The behaviors strictly before row `row` of a group's events table, for every
    group."""
    target = log.events[group].iloc[row]
    history = {}
    for name, table in log.events.items():
        mine = table[table["user_id"] == target["user_id"]]
        before = mine["timestamp"] < target["timestamp"]
        if name == group:
            before |= (mine["timestamp"] == target["timestamp"]) & (mine.index < row)
        history[name] = mine[before].sort_values("timestamp", kind="stable")
    return history


main = next(iter(log.schema.groups))  # the first group of the schema: items
last_row = life.loc[life["group"] == main, "row"].iloc[-1]
{name: len(table) for name, table in history_of(main, last_row).items()}

# %% [markdown]
# ### Who trains, who tests
#
# Every behavior with something before it in its own group can be a target. Which targets does the model learn from,
# and which ones judge it? Three answers, called *protocols*, are built in:
#
# - `paper`: the last behavior of every user is the test, all others train. There is nothing left to choose settings
#   on.
# - `validated`: the last is the test, the one before is for *validation*, that is for every choice (when to stop,
#   which learning rate), the rest trains.
# - `global_time`: one moment in time for everybody. What lies before it trains, what lies after it tests.

# %% mystnb={"figure": {"caption": "Three protocols on the first group of behaviors of five users. Each mark is a target: dots train, hollow diamonds validate, squares test. A ring is a user's first behavior, which can only be history. See where the squares lie: under the first two protocols they are scattered over time; under the third, all are right of the second line.", "name": "fig-protocols"}, "image": {"alt": "Three panels with five horizontal timelines each. In the panels paper and validated, every timeline ends in a square. In the panel global time, two vertical lines cut all timelines at the same moments, and squares stand only to the right of the second."}} tags=["hide-input"]
histories = GroupedHistories.from_log(log)
splits = {
    name: split(histories, name, [main])
    for name in ("paper", "validated", "global_time")
}
own = histories.groups[main]
lengths = own.offsets.diff()
enough = torch.nonzero((lengths >= 5) & (lengths <= 12)).flatten()
if not len(enough):  # a log of very short or very long lives
    enough = torch.nonzero(lengths >= 2).flatten()
# by the last behavior
early_to_late = enough[
    own.timestamps[own.offsets[enough + 1] - 1].argsort(stable=True)
]
chosen = [
    int(early_to_late[int(q * (len(early_to_late) - 1))])
    for q in (0.3, 0.6, 0.9, 0.98, 1.0)
]
start = min(int(own.timestamps[own.offsets[user]]) for user in chosen)
looks = {  # hollow and large, or filled and small, so that none hides another
    "train": {
        "marker": "o",
        "color": group_color(main),
        "s": 12,
        "lw": 0,
    },
    "validation": {
        "marker": "D",
        "facecolor": "none",
        "edgecolor": INK,
        "s": 55,
        "lw": 1.2,
    },
    "test": {"marker": "s", "color": INK, "s": 20, "lw": 0},
}

said = {
    "paper": "paper: test the last one",
    "validated": "validated: and the one before",
    "global_time": "global_time: one moment for all",
}
fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), sharex=True, sharey=True)
for ax, (name, parts) in zip(axes, splits.items(), strict=True):
    for line, user in enumerate(chosen):
        first = (own.timestamps[own.offsets[user]] - start) / DAY
        ax.scatter(
            first,
            line,
            marker="o",
            facecolor="none",
            edgecolor=group_color(main),
            s=26,
        )
        for part, look in looks.items():
            samples = getattr(parts, part)[main]
            times = (samples.times[samples.users == user] - start) / DAY
            ax.scatter(
                times,
                [line] * len(times),
                label=part if line == 0 else None,
                zorder=3,
                **look,
            )
    if name == "global_time":
        for part in ("validation", "test"):
            ax.axvline(
                (getattr(parts, part)[main].times.min() - start) / DAY,
                color=INK,
                lw=1,
            )
        start_of_test = (parts.test[main].times.min() - start) / DAY
        ax.text(start_of_test + 2, -0.55, "test", va="center", fontsize=10)
    ax.set(
        title=said[name],
        xlabel="days",
        yticks=range(len(chosen)),
        yticklabels=[],
        ylim=(-0.7, len(chosen) - 0.3),
    )
axes[0].set_ylabel("five users")
_ = fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside upper right",
    ncols=3,
    handletextpad=0.1,
)
# %% [markdown]
# The first two ask "what does this person do next, given all that others did, even later?". A model tested in this
# way has seen the fashions of July when it predicts a purchase of May. `global_time` asks the question of a real
# shop. It is harder, and it leaves out everybody who did nothing after the line. This book uses `validated` unless it
# says otherwise: it is the paper's protocol, made honest by a validation set.
#
# The library finds the same histories as our loop over tables, without a loop. How it stores them is the subject of
# {ref}`ch-grouping`; here we only compare.

# %%
test = splits["validated"].test[main]
for sample in range(0, len(test), max(1, len(test) // 20)):
    user, ends = test.users[sample], test.ends[sample]
    by_hand = history_of(
        main, int(histories.groups[main].rows[test.positions[sample]])
    )
    for number, (name, group) in enumerate(histories.groups.items()):
        # cut position: the history ends here
        rows = group.rows[group.offsets[user] : ends[number]]
        assert rows.tolist() == by_hand[name].index.tolist()

# %% [markdown]
# ### Against what
#
# A ranking needs something to rank. Beside the target, the *positive*, we draw **negatives**: objects of the target's
# group that this user never touched, neither before nor after, each with the same chance. Training draws new ones in
# every epoch; for a test they are drawn once, by the seed, so that all models face the same ones.
#
# ## The metric: average user AUC
#
# Take one user with some positives and some negatives, and a score for each. Pick one positive and one negative at
# random. The AUC of this user is the chance that the positive has the higher score: 1 is a perfect order, one half is
# guessing, 0 is perfectly upside down. The paper averages it over users:
#
# $$
# AUC = \frac{1}{|U|} \sum_{u \in U} \frac{1}{|I_u^+|\,|I_u^-|} \sum_{i \in I_u^+} \sum_{j \in I_u^-} \delta(p_{u,i} > p_{u,j})
# $$ (eq-auc)
#
# Here $U$ is the set of test users (in this one formula; elsewhere $U$ is the list of one user's behaviors), $I_u^+$
# and $I_u^-$ are the user's positives and negatives, $p_{u,i}$ is the score of object $i$ for user $u$, and $\delta$
# is 1 if the condition holds and 0 if not.
#
# Two users, by hand. Ana has two positives, scored 3 and 1, and two negatives, scored 2 and 1. Of the four pairs, 3
# beats both negatives, 1 loses to 2, and 1 against 1 is a tie. Ben has one positive, scored 5, and one negative,
# scored 6: nothing right.

# %%
user_ids = ["ana", "ana", "ana", "ana", "ben", "ben"]
scores = [3.0, 1.0, 2.0, 1.0, 5.0, 6.0]
labels = [1, 1, 0, 0, 1, 0]


def auc_by_loops(user_ids, scores, labels):
    """The double sum of the equation, user by user; a tie counts half."""
    per_user = []
    for user in dict.fromkeys(user_ids):
        mine = [
            (s, y)
            for u, s, y in zip(user_ids, scores, labels, strict=True)
            if u == user
        ]
        pairs = [(p, n) for p, y in mine if y for n, z in mine if not z]
        if pairs:  # a user without a negative has no AUC
            per_user.append(
                sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)
            )
    return sum(per_user) / len(per_user)


assert auc_by_loops(user_ids, scores, labels) == (2.5 / 4 + 0 / 1) / 2
assert auc_by_loops(user_ids, scores, labels) == average_user_auc(
    user_ids, scores, labels
)

# %% [markdown]
# **Ties count half.** The equation says nothing about ties, and read to the letter a tie is a loss. But then a model
# that gives everything the same score gets 0, as if it had everything upside down, and with $\ge$ in place of $>$ the
# same model gets 1. Half is the value that a coin would get for it.

# %%
same = [0.0] * 6
assert average_user_auc(user_ids, same, labels) == 0.5

# %% [markdown]
# ### Why per user, and not over one big pot
#
# It is tempting to throw all scores into one pot and compute one AUC. But a shop never has to choose between showing
# Ana a shoe and showing Ben a sock. It ranks objects *for one person*, so only the order within a person counts. Two
# small cases show how far the two ways can differ. `pooled` gives everybody the same name and so throws all into one
# pot.

# %%
users = ["ana", "ana", "ana", "ben", "ben", "ben"]
labels = [1, 1, 0, 1, 0, 0]
cases = {
    "right order for each, on different scales": [9.0, 8.0, 7.0, 3.0, 2.0, 1.0],
    "knows who clicks a lot, not on what": [9.0, 9.0, 9.0, 1.0, 1.0, 1.0],
}
pooled = {
    case: float(average_user_auc(["all"] * 6, s, labels))
    for case, s in cases.items()
}
per_user = {
    case: float(average_user_auc(users, s, labels)) for case, s in cases.items()
}
pd.DataFrame({"pooled": pooled, "average user": per_user})

# %% tags=["remove-cell"]
claim(
    pooled_right=(pooled["right order for each, on different scales"], None, 0.99),
    pooled_clueless=(pooled["knows who clicks a lot, not on what"], 0.6),
)

# %% [markdown]
# The first scorer is perfect for everybody, and pooling punishes it ({glue:text}`pooled_right:.2f`), because
# Ben's numbers are smaller than Ana's. The second one cannot tell any two objects apart, and pooling rewards it
# ({glue:text}`pooled_clueless:.2f`) for knowing that Ana clicks more often than Ben.
#
# ## How far does one get without learning?
#
# Before a model with attention enters, let us see what simple rules do on the test samples. If a rule of one line
# comes close to the best that is possible, we need no model. These are the contestants:
#
# | scorer | the score of a candidate |
# |---|---|
# | random | a random number |
# | popular | how often it is a training target |
# | touched before | 1 if the user has touched it before, else 0 |
# | like the last | how many features it shares with the user's last behavior in its group |
# | counted | the same, summed over *all* earlier behaviors in its group |
# | counted, recent | the same, each behavior weighted by $2^{-\text{age}/3\,\text{days}}$; three days are a guess |
# | all groups, recent | the same over all groups, where features share a vocabulary |
#
# The last four are the hand-made features from the beginning of this chapter: counts by category, brand and shop. We
# write them with pandas, in three steps: the histories, the values of the objects, the weighted counts. Each test user
# has one positive, the target, and draws 50 negatives. The user's AUC is then the share of negatives that the target
# beats.

# %%
negatives = 50
parts = split(histories, "validated")
pick = np.random.default_rng(seed)
tests = {}
for (
    group,
    samples,
) in parts.test.items():  # 2000 test users of each group are enough to see the order
    few = pick.permutation(len(samples))[: 2000 if profile == "fast" else None]
    tests[group] = samples[torch.from_numpy(np.sort(few))]
# column 0 is the target
candidates = fixed_candidates(histories, tests, negatives, seed)


def all_histories(group):
    """One row for each pair of a test sample and a behavior of its history; `age` in
    days."""
    samples, own = tests[group], histories.groups[group]
    asked = pd.DataFrame(
        {
            "sample": np.arange(len(samples)),
            "user_id": histories.user_ids.take(samples.users.numpy()),
        }
    )
    asked["now"], asked["target_row"] = (
        samples.times.numpy(),
        own.rows[samples.positions].numpy(),
    )
    pairs = asked.merge(events, on="user_id")
    earlier_row = (pairs["group"] == group) & (pairs["row"] < pairs["target_row"])
    pairs = pairs[
        (pairs["timestamp"] < pairs["now"])
        | (earlier_row & (pairs["timestamp"] == pairs["now"]))
    ]
    pairs = pairs.sort_values(
        ["sample", "timestamp", "row"], kind="stable", ignore_index=True
    )
    return pairs.assign(age=(pairs["now"] - pairs["timestamp"]) / DAY)


# %% [markdown]
# A *value* is a pair of a vocabulary and a word in it, such as `(shop, shop12)`. An item has three of them, and the
# shop of a coupon is the same value as the shop of an item.


# %% tags=["hide-input"]
def values_of(group):
    """One row for each value of each object: every feature but the object's own id
    and numbers."""
    table, pieces = (
        log.objects[group],
        [pd.DataFrame({"object_id": [], "value": []}, dtype="str")],
    )
    for feature, spec in log.schema.groups[group].features.items():
        if spec.kind != "continuous" and feature != "object_id":
            piece = (
                table[["object_id"]]
                .assign(value=table[feature])
                .explode("value")
                .dropna()
            )
            piece["value"] = (
                log.schema.vocabulary(group, feature)
                + "="
                + piece["value"].astype("str")
            )
            pieces.append(piece)
    return pd.concat(pieces, ignore_index=True).assign(group=group)


values = pd.concat(
    [values_of(group) for group in log.schema.groups], ignore_index=True
)
counts = values.groupby("group", sort=False)["value"].agg(["size", "nunique"])
values["value"] = pd.factorize(values["value"])[0]  # numbers are quicker to join
counts.set_axis(["values in its objects table", "different ones"], axis=1)

# %% [markdown]
# To score a candidate, add up the weights of all earlier behaviors, once for each value that the behavior and the
# candidate share. The joins that do so for all candidates at once are folded away.


# %% tags=["hide-input"]
# scorers that learn nothing
def profile_scores(group, pairs, weights):
    """For each column of weights, the score of every candidate: the sum over the
    values that it shares."""
    weighed = pd.concat([pairs[["sample", "group", "object_id"]], weights], axis=1)
    profiles = (
        weighed.merge(values, on=["group", "object_id"])
        .groupby(["sample", "value"])[list(weights)]
        .sum()
    )
    rows = candidates[group].numpy()
    sample, column = np.indices(rows.shape).reshape(2, -1)
    asked = pd.DataFrame({"sample": sample, "column": column})
    asked["object_id"] = log.objects[group]["object_id"].to_numpy()[rows.ravel()]
    asked = asked.merge(values[values["group"] == group], on="object_id").join(
        profiles, on=["sample", "value"]
    )
    where = (
        torch.tensor(asked["sample"].to_numpy()),
        torch.tensor(asked["column"].to_numpy()),
    )
    shared = torch.tensor(asked[list(weights)].fillna(0.0).to_numpy())
    nothing = torch.zeros(rows.shape, dtype=torch.float64)
    return {
        name: nothing.index_put(where, part, accumulate=True)
        for name, part in zip(weights, shared.T, strict=True)
    }


def touched_before(group, pairs):
    """1.0 where a candidate occurs in the history, and that can only be the target:
    negatives were never touched."""
    ids = log.objects[group]["object_id"].to_numpy()[candidates[group][:, 0].numpy()]
    again = pairs["sample"][
        (pairs["group"] == group) & (pairs["object_id"] == ids[pairs["sample"]])
    ]
    scores = torch.zeros(candidates[group].shape, dtype=torch.float64)
    scores[again.unique(), 0] = 1.0
    return scores


# %% [markdown]
# With them, each of the contestants is one line. The generator `dice` throws for `random`.

# %%
dice = torch.Generator().manual_seed(seed)


def contest(group, pairs):
    """The AUC of every scorer that learns nothing, on the test samples of a group,
    given their histories."""
    own, recent = (pairs["group"] == group).astype(float), 0.5 ** (pairs["age"] / 3)
    # pairs are sorted by time
    newest = pairs[own == 1].groupby("sample").tail(1).index
    weights = {
        "like the last": own * pairs.index.isin(newest),
        "counted": own,
        "counted, recent": own * recent,
        "all groups, recent": recent,
    }
    popularity = torch.bincount(
        parts.train[group].objects, minlength=len(histories.catalogs[group])
    )
    scores = {
        "random": torch.rand(candidates[group].shape, generator=dice),
        "popular": popularity[candidates[group]],
        "touched before": touched_before(group, pairs),
        **profile_scores(group, pairs, pd.DataFrame(weights)),
    }
    return {name: user_auc(tests[group], score) for name, score in scores.items()}


# %% [markdown]
# And the best that *any* scorer can do? For the simulated log we know the true probability of each candidate, given
# the history. Ranking by it is the best one can do, with one addition that has to do with the test and not with the
# marketplace: negatives are objects the user *never* touched, so a candidate that was touched before must be the
# positive. The scorer `touched before` lives on this alone, and the best scorer uses it, too. (On another log no
# truth is known. There, the ceiling is 1, which says nothing.)


# %%
def best_scores(group, pairs):
    rows = histories.groups[group].rows[tests[group].positions].numpy()
    return torch.tensor(
        market.truth.scores(log, group, rows, candidates[group].numpy())
    ) + touched_before(group, pairs)


results = {}
for group in tests:
    pairs = all_histories(group)
    results[group] = contest(group, pairs)
    if market:
        results[group]["best possible"] = user_auc(
            tests[group], best_scores(group, pairs)
        )

# %% [markdown]
# Each result carries the AUC of every user. To see how far another draw of users could have moved the mean, we draw
# the users again and again, with replacement, and take the range of the middle 95 of 100 means. That is a *bootstrap
# interval*, and `interval()` computes it.

# %% mystnb={"figure": {"caption": "Average user AUC of scorers that learn nothing, with bootstrap intervals over users, for each target group. The dashed line is the best AUC any model can reach (known only for the simulated log). Look at the gap before it: counting recent behaviors over all groups comes furthest, and stays well short of the line.", "name": "fig-no-learning"}, "image": {"alt": "A dot plot with one panel for each target group and one row for each scorer. The dots move right from random at one half over popularity and similarity to weighted counts; in every panel a gap remains to a dashed line near nine tenths, and it is widest for queries."}} tags=["hide-input"]
fig, axes = plt.subplots(
    1, len(results), figsize=(7.8, 3.2), sharex=True, sharey=True, squeeze=False
)
names = [name for name in next(iter(results.values())) if name != "best possible"]
for ax, (group, result) in zip(axes[0], results.items(), strict=True):
    color = group_color(group)
    for row, name in enumerate(names):
        ax.plot(result[name].interval(seed=seed), [-row, -row], color=color, lw=2)
        ax.plot(float(result[name]), -row, "o", color=color, markersize=6)
    named_line(ax, 0.5, "guessing", at=0.05, side="right", style=":")
    if market:
        named_line(ax, float(result["best possible"]), "best", at=0.95)
    ax.set_yticks([-row for row in range(len(names))], names)
    ax.set_title(group, color=color)
    ax.set(xlabel="average user AUC", xticks=[0.5, 0.7, 0.9])

# %% tags=["hide-input"]
table = pd.DataFrame(
    {
        group: {name: float(auc) for name, auc in result.items()}
        for group, result in results.items()
    }
)
ceiling = table.loc["best possible"] if market else pd.Series(1.0, table.columns)
gap = ceiling - table.loc[names].max()
gain = table.loc["all groups, recent"] - table.loc["counted, recent"]

table.round(3)

# %% tags=["remove-cell"]
claim(
    group=main,
    random=(table.loc["random", main], 0.48, 0.52),
    popular=(table.loc["popular", main], 0.6, 0.7),
    counted=(table.loc["counted", main], 0.7, 0.8),
    gain_recent=(
        table.loc["counted, recent", main] - table.loc["counted", main],
        0.02,
    ),
    gain_groups=(gain[main], 0.01),
    gain_most=gain.idxmax(),
    gain_most_by=(gain.max(), 0.08),
    recent_all=(table.loc["all groups, recent", main], 0.78, 0.86),
    best=(ceiling[main], 0.86, 0.92),
    gap=(gap[main], 0.04),
    gap_most=gap.idxmax(),
    gap_most_by=(gap.max(), 0.12),
)

# %% [markdown]
# ### One life, moment by moment
#
# An average hides its questions. Take the user of {numref}`fig-one-user` again, and all objects that this user never
# touched: how many of them does a scorer put below the one that comes next? On the book's page, "now" moves through the
# life and shows what is history at that moment.


# %% tags=["hide-input"]
# how each scorer does at each moment of this life
def below(group, row):
    """The share of untouched objects that each scorer puts below that of a row."""
    ids = log.objects[group]["object_id"].to_numpy()
    own = log.events[group]["object_id"].iloc[row]
    untouched = ~np.isin(ids, life.loc[life["group"] == group, "object_id"])
    rows = np.concatenate([np.flatnonzero(ids == own), np.flatnonzero(untouched)])
    past = pd.concat(
        [table.assign(group=name) for name, table in history_of(group, row).items()]
    )
    age = (log.events[group]["timestamp"].iloc[row] - past["timestamp"]) / DAY
    shared = past.assign(weight=0.5 ** (age / 3)).merge(
        values, on=["group", "object_id"]
    )
    worth = values["value"].map(shared.groupby("value")["weight"].sum()).fillna(0.0)
    counted = worth[values["group"] == group].groupby(values["object_id"]).sum()
    popular = torch.bincount(parts.train[group].objects, minlength=len(ids)).numpy()
    scores = {
        "popular": popular[rows],
        "all groups, recent": counted.reindex(ids, fill_value=0.0).to_numpy()[rows],
    }
    if market:
        best = market.truth.scores(log, group, np.array([row]), rows[None])[0]
        best[0] += own in set(past.loc[past["group"] == group, "object_id"])
        scores["best possible"] = best
    return {
        name: float(((s[1:] < s[0]) + 0.5 * (s[1:] == s[0])).mean())
        for name, s in scores.items()
    }


place = {(r.group, r.row): i for i, r in enumerate(life.itertuples())}
moments, questions = [], {}
for i, r in enumerate(life.itertuples()):
    past = history_of(r.group, r.row)
    seen = {place[name, row] for name, table in past.items() for row in table.index}
    answers = below(r.group, r.row) if len(past[r.group]) else {}  # else: no sample
    unseen = [earlier for earlier in range(i) if earlier not in seen]
    moments.append({"unseen": unseen, "below": list(answers.values())})
    if answers and r.group == main:
        what = f"{r.action} {r.object_id}, day {days[r.Index]:.0f}"
        questions[what] = {"history": len(seen)} | {
            name: f"{share:.0%}" for name, share in answers.items()
        }
questions = pd.DataFrame(questions).T
drawn = {
    "groups": list(log.schema.groups),
    "scorers": list(questions.columns[1:]),
    "moments": moments,
    "behaviors": [
        {
            "group": r.group,
            "what": f"{r.action} {r.object_id}"[:24],
            "day": round(days[r.Index]),
            "visit": int(visit[r.Index]),
        }
        for r in life.itertuples()
    ],
}
Play("life", drawn, questions) if len(life) <= 30 else questions

# %% [markdown]
# ## What we learned
#
# Follow the targets of group {glue:text}`group`. Guessing gives an AUC of {glue:text}`random:.3f`, popularity
# {glue:text}`popular:.3f`, counting shared values {glue:text}`counted:.3f`. To forget what is old adds
# {glue:text}`gain_recent:.3f`, and to count the other groups, too, {glue:text}`gain_groups:.3f`. So time
# matters and other groups matter: two things that a model has to be able to use.
#
# Then the rules run out. The best of them reaches {glue:text}`recent_all:.3f`, a perfect model
# {glue:text}`best:.3f`. The groups differ, and the reason is instructive. Group {glue:text}`gain_most` gains
# most from the other groups ({glue:text}`gain_most_by:.3f`): in the simulated log a coupon names its shop by the
# same word as an item does, so a count can cross over. The widest gap ({glue:text}`gap_most_by:.3f`) is left for
# group {glue:text}`gap_most`: queries are words, items have ids of categories and brands, and no count can know
# that a certain word goes with a certain category. Someone would have to write that feature by hand, or a model has
# to learn it. That is the gap the rest of this book works on.
#
# Behaviors, planted causes and the ranking of one user can be changed in {ref}`the live model <live-tour-1>`.
#
# ## Exercises
#
# ```{exercise} Warm-up: an AUC by hand
# :label: ex-auc-by-hand
#
# Cleo has positives scored 4 and 2 and negatives scored 3, 2 and 1. What is her AUC? Dan bought everything he was
# shown, so he has two positives and no negative. What is the average user AUC of the two?
# ```
#
# ```{solution} ex-auc-by-hand
# :class: dropdown
#
# Six pairs: 4 beats all three (3 points), 2 loses to 3, ties with 2 and beats 1 (1.5 points). Her AUC is $4.5 / 6 =
# 3/4$. Dan has no pair, hence no AUC, and is left out; the average over the one remaining user is $3/4$.
# `average_user_auc` reports him in `skipped_users`.
# ```

# %% [markdown]
# ```{exercise-start} The metric
# :label: ex-user-auc
# ```
# Write the average user AUC of {eq}`eq-auc` in your own way. `user_ids`, `scores` and `labels` are lists of equal
# length. A tie counts half, and a user with only one kind of label is left out. The checker knows a handful of
# popular slips.


# %%
def user_auc_of_mine(user_ids, scores, labels): ...  # your turn


check.behaviors.user_auc(user_auc_of_mine)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-user-auc
# :class: dropdown
# ```


# %%
def user_auc_of_mine(user_ids, scores, labels):
    table = pd.DataFrame({"user": user_ids, "score": scores, "label": labels})
    pairs = table[table["label"] == 1].merge(
        table[table["label"] == 0], on="user", suffixes=("_pos", "_neg")
    )
    points = (pairs["score_pos"] > pairs["score_neg"]) + 0.5 * (
        pairs["score_pos"] == pairs["score_neg"]
    )
    return points.groupby(pairs["user"]).mean().mean()  # over pairs, then over users


verdict = check.behaviors.user_auc(user_auc_of_mine)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} What was before
# :label: ex-history
# ```
# The behaviors of one user are given as two lists of equal length: the group of each behavior and its time. Inside a
# group, equal times keep the order of the list; otherwise the list is in no particular order. Return the numbers of
# the behaviors that are history of behavior number `target`, in ascending order.


# %%
def history(groups, times, target): ...  # your turn


check.behaviors.history(history)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-history
# :class: dropdown
# ```


# %%
def history(groups, times, target):
    before = []
    for i, (group, time) in enumerate(zip(groups, times, strict=True)):
        row_before = group == groups[target] and time == times[target] and i < target
        if time < times[target] or row_before:
            before.append(i)
    return before


verdict = check.behaviors.history(history)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Like the last
# :label: ex-like-last
# ```
# The plainest scorer of all: 1.0 for a candidate in the category of the user's most recent behavior, 0.0 for any
# other. `history` holds the categories of the user's earlier behaviors, oldest first, and may be empty; `candidates`
# holds the categories of the candidates. Return a list of floats.


# %%
def like_last(history, candidates): ...  # your turn


check.behaviors.like_last(like_last)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-like-last
# :class: dropdown
# ```


# %%
def like_last(history, candidates):
    # nobody's category: a new user gets all zeros
    last = history[-1] if history else None
    return [float(category == last) for category in candidates]


verdict = check.behaviors.like_last(like_last)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Break it and see: the target in its own history
# :label: ex-leak
#
# In `all_histories`, let the history contain everything up to and *including* the moment of the target: replace
# `pairs["timestamp"] < pairs["now"]` by `<=`, and run `contest("coupon", all_histories("coupon"))`. Which scorers rise,
# and how far? Which of them would you have believed? Then think of a milder leak: the log knows only the day of a
# behavior, and what happened in *other* groups on the day of the target is let in.
# ```
#
# ```{solution-start} ex-leak
# :class: dropdown
# ```
# Times are whole numbers, so what lies up to and including a moment lies strictly before the next one. We move the
# moment, and not the comparison.


# %%
most = gain.idxmax()  # the group that gains most from the others: coupon


def told(until, others_only=False):
    """The contest on histories that reach up to the times `until`: in all groups, or
    in the other groups only."""
    samples, strict = tests[most], all_histories(most)
    tests[most] = replace(samples, times=until)
    pairs = all_histories(most)
    tests[most] = samples
    later = (until - samples.times).numpy() / DAY
    pairs["age"] = (pairs["age"] - later[pairs["sample"]]).clip(lower=0)
    if others_only:
        pairs = pd.concat(
            [strict[strict["group"] == most], pairs[pairs["group"] != most]],
            ignore_index=True,
        )
    return contest(most, pairs)


# %%
moment = tests[most].times
leaks = {
    "no leak": results[most],
    "other groups, same day": told((moment // DAY + 1) * DAY, others_only=True),
    "the target itself": told(moment + 1),
}
leaked = pd.DataFrame(
    {
        leak: {name: float(result[name]) for name in names[2:]}
        for leak, result in leaks.items()
    }
)
by_day = leaked["other groups, same day"] - leaked["no leak"]
leaked.round(3)

# %% tags=["remove-cell"]
claim(
    leak_by_day=(by_day["all groups, recent"], 0.015),
    leak_target=(leaked.loc["all groups, recent", "the target itself"], 0.9),
)

# %% [markdown]
# With the target in its own history, `touched before` becomes perfect, and counting over all groups reaches
# {glue:text}`leak_target:.3f`, since the target shares all its features with itself. So high a score is easy to
# distrust. The milder leak is the dangerous one. It lifts the best rule by {glue:text}`leak_by_day:.3f`, which
# looks like nothing but a better model.
#
# ```{solution-end}
# ```
#
# ```{exercise} Open-ended: design your own log
# :label: ex-own-log
#
# Take a service that you know: a library, a music player, a course platform. Which groups of objects are there, which
# actions belong to each, which features describe an object, and which of them share a vocabulary? What is a good unit
# of time for each group? Write a `schema.yaml` and three behaviors, and read it with `read_log`. Then write down one
# thing that the triple $(a, o, t)$ cannot say about your service.
# ```
#
# ```{solution} ex-own-log
# :class: dropdown
#
# For a library: *books* are borrowed, renewed and returned, *searches* have words, *rooms* are booked. Books and
# searches may share a vocabulary of subjects; days suit books, minutes suit searches. A good design lets `read_log`
# pass without a report, has no feature that is known only after the fact (whether a book came back late), and shares a
# vocabulary only where a word means the same on both sides. What a triple cannot say: what was *shown* and not taken,
# how long something lasted (one would have to make its end a behavior too), and who stood beside the reader.
# ```
#
# ## Summary
#
# - A user is a list of behaviors $(a, o, t)$. Summed-up features forget the order and the single behavior.
# - An event log is a schema and two tables for each group. Reading reports every problem at once and repairs none.
# - A sample is a user, a moment and a target. Its history lies strictly before the target; equal times in other
#   groups do not count.
# - The average user AUC compares only within a user, ties count half, and users with one kind of label are left out.
# - Rules without learning get part of the way, recent behaviors and other groups carry them further, and a known gap
#   to the best possible remains.
#
# **Where next.** Items, queries and coupons have different features and cannot lie in one table. {ref}`ch-grouping`
# puts each group into its own flat tensors, and builds a batch out of them without a single loop over samples.
