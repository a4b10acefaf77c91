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
# (ch-fast)=
# # Making it fast
#
# Jonas has written ATRank from the paper: a hundred lines of PyTorch, padded tables and a mask. It learns, but an epoch
# takes so long that he tries one idea a day. How much faster could the very same model train, with the same numbers in
# it? Where would one look first, and how does one know when to stop looking?
#
# ```{admonition} In this chapter
# **Question**: How much faster can the same model train, with the same numbers in it, and where should one look first?
#
# You will
#
# - count the operations of a sample with a formula, and let PyTorch confirm it to the last digit;
# - measure how much of a padded batch is padding, and get rid of nearly all of it by sorting;
# - read a roofline: what a machine can do at best, and which operators only wait for memory;
# - put faster steps and faster layers in from outside, through two seams, and keep every number;
# - see what each remedy gives, setting by setting, and next to other libraries;
# - encode a history once, and rank a whole shop with it.
#
# **Runtime** (`fast`): about 20 seconds on one core; speeds are recorded runs. **Before this**: {ref}`ch-attention` and
# {ref}`ch-ranking`. **Modules**: `atrank_lib.fast`, `serve`.
# ```

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("11_fast", profile=profile, seed=seed)

# %% tags=["hide-input"]
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from atrank_book import check
from atrank_book.figures import (
    FAINT,
    INK,
    PANEL,
    direct_label,
    group_color,
    label_lines,
    model_color,
    named_line,
    plain_log_ticks,
)
from atrank_lib import (
    ATRank,
    ATRankConfig,
    Recipe,
    batches,
    build_batch,
    fast,
    fit,
    split,
)
from atrank_lib.samples import history_lengths, prepare
from atrank_lib.training import Steps
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.records import read_record, recorded

# %% [markdown]
# ## Count first
#
# Before asking why something is slow, ask how fast it could be. A sample of ATRank is mostly products of matrices, and
# those can be counted on paper. A product of $[n, d]$ and $[d, d]$ takes $n d^2$ multiplications and as many additions:
# $2nd^2$ floating-point operations (FLOPs). Take a history of $n$ behaviors of one group, $c$ targets to score, and
# embeddings as wide as the hidden size $d$:
#
# | what | products | FLOPs |
# |---|---|---|
# | eq. 1, every behavior and target | one $d \times d$ map | $2d^2 (n + c)$ |
# | eq. 2 to 5: queries, keys, values | three maps | $2d^2 \cdot 3n$ |
# | scores and weighted sums, all spaces together | $QK^\top$ and $AV$ | $4dn^2$ |
# | $\mathcal{F}_{self}$ | two maps | $2d^2 \cdot 2n$ |
# | eq. 7: keys and values; the targets' queries and $\mathcal{F}_{vanilla}$ | two maps; three | $2d^2 (2n + 3c)$ |
# | scores of targets and their sums | | $4dnc$ |
#
# $$ \text{FLOPs}(n, c) = 2 d^2 (8n + 4c) + 4dn^2 + 4dnc $$ (eq-flops)
#
# The number of spaces does not occur: $K$ spaces have $K$ score tables, each $K$ times cheaper. The two terms in $n$
# are equal at $n = 4d$, some five hundred behaviors for the paper's $d = 128$; below that, what attention adds is the
# small part. Backwards every product becomes two, so a training step takes three times eq. {eq}`eq-flops`.
#
# PyTorch can count too. A simulated log, a small model that reads coupons (three embeddings of 8, so $d = 24$), a few
# samples one at a time, so that nothing is padded:

# %%
users = 200 if profile == "fast" else 3_000
market = simulate(MarketplaceConfig(users=users, seed=seed))
histories, parts = prepare(market.log, "validated", ["item", "coupon"])
d = 24


def flops(n, c, d):
    """FLOPs of one sample's forward pass: n behaviors, c targets, embeddings as wide
    as the hidden size."""
    return 2 * d * d * (8 * n + 4 * c) + 4 * d * n * n + 4 * d * n * c


torch.manual_seed(seed)
config = ATRankConfig(embedding_size=d // 3, hidden=d, spaces=4)
small = ATRank(
    market.log.schema, histories.vocabularies, config, histories=["coupon"]
)
counted = []
received = parts.train["coupon"]
by_length = history_lengths(received, histories, ["coupon"]).argsort()
for number in by_length[:: len(by_length) // 4]:
    batch = build_batch(
        histories,
        received[number[None]],
        torch.tensor([[0, 1, 2]]),
        groups=["coupon"],
    )
    counter = FlopCounterMode(display=False)
    with (
        counter,
        sdpa_kernel(SDPBackend.MATH),
    ):  # a fused call would count as nothing
        forward = small(batch).scores.sum()
        once = counter.get_total_flops()
        forward.backward()
    n = int(batch.packing.lengths.sum())
    counted.append((n, once, counter.get_total_flops()))
    assert once == flops(n, 3, d)
    assert counter.get_total_flops() == 3 * once
pd.DataFrame(counted, columns=["behaviors", "forward", "forward and backward"])

# %% [markdown]
# Not about right: equal, to the last operation. So we know what a sample *must* cost. What it costs beyond that is ours
# to find, and it hides in four places: in empty places of tables, in rows that nobody asked for, in waiting, and in
# moving numbers about.
#
# ## Places that nobody fills
#
# By hand: six histories of 2, 10, 3, 10, 2 and 3 behaviors, in batches of two. A table has as many columns as its
# longest history:

# %%
lengths = torch.tensor([2, 10, 3, 10, 2, 3])


def places(lengths, batch_size):
    """Places of all padded tables, batch by batch."""
    return sum(len(part) * int(part.max()) for part in lengths.split(batch_size))


real, shuffled = int(lengths.sum()), places(lengths, 2)
tidy = places(lengths.sort().values, 2)
print("behaviors:", real, "  places as they come:", shuffled, "  sorted:", tidy)

# %% [markdown]
# Sorted by length, nothing is empty. But training wants batches that chance has put together. The library's `batches`
# shuffles first, sorts only inside *pools* of fifty batches, then shuffles the batches: the length of a history is all
# that a batch has in common.
#
# And emptiness costs less than it could. Only the scores $S_k W_k S^\top$ need a user's behaviors side by side. All
# else works on one behavior at a time and does not care whose it is. So the library keeps the behaviors of a batch end
# to end, *packed*, `[n, d]`, and pads them once, inside attention. On our simulated log:

# %%
samples = {"item": parts.train["item"]}
rows = {"item": samples["item"].objects[:, None]}


def packings(pool):
    """Whose the behaviors of every batch are; cut as training would."""
    shuffle = torch.Generator().manual_seed(seed)
    cut = batches(histories, samples, rows, 256, generator=shuffle, pool=pool)
    return [batch.packing for *_, batch in cut]


def empty(packings):
    """The share of places that attention fills with nothing."""
    real = sum(int(p.lengths.sum()) for p in packings)
    return 1 - real / sum(p.mask.numel() for p in packings)


chance, in_pools = packings(1), packings(50)
print(f"empty: by chance {empty(chance):.3f}, in pools {empty(in_pools):.3f}")

# %% tags=["remove-cell"]
claim(
    empty_chance=(empty(chance), 0.6, 0.95),
    empty_sorted=(empty(in_pools), 0.0, 0.3),
)

# %% mystnb={"figure": {"caption": "One batch of 256 histories, as chance has put it together, and one of the same size from a sorted pool. A row is a sample, its bar are behaviors. Compare what the bars leave of the frames: it is computed and thrown away.", "name": "fig-fast-padding"}, "image": {"alt": "Two panels of horizontal bars. In the first, short bars stand in a wide rectangle, most of which is empty. In the second all bars are about equally long and fill theirs."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.6, 3), sharex=True, sharey=True)
for ax, packing, title in (
    (axes[0], chance[0], "by chance"),
    (axes[1], in_pools[0], "sorted pool"),
):
    frame = {"facecolor": FAINT, "edgecolor": INK, "linewidth": 1}
    ax.add_patch(plt.Rectangle((0, -0.5), packing.longest, 256, **frame))
    edges = np.arange(257) - 0.5
    bars = {"orientation": "horizontal", "fill": True, "color": group_color("item")}
    ax.stairs(packing.lengths, edges, **bars)
    ax.set(title=title, xlabel="places")
    ax.grid(False)
_ = axes[0].set_ylabel("sample")

# %% [markdown]
# By chance, a share of {glue:text}`empty_chance:.2f` of the places is empty; sorting in pools leaves
# {glue:text}`empty_sorted:.2f`.
#
# ## Under the roof
#
# Which of the rest can be faster at all? A processor does two things: it computes, up to a *peak* of FLOPs per second,
# and it moves numbers, up to the *bandwidth* of its memory. An operator with $F$ FLOPs that moves $B$ bytes has the
# *arithmetic intensity* $F / B$, and cannot do better than
#
# $$ \text{attainable} = \min\left(\text{peak},\ \text{bandwidth} \cdot \frac{F}{B}\right) $$ (eq-roofline)
#
# Drawn over intensity that is a slope and a flat roof, a *roofline* {cite:p}`williams2009roofline`. What stands under
# the slope waits for memory, and a faster processor would not help it. Both limits are measured in a record of this
# chapter; intensities follow from the shapes, here of a batch of 32 histories of 50 and a table of 63,001 objects:

# %% tags=["hide-input"]
# measured speeds, read from the records
speed = read_record(recorded("speed") / "peers.json")
threads = speed["threads"]
rates = pd.DataFrame(speed["rows"]).pivot(
    index="contender", columns="setting", values="samples_per_second"
)
SETTINGS = {
    "32-50-full": "batch 32, full",
    "32-50-ragged": "batch 32, ragged",
    "1024-50-full": "batch 1,024, full",
    "epoch": "a real epoch",
}
OURS = ["atrank", "bi-lstm", "din", "bst"]
LADDER = ["packed", "sorted", "malloc", "rows", "kernels"]
PEERS = {
    "din": ["fuxictr-din", "recbole-din", "rechub-din", "deepctr-din"],
    "bst": ["fuxictr-bst", "rechub-bst"],
}
rates = rates[list(SETTINGS)]

# %%
d, n, b, k, table = 128, 50, 32, 8, 63_001
real = b * n  # behaviors
held = b * (n + 2)  # rows of the table that are looked up, at most
weights = 4 * b * k * n * n  # bytes of all A_k
operators = pd.DataFrame(
    {  # FLOPs, bytes at least, how often in a step forwards
        "projection": (2 * real * d * d, 4 * (2 * real * d + d * d), 8),
        "attention, fused": (4 * b * n * n * d, 16 * real * d, 1),
        "attention, tables stored": (
            4 * b * n * n * d,
            16 * real * d + 4 * weights,
            1,
        ),
        "layer norm": (8 * real * d, 8 * real * d, 1),
        # Adam reads p, g, m, v and writes p, m, v
        "Adam, whole table": (12 * table * 64, 28 * table * 64, 1),
        "Adam, rows": (12 * held * 64, 28 * held * 64, 1),
    },
    index=["FLOPs", "bytes", "times"],
).T
limits = pd.DataFrame(speed["ceiling"])
limits = limits[limits["threads"] == threads]
peak = float(limits[["kernel", "layer", "gradient", "scores"]].max().max()) * 1e9
bandwidth = float(limits[["copy", "triad"]].max().max()) * 1e9
operators["FLOPs/byte"] = operators["FLOPs"] / operators["bytes"]
reached = np.minimum(peak, bandwidth * operators["FLOPs/byte"])
operators["microseconds at best"] = 1e6 * operators["FLOPs"] / reached
operators[["FLOPs/byte", "microseconds at best"]].round(1)

# %% mystnb={"figure": {"caption": "A roofline. The line is what the machine can do at each intensity. Marks on it are operators of a step of 32 histories of 50, placed by their formulas. The two diamonds below are measured: whole training steps of ATRank, batches of 32 and of 1,024. Look at their distance to the roof: it is what could still be gained.", "name": "fig-fast-roofline"}, "image": {"alt": "On logarithmic axes a rising line that turns flat at a ridge. Adam's updates and layer norm lie at the far left of the slope, attention further right, the projection near the ridge or on the flat part. Two diamonds lie below the line near the projection's intensity."}} tags=["hide-input"]
measured = (
    pd.DataFrame(speed["rows"]).set_index(["contender", "setting"]).loc["atrank"]
)
forwards = (
    operators.loc[["projection", "attention, fused", "layer norm"]]
    .mul(operators["times"], axis=0)
    .sum()
)
intensity = (
    3
    * b
    * flops(n, 2, d)
    / (3 * forwards["bytes"] + operators["bytes"]["Adam, rows"])
)
fig, ax = plt.subplots(figsize=(7.6, 4))
x = np.geomspace(0.2, 300, 200)
ax.plot(x, np.minimum(peak, bandwidth * x) / 1e9, color=INK)
for name, row in operators.drop(index="Adam, rows").iterrows():
    place = (row["FLOPs/byte"], min(peak, bandwidth * row["FLOPs/byte"]) / 1e9)
    label = name.replace("whole table", "whole table or rows").replace(", t", ",\nt")
    if place[0] < 1:  # its name stands below the roof, others' above it
        xytext, ha, va = (8, -4), "left", "top"
    else:
        sloped = place[0] < peak / bandwidth
        xytext, ha, va = (
            (-6 if sloped else 0, 6),
            "right" if sloped else "left",
            "bottom",
        )
    ax.plot(*place, "o", color=INK)
    ax.annotate(label, place, xytext, textcoords="offset points", ha=ha, va=va)
for setting in ("32-50-full", "1024-50-full"):
    done = (
        measured.loc[setting, "samples_per_second"]
        * measured.loc[setting, "training_mflop"]
        / 1e3
    )
    ax.plot(intensity, done, "D", color=model_color("atrank"))
    direct_label(ax, intensity, done, SETTINGS[setting], model_color("atrank"))
ax.set(
    xscale="log",
    yscale="log",
    xlabel="FLOPs per byte",
    ylabel="GFLOP/s",
    xlim=(0.2, 300),
)
ax.set_ylim(top=3 * peak / 1e9)
for axis in (ax.xaxis, ax.yaxis):
    plain_log_ticks(axis)

# %% tags=["remove-cell"]
best = operators["microseconds at best"] / 1e3
claim(
    threads=threads,
    commit=speed["commit"][:8],
    peak=(peak / 1e9, 5, 5_000),
    bandwidth=(bandwidth / 1e9, 2, 1_000),
    ridge=(peak / bandwidth, 0.2, 200),
    table_milliseconds=(best["Adam, whole table"], 0.05, 50),
    rows_milliseconds=(best["Adam, rows"], 0.001, 5),
    step_at_best=(
        3 * forwards["microseconds at best"] / 1e3 + best["Adam, rows"],
        0.1,
        500,
    ),
    step_took=(1e3 * b / rates.loc["atrank", "32-50-full"], 0.1, 1_000),
)

# %% [markdown]
# The roof is at {glue:text}`peak:.0f` GFLOP/s, memory brings {glue:text}`bandwidth:.0f` GB/s, and the ridge between
# them is at {glue:text}`ridge:.1f` FLOPs per byte. Three things to see:
#
# - Everything but products is far down the slope. Nothing but fetching less makes it faster. That is why one *fused*
#   call of attention, which never stores the tables $A_k$, stands further right than the same products with stored
#   tables.
# - An update of rows has the same intensity as one of the whole table, and less to do:
#   {glue:text}`rows_milliseconds:.3f` ms at best in place of {glue:text}`table_milliseconds:.2f`. A roofline shows how
#   well an operator can run, not whether it should run at all.
# - A whole step needs {glue:text}`step_at_best:.1f` ms at best, and took {glue:text}`step_took:.1f`. In between lie
#   lookups, activations, gradients that are added up, the building of batches, and Python.
#
# ## Two seams
#
# Where in a program do remedies belong? Neither in the model nor in the loop of {ref}`ch-ranking`: those are to be
# read. They come from outside, in two places.
#
# **Steps.** The loop asks an object to take each step, and `fit` accepts another one as `steps=`. A table of a hundred
# thousand objects is read in a few hundred rows a step, but its gradient is as large as the table, and Adam walks over
# all of it, for its momentum moves even rows without a gradient. `fast.RowSteps` updates the rows of a batch alone and
# pays the others what they are owed when they are read next: the debt is a plain sum, which an
# {ref}`exercise <ex-catch-up>` derives.
#
# **Layers.** `fast.speed_up(model)` gives the layers of a built model another class, which computes the same from the
# same parameters in a few hundred lines of C, compiled at first use for the processor at hand: layers that read the
# same rows in one call, attention that takes each user's rows where they lie, lookups that are added up at once.
# `fast.plain` takes it back.


# %%
def new_model(config):
    torch.manual_seed(seed)
    return ATRank(market.log.schema, histories.vocabularies, config)


def losses(model, steps=Steps):
    """Losses of two epochs."""
    recipe = Recipe(loss="pairwise", batch_size=32, learning_rate=3e-3, epochs=2)
    coupons = split(histories, "validated", ["coupon"])
    done = fit(model, histories, coupons, recipe, progress=False, steps=steps)
    return [epoch["loss"] for epoch in done.epochs]


tiny = ATRankConfig(embedding_size=16, hidden=16, spaces=2)
by_rows = partial(fast.RowSteps, least=2)  # our tables are small: all count as large
curves = pd.DataFrame({"as in chapter 6": losses(new_model(tiny))}, index=[1, 2])
curves["rows"] = losses(new_model(tiny), steps=by_rows)
curves["kernels"] = losses(fast.speed_up(new_model(tiny)))
for name in ("rows", "kernels"):
    plain = curves["as in chapter 6"]
    np.testing.assert_allclose(curves[name], plain, rtol=1e-3)
curves.rename_axis("loss in epoch").round(5)

# %% tags=["remove-cell"]
moved = plain.iloc[0] - plain.iloc[1]
apart = curves.sub(plain, axis=0).abs().max().max()
claim(rows_difference=(apart, 0, 1e-3), rows_moved=(moved, 0.005))
assert apart < moved / 2

# %% [markdown]
# The same training three times: the losses differ by {glue:text}`rows_difference:.0e` at most, where an epoch moves
# them by {glue:text}`rows_moved:.3f`. Without a compiler, on a GPU, in another precision, PyTorch's operators do the
# work: they are what the tests hold the kernels against. `atrank train` uses both seams.
#
# ## What it buys
#
# Samples per second in training, from the plain model of Jonas to the fast one, each step with all before it. All
# compute the same scores from the same parameters, with SGD and {glue:text}`threads` threads: on full histories of 50,
# on ragged ones (evenly from 1 to 50), and on a real epoch of a log of reviews in batches of 512, most of whose
# histories are short.

# %% mystnb={"figure": {"caption": "From the plain model (left) to the fast one, as a multiple of the plain model's speed; every step has all before it, and the names give the last factor. Packed: no padding but in attention. Sorted: by length, in pools. Malloc: freed memory is kept. Then rows and kernels. Medians of a recorded run. Follow each line step by step: up is faster, a step that goes down did not pay in that setting.", "name": "fig-fast-ladder"}, "image": {"alt": "Four lines, one for each setting, over six steps from plain to kernels. All start at one; at the end the real epoch is far above the batch of 1,024, and this above the two batches of 32."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.6, 4))
ends = {}
color = model_color("atrank")
for mark, (setting, title) in zip("os^D", SETTINGS.items(), strict=True):
    line = (
        rates.loc[["plain-default", *LADDER], setting]
        / rates.loc["plain-default", setting]
    )
    doublings = np.log2(line.to_numpy(float))
    ax.plot(range(len(line)), doublings, f"{mark}-", color=color, linewidth=1.4)
    ends[f"{title}: {line.iloc[-1]:.1f}×"] = (len(line) - 1, doublings[-1])
label_lines(ax, ends, 0.42, dict.fromkeys(ends, color))
ax.axhline(0, color=INK, linewidth=1, linestyle="--")
ax.set_xticks(range(len(line)), ["plain", *LADDER])
_ = ax.set_yticks(range(-1, 5), ["0.5", "1: plain", "2", "4", "8", "16"])
_ = ax.set_ylabel("times plain")

# %% tags=["remove-cell"]
for setting, name in (
    ("epoch", "epoch"),
    ("1024-50-full", "1024"),
    ("32-50-full", "32"),
):
    gain = rates.loc["kernels", setting] / rates.loc["plain-default", setting]
    claim(f"answer_{name}", gain, low=0.8)

# %% [markdown]
# Each remedy pays where its waste is: packing and sorting where histories differ, rows where tables are large and
# batches small, kernels everywhere. Where a step saves nothing it costs: in batches of 32 *packed* even loses, until
# rows come, for the plain model's tables have sparse gradients and the library's have not. (The record
# was made with an earlier version, commit {glue:text}`commit`, on a machine of its own; `make bench` makes yours.)
#
# ```{admonition} Why not what PyTorch has for ragged rows?
# :class: note
# The table below attends among the same rows by each of its ways, on one thread. *Nested* tensors compute the same, and
# are slower than padding on a CPU. *Flex* attention does not run backwards there, *varlen* attention does not run there
# at all: both are made for GPUs. FBGEMM has attention of its own for ragged rows, but its release for CPUs could not be
# loaded beside the PyTorch of this book.
# ```

# %% tags=["hide-input"]
# the record of ways to attend
ragged = pd.DataFrame(read_record(recorded("speed") / "ragged.json")["rows"])
ways = ragged.pivot(index="way", columns=["setting", "what"], values="cpu_ms")
ways = ways.loc[["padded", "nested", "flex", "varlen", "kernel"]]
called = {"forwards": "scoring", "both": "training"}
ways.columns = [f"{setting}, {called[what]}" for setting, what in ways.columns]
ways.round(1).astype("object").where(ways.notna(), "–").rename_axis(
    "ms, histories of"
)

# %% tags=["remove-cell"]
for setting, rows_of in ragged[ragged["what"] == "both"].groupby("setting"):
    cost = rows_of.set_index("way")["cpu_ms"]
    short = "ragged_32" if setting.startswith("32") else "ragged_512"
    claim(f"{short}_kernel", cost["padded"] / cost["kernel"], low=0.5, high=100)
    claim(f"{short}_nested", cost["nested"] / cost["padded"], low=0.1, high=100)

# %% [markdown]
# ## Next to other libraries
#
# A plain model of one's own is an easy rival. So the record also has DIN {cite:p}`zhou2018din` and BST
# {cite:p}`chen2019bst` from well-known libraries ({glue:text}`libraries`), each in its own training loop, on the same
# samples, threads and sizes. Two cautions. DIN has no attention among behaviors, so it has far less to compute. And a
# sample of ours is a history with two targets, theirs a row with one: on generated samples a row counts as a sample,
# which favors them; in the epoch two rows do.

# %% mystnb={"figure": {"caption": "Speed of ATRank in this library as a multiple of other models' speed: right of the line ATRank trains faster. A circle is a real epoch, filled for other libraries and for the plain model, open for models of this library; strokes are the three settings of single batches. See on which side the circles lie: in a real epoch every other library lies to the right; on full histories without padding DIN, which computes far less, lies near the line. A recorded run; medians.", "name": "fig-fast-peers"}, "image": {"alt": "A row for each rival: plain ATRank, DIN and BST of several libraries, and this library's DIN, BST and Bi-LSTM. On a logarithmic axis, around a vertical line at one, a circle and three strokes mark ratios of speeds; most circles lie far to the right."}} tags=["hide-input"]
ours = rates.loc["atrank"]
rivals = ["plain", *PEERS["bst"], *PEERS["din"], "bst", "din", "bi-lstm"]
names = {"plain": "ATRank, plain"}
fig, ax = plt.subplots(figsize=(7.6, 3.8))
for place, name in enumerate(reversed(rivals)):
    ratios = ours[list(SETTINGS)].astype(float) / rates.loc[name, list(SETTINGS)]
    *single, epoch = ratios
    kind = name if name in OURS else name.partition("-")[2]
    color = model_color(kind or "atrank")
    ax.plot([min(ratios), max(ratios)], [place] * 2, color=color, linewidth=1)
    ax.plot(single, [place] * len(single), "|", color=color, markersize=9)
    inside = PANEL if name in OURS else color
    ax.plot(epoch, place, "o", color=color, markerfacecolor=inside, markersize=8)
named_line(ax, 1, "equally fast")
ax.set_yticks(range(len(rivals)), [names.get(name, name) for name in rivals[::-1]])
ax.set(xscale="log", xlabel="speed of ATRank / speed of the other")
plain_log_ticks(ax.xaxis)
found = {
    f"{name} {version}"
    for versions in speed["libraries"].values()
    for name, version in versions.items()
}
others = rates.loc[[*PEERS["din"], *PEERS["bst"]]]

# %% tags=["remove-cell"]
claim(
    epoch_least=((ours / others)["epoch"].min(), 1.5),
    din_full_least=((ours / others)["32-50-full"].min(), 0.7, 2),
    libraries=", ".join(
        sorted(name for name in found if not name.startswith(("torch ", "numpy ")))
    ),
)

# %% [markdown]
# ## How cost grows
#
# The formula says how a step grows; does the clock agree? One thing at a time is varied, from the first value to the
# second, the rest being 32 histories of 50 (20 for batches and objects):

# %% tags=["hide-input"]
# first and last point of every curve
growth = pd.DataFrame(read_record(recorded("speed") / "growth.json")["rows"])
grown = growth.sort_values("value").groupby("curve", sort=False)
grown = grown[["value", "cpu_ms_per_step"]].agg(["first", "last"])
times = pd.DataFrame(
    {
        "from": grown["value", "first"],
        "to": grown["value", "last"],
        "times as many": grown["value", "last"] / grown["value", "first"],
        "a step takes, times": grown["cpu_ms_per_step", "last"]
        / grown["cpu_ms_per_step", "first"],
    }
).loc[["length", "batch", "spaces", "objects", "objects, whole tables"]]
times.astype({"times as many": int}).round(1)

# %% tags=["remove-cell"]
grew = times["a step takes, times"]
claim(
    growth_length=(grew["length"], 5, 200),
    growth_rows=(grew["objects"], 0.3, 20),
    growth_whole=(grew["objects, whole tables"], 1, 200),
    growth_spaces=(grew["spaces"], 0.5, 20),
)
assert grew["objects"] < grew["objects, whole tables"]

# %% [markdown]
# Up to some hundred behaviors a step grows with its history about as a line does: layers are the cost, not attention.
# Rows make the number of objects nearly irrelevant. And spaces are not quite free, for every score goes through a
# softmax, which we did not count.
#
# ## Ranking many objects
#
# Training scores two objects a history; a shop scores thousands. The history is the expensive half of eq.
# {eq}`eq-flops`, and it does not depend on the target until eq. 7. So it is encoded *once*, keys and values are kept,
# and each candidate costs $8d^2 + 4dn$ operations, no more. What candidates bring along, $h_t$ and its queries, does
# not depend on the user and can be kept too. One user with {glue:text}`serving_history` behaviors against all objects
# of a shop:

# %% tags=["hide-input"]
# seconds to rank a shop, as recorded
serving = read_record(recorded("speed") / "inference.json")
pairs = serving["pairs"]
seconds = pd.DataFrame(serving["rows"]).pivot(
    index="objects", columns="way", values="seconds"
)
(1e3 * seconds[["naive", "anew", "ready"]]).round(1).rename(
    columns={
        "naive": "ms, history for each object",
        "anew": "ms, history once",
        "ready": "ms, objects prepared",
    }
)

# %% tags=["remove-cell"]
claim(
    pairs=f"{pairs['pairs']:,}",
    pairs_ratio=(pairs["ratio"], 3),
    pairs_difference=(pairs["largest_difference"], 0, 1e-4),
    serving_history=int(serving["history"]),
    serving_gain=((seconds["naive"] / seconds["anew"]).loc[20_000], 3),
)

# %% [markdown]
# Encoding the history once is {glue:text}`serving_gain:.0f` times as fast for twenty thousand objects. For
# {glue:text}`pairs` pairs of many users and objects the library's command was {glue:text}`pairs_ratio:.0f` times as
# fast as scoring pair by pair, and no score differs by more than {glue:text}`pairs_difference:.0e`.
#
# ## What we learned
#
# | | |
# |---|---|
# | the same model, in a real epoch | {glue:text}`answer_epoch:.1f` times as fast as the plain one |
# | in full batches of 1,024, of 32 | {glue:text}`answer_1024:.1f` times, {glue:text}`answer_32:.1f` times |
# | against any other library's DIN or BST, in a real epoch | {glue:text}`epoch_least:.1f` times at least |
# | attention among ragged rows, against padding | {glue:text}`ragged_32_kernel:.1f` and {glue:text}`ragged_512_kernel:.1f` times |
# | where to look first | count; then padding, rows that nobody read, waiting |
# | what is left | Python between the layers, and batches that are built while nothing is computed |
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: empty places
# :label: ex-empty-share
# ```
# Write `empty_share(lengths, batch_size)`: histories of these `lengths` (a tensor of integers) are put into batches in
# the order they come in, and each batch is padded to its longest. Which share of all places, over all batches, is
# empty?


# %%
def empty_share(lengths, batch_size): ...  # your turn


check.fast.empty_share(empty_share)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-empty-share
# :class: dropdown
# ```


# %%
def empty_share(lengths, batch_size):
    places = sum(len(part) * int(part.max()) for part in lengths.split(batch_size))
    return 1 - int(lengths.sum()) / places


verdict = check.fast.empty_share(empty_share)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Pay what is owed
# :label: ex-catch-up
# ```
# A row that no batch reads has no gradient, and with plain SGD it would stay. With Adam its moments fade as
# $m_j = \beta_1^{j-s} m_s$ and $v_j = \beta_2^{j-s} v_s$ from the step $s$ on in which it was read last, and go on
# moving it:
#
# $$ p_t = p_s - \frac{m_s}{\sqrt{v_s} + \epsilon} \sum_{j=s+1}^{t} \eta_j
# \frac{\sqrt{1 - \beta_2^j}}{1 - \beta_1^j} \left( \frac{\beta_1}{\sqrt{\beta_2}} \right)^{j-s} $$ (eq-owed)
#
# where $\eta_j$ is the learning rate of step $j$. The sum knows nothing of the row but $s$: one number for each past
# step says what *every* row last seen then is owed.
#
# Write `catch_up(p, m, v, last, now, rate, beta1, beta2)`: a number `p` with Adam's moments `m` and `v` was last moved
# in step `last` (the first step is 1). Steps `last + 1` to `now` gave it no gradient. Where would Adam have put it?
# Take a constant learning rate `rate` and $\epsilon = 0$. One sum, no loop over moments.


# %%
def catch_up(p, m, v, last, now, rate, beta1, beta2): ...  # your turn


check.fast.catch_up(catch_up)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-catch-up
# :class: dropdown
# ```


# %%
def catch_up(p, m, v, last, now, rate, beta1, beta2):
    owed = sum(
        (1 - beta2**j) ** 0.5 / (1 - beta1**j) * (beta1 / beta2**0.5) ** (j - last)
        for j in range(last + 1, now + 1)
    )
    return p - rate * m / v**0.5 * owed


verdict = check.fast.catch_up(catch_up)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Under which roof
# :label: ex-attainable
# ```
# Write `attainable(flops, moved, peak, bandwidth)`: the FLOPs per second that an operator can reach that does `flops`
# operations and moves `moved` bytes, on a machine with a `peak` of FLOPs per second and a `bandwidth` of bytes per
# second {eq}`eq-roofline`.


# %%
def attainable(flops, moved, peak, bandwidth): ...  # your turn


check.fast.attainable(attainable)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-attainable
# :class: dropdown
# ```


# %%
def attainable(flops, moved, peak, bandwidth):
    return min(peak, bandwidth * flops / moved)


verdict = check.fast.attainable(attainable)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: leave the others out
# :label: ex-lazy-adam
# ```
# `torch.optim.SparseAdam` moves the rows of a batch and forgets the others: nothing is paid. Give a table of 200 rows
# and three columns to it and to `torch.optim.Adam`. In each of 300 steps draw eight rows, row $i$ with a probability in
# proportion to $1/(i + 1)$, and pull them towards a fixed random goal (the loss is half the squared distance). By how
# much do the two tables differ at the end, for the twenty most popular rows and for the twenty rarest, as a share of
# how far Adam has moved them? Guess first: which are worse off?

# %%
# your turn

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-lazy-adam
# :class: dropdown
# ```


# %%
def trained(sparse):
    """The table at the start and at the end."""
    draws = torch.Generator().manual_seed(seed)
    table = torch.nn.Embedding(200, 3, sparse=sparse)
    start = torch.randn(200, 3, generator=draws)
    goal = torch.randn(200, 3, generator=draws)
    table.weight.data.copy_(start)
    optimizer = (torch.optim.SparseAdam if sparse else torch.optim.Adam)(
        table.parameters(), lr=0.01
    )
    popularity = 1 / torch.arange(1, 201)
    for _ in range(300):
        rows = torch.multinomial(popularity, 8, generator=draws)
        optimizer.zero_grad()
        (0.5 * (table(rows) - goal[rows]).square().sum()).backward()
        optimizer.step()
    return start, table.weight.detach()


(start, right), (_, lazy) = trained(sparse=False), trained(sparse=True)
off = (lazy - right).norm(dim=1) / (right - start).norm(dim=1)
off = off[torch.isfinite(off)]  # a row that was never drawn has not moved
popular, rare = float(off[:20].median()), float(off[-20:].median())
pd.Series(
    {"popular": popular, "rare": rare}, name="difference, as a share of Adam's way"
).round(2).to_frame()

# %% tags=["remove-cell"]
claim(
    lazy_popular=(popular, 0.0, 0.5),
    lazy_rare=(rare, 0.5, 1.0),
)

# %% [markdown]
# The rare ones: they are off by {glue:text}`lazy_rare:.2f` of their whole way, the popular ones by
# {glue:text}`lazy_popular:.2f`. A row that is seen once gets a single step from `SparseAdam`; Adam's momentum would
# have carried it on for some ten steps more. That is no error of `SparseAdam`. It is another optimizer, and whoever
# changes to it for its speed changes results too, most where data are few.
#
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Open-ended: where does your step go?
# :label: ex-profile
# ```
# Take a model that you train (or ATRank on a log of yours). Count the FLOPs of a step with `FlopCounterMode`, time the
# step, and time one large product of matrices on the same machine. What is your share of the ceiling? Then look at the
# ten most expensive operators with `torch.profiler`. Write down, for the first three, the intensity, the side of
# the ridge they are on, and what you expect to gain from a change. Then make the change.

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-profile
# :class: dropdown
# ```
# There is no one answer. A good report has a table like the one of the ladder: a step, an expected factor with its
# reason, the factor that was measured, and an explanation for each surprise; medians over repeats, taken in turns with
# the unchanged program; and it keeps the changes that did not pay, crossed out, for whoever has the same idea next
# year. The most frequent first finding is a step that mostly waits: for batches that a single process builds, for a
# table's gradient, for some hundred small operators. A share of the ceiling below a tenth nearly always means one of
# these, and none of them asks for a faster machine.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# You counted a sample's operations {eq}`eq-flops`; removed padding by sorting; read a roofline {eq}`eq-roofline`; put
# steps {eq}`eq-owed` and layers in from outside; and saw what each remedy buys, and where. {ref}`ch-scaling` goes on
# with several machines.
