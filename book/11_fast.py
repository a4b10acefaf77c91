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
# - update the rows of a batch alone and still do what Adam does, by paying what the other rows are owed;
# - see why a product of matrices written for the machine at hand can beat the one that PyTorch brings;
# - put both in from outside, through two seams, so that model and training loop stay as they are;
# - climb from the plain model to the fast one step by step, with what we expected, what we got, and why;
# - read a roofline, and fit how cost grows with histories, batches, spaces and objects.
#
# **Runtime** (`fast`): about 10 seconds on one core; speeds are recorded runs. **Before this**: {ref}`ch-attention` and
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
    MUTED,
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
from atrank_lib.fast.row_updates import large
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
# The number of spaces does not occur: $K$ spaces have $K$ score tables, each $K$ times cheaper. The two terms in $n$ are
# equal at $n = 4d$, some five hundred behaviors for the paper's $d = 128$. Below that a sample grows about linearly with
# its history, and what attention adds is the small part. And backwards every product becomes two, one for the
# gradient of each factor, so a training step takes three times eq. {eq}`eq-flops`.
#
# PyTorch can count too. A simulated log, a small model that reads coupons (three embeddings of 8, so $d = 24$), a few
# samples one at a time, so that nothing is padded, forwards and backwards:

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
# Not about right: equal, to the last operation. So from here on we know what a sample *must* cost. What it costs beyond
# that is ours to find, and it hides in four places: in empty places of tables, in rows that nobody asked for, in
# waiting, and in moving numbers about.
#
# ## By hand: places that nobody fills
#
# Six histories of 2, 10, 3, 10, 2 and 3 behaviors, in batches of two. A table has as many columns as its longest
# history:

# %%
lengths = torch.tensor([2, 10, 3, 10, 2, 3])


def places(lengths, batch_size):
    """Places of all padded tables, batch by batch."""
    return sum(len(part) * int(part.max()) for part in lengths.split(batch_size))


real = int(lengths.sum())
print(
    "behaviors:",
    real,
    "  places as they come:",
    places(lengths, 2),
    "  sorted:",
    places(lengths.sort().values, 2),
)

# %% [markdown]
# Sorted by length, nothing is empty. But training wants batches that chance has put together: if all the long histories
# came last, so would everybody who has lived with the shop for years. The library's `batches` shuffles first, and sorts
# only inside *pools* of fifty batches; then it shuffles the batches. Who meets whom is a little less random; the length
# of a history is all that batches have in common.
#
# And emptiness costs less than it could. Only the scores $S_k W_k S^\top$ need a user's behaviors side by side.
# Projections, perceptrons and normalization work on one behavior at a time, and do not care whose it is. So the library
# keeps all behaviors of a batch end to end, *packed*, `[n, d]`, and pads them once, inside attention. On our simulated
# log, whose users have many short histories and a few long ones:

# %%
samples = {"item": parts.train["item"]}
rows = {"item": samples["item"].objects[:, None]}


def packings(pool):
    """Whose the behaviors of every batch are; cut as training would."""
    shuffle = torch.Generator().manual_seed(seed)
    return [
        batch.packing
        for *_, batch in batches(
            histories, samples, rows, 256, generator=shuffle, pool=pool
        )
    ]


def empty(packings):
    """The share of places that attention fills with nothing."""
    return 1 - sum(int(p.lengths.sum()) for p in packings) / sum(
        p.mask.numel() for p in packings
    )


chance, in_pools = packings(1), packings(50)
print(
    f"empty: as chance has it {empty(chance):.3f}, sorted in pools "
    f"{empty(in_pools):.3f}"
)

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
    places = np.arange(257) - 0.5
    bars = {"orientation": "horizontal", "fill": True, "color": group_color("item")}
    ax.stairs(packing.lengths, places, **bars)
    ax.set(title=title, xlabel="places")
    ax.grid(False)
_ = axes[0].set_ylabel("sample")

# %% [markdown]
# By chance, a share of {glue:text}`empty_chance:.2f` of the places is empty; sorting in pools leaves
# {glue:text}`empty_sorted:.2f`.
#
# ## By hand: what a row is owed
#
# A table of a hundred thousand objects is read in a few hundred rows a step. Yet the gradient is as large as the table,
# nearly all of it zero, and the optimizer walks over everything. With plain SGD the zero rows could be left out: they do
# not move. With Adam they *do*: its momentum still remembers earlier gradients. Take one number, a single gradient, and
# then three steps without:

# %%
rate, beta1, beta2, eps = 0.1, 0.9, 0.999, 1e-8
p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
adam = torch.optim.Adam([p], lr=rate, betas=(beta1, beta2), eps=eps)
path = []
for gradient in (2.0, 0.0, 0.0, 0.0):
    p.grad = torch.full_like(p, gradient)
    adam.step()
    path.append(p.item())
print("after each step:", [round(x, 4) for x in path])

# %% [markdown]
# It goes on falling. Leaving the row out would be another optimizer: `torch.optim.SparseAdam` is one, and for rare
# objects it differs a lot, as an exercise shows. But what the row does without a gradient is a plain sum. From step $s$
# on, its moments fade as $m_j = \beta_1^{j-s} m_s$ and $v_j = \beta_2^{j-s} v_s$, and Adam moves it by
#
# $$ p_t = p_s - \frac{m_s}{\sqrt{v_s} + \epsilon} \sum_{j=s+1}^{t} \eta_j
# \frac{\sqrt{1 - \beta_2^j}}{1 - \beta_1^j} \left( \frac{\beta_1}{\sqrt{\beta_2}} \right)^{j-s} $$ (eq-owed)
#
# where $\eta_j$ is the learning rate of step $j$. The sum knows nothing of the row but $s$. So one number for each past
# step says what *every* row last seen then is owed; the debt is paid when a batch reads the row again, or when an
# epoch ends. (The place of $\epsilon$ is off by a factor near one, which matters only where gradients are tiny; the
# module accounts for that too.)

# %%
m, v = (1 - beta1) * 2.0, (1 - beta2) * 2.0**2  # after the first step
# s = 1, t = 4
owed = sum(
    rate * (1 - beta2**j) ** 0.5 / (1 - beta1**j) * (beta1 / beta2**0.5) ** (j - 1)
    for j in (2, 3, 4)
)
paid = path[0] - m / (v**0.5 + eps) * owed
print(f"three steps of Adam: {path[-1]:.10f}   one payment: {paid:.10f}")
np.testing.assert_allclose(paid, path[-1], rtol=1e-7)

# %% [markdown]
# ## The first seam: steps
#
# Where in a program does that belong? Not in the model, which looks up rows as before, and not in the loop of
# {ref}`ch-ranking`. The loop asks an object to take each step: `Steps` computes gradients and moves the weights, and
# `fit` accepts another way as `steps=`. With `fast.RowSteps` a large table shrinks to a batch's rows while a step is
# taken. A `Table` of `atrank_lib.embedding` names its vocabulary, and so its rows are found in the batch. Large means
# `large(batch_size)` rows; ours are all smaller, so the threshold comes down:

# %%
print(
    "updated by rows from",
    large(32),
    "rows on with batches of 32, from",
    large(1_024),
    "with batches of 1,024",
)
recipe = Recipe(loss="pairwise", batch_size=32, learning_rate=3e-3, epochs=2)
coupons = split(histories, "validated", ["coupon"])


def new_model(config):
    torch.manual_seed(seed)
    return ATRank(market.log.schema, histories.vocabularies, config)


def curve(model, steps=Steps):
    """Losses of two epochs."""
    return [
        epoch["loss"]
        for epoch in fit(
            model, histories, coupons, recipe, progress=False, steps=steps
        ).epochs
    ]


tiny = ATRankConfig(embedding_size=16, hidden=16, spaces=2)
curves = pd.DataFrame(
    {"Steps": curve(new_model(tiny))}, index=["epoch 1", "epoch 2"]
)
curves["RowSteps"] = curve(new_model(tiny), steps=partial(fast.RowSteps, least=2))
np.testing.assert_allclose(curves["RowSteps"], curves["Steps"], rtol=1e-3)
curves.round(5)

# %% tags=["remove-cell"]
claim(
    rows_difference=(
        (curves["RowSteps"] / curves["Steps"] - 1).abs().max(),
        0,
        1e-3,
    ),
    rows_moved=(curves["Steps"].iloc[0] - curves["Steps"].iloc[1], 0.005),
)

# %% [markdown]
# The losses differ by a share of {glue:text}`rows_difference:.0e` at most, and an epoch moves them by
# {glue:text}`rows_moved:.3f`. It is the same training, and a step's cost hardly depends on how many objects the
# shop has: how hardly, we shall measure.
#
# ## A product of our own
#
# Everything so far saves work that nobody needs. What about the work itself: is a product of matrices not as
# fast as it gets? That can be looked up in the record of this chapter, which has timed one layer, a product of
# $[1600, 128]$ and $[128, 128]$, on a single core: PyTorch's own, and one that we wrote.

# %% tags=["hide-input"]
# measured speeds, read from the records
speed = read_record(recorded("speed") / "peers.json")
core = next(
    row
    for row in speed["ceiling"]
    if (row["threads"], row["batch"], row["length"]) == (1, 32, 50)
)

# %% tags=["remove-cell"]
claim(
    core_torch=(core["layer"], 5, 2_000),
    core_kernel=(core["kernel"], 5, 2_000),
    core_times=(core["kernel"] / core["layer"], 0.5, 10),
)

# %% [markdown]
# On the recorded machine PyTorch's product reaches {glue:text}`core_torch:.0f` GFLOP/s and ours
# {glue:text}`core_kernel:.0f`, {glue:text}`core_times:.1f` times as much. PyTorch's comes from a library that
# must serve every shape on processors of every kind; ours serves these shapes, and is compiled for the very processor that
# runs it. How much that gives differs from machine to machine.
#
# What makes a product fast? A core of the recorded machine multiplies and adds 16 numbers in one instruction, if they
# are in *vector registers*, of which it has 32. Fetching them is the other half of the work. Take a *tile* of the
# result, $r$ rows and $w$ columns, and keep it in registers while walking along the inner dimension. Every step needs
# $r$ numbers of one matrix and $w$ of the other, and does $rw$ multiplications with them:

# %%
tiles = pd.DataFrame([(1, 16), (4, 16), (6, 32), (12, 32), (14, 32), (24, 32)])
tiles.columns = ["rows", "columns"]
vectors = tiles["columns"] // 16  # that make up one row
# results, a row of one matrix, a number of the other
tiles["registers"] = tiles["rows"] * vectors + vectors + 1
tiles["instructions"] = tiles["rows"] * vectors
tiles["fetches"] = tiles["rows"] + vectors
tiles["per fetch"] = (tiles["instructions"] / tiles["fetches"]).round(2)
tiles["fits 32"] = tiles["registers"] <= 32
tiles

# %% [markdown]
# A tile of one row fetches two numbers for every instruction, and the core waits. With 12 rows and 32 columns, 24
# instructions need 14 fetches; and much larger tiles do not fit. That is all the secret of the innermost loop of
# `kernels.c`. The library compiles this file at first use, with the C compiler it finds, and keeps the result. Around the
# product it has three things that the model needs:
#
# - *layers* that read the same rows (queries, keys and values) go through in one call, with their biases and relus;
# - *attention* takes each user's rows where they lie: no table, no padding; and on the way back it computes
#   the weights anew instead of keeping them;
# - *lookups* of an object's features, its action and its time are added up at once.
#
# Threads share rows, so they meet once a layer, not once for each of its operators.
#
# ## The second seam: layers
#
# Kernels are put in after a model is built. `fast.speed_up(model)` gives its layers another class, a subclass that
# computes the same from the same parameters; `fast.plain` takes it back.

# %%
model = new_model(ATRankConfig())
names, layers = (
    list(model.state_dict()),
    [type(layer).__name__ for layer in model.modules()],
)
_, _, batch = next(batches(histories, samples, rows, 32))
with torch.no_grad():
    before = model(batch).scores
    after = fast.speed_up(model)(batch).scores
torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
assert list(model.state_dict()) == names
put_in = pd.DataFrame(
    {
        "layer": layers,
        "in its place": [type(layer).__name__ for layer in model.modules()],
    }
)
assert [type(layer).__name__ for layer in fast.plain(model).modules()] == layers
put_in[put_in["layer"] != put_in["in its place"]].drop_duplicates().set_index(
    "layer"
)

# %% [markdown]
# The same names, the same scores, and the same training:

# %%
curves["kernels"] = curve(fast.speed_up(new_model(tiny)))
np.testing.assert_allclose(curves["kernels"], curves["Steps"], rtol=1e-3)
print("compiled here:", fast.ready(torch.zeros(1, 16)))
curves.round(5)

# %% [markdown]
# Without a compiler, on a GPU, in another precision, PyTorch's operators do the work: they are what the tests hold the
# kernels against, and what all other chapters show. `atrank train` uses both seams.
#
# ## The ladder
#
# Now all of it, measured: samples per second in training, from the plain model to the fast one, a change at a time, each
# with all before it. Every contender computes the same scores from the same parameters (the tests hold the plain model
# and the library's together), all use SGD, and all have {glue:text}`threads` threads. Four settings: full
# histories of 50 in batches of 32 and of 1,024, ragged ones (evenly from 1 to 50) in batches of 32, and a real epoch of a
# log of reviews, in batches of 512, most of whose histories are short.
#
# | step | what changes |
# |---|---|
# | *allocator* | the plain model, but memory that was freed is kept, not handed back to the system (two settings of glibc) |
# | *packed* | `atrank_lib` in place of the plain model: packed behaviors, one fused call for attention |
# | *sorted* | histories of similar length share a batch |
# | *malloc* | the allocator's settings, for the library too |
# | *rows* | large tables are updated by rows |
# | *kernels* | layers, attention and lookups in code of our own |
#
# All records of this chapter were made with the version before this one, commit {glue:text}`commit`. Without
# kernels it padded a batch in several smaller tables, by length: *packed* shows more of the gain, and *sorted* less,
# than they would today.

# %% tags=["hide-input"]
# speeds side by side, as multiples
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

# %% tags=["remove-cell"]
claim(
    threads=threads,
    commit=speed["commit"][:8],
)

# %% [markdown]
# A measurement without an expectation teaches little, for any number looks plausible. So here is what counting lets one
# expect, as a range for the factor of each step:
#
# - *packed*. Full histories have no padding, so nothing is saved there; but the plain model's tables have sparse
#   gradients, as everybody would choose with SGD, and the library's have not until *rows*: with small batches expect a
#   loss. Ragged histories fill half of a table, so up to twice. In the real epoch nearly all places are empty.
# - *sorted*. Nothing for full histories; for ragged ones a part of what is still padded.
# - *allocator*, *malloc*. A tensor of some megabytes is asked from the system, and every page of it is handed over at
#   first touch, in every step. The larger the batch, the more of them: something, anywhere up to twice.
# - *rows*. A gradient of the whole table is filled with zeros, added to and walked over. For a batch of 32 that is much.
#   With a batch of 1,024 the table has fewer rows than the threshold, and so has the log's with 512: nothing changes.
# - *kernels*. A layer is faster by the factor above, if threads do not get into each other's way; layers
#   are most of a step, but not all. In large batches each layer's numbers come from memory, and no kernel makes
#   that faster. Something, up to that factor; most for ragged histories, of which nothing is padded any more.

# %% tags=["hide-input"]
ANY, SAME = (1.0, 2.0), (1.0, 1.0)
EXPECTED = {  # of each setting, in their order
    ("plain-default", "plain"): ("allocator", [ANY, ANY, ANY, ANY]),
    ("plain-default", "packed"): (
        "packed",
        [(0.4, 1.0), (0.7, 2.0), (0.8, 1.2), (1.5, 10.0)],
    ),
    ("packed", "sorted"): ("sorted", [SAME, (1.0, 1.5), SAME, (1.0, 2.0)]),
    ("sorted", "malloc"): ("malloc", [ANY, ANY, ANY, ANY]),
    ("malloc", "rows"): ("rows", [(1.2, 3.0), (1.2, 4.0), SAME, SAME]),
    ("rows", "kernels"): (
        "kernels",
        [(1.2, 2.4), (1.2, 3.0), (1.2, 2.4), (1.0, 2.4)],
    ),
}


def judged(got, low, high):
    """A factor against its range, with a tenth of slack for the noise of a
    measurement."""
    return (
        "less than expected"
        if got < 0.9 * low
        else "more than expected"
        if got > 1.1 * high
        else "as expected"
    )


steps = []
for (before, after), (step, ranges) in EXPECTED.items():
    for (setting, title), (low, high) in zip(SETTINGS.items(), ranges, strict=True):
        got = float(rates.loc[after, setting] / rates.loc[before, setting])
        span = "1" if low == high == 1 else f"{low:g} to {high:g}"
        steps.append((step, title, span, round(got, 2), judged(got, low, high)))
steps = pd.DataFrame(
    steps, columns=["step", "setting", "expected factor", "got", "verdict"]
)
steps.set_index(["step", "setting"])

# %% tags=["remove-cell"]
for (before, after), (step, _) in EXPECTED.items():
    for setting in SETTINGS:
        got = rates.loc[after, setting] / rates.loc[before, setting]
        claim(f"{step}_{setting}".replace("-", "_"), got, low=0.05, high=50)
claim(
    as_expected=int((steps["verdict"] == "as expected").sum()),
    all_steps=len(steps),
)

# %% mystnb={"figure": {"caption": "From the plain model (left, as everybody runs it) to the fast one, as a multiple of the plain model's speed; every step has all before it; the names give the last factor. A recorded run; medians. Follow each line step by step: up is faster, a step that goes down did not pay in that setting: kernels pay in all of them, packing where histories differ.", "name": "fig-fast-ladder"}, "image": {"alt": "Four lines, one for each setting, over six steps from plain to kernels. All start at one; at the end the real epoch is far above the batch of 1,024, and this above the two batches of 32."}} tags=["hide-input"]
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

# %% [markdown]
# Of {glue:text}`all_steps` factors {glue:text}`as_expected` came out as expected (within a tenth of the range
# counts). For the others the table asks for a reason. Where exactly the same is computed, it is the machine. Where less
# comes out, ask what the step itself costs: finding rows, lining up, whole-table gradients. Where more comes out, something
# else went along with it, such as the waiting between two operators. But a reason that is found afterwards is a
# hypothesis, and the next measurement's expectation. The best cure for wrong ones is a picture of what the machine can
# do at all.
#
# ## Under the roof
#
# A processor does two things: it computes, up to a *peak* of FLOPs per second, and it moves numbers, up to the
# *bandwidth* of its memory. An operator with $F$ FLOPs that moves $B$ bytes has the *arithmetic intensity* $F / B$, and
# cannot do better than
#
# $$ \text{attainable} = \min\left(\text{peak},\ \text{bandwidth} \cdot \frac{F}{B}\right) $$ (eq-roofline)
#
# Drawn over intensity, on logarithmic axes, that is a slope and a flat roof: a *roofline*
# {cite:p}`williams2009roofline`. What stands under the slope waits for memory, and a faster processor would not help it.
# Both limits are measured in the same record: the fastest product of matrices at our shapes, and copying. The
# intensities follow from the shapes, here of a batch of 32 histories of 50, $d = 128$, and a table of 63,001 objects:

# %%
d, n, b, k, table = 128, 50, 32, 8, 63_001
real = b * n  # behaviors
held = b * (n + 2)  # rows looked up, at most so many different ones
number = 4  # bytes
operators = pd.DataFrame(
    {  # FLOPs, bytes read and written at least, and how often in a step forwards
        "projection": (2 * real * d * d, number * (2 * real * d + d * d), 8),
        "attention, fused": (4 * b * n * n * d, number * 4 * real * d, 1),
        "attention, tables stored": (
            4 * b * n * n * d,
            number * (4 * real * d + 4 * b * k * n * n),
            1,
        ),
        "layer norm": (8 * real * d, number * 2 * real * d, 1),
        # reads p, g, m, v; writes p, m, v
        "Adam, whole table": (
            12 * table * 64,
            number * 7 * table * 64,
            1,
        ),
        "Adam, rows": (12 * held * 64, number * 7 * held * 64, 1),
    },
    index=["FLOPs", "bytes", "times"],
).T
limits = pd.DataFrame(speed["ceiling"])
limits = limits[limits["threads"] == threads]
peak = float(limits[["kernel", "layer", "gradient", "scores"]].max().max()) * 1e9
bandwidth = float(limits[["copy", "triad"]].max().max()) * 1e9
operators["FLOPs/byte"] = operators["FLOPs"] / operators["bytes"]
operators["attainable GFLOP/s"] = (
    np.minimum(peak, bandwidth * operators["FLOPs/byte"]) / 1e9
)
operators["microseconds at best"] = (
    operators["FLOPs"] / operators["attainable GFLOP/s"] / 1e3
)
operators[["FLOPs/byte", "attainable GFLOP/s", "microseconds at best"]].round(1)

# %% tags=["remove-cell"]
claim(
    peak=(peak / 1e9, 5, 5_000),
    bandwidth=(bandwidth / 1e9, 2, 1_000),
    ridge=(peak / bandwidth, 0.2, 200),
)

# %% tags=["hide-input"]
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
best = operators["microseconds at best"] / 1e3

# %% tags=["remove-cell"]
claim(
    table_milliseconds=(best["Adam, whole table"], 0.05, 50),
    rows_milliseconds=(best["Adam, rows"], 0.001, 5),
    step_at_best=(
        3 * forwards["microseconds at best"] / 1e3 + best["Adam, rows"],
        0.1,
        500,
    ),
    step_took=(1e3 * b / rates.loc["atrank", "32-50-full"], 0.1, 1_000),
)
for size in (32, 1024):
    claim(
        f"share_{size}",
        measured.loc[f"{size}-50-full", "share_of_ceiling"],
        low=0.01,
        high=20,
    )

# %% mystnb={"figure": {"caption": "A roofline. The line is what the machine can do at each intensity. Marks on it are operators of a step of 32 histories of 50, placed by their formulas. The two diamonds below are measured: whole training steps of ATRank, batches of 32 and of 1,024. Look at their distance to the roof: it is what could still be gained.", "name": "fig-fast-roofline"}, "image": {"alt": "On logarithmic axes a rising line that turns flat at a ridge. Adam's updates and layer norm lie at the far left of the slope, attention further right, the projection near the ridge or on the flat part. Two diamonds lie below the line near the projection's intensity."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.6, 4))
x = np.geomspace(0.2, 300, 200)
ax.plot(x, np.minimum(peak, bandwidth * x) / 1e9, color=INK)
for name, row in operators.drop(index="Adam, rows").iterrows():
    place = (row["FLOPs/byte"], row["attainable GFLOP/s"])
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

# %% [markdown]
# The roof is at {glue:text}`peak:.0f` GFLOP/s, memory brings {glue:text}`bandwidth:.0f` GB/s, and the ridge
# between them is at {glue:text}`ridge:.1f` FLOPs per byte. Three things to see:
#
# - Everything but products is far down the slope: a layer norm, an update, an activation do about one operation on each
#   number they fetch. Nothing but fetching less makes them faster. That is why one *fused* call of attention, which
#   never stores the tables $A_k$, stands further right than the same products with stored tables.
# - Updating rows does not move an update to the right. It has the same intensity, and less of it:
#   {glue:text}`table_milliseconds:.2f` ms at best for the whole table, {glue:text}`rows_milliseconds:.3f` ms
#   for the rows. A roofline shows how well an operator can run, not whether it should run at all.
# - All products, attention and normalization of a step, three times for forwards and backwards, and the rows: at best
#   {glue:text}`step_at_best:.1f` ms. It took {glue:text}`step_took:.1f` ms. In between lie activations,
#   lookups and gradients that are added up, which all wait for memory, the building of batches, and Python.
#
# A model's *share of the ceiling* is what its counted operations per second are of the layers' products alone:
# {glue:text}`share_32:.2f` with batches of 32, {glue:text}`share_1024:.2f` with 1,024.
#
# ## How cost grows
#
# The formula says how a step grows; does the clock agree? `benchmarks/growth.py` varies one thing at a time, on one
# thread, and records processor time a step. To each curve we fit the form that we expect: with length a parabola, with
# all else a line. The fits weigh *relative* errors, so that small settings count as much as large ones.

# %%
growth = pd.DataFrame(read_record(recorded("speed") / "growth.json")["rows"])


def fitted(curve, degree):
    """Coefficients of a polynomial in what is varied, least squares of relative
    errors; the values; the times."""
    rows = growth[growth["curve"] == curve].sort_values("value")
    x, y = rows["value"].to_numpy(float), rows["cpu_ms_per_step"].to_numpy()
    powers = np.vander(x, degree + 1, increasing=True)
    coefficients, *_ = np.linalg.lstsq(
        powers / y[:, None], np.ones_like(y), rcond=None
    )
    return coefficients, x, y, powers @ coefficients


DEGREES = {
    "length": 2,
    "batch": 1,
    "spaces": 1,
    "objects": 1,
    "objects, whole tables": 1,
}
fits = {curve: fitted(curve, degree) for curve, degree in DEGREES.items()}

# %% tags=["hide-input"]
LETTERS = ["a (ms)", "b (ms each)", "c (ms each squared)"]
table = pd.DataFrame(
    {
        curve: pd.Series(fit_[0], LETTERS[: len(fit_[0])])
        for curve, fit_ in fits.items()
    }
).T
(a, linear, quadratic), lengths, _, _ = fits["length"]
parabola = np.array([a, linear * lengths[-1], quadratic * lengths[-1] ** 2])
table["largest error"] = [
    float(np.abs(fit_ / y - 1).max()) for _, _, y, fit_ in fits.values()
]
table.map("{:.2g}".format).replace("nan", "")

# %% tags=["remove-cell"]
claim(
    longest=int(lengths[-1]),
    attention_share=(parabola[2] / parabola.sum(), -1, 1),
    counted_share=(
        4 * 128 * lengths[-1] ** 2 / flops(lengths[-1], 2, 128),
        0.2,
        0.6,
    ),
)
for letter, value in zip("ab", fits["batch"][0], strict=True):
    claim(f"growth_batch_{letter}", value, low=0, high=500)
for name, curve in (
    ("rows", "objects"),
    ("whole", "objects, whole tables"),
    ("spaces", "spaces"),
):
    claim(
        f"growth_{name}", fits[curve][2][-1] / fits[curve][2][0], low=0.3, high=200
    )
claim(
    objects_slopes=(
        fits["objects, whole tables"][0][1] / fits["objects"][0][1],
        1.2,
    ),
    objects_times=fits["objects"][1][-1] / fits["objects"][1][0],
    spaces_most=int(fits["spaces"][1][-1]),
)

# %% mystnb={"figure": {"caption": "Processor time of a training step as one thing grows; points are measured, lines are fits. Look at the first panel's gap between the parabola and its linear part, dashed: it is the attention among behaviors. With objects: by rows, and by whole tables. A recorded run.", "name": "fig-fast-growth"}, "image": {"alt": "Four panels. Time against length bends upward, above a dashed straight line. Time against batch is a straight line. Time against spaces rises slowly. Time against objects has two lines: the one for whole tables rises steeply, the one for rows lies below it."}} tags=["hide-input"]
fig, axes = plt.subplots(2, 2, figsize=(7.6, 5.4))
for ax, curves_, label in (
    (axes[0, 0], ["length"], "behaviors in a history"),
    (axes[0, 1], ["batch"], "samples in a batch"),
    (axes[1, 0], ["spaces"], "spaces K"),
    (axes[1, 1], ["objects", "objects, whole tables"], "thousand objects"),
):
    for curve, color in zip(curves_, (model_color("atrank"), MUTED), strict=False):
        coefficients, x, y, _ = fits[curve]
        scale = 1_000 if "objects" in curve else 1
        dense = np.linspace(0, x[-1], 100)
        ax.plot(x / scale, y, "o", color=color)
        ax.plot(
            dense / scale,
            np.vander(dense, len(coefficients), increasing=True) @ coefficients,
            color=color,
        )
        if curve == "length":
            ax.plot(
                dense,
                coefficients[0] + coefficients[1] * dense,
                "--",
                color=color,
                linewidth=1,
            )
            ax.annotate(
                "linear part",
                (x[-1], coefficients[0] + coefficients[1] * x[-1]),
                (0, -30),
                textcoords="offset points",
                ha="right",
                va="top",
                color=color,
            )
        if "objects" in curve:
            name = "whole tables" if "whole" in curve else "rows"
            ax.annotate(
                name,
                (x[-1] / scale, y[-1]),
                (0, 6),
                textcoords="offset points",
                ha="right",
                color=color,
            )
    ax.set_xlabel(label)
    ax.set_ylim(bottom=0)
    ax.margins(y=0.15)
for ax in axes[:, 0]:
    ax.set_ylabel("ms a step")

# %% [markdown]
# - **Length.** At {glue:text}`longest` behaviors the fit gives the quadratic term a share of
#   {glue:text}`attention_share:.2f` of the step; by operations, eq. {eq}`eq-flops`, it would be
#   {glue:text}`counted_share:.2f`. They need not agree: attention's products are small, and a softmax, which
#   we did not count, stands between them; but then a fused call spares memory its tables.
# - **Batch.** A line with a start: {glue:text}`growth_batch_a:.1f` ms a step whatever the batch, and
#   {glue:text}`growth_batch_b:.3f` ms a sample. Where the two are equal is the batch that has paid for its step.
# - **Spaces.** The same FLOPs for any $K$, yet {glue:text}`spaces_most` spaces take
#   {glue:text}`growth_spaces:.1f` times as long as one. There are $K$ tables of scores, and each score goes through
#   the softmax.
# - **Objects.** For {glue:text}`objects_times:.0f` times the objects, whole tables take
#   {glue:text}`growth_whole:.1f` times as long, rows {glue:text}`growth_rows:.1f` times, and
#   the lines' slopes differ by a factor of {glue:text}`objects_slopes:.1f`. What rows still pay is the end of an
#   epoch, when all are brought up to date, and a table that no longer fits the cache.
#
# ## Next to other libraries
#
# A plain model of one's own is an easy rival. So the record also has DIN {cite:p}`zhou2018din` and BST
# {cite:p}`chen2019bst` from well-known libraries of PyTorch ({glue:text}`libraries`), each in its own training loop,
# on the same samples, with the same number of threads and the same sizes. What is comparable and what is not:
#
# - The *models* differ. DIN attends from target to history and has no attention among behaviors, so it has far less to
#   compute; BST has a transformer layer, anew for each target. The table at the beginning of this chapter does not hold
#   for either.
# - A *sample* of ours is a history with two targets. Theirs is a row with one target: on generated samples a row counts as
#   a sample, which favors them; in the epoch a sample is two rows.
# - Theirs are padded to 50, for that is what they read. On generated samples their batches are ready before the clock
#   starts, while ours are made under it; in the epoch everybody's come from the library's own loader.
# - What the sizes leave open is each library's default, its Adam included. They were made for more than this
#   comparison, and other machines and versions may differ.

# %% mystnb={"figure": {"caption": "Speed of ATRank in this library as a multiple of other models' speed: right of the line ATRank trains faster. A circle is a real epoch, filled for other libraries and for the plain model, open for models of this library; strokes are the three settings of single batches. See on which side the circles lie: in a real epoch every other library lies to the right; on full histories without padding DIN, which computes far less, lies near the line. A recorded run; medians.", "name": "fig-fast-peers"}, "image": {"alt": "A row for each rival: plain ATRank, DIN and BST of several libraries, and this library's DIN, BST and Bi-LSTM. On a logarithmic axis, around a vertical line at one, a circle and three strokes mark ratios of speeds; most circles lie far to the right."}} tags=["hide-input"]
ours = rates.loc["atrank"]
rivals = ["plain", *PEERS["bst"], *PEERS["din"], "bst", "din", "bi-lstm"]
names = {"plain": "ATRank, plain"}
fig, ax = plt.subplots(figsize=(7.6, 3.8))
for place, name in enumerate(reversed(rivals)):
    ratios = ours[list(SETTINGS)].astype(float) / rates.loc[name, list(SETTINGS)]
    *batches, epoch = ratios
    kind = name if name in OURS else name.partition("-")[2]
    color = model_color(kind or "atrank")
    ax.plot([min(ratios), max(ratios)], [place] * 2, color=color, linewidth=1)
    ax.plot(batches, [place] * len(batches), "|", color=color, markersize=9)
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
for setting, name in (
    ("epoch", "epoch"),
    ("1024-50-full", "1024"),
    ("32-50-full", "32"),
):
    gain = rates.loc["kernels", setting] / rates.loc["plain-default", setting]
    claim(f"answer_{name}", gain, low=0.8)
claim(
    epoch_least=((ours / others)["epoch"].min(), 1.5),
    din_full_least=((ours / others)["32-50-full"].min(), 0.7, 2),
    libraries=", ".join(
        sorted(name for name in found if not name.startswith(("torch ", "numpy ")))
    ),
)

# %% [markdown]
# What is left to gain? By the fit above {glue:text}`growth_batch_a:.1f` ms of every step, whatever the batch, go into
# drawing negatives, building the batch, finding its rows and calling one layer after the other from Python, and no
# second thread helps with them; with all threads a step of 32 histories took {glue:text}`step_took:.1f` ms. What
# would help is a training loop in compiled code, and batches that are built while the last one is computed.
#
# ## Ranking many objects
#
# Training scores two objects a history; a shop scores thousands. The history is the expensive half of eq. {eq}`eq-flops`,
# and it does not depend on the target until eq. 7. So it is encoded *once*, keys and values are kept, and each candidate
# costs $8d^2 + 4dn$ operations, no more. What candidates bring along, $h_t$ and its queries, does not depend on the user
# and can be kept too.

# %% tags=["hide-input"]
serving = read_record(recorded("speed") / "inference.json")
pairs = serving["pairs"]
times = pd.DataFrame(serving["rows"]).pivot(
    index="objects", columns="way", values="seconds"
)
(1e3 * times[["naive", "anew", "ready"]]).round(1).rename(
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
    serving_gain=((times["naive"] / times["anew"]).loc[20_000], 3),
)

# %% [markdown]
# One user with {glue:text}`serving_history` behaviors against all objects of a shop, a recorded run. Encoding the history once is
# {glue:text}`serving_gain:.0f` times as fast for twenty thousand objects. For {glue:text}`pairs` pairs of many
# users and objects the library's command was {glue:text}`pairs_ratio:.0f` times as fast as scoring pair by pair,
# and no score differs by more than {glue:text}`pairs_difference:.0e`.
#
# ## What we learned
#
# - In a real epoch the library trains {glue:text}`answer_epoch:.1f` times as fast as the plain model, with full
#   histories and batches of 1,024 {glue:text}`answer_1024:.1f` times, with batches of 32
#   {glue:text}`answer_32:.1f` times.
# - Count first. The formula says what must be done; the clock says what is done; the ratio says whether to go on.
# - The plain model's waste is in padding, in rows that nobody read, and in waiting: each has a remedy that changes no
#   number, and that enters from outside, as other layers or as another way of taking steps.
# - What pays depends on the setting. A step that doubles one speed may do nothing, or harm, in another.
# - Below some hundred behaviors the quadratic term of attention is not the problem. Layers are, and moving numbers.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: empty places
# :label: ex-empty-share
# ```
# Write `empty_share(lengths, batch_size)`: histories of these `lengths` (a tensor of integers) are put into batches in
# the order they come in, and each batch is padded to its longest. Which share of all places, over all batches, is empty?


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
# Write `catch_up(p, m, v, last, now, rate, beta1, beta2)`: a number `p` with Adam's moments `m` and `v` was last moved in
# step `last` (the first step is 1). Steps `last + 1` to `now` gave it no gradient. Where would Adam have put it? Take a
# constant learning rate `rate` and $\epsilon = 0$. One sum, no loop over moments.


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
# operations and moves `moved` bytes, on a machine with a `peak` of FLOPs per second and a `bandwidth` of bytes per second
# {eq}`eq-roofline`.


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
# `torch.optim.SparseAdam` moves the rows of a batch and forgets the others: nothing is paid. Give a table of 200 rows and
# three columns to it and to `torch.optim.Adam`. In each of 300 steps draw eight rows, row $i$ with a probability in
# proportion to $1/(i + 1)$, and pull them towards a fixed random goal (the loss is half the squared distance). By how
# much do the two tables differ at the end, for the twenty most popular rows and for the twenty rarest, as a share of how
# far Adam has moved them? Guess first: which are worse off?

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
# There is no one answer. A good report has a table like the one of the ladder: a step, an expected factor with its reason,
# the factor that was measured, and an explanation for each surprise; medians over repeats, taken in turns with the
# unchanged program; and it keeps the changes that did not pay, crossed out, for whoever has the same idea next year.
# The most frequent first finding is a step that mostly waits: for batches that a single process builds, for a table's
# gradient, for some hundred small operators. A share of the ceiling below a tenth nearly always means one of these, and
# none of them asks for a faster machine.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# You counted a sample's operations {eq}`eq-flops`; removed padding by sorting; paid rows what they are owed
# {eq}`eq-owed`; looked into a product of matrices; put both into a model from outside; compared each step's
# expectation with what came out; and read a roofline {eq}`eq-roofline` and four fits. {ref}`ch-scaling`
# goes on with several machines.
