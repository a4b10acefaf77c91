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
# (quarter-hour)=
# # ATRank in a quarter of an hour
#
# Nora opens a shop's page, and the page has room for one thing. The shop has {glue:text}`objects` items,
# and it knows what Nora did last: {glue:text}`behaviors` things in five days. What should it show? This page follows her through
# ATRank {cite:p}`zhou2018atrank`, from a list to a ranking, in six steps: one for each of the first six chapters.
#
# Nora lives in a simulated marketplace. So we know what no shop knows: what made her do what she did next.

# %% tags=["parameters", "remove-input"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("quarter_hour", profile=profile, seed=seed)

# %% tags=["remove-input"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle

from atrank_book.figures import FAINT, INK, group_color, heatmap, space_color
from atrank_book.live import LATEST, NORA, SIZES, batch_of, planted, rank, train
from atrank_book.names import word
from atrank_book.page import examples_of
from atrank_lib.interpret import explain
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.records import recorded
from experiments.summary import difference, read_table, switch_table, table3, table5

# Nora's life is the same for every seed: only the model is trained anew.
market = simulate(MarketplaceConfig(**SIZES, seed=0))
histories, parts, model = train(market.log, profile, seed)
groups = list(histories.groups)
names = {"item": "items", "query": "searches", "coupon": "coupons"}

tests = parts.test["item"]
place = histories.user_ids[tests.users.numpy()].tolist().index(NORA)
sample = tests[torch.tensor([place])]
(nora,) = examples_of(histories, sample, model.histories, LATEST)
behaviors, target = nora["behaviors"], nora["object"]
colors = [group_color(groups[group]) for group, *_ in behaviors]
numbers = [str(i + 1) for i in range(len(behaviors))]


def feature(group, row, name):
    return histories.tables[group][name].iloc[row]


def called(group, row):
    """An object in a few words."""
    if group == "query":
        return f"“{' '.join(map(word, feature(group, row, 'tokens')))}”"
    if group == "coupon":
        return f"{word(feature(group, row, 'shop_id'))} coupon"
    return " ".join(
        word(feature(group, row, f)) for f in ("brand_id", "category_id")
    )


def ago(seconds):
    for unit, size in (("d", 86_400), ("h", 3_600)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} min"


# %% [markdown]
# ## 1 A list of behaviors
#
# **What goes in** is a list, and the candidates to choose from; nothing else. A behavior is an action, on an object, at
# a time. Nobody has summed up Nora in counts, so nothing is lost, and a new kind of behavior needs no new column
# ({ref}`ch-behaviors`).

# %% mystnb={"figure": {"caption": "Read Nora's latest behaviors from the top, oldest first, each in the color of its kind. On the left its number, then how long ago it was.", "name": "fig-quarter-list"}, "image": {"alt": "A list of twelve lines in three colors: browsed and bought items, searches with their words, and coupons received. The oldest is five days old, the newest six minutes."}} tags=["remove-input"]
fig, ax = plt.subplots(figsize=(3.6, 3.1))
ax.set(xlim=(0, 1), ylim=(len(behaviors) + 0.4, -0.6))
ax.axis("off")
for i, (group, action, row, elapsed) in enumerate(behaviors):
    kind = groups[group]
    verb = histories.schema.groups[kind].actions[action]
    line = f"{verb} {called(kind, row)}"
    for x, text, side in (
        (0.04, numbers[i], "right"),
        (0.2, ago(elapsed), "right"),
        (0.23, line, "left"),
    ):
        ax.text(x, i, text, color=colors[i], ha=side, va="center", fontsize=9)
ax.text(
    0.2, len(behaviors), "now", ha="right", va="center", fontsize=9, weight="bold"
)
_ = ax.text(
    0.23, len(behaviors), "which item?", va="center", fontsize=9, weight="bold"
)

# %% [markdown]
# **What comes out** is a score for every candidate. Sorted by it, they are a ranking. What Nora really did next was to
# look at a Dunlin rug of the Lake Store. The model has not seen that.
#
# ## 2 Groups
#
# An item has a shop, a brand, a category and a price. A search has words, a coupon has a shop and a type. Objects with
# the same features form a **group**, and each group gets a block of its own with its own tables of numbers to be
# learned, called embeddings. What two groups share, such as a shop, is one row of one table ({ref}`ch-grouping`).

# %% mystnb={"figure": {"caption": "Compare the widths: the same behaviors in blocks, one block a group, each row as wide as what there is to say about its object. The blocks do not fit together yet.", "name": "fig-quarter-groups"}, "image": {"alt": "Three blocks of numbered bars: five wide ones for items, five narrow ones for searches, two of middle width for coupons."}} tags=["remove-input"]
widths = {g: model.embedding(g).actions.weight.shape[1] for g in groups}
fig, ax = plt.subplots(figsize=(3.6, 2.7))
ax.axis("off")
y = 0
for g, kind in enumerate(groups):
    mine = [i for i, behavior in enumerate(behaviors) if behavior[0] == g]
    ax.text(
        0, y, f"{names[kind]}: {widths[kind]} numbers each", fontsize=9, va="center"
    )
    for i in mine:
        y += 1
        ax.add_patch(Rectangle((6, y - 0.4), widths[kind], 0.8, color=colors[i]))
        ax.text(
            4.5, y, numbers[i], ha="right", va="center", fontsize=9, color=colors[i]
        )
    y += 1.4
_ = ax.set(xlim=(0, 90), ylim=(y - 0.5, -0.7))

# %% [markdown]
# ## 3 Embedding, with time in buckets
#
# A behavior becomes a vector: its object's embedding, plus one for the action, plus one for *how long ago* it was. Ages
# run from minutes to weeks, too far apart for a network to use as plain numbers. So time is cut into **buckets** that
# double in width, and each bucket has a vector of its own, to be learned. Why **buckets**? Because then what an age means
# is learned too, and for each group apart: in this marketplace the pull of a coupon halves in {glue:text}`half_coupon:.0f`
# hours, that of an item in {glue:text}`half_item:.0f` days ({ref}`ch-time`).

# %% mystnb={"figure": {"caption": "Find each behavior's bucket. Each step to the right is twice as old; items are counted from days, searches and coupons from hours.", "name": "fig-quarter-buckets"}, "image": {"alt": "Three rows of boxes, one row a group, with the numbers of Nora's behaviors in them: most items in the first box, most searches in the box of eight to sixteen hours, one coupon in the first box and one at eight hours."}} tags=["remove-input"]
fig, ax = plt.subplots(figsize=(3.6, 2.4))
ax.axis("off")
for y, kind in enumerate(groups):
    edges = model.embedding(kind).time.edges[:8]
    found = torch.bucketize(
        torch.tensor([b[3] for b in behaviors]), edges, right=True
    ).tolist()
    title = f"{names[kind]}, in {histories.schema.groups[kind].time.unit}s"
    ax.text(0, 1.9 * y - 0.62, title, fontsize=9, color=group_color(kind))
    for bucket in range(8):
        inside = [
            numbers[i]
            for i, b in enumerate(behaviors)
            if groups[b[0]] == kind and found[i] == bucket
        ]
        ax.add_patch(
            Rectangle(
                (bucket, 1.9 * y - 0.5), 1, 1, edgecolor=FAINT, facecolor="none"
            )
        )
        text = "\n".join(
            " ".join(inside[k : k + 2]) for k in range(0, len(inside), 2)
        )
        ax.text(
            bucket + 0.5,
            1.9 * y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=group_color(kind),
        )
        age = str(2**bucket)
        ax.text(bucket + 1, 1.9 * y + 0.55, age, ha="center", va="top", fontsize=9)
_ = ax.set(xlim=(-0.1, 8.4), ylim=(5, -1.1))

# %% [markdown]
# What an age is worth shows at the end, in the ranking. Were the Lake Store's coupon and the search for a rug, 4 and 6 of
# the list, a month old, the rug would stand in place {glue:text}`rank_old` and not {glue:text}`rank`.
#
# ## 4 Spaces
#
# Vectors of different widths cannot be compared. One matrix for each group brings all into one common space. Then a
# second step splits this space into several, here {glue:text}`spaces`. Why **spaces**? A behavior can matter in one respect and not in
# another: the coupon for its shop, the search for a brand and a kind of thing. In a single space a behavior has one
# weight for everything, and that must compromise; in several, it has one in each. Where nothing has to compromise, one space is
# enough ({ref}`ch-projection`).

# %% mystnb={"figure": {"caption": "Compare a row across the spaces: none shows what another shows. A row is a behavior, now comparable, a column a learned coordinate; full squares are large numbers, empty ones zero.", "name": "fig-quarter-spaces"}, "image": {"alt": "Four blocks of eight columns and twelve numbered rows, each block in the color of its space, with different patterns of full and empty squares."}} tags=["remove-input"]
batch, order = batch_of(histories, behaviors, "item", [target])
back = np.argsort(order)  # from the list's order to the model's
attention = model.block(0).attention
with torch.no_grad():
    seen = attention.queries(model.project(batch)).numpy()[back]
sizes = list(attention.sizes)
fig, axes = plt.subplots(1, len(sizes), figsize=(3.6, 2.6), sharey=True)
for k, (ax, values) in enumerate(
    zip(axes, np.split(seen, np.cumsum(sizes)[:-1], axis=1), strict=True)
):
    blank = [""] * sizes[k]
    heatmap(ax, values, rows=numbers, columns=blank, color=space_color(k), fmt=None)
    ax.set_aspect("auto")
    ax.set_title(f"space {k + 1}", color=space_color(k), fontsize=9)
for label, color in zip(axes[0].get_yticklabels(), colors, strict=True):
    label.set(color=color, fontsize=9)

# %% [markdown]
# ## 5 Self-attention
#
# So far each behavior stands alone. Now each looks at all, in every space: scores of how well two fit, turned into
# shares that add up to one, and by these shares it takes in what the others have to tell. **What this adds** is what one
# behavior says about another: boots after a tent are not boots after gloves. A question that age alone answers
# (which came last?) does not need it ({ref}`ch-attention`).

# %% mystnb={"figure": {"caption": "Look along a row: it is a behavior that looks, a column one that is looked at; full squares are large shares. Self-attention in the space where it is most decided.", "name": "fig-quarter-self"}, "image": {"alt": "A square of twelve numbered rows and columns; some rows are spread evenly, others put nearly all into one column."}} tags=["remove-input"]
explained = explain(model, batch)
shares = explained.self_attention[0][0].numpy()[:, back][:, :, back]  # [k, n, n]
k = int(shares.max(axis=2).mean(axis=1).argmax())
fig, ax = plt.subplots(figsize=(3.6, 3.6))
heatmap(ax, shares[k], rows=numbers, columns=numbers, color=space_color(k), fmt=None)
ax.set_title(f"space {k + 1}", color=space_color(k), fontsize=9)
for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
    for label, color in zip(labels, colors, strict=True):
        label.set(color=color, fontsize=9)

# %% [markdown]
# ## 6 The target looks back
#
# A candidate becomes a vector like an item of the list, without action and time, for these are what nobody knows. Then
# it, too, looks at all behaviors in every space and takes by its shares. What it takes is the user *as seen by this
# candidate*: the rug reads another Nora than a camera does. The inner product of the two is the score. All tables and
# matrices were learned from one demand: what users did next should score higher than what they did not
# ({ref}`ch-ranking`).

# %% mystnb={"figure": {"caption": "Find the largest number of each column: what the rug looks at most, space by space. A column adds up to 100 %.", "name": "fig-quarter-target"}, "image": {"alt": "A table of twelve rows, one a behavior, and four columns, one a space. In one space the coupon, behavior 4, has most of the attention."}} tags=["remove-input"]
looks = explained.target_attention[0][:, 0].numpy()[:, back]  # [k, n]
fig, axes = plt.subplots(1, len(sizes), figsize=(3.6, 3.4), sharey=True)
for k, ax in enumerate(axes):
    heatmap(
        ax,
        100 * looks[k][:, None],
        rows=numbers,
        columns=[""],
        color=space_color(k),
        high=100,
        fmt=".0f",
    )
    ax.set_aspect("auto")
    ax.set_title(f"space {k + 1}", color=space_color(k), fontsize=9)
    for text in ax.texts:
        text.set_fontsize(9)
for label, color in zip(axes[0].get_yticklabels(), colors, strict=True):
    label.set(color=color, fontsize=9)

# %% tags=["remove-input"]
COUPON, SEARCH = 3, 5


def place_from(history):
    """The rug's place among all items."""
    return rank(model, histories, nora, history)


def without(*places):
    return place_from([b for i, b in enumerate(behaviors) if i not in places])


ranks = {
    "all twelve": place_from(behaviors),
    "without search 6": without(SEARCH),
    "without coupon 4": without(COUPON),
    "without both": without(SEARCH, COUPON),
}

# %% tags=["remove-cell"]
old = [list(b) for b in behaviors]
old[COUPON][3] = old[SEARCH][3] = 30 * 86_400
cause_group, cause_row = planted(market.truth.causes, histories, sample)
assert cause_group[0] == "query"
assert histories.groups["query"].objects[cause_row[0]] == behaviors[SEARCH][2]
assert called("item", target) == "Dunlin rug"
did = histories.groups["item"].actions[sample.positions]
assert histories.schema.groups["item"].actions[int(did)] == "browse"
assert word(feature("item", target, "shop_id")) == "Lake Store"
assert called("coupon", behaviors[COUPON][2]) == "Lake Store coupon"
assert "Dunlin rug" in called("query", behaviors[SEARCH][2]).replace(" sale", "")
best = ranks["all twelve"]
claim(
    objects=len(histories.catalogs["item"]),
    behaviors=len(behaviors),
    spaces=len(sizes),
    half_coupon=24 * market.truth.world.config.half_lives["coupon"],
    half_item=market.truth.world.config.half_lives["item"],
    rank=(best, 1, 60),
    rank_old=(place_from(old), best + 10),
    rank_both=(ranks["without both"], best + 10),
    look=(looks[:, [COUPON, SEARCH]].max(), 0.3, 1.0),
    look_space=int(looks[:, [COUPON, SEARCH]].max(axis=1).argmax()) + 1,
    looked_at=(COUPON, SEARCH)[looks[:, [COUPON, SEARCH]].max(axis=0).argmax()] + 1,
)

# %% [markdown]
# In space {glue:text}`look_space` the rug gives {glue:text}`look:.0%` of its attention to behavior {glue:text}`looked_at`.
# With all items scored and sorted, the rug is number {glue:text}`rank` of {glue:text}`objects`. Take behaviors out
# and sort again, and you see what this place rests on:

# %% mystnb={"figure": {"caption": "Compare the bars: the rug's place among all items, from what is left of Nora's list. Shorter is better.", "name": "fig-quarter-ranks"}, "image": {"alt": "Four bars. The shortest is that of the whole list; without the search and without the coupon they are longer, without both by far the longest."}} tags=["remove-input"]
fig, ax = plt.subplots(figsize=(3.6, 1.7))
ax.barh(list(ranks), list(ranks.values()), color=INK, height=0.6)
for y, value in enumerate(ranks.values()):
    ax.text(value + 1, y, str(value), va="center", fontsize=9)
ax.invert_yaxis()
ax.tick_params(labelsize=9, length=0)
ax.set_xlabel("place", fontsize=9)
ax.grid(visible=False)
_ = ax.margins(x=0.12)

# %% [markdown]
# Two behaviors of two kinds carry it; without both, the rug is in place {glue:text}`rank_both`. Which one made Nora look
# at the rug? The simulator says: the search. The model cannot know, and does well to use the coupon too. So read
# attention as evidence, not as proof ({ref}`ch-interpret`).
#
# ## Does it help, and when not?

# %% tags=["remove-cell"]
sports = read_table(recorded("table3/amazon_sports_and_outdoors"))
table = table3(sports)["AUC"].drop(["popularity", "last-category", "bpr-mf"])
behind = difference(sports["atrank"], sports["din"])
ahead = difference(sports["atrank"], sports["bi-lstm"])
switched = switch_table(read_table(recorded("switches/amazon_sports_and_outdoors")))
modes = table5(read_table(recorded("table5/simulated_marketplace"))).loc["all2one"]
hotels = read_table(recorded("shown/trivago"))
gains = [
    difference(hotels[f"atrank-{kind}", task], hotels["atrank-one2one", task])
    for kind in ("all2one", "all2all")
    for task in ("item", "search", "filter")
]
claim(
    place=(int(table.rank(ascending=False)["atrank"]), 2, 6),
    readers=len(table),
    behind=(-behind["difference"], 0.001, 0.02),
    ahead=(ahead["difference"], 0.001, 0.02),
    alone=(-switched.loc["no-self-attention", "difference"], 0.0, 0.02),
    gain_least=(modes["gain"].min(), 0.005),
    gain_most=(modes["gain"].max(), 0.05),
    real_gained=(sum(gain["low"] > 0 for gain in gains), 0, 0),
)

# %% [markdown]
# All numbers here are differences in AUC, the chance that what a user did next is ranked above what they did not; one
# half is guessing. They are recorded runs.
#
# - **Several kinds of behavior that speak about each other** are what ATRank is for. In the simulated marketplace,
#   reading all kinds instead of one gains {glue:text}`gain_least:.2f` to {glue:text}`gain_most:.2f`. Once the influence
#   of one kind on another is switched off, it gains nothing. On a real log of hotel searches {glue:text}`real_gained`
#   of three tasks gain by it, or by learning all at once, that five seeds could tell ({ref}`ch-multitask`).
# - **With one kind of behavior** it is one good model among others. On Amazon Sports, all tuned alike, it is number
#   {glue:text}`place` of {glue:text}`readers`: {glue:text}`ahead:.4f` ahead of a Bi-LSTM, and {glue:text}`behind:.4f` behind
#   DIN, which has a target that looks back and no self-attention ({ref}`ch-competitors`).
# - **Self-attention** alone is worth {glue:text}`alone:.3f` there, after two epochs. It compares every
#   behavior with every other, and we saw no sign that long histories gain more from it.
# - **It cannot help** with a user who has no history, nor where what comes next does not depend on what came before.
#
# ## Now you
#
# This very model runs in your browser, with Nora in it. Take the search away, let the coupon age, give her another
# target: {ref}`the live model <live-user-nora>` starts from her. Then build it yourself, from the first tuple: {ref}`ch-behaviors`.
