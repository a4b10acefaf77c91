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
# (ch-competitors)=
# # What people used before
#
# A user did five things. An LSTM reads them like a sentence, a convolution looks for short patterns, an average throws
# the order away, and matrix factorization has never heard of any of the five: it only knows who the user is. All of
# them have served shops well. Is attention better? Does it learn faster? Is it four times faster to train, as an article
# about the paper says? And how sure can we be?
#
# ```{admonition} In this chapter
# **Question**: Is attention better than what people used before, does it learn faster, and how sure can we be?
#
# You will
#
# - write seven competitors, each in a few lines that give the library's numbers;
# - say why a bidirectional LSTM must not read padding;
# - give every model the same search for its settings, and compare them on Amazon Sports: the same users, negatives,
#   embeddings, time feature and budget;
# - see what was known of the test set when the comparison was decided, and what that does to its result;
# - read the paper's Table 3 and Figure 2 beside our own;
# - say when ATRank trains faster, and when it does not.
#
# **Runtime** (`fast`): about 40 seconds on one core; the tables are recorded runs. **Before this**: {ref}`ch-ranking`.
# **Modules**: `atrank_lib.competitors`; `experiments`.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("07_competitors", profile=profile, seed=seed)

# %% tags=["hide-input"]
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import (
    INK,
    label_lines,
    learning_curves,
    model_color,
    named_line,
    sketch,
)
from atrank_book.figures import MODELS as COLORS
from atrank_lib import Recipe, build_batch, evaluate, fit
from atrank_lib.competitors.base import in_time
from atrank_lib.fast import speed_up
from atrank_lib.log.schema import Feature, Group, Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.runs import MODELS
from atrank_lib.samples import prepare
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.cells import judge_rule
from experiments.models import COMPARED
from experiments.own_log import answer
from experiments.records import read_record, recorded, recorded_runs
from experiments.summary import curves, difference, read_table, switch_table, table3

# %% [markdown]
# ## One sample, seven readers
#
# All models but the first get the same input as ATRank: behaviors of every group, embedded with their time and action
# and projected into one space by {eq}`eq-projection`, in the order of time; and the projected target $h$. They differ in
# how the behaviors $s_1 \dots s_n$ become a user, and some in more than that: DIN, BST and Wide & Deep score by a network
# where the others take an inner product, and Wide & Deep counts ids besides. Here is one user of the simulated
# marketplace.

# %%
users, items = (500, 150) if profile == "fast" else (6_000, 1_000)
small = {"behaviors": 24, "categories": 12, "brands": 20, "shops": 15}
market = simulate(MarketplaceConfig(users=users, items=items, seed=seed, **small))
histories, parts = prepare(market.log, "validated", ["item"])
one = parts.test["item"][torch.tensor([3])]
batch = build_batch(histories, one, one.objects[:, None])


def look(name, **options):
    """A small untrained model, the projected behaviors [n, d] oldest first, the
    target [d], and the model's score."""
    torch.manual_seed(seed)
    options = {"embedding_size": 8, "hidden": 16, **options}
    kind = MODELS[name]
    options = {k: v for k, v in options.items() if k in kind.Config.model_fields}
    model = kind.build(
        market.log.schema, histories.vocabularies, kind.Config(**options)
    ).eval()
    with torch.no_grad():
        score = model(batch).scores[0, 0]
        if name == "bpr-mf":
            return model, None, None, score
        s, h = model.project(batch), model.targets(batch.candidates).h[0, 0]
    return model, s[in_time(batch).order], h, score


# %% [markdown]
# ### BPR-MF: who you are
#
# Matrix factorization {cite:p}`rendle2009bpr` gives each user a vector $p_u$ and each object a vector $q_o$, here the
# same feature embeddings as everywhere, and a bias: $p_u \cdot q_o + b_o$. No history, no time. A user that training
# did not show gets the vector of *unknown*.

# %% mystnb={"figure": {"caption": "Look for arrows from the behaviors. Left: BPR-MF reads none of them, only the user's name. Right, here and in the next figures: ATRank, where behaviors read each other (arcs), then the target weighs each (arrows).", "name": "fig-sketch-bpr"}, "image": {"alt": "Five circles for behaviors stand apart; a box with the user's id leads to the score, and so does the target."}} tags=["hide-input"]
_ = sketch("bpr-mf")

# %%
model, _, _, score = look("bpr-mf")
with torch.no_grad():
    p = model.users["[item]"](batch.users)[0]
    q = model.objects["[item]"](batch.candidates.features)[0]
    b = model.biases["[item]"](batch.candidates.features["object_id"])[0, 0]
    torch.testing.assert_close(p @ q + b, score)

# %% [markdown]
# ### Wide & Deep: the average
#
# Wide & Deep {cite:p}`cheng2016wide` adds two scores. The *wide* half is a linear model over what can be listed: the
# candidate's category, brand and shop, and how often the history holds the same. The *deep* half is a network on the
# mean of the behaviors and the target: order is gone, time survives in the time feature.

# %% mystnb={"figure": {"caption": "Look at the arrows' equal widths: Wide & Deep reads the mean of the behaviors, and counts what they share with the target.", "name": "fig-sketch-wide"}, "image": {"alt": "Five circles for behaviors lead with equal arrows into one mean, which meets the target in a network; a second arrow counts shared features."}} tags=["hide-input"]
_ = sketch("wide-deep")

# %%
model, s, h, score = look("wide-deep")
with torch.no_grad():
    deep = model.top(model.deep(torch.cat([s.mean(dim=0), h])))[0]
    # all weights start at zero
    wide = model.wide(model.encode(batch), batch.candidates)[0, 0]
    torch.testing.assert_close(wide + deep, score)

# %% [markdown]
# ### Bi-LSTM: like a sentence
#
# An LSTM carries a state from behavior to behavior and decides at each what to keep. Two of them, one in each
# direction, end in two states; a linear map joins them into the user {cite:p}`zhang2014sequential`. There are $n$
# steps that must follow each other, whatever the number of processors.

# %% mystnb={"figure": {"caption": "Follow the chain: a Bi-LSTM passes a state along the behaviors, in both directions.", "name": "fig-sketch-lstm"}, "image": {"alt": "Five circles for behaviors in a chain, with arrows from each to the next above and back below; both ends lead to the user."}} tags=["hide-input"]
_ = sketch("bi-lstm")

# %%
model, s, h, score = look("bi-lstm")
with torch.no_grad():
    # [n, 2 d], and the final state of each direction
    states, (last, _) = model.lstm(s)
    e = model.join(torch.cat([last[0], last[1]]))  # [2 d] -> [d]
    torch.testing.assert_close(h @ e, score)

# %% [markdown]
# A batch has histories of different length, filled up to the longest. The forward direction meets the padding last,
# and one may simply read its state at the last real place. The backward direction meets it *first*. Its state is then
# no longer empty when it arrives at the first real behavior, so a user's score depends on who else is in the batch:

# %%
short = s[-3:]  # the three latest behaviors
with torch.no_grad():
    right, _ = model.lstm(short)
    # filled up with ten empty places
    wrong, _ = model.lstm(torch.cat([short, torch.zeros(10, s.shape[1])]))
    wrong = wrong[:3]
d = model.config.hidden
# the forward direction has not met them yet
torch.testing.assert_close(wrong[:, :d], right[:, :d])
error = (wrong[0, d:] - right[0, d:]).norm() / right[0, d:].norm()

# %% tags=["remove-cell"]
claim(unpacked_error=(error, 0.005, 1.0))

# %% [markdown]
# The backward state at the oldest of the three is off by {glue:text}`unpacked_error:.1%` of its length. The library *packs*
# instead (`torch.nn.utils.rnn.pack_padded_sequence`): at each step only the histories that still have a behavior take part.
#
# ### Bi-LSTM with attention
#
# Instead of the two final states, the target reads all states, by the same attention as ATRank's {eq}`eq-target`.

# %% mystnb={"figure": {"caption": "Compare the widths of the arrows: with attention, the target reads every state of the Bi-LSTM.", "name": "fig-sketch-lstm-attention"}, "image": {"alt": "Five circles in a chain with arrows both ways; arrows of different width lead from each of them to the user, chosen by the target."}} tags=["hide-input"]
_ = sketch("bi-lstm-attention")

# %%
model, s, h, score = look("bi-lstm-attention")
with torch.no_grad():
    states = model.join(model.lstm(s)[0])  # [n, d]
    read = model.target.attention
    # [n], one space
    weights = (read.queries(h) @ read.keys(states).T).softmax(dim=0)
    e = model.target.feed_forward(weights @ read.values(states))
    torch.testing.assert_close(h @ e, score)

# %% [markdown]
# ### CNN: short patterns
#
# A convolution of width $w$ sees $w$ behaviors in a row. There are 32 filters of each width from 1 to 10; the maximum
# over places says whether a pattern occurred, not where {cite:p}`kim2014convolutional`.

# %% mystnb={"figure": {"caption": "Look at the brackets: a CNN slides windows along the behaviors and keeps the strongest answer of each filter.", "name": "fig-sketch-cnn"}, "image": {"alt": "Five circles for behaviors, with brackets of width two and three below them, which lead through a maximum to the user."}} tags=["hide-input"]
_ = sketch("cnn")

# %%
model, s, h, score = look("cnn")
with torch.no_grad():
    pooled = []
    for convolution in model.convolutions:
        width = convolution.kernel_size[0]
        # a window may reach beyond the end
        after = torch.cat([s, torch.zeros(width - 1, s.shape[1])])
        # [32, n] -> [32]
        pooled.append(torch.relu(convolution(after.T)).amax(dim=1))
    torch.testing.assert_close(h @ model.join(torch.cat(pooled)), score)

# %% [markdown]
# ### DIN: ask each behavior
#
# The Deep Interest Network {cite:p}`zhou2018din` computes a weight for each behavior with a small network that sees
# behavior and target. In the paper the weights are *not* normalized, so ten matching behaviors count more than one. (The
# code that its authors published scales them and takes a softmax.)

# %% mystnb={"figure": {"caption": "Notice that no circle points at another: DIN weighs each behavior by a network that also sees the target; behaviors do not see each other.", "name": "fig-sketch-din"}, "image": {"alt": "Five circles for behaviors, each with an arrow of its own width to the user; the target points at the arrows. No arrows among the circles."}} tags=["hide-input"]
_ = sketch("din")

# %%
model, s, h, score = look("din")
with torch.no_grad():
    asked = h.expand_as(s)
    # [n, 1]
    a = model.activation(torch.cat([s, asked, s - asked, s * asked], dim=1))
    e = (a * s).sum(dim=0)
    torch.testing.assert_close(model.top(torch.cat([h, e, h * e]))[0], score)

# %% [markdown]
# ### BST: the target is one of them
#
# The Behavior Sequence Transformer {cite:p}`chen2019bst` puts the target into the sequence, at elapsed time zero, and
# lets a transformer layer relate everything to everything. A network reads the result. So all of it has to be computed
# again for each candidate. Ours is smaller than the original, which concatenates all outputs and reads them with a
# network of 1024, 512 and 256; where lengths differ, we take the target's output and the mean of the others, and a small
# network.

# %% mystnb={"figure": {"caption": "Look where the target stands: in BST it is a member of the sequence; everything attends to everything, once for each candidate.", "name": "fig-sketch-bst"}, "image": {"alt": "Five circles and the target in one row, with arcs between all of them, leading to the score."}} tags=["hide-input"]
_ = sketch("bst")

# %%
model, s, h, score = look("bst")
with torch.no_grad():
    # the target, at elapsed time zero
    first = model.position(batch.candidates, h[None, None])[0, 0]
    x = model.layer(torch.cat([first[None], s])[None])[0]  # [1 + n, d]
    torch.testing.assert_close(
        model.top(torch.cat([x[0], x[1:].mean(dim=0), h]))[0], score
    )

# %% [markdown]
# ATRank stands between the last two: behaviors relate to each other once, then each target reads the result.
#
# | | behaviors see each other | order | time | target chooses | encode once |
# |---|---|---|---|---|---|
# | BPR-MF | no | no | no | no | yes |
# | Wide & Deep | no | no | feature | counts | yes |
# | Bi-LSTM | neighbors | yes | feature | no | yes |
# | Bi-LSTM + attention | neighbors | yes | feature | yes | yes |
# | CNN | up to 10 in a row | locally | feature | no | yes |
# | DIN | no | no | feature | yes | yes |
# | BST | all | no | feature | yes | no |
# | ATRank | all | no | feature | yes | yes |
#
# ## A small race with a known finish
#
# On the simulated marketplace we know the best that anybody can do. All models get the same short training on the same
# few users. The two *floors* get none: popularity, and how many features a candidate shares with the user's latest
# item. Three settings are new. `average=0.98` judges a running mean of the weights over the steps instead of the last
# ones, which jump about. `id_dropout=0.5` hides half of the object ids in training, behind *unknown*, so that nobody
# learns objects by heart, and `embedding_dropout` sets a tenth of the embedded numbers to zero.

# %%
recipe = Recipe(
    loss="pairwise",
    negatives=2,
    batch_size=128,
    learning_rate=8e-3,
    epochs=3,
    average=0.98,
    patience=None,
)
sizes = {
    "embedding_size": 16,
    "hidden": 32,
    "id_dropout": 0.5,
    "embedding_dropout": 0.1,
}
runs = 1 if profile == "fast" else 5
race = {
    floor: [judge_rule(market.log, floor, ["item"])["targets"]["item"]]
    for floor in ("popularity", "last-category")
}
for name in COMPARED[2:]:  # the first two are rules
    kind = MODELS[name]
    options = kind.Config(
        **{k: v for k, v in sizes.items() if k in kind.Config.model_fields}
    )
    race[name] = []
    for run in range(runs):
        torch.manual_seed(seed + run)
        model = speed_up(
            kind.build(market.log.schema, histories.vocabularies, options)
        )
        fit(model, histories, parts, recipe, seed=seed + run, progress=False)
        race[name].append(
            evaluate(
                model, histories, {"item": parts.test["item"]}, negatives=20
            ).average_user_auc
        )
best = market.truth.auc(market.log, "item")

# %% mystnb={"figure": {"caption": "A short training of every model on a few hundred users; a dot is a run. The dashed line is the better of the two rules that learn nothing, the solid one the best that anybody could do. Look at the gap before it: so short a training tells little about the models, most of all how far all of them are from the best.", "name": "fig-competitors-race"}, "image": {"alt": "Dots of AUC in ten rows: the two rules and the eight models, sorted by their mean; a dashed vertical line at the better rule, a solid one at the far right at the best possible."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.8))
order = sorted(race, key=lambda name: np.mean(race[name]))
for y, name in enumerate(order):
    color, runs = model_color(name), race[name]
    ax.plot([min(runs), max(runs)], [y, y], color=color, linewidth=1)
    ax.plot(runs, [y] * len(runs), "o", color=color)
rule = max(np.mean(race[name]) for name in race if name not in COLORS)
named_line(ax, rule, "best rule", at=0.05, side="right")
named_line(ax, best, "best possible", at=0.05, style="-")
ax.set_yticks(range(len(order)), order)
for label in ax.get_yticklabels():
    label.set_color(model_color(label.get_text()))
_ = ax.set(xlabel="average user AUC on items")

# %% tags=["remove-cell"]
samples = len(parts.train["item"])
own, last = histories.groups["item"], parts.test["item"]
starts = own.offsets[last.users]
repeated = [
    bool((own.objects[a:b] == own.objects[b]).any())
    for a, b in zip(starts.tolist(), last.positions.tolist(), strict=True)
]

claim(
    race_samples=(samples, 1_000),
    race_repeated=(np.mean(repeated), 0.05, 0.5),
    race_best=(best, 0.8, 0.95),
    race_floor=(race["last-category"][0], 0.65, 0.85),
    race_atrank=(np.mean(race["atrank"]), 0.55, best),
    race_wide_deep=(np.mean(race["wide-deep"]), 0.68, best),
    race_simple_lead=(np.mean(race["wide-deep"]) - np.mean(race["atrank"]), 0.0),
)

# %% [markdown]
# On {glue:text}`race_samples:,` training samples, Wide & Deep is ahead of ATRank by
# {glue:text}`race_simple_lead:.3f`, and a rule that learns nothing reaches {glue:text}`race_floor:.3f`. That is
# no accident. "How often did this user meet the candidate, its category, brand and shop?" is built into the wide half,
# {glue:text}`race_repeated:.0%` of the targets are items that the user met before, and negatives never are. Attention has
# to find out from examples that shared features matter. Who has least to learn wins a short race.
#
# ## The same search for all
#
# For each model the same program searches the same space with the same budget: 12 configurations proposed by Optuna's
# sampler {cite:p}`akiba2019optuna` (seeded; the first four are random and the same for all), trained on a fixed sample of
# 6,000 users of Amazon Sports, and judged by *validation* AUC, each user's last but one behavior. A sample is quick, and
# can mislead: what overfits a few users may suit all. So there are finals. The best three of each model are trained
# again on *all* users, and the best of those is chosen, by validation AUC again. The table shows what was found: the
# learning rate, the two kinds of dropout from above, the weight decay (a pull of all weights toward zero) and the batch
# size.

# %% tags=["hide-input"]
place = recorded("search/amazon_sports_and_outdoors")
searches = {
    name: read_record(place / f"{name}.json")
    for name in COMPARED
    if (place / f"{name}.json").is_file()
}
assert list(searches) == COMPARED[2:]
assert {
    (len(found["trials"]), len(found["finals"])) for found in searches.values()
} == {(12, 3)}
assert (
    len(
        {
            (str(found["space"]), str(found["fixed"]), found["users"], found["seed"])
            for found in searches.values()
        }
    )
    == 1
)
space = searches["atrank"]["space"]
tried = {
    name: [trial["value"] for trial in found["trials"]]
    for name, found in searches.items()
}
finals = {
    name: {final["trial"]: final["value"] for final in found["finals"]}
    for name, found in searches.items()
}
pd.DataFrame(
    {
        name: {
            "median of 12": np.median(tried[name]),
            "best of 12": max(tried[name]),
            "best of 3, all users": max(finals[name].values()),
            **found["best"]["parameters"],
        }
        for name, found in searches.items()
    }
).T.rename_axis("model").round(4)

# %% mystnb={"figure": {"caption": "Validation AUC of every configuration of every model on 6,000 users (left), and of each model's best three on all users (right); the chosen one is full. Compare the width of a row with the steps between rows: the spread within a model is larger than the differences between most models: who tunes only one model will see it win.", "name": "fig-competitors-search"}, "image": {"alt": "Two panels with eight rows, one row for each model. Left, twelve small dots a row, which overlap widely, but for matrix factorization, which lies to the left. Right, three dots a row, the best of them marked."}} tags=["hide-input"]
best_of = {name: found["best"]["value"] for name, found in searches.items()}
names = sorted(best_of, key=best_of.get)
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
for y, name in enumerate(names):
    chosen = searches[name]["best"]["trial"]
    for ax, values in zip(
        axes, (dict(enumerate(tried[name])), finals[name]), strict=True
    ):
        ax.plot(
            list(values.values()),
            [y] * len(values),
            "o",
            color=model_color(name),
            alpha=0.45,
            markersize=5,
        )
        ax.plot(values[chosen], y, "o", color=model_color(name))
axes[0].set_yticks(range(len(names)), names)
axes[0].set_xlabel("validation AUC, 6,000 users")
_ = axes[1].set_xlabel("validation AUC, all users")

# %% tags=["remove-cell"]
first = [max(range(12), key=tried[name].__getitem__) for name in searches]
changed = [
    name
    for name, trial in zip(searches, first, strict=True)
    if searches[name]["best"]["trial"] != trial
]
gain = {
    name: max(finals[name].values()) - finals[name][trial]
    for name, trial in zip(searches, first, strict=True)
}

claim(
    finals_models=len(searches),
    finals_changed=(len(changed), 1, len(searches)),
    finals_most=max(gain, key=gain.get),
    finals_gain=(max(gain.values()), 0.0, 0.05),
)

# %% [markdown]
# For {glue:text}`finals_changed` of {glue:text}`finals_models` models the finals overrule the sample; most for
# {glue:text}`finals_most`, by {glue:text}`finals_gain:.4f`.
#
# Each model is then trained on all users at the setting that was chosen for it, with several seeds (a column says how
# many). What is not searched is equal: embeddings of 64, hidden size 128, pair-wise loss with four negatives, averaged
# weights, at most eight epochs, the best by validation.
#
# ## Table 3
#
# The rows are recorded runs (`python -m experiments table3`). "sd" is the spread over seeds. The difference is ATRank
# minus the model, over the same users and negatives; its 95 % interval allows for other users *and* other seeds
# ({doc}`protocol` has the formula). The floors have no seeds.

# %% tags=["hide-input"]
records = read_table(recorded("table3/amazon_sports_and_outdoors"))
ours = table3(records)
ours.drop(columns=["paper, Electronics", "paper, Clothing"]).round(4)

# %% [markdown]
# And the numbers of {cite:t}`zhou2018atrank`, Table 3, on two other categories of the same shop (not comparable with
# ours in level: other users, other objects, chosen on the test set):

# %% tags=["hide-input"]
ours[["paper, Electronics", "paper, Clothing"]].dropna()

# %% tags=["remove-cell"]
atrank = float(ours.loc["atrank", "AUC"])
seeds = int(ours.loc["atrank", "seeds"])
others = ours.drop(index="atrank")["AUC"]
rival = others.idxmax()
lead, over_lstm = (
    difference(records["atrank"], records[name]) for name in (rival, "bi-lstm")
)
if lead["low"] > 0:
    verdict = "above zero"
elif lead["high"] < 0:
    verdict = "below zero"
else:
    verdict = "around zero"
readers = ours.drop(index=["popularity", "last-category", "bpr-mf"])["AUC"]

claim(
    atrank=(atrank, 0.83, 0.86),
    atrank_sd=(ours.loc["atrank", "sd"], 0.0, 0.006),
    largest_sd=(ours["sd"].max(), 0.0, 0.006),
    seeds=(seeds, 3),
    best_rival=rival,
    best_rival_auc=(others.max(), 0.8, 0.86),
    mf=(ours.loc["bpr-mf", "AUC"], 0.7, 0.82),
    popularity=(ours.loc["popularity", "AUC"], 0.55, 0.8),
    lstm=(ours.loc["bi-lstm", "AUC"], 0.8, 0.86),
    lead=(lead["difference"], -0.02, 0.03),
    lead_low=lead["low"],
    lead_high=lead["high"],
    over_lstm=(over_lstm["difference"], -0.02, 0.03),
    readers_over_mf=(readers.min() - ours.loc["bpr-mf", "AUC"], 0.03),
    rank=(int(readers.rank(ascending=False)["atrank"]), 2, 6),
    readers=len(readers),
    readers_range=(readers.max() - readers.min(), 0.0, 0.03),
    verdict=verdict,
)

# %% [markdown]
# ATRank reaches {glue:text}`atrank:.4f`, the mean of {glue:text}`seeds` seeds, with a standard deviation of
# {glue:text}`atrank_sd:.4f`; for other models it is up to {glue:text}`largest_sd:.4f`. The best of the others,
# {glue:text}`best_rival`, has {glue:text}`best_rival_auc:.4f`. ATRank minus {glue:text}`best_rival` is
# {glue:text}`lead:+.4f`, from {glue:text}`lead_low:+.4f` to {glue:text}`lead_high:+.4f`, {glue:text}`verdict`. Against
# the Bi-LSTM it is {glue:text}`over_lstm:+.4f`. In the paper, ATRank was ahead of the Bi-LSTM by 0.0164
# on Electronics and 0.0036 on Clothing {cite:p}`zhou2018atrank`. Before you take our sign for a finding, read on.
#
# ## What was known when this was decided
#
# An earlier edition of this chapter said here that test users were not touched. The history of the repository says
# otherwise (all of it on November 21, 2026):
#
# | time | what was recorded |
# |---|---|
# | 03:13 to 06:33 | ATRank is tuned by hand on this log, and its *test* AUC is read on the way |
# | 06:36 to 07:47 | the search is written, its space drawn around that recipe, with the same loss, averaging and dropout of ids |
# | 08:52 | searches of all models: the best of 12 on the sample is chosen |
# | 09:21 to 20:22 | Table 3 with these settings: test results of every model |
# | 21:43 | the protocol is changed: finals on all users are added, after those results were known |
# | 21:43 to 23:27 | Table 3 again, with the settings of the finals: the table above |
#
# The finals have reasons that the test set had no part in: they choose by validation, and the sample had misled BST
# most. But they came after the first result, and they turned the order of two models around:

# %% tags=["hide-input"]
seconds = read_table(recorded("table3-runner-up/amazon_sports_and_outdoors"))
before = {
    "atrank": recorded_runs("table3-before-finals/amazon_sports_and_outdoors"),
    "bi-lstm": seconds["bi-lstm"],  # the second of the finals was the first choice
}
turned = pd.DataFrame(
    {
        name: {
            "before the finals": np.mean([run["average_user_auc"] for run in runs]),
            "after": ours.loc[name, "AUC"],
        }
        for name, runs in before.items()
    }
).T
turned.round(4)

# %% tags=["remove-cell"]
assert {run["data_fingerprint"] for runs in before.values() for run in runs} == {
    records["atrank"][0]["data_fingerprint"]
}
first, second = sorted(finals["bi-lstm"].values(), reverse=True)[:2]
then = turned["before the finals"]
over = difference(records["atrank"], seconds["bi-lstm"])

claim(
    before_atrank=(then["atrank"], 0.83, 0.84),
    before_lstm=(then["bi-lstm"], 0.83, 0.84),
    before_lead=(then["atrank"] - then["bi-lstm"], -0.005, 0.0),
    after_lead=(turned["after"]["atrank"] - turned["after"]["bi-lstm"], 0.0, 0.01),
    final_margin=(first - second, 0.0, 0.001),
    over_runner_up=(over["difference"], 0.0, 0.01),
    over_runner_up_low=(over["low"], None, 0.0),
    over_runner_up_high=(over["high"], 0.0),
)

# %% [markdown]
# ATRank minus Bi-LSTM was {glue:text}`before_lead:+.4f` and became {glue:text}`after_lead:+.4f`. For the Bi-LSTM the
# finals chose between two settings {glue:text}`final_margin:.5f` apart in validation, with one seed each; had the other
# one won, ATRank's lead would be {glue:text}`over_runner_up:+.4f`, from {glue:text}`over_runner_up_low:+.4f` to
# {glue:text}`over_runner_up_high:+.4f`. So this log does not say which of the two is better. A
# protocol that was fixed beforehand, on a log whose test results nobody has seen, could.
#
# The shared settings are not neutral either: they began as a recipe for ATRank ({ref}`ch-ranking` quotes its runs). The
# other models share it, and it was not made for them.
#
# ## Does DIN lead, and why?
#
# DIN was ahead of ATRank before the finals and after. Its target also chooses among behaviors. It differs in five
# things: no self-attention; a network as $f$; weights that are not normalized; one weight a behavior, from a small
# network, where ATRank has one for each space; and it adds up the behaviors themselves, where those of ATRank pass a
# layer, $Q_k$, before the sum, and a network, $\mathcal{F}_{vanilla}$, after it ({eq}`eq-target`).
#
# Two of the five were tried at full length, each alone: DIN with weights that sum to one (`--variant normalized`), and an
# ATRank whose target reads behaviors as they are (`--variant raw`, the option `told="raw"`): each space adds up its own
# columns of $C$, and $f$ compares the sum with $h_t$ at once.


# %% tags=["hide-input"]
def variant(name, model):
    return read_table(recorded(f"table3-{name}/amazon_sports_and_outdoors"))[model]


def above(number, digits=4):
    """The least number of so many digits that is larger in size."""
    return (int(abs(number) * 10**digits) + 1) / 10**digits


normalized, raw, alone = (
    variant("normalized", "din"),
    variant("raw", "atrank"),
    variant("raw-alone", "atrank"),
)
pairs = {
    "DIN, weights that sum to one": (normalized, records["din"]),
    "ATRank that reads behaviors as they are": (raw, records["atrank"]),
    "the same, and no self-attention": (alone, records["atrank"]),
    "DIN": (records["din"], records["atrank"]),
}
parts = pd.DataFrame(
    {name: difference(*pair) for name, pair in pairs.items()}
).T.astype({"seeds": int})
parts.insert(1, "against", ["DIN", "ATRank", "ATRank", "ATRank"])
switched = switch_table(read_table(recorded("switches/amazon_sports_and_outdoors")))[
    "difference"
]
over_din, over_alone = difference(raw, records["din"]), difference(raw, alone)
parts.round(4)

# %% [markdown]
# Is that a better model, or one that learns faster? Here is the validation AUC after each epoch, as a difference to the
# paper's ATRank, over five seeds:


# %% tags=["hide-input"]
def validated(runs):
    """The mean validation AUC after each epoch."""
    return np.mean([[e["validation_auc"] for e in run["epochs"]] for run in runs], 0)


base = validated(records["atrank"])
epochs = pd.DataFrame(
    {
        "raw": validated(raw) - base,
        "DIN": validated(records["din"]) - base,
    },
    index=pd.RangeIndex(1, len(base) + 1, name="epoch"),
).T
epochs.round(4)

# %% [markdown]
# And the sizes of what stands between the embeddings and the score: numbers that are trained, lookup tables left out.

# %% tags=["hide-input"]
feature = Feature(kind="categorical")
sports = Schema(
    name="as Amazon's",
    groups={
        "item": Group(
            actions=["review"],
            features={"object_id": feature, "category_id": feature},
        )
    },
)
few = pd.DataFrame({"object_id": ["a", "b"], "category_id": ["c", "d"]})
vocabularies = Vocabularies.from_objects(sports, {"item": few}, pd.Index(["u"]))


def outside_tables(kind, options):
    """Trained numbers of a model that are in no lookup table."""
    model = kind.build(sports, vocabularies, kind.Config(**options))
    layers = [m for m in model.modules() if not isinstance(m, torch.nn.Embedding)]
    return sum(p.numel() for m in layers for p in m.parameters(recurse=False))


chosen_options = {
    name: runs[0]["options"] for name, runs in records.items() if name in MODELS
}
chosen_options["atrank, raw"] = raw[0]["options"]
chosen_options["atrank, raw, no self-attention"] = alone[0]["options"]
counted = pd.Series(
    {
        name: outside_tables(MODELS[name.split(",")[0]], options)
        for name, options in chosen_options.items()
    },
    name="numbers",
)
counted.sort_values().to_frame()

# %% tags=["remove-cell"]
histories_read = list(readers.index)
ends = [run["best_epoch"] for name in histories_read for run in records[name]]
last_steps = [
    np.diff(validated(records[name]))[-1]
    for name in histories_read
    if name != "bi-lstm"
]
claim(
    normalized_most=(above(parts["difference"].iloc[0]), None, 0.003),
    din_sd=(ours.loc["din", "sd"], 0.0, 0.006),
    raw=(np.mean([run["average_user_auc"] for run in raw]), 0.84, 0.85),
    raw_gain=(parts["difference"].iloc[1], 0.002, 0.006),
    raw_din_most=(above(over_din["difference"]), None, 0.003),
    raw_attention=(over_alone["difference"], 0.0, 0.005),
    raw_attention_low=over_alone["low"],
    raw_attention_high=over_alone["high"],
    raw_first=(epochs.loc["raw"].iloc[0], 0.003, 0.02),
    raw_last=(epochs.loc["raw"].iloc[-1], 0.001, 0.01),
    last_epoch_best=(sum(ends == np.max(ends)), 10, len(ends)),
    last_epoch_runs=len(ends),
    last_epoch_most=(max(last_steps), 0.0005, 0.005),
    size_atrank=(counted["atrank"], 10_000, 1_000_000),
    size_raw=(counted["atrank, raw"], 10_000, counted["atrank"] - 1),
    size_din=(counted["din"], 10_000, 1_000_000),
)

# %% [markdown]
# The raw reading reaches {glue:text}`raw:.4f`, {glue:text}`raw_gain:+.4f` against the paper's, and is less than
# {glue:text}`raw_din_most:.4f` from DIN. Normalized weights change DIN by less than {glue:text}`normalized_most:.4f`, with
# three seeds, where seeds of one DIN spread by {glue:text}`din_sd:.4f`. That is what was measured. It does not say why DIN
# leads:
#
# - **Eight epochs are a cap.** {glue:text}`last_epoch_best` of the {glue:text}`last_epoch_runs` runs of history readers are
#   best after the last one, and some models still gain {glue:text}`last_epoch_most:.4f` in it. The lead of the raw reading
#   shrinks from {glue:text}`raw_first:.4f` after the first epoch to {glue:text}`raw_last:.4f` after the last: it learns
#   faster. Whether it ends higher, these runs do not tell.
# - **Sizes differ.** ATRank trains {glue:text}`size_atrank:,` numbers outside its tables, its raw reading
#   {glue:text}`size_raw:,`, DIN {glue:text}`size_din:,`.
# - **The rest is untried.** An earlier edition ruled self-attention and the network as $f$ out by two-epoch runs of ATRank
#   ({ref}`paper-against-code`). After two epochs DIN does not lead (see the table), so such runs cannot explain its lead.
#   And the same settings for both models do not mean that settings play no part.
#
# With the raw reading, self-attention is worth {glue:text}`raw_attention:+.4f` ({glue:text}`raw_attention_low:+.4f` to
# {glue:text}`raw_attention_high:+.4f`), much less than the two-epoch runs suggest. The raw reading stays out of
# Table 3: it was found by asking why one model lost on this log.
#
# What the log does say: matrix factorization, with {glue:text}`mf:.4f`, is far behind every trained model here that reads
# behaviors. (Stronger models without order, such as item neighbors, are not in the table.)
#
# ## Where do they differ?
#
# A mean over users can hide two models that are good at different users. Long histories are where attention should
# help: it can pick from fifty behaviors, while a state has to carry them.

# %% mystnb={"figure": {"caption": "Table 3 by the number of behaviors in a user's history, mean over seeds. The bars of ATRank are 95 % intervals over users. Look whether the lines drift apart to the right, where histories are long.", "name": "fig-competitors-lengths"}, "image": {"alt": "Lines of test AUC over four ranges of history length for ATRank, Bi-LSTM, CNN, DIN and BPR-MF. The models that read behaviors run close together, DIN on top, and drift apart a little where histories are longest; BPR-MF runs far below."}} tags=["hide-input"]
found = pd.DataFrame(
    read_record(recorded("lengths") / "amazon_sports_and_outdoors.json")["rows"]
)
buckets = list(dict.fromkeys(found["behaviors"]))
sizes_of = found[found["model"] == "atrank"].set_index("behaviors")["users"]
fig, ax = plt.subplots(figsize=(7.2, 3.8))
ends = {}
for name in ("bpr-mf", "bi-lstm", "cnn", "din", "atrank"):
    line = found[found["model"] == name].set_index("behaviors").loc[buckets]
    ax.plot(
        range(len(buckets)),
        line["AUC"],
        "o-",
        color=model_color(name),
        linewidth=2.6 if name == "atrank" else 1.3,
    )
    ends[name] = (len(buckets) - 1, float(line["AUC"].iloc[-1]))
    if name == "atrank":
        ax.errorbar(
            range(len(buckets)),
            line["AUC"],
            1.96 * line["standard error"],
            color=model_color(name),
            fmt="none",
        )
label_lines(ax, ends, 0.006, {name: model_color(name) for name in ends})
ax.set_xticks(range(len(buckets)), [f"{b}\n{sizes_of[b]:,} users" for b in buckets])
_ = ax.set(xlabel="behaviors in the history", ylabel="test AUC")

# %% tags=["remove-cell"]
wide = found.pivot(index="behaviors", columns="model", values="AUC").loc[buckets]
gap = wide["atrank"] - wide["bi-lstm"]
error = float(
    found[(found["model"] == "atrank") & (found["behaviors"] == buckets[-1])][
        "standard error"
    ].iloc[0]
)

claim(
    gap_short=(gap.iloc[0], -0.05, 0.05),
    gap_long=(gap.iloc[-1], -0.05, 0.05),
    gap_long_error=(error, 0.0, 0.03),
)

# %% [markdown]
# ATRank minus Bi-LSTM is {glue:text}`gap_short:+.4f` for the shortest histories and {glue:text}`gap_long:+.4f`
# for the longest, where one model's standard error alone is {glue:text}`gap_long_error:.4f`: this log cannot say much about
# long histories.
#
# The **time feature** is part of the comparison too. In the authors' code the Bi-LSTMs have none, while ATRank and the
# CNN do. Here is the Bi-LSTM with and without it, with the same seed and the rest unchanged:

# %% tags=["remove-cell"]
blind = read_table(recorded("table3-no-time/amazon_sports_and_outdoors"))["bi-lstm"]
time_gain = difference(records["bi-lstm"], blind)

claim(
    lstm_time=(time_gain["difference"], -0.02, 0.05),
    lstm_time_low=(time_gain["low"], None, 0.0),
    lstm_time_high=(time_gain["high"], 0.0),
    atrank_time=(switched["no-time"], -0.02, -0.001),
    lstm_time_seeds=(time_gain["seeds"], 1, 1),
    lstm_sd=(ours.loc["bi-lstm", "sd"], 0.0, 0.006),
)

# %% [markdown]
# Time is worth {glue:text}`lstm_time:+.4f` to the Bi-LSTM ({glue:text}`lstm_time_low:+.4f` to
# {glue:text}`lstm_time_high:+.4f`, users resampled; {glue:text}`lstm_time_seeds` seed alone, and another seed
# moves a Bi-LSTM by {glue:text}`lstm_sd:.4f`): too little to be seen with one seed. ATRank knows of order through the time
# feature alone; without it, after two epochs, its AUC changes by {glue:text}`atrank_time:+.4f`.
#
# The **paper's own recipe** (SGD with learning rate 1.0, batches of 32, one negative, no dropout, 20 epochs) was run
# as well, once:

# %% tags=["hide-input"]
# what the recipe of the paper reached
paper_run = read_table(recorded("table3-paper-recipe/amazon_sports_and_outdoors"))[
    "atrank"
][0]

# %% tags=["remove-cell"]
claim(
    paper_recipe=(paper_run["average_user_auc"], 0.7, 0.86),
    paper_recipe_loss=(atrank - paper_run["average_user_auc"], -0.01, 0.1),
    paper_recipe_epoch=(paper_run["best_epoch"], 1, 20),
)

# %% [markdown]
# It reaches {glue:text}`paper_recipe:.4f`, best at epoch {glue:text}`paper_recipe_epoch`:
# {glue:text}`paper_recipe_loss:.4f` below the searched settings, one seed.
#
# The settings made by hand, those of {ref}`ch-ranking`:

# %% tags=["remove-cell"]
by_hand = recorded_runs("amazon_sports")
hand = float(np.mean([run["average_user_auc"] for run in by_hand]))
sample_best = finals["atrank"][max(range(12), key=tried["atrank"].__getitem__)]

claim(
    by_hand=(hand, 0.83, 0.85),
    by_hand_gain=(hand - atrank, -0.003, 0.003),
    sample_best=(sample_best, 0.84, 0.87),
    sample_loss=(sample_best - max(finals["atrank"].values()), -0.01, -0.001),
)

# %% [markdown]
# They reach {glue:text}`by_hand:.4f`, {glue:text}`by_hand_gain:+.4f` against the searched settings. They may not enter the
# table, since test users were looked at on the way. The best trial of ATRank on 6,000 users has
# {glue:text}`sample_best:.4f` on the validation behaviors of all, {glue:text}`sample_loss:+.4f` against the one that the
# finals chose; for {glue:text}`finals_most` the difference is {glue:text}`finals_gain:.4f`.
#
# ## Figure 2: who learns faster?
#
# The paper plots AUC against training steps and finds that ATRank rises first. Steps are not time, so here are both.

# %% mystnb={"figure": {"caption": "Validation AUC after each epoch, mean over seeds, against samples seen (left) and against training time on one core (right). Names stand at the last epoch. Compare the panels: per sample the models learn alike; per minute the recurrent models and BST fall behind. BPR-MF, far below, is left out.", "name": "fig-competitors-curves"}, "image": {"alt": "Two panels of rising learning curves, one line for each model of behaviors. Against samples the lines run close together; against minutes the lines of the recurrent models and of BST stretch far to the right."}} tags=["hide-input"]
curve = curves(records)
_ = learning_curves(
    curve, [name for name in COLORS if name in records and name != "bpr-mf"]
)

# %% tags=["hide-input"]
mean_curve = curve.groupby(["model", "epoch"], as_index=False)[
    ["samples", "seconds", "AUC"]
].mean()
levels = [0.80, 0.83, 0.85, 0.855, 0.86]
minutes = {
    name: [
        part.loc[part["AUC"] >= level, "seconds"].min()
        / 60  # NaN where it never gets there
        for level in levels
    ]
    for name, part in mean_curve.groupby("model")
}
reach = pd.DataFrame(
    minutes, index=pd.Index(levels, name="validation AUC")
).T.rename_axis("model")
reach.sort_values(0.85).round(1)

# %% tags=["hide-input"]
first = mean_curve[mean_curve["epoch"] == 1].set_index("model")["AUC"]
best = mean_curve.groupby("model")["AUC"].max()
lstm = mean_curve[mean_curve["model"] == "bi-lstm"].set_index("seconds")["AUC"]
passed = mean_curve[
    (mean_curve["model"] == "atrank") & (mean_curve["AUC"] >= lstm.max())
]["seconds"].min()

# %% tags=["remove-cell"]
claim(
    first_epoch_gap=(first["atrank"] - first["bi-lstm"], -0.02, 0.02),
    time_ratio=(reach.loc["atrank", 0.85] / reach.loc["bi-lstm", 0.85], 0.1, 0.9),
    time_to_best=(passed / lstm.idxmax(), 0.1, 0.5),
    first_to_level=reach[0.85].idxmin(),
    level=0.85,
    best_curve=best.idxmax(),
)

# %% [markdown]
# The table gives the minutes of processor time until a model's mean curve first reaches a level; a dash means never.
# Against *samples*, ATRank minus Bi-LSTM is {glue:text}`first_epoch_gap:+.4f` after one epoch: the early lead that
# the paper's Figure 2 shows is not what we see with these settings. Against *time* it needs
# {glue:text}`time_ratio:.0%` of the Bi-LSTM's processor time to reach {glue:text}`level:.2f`, and
# {glue:text}`time_to_best:.0%` to pass the highest point of its curve. Part of that is how the models are computed: the
# compiled kernels of {ref}`ch-fast` make ATRank {glue:text}`kernels_atrank:.1f` times as fast on this log, in batches
# of 512, and a Bi-LSTM {glue:text}`kernels_lstm:.2f` times. First at {glue:text}`level:.2f` is
# {glue:text}`first_to_level`; the highest curve is that of {glue:text}`best_curve`.
#
# ## Four times faster?
#
# The paper says that ATRank is faster to train; an article of Alibaba Cloud about it says that training can be four times
# as fast as an LSTM or CNN. That depends on what they are. The
# authors' CNN fills every history up to 500 places (`cnn-500`); a Bi-LSTM that reads the padding (`bi-lstm-unpacked`) is
# fast, and wrong. Below, all models run in one process, taking turns, with the same batches: first on histories of one
# length, then on those of Amazon Sports, in batches of similar length (`log`) and as chance has it (`log, shuffled`).
# The numbers say how many times faster ATRank trains (`benchmarks/speed.py`). PyTorch's operators do the work for all of
# them; {ref}`ch-fast` has faster ones for ATRank.

# %% tags=["hide-input"]
speed = read_record(recorded("speed") / "cpu.json")
rates = pd.DataFrame(speed["rows"]).pivot(
    index=["batch", "histories"], columns="model", values="samples_per_second"
)
with_kernels = rates["atrank-kernels"] / rates["bi-lstm-kernels"]
ratios = rates.rdiv(rates["atrank"], axis=0).drop(
    columns=["atrank", "atrank-kernels", "bi-lstm-kernels"]
)
order = [
    *[str(n) for n in sorted(int(h) for h in rates.index.levels[1] if h.isdigit())],
    "log",
    "log, shuffled",
]
ratios = ratios.reindex([(size, h) for size in (32, 512) for h in order])
ratios.round(1)

# %% mystnb={"figure": {"caption": "How many times faster ATRank trains than each competitor, by the length of the histories. Above the line at 1 ATRank is faster; the dashed line is the article's factor of four. Look for what comes up to it: only padding to 500 is that slow, and only where histories are short.", "name": "fig-competitors-speed"}, "image": {"alt": "Two panels, batches of 32 and of 512, each with lines of the speed ratio over history lengths 10 to 200 for the packed Bi-LSTM, the unpacked one, the CNN and the CNN padded to 500."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
lengths = [int(h) for h in order if h.isdigit()]
styles = {"bi-lstm": "-", "bi-lstm-unpacked": ":", "cnn": "-", "cnn-500": ":"}
colors = {
    name: model_color(name.removesuffix("-unpacked").removesuffix("-500"))
    for name in styles
}
for ax, size in zip(axes, (32, 512), strict=True):
    ends = {}
    for name, line in styles.items():
        doublings = np.log2([ratios.loc[(size, str(n)), name] for n in lengths])
        ax.plot(
            np.log2(lengths),
            doublings,
            line,
            marker="o",
            markersize=4,
            color=colors[name],
        )
        ends[name] = (np.log2(lengths[-1]), doublings[-1])
    label_lines(ax, ends, 0.5, colors)
    ax.axhline(0, color=model_color("atrank"), linewidth=1.5)
    ax.axhline(2, color=INK, linewidth=1, linestyle="--")
    ax.set(xlabel="behaviors in a history", title=f"batches of {size}")
    ax.set_xticks(np.log2(lengths), lengths)
    ax.set_yticks(range(-1, 5), ["0.5", "1: ATRank", "2", "4: article", "8", "16"])
_ = axes[0].set_ylabel("times faster")

# %% tags=["remove-cell"]
sorted_32 = float(ratios.loc[(32, "log"), "bi-lstm"])
sorted_512 = float(ratios.loc[(512, "log"), "bi-lstm"])

claim(
    speed_32=(sorted_32, 1, 3),
    speed_512=(sorted_512, 1, 3),
    speed_32_shuffled=(ratios.loc[(32, "log, shuffled"), "bi-lstm"], sorted_32),
    speed_512_shuffled=(ratios.loc[(512, "log, shuffled"), "bi-lstm"], sorted_512),
    speed_32_long=(ratios.loc[(32, "200"), "bi-lstm"], 0.3, 1.5),
    speed_512_long=(ratios.loc[(512, "200"), "bi-lstm"], 0.3, 1.5),
    speed_cnn_32=(ratios.loc[(32, "log"), "cnn"], 1, 4),
    speed_cnn500_32=(ratios.loc[(32, "log"), "cnn-500"], 4),
    speed_32_kernels=(with_kernels.loc[(32, "log")], 1, 8),
    speed_512_kernels=(with_kernels.loc[(512, "log")], 1, 8),
)
for kind, name in (("atrank", "atrank"), ("lstm", "bi-lstm")):
    claim(
        f"kernels_{kind}",
        (rates[f"{name}-kernels"] / rates[name]).loc[(512, "log")],
        low=0.8,
        high=4,
    )
claim(
    speed_unpacked_32=(ratios.loc[(32, "log"), "bi-lstm-unpacked"], 0.5, 2),
)

# %% [markdown]
# Against a correct Bi-LSTM, on the histories of Amazon Sports in batches of similar length, ATRank trains
# {glue:text}`speed_32:.1f` times faster in batches of 32 and {glue:text}`speed_512:.1f` times in batches of 512. In batches
# as chance has it, like those of the authors' code, it is {glue:text}`speed_32_shuffled:.1f` and
# {glue:text}`speed_512_shuffled:.1f` times: one long history makes everybody wait, and an LSTM waits step by step. At 200
# behaviors the advantage is gone ({glue:text}`speed_32_long:.1f` and {glue:text}`speed_512_long:.1f`).
#
# The four of the article is easy to find elsewhere in the table. A CNN that fills every history up to 500 places is
# {glue:text}`speed_cnn500_32:.0f` times slower than ATRank in batches of 32; without that it is
# {glue:text}`speed_cnn_32:.1f` times slower. The Bi-LSTM that reads padding, the wrong one, is close to ATRank
# ({glue:text}`speed_unpacked_32:.1f`). So the factor holds for the implementations that were compared, and not for the
# ideas. With the kernels of {ref}`ch-fast`, in both models wherever they fit, it is {glue:text}`speed_32_kernels:.1f`
# times in batches of 32 and {glue:text}`speed_512_kernels:.1f` in batches of 512. A GPU is another machine, and this
# record says nothing of it.

# %% tags=["hide-input"]
origin = {
    "search": searches["atrank"],
    "table 3": records["atrank"][0],
    "the paper's recipe": paper_run,
    "speed": speed,
}
pd.DataFrame(
    {
        name: {
            "data": f"{found['data_name']} ({found['data_fingerprint']})",
            "commit": str(found["commit"])[:10],
            "torch": found["versions"].get("torch", ""),
            "hardware": found["hardware"],
        }
        for name, found in origin.items()
    }
).T

# %% [markdown]
# The last table says where the recorded numbers of this chapter come from; the {doc}`results ledger <ledger>` lists
# every file. All of it is made again by
#
# ```bash
# python -m experiments search --data LOG
# python -m experiments table3 --data LOG
# python -m experiments table3 --data LOG --models MODEL --variant VARIANT
# python -m experiments lengths --data LOG
# python benchmarks/speed.py --data LOG --out results/speed/cpu.json
# ```
#
# ## On your own log
#
# Which models beat the rules on *your* log? Give its folder as the parameter `data`, and five small models are trained on
# it for some hundred steps, on the group with the most behaviors, beside five rules with the same users and negatives.
# The last columns are the difference to the rule that validation likes best, with its 95 % interval over users. Without a
# log, this is a recorded answer on a small site of Stack Exchange, an openly licensed log ({doc}`logs`).

# %% tags=["hide-input"]
answer("readers", data, seed=seed).set_index("model").round(3)

# %% [markdown]
# A model whose interval does not lie above zero has not yet learned more than that rule counts. One seed, small models and
# a short training: a first look, no Table 3.
#
# ## What we learned
#
# A trained model that reads behaviors is far ahead of matrix factorization, by {glue:text}`readers_over_mf:.3f` at least.
# Among the readers of behaviors the whole range is {glue:text}`readers_range:.3f`, at eight epochs, while most still
# learn. ATRank is number {glue:text}`rank` of {glue:text}`readers` in this table, and among the quickest to train. Whether
# it is ahead of the Bi-LSTM depends on a protocol that was changed after the first test results: that is no finding. DIN,
# which the paper did not compare, leads under both protocols; why, we do not know. A factor of four shows against the
# implementations it was measured on.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: who you are
# :label: ex-mf-scores
# ```
# Write `mf_scores(users, objects, biases)`, the scores of matrix factorization for a batch: `users` is `[b, d]`, a vector
# for each sample's user, `objects` is `[b, c, d]`, its candidates, `biases` is `[b, c]`. The result is `[b, c]`.


# %%
def mf_scores(users, objects, biases): ...  # your turn


check.competitors.mf_scores(mf_scores)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-mf-scores
# :class: dropdown
# ```


# %%
def mf_scores(users, objects, biases):
    return (objects * users[:, None]).sum(
        dim=-1
    ) + biases  # [b, c, d] [b, 1, d] -> [b, c]


verdict = check.competitors.mf_scores(mf_scores)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Backward, but not over padding
# :label: ex-backward
# ```
# Write `backward(x, lengths)`: `x` is `[b, t, d]`, filled up with zeros behind each sequence; `lengths` is `[b]`.
# Return a new tensor in which each sequence is reversed within its own length. (An LSTM that reads it forward is then
# the backward direction.)


# %%
def backward(x, lengths): ...  # your turn


check.competitors.backward(backward)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-backward
# :class: dropdown
# ```


# %%
def backward(x, lengths):
    place = torch.arange(x.shape[1])  # [t]
    real = place < lengths[:, None]  # [b, t]
    # padding stays where it is
    source = torch.where(real, lengths[:, None] - 1 - place, place)
    return x.gather(1, source[..., None].expand_as(x))


verdict = check.competitors.backward(backward)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The maximum of what is there
# :label: ex-max-over
# ```
# Write `max_over(x, mask)`: `x` is `[b, t, d]`, `mask` `[b, t]` is True where a behavior is real. Return the maximum
# over real places, `[b, d]`, and zero for a sample without any. Values may be negative.


# %%
def max_over(x, mask): ...  # your turn


check.competitors.max_over(max_over)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-max-over
# :class: dropdown
# ```


# %%
def max_over(x, mask):
    best = x.masked_fill(~mask[..., None], float("-inf")).amax(dim=1)  # [b, d]
    return best.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


verdict = check.competitors.max_over(max_over)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: a model nobody tuned
# :label: ex-nobody-tuned
# ```
# In {numref}`fig-competitors-search`, pick the *median* configuration of one model and the *best* of another. How many
# of the pairs of models could be put in either order that way? What does that say about a paper whose competitors ran
# with default settings?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-nobody-tuned
# :class: dropdown
# ```

# %%
median_of = {
    name: np.median([trial["value"] for trial in found["trials"]])
    for name, found in searches.items()
}
pairs = list(combinations([name for name in searches if name != "bpr-mf"], 2))
either = [
    (a, b)
    for a, b in pairs
    if median_of[a] < best_of[b] and median_of[b] < best_of[a]
]

# %% tags=["remove-cell"]
claim(
    pairs=len(pairs),
    pairs_either_way=(len(either), len(pairs) // 2, len(pairs)),
)

# %% [markdown]
# Of the {glue:text}`pairs` pairs of models that read behaviors, {glue:text}`pairs_either_way` can be put in
# either order. For those, a table in which one model was tuned and the other was not measures care, not models. Sharing
# space, budget and choice, and showing the losers' trials too, is cheap and makes the table worth reading.
#
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise} Open-ended: a reader of your own
# :label: ex-own-reader
# Invent a ninth reader: anything that turns the behaviors $s_1 \dots s_n$ and the target $h$ into a score. Say what it
# can express that DIN cannot, and a kind of user for whom it should be better. Then write down, before you train
# anything, the comparison that would convince *someone else*.
# ```
#
# ```{solution} ex-own-reader
# :class: dropdown
# A class beside those in `atrank_lib.competitors`, with `encode` and `score`, takes some thirty lines; `base` does the
# embedding. One idea: DIN's weights divided by the square root of the number of behaviors, which lies between a sum and a
# mean; it should be better for very long histories. The comparison: the search of this chapter with the same space and
# budget, several seeds, the test set read once, the paired interval over users, *and* the difference among users with
# long histories, which was named beforehand. If only some other slice turns out better, that is an idea for the next
# experiment, not a result of this one.
# ```

# %% [markdown]
# ## Summary
#
# - **Seven competitors** on the same behaviors, time feature, batches and training code (`atrank_lib.competitors`).
# - **Padding** must not reach the backward direction, the maximum or the mean.
# - **The same search** for all, chosen on validation. It was changed once after test results were known, and the order of
#   ATRank and Bi-LSTM with it.
# - **Table 3**: ATRank {glue:text}`atrank:.4f`, the best rival {glue:text}`best_rival_auc:.4f`.
# - **DIN leads**, at eight epochs; why is open. With `told="raw"` ATRank is about as good, learns faster, and is smaller.
# - **Speed** depends on length, batch and implementation ({numref}`fig-competitors-speed`).
#
# **Where next?** All of this was about one kind of behavior. {ref}`ch-multitask` has several, which is what ATRank was
# made for; {ref}`ch-honest` asks what the numbers in such tables depend on.
