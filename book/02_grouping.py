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
# (ch-grouping)=
# # Behavior grouping
#
# Ana looked at two pairs of shoes, searched for socks, and took a coupon. Ben searched twice. Cleo came yesterday and
# has done one thing. A neural network wants rectangles of numbers, and here nothing is rectangular: a search has no
# price, Ana's list is longer than Cleo's, and even a single search is a list of words. How do we store lists of
# uneven length in little space, and build a batch of a thousand users without a thousand steps of a Python loop?
#
# ```{admonition} In this chapter
# **Question**: How do we store lists of any length in little space, and build a batch of a thousand users without a
# loop over them?
#
# You will
#
# - split behaviors into groups by the kind of their object, and check that nothing is lost or doubled;
# - store lists of any length as one flat tensor with offsets, by hand for three users;
# - turn values into indices, with one index kept for the unknown and none for padding;
# - build a batch by indexing alone, and check it against plain loops and against the future;
# - measure what copies and padding cost, and what sorting by length costs in return.
#
# **Runtime** (`fast`): about 10 seconds on one core. **Before this**: {ref}`ch-behaviors`, tensor indexing in PyTorch.
# **Modules**: `atrank_lib.grouping`, `batches`.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("02_grouping", profile=profile, data=data, seed=seed)

# %% tags=["hide-input"]
from math import comb

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import (
    FAINT,
    INK,
    MUTED,
    PANEL,
    direct_label,
    group_color,
    plain_log_ticks,
)
from atrank_lib import (
    EventLog,
    GroupedHistories,
    Samples,
    Schema,
    Vocabularies,
    batches,
    build_batch,
    split,
)
from atrank_lib.batches import Ragged, ranges
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.samples import history_lengths
from data_scripts.simulate import MarketplaceConfig, simulate

# %% [markdown]
# ## Why groups
#
# Put all behaviors into one table, and give it a column for every feature that any object has. How full is it?

# %%
config = MarketplaceConfig(users=1000 if profile == "fast" else 10_000, seed=seed)
log = EventLog.read(data) if data else simulate(config).log

features = {
    group: [f for f in spec.features if f != "object_id"]
    for group, spec in log.schema.groups.items()
}
columns = list(dict.fromkeys(f for names in features.values() for f in names))
sizes = {group: len(table) for group, table in log.events.items()}
filled = sum(sizes[group] * len(names) for group, names in features.items())
pd.DataFrame(
    {
        group: ["yes" if f in names else "" for f in columns]
        for group, names in features.items()
    },
    columns,
)

# %% tags=["remove-cell"]
claim(
    empty_cells=(1 - filled / (sum(sizes.values()) * len(columns)), 0.4, 0.6),
)

# %% [markdown]
# The share of cells that can hold nothing is {glue:text}`empty_cells:.2f`. An empty price in the row of a search
# does not mean that the price is unknown; it means that the question makes no sense. The paper's way out is to
# **group** behaviors by the type of their object {cite:p}`zhou2018atrank`. The behaviors $U$ of a user are split into
# groups $bg_1, \dots, bg_G$ with
#
# $$
# bg_i \cap bg_j = \emptyset \ \text{ for } i \ne j, \qquad U = \bigcup_{i=1}^{G} bg_i ,
# $$ (eq-partition)
#
# that is, every behavior is in exactly one group. ($G$ is our letter for the number of groups. The paper writes $n$,
# which we need for the number of behaviors.) Inside a group all objects have the same features, so each group
# can have a small network of its own to read them. The groups need not be of one size for a user, or for all users
# alike: a user may have no behavior at all in one of them.
#
# ## Lists as flat tensors
#
# Three users, small enough to check with a finger. The schema has the three groups that we know; item and coupon name
# the same vocabulary for their shops.

# %%
schema = Schema.model_validate(
    {
        "name": "three users",
        "groups": {
            "item": {
                "actions": ["browse", "buy"],
                "features": {
                    "category_id": {"kind": "categorical"},
                    "shop_id": {"kind": "categorical", "vocabulary": "shop"},
                },
            },
            "query": {
                "actions": ["search"],
                "features": {"words": {"kind": "tokens"}},
            },
            "coupon": {
                "actions": ["receive"],
                "features": {
                    "shop_id": {"kind": "categorical", "vocabulary": "shop"}
                },
            },
        },
    }
)

# %% [markdown]
# The times are whole days. The rows lie as they came in, not sorted by user. The tables of objects are folded away.

# %%
item_events = [
    ("ana", 1, "browse", "i1"),
    ("ben", 4, "browse", "i3"),
    ("ana", 3, "buy", "i2"),
    ("ana", 6, "buy", "i3"),
]
query_events = [
    ("ana", 2, "search", "q1"),
    ("ben", 2, "search", "q2"),
    ("ben", 3, "search", "q3"),
    ("cleo", 5, "search", "q1"),
]
coupon_events = [("ana", 5, "receive", "c1")]

# %% tags=["hide-input"]
# a log of three users
events = {
    group: pd.DataFrame(
        rows, columns=["user_id", "timestamp", "action", "object_id"]
    )
    for group, rows in {
        "item": item_events,
        "query": query_events,
        "coupon": coupon_events,
    }.items()
}
objects = {
    "item": pd.DataFrame(
        {
            "object_id": ["i1", "i2", "i3"],
            "category_id": ["shoes", "shoes", "socks"],
            "shop_id": ["s1", "s2", "s1"],
        }
    ),
    "query": pd.DataFrame(
        {
            "object_id": ["q1", "q2", "q3"],
            "words": [["socks"], ["trail", "shoes"], []],
        }
    ),
    "coupon": pd.DataFrame({"object_id": ["c1"], "shop_id": ["s2"]}),
}
tiny = EventLog.from_tables(schema, events, objects)

# %% [markdown]
# Ana has three item behaviors, Ben one, Cleo none. Sort the rows by user and, for each user, by time, and write all
# lists end to end. What is lost are the borders between the users, so keep them as **offsets**: the list of user $u$
# is `offsets[u]` up to, but not including, `offsets[u + 1]`. There is one offset more than there are users; the first
# is 0, the last is the number of behaviors. (Linear algebra stores sparse matrices in this way and calls it CSR,
# compressed sparse rows.)

# %%
user = torch.tensor([0, 1, 0, 0])  # ana, ben, ana, ana: the rows of item_events
time = torch.tensor([1, 4, 3, 6])

# by user, then time; a stable sort, so row order breaks ties
order = torch.from_numpy(np.lexsort((time, user)))
counts = torch.bincount(user, minlength=3)  # [3, 1, 0]
# [0, 3, 4, 4]
offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])

grouped = GroupedHistories.from_log(tiny)
item = grouped.groups["item"]
assert offsets.equal(item.offsets)
assert time[order].equal(item.timestamps)
{
    name: item.timestamps[item.offsets[u] : item.offsets[u + 1]].tolist()
    for u, name in enumerate(grouped.user_ids)
}

# %% [markdown]
# Nobody needs a case of their own: Cleo's list is the empty range from 4 to 4. The library does this for every group,
# with flat tensors for times, actions and objects. Does the partition hold on the whole log? Every row of every
# events table must appear in the flat tensors exactly once, with its user:

# %%
histories = GroupedHistories.from_log(log)
for group, flat in histories.groups.items():
    # each once
    assert flat.rows.sort().values.equal(
        torch.arange(sizes[group], dtype=torch.int32)
    )
    owner = histories.user_ids.take(flat.users().numpy())
    assert (
        owner == log.events[group]["user_id"].to_numpy()[flat.rows.numpy()]
    ).all()
histories

# %% [markdown]
# ## Words to numbers
#
# A behavior does not hold the features of its object. It holds the object's row number, and the objects of a group
# are encoded once, in a *catalog*. There each categorical value becomes an index into a **vocabulary**, the sorted
# list of all values that a model knows.

# %%
words = Vocabularies.from_objects(schema, objects)
print(words.words)
words.index("item.category_id", pd.Series(["shoes", "socks", "tents", None]))

# %% [markdown]
# Two things to see. Item and coupon name the same vocabulary `shop`, so it exists once, and shop `s2` has the same
# index wherever it appears. And counting begins at 1: tents, which the vocabulary does not have, and the missing
# value both get index 0. **Index 0 of every vocabulary means unknown.** It has a row of its own in the embedding
# table. That row will be needed: a vocabulary is made from what *training* shows, and test users do turn to objects
# that came later.
#
# The words of a query are a list again. The same trick stores them: one flat tensor for the words of all queries, and
# offsets.

# %%
# q1: socks; q2: trail, shoes; q3: nothing at all
tokens = grouped.catalogs["query"].features["words"]
assert tokens.offsets.tolist() == [0, 1, 3, 3]
rows = torch.tensor([1, 2, 0])  # the words of q2, q3, q1, in that order
taken = tokens.take(rows)
assert taken.offsets.tolist() == [0, 2, 2, 3]
assert taken.values.tolist() == [
    *tokens.values[1:3].tolist(),
    *tokens.values[0:1].tolist(),
]

# %% [markdown]
# Where is the index for padding? There is none. Padding is not a word, it is *no word*: it is written down as a mask,
# a tensor that is True where something real stands. To give padding the index 0 would tell the model that a short
# history is a long one full of unknown things. The last exercise but one lets you watch that happen.
#
# ## A sample is a cut
#
# A user with 40 behaviors gives some 40 samples, for each behavior may be the target of one. Copy the history of
# each, and 40 behaviors become 800. But all 40 histories are beginnings of the same list! So a sample stores no
# history. It stores the user, the target, and for each group a **cut position**: where the history ends in the flat
# tensor.

# %%
# positions in the flat item tensor: ana buys i3 on day 6, ben browses i3 on day 4
targets = torch.tensor([2, 3])
samples = Samples(
    target_group="item",
    users=torch.tensor([0, 1]),
    times=item.timestamps[targets],
    # [sample, group]: item, query, coupon
    ends=torch.tensor([[2, 1, 1], [3, 3, 1]]),
    objects=item.objects[targets].long(),
    positions=targets,
)

# %% [markdown]
# Read the first row of `ends`: Ana's items end before position 2, her queries before 1, her coupons before 1. Ben has
# no coupon; his range begins at 1 and ends at 1. The library finds the cuts for all samples at once, by a binary
# search. Of our two samples it makes only Ana's, for nothing comes before Ben's target in its own group. We keep Ben:
# an empty list is a good test.

# %%
found = split(grouped, "paper", ["item"]).test["item"]
assert found.users.tolist() == [0]
assert found.ends.equal(samples.ends[:1])

# %% [markdown]
# ## A batch by indexing
#
# Now a batch. For Ana we need item positions 0 and 1, for Ben none; from the queries 0 for Ana, 1 and 2 for Ben. In
# general: for every sample $i$ all numbers from `starts[i]` to `starts[i] + lengths[i] - 1`, end to end, and besides
# the number of the sample that each belongs to. A loop would say it plainly:


# %%
def ranges_by_loop(starts, lengths):
    positions, owner = [], []
    for i, (start, length) in enumerate(
        zip(starts.tolist(), lengths.tolist(), strict=True)
    ):
        positions += range(start, start + length)
        owner += [i] * length
    return torch.tensor(positions, dtype=torch.long), torch.tensor(
        owner, dtype=torch.long
    )


starts = grouped.groups["query"].offsets[samples.users]  # [0, 1]
lengths = samples.ends[:, 1] - starts  # [1, 2]
ranges_by_loop(starts, lengths)

# %% [markdown]
# And without a loop? First the owners: repeat sample $i$ as often as it has behaviors. Then observe that the
# positions are *almost* 0, 1, 2, 3, ...: inside one sample they count up by one. Only at the border between two
# samples do they jump, and the jump is the same for all behaviors of one sample: where its list starts in the flat
# tensor, minus where it starts in the batch.

# %%
owner = torch.repeat_interleave(torch.arange(2), lengths)  # [0, 1, 1]
begins = lengths.cumsum(0) - lengths  # [0, 1]: where each sample starts in the batch
positions = torch.arange(len(owner)) + (starts - begins)[owner]  # [0, 1, 2]

for by_hand, by_loop, by_library in zip(
    (positions, owner),
    ranges_by_loop(starts, lengths),
    ranges(starts, lengths),
    strict=True,
):
    assert by_hand.equal(by_loop)
    assert by_hand.equal(by_library)

# %% [markdown]
# These three lines are the whole trick. Everything else is a lookup: `timestamps[positions]`, `actions[positions]`,
# and so on. A batch keeps the behaviors *packed*, without any padding, together with whose each one is: its **owner**,
# a sample, and its **place** in that sample's history, once an attention layer needs a rectangle `[samples, longest]`.
# Both are listed group after group: the last behavior below is Ana's coupon, of sample 0, in place 3.

# %%
batch = build_batch(grouped, samples, candidates=samples.objects[:, None])
print({group: part.positions.tolist() for group, part in batch.histories.items()})
packing = batch.packing
print("owner", packing.owner.tolist(), "place", packing.place.tolist())
mask = torch.zeros(batch.size, packing.longest, dtype=torch.bool)
mask[packing.owner, packing.place] = True
assert mask.equal(packing.mask)
mask  # True: a behavior; False: padding

# %% mystnb={"figure": {"caption": "Find the filled cells of the strips again in the rectangle below. Top: the flat tensors of the three groups with the borders between users; filled cells are history of the two samples, empty ones are not (the two targets, and Cleo's search). Bottom: the batch as a rectangle, one row a sample; each row holds the groups one after the other, and the hatched cells are padding.", "name": "fig-flat-to-batch"}, "image": {"alt": "Three strips of labeled cells for items, queries and coupons with marks between users. Below, a rectangle of two rows: Ana with i1, i2, q1 and c1, Ben with q2, q3 and two hatched cells."}} tags=["hide-input"]
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 4), height_ratios=[3, 2])


def cell(ax, x, y, text, color, full=True, **style):
    style = {"edgecolor": color, "facecolor": color if full else "none"} | style
    ax.add_patch(plt.Rectangle((x, y), 0.94, 0.8, **style))
    ax.text(
        x + 0.47,
        y + 0.4,
        text,
        ha="center",
        va="center",
        color=PANEL if full else color,
    )


for line, (group, flat) in enumerate(grouped.groups.items()):
    used = set(batch.histories[group].positions.tolist())
    for p, thing in enumerate(flat.objects.tolist()):
        name = grouped.catalogs[group].object_ids[thing]
        cell(top, p, -line, f"{name}", group_color(group), p in used)
    for border in flat.offsets.tolist():
        top.plot(
            [border - 0.03] * 2, [-line - 0.08, -line + 0.88], color=INK, lw=1.6
        )
    top.text(
        -0.2, -line + 0.4, group, color=group_color(group), ha="right", va="center"
    )
    top.text(4.4, -line + 0.4, f"offsets {flat.offsets.tolist()}", va="center")
names = [
    (grouped.catalogs[group].object_ids[grouped.groups[group].objects[p]], group)
    for group, part in batch.histories.items()
    for p in part.positions.tolist()
]
for y, x in (~packing.mask).nonzero().tolist():
    cell(bottom, x, -y, "", MUTED, False, hatch="//")
for (name, group), y, x in zip(
    names, packing.owner.tolist(), packing.place.tolist(), strict=True
):
    cell(bottom, x, -y, name, group_color(group))
for line, who in enumerate(["Ana", "Ben"]):
    bottom.text(-0.2, -line + 0.4, who, ha="right", va="center")
for ax, lines in ((top, 3), (bottom, 2)):
    ax.set(xlim=(-1, 7), ylim=(0.0 - lines + 0.8, 1.0))
    ax.axis("off")

# %% [markdown]
# The rows of the rectangle are not in the order of time; they list the groups one after the other. That is on
# purpose. In ATRank, a behavior carries its age with it ({ref}`ch-time`), and attention does not look at the order of
# its inputs ({ref}`ch-attention`).
#
# Does the same hold on the large log? Plain loops over {glue:text}`checked` random samples, against the library:

# %%
main = next(iter(log.schema.groups))  # the first group of the schema: items
train = split(histories, "validated", [main]).train[main]
pick = train[
    torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:256]
]
batch = build_batch(histories, pick, candidates=pick.objects[:, None])
for number, (group, flat) in enumerate(histories.groups.items()):
    age, things = [], []
    for user, time, ends in zip(
        pick.users.tolist(), pick.times.tolist(), pick.ends.tolist(), strict=True
    ):
        for p in range(int(flat.offsets[user]), ends[number]):
            age.append(time - int(flat.timestamps[p]))
            things.append(int(flat.objects[p]))
    assert batch.histories[group].elapsed.tolist() == age
    expected = histories.catalogs[group].take(torch.tensor(things, dtype=torch.long))
    for feature, value in batch.histories[group].features.items():
        left, right = (
            v.values if isinstance(v, Ragged) else v
            for v in (value, expected[feature])
        )
        assert left.equal(right)

# %% tags=["remove-cell"]
claim(checked=(len(pick), 256))

# %% [markdown]
# ## The future cannot leak
#
# A cut is a promise: whatever happens at the target or after it has no way into the batch. A promise can be tested.
# We take one sample, change the object of *every* behavior of that user from the target on, in all groups, and build
# the batch again.

# %%
sample = train[train.positions == train.positions.max()]  # one sample
user, changed = int(sample.users), {}
for number, (group, flat) in enumerate(histories.groups.items()):
    future = flat.rows[
        int(sample.ends[0, number]) : int(flat.offsets[user + 1])
    ].numpy()
    table = log.events[group].copy()
    table.loc[future, "object_id"] = log.objects[group]["object_id"].iloc[0]
    changed[group] = table
other = GroupedHistories.from_log(
    EventLog.from_tables(log.schema, changed, log.objects)
)

before, after = (
    build_batch(h, sample, candidates=sample.objects[:, None])
    for h in (histories, other)
)
assert before.packing.place.equal(after.packing.place)
for group, part in before.histories.items():
    assert part.elapsed.equal(after.histories[group].elapsed)
    for feature, value in part.features.items():
        left, right = (
            v.values if isinstance(v, Ragged) else v
            for v in (value, after.histories[group].features[feature])
        )
        assert left.equal(right)

# %% [markdown]
# ## What do copies and padding cost?
#
# How much memory does it take to keep all samples ready? Three ways, each built for real with the same columns (time,
# action, object), and weighed in bytes:
#
# - **cuts**: flat tensors, once, and a `Samples` with its cut positions;
# - **copied lists**: a history of its own for each sample, end to end;
# - **padded**: a rectangle with one row a sample, as wide as the longest history.
#
# To see how they grow, we take some of the users with long lives and look at only the first 5, 10, 20, 40, ...
# behaviors of each.


# %%
def bytes_of(tensors):
    return sum(t.nbytes for t in tensors)


def three_ways(lengths):
    """Bytes for all samples of users with these many behaviors, stored in three
    ways."""
    # time, action, object
    n, types = (
        int(lengths.sum()),
        (torch.int64, torch.int16, torch.int32),
    )
    flat = [torch.zeros(n, dtype=t) for t in types]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    # every behavior but a user's first is a target
    positions, owner = ranges(offsets[:-1] + 1, lengths - 1)
    samples = Samples(
        "all",
        owner,
        flat[0][positions],
        positions[:, None],
        flat[2][positions],
        positions,
    )
    copied_from, _ = ranges(offsets[owner], positions - offsets[owner])
    copies = [column[copied_from] for column in flat]
    width = int((positions - offsets[owner]).max())
    padded = [torch.zeros(len(positions), width, dtype=t) for t in types]
    fields = [
        samples.users,
        samples.times,
        samples.ends,
        samples.objects,
        samples.positions,
    ]
    return {
        "cuts": bytes_of([*flat, offsets, *fields]),
        "copied lists": bytes_of(copies),
        "padded": bytes_of(padded),
    }


# %% tags=["hide-input"]
many = (
    log
    if data
    else simulate(MarketplaceConfig(users=200, behaviors=150, seed=seed)).log
)
lives = (
    pd.concat([table["user_id"] for table in many.events.values()])
    .value_counts()
    .sort_index()
    .to_numpy()
)
# the last fifty are rare giants
long = torch.tensor(np.sort(lives)[-200:][:150].copy())
ceilings = [m for m in (5, 10, 20, 40, 80, 160) if m <= int(long.max())]
memory = pd.DataFrame({m: three_ways(long.clamp(max=m)) for m in ceilings}).T
memory.index = [long.clamp(max=m).double().mean().item() for m in ceilings]

# %% mystnb={"figure": {"caption": "Bytes that all samples of 150 users take, stored in three ways, against the mean number of behaviors of a user. Both axes are logarithmic: on them, a line with slope 1 grows with the number of behaviors, one with slope 2 with its square. Compare how steep the lines are: cuts grow with the behaviors; copies and padding grow faster.", "name": "fig-memory"}, "image": {"alt": "Three rising lines on logarithmic axes. The line for cuts rises least steeply; copied lists and padded rectangles rise about twice as steeply and end far above it."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.6))
for (name, column), style in zip(memory.items(), ("-", "--", ":"), strict=True):
    ax.loglog(memory.index, column / 2**20, style, marker="o", color=INK)
    direct_label(ax, memory.index[-1], column.iloc[-1] / 2**20, name, INK)
ax.set(xlabel="mean number of behaviors of a user", ylabel="mebibytes")
ax.margins(x=0.25)
for axis in (ax.xaxis, ax.yaxis):
    plain_log_ticks(axis)

# %% tags=["remove-cell"]
slope = {
    name: np.polyfit(np.log(memory.index), np.log(column.astype(float)), 1)[0]
    for name, column in memory.items()
}

claim(
    slope_cuts=(slope["cuts"], 0.9, 1.1),
    slope_copied=(slope["copied lists"], 1.6, 2.3),
    longest=memory.index[-1],
    copied_over_cuts=(memory["copied lists"].iloc[-1] / memory["cuts"].iloc[-1], 10),
    padded_over_copied=(
        memory["padded"].iloc[-1] / memory["copied lists"].iloc[-1],
        2,
    ),
    short_copied_over_cuts=(
        memory["copied lists"].iloc[0] / memory["cuts"].iloc[0],
        None,
        1,
    ),
)

# %% [markdown]
# The measured slopes are {glue:text}`slope_cuts:.2f` for cuts and {glue:text}`slope_copied:.2f` for copied
# lists. With {glue:text}`longest:.0f` behaviors a user, copies take {glue:text}`copied_over_cuts:.0f` times
# the memory of cuts, and padding takes {glue:text}`padded_over_copied:.1f` times that of copies. For very short
# histories the picture is another one: at the left end, the ratio of copies to cuts is
# {glue:text}`short_copied_over_cuts:.2f`, so there the copies are the smaller ones. A cut, a user, a time and a
# target take room as well. Whoever has five behaviors a user may copy them without regret.
#
# ## How much of a batch is padding?
#
# Storing without padding is one thing. Attention still works on rectangles, and a rectangle is as wide as its longest
# row. If samples are drawn at random, one long history makes the whole batch wide. If a batch holds histories of
# similar length, little is wasted. That is called **bucketing by length**. Here are 32 samples drawn at random,
# beside a batch of 32 similar ones.

# %%
# 125 batches of 32
small = train[
    torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:4000]
]


def epoch(batch_size, pool, seed):
    """One epoch over `small`: the numbers of the samples and the batch, for every
    batch."""
    dice = torch.Generator().manual_seed(seed)
    plan = batches(
        histories,
        {main: small},
        {main: small.objects[:, None]},
        batch_size,
        generator=dice,
        pool=pool,
    )
    return [(index, batch) for _, index, batch in plan]


def padding(plan):
    """Share of padding in the rectangles of all batches."""
    real = sum(int(batch.packing.lengths.sum()) for _, batch in plan)
    return 1 - real / sum(batch.size * batch.packing.longest for _, batch in plan)


# %% [markdown]
# `batches` does not sort everything. It shuffles the samples, cuts them into *pools* of so many batches, sorts inside
# each pool, and shuffles the batches. A pool of one batch is plain random order; a pool that holds everything is a
# full sort.

# %% mystnb={"figure": {"caption": "Compare what the bars leave of the two frames: it is padding. Each frame is a batch of 32 samples, one row a sample; bars are behaviors, group by group. Left, samples drawn at random: most of the frame is empty. Right, from a pool sorted by length: the bars fill it.", "name": "fig-two-batches"}, "image": {"alt": "Two rectangles of 32 horizontal bars. On the left the bars have very different lengths and most of the rectangle is empty; on the right all bars have nearly the same length and almost fill it."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), sharex=True, sharey=True)
for ax, (title, pool) in zip(
    axes, {"at random": 1, "sorted in pools": 50}.items(), strict=True
):
    plan = epoch(32, pool, seed)
    widths = [batch.packing.longest for _, batch in plan]
    batch = plan[
        sorted(range(len(plan)), key=lambda i: (widths[i], i))[len(plan) // 2]
    ][1]  # of median width
    left = torch.zeros(batch.size)
    frame = {"facecolor": FAINT, "edgecolor": INK, "linewidth": 1}
    box = (batch.packing.longest, batch.size)
    ax.add_patch(plt.Rectangle((0, -0.5), *box, **frame))
    sample_of, done = batch.packing.owner, 0
    for group, part in batch.histories.items():
        mine = torch.bincount(
            sample_of[done : done + len(part.positions)], minlength=batch.size
        )
        done += len(part.positions)
        ax.barh(
            range(batch.size),
            mine,
            left=left,
            height=0.8,
            color=group_color(group),
            label=group,
        )
        left += mine
    ax.set(title=title, xlabel="behaviors")
    ax.grid(visible=False)
axes[0].set_ylabel("samples")
_ = fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside upper right",
    ncols=len(histories.groups),
)

# %% [markdown]
# How does that depend on the size of a batch? We count over a whole epoch, for both orders and several batch sizes,
# each with three seeds.

# %%
orders = {"random": 1, "pools of 50": 50}
batch_sizes = [8, 32, 128, 512]
seeds = range(seed, seed + 3)
share = {
    name: np.array(
        [[padding(epoch(size, pool, s)) for size in batch_sizes] for s in seeds]
    )
    for name, pool in orders.items()
}

# %% mystnb={"figure": {"caption": "Share of padding in the batches of an epoch, against the batch size, for two orders of the samples; every dot is one of three seeds. Compare both ends of each line: in random order larger batches waste more, since one long history widens more rows. Sorted in pools, most of the waste is gone; it returns where a batch is so large that it must hold long and short histories.", "name": "fig-padding"}, "image": {"alt": "Two lines over batch sizes from 8 to 512. The one for random order begins above one half and rises; the one for pools stays far below it and rises only for the largest batches, of which there are few to sort."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.4))
for (name, values), style in zip(share.items(), ("-", "--"), strict=True):
    ax.plot(batch_sizes, values.mean(0), style, color=INK)
    ax.plot(batch_sizes, values.T, "o", color=INK, markersize=4)
    direct_label(ax, batch_sizes[-1], values.mean(0)[-1], name, INK)
ax.set_xscale("log", base=2)
ax.set_xticks(batch_sizes, batch_sizes)
ax.set(xlabel="samples in a batch", ylabel="share of padding", ylim=(0, 1))
_ = ax.margins(x=0.28)

# %% tags=["remove-cell"]
at = batch_sizes.index(128)

claim(
    padding_random=(share["random"].mean(0)[at], 0.5, 0.9),
    padding_pools=(share["pools of 50"].mean(0)[at], 0.0, 0.2),
    padding_saved=((share["random"] - share["pools of 50"]).min(), 0.2),
    padding_growth=((share["random"][:, -1] - share["random"][:, 0]).min(), 0.1),
)

# %% [markdown]
# With 128 samples in a batch, the share of padding is {glue:text}`padding_random:.2f` in random order and
# {glue:text}`padding_pools:.2f` in pools. The cost of an attention layer grows even faster than that, with the
# *square* of the width.
#
# ### What is the price?
#
# Training wants batches that are random: each gradient should be a fair guess of the whole. Sorting works against
# that. Samples of equal length meet in the same batch, and a batch of beginners says nothing about old customers. In
# the extreme, nearly the same samples meet in every epoch. So let us measure it: of all pairs of samples that share a
# batch in the first epoch, how many share one again in the second?


# %%
def meet_again(batch_size, pool, seed):
    """Of the pairs that share a batch in one epoch, the share that do so in the next
    one, too."""
    number = torch.empty(2, len(small), dtype=torch.long)
    for turn in range(2):
        for b, (index, _) in enumerate(epoch(batch_size, pool, 2 * seed + turn)):
            number[turn, index] = b
    both = number[0] * len(small) + number[1]
    pairs = [
        sum(comb(int(c), 2) for c in torch.unique(ids, return_counts=True)[1])
        for ids in (number[0], both)
    ]
    return pairs[1] / pairs[0]


pools = [1, 2, 4, 8, 16, 32, 64, 128]  # the last one holds all samples
price = np.array([[meet_again(32, pool, s) for pool in pools] for s in seeds])
waste = np.array([[padding(epoch(32, pool, s)) for pool in pools] for s in seeds])

# %% mystnb={"figure": {"caption": "The size of a pool is a dial between padding and randomness (batches of 32; every dot is one of three seeds). One line is the share of padding, the other how many pairs of samples that met in a batch meet again in the next epoch. See where each line is steep: most of the saving comes with small pools, most of the price with the largest.", "name": "fig-pools"}, "image": {"alt": "Two curves over the pool size from 1 to 128 batches. The share of padding falls steeply at first and then levels off; the share of pairs that meet again rises slowly at first and faster toward large pools."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.4))
for values, style, name in ((waste, "-", "padding"), (price, "--", "meet again")):
    ax.plot(pools, values.mean(0), style, color=INK)
    ax.plot(pools, values.T, "o", color=INK, markersize=4)
    direct_label(ax, pools[-1], values.mean(0)[-1], name, INK)
ax.set_xscale("log", base=2)
ax.set_xticks(pools, pools)
ax.set(xlabel="batches in a pool", ylabel="share")
_ = ax.margins(x=0.22)

# %% tags=["remove-cell"]
eight = pools.index(8)

claim(
    meet_random=(price.mean(0)[0], 0.0, 0.02),
    meet_sorted=(price.mean(0)[-1], 0.1, 1.0),
    saved_by_8=(
        ((waste[:, 0] - waste[:, eight]) / (waste[:, 0] - waste[:, -1])).mean(),
        0.4,
        0.8,
    ),
    paid_by_8=(
        ((price[:, eight] - price[:, 0]) / (price[:, -1] - price[:, 0])).mean(),
        None,
        0.25,
    ),
)

# %% [markdown]
# In random order {glue:text}`meet_random:.3f` of the pairs meet again, fully sorted
# {glue:text}`meet_sorted:.2f`. (Not all of them, because many samples have the same length, and the shuffle
# decides among those.) The two curves do not move together, and that is the good news: pools of 8 batches bring
# {glue:text}`saved_by_8:.2f` of all the saving for {glue:text}`paid_by_8:.2f` of the price. Whether the price
# is paid in AUC at all is another question, and one that needs a model; with {ref}`ch-ranking` behind you, you can
# answer it.
#
# ## What we learned
#
# Grouping keeps features that belong together in one place, and makes an empty cell mean *unknown* and nothing else.
# Flat tensors with offsets hold lists of any length without loss, cuts turn one list into many samples for the price
# of a few numbers, and three lines of indexing build any batch. Copies are affordable for short lives only. Padding
# is unavoidable in attention, but most of it can be avoided by batching like with like, if one does not overdo it.
#
# ## Exercises
#
# ```{exercise-start} Warm-up: offsets
# :label: ex-offsets
# ```
# `counts` is a tensor with the number of behaviors of each user. Return the offsets.


# %%
def offsets_of(counts): ...  # your turn


check.grouping.offsets(offsets_of)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-offsets
# :class: dropdown
# ```


# %%
def offsets_of(counts):
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


verdict = check.grouping.offsets(offsets_of)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Only the latest
# :label: ex-latest
# ```
# A batch with a limit: of each list keep only the latest `limit` behaviors. `offsets` are the offsets of the users,
# `users` the user of each sample, `ends` its cut. Return the positions in the flat tensor, end to end, oldest first.
# `ranges` may help; a loop over samples is right as well, only slower.


# %%
def latest(offsets, users, ends, limit): ...  # your turn


check.grouping.latest(latest)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-latest
# :class: dropdown
# ```


# %%
def latest(offsets, users, ends, limit):
    starts = torch.maximum(offsets[users], ends - limit)
    positions, _ = ranges(starts, ends - starts)
    return positions


verdict = check.grouping.latest(latest)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} The share of padding
# :label: ex-padding
# ```
# `lengths` holds the history lengths of all samples, in the order in which they are batched. Consecutive samples
# share a batch of `batch_size`, the last batch may be smaller, and each batch is as wide as its longest history.
# Which share of all cells is padding?


# %%
def padding_share(lengths, batch_size): ...  # your turn


check.grouping.padding_share(padding_share)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-padding
# :class: dropdown
# ```


# %%
def padding_share(lengths, batch_size):
    cells = sum(len(part) * int(part.max()) for part in lengths.split(batch_size))
    return 1 - int(lengths.sum()) / cells


verdict = check.grouping.padding_share(padding_share)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Break it and see: padding as an id
# :label: ex-padding-id
# ```
# Here padding *is* an id, index 0, and a user is described by the mean of the embedding rows of a history. Look at
# what happens to Cleo, who did one thing, when a batch mate has a longer history.

# %%
# rows: unknown, shoes, socks, trail
embeddings = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
alone = torch.tensor([[2]])
# Cleo's list is filled up with index 0
with_ana = torch.tensor([[2, UNKNOWN, UNKNOWN], [1, 1, 2]])
assert not torch.allclose(
    embeddings[alone].mean(1)[0], embeddings[with_ana].mean(1)[0]
)

# %% [markdown]
# Cleo's description depends on who shares her batch. Repair it: `ids` has shape `[samples, length]`, `mask` is True
# where something real stands, `embeddings` has one row for each index. Return the means, `[samples, dimensions]`.
# Mind that a *real* behavior may have index 0, and that a history may be empty: its mean shall be all zeros.


# %%
def mean_embedding(embeddings, ids, mask): ...  # your turn


check.grouping.mean_embedding(mean_embedding)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-padding-id
# :class: dropdown
# ```


# %%
def mean_embedding(embeddings, ids, mask):
    real = mask[..., None]  # [samples, length, 1]
    total = (embeddings[ids] * real).sum(1)  # [samples, dimensions]
    return total / real.sum(1).clamp(min=1)  # an empty history: 0 / 1


verdict = check.grouping.mean_embedding(mean_embedding)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open-ended: another way to sort
# :label: ex-another-sort
#
# `batches` sorts by the number of behaviors over all groups. Suppose that the model had a rectangle of its own for
# each group. By which length would you sort then? Measure the padding of your order beside random order on the
# simulated log, and explain what you find by {numref}`fig-two-batches`. `history_lengths(small, histories, [group])`
# counts the behaviors of one group in the history of each sample.
# ```
#
# ```{solution-start} ex-another-sort
# :class: dropdown
# ```
# Several orders are worth a try: by the sum of all lengths, by the longest of them, or by one group after the other.


# %%
# [groups, samples]
lengths = torch.stack(
    [history_lengths(small, histories, [group]) for group in histories.groups]
)


def own_rectangles(order):
    """Share of padding if every group of every batch of 32 has a rectangle of its
    own."""
    parts = lengths[:, order].split(32, dim=1)
    return 1 - int(lengths.sum()) / sum(
        part.shape[1] * int(part.amax(1).sum()) for part in parts
    )


orders = {
    "random": torch.arange(len(small)),
    "sum": lengths.sum(0).argsort(stable=True),
    "longest": lengths.amax(0).argsort(stable=True),
    "one group after the other": torch.from_numpy(np.lexsort(lengths.numpy()[::-1])),
}
by_order = pd.Series(
    {name: own_rectangles(order) for name, order in orders.items()},
    name="share of padding",
)
by_order.round(2)

# %% tags=["remove-cell"]
claim(
    own_sum_saves=(by_order["random"] - by_order["sum"], 0.1),
    own_sum_wastes=(by_order["sum"] - waste.mean(0)[-1], 0.05),
)

# %% [markdown]
# Every order saves something, by the sum {glue:text}`own_sum_saves:.2f` against random order. None comes near the
# single rectangle: {glue:text}`own_sum_wastes:.2f` more is padding even when everything is sorted. In
# {numref}`fig-two-batches` the bars of a sorted batch are equally long, but their *colors* are not: two users with
# thirty behaviors each may have ten searches or none, and one number cannot put three lengths in order.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# - Behaviors are split by the type of their object; each is in exactly one group.
# - Flat tensors with offsets store lists of any length. A sample is a user, a target, and one cut for each group.
# - Index 0 is the unknown, a value that training never showed. Padding is a mask and has no index.
# - `ranges` builds a batch by indexing alone. Nothing at the cut or after it can reach it, and a test proves that.
# - Memory of cuts grows with the behaviors, that of copies with their square. Pools of similar lengths save most of
#   the padding; the larger the pool, the less random the batches.
#
# **Where next.** A batch holds the age of every behavior as a plain number of seconds. {ref}`ch-time` asks in which
# form a network can make use of it.
