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
# (ch-attention)=
# # Self-attention
#
# Ana looks at a tent, then at hiking boots. Ben looks at rubber gloves, then at the same hiking boots. Ana plans a
# trip; Ben, perhaps, works in a garden. The boots are one object and so far one vector, but they do not *mean* the
# same. How can the meaning of a behavior depend on the behaviors around it?

# %% [markdown]
# ```{admonition} In this chapter
# **Question**: How can the meaning of a behavior depend on the behaviors around it?
#
# You will
# - compute the attention of three behaviors by hand, and check it against the code;
# - rewrite the paper's bilinear score so that it becomes a cheap and familiar operation;
# - mask what is not there, and say what happens to a user without any behavior;
# - assemble the whole layer: several spaces, feedforward network, residual connection, layer norm;
# - show that attention is blind to order, and find out what time encoding and self-attention each contribute.
#
# **Runtime** (`fast`): about 40 seconds on one core. **Before this**: {ref}`ch-time`, {ref}`ch-projection`.
# **Modules**: `atrank_lib.attention`. **Paper**: equations 3 to 6.
# ```

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("05_attention", profile=profile, seed=seed)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import (
    INK,
    group_color,
    heatmap,
    plain_log_ticks,
    space_color,
)
from atrank_book.play import Play
from atrank_lib import (
    ATRank,
    ATRankConfig,
    EventLog,
    Feature,
    Group,
    GroupedHistories,
    Recipe,
    Schema,
    SelfAttention,
    Split,
    TimeScale,
    build_batch,
    fit,
    split,
)
from atrank_lib.attention import SpaceAttention
from atrank_lib.batches import Packing
from atrank_lib.evaluation import score_candidates
from atrank_lib.fast import speed_up
from atrank_lib.interpret import explain
from atrank_lib.samples import prepare
from atrank_lib.variants import ATRankOptions, AttendedResidual, build
from data_scripts.simulate import MarketplaceConfig, simulate

# %% [markdown]
# ## Three behaviors, two dimensions
#
# Take three behaviors: a tent, hiking boots and a guitar. Their vectors have two dimensions, and we choose them so
# that the first reads "outdoors" and the second "music". The boots carry a bit of both: people wear them at
# festivals.

# %%
names = ["tent", "boots", "guitar"]
S = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])  # [n, d] = [3, 2]


def table(matrix, rows=names, columns=names):
    return pd.DataFrame(matrix.numpy(), index=rows, columns=columns).round(3)


table(S, columns=["outdoors", "music"])

# %% [markdown]
# Attention answers a question: *how much should behavior $i$ take from behavior $j$?* It takes three steps.
#
# **First, score every pair.** The paper asks this in each latent semantic space $k$ ({ref}`ch-projection`). The
# behaviors seen in space $k$ are the rows of $S_k = \operatorname{relu}(S P_k^\top)$; the behaviors in full are the
# rows of $S$. A matrix $W_k$, to be learned, compares the two:
#
# $$
# a(S_k, S; \theta_k) = S_k W_k S^\top
# $$ (eq-bilinear)
#
# This is eq. 4 of {cite:t}`zhou2018atrank`. With $n$ behaviors, $S_k$ is $n \times s_k$, $W_k$ is $s_k \times d$ and
# $S^\top$ is $d \times n$: one score for each pair, an $n \times n$ matrix. "Bilinear" says that it is linear in each
# of its two sides.
#
# **Second, turn scores into shares** (eq. 3). The softmax runs over each *row*, so that the shares of what one
# behavior takes sum to one:
#
# $$
# A_k = \operatorname{softmax}\bigl(a(S_k, S; \theta_k)\bigr)
# $$ (eq-scores)
#
# **Third, take** (eq. 5). What a behavior has to tell is a projection of its own, $\mathcal{F}_{Q_k}(S) =
# \operatorname{relu}(S Q_k^\top)$, and the shares mix it:
#
# $$
# C_k = A_k\,\mathcal{F}_{Q_k}(S)
# $$ (eq-vectors)
#
# We need numbers for $P$, $W$ and $Q$. One space is enough, and with $P = Q = I$ the projections change nothing, so
# we can do it all with pen and paper.

# %%
P = Q = torch.eye(2)
W = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
S_k = torch.relu(S @ P.T)  # [n, s_k]
scores = S_k @ W @ S.T  # [n, s_k] [s_k, d] [d, n] -> [n, n]
table(scores)

# %% [markdown]
# Check one entry. The boots are $(1, 1)$, and $(1, 1)\,W = (2, 1)$. Against the tent, $(2, 0)$, that scores
# $2 \cdot 2 + 1 \cdot 0 = 4$. The other way round, the tent asks with $(2, 0)\,W = (2, 0)$ and scores the boots,
# $(1, 1)$, with $2$. So the score is not symmetric: what the boots want from the tent is not what the tent wants
# from the boots. A plain inner product of vectors could not say that.

# %%
A = scores.softmax(dim=1)  # [n, n]; each row sums to one
assert torch.allclose(A.sum(dim=1), torch.ones(3))
table(A)

# %%
C_1 = A @ torch.relu(S @ Q.T)  # [n, n] [n, s_k] -> [n, s_k]
axes = ["outdoors", "music"]
vectors = {"names": names, "axes": axes, "S": S.tolist(), "W": W.tolist()}
Play("vectors", vectors, table(C_1, columns=axes))

# %% [markdown]
# The boots were half outdoors, half music. They took most from the tent, and now they are more outdoors than music.
# Replace the tent by something else, and they would have become something else. (On the book's page, drag the
# vectors and change $W$ to see it.)
#
# ## One matrix product less
#
# Equation {eq}`eq-bilinear` can be read from the left, $(S_k W_k)\,S^\top$, or from the right. Push $W_k$ to the
# other side:
#
# $$
# S_k W_k S^\top = S_k\,(S W_k^\top)^\top
# $$
#
# Now $S_k$ are *queries* and $S W_k^\top$ are *keys*, and both have $s_k$ dimensions. With $\mathcal{F}_{Q_k}(S)$ as
# *values*, this is multi-head attention as in {cite:t}`vaswani2017attention`, with two differences: queries and
# values go through a relu, and the scores are not divided by $\sqrt{s_k}$. So we may use PyTorch's fused attention,
# if we tell it that the scale is 1.

# %%
keys = S @ W.T  # [n, d] [d, s_k] -> [n, s_k]
torch.testing.assert_close(S_k @ keys.T, scores)
fused = torch.nn.functional.scaled_dot_product_attention(
    S_k, keys, torch.relu(S @ Q.T), scale=1.0
)
torch.testing.assert_close(fused, C_1)

# %% [markdown]
# The numbers are the same, the work is not. Count multiplications, for $K$ equal spaces with $K s_k = d$:
#
# - from the left, each space multiplies $S_k W_k$, that is $n\,s_k\,d$, and then compares in all $d$ dimensions,
#   $n^2 d$;
# - keys first, each space multiplies $S W_k^\top$, again $n\,s_k\,d$, and then compares in $s_k$ dimensions only,
#   $n^2 s_k$.
#
# Summed over spaces, the comparing costs $K n^2 d$ one way and $n^2 d$ the other.


# %%
def multiplications(n, d, K, keys_first):
    projecting = K * (n * (d // K) * d)
    comparing = K * n * n * (d // K if keys_first else d)
    return projecting + comparing


counts = {
    n: [multiplications(n, 128, 8, first) for first in (False, True)]
    for n in (10, 50, 200, 1000)
}
pd.DataFrame(counts, index=["from the left", "keys first"]).rename_axis(
    columns="n"
).map("{:,}".format)

# %% tags=["remove-cell"]
claim(operations_ratio_50=(counts[50][0] / counts[50][1], 2.9, 3.0))

# %% [markdown]
# With the paper's sizes ($d = 128$, eight spaces) and 50 behaviors, the literal reading needs
# {glue:text}`operations_ratio_50:.1f` times the multiplications, and the ratio grows toward eight with longer
# histories. `atrank_lib` puts the keys first.
#
# ## What is not there
#
# A batch holds users with different numbers of behaviors. To compare behaviors side by side they lie in a table
# with as many places as the longest history, and the rest is *padding*. Padding must not be seen. Give the three
# behaviors two empty places, filled with zeros, and forget about it:

# %%
padded = torch.cat([S, torch.zeros(2, 2)])  # [t, d] = [5, 2]
real = torch.tensor([True, True, True, False, False])
places = [*names, "padding", "padding "]
careless = (padded @ W @ padded.T).softmax(dim=1)
table(careless[:3], columns=places)

# %% [markdown]
# A score of zero is a score like any other, and its exponential is one. Padding takes a share from everybody, and
# the more padding, the larger: the prediction for a user would depend on who else happens to be in the batch. The
# cure is to set the scores of empty places to $-\infty$ *before* the softmax.

# %%
masked = (padded @ W @ padded.T).masked_fill(~real, float("-inf")).softmax(dim=1)
torch.testing.assert_close(masked[:3, :3], A)
table(masked[:3], columns=places)

# %% tags=["remove-cell"]
claim(stolen_by_padding=(careless[:3, 3:].sum(dim=1).max(), 0.03, 0.5))

# %% [markdown]
# Without the mask, up to {glue:text}`stolen_by_padding:.3f` of a row went to nobody. The mask gives it back.
#
# One case is left. What about a user without any behavior? Then *every* place is masked, and a softmax over nothing
# is zero divided by zero.

# %%
nothing = torch.full((1, 3), float("-inf"))
nothing.softmax(dim=1)

# %% [markdown]
# NaN spreads: one such user in a batch makes the loss NaN, its gradient NaN, and after one step every parameter of
# the model. `atrank_lib` lets an empty history see its first empty place. Values are computed for real behaviors
# only and then laid out in the table, so an empty place holds an exact zero, and so does the result: a user about
# whom nothing is known. A `Packing` keeps the books. Here are two users, one with three behaviors and one with none:

# %%
# behaviors 0, 1, 2 belong to user 0
packing = Packing.of(
    owner=torch.tensor([0, 0, 0]), place=torch.tensor([0, 1, 2]), size=2
)
print("real:   ", packing.mask.tolist())
print("visible:", packing.visible.tolist())
torch.manual_seed(seed)
layer = SelfAttention(2, SpaceAttention(2, sizes=[2]))
assert layer(S, packing).isfinite().all()

# %% [markdown]
# Everything that concerns one behavior alone, such as the projections, is computed on the *packed* behaviors
# `[n, d]`, without any padding. Only the comparison needs the table; since a batch holds samples of similar length
# ({ref}`ch-grouping`), one long history does not stretch it for everybody.
#
# ## The whole layer
#
# With $K$ spaces we get $C_1, \dots, C_K$, put them side by side, and let a small network with one hidden layer mix
# them: $\mathcal{F}_{self}$. This is eq. 6 of the paper; "dropout, residual connections and layer normalization"
# follow in the text below it:
#
# $$
# \begin{aligned}
# C = \operatorname{LayerNorm}\bigl( & S + \operatorname{dropout}( \\
# & \mathcal{F}_{self}(\operatorname{concat}^{(1)}(C_1, \dots, C_K)))\bigr)
# \end{aligned}
# $$ (eq-self)
#
# The residual connection keeps what a behavior was, so that the layer only has to learn what its neighbors change.
# Layer norm {cite:p}`ba2016layer` brings each row to mean 0 and deviation 1 and then rescales it, so that the numbers keep
# their size whatever was added. The paper does not say *what* the residual connection adds: the input $S$, as we write it
# and as a Transformer does, or the concatenated $C_k$ that went into $\mathcal{F}_{self}$. This book takes the input; the
# other reading is a variant, `AttendedResidual`. The whole layer is also called a *block*. Blocks can be stacked, but one is
# enough for this book (`blocks=1`).
#
# Here is the layer in the open, with four dimensions and two spaces, reading its parameters from the library's. Dropout is
# at its default, zero.

# %%
torch.manual_seed(seed)
layer = SelfAttention(4, SpaceAttention(4, sizes=[2, 2]))
S4 = torch.randn(3, 4)  # [n, d]


def self_attention(S, layer, residual="input"):
    P, W, Q = (
        layer.attention.queries.map,
        layer.attention.keys,
        layer.attention.values,
    )
    C_spaces = []
    for k in (slice(0, 2), slice(2, 4)):  # the columns of space 1, of space 2
        S_k = P(S)[:, k]  # [n, s_k], eq. 2
        W_k = W.weight[k]  # [s_k, d]
        A_k = (S_k @ W_k @ S.T).softmax(dim=1)  # [n, n], eq. 3 and 4
        C_spaces.append(A_k @ Q(S)[:, k])  # [n, s_k], eq. 5
    attended = torch.cat(C_spaces, dim=1)  # [n, d]
    added = S if residual == "input" else attended
    return layer.norm(added + layer.feed_forward(attended))  # [n, d], eq. 6


def of_one(n):
    """n behaviors of one user."""
    return Packing.of(torch.zeros(n, dtype=torch.long), torch.arange(n), size=1)


torch.testing.assert_close(self_attention(S4, layer), layer(S4, of_one(3)))
other = AttendedResidual(4, layer.attention)  # with a network and a norm of its own
torch.testing.assert_close(
    self_attention(S4, other, "attended"), other(S4, of_one(3))
)

# %% [markdown]
# Why several spaces? With one, a behavior can ask only one question of its neighbors at a time. With two it can look
# for the same topic in the one and for the same occasion in the other. {numref}`fig-attention-spaces` gives our
# three behaviors the matrix $W$ from above, and beside it one that asks for the opposite.

# %% mystnb={"figure": {"caption": "The same three behaviors in two spaces. Each row shows what one behavior takes, and sums to one. Compare a row on the left with the same row on the right. Left: with the matrix $W$ from above tent and boots look for the outdoors. Right: with another matrix tent and guitar look for what they are not.", "name": "fig-attention-spaces"}, "image": {"alt": "Two matrices of three by three shares. In the left one the tent takes nearly everything from itself; in the right one the tent takes nearly everything from the guitar, and the guitar from the tent."}} tags=["hide-input"]
W_other = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.9))
for k, (ax, matrix) in enumerate(zip(axes, [W, W_other], strict=True)):
    heatmap(
        ax,
        (S @ matrix @ S.T).softmax(dim=1),
        rows=names,
        columns=names,
        color=space_color(k),
        high=1.0,
    )
    ax.set_title(f"space {k + 1}: who takes (row) from whom (column)", fontsize=9)

# %% [markdown]
# ## Does the same behavior get different vectors?
#
# By construction it may. Does a *trained* layer make use of it? We train a small model on the simulated marketplace
# ({ref}`ch-ranking` explains how). Then we take a user's latest item behavior and ask: how far does its output
# vector move when *one* earlier behavior is replaced by a random behavior of another user?

# %%
users, steps = (600, 150) if profile == "fast" else (2000, 1000)
market = simulate(MarketplaceConfig(users=users, seed=seed))
histories, parts = prepare(market.log, "validated", ["item"])
recipe = Recipe(loss="pairwise", negatives=8, batch_size=128, learning_rate=3e-3)
torch.manual_seed(seed)
model = speed_up(
    ATRank(
        market.log.schema,
        histories.vocabularies,
        ATRankConfig(embedding_size=16, hidden=32, spaces=4),
    )
)
result = fit(
    model, histories, parts, recipe, seed=seed, max_steps=steps, progress=False
)
model = model.eval()

# %% [markdown]
# `model.project` gives $S$ for a batch. For each of a user's $n$ behaviors we make a copy of the history in which
# this behavior is replaced by another of its group, run the layer on all copies at once, and measure the distance
# between the outputs of the behavior in focus.


# %%
@torch.no_grad()
def moved(layer, s, focus, substitutes):
    """How far the output of behavior `focus` moves when each row of `s` in turn is
    replaced; s: [n, d]"""
    n = len(s)
    copies = s.repeat(n, 1, 1)  # [n, n, d]
    copies[torch.arange(n), torch.arange(n)] = substitutes
    # [n + 1, n, d]: the history as it is, then the copies
    stacked = torch.cat([s[None], copies])
    packing = Packing.of(
        torch.arange(n + 1).repeat_interleave(n),
        torch.arange(n).repeat(n + 1),
        n + 1,
    )
    out = layer(stacked.flatten(0, 1), packing).view(n + 1, n, -1)
    return (out[1:, focus] - out[0, focus]).norm(dim=1)  # [n]


# %% tags=["hide-input"]
# the vectors of many users, and who stands beside whom
def laid_out(samples):
    """S and the groups of some samples, in the padded table: [b, t, d], [b, t] with
    -1 for padding."""
    candidates = samples.objects[:, None]
    batch = build_batch(histories, samples, candidates)
    with torch.no_grad():
        return batch.packing.pad(model.project(batch)), explain(model, batch).groups


rng = torch.Generator().manual_seed(seed)
S_all, groups = laid_out(parts.test["item"][torch.arange(100)])
rows = []
for user in range(100):
    real = groups[user] >= 0
    s, g = S_all[user][real], groups[user][real]
    others = torch.arange(100) != user
    pools = [S_all[others][groups[others] == number] for number in range(3)]
    draws = torch.stack(
        [
            pools[n][torch.randint(len(pools[n]), (1,), generator=rng)[0]]
            for n in g.tolist()
        ]
    )
    # items come first in the table: this is the latest
    focus = int((g == 0).sum()) - 1
    attention = model.block(0).attention
    with torch.no_grad():
        queries, keys, _ = attention.project(s)
        share = attention.weights(queries[None], keys, of_one(len(s)))[
            0, :, focus
        ].mean(dim=0)  # over spaces
    for place, change in enumerate(moved(model.block(0), s, focus, draws).tolist()):
        if place != focus:
            name = list(histories.groups)[int(g[place])]
            rows.append(
                {
                    "user": user,
                    "place": place,
                    "group": name,
                    "share": float(share[place]),
                    "moved": change,
                }
            )
probe = pd.DataFrame(rows)
agreement = (
    probe.groupby("user")
    .apply(lambda one: one["share"].rank().corr(one["moved"].rank()))
    .mean()
)

# %%
probe.groupby("group")[["share", "moved"]].mean().loc[list(histories.groups)].round(
    3
)

# %% tags=["remove-cell"]
claim(
    moved_median=(probe["moved"].median(), 0.003),
    moved_largest=(probe.groupby("user")["moved"].max().median(), 0.02),
    share_moved_correlation=(agreement, -0.2, 0.9),
)

# %% mystnb={"figure": {"caption": "The same behavior gets a different vector when one of its neighbors is replaced. Left: one user; each bar is one neighbor, oldest first within a group. Right: fifty users, one dot for each neighbor: how far the vector moves, against the share of attention that the neighbor had. Look above any one share: there are dots at very different heights.", "name": "fig-attention-moved"}, "image": {"alt": "Left: bars of very different heights, one for each neighbor of one behavior. Right: a wide cloud of dots, one for each neighbor: among those with the same share of attention some move the vector much further than others."}} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.3), width_ratios=[1, 1.1])
one = probe[probe["user"] == probe["user"].value_counts().index[50]].reset_index(
    drop=True
)
left.bar(one.index, one["moved"], color=[group_color(name) for name in one["group"]])
left.set(
    xlabel="neighbor that is replaced",
    ylabel="how far the vector moves",
    xticks=[],
    title="one user",
)
some = probe["user"].isin(probe["user"].unique()[:50])
for name, part in probe[some].groupby("group", sort=False):
    right.scatter(
        part["share"],
        part["moved"],
        s=7,
        color=group_color(name),
        linewidths=0,
    )
for height, name in zip((0.95, 0.88, 0.81), histories.groups, strict=True):
    right.text(
        0.03, height, name, color=group_color(name), transform=right.transAxes
    )
_ = right.set(
    xscale="log",
    yscale="log",
    xlabel="share of attention before",
    title="fifty users",
)
for axis in (right.xaxis, right.yaxis):
    plain_log_ticks(axis)

# %% [markdown]
# The vector of the same behavior moves with its company. Replacing one neighbor moves it by
# {glue:text}`moved_median:.3f` in the median, and replacing the neighbor that matters most by
# {glue:text}`moved_largest:.2f`; for scale, layer norm gives each output a length of about
# $\sqrt{32} \approx 6$. Within a user, the rank correlation between a neighbor's share of attention and its effect is
# {glue:text}`share_moved_correlation:.2f`, and with another seed it may be close to zero. It is not one, because a
# share says how much is taken, not what: a neighbor replaced by something similar changes little. Keep this in mind
# when somebody reads attention weights as importance.
#
# ## Order does not exist
#
# Shuffle the history. Each score in {eq}`eq-bilinear` depends on its two behaviors and not on their places, so rows
# and columns of $A_k$ are shuffled in the same way, and so is $C$. Nothing else happens: the outputs are permuted,
# to the last digit that rounding leaves.

# %%
s = S_all[0][groups[0] >= 0]  # one real history, [n, d]
shuffled = torch.randperm(len(s), generator=rng)
with torch.no_grad():
    before, after = (
        model.block(0)(rows, of_one(len(s))) for rows in (s, s[shuffled])
    )
torch.testing.assert_close(after, before[shuffled])

# %% tags=["remove-cell"]
claim(permutation_error=((after - before[shuffled]).abs().max(), None, 1e-4))

# %% [markdown]
# To self-attention a history is a *set*. A recurrent network or a convolution would see the order for free; we have
# to bring it in with the behaviors. That is what the time encoding of {ref}`ch-time` is for. Is it enough?
#
# ## Two questions about order
#
# We build a task where order decides everything and nothing else helps. Each user has looked at a tent and at some
# of eight things, at very different times. What comes next is decided by one of two rules:
#
# - **the last one**: it goes with the most recent of the things (the tent does not count);
# - **the one before the tent**: it goes with the thing that came right before the tent.
#
# A thing $i$ leads to its own accessory $i$. The scorer has to tell the accessory of the deciding thing from the
# accessories of the user's *other* things. As a set, the history says nothing about which it is, so a model without
# time must end at one half. The first rule asks about one behavior at a time: how recent is it? The second asks
# about a *pair* of behaviors. Does that need self-attention?

# %% tags=["hide-input"]
# a task in which the order decides
THINGS, GOES_WITH = (
    [f"thing{i}" for i in range(8)],
    [f"accessory{i}" for i in range(8)],
)
ITEM = Group(
    actions=("view",),
    features={"object_id": Feature(kind="categorical")},
    time=TimeScale(unit="day", buckets=9),
)
SCHEMA, DAY, NOW = (
    Schema(name="order decides", groups={"item": ITEM}),
    86_400,
    100_000_000,
)


def order_task(rule, users, seed, things=3):
    """An event log whose last behavior of every user is to be ranked, and the
    accessories of the other things."""
    rng = np.random.default_rng(seed)
    events, rivals = [], []
    for u in range(users):
        # oldest first, never two in one bucket
        buckets = np.sort(rng.choice(8, things + 1, replace=False))[::-1]
        ages = 2.0**buckets * rng.uniform(1, 2, things + 1)
        chosen, tent = (
            rng.choice(8, things, replace=False),
            int(rng.integers(1, things + 1)),
        )
        history = (
            [THINGS[i] for i in chosen[:tent]]
            + ["tent"]
            + [THINGS[i] for i in chosen[tent:]]
        )
        decides = tent - 1 if rule == "before the tent" else things - 1
        goal = GOES_WITH[chosen[decides]]
        events += [
            (f"user{u:05d}", int(NOW - age * DAY), o)
            for age, o in zip(ages, history, strict=True)
        ]
        events.append((f"user{u:05d}", NOW, goal))
        rivals.append(
            [GOES_WITH[i] for place, i in enumerate(chosen) if place != decides]
        )
    table = pd.DataFrame(
        events, columns=["user_id", "timestamp", "object_id"]
    ).assign(action="view")
    objects = pd.DataFrame({"object_id": ["tent", *THINGS, *GOES_WITH]})
    return EventLog.from_tables(SCHEMA, {"item": table}, {"item": objects}), rivals


# %% [markdown]
# Three quarters of the users train, the rest test. We train four models: with and without time, with and without a
# block of self-attention. Without the block, the target still attends to the behaviors ({ref}`ch-ranking`), but
# behaviors do not see each other. Everything else is the same, and each model is trained from several seeds. The
# projection of eq. 1 goes without its relu here, as in the authors' code. What the relu would change, we measure beside
# it, for the full model and the second question.


# %%
def share_right(rule, time, blocks, seed, users, linear=True):
    """Trains one model; returns how often it ranks the right accessory above one of
    the others."""
    log, rivals = order_task(rule, users, seed)
    histories = GroupedHistories.from_log(log)
    # one sample a user: its last behavior
    last = split(histories, "paper").test["item"]
    cut = users * 3 // 4
    train, test = last[torch.arange(cut)], last[torch.arange(cut, users)]
    torch.manual_seed(seed)
    sizes = {"embedding_size": 16, "hidden": 32, "spaces": 4, "blocks": blocks}
    options = ATRankOptions(**sizes, time=time, linear_projection=linear)
    model = speed_up(build(SCHEMA, histories.vocabularies, options))
    recipe = Recipe(
        loss="pairwise",
        negatives=8,
        batch_size=64,
        learning_rate=5e-3,
        epochs=10,
        patience=None,
    )
    fit(
        model,
        histories,
        Split({"item": train}, {}, {"item": test}),
        recipe,
        seed=seed,
        progress=False,
    )
    rows = {
        name: row for row, name in enumerate(histories.catalogs["item"].object_ids)
    }
    others = torch.tensor(
        [[rows[name] for name in rivals[user]] for user in test.users.tolist()]
    )
    candidates = {"item": torch.cat([test.objects[:, None], others], dim=1)}
    scores = score_candidates(model, histories, {"item": test}, candidates)["item"]
    return float((scores[:, :1] > scores[:, 1:]).float().mean())


# %%
seeds, size = (
    (range(seed, seed + 3), 2200)
    if profile == "fast"
    else (range(seed, seed + 5), 6000)
)
variants = [("none", 0), ("none", 1), ("lookup", 0), ("lookup", 1)]
outcomes = pd.DataFrame(
    [
        {
            "rule": rule,
            "time": time,
            "blocks": blocks,
            "seed": s,
            "right": share_right(rule, time, blocks, s, size),
        }
        for rule in ("the last", "before the tent")
        for time, blocks in variants
        for s in seeds
    ]
)
with_relu = [
    share_right("before the tent", "lookup", 1, s, size, linear=False) for s in seeds
]
right = outcomes.groupby(["rule", "time", "blocks"], sort=False)["right"].agg(
    ["mean", "std"]
)
right.round(3)

# %% tags=["remove-cell"]
mean = right["mean"]
for time, blocks in variants:
    label = "time" if time == "lookup" else "no_time"
    label += "_block" if blocks else "_no_block"
    low, high = (0.45, 0.55) if time == "none" else (0.9, 1.0)
    claim(f"last_{label}", mean["the last", time, blocks], low=low, high=high)
    low, high = (0.52, 0.75) if (time, blocks) == ("lookup", 0) else (low, high)
    claim(f"tent_{label}", mean["before the tent", time, blocks], low=low, high=high)
with_block, without = (
    mean["before the tent", "lookup", blocks] for blocks in (1, 0)
)
claim(
    tent_gain_of_block=(with_block - without, 0.1),
    tent_relu=(np.mean(with_relu), 0.52, 1.0),
    tent_relu_worst=(min(with_relu), 0.5, 1.0),
    tent_relu_best=(max(with_relu), 0.52, 1.0),
)

# %% mystnb={"figure": {"caption": "How often the right accessory is ranked above another one. Each dot is one training run. Compare the two panels column by column: without time no model does better than guessing. With time the question about single behaviors is solved without self-attention; the question about a pair is not.", "name": "fig-attention-order"}, "image": {"alt": "Two panels with four columns of dots. Left, the last one: the two columns without time lie at one half, the two with time near one. Right, the one before the tent: without time at one half, with time but without self-attention a little above it, with time and self-attention far above."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.4), sharey=True)
titles = {
    "the last": "Which came last?",
    "before the tent": "Which came right before the tent?",
}
labels = ["neither", "only\nself-attention", "only\ntime", "both"]
for ax, rule in zip(axes, ("the last", "before the tent"), strict=True):
    ax.axhline(0.5, color=INK, linestyle="--", linewidth=1)
    ax.text(3.5, 0.49, "guessing", ha="right", va="top", fontsize=9)
    for x, variant in enumerate(variants):
        dots = (
            outcomes.set_index(["rule", "time", "blocks"])["right"]
            .sort_index()
            .loc[(rule, *variant)]
        )
        ax.scatter(
            x + np.linspace(-0.15, 0.15, len(dots)), dots, color=INK, s=36, zorder=3
        )
    ax.set(xticks=range(4), xlim=(-0.5, 3.5), ylim=(0.4, 1.03), title=titles[rule])
    ax.set_xticklabels(labels, fontsize=9)
_ = axes[0].set_ylabel("share of pairs in the right order")

# %% [markdown]
# {numref}`fig-attention-order` separates the two ingredients.
#
# - Without time, every model guesses: {glue:text}`last_no_time_block:.2f` and
#   {glue:text}`tent_no_time_block:.2f` with self-attention. Nothing else was possible, and it is a good test of
#   the code: more than one half would mean that order leaks in somewhere.
# - "Which came last?" is answered by time alone, {glue:text}`last_time_no_block:.2f` without self-attention and
#   {glue:text}`last_time_block:.2f` with it. The bucket of a behavior says how recent it is; no behavior has to
#   look at another. If your task is of this kind, self-attention is a cost without a return.
# - "Which came right before the tent?" is a question about two behaviors. Time alone gets
#   {glue:text}`tent_time_no_block:.2f`, and a block of self-attention raises it to
#   {glue:text}`tent_time_block:.2f`, a gain of {glue:text}`tent_gain_of_block:.2f`. A thing can look for the
#   tent and compare the two buckets *before* the target asks.
#
# Two cautions. The task is small, and a wider or deeper network on top of the target might find the pair without
# self-attention. What we measured is which model finds it with the same size and the same training. And a model that
# can find an answer need not find it: with the relu of eq. 1, as the paper writes it, the full model gets
# {glue:text}`tent_relu:.2f` on average on the second question, and from {glue:text}`tent_relu_worst:.2f` to
# {glue:text}`tent_relu_best:.2f` with the seed.
#
# ## What we learned
#
# Self-attention rewrites each behavior in the light of the others, in $K$ spaces at once. The paper's bilinear score
# is multi-head attention with keys that are projected first and no scale. Padding has to be masked before the
# softmax, and an empty history needs a decision. Attention sees a set; time turns it into a history; and what
# self-attention adds is the *relation* between behaviors.
#
# All matrices of a small model change as you change a history in {ref}`the live model <live-tour-5>`.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: shares by hand
# :label: ex-shares
# ```
# A query scores four keys with $0$, $\ln 2$, $\ln 5$ and $0$. The fourth is padding. Which share of its attention does each
# of the four get? Write four numbers.

# %%
shares = ...  # your turn

check.attention.shares(shares)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-shares
# :class: dropdown
# ```
# The exponentials of the real scores are 1, 2 and 5, and their sum is 8. Padding is out before the sum is taken.

# %%
shares = [1 / 8, 2 / 8, 5 / 8, 0]

verdict = check.attention.shares(shares)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Attention weights with a mask
# :label: ex-attention-weights
# ```
# Write `weights(queries, keys, mask)`: the shares with which each query takes from each key, with the paper's scale.
# `queries` is `[q, s]`, `keys` is `[t, s]`, `mask` is `[t]` and True where a key is real. If no key is real, return
# zeros.


# %%
def weights(queries, keys, mask): ...  # your turn


check.attention.weights(weights)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-attention-weights
# :class: dropdown
# ```


# %%
def weights(queries, keys, mask):
    if not mask.any():
        return torch.zeros(len(queries), len(keys))
    scores = queries @ keys.T  # [q, t]; the bilinear score has no scale
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=1)


verdict = check.attention.weights(weights)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The bilinear score, both ways
# :label: ex-bilinear
# ```
# Write `bilinear(S_k, W, S)` that returns a pair: the scores of {eq}`eq-bilinear` computed from the left, and
# computed with keys first. `S_k` is `[n, s]`, `W` is `[s, d]`, `S` is `[n, d]`. No softmax yet.


# %%
def bilinear(S_k, W, S): ...  # your turn


check.attention.bilinear(bilinear)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-bilinear
# :class: dropdown
# ```


# %%
def bilinear(S_k, W, S):
    left = (S_k @ W) @ S.T  # [n, d] [d, n]
    keys = S @ W.T  # [n, s]
    return left, S_k @ keys.T  # [n, s] [s, n]


verdict = check.attention.bilinear(bilinear)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Count the multiplications
# :label: ex-count-products
# ```
# Let there be $b$ users with $n$ behaviors each, and $K$ spaces of $s$ dimensions, $d = K s$. How many
# multiplications does one layer spend on *comparing and mixing*, that is on `queries @ keys.T` and on `A @ values` in
# all spaces, keys projected first? Write `comparing(b, n, K, s)`. Then answer for yourself: does the number of spaces
# matter when $d$ is fixed? From which $n$ on does this cost more than the three projections to queries, keys and
# values together?


# %%
def comparing(b, n, K, s): ...  # your turn


check.attention.comparing(comparing)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-count-products
# :class: dropdown
# ```
# Each space compares $n \times n$ pairs in $s$ dimensions and mixes as many values: $2 n^2 s$. Over all spaces that
# is $2 n^2 d$, whatever $K$. The three projections cost $3 n d^2$, so comparing costs more once $n > 1.5\,d$: with
# $d = 128$, histories longer than 192.


# %%
def comparing(b, n, K, s):
    return b * K * 2 * n * n * s


verdict = check.attention.comparing(comparing)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: give places a number
# :label: ex-positions
# ```
# The outputs of self-attention are permuted when its inputs are. Break this. Write `with_positions(S)` that adds to
# each row of `S` (`[n, d]`) a vector that depends on its *place* alone, and leaves its input as it was. Then think:
# in our histories behaviors of three groups stand one group after the other, and the moment of ranking is never the
# same. What do places tell, and what does elapsed time tell?


# %%
def with_positions(S): ...  # your turn


check.attention.with_positions(with_positions)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-positions
# :class: dropdown
# ```
# A place says what came before what, inside one group. It does not say *when*: a search an hour ago and a search a
# year ago may both be the last one. Elapsed time says when, also across groups, and from two ages follows the order;
# but two behaviors in the same bucket are the same age to the model.


# %%
def with_positions(S):
    n, d = S.shape
    return S + torch.sin(torch.arange(n)[:, None] / 10.0 ** (torch.arange(d) / d))


verdict = check.attention.with_positions(with_positions)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise} Open-ended: only the past
# :label: ex-only-the-past
# Language models let a word attend to earlier words alone. Here, a behavior attends to later ones too: the boots may be
# read in the light of a tent that was looked at a week *after* them. Is that a leak? Would a model profit if each
# behavior saw only what came before it? Argue, then plan the experiment that decides.
# ```
#
# ```{solution} ex-only-the-past
# :class: dropdown
# It is no leak: everything in the history lies before the target, and nothing inside it is predicted. A language model
# needs its mask because every word is a target for the words before it. What later behaviors say about earlier ones
# (the boots were for a trip) is just what we want to know at the moment of ranking. The experiment: the same model with
# the mask `age[j] >= age[i]` added to the one for padding, several seeds each, on a log in which order matters, with
# time shown and with time hidden. With time hidden, the mask alone tells which came first, so it may help there; with
# time shown it can only take away. One more thing speaks for it: with such a mask a new behavior leaves the vectors of
# the old ones as they were, so they can be stored.
# ```

# %% [markdown]
# ## Summary
#
# - **By hand**: scores $S_k W_k S^\top$, a softmax over each row, a mix of values: {eq}`eq-bilinear`,
#   {eq}`eq-scores`, {eq}`eq-vectors`.
# - **Rewritten**: with $S W_k^\top$ as keys it is multi-head attention with scale 1, and comparing costs $K$ times
#   less.
# - **Masked**: $-\infty$ before the softmax; a user without behaviors gets zeros instead of NaN.
# - **Assembled**: spaces side by side, $\mathcal{F}_{self}$, residual, layer norm: {eq}`eq-self`, `SelfAttention`.
# - **Order**: permute the history and the output is permuted. Time encoding brings order in; self-attention lets
#   behaviors use it on each other.
#
# **Where next?** The behaviors now know of each other. In {ref}`ch-ranking` a target looks at them, gets a score, and
# the whole model is trained.
