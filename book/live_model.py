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
# (live-model)=
# # A model to play with
#
# What would the model say if Ana had not searched for a tent, or if her coupon were a week old? A trained model is a
# function, and the best way to get to know a function is to change its arguments. Below, a small ATRank
# {cite:p}`zhou2018atrank` runs in this page: every change computes all equations anew, with every attention weight.

# %% tags=["parameters", "remove-input"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("live_model", profile=profile, seed=seed)

# %% tags=["remove-input"]
from IPython.display import HTML, display

fallback = (
    "The live model needs JavaScript, and live_model.js of this book. "
    "A figure below shows its first user."
)
display(HTML(f'<div id="atrank-live"><p>{fallback}</p></div>'))

# %% [markdown]
# (live-tour-1)=
# (live-tour-3)=
# (live-tour-4)=
# (live-tour-5)=
# (live-tour-6)=
# (live-user-dora)=
# (live-user-nora)=
# (live-causes-shown)=
#
# The address of the page carries what you see: copy it, and whoever opens it sees the same.
#
# ## Try this
#
# 1. **Find the cause.** One of the behaviors led the first user to the target. Which? Remove one after the other, undo each
#    time, and watch the rank. Then show the planted causes.
# 2. **Let it age instead.** Undo, and drag the age of that behavior to the right. Watch the target's score, its rank, and how
#    much the target looks at the behavior.
# 3. **Buy it.** Choose the user whom one item leads to another, and change *browse* or *mark* to *buy*. In this marketplace a
#    bought need leads to little. Has the model noticed?
# 4. **Know nothing.** Forget everything: which items come first, and why does the order not change with the user? Then
#    add a single query and look again.
#
# The order of the list is only a matter of display: the model reads ages, not places. An object "of which nothing is
# known" has the unknown index for each of its features.
#
# ## Where it comes from

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book.figures import group_color, heatmap, space_color
from atrank_book.live import SIZES, batch_of, caused_examples, planted, train
from atrank_book.names import with_names
from atrank_book.page import browser_document, document_text
from atrank_lib import build_batch, evaluate
from atrank_lib.interpret import explain
from data_scripts.simulate import MarketplaceConfig, simulate

# %% [markdown]
# It was trained on a small simulated marketplace, the one of {ref}`ch-behaviors` with fewer objects, and has learned to
# rank items, queries and coupons. As in {ref}`ch-ranking`, eq. 1 goes without its relu.

# %% tags=["hide-input"]
# a simulated log, and the model
market = simulate(MarketplaceConfig(**SIZES, seed=seed))
# 16 bits a weight: what the page computes with
histories, parts, model = train(market.log, profile, seed)

# %% [markdown]
# Names are made up: the marketplace numbers its objects, and here `category5` is called novels, so `item52` is novel 52. The
# users are test users whose targets the model has not seen. They were chosen for what they show: for each pair of groups,
# such as "a coupon leads to an item", those users count whose planted cause is among the latest behaviors and whose target is
# among the model's first ten. Of them it is the one whose target falls furthest when the cause is erased. Nora, the
# last one, is the user of {ref}`quarter-hour`.

# %% tags=["hide-input"]
# users whose cause is known, and the page's data
examples = caused_examples(model, histories, parts.test, market.truth.causes)
text = document_text(with_names(browser_document(model, histories, examples)))
display(
    HTML(f'<script type="application/json" id="atrank-live-data">{text}</script>')
)
moves = pd.DataFrame(examples).set_index("label")[["user", "rank", "erased"]]
moves.rename(columns={"erased": "rank without the cause"})

# %% tags=["remove-cell"]
claim(rank=(examples[0]["rank"], 1, 10), erased=(examples[0]["erased"], 40, 240))

# %% [markdown]
# ## How good is it?
#
# Good enough to play with, and not at the optimum; {ref}`ch-ranking` trains a larger one. The AUC on the test targets,
# beside the best that any model can reach:

# %% tags=["hide-input"]
result = evaluate(model, histories, parts.test, negatives=20, seed=seed)
table = pd.DataFrame(
    {"this model": result.targets, "best possible": market.truth.best_auc}
)
table.round(3)

# %% tags=["remove-cell"]
claim(
    auc=(table["this model"].mean(), 0.77, 0.82),
    best=(table["best possible"].mean(), 0.85, 0.88),
)

# %% [markdown]
# Over the three groups this is {glue:text}`auc:.3f` of {glue:text}`best:.3f`.
#
# One user is an anecdote. So here are two of the experiments for *all* test items with such a cause: the coupon that led
# to the item is made 64 days old, or the browsed item that led to it is bought instead. Everything else stays, and
# the target is scored again.


# %%
def falls(cause, change, actions=None):
    """How often changing the true cause lowers the target's score, and in how many
    cases."""
    groups, place = planted(market.truth.causes, histories, parts.test["item"])
    chosen = torch.from_numpy(groups == cause)
    if actions is not None:
        done = histories.groups[cause].actions[place]
        chosen &= torch.isin(done, torch.tensor(actions))
    samples = parts.test["item"][chosen]
    batch = build_batch(histories, samples, samples.objects[:, None])
    behaviors = batch.histories[cause]
    with torch.no_grad():
        before = model(batch).scores[:, 0]
        change(behaviors, torch.isin(behaviors.positions, place[chosen]))
        after = model(batch).scores[:, 0]
    return float((after < before).float().mean()), int(chosen.sum())


def age(behaviors, which):
    behaviors.elapsed[which] = 64 * 86_400


def buy(behaviors, which):
    behaviors.actions[which] = 2


coupon_falls, coupon_samples = falls("coupon", age)
buy_falls, buy_samples = falls("item", buy, actions=[0])

# %% tags=["remove-cell"]
claim(
    coupon_falls=(coupon_falls, 0.92, 1.0),
    coupon_samples=(coupon_samples, 300),
    buy_falls=(buy_falls, 0.7, 0.87),
    buy_samples=(buy_samples, 320),
)

# %% [markdown]
# The old coupon lowers the score in {glue:text}`coupon_falls:.0%` of {glue:text}`coupon_samples` cases, the
# purchase in {glue:text}`buy_falls:.0%` of {glue:text}`buy_samples`: the model has learned both, the second
# less surely.
#
# ## What is computed where
#
# The page holds one JSON document: vocabularies, time buckets, objects, and the weights, rounded to 16 bits each. A
# script of plain JavaScript, `live_model.js`, computes {eq}`eq-behavior` to {eq}`eq-target` on it. It asks nobody for
# anything, and what you type leaves the page nowhere. The numbers above are those of the rounded weights.
#
# {numref}`fig-live` was drawn by PyTorch, for the first user of the list before any change: compare it with part 4 of the live
# model.

# %% mystnb={"figure": {"caption": "Self-attention of the first user in each semantic space, computed by PyTorch: look along a row to see how one behavior divides its attention. Numbers are those of the live model's list.", "name": "fig-live"}, "image": {"alt": "Four squares of shades, one for each semantic space, with twelve rows and columns numbered in the colors of their behavior groups."}} tags=["hide-input"]
first = examples[0]
explained, order = batch_of(histories, first["behaviors"], "item", [first["object"]])
attention = explain(model, explained).self_attention[0][0].numpy()  # [k, n, n]
place = np.argsort(order)  # from the list's order to the model's
colors = [
    group_color(list(histories.groups)[behavior[0]])
    for behavior in first["behaviors"]
]
numbers = [str(i + 1) for i in range(len(order))]
fig, axes = plt.subplots(2, 2, figsize=(6.8, 7))
for k, ax in enumerate(axes.flat):
    shown = attention[k][np.ix_(place, place)]
    heatmap(
        ax,
        shown,
        rows=numbers,
        columns=numbers,
        color=space_color(k),
        high=attention.max(),
        fmt=None,
    )
    ax.set_title(f"space {k + 1}", color=space_color(k))
    for label, color in zip(
        [*ax.get_xticklabels(), *ax.get_yticklabels()],
        [*colors, *colors],
        strict=True,
    ):
        label.set(color=color, fontweight="bold")

# %% [markdown]
# ## Your own model
#
# Any trained ATRank becomes such a page. Export it, write the page around it, and copy `live_model.js` from this book's
# `_static` folder beside it:
#
# ```bash
# atrank export --run my_run --data my_log --format browser --out my_model.json
# {
#   echo '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
#   echo '<div id="atrank-live"></div><script type="application/json" id="atrank-live-data">'
#   cat my_model.json
#   echo '</script><script src="live_model.js"></script>'
# } > my_model.html
# ```
#
# With thousands of objects the page becomes large; it is meant for looking closely. To *serve* a model, export the same
# computation as a graph, `atrank export --run my_run --target item --format onnx --out my_model.onnx`; the inputs and
# outputs are described at `OneUser` in `atrank_lib/serve/onnx_graph.py`.
