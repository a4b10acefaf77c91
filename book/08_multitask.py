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
# (ch-multitask)=
# # One user, many tasks
#
# Three teams of a shop ask about the same person. What will she look at next? What will she search for? Which coupon
# will she take? Each team could train a model of its own kind of behavior. Or each could read everything that she does.
# Or all could share one model. Which is best? And when does a task that helps nobody get in the way of the others?
#
# ```{admonition} In this chapter
# **Question**: Should a model read one kind of behavior or all, and should several tasks share a model?
#
# You will
#
# - name the training modes of a log: *one2one*, *all2one*, *all2all*;
# - compute what reading other groups can be worth at most, before training anything;
# - build epochs out of batches of several tasks, and train one model on all of them;
# - read the paper's Table 5 beside our own, on a simulated marketplace and on a log of hotel searches;
# - switch the influence between groups off and see the gain go away;
# - weigh tasks, give each a network of its own, free their gradients from conflicts, and see what is worth the trouble.
#
# **Runtime** (`fast`): about 30 seconds on one core; the tables are recorded runs. **Before this**: {ref}`ch-ranking`,
# {ref}`ch-competitors`. **Modules**: `atrank_lib.multitask`; `experiments`.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("08_multitask", profile=profile, seed=seed)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import INK, PANEL, direct_label, group_color
from atrank_book.play import Play
from atrank_lib import ATRank, ATRankConfig, Recipe, evaluate, fit
from atrank_lib.fast import speed_up
from atrank_lib.multitask import modes
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.samples import batches, prepare
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.baselines import RULES
from experiments.floors import FLOORS
from experiments.own_log import answer
from experiments.records import read_record, recorded
from experiments.summary import difference, read_table, table5
from experiments.tables import KINDS, PAPER_TABLE_5
from experiments.tasks import TaskWeights, remix, turns, without_conflicts

# %% [markdown]
# ## Seven modes
#
# A *mode* says which groups a model reads and which it predicts. The paper writes it as reads-2-predicts. With the
# three groups item, query and coupon there are seven:

# %%
users = 1_000 if profile == "fast" else 6_000
small = {
    "items": 150,
    "queries": 80,
    "coupons": 60,
    "behaviors": 24,
    "categories": 12,
    "brands": 20,
    "shops": 15,
}
market = simulate(MarketplaceConfig(users=users, seed=seed, **small))
log, truth = market.log, market.truth
listed = pd.DataFrame([vars(mode) for mode in modes(log.schema)]).set_index("name")
assert len(listed) == 2 * len(log.schema.groups) + 1 == 7
listed.map(lambda value: ", ".join(value) if isinstance(value, tuple) else value)

# %% [markdown]
# *one2one* is a model for each group that reads this group alone. *all2one* is a model for each target too, but it
# reads everything. *all2all* is one model: every parameter serves every task. Nothing in the list is special to three
# groups. With $G$ groups there are $2G + 1$ modes, and with one group a single one.
#
# ## What could it be worth?
#
# Before we train, a question that only a simulator can answer: how far does the true formula get, and how far if the
# influence of other groups is left out of it? `truth.auc` computes both ({ref}`ch-behaviors`).

# %%
groups = list(log.schema.groups)
rooms = pd.DataFrame(
    {
        "its own group": {g: truth.auc(log, g, use_groups=[g]) for g in groups},
        "all groups": {g: truth.auc(log, g) for g in groups},
    }
)
rooms["room"] = rooms["all groups"] - rooms["its own group"]
rooms.round(3)

# %% tags=["remove-cell"]
largest = str(rooms["room"].idxmax())
assert largest == "coupon"

for g in groups:
    claim(f"room_{g}", rooms.loc[g, "room"], low=0.02, high=0.2)
claim(largest_room=largest)

# %% [markdown]
# Reading all groups can lift the AUC of items by at most {glue:text}`room_item:.3f`, of queries by
# {glue:text}`room_query:.3f`, of coupons by {glue:text}`room_coupon:.3f`. (At most: with all groups the formula is the
# optimum. With one it is not. Weighted anew it ranks better, so the room is smaller.) The smallest group has most to
# gain: there are few coupons in a history, and what leads to a coupon is often an item of the same shop.
#
# *all2all* cannot have more room than *all2one*. It reads the same and predicts more. If it helps, then because the
# tasks teach each other {cite:p}`caruana1997multitask`: what a shop is like is learned from items, and used for coupons.
#
# ## A batch of one task
#
# How does one model train on three tasks? The paper cuts the samples of each task into mini-batches and shuffles the
# batches "fully". In the open, with the number of samples in each task:

# %%
histories, parts = prepare(log, "validated")
counts = {g: len(parts.train[g]) for g in groups}
size = 64
# one entry a batch: its task
plan = [g for g in groups for _ in range(-(-counts[g] // size))]
order = torch.randperm(len(plan), generator=torch.Generator().manual_seed(seed))
shuffled = [plan[i] for i in order]
pd.Series(counts, name="samples").to_frame().assign(
    batches=[plan.count(g) for g in groups]
)

# %% [markdown]
# `batches` of the library does the same, and hands out the histories along with it. A batch holds one task, for its
# candidates are objects of one group; its histories hold all groups.

# %%
samplers = {g: NegativeSampler(histories, g) for g in groups}
draw = torch.Generator().manual_seed(seed)
candidates = {
    g: draw_candidates(parts.train[g], samplers[g], 4, draw) for g in groups
}
made = list(batches(histories, parts.train, candidates, size, generator=draw))
assert sorted(name for name, _, _ in made) == sorted(shuffled)
assert all(batch.candidates.group == name for name, _, batch in made)
assert sum(len(index) for _, index, _ in made) == sum(counts.values())

# %% mystnb={"figure": {"caption": "The first sixty steps of an epoch, three ways. Each mark is a batch of one task; the names stand above. Compare how often each task has its turn. Shuffled, in proportion to the samples: most steps are about items. Uniform: as many batches for each task, so a coupon is seen several times in an epoch. Joint: one step sees a batch of every task that still has some.", "name": "fig-multitask-batches"}, "image": {"alt": "Three rows of marks over sixty steps. In the first row most marks are items; in the second the three tasks are equally frequent; in the third every step has an item mark, with query and coupon marks stacked below some of them."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 2.6))
uniform = remix(parts.train, "uniform", torch.Generator().manual_seed(seed))
even = [g for g in groups for _ in range(-(-len(uniform[g]) // size))]
even = [
    even[i]
    for i in torch.randperm(len(even), generator=torch.Generator().manual_seed(seed))
]
joint = turns({g: plan.count(g) for g in groups})
for y, row in ((2, [[g] for g in shuffled]), (1, [[g] for g in even]), (0, joint)):
    for step, tasks in enumerate(row[:60]):
        for g in tasks:
            place = groups.index(g) if len(row) == len(joint) else 1
            ax.plot(
                step,
                y + 0.22 * (1 - place),
                "s",
                markersize=4.6,
                color=group_color(g),
            )
for x, g in zip((16, 26, 36), groups, strict=True):
    ax.text(x, 2.5, g, color=group_color(g), ha="center")
ax.set_yticks([2, 1, 0], ["shuffled", "uniform", "joint"])
ax.set(xlabel="step", ylim=(-0.5, 2.8))
ax.grid(False)

# %% [markdown]
# ## Does reading more help? A first try
#
# Coupons have most to gain. Three models of the same size: *coupon2coupon*, *all2coupon*, and one *all2all*, all
# judged on the same coupons of the same users against the same negatives. An epoch of *all2all* holds the samples of all
# tasks, so it gets fewer epochs: three are about as many steps as the others may take.


# %%
def train(mode, epochs, seed):
    """Train a small ATRank in a mode; its test AUC on coupons."""
    histories, parts = prepare(log, "validated", mode.targets)
    torch.manual_seed(seed)
    config = ATRankConfig(embedding_size=16, hidden=32, spaces=4, id_dropout=0.3)
    model = speed_up(
        ATRank(log.schema, histories.vocabularies, config, mode.histories)
    )
    recipe = Recipe(
        loss="pairwise",
        negatives=4,
        batch_size=64,
        learning_rate=5e-3,
        average=0.99,
        epochs=epochs,
        patience=4,
    )
    fit(model, histories, parts, recipe, seed=seed, progress=False)
    return evaluate(
        model, histories, {"coupon": parts.test["coupon"]}, negatives=20
    ).average_user_auc


by_name = {mode.name: mode for mode in modes(log.schema)}
tries = range(seed, seed + (2 if profile == "fast" else 5))
first = pd.DataFrame(
    {
        "coupon2coupon": [train(by_name["coupon2coupon"], 16, s) for s in tries],
        "all2coupon": [train(by_name["all2coupon"], 20, s) for s in tries],
        "all2all": [train(by_name["all2all"], 3, s) for s in tries],
    },
    index=pd.Index(tries, name="seed"),
)
first.round(3)

# %% tags=["remove-cell"]
mean = first.mean()

claim(
    first_one=(mean["coupon2coupon"], 0.65, 0.78),
    first_all=(mean["all2coupon"], 0.7, 0.84),
    first_all2all=(mean["all2all"], 0.7, 0.84),
    first_gain=(mean["all2coupon"] - mean["coupon2coupon"], 0.015),
)

# %% [markdown]
# *all2coupon* gets {glue:text}`first_all:.3f` where *coupon2coupon* gets {glue:text}`first_one:.3f`, a gain of
# {glue:text}`first_gain:.3f`. And *all2all*, which had to learn two other tasks besides, gets
# {glue:text}`first_all2all:.3f`: only about one in six of its steps is about coupons.
#
# ## Table 5, on the simulated marketplace
#
# Now the whole table, recorded runs on a larger marketplace: ATRank in all modes with three seeds, and the paper's three
# competitors as *one2one*, as in the paper, with one (so they have no "sd"). All have the recipe for small logs, without
# a search, and at most eight epochs. The *gain* is over ATRank's *one2one*, for the same users and negatives, with its
# 95 % interval over users and seeds ({doc}`protocol`); with one seed it speaks of users alone. *missing* is how far the
# mean is from the best AUC that any model can reach.
#
# The paper's column stands there for its signs alone. Its log is another one. Its item task ranks what was clicked
# against what was *shown* and not clicked, ours against random items, which is easier. And if it was computed by the
# authors' multi-behavior code, it is an AUC over all users' samples together ({ref}`paper-against-code`).

# %% tags=["hide-input"]
simulated = read_table(recorded("table5/simulated_marketplace"))
table = table5(simulated)
paper_rows = [row for row in PAPER_TABLE_5 if (row, "item") in table.index]
shown = table.loc[paper_rows].drop(columns="users").round(3)
shown.insert(
    1,
    "paper",
    [PAPER_TABLE_5[row][groups.index(target)] for row, target in shown.index],
)
again = simulate(MarketplaceConfig(users=2_000, seed=0))  # the log of the records
assert again.log.fingerprint() == simulated["all2one", "item"][0]["data_fingerprint"]
own_best = {g: again.truth.auc(again.log, g, use_groups=[g]) for g in groups}
shown

# %% mystnb={"figure": {"caption": "Test AUC of every mode on the simulated marketplace, one panel a target. Dots are seeds, the bar is their mean; the dashed line is the best that any model can reach, the dotted one the true formula without the influence of other groups, which is no bound. Compare rows within a panel: what reads all groups (all2one, all2all) stands right of what reads one.", "name": "fig-multitask-modes"}, "image": {"alt": "Three panels, item, query and coupon. In each, one2one and the three competitors stand left of all2one and all2all, which lie between the dotted and the dashed line or close to the dotted one."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.1), sharey=True)
for ax, g in zip(axes, groups, strict=True):
    for y, row in enumerate(reversed(paper_rows)):
        aucs = [run["average_user_auc"] for run in simulated[row, g]]
        ax.plot(aucs, [y] * len(aucs), "o", color=group_color(g), markersize=3)
        ax.plot([np.mean(aucs)] * 2, [y - 0.3, y + 0.3], color=group_color(g))
    ax.axvline(
        simulated["one2one", g][0]["best_auc"],
        color=INK,
        linestyle="--",
        linewidth=1,
    )
    ax.axvline(own_best[g], color=INK, linestyle=":", linewidth=1)
    ax.set_title(g, color=group_color(g))
    ax.set(xlabel="AUC", ylim=(-0.6, len(paper_rows) + 0.9))
    top = len(paper_rows) + 0.1
    for x, words in (
        (own_best[g], "own group\n"),
        (simulated["one2one", g][0]["best_auc"], "best"),
    ):
        ax.text(x, top, words, ha="right" if "\n" in words else "center", fontsize=9)
_ = axes[0].set_yticks(range(len(paper_rows)), list(reversed(paper_rows)))

# %% tags=["remove-cell"]
best_one = table.loc["one2one", "missing"].mean()

for g in groups:
    claim(f"gain_{g}", table.loc[("all2one", g), "gain"], low=0.005)
    claim(f"gain_{g}_low", table.loc[("all2one", g), "low"], low=0.0)
    claim(f"missing_{g}", table.loc[("all2one", g), "missing"], low=0.0, high=0.15)
    claim(
        f"all2all_{g}",
        table.loc[("all2all", g), "AUC"] - table.loc[("all2one", g), "AUC"],
    )
claim(
    seeds=(int(table.loc["all2one", "seeds"].min()), 3),
    users=int(table.loc["all2one", "users"].max()),
    missing_one2one=(best_one, 0.0, 0.3),
    steps_all2all=sum(
        e["steps"] for e in simulated["all2all", "coupon"][0]["epochs"]
    ),
    steps_coupon=sum(
        e["steps"] for e in simulated["all2one", "coupon"][0]["epochs"]
    ),
    last_epoch_coupon=(
        np.diff(
            [
                e["validation_auc"]
                for e in simulated["all2one", "coupon"][0]["epochs"]
            ]
        )[-1],
        0.001,
        0.05,
    ),
)

# %% [markdown]
# On the {glue:text}`users:,` users of this log, *all2one* beats *one2one* for every task: by
# {glue:text}`gain_item:.3f` for items, {glue:text}`gain_query:.3f` for queries,
# {glue:text}`gain_coupon:.3f` for coupons. The lower ends of the intervals, {glue:text}`gain_item_low:.3f`,
# {glue:text}`gain_query_low:.3f` and {glue:text}`gain_coupon_low:.3f`, are all above zero. Coupons gain most,
# as the *room* said. In the paper's table the gains have the same sign and are smaller.
#
# *all2all* is {glue:text}`all2all_item:+.3f`, {glue:text}`all2all_query:+.3f` and
# {glue:text}`all2all_coupon:+.3f` from *all2one*. In the paper, all three differences are a little below zero. But the
# budgets differ: eight epochs of *all2all* are {glue:text}`steps_all2all:,` steps, those of *all2coupon*
# {glue:text}`steps_coupon:,`, and the validation AUC of coupons still rose in the last one, by
# {glue:text}`last_epoch_coupon:.3f`. So the table compares modes at equal epochs, not at their best. No mode is at the
# optimum: *all2one* misses {glue:text}`missing_item:.3f`, {glue:text}`missing_query:.3f` and
# {glue:text}`missing_coupon:.3f`, *one2one* {glue:text}`missing_one2one:.3f` on average.
#
# ## The control: influence switched off
#
# Does the gain come from what other groups *say*, or from something else, a longer history perhaps, or more parameters?
# The simulator has a knob: `cross_influence` multiplies every influence between two different groups. At 0 the groups
# live side by side and do not know of each other. Everything else stays.

# %% tags=["hide-input"]
controls = {}
for factor in ("0", "0.3", "1", "3"):
    name = "simulated_marketplace" + (
        "" if factor == "1" else f"_cross_influence_{factor.replace('.', '_')}"
    )
    controls[float(factor)] = table5(read_table(recorded(f"table5/{name}")))
gains = pd.concat(
    {factor: control.loc["all2one"] for factor, control in controls.items()},
    names=["cross influence"],
)[["gain", "low", "high", "seeds"]]
gains.round(3)

# %% mystnb={"figure": {"caption": "What all2one gains over one2one, with 95 % intervals over users, for planted influence between groups that is switched off, weakened, left as it is and tripled. Look at the left end of each line: without influence the intervals hold zero.", "name": "fig-multitask-control"}, "image": {"alt": "Three rising lines, one for each target, over four settings of the cross influence; all are near or below zero at 0, and the coupon line rises highest."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.6, 3.6))
factors = sorted(controls)
for offset, g in zip((-0.06, 0.0, 0.06), groups, strict=True):
    line = gains.xs(g, level="target").loc[factors]
    x = np.arange(len(factors)) + offset
    ax.errorbar(
        x,
        line["gain"],
        [line["gain"] - line["low"], line["high"] - line["gain"]],
        color=group_color(g),
    )
    direct_label(ax, x[-1] + 0.05, line["gain"].iloc[-1], g, group_color(g))
ax.axhline(0, color=INK, linewidth=1)
ax.set_xticks(range(len(factors)), [f"{f:g}" for f in factors])
_ = ax.set(
    xlabel="cross influence",
    ylabel="gain of all2one",
    xlim=(-0.3, len(factors) - 0.3),
)

# %% tags=["remove-input"]
dial = {
    "one": [controls[f].loc["one2one"].loc[groups, "AUC"] for f in factors],
    "all": [controls[f].loc["all2one"].loc[groups, "AUC"] for f in factors],
    "best": [
        controls[f].loc["all2one"].loc[groups, ["AUC", "missing"]].sum(axis=1)
        for f in factors
    ],
    **{
        end: [controls[f].loc["all2one"].loc[groups, end] for f in factors]
        for end in ("gain", "low", "high")
    },
}
dial = {name: [row.tolist() for row in rows] for name, rows in dial.items()}
Play(
    "influence",
    {"factors": factors, "groups": groups, **dial},
    figure="fig-multitask-control",
)

# %% tags=["remove-cell"]
off = gains.xs(0.0, level="cross influence")
for g in groups:
    claim(f"off_{g}", off.loc[g, "gain"], low=-0.02, high=0.02)
    assert off.loc[g, "low"] < 0 < off.loc[g, "high"]
    line = gains.xs(g, level="target").loc[factors, "gain"]
    claim(f"growth_{g}", line.iloc[-1] - line.iloc[0], low=0.02)
claim(off_high=(off["high"].max(), 0.0, 0.03), off_seeds=int(off["seeds"].max()))

# %% [markdown]
# With the influence switched off, reading everything changes the AUC by {glue:text}`off_item:+.3f` for items,
# {glue:text}`off_query:+.3f` for queries and {glue:text}`off_coupon:+.3f` for coupons. All three intervals hold zero.
# They come from {glue:text}`off_seeds` seed and reach up to {glue:text}`off_high:.3f`, so a gain smaller than that is
# not excluded. From no influence to a tripled one, the gain grows by {glue:text}`growth_item:.3f`,
# {glue:text}`growth_query:.3f` and {glue:text}`growth_coupon:.3f`: it follows what the groups say about each other.
#
# ## Beyond the shuffle
#
# An article of Alibaba Cloud on the paper says that its multi-task training has much room for improvement. (The authors'
# code goes one step beyond the shuffle: each task has a learning rate of its own.) Four ideas, each a line of the recipe
# or the model.
#
# **Weights.** A task with more samples takes more steps. Weights on the losses can even that out ("equal"), or be
# learned: with $L_t$ the loss of task $t$ and a parameter $s_t$ for each, {cite:t}`kendall2018uncertainty` minimize
#
# $$
# \sum_t e^{-s_t} L_t + \tfrac12 s_t ,
# $$ (eq-uncertainty)
#
# where a task with a large loss, one that is hard to be certain about, is made lighter. For a constant loss the minimum
# is at $e^{-s_t} = 1 / (2 L_t)$; let us check.

# %%
weights = TaskWeights(
    {name: len(samples) for name, samples in parts.train.items()}, "uncertainty"
)
optimizer = torch.optim.SGD(weights.parameters(), lr=0.5)
for _ in range(200):
    optimizer.zero_grad()
    (
        weights("item", torch.tensor(0.25)) + weights("coupon", torch.tensor(1.0))
    ).backward()
    optimizer.step()
learned = weights.now()
assert abs(learned["item"] - 1 / (2 * 0.25)) < 1e-3
assert abs(learned["coupon"] - 1 / (2 * 1.0)) < 1e-3
pd.Series(learned, name="weight").round(3).to_frame()

# %% [markdown]
# **Uniform batches.** As many batches for every task in an epoch; samples of small tasks come back several times.
#
# **Heads.** A network of its own for every task between the user vector and the score: $e_u \leftarrow e_u + F_g(e_u)$.
# The rest stays shared.
#
# **Gradients without conflicts.** Two tasks share a parameter; one wants it larger, the other smaller. PCGrad
# {cite:p}`yu2020pcgrad` lets every task give up the part of its gradient that opposes another's. By hand, in two
# dimensions:

# %%
coupons, items = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 0.5])
assert coupons @ items < 0  # a step for one is a step back for the other
freed = coupons - (coupons @ items) / (items @ items) * items
other = items - (items @ coupons) / (coupons @ coupons) * coupons
total, conflicts = without_conflicts(
    [coupons, items], torch.Generator().manual_seed(seed)
)
torch.testing.assert_close(total, freed + other)
assert (freed @ items).abs() < 1e-6
assert conflicts == 1

# %% mystnb={"figure": {"caption": "Two gradients that disagree (solid), what PCGrad leaves of each (dashed), and the sum of what is left. Look at the right angles: what is left of one task's gradient no longer undoes the other task.", "name": "fig-multitask-pcgrad"}, "image": {"alt": "Two solid arrows from the origin at an obtuse angle, two dashed arrows at right angles to the respective other, and an arrow named sum between them."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(4.6, 3.4))
for vector, color, style in (
    (coupons, group_color("coupon"), "-"),
    (items, group_color("item"), "-"),
    (freed, group_color("coupon"), "--"),
    (other, group_color("item"), "--"),
    (total, INK, "-"),
):
    arrow = {
        "arrowstyle": "-|>",
        "color": color,
        "linestyle": style,
        "linewidth": 1.8,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", tuple(vector.tolist()), (0, 0), arrowprops=arrow)
direct_label(ax, 1.0, 1.0, "coupons", group_color("coupon"))
ax.text(-1.0, 0.55, "items", color=group_color("item"), ha="center", va="bottom")
direct_label(ax, float(total[0]), float(total[1]), "sum", INK)
direct_label(ax, *freed.tolist(), "freed", group_color("coupon"))
ax.text(
    *other.tolist(), "freed ", color=group_color("item"), ha="right", va="center"
)
ax.set_aspect("equal")
_ = ax.set(xlim=(-1.4, 1.7), ylim=(-0.3, 2.4))

# %% [markdown]
# PCGrad needs the gradients of several tasks at the same point, so its steps are *joint*: a batch of every task in one
# step. To tell the two apart, joint steps without surgery are in the table too. All are *all2all*, recorded, with the
# settings of the table above.

# %% tags=["hide-input"]
paper_reading = [
    row
    for row in dict.fromkeys(row for row, _ in simulated)
    if not row.endswith("-raw")
]
variants = [row for row in paper_reading if row.startswith("all2all")]
against = {
    row: {
        g: table.loc[(row, g), "AUC"] - table.loc[("all2one", g), "AUC"]
        for g in groups
    }
    for row in variants
}
gap = pd.DataFrame(against).T
gap["mean"] = gap.mean(axis=1)
by_seed = {
    row: np.array(
        [[run["average_user_auc"] for run in simulated[row, g]] for g in groups]
    )
    for row in variants
}
gap["sd of the mean"] = [
    by_seed[row].mean(axis=0).std(ddof=1) if by_seed[row].shape[1] > 1 else np.nan
    for row in variants
]
gap["seeds"] = [len(simulated[row, groups[0]]) for row in variants]
gap.index.name = "AUC minus all2one"
gap.sort_values("mean", ascending=False).round(4)

# %% tags=["remove-cell"]
pcgrad = gap.loc["all2all-pcgrad", "mean"] - gap.loc["all2all-joint", "mean"]
pairs = len(groups) * (len(groups) - 1) // 2
conflict = [
    epoch["conflicts"] / epoch["steps"]
    for run in simulated["all2all-pcgrad", "item"]
    for epoch in run["epochs"]
]
cost = pd.DataFrame(
    read_record(recorded("speed") / "multitask.json")["rows"]
).set_index("steps")["ratio"]
assert (gap["coupon"] < 0).all()

claim(
    variant_best=gap["mean"].idxmax(),
    variant_best_gap=(gap["mean"].max(), -0.005),
    variant_plain_gap=(gap.loc["all2all", "mean"], -0.03, 0.05),
    variant_plain_sd=(gap.loc["all2all", "sd of the mean"], 0.0, 0.02),
    variant_worst=gap["mean"].idxmin(),
    variant_worst_gap=(gap["mean"].min(), -0.1),
    variant_joint=(
        gap.loc["all2all-joint", "mean"] - gap.loc["all2all", "mean"],
        -0.02,
        0.03,
    ),
    variant_pcgrad=(pcgrad, -0.01, 0.01),
    conflicts=(np.mean(conflict), 0.0, pairs),
    pairs=pairs,
    cost_shuffled=(cost["shuffled"], 0.5, 1.15),
    cost_pcgrad=(cost["pcgrad"], 0.5, 3.0),
)

# %% [markdown]
# The plain shuffle is {glue:text}`variant_plain_gap:+.4f` from *all2one*, on average over the tasks, with a standard
# deviation over seeds of {glue:text}`variant_plain_sd:.4f`. The best variant is
# {glue:text}`variant_best` with {glue:text}`variant_best_gap:+.4f`, the worst {glue:text}`variant_worst` with
# {glue:text}`variant_worst_gap:+.4f`: what weights give to the small tasks, the largest loses.
#
# Joint steps change the mean by {glue:text}`variant_joint:+.4f`, though an epoch has fewer of them; the spread over
# seeds is as large. PCGrad on top of them changes it by {glue:text}`variant_pcgrad:+.4f`. Gradients in conflict are
# no rare event, there are {glue:text}`conflicts:.2f` such pairs in a step, of {glue:text}`pairs`. What is left is the
# column of coupons: in no variant are they as good as with a model of their own, as long as one epoch is kept for all
# tasks. A few seeds on one log do not decide it for others.
#
# Mixing costs no speed: an epoch of *all2all* takes {glue:text}`cost_shuffled:.2f` times the processor time of the
# same batches trained task by task. With PCGrad it is {glue:text}`cost_pcgrad:.2f` times: more work in a step, and
# fewer steps (`benchmarks/multitask.py`).
#
# ## What sharing and time are worth
#
# ATRank shares embeddings: an item's shop and a coupon's shop are the same row of one table. And it encodes time by
# group, each with its own unit. Switched off, one at a time, for *all2one*:

# %% tags=["hide-input"]
pieces = {}
for row, what in (
    ("all2one-unshared", "no embedding is shared"),
    ("all2one-one-time-scale", "one time scale for all groups"),
    ("all2one-no-time", "no time"),
):
    pieces[what] = {
        g: table.loc[(row, g), "AUC"] - table.loc[("all2one", g), "AUC"]
        for g in groups
    }
    pieces[what]["seeds"] = len(simulated[row, groups[0]])
pieces = pd.DataFrame(pieces).T.astype({"seeds": int})
pieces.round(4)

# %% tags=["remove-cell"]
average = pieces[groups].mean(axis=1)

claim(
    unshared=(average["no embedding is shared"], -0.015, 0.015),
    one_scale=(average["one time scale for all groups"], -0.1, 0.03),
    no_time=(average["no time"], -0.2, 0.0),
)

# %% [markdown]
# Averaged over the targets: without sharing {glue:text}`unshared:+.3f`, with one time scale
# {glue:text}`one_scale:+.3f`, without time {glue:text}`no_time:+.3f`. *When* something happened is worth a lot.
# In which unit time is cut into buckets, and sharing, which the paper recommends, change less than these few seeds can
# show.
#
# ## Hotels, searches, and what was shown
#
# Do people behave like our marketplace? The paper's log was never published. What comes nearest in public is the log of
# a hotel search {cite:p}`knees2019recsys`: people look at hotels, search for places, set filters, and choose a hotel
# from a list ({ref}`logs`). And for once the log holds what was *shown* beside what was chosen. So the item task can be
# asked as a shop would ask it: of these 25 hotels, which one was clicked? The negatives are no random objects, but
# those that the user saw and passed over. Searches and filters are tasks as in the paper.
#
# What was shown carries context: the place in the list, the price, what the user last did with this hotel. The paper
# allows for it in a sentence: $f$ of eq. 8 may be any network that ranks, with further features. Here it is the network
# of {ref}`ch-competitors` (`ranking="mlp"`), and the context goes into it alone. Histories do not know it.
#
# At hand are two days, {glue:text}`shown_users` users with a tested choice. The protocol, written before these runs,
# says what had been looked at before ({doc}`protocol`). First the floors, which learn nothing or next to nothing: what
# is popular; what the user acted on last (*again*) or most often; what stood higher; what was cheaper; and *again*, with
# the place for what the user never touched.

# %% tags=["hide-input"]
listed = read_table(recorded("shown/trivago"))
shown = table5(listed)
tasks = ["item", "search", "filter"]
readers = [
    f"{m}-{kind}" for m in ("atrank", "bi-lstm", "cnn", "din") for kind in KINDS
]
less = [f"atrank-{row}" for row in ("one2one-placeless", "one2one-unaware")]
less.append("atrank-all2all-apart")
floors = [
    name for name in dict.fromkeys(row for row, _ in shown.index) if name in RULES
]
auc = shown["AUC"].unstack("target")[tasks].reindex([*floors, *readers, *less])
auc.round(3)


# %% tags=["remove-cell"]
models = auc.loc[[row for row in readers if row in auc.index]]
rules = auc.loc[floors]
own = listed["atrank-one2one", "item"]
lead = difference(own, listed["again-then-place", "item"])
anywhere = np.mean([run["random"]["average_user_auc"] for run in own])
rule = rules["search"].idxmax()
above = [
    difference(listed[row, "search"], listed[rule, "search"])["low"] > 0
    for row in models.index
]
widths = {
    task: difference(listed["atrank-all2all", task], listed["atrank-one2one", task])
    for task in tasks
}
alone, together = (
    listed[f"atrank-{kind}", "filter"] for kind in ("one2one", "all2all")
)
reached = [run["average_user_auc"] for run in alone]
gains = [
    difference(listed[row, task], listed[f"{row.rpartition('-')[0]}-one2one", task])
    for row in models.index
    for task in tasks
    if not row.endswith("one2one")
]
claim(
    shown_users=int(shown.loc[("place", "item"), "users"]),
    shown_filter_users=int(shown.loc[("popularity", "filter"), "users"]),
    shown_search_users=int(shown.loc[("popularity", "search"), "users"]),
    shown_again=(rules.loc["again", "item"], 0.76, 0.81),
    shown_place=(rules.loc["place", "item"], 0.72, 0.77),
    shown_rule=(rules.loc["again-then-place", "item"], 0.84, 0.87),
    shown_best=(models.loc["atrank-one2one", "item"], 0.85, 0.88),
    shown_spread=(models["item"].max() - models["item"].min(), 0.0, 0.01),
    shown_new=(own[0]["never_target"], 0.7, 1.0),
    shown_seeds=int(shown["seeds"].drop(index=floors, level="row").min()),
    shown_search_above=(sum(above), 0, 4),
    shown_readers=len(models),
    shown_lead=(lead["difference"], 0.0, 0.02),
    shown_lead_low=(lead["low"], -0.01, 0.02),
    shown_lead_high=(lead["high"], 0.0, 0.03),
    shown_anywhere=(anywhere, 0.5, 0.7),
    shown_filter_rule=(rules["filter"].max(), 0.86, 0.9),
    shown_filter_own=(models.loc["atrank-one2one", "filter"], 0.88, 0.96),
    shown_first_own=(alone[0]["average_user_auc"], 0.84, 0.89),
    shown_first_all=(together[0]["average_user_auc"], 0.9, 0.95),
    shown_first_epoch=(alone[0]["best_epoch"], 1, 5),
    shown_other_epoch=(min(run["best_epoch"] for run in alone[1:]), 6),
    shown_other_own=(np.mean(reached[1:]), 0.92, 0.96),
    shown_range_own=(np.ptp(reached), 0.04),
    shown_range_all=(
        np.ptp([run["average_user_auc"] for run in together]),
        0.0,
        0.02,
    ),
    shown_gains=len(gains),
    shown_gained=(sum(gain["low"] > 0 for gain in gains), 0, 0),
    shown_filter_all=(models.loc["atrank-all2all", "filter"], 0.88, 0.95),
    shown_filter_apart=(auc.loc["atrank-all2all-apart", "filter"], 0.88, 0.96),
    shown_search_rule=(rules["search"].max(), 0.55, 0.63),
    shown_search_all=(models.loc["atrank-all2all", "search"], 0.53, 0.63),
)
for task, found in widths.items():
    for end in ("difference", "low", "high"):
        claim(f"shown_{task}_{end}", found[end], low=-0.1, high=0.15)

# %% [markdown]
# *Hotels.* Two simple facts carry most of the answer: people return to what they looked at
# ({glue:text}`shown_again:.3f`), and they click what stands high ({glue:text}`shown_place:.3f`). A rule of both has
# {glue:text}`shown_rule:.3f`, and ATRank, which is told both and reads the histories besides,
# {glue:text}`shown_best:.3f`: {glue:text}`shown_lead:+.4f` ({glue:text}`shown_lead_low:+.4f` to
# {glue:text}`shown_lead_high:+.4f`). All models in all modes lie within {glue:text}`shown_spread:.3f` of one another.
# Whoever shows the model without the rule beside it shows a triumph; beside it, it is a small step, and its settings had
# been looked at on these very users.
#
# The same model, asked to tell the chosen hotel from one of *anywhere*, without a list, has
# {glue:text}`shown_anywhere:.3f`. It was never trained to, and {glue:text}`shown_new:.0%` of the tested hotels were never
# a target in training: an id says little about them, context says it.
#
# *Filters and searches.* {glue:text}`shown_filter_users` and {glue:text}`shown_search_users` users are tested. What is
# popular of late has {glue:text}`shown_filter_rule:.3f` for filters, ATRank trained on filters alone
# {glue:text}`shown_filter_own:.3f`, one model for all tasks {glue:text}`shown_filter_all:.3f`: a difference of
# {glue:text}`shown_filter_difference:+.3f` ({glue:text}`shown_filter_low:+.3f` to {glue:text}`shown_filter_high:+.3f`),
# which says nothing. An earlier edition had one seed, and found here that a small task learns from its neighbors. That
# seed has {glue:text}`shown_first_own:.3f` alone and {glue:text}`shown_first_all:.3f` together, and much the same with the
# three other models; no interval over users can see through that. It was the rule for stopping: with this seed,
# validation was best after epoch {glue:text}`shown_first_epoch`, and four epochs later training ended. With the others it
# rose until epoch {glue:text}`shown_other_epoch` at least, to {glue:text}`shown_other_own:.3f` alone. The finding is
# withdrawn. What is left of it: the five trainings together are within {glue:text}`shown_range_all:.3f` of one another,
# those alone within {glue:text}`shown_range_own:.3f`.
#
# For searches *all2all* changes {glue:text}`shown_search_difference:+.3f` ({glue:text}`shown_search_low:+.3f` to
# {glue:text}`shown_search_high:+.3f`), for hotels {glue:text}`shown_item_difference:+.4f`. The best rule for searches has
# {glue:text}`shown_search_rule:.3f`, ATRank's *all2all* {glue:text}`shown_search_all:.3f`; of the
# {glue:text}`shown_readers` rows of models, {glue:text}`shown_search_above` are above the rule by their interval. Of all
# {glue:text}`shown_gains` differences of *all2one* or *all2all* to *one2one*, four models and three tasks, the interval of
# {glue:text}`shown_gained` lies above zero. (Trained *apart*, without samples whose history holds the test of another
# task, *all2all* has {glue:text}`shown_filter_apart:.3f` for filters: there is no leak to explain either.)
#
# Every model in every mode was trained with {glue:text}`shown_seeds` seeds, and intervals cross users and seeds.
#
# ### What the place does to the answer
#
# A click says two things: that the hotel pleased, and that it was seen. What stands high is seen more, so a model that
# is told the place learns the habits of the list along with the wishes of the user. When it then ranks a new list, the
# place is the very thing to be decided. How much of the score is the place?

# %% tags=["hide-input"]
pieces = {
    "the place alone": "place",
    "what the user acted on last": "again",
    "ATRank, no context": "atrank-one2one-unaware",
    "ATRank, context but the place": "atrank-one2one-placeless",
    "ATRank, all context": "atrank-one2one",
}
full = listed["atrank-one2one", "item"]
place = pd.DataFrame(
    {
        what: {
            "AUC": auc.loc[row, "item"],
            **difference(listed[row, "item"], full),
        }
        for what, row in pieces.items()
        if row != "atrank-one2one"
    }
).T
place.drop(columns="seeds").round(3)

# %% tags=["remove-cell"]
claim(
    placeless=(place.loc["ATRank, context but the place", "AUC"], 0.75, 0.85),
    unaware=(place.loc["ATRank, no context", "AUC"], 0.5, 0.65),
    place_worth=(
        -place.loc["ATRank, context but the place", "difference"],
        0.02,
        0.1,
    ),
)

# %% [markdown]
# Without the place the model has {glue:text}`placeless:.3f`, {glue:text}`place_worth:.3f` less; without any context
# {glue:text}`unaware:.3f`, hardly more than guessing. Reading histories by ids cannot carry over to hotels that
# training never saw. So three habits: report a model with and without the place; rank a new list with the place left
# out, or the same for all (`atrank rank --shown FILE` takes the list as it is to be shown); and never compare a model
# that knows the place with one that does not.
#
# ### A warning about degenerate tasks
#
# Several kinds of behavior do not make a task. *The Complete Journey* {cite:p}`boehmke2019journey`, a year of a grocery
# chain, looks like the paper's log. But its campaigns begin for all households on the same day: the rule "it first
# appears at this very moment" ranks them with {glue:text}`real_campaign_floor:.3f`, above every model that may not be
# told this ({glue:text}`real_campaign_high:.3f`). For coupons, what was popular of late has
# {glue:text}`real_coupon_floor:.3f` and the best model {glue:text}`real_coupon_lead:+.3f` from it. And a random 6.8 % of
# the purchases is at hand, which destroys sequences. An earlier edition read findings out of these numbers; it had no
# floors, and they are withdrawn.

# %% tags=["remove-cell"]
journey = table5(read_table(recorded("table5/the_complete_journey")))
journey = journey["AUC"].unstack("target")
ours = journey.drop(index=list(FLOORS))
claim(
    real_campaign_floor=(journey.loc["starts-now", "campaign"], 0.98),
    real_campaign_high=(ours["campaign"].max(), 0.85, 0.98),
    real_coupon_floor=(journey.loc["recent-popularity", "coupon"], 0.7, 0.85),
    real_coupon_lead=(
        ours["coupon"].max() - journey.loc["recent-popularity", "coupon"],
        None,
        0.01,
    ),
)

# %% [markdown]
# ## Behaviors as they are
#
# {ref}`ch-competitors` tried, on a log with one kind of behavior, an ATRank whose target reads behaviors as they are: no
# $Q_k$ before the sum, no $\mathcal{F}_{vanilla}$ after it (`told="raw"`). Here are all modes on the marketplace again,
# with the raw reading in place of the paper's, and nothing else changed:

# %% tags=["hide-input"]
readings = pd.DataFrame(
    [
        {
            "target": g,
            "mode": mode,
            **difference(simulated[f"{mode}-raw", g], simulated[mode, g]),
        }
        for g in groups
        for mode in KINDS
    ]
).set_index(["target", "mode"])
readings.round(3)

# %% mystnb={"figure": {"caption": "Test AUC of every mode on the marketplace with the paper's reading (open circle) and with the raw one (filled), means over the same seeds. See on which side the filled circles lie: where one is to the right, the raw reading is better; the number says by how much.", "name": "fig-multitask-raw"}, "image": {"alt": "A row for each target and mode, with a line from an open to a filled circle. All filled circles are to the right."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for y, (g, mode) in enumerate(reversed(list(readings.index))):
    after = np.mean([run["average_user_auc"] for run in simulated[f"{mode}-raw", g]])
    before = after - readings.loc[(g, mode), "difference"]
    color = group_color(g)
    ax.plot([before, after], [y, y], color=color, linewidth=3)
    ax.plot(before, y, "o", color=color, markerfacecolor=PANEL)
    ax.plot(after, y, "o", color=color)
    signed = f"{after - before:+.3f}".replace("-", "−")
    direct_label(ax, max(before, after), y, signed, color)
ax.set_yticks(
    range(len(readings)), [f"{g}, {mode}" for g, mode in reversed(readings.index)]
)
ax.set(xlabel="AUC")
ax.margins(x=0.2)

# %% tags=["remove-cell"]
told = int((readings["low"] > 0).sum())  # differences whose interval is off zero
missed = {
    row: float(np.mean([table.loc[(row, g), "missing"] for g in groups]))
    for row in ("all2one", "all2one-raw")
}
claim(
    raw_told=(told, 8, len(readings)),
    raw_cells=len(readings),
    raw_least=(readings["difference"].min(), 0.005),
    raw_most=(readings["difference"].max(), None, 0.08),
    raw_missed_before=(missed["all2one"], 0.03, 0.15),
    raw_missed=(missed["all2one-raw"], 0.0, 0.1),
)

# %% [markdown]
# Every target gains in every mode, from {glue:text}`raw_least:.3f` to {glue:text}`raw_most:.3f`
# ({numref}`fig-multitask-raw`), and {glue:text}`raw_told` of the {glue:text}`raw_cells` intervals are above zero; what
# *all2one* misses of the best reachable AUC shrinks from
# {glue:text}`raw_missed_before:.3f` to {glue:text}`raw_missed:.3f`, on average. Two reasons to be careful. After eight
# epochs this may be faster learning and no better model. And this simulator all but asks for it: the chance of an object
# is a *sum* over behaviors of a weight times a match, the very form of a target that adds up behaviors as they are. It
# could not have proved that form wrong.
#
# ## On your own log
#
# Does reading everything help on *your* log? Give its folder as the parameter `data`, and a small ATRank is trained for
# each of its three largest groups, on that group alone (*one2one*) and on all (*all2one*), and one for the three together
# (*all2all*, as many steps for each target), beside the best plain rule; *gain* is all2one minus one2one, with its interval
# over users. Without a log, this is a recorded answer on a small site of Stack Exchange ({doc}`logs`).

# %% tags=["hide-input"]
answer("modes", data, seed=seed).set_index("target").rename(
    columns={"all2one minus one2one": "gain"}
).round(3)

# %% [markdown]
# First compare each model with the rule. Where the rule is ahead, the differences of modes say little yet: train longer,
# or ask whether the target can be predicted at all.
#
# ## What we learned
#
# On our marketplace, reading everything helps, and the more so the more the groups speak about each other; where they do
# not, no gain is seen. At equal epochs one model for all tasks is as good as one for each in the mean, and worse for the
# smallest task. What goes beyond the plain shuffle changes little more than another seed would. On a log of hotel
# searches no task gains by the other kinds of behavior, or by learning beside the other tasks; where the choice is from a
# list, the list says most of it, and a plain rule comes close to the best model. With one seed, or without floors, such
# numbers look like findings.
#
# One model ranks items, queries and coupons for one user in {ref}`the live model <live-user-dora>`.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: the modes of a log
# :label: ex-modes
# ```
# Write `my_modes(groups)`: a list of `(name, histories, targets)` for every mode of a log with these groups.


# %%
def my_modes(groups): ...  # your turn


check.multitask.modes(my_modes)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-modes
# :class: dropdown
# ```


# %%
def my_modes(groups):
    found = [(f"{g}2{g}", [g], [g]) for g in groups]
    if len(groups) > 1:
        found += [(f"all2{g}", groups, [g]) for g in groups] + [
            ("all2all", groups, groups)
        ]
    return found


verdict = check.multitask.modes(my_modes)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Tasks that count alike
# :label: ex-equal-weights
# ```
# A batch's loss is a mean over its samples, and each task has as many batches as its samples fill. Write
# `equal_weights(counts)`: a weight for each task, given its number of samples, so that all tasks count alike over an
# epoch, and all together as much as without weights.


# %%
def equal_weights(counts): ...  # your turn


check.multitask.equal_weights(equal_weights)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-equal-weights
# :class: dropdown
# ```


# %%
def equal_weights(counts):
    return {
        name: sum(counts.values()) / (len(counts) * n) for name, n in counts.items()
    }


verdict = check.multitask.equal_weights(equal_weights)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Without conflict
# :label: ex-without-conflict
# ```
# Write `free(g, other)`: the gradient `g`, freed from what opposes `other`.


# %%
def free(g, other): ...  # your turn


check.multitask.without_conflict(free)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-without-conflict
# :class: dropdown
# ```


# %%
def free(g, other):
    against = g @ other
    return g - against / (other @ other) * other if against < 0 else g


verdict = check.multitask.without_conflict(free)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise} Break it and see: a task that lies
# :label: ex-lying-task
# Shuffle the `object_id` column of the coupon events, so that coupons mean nothing, and train *all2all* again
# (`EventLog.from_tables(log.schema, events, log.objects)` makes a log of changed tables; the function `train` above shows
# the rest). What happens to items and queries? Which of the four ideas would protect them best, and why can none of
# them know?
# ```
#
# ```{solution} ex-lying-task
# :class: dropdown
# Part of the steps, and of the shared tables, now go into noise, so items and queries may lose a little; train from
# several seeds to see whether it is more than another seed would cost. Weights learned from uncertainty should help,
# since a task that cannot be learned keeps a large loss and is made lighter. A head of its own gives the noise a place to
# live. PCGrad sees gradients that conflict at random. None of them can tell a task that is hard from one that is
# meaningless; a validation set of the tasks you care about can.
# ```

# %% [markdown]
# ```{exercise} Open-ended: is it a leak?
# :label: ex-task-leak
# A user's last coupon is a test target. In *all2all*, items that she clicked *later* are training samples, and their
# histories hold that very coupon. It is never a label. Could the model profit all the same? Write down an experiment
# that tells.
# ```
#
# ```{solution} ex-task-leak
# :class: dropdown
# It could: the embeddings of this coupon and of the items that followed it meet in training. To find out, drop from each
# task's training samples all that come after the user's first validation target of *any* task, and train *all2all* and
# *all2one* on what is left. If *all2all* had lived from the leak, its distance to *all2one* would shrink. A protocol with
# one cut in time for everybody ({ref}`ch-honest`) closes the door altogether.
# ```

# %% [markdown]
# ## Summary
#
# - **Modes**: *one2one*, *all2one*, *all2all*; $2G + 1$ of them for $G$ groups.
# - **Room**: the simulator says what reading other groups can be worth, before training.
# - **Batches of tasks**: shuffled in proportion, uniform, or joint ({numref}`fig-multitask-batches`).
# - **Table 5**: *all2one* gains {glue:text}`gain_item:.3f`, {glue:text}`gain_query:.3f` and
#   {glue:text}`gain_coupon:.3f` over *one2one*; none is seen when the influence is off ({numref}`fig-multitask-control`).
# - **A real log**: floors first. Choices from lists are mostly what was touched last and what stood high; filters gain by
#   sharing a model; a campaign that is given away by its date is no task.
# - **Behaviors as they are**: `told="raw"` gains {glue:text}`raw_least:.3f` to {glue:text}`raw_most:.3f` on the
#   marketplace, whose own form it has ({numref}`fig-multitask-raw`).
# - **Beyond the shuffle**: `task_weights`, `task_mix`, `task_steps` of a `TaskRecipe`, and `task_heads` of the model.
#
# **Where next?** {ref}`ch-interpret` opens the model: does attention look at what was the cause?
