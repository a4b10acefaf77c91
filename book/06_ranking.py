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
# (ch-ranking)=
# # Ranking a target
#
# Ana's behaviors are now vectors that know of each other. A shop has ten places on a page and a thousand items to
# choose from. How do a history and an item become *one number* by which to sort, how close does the order of a trained
# model come to the best that anybody could do, and does the model look at the right behaviors?

# %% [markdown]
# ```{admonition} In this chapter
# **Question**: How do a history and an item become one number to sort by, and how close does that order come to the
# best possible?
#
# You will
# - let a target attend to the behaviors, by hand and in code, and turn the result into a score;
# - compute the point-wise and the pair-wise loss by hand;
# - score many candidates with one encoding, and follow the shapes through the whole model;
# - train the model and compare it with the best reachable AUC;
# - measure whether its attention finds the behaviors that truly caused what came next;
# - train it on a real log.
#
# **Runtime** (`fast`): about 30 seconds on one core. **Before this**: {ref}`ch-behaviors` for the metric,
# {ref}`ch-attention`. **Modules**: `atrank_lib.ranking`, `model`, `training`. **Paper**: equations 7 and 8.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("06_ranking", profile=profile, data=data, seed=seed)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import MUTED, direct_label, model_color, named_line
from atrank_lib import (
    ATRank,
    ATRankConfig,
    EventLog,
    Ranker,
    Recipe,
    TargetAttention,
    build_batch,
    evaluate,
    fit,
)
from atrank_lib.attention import SpaceAttention
from atrank_lib.batches import Candidates, Packing
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.fast import speed_up
from atrank_lib.interpret import explain
from atrank_lib.ranking import pairwise_loss, pointwise_loss
from atrank_lib.samples import prepare
from atrank_lib.variants import ATRankOptions, ResidualTarget, build
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.records import recorded_runs

# %% [markdown]
# ## A target looks at the behaviors
#
# Take the three behaviors of {ref}`ch-attention`, with one dimension for "outdoors" and one for "music", and two
# objects that we could show next: a sleeping bag and guitar strings. What we want to rank is called the *target*. It
# has no action and no time: whether it is browsed or bought, and when, is not known yet.

# %%
names = ["tent", "boots", "guitar"]
# [n, d], after self-attention
C = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
targets = ["sleeping bag", "strings"]
h = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # [c, d] two targets

# %% [markdown]
# The paper calls this step *vanilla attention*, eq. 7 of {cite:t}`zhou2018atrank`. The target's embedding $q_t$ goes
# through the map of its own group, then into each space, and asks there as a behavior would. A network with one hidden
# layer, as $\mathcal{F}_{self}$ is one, mixes what it reads in the spaces:
#
# $$
# \begin{aligned}
# h_t &= \mathcal{F}_{M_{g(t)}}(q_t), \\
# c_k &= \operatorname{softmax}\bigl(\mathcal{F}_{P_k}(h_t)\, W_k C^\top\bigr)\,\mathcal{F}_{Q_k}(C), \\
# e_u^t &= \mathcal{F}_{vanilla}\bigl(\operatorname{concat}^{(1)}(c_1, \dots, c_K)\bigr)
# \end{aligned}
# $$ (eq-target)
#
# Here $g(t)$ is the group of the target, and $e_u^t$ is the user *in view of* $t$: every target gets a user vector of
# its own. By hand, let all the matrices be the identity and leave $\mathcal{F}_{vanilla}$ out.

# %%
P = W = Q = torch.eye(2)
asks = torch.relu(h @ P.T)  # [c, s_k]
A = (asks @ W @ C.T).softmax(dim=1)  # [c, s_k] [s_k, d] [d, n] -> [c, n]
e = A @ torch.relu(C @ Q.T)  # [c, n] [n, s_k] -> [c, s_k]
pd.DataFrame(A.numpy(), index=targets, columns=names).round(3)

# %% [markdown]
# The sleeping bag scores the tent with $2$, the boots with $1$ and the guitar with $0$, so it takes most from the
# tent. The strings look at the guitar. What remains is a *ranking function* $f$ that compares a target with the user
# as seen by it; the paper takes the inner product:
#
# $$
# f(h_t, e_u^t) = h_t \cdot e_u^t
# $$

# %%
f = (h * e).sum(dim=1)  # [c]
pd.DataFrame(
    {"outdoors": e[:, 0], "music": e[:, 1], "score": f}, index=targets
).round(3)

# %% [markdown]
# The two scores are equal, as they should be: the three behaviors are as much about music as about the outdoors. Now
# the same with two spaces and all the networks, in the open and through the library:

# %%
torch.manual_seed(seed)
vanilla = TargetAttention(hidden=4, attention=SpaceAttention(4, [2, 2]))
C4, h4 = torch.randn(3, 4), torch.rand(2, 4)  # [n, d], [c, d]
read = []
for k in (slice(0, 2), slice(2, 4)):
    asks_k = vanilla.attention.queries.map(h4)[:, k]  # [c, s_k]
    A_k = (asks_k @ vanilla.attention.keys.weight[k] @ C4.T).softmax(dim=1)  # [c, n]
    read.append(A_k @ vanilla.attention.values(C4)[:, k])  # [c, s_k]
by_hand = vanilla.feed_forward(torch.cat(read, dim=1))  # [c, d]

# three behaviors of one user
packing = Packing.of(torch.zeros(3, dtype=torch.long), torch.arange(3), size=1)
keys, values = vanilla.read(C4)
queries = vanilla.attention.queries(h4[None])  # [1, c, d]
torch.testing.assert_close(
    vanilla(h4[None], queries, keys, values, packing)[0], by_hand
)

# %% [markdown]
# Two remarks on what the paper leaves open. Its symbols say that eq. 7 uses the same $P_k$, $W_k$, $Q_k$ as
# self-attention; the authors' code has others, and so has ours. And instead of an inner product, $f$ may be any network:
# `variants.MLP` reads $h_t$, $e_u^t$ and their product.
#
# ## Two losses
#
# A training sample is one target that the user did act on, the *positive*, and some that the user never touched, the
# *negatives*. Let the positive score 2, and two negatives 0 and 1.
#
# The **point-wise** loss, eq. 8 of the paper, asks of each candidate alone: was it acted on? With $y_t = 1$ for
# positives and $0$ for negatives, and $\sigma$ the logistic function, it is the cross entropy
#
# $$
# \begin{aligned}
# -\sum_{t,u} \Bigl[ & y_t \log \sigma\bigl(f(h_t, e_u^t)\bigr) \\
# & {} + (1 - y_t) \log\bigl(1 - \sigma(f(h_t, e_u^t))\bigr) \Bigr]
# \end{aligned}
# $$ (eq-loss)
#
# The **pair-wise** loss {cite:p}`rendle2009bpr` asks of each pair: does the positive come first? It is
# $-\log \sigma(f_+ - f_-)$, so only differences count. In code we take means in place of sums, so that a loss does not
# grow with the batch.

# %%
positive, negatives = 2.0, [0.0, 1.0]


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


point = -np.mean(
    [log_sigmoid(positive)] + [log_sigmoid(-negative) for negative in negatives]
)
pair = -np.mean([log_sigmoid(positive - negative) for negative in negatives])
scores = torch.tensor([[positive, *negatives]])  # [b, c], the positive in column 0
torch.testing.assert_close(
    pointwise_loss(scores).item(), float(point), rtol=1e-5, atol=0
)
torch.testing.assert_close(
    pairwise_loss(scores).item(), float(pair), rtol=1e-5, atol=0
)
# only differences count
torch.testing.assert_close(pairwise_loss(scores + 7), pairwise_loss(scores))
print(f"point-wise {point:.3f}, pair-wise {pair:.3f}")

# %% [markdown]
# The point-wise loss makes scores that can be read as probabilities; the pair-wise loss only makes an order. Our
# metric, the average user AUC {eq}`eq-auc`, asks for the order of pairs and nothing else. So we train pair-wise here.
#
# ## One encoding, many candidates
#
# In {eq}`eq-target` the expensive part, the behaviors $C$, does not depend on the target. So the model has two
# halves: `encode(histories)` reads a user once, `score(encoding, candidates)` may be called as often as we like.
# Here is the whole model on two samples of the simulated marketplace, with every shape. The shop is small this time,
# 300 items, so that a short training meets each of them often.

# %%
users, steps, runs = (4000, 850, 1) if profile == "fast" else (20_000, 12_000, 3)
market = simulate(MarketplaceConfig(users=users, items=300, seed=seed))
log = market.log
histories, parts = prepare(log, "validated", ["item"])
test = parts.test["item"]
options = ATRankOptions(
    embedding_size=16, hidden=64, spaces=4, linear_projection=True
)
torch.manual_seed(seed)
model = build(log.schema, histories.vocabularies, options).eval()
# [samples, 1 + 3]
negatives = fixed_candidates(histories, {"item": test}, negatives=3)["item"]
two = torch.tensor([0, 1])
batch = build_batch(histories, test[two], negatives[two])

# %% tags=["hide-input"]
with torch.no_grad():
    encoding = model.encode(batch)
    targets = model.targets(batch.candidates)
    result = model.score(encoding, batch.candidates)
    halves = [
        model.score(
            encoding,
            Candidates(
                "item", histories.catalogs["item"].take(part.flatten()), (2, 2)
            ),
        ).scores
        for part in (negatives[two, :2], negatives[two, 2:])
    ]
    # one encoding, scored in two calls
    torch.testing.assert_close(torch.cat(halves, dim=1), result.scores)
shapes = [
    (
        f"u ({name})",
        "embedded behaviors, time and action added",
        list(model.embedding(name)(group).shape),
        "n_i, b_i",
    )
    for name, group in batch.histories.items()
]
shapes += [
    (
        "S",
        "projected into one space, eq. 1",
        list(model.project(batch).shape),
        "n, d",
    ),
    ("C", "after self-attention, eq. 2-6", list(encoding.behaviors.shape), "n, d"),
    (
        "C W_k^T",
        "keys for the target, all spaces side by side",
        list(encoding.keys.shape),
        "n, d",
    ),
    ("q_t", "embedded targets", list(targets.q.shape), "b, c, b_i"),
    ("h_t", "projected targets", list(targets.h.shape), "b, c, d"),
    (
        "e_u^t",
        "the user in view of each target, eq. 7",
        list(result.users.shape),
        "b, c, d",
    ),
    ("f", "scores, eq. 8", list(result.scores.shape), "b, c"),
]
pd.DataFrame(shapes, columns=["symbol", "what", "shape", "means"]).set_index(
    "symbol"
)

# %% [markdown]
# Every feature has 16 numbers, so an item, with five features, has 80, and a query 16. From $S$ on all widths are equal.
# The hidden cell also asserts what we said: one encoding, scored in two calls, gives the same as all candidates at once.
#
# ## Training
#
# `fit` draws fresh negatives for every pass over the samples, takes the gradient of the loss, and after each pass
# measures AUC on the *validation* targets, each user's last but one. It keeps the best epoch. The test targets, each
# user's last, are not looked at before the end. On the way the learning rate falls to a tenth. The projection of eq. 1
# goes without its relu, as in the authors' code (`linear_projection`); leave the option out to see what the relu costs
# in so short a training.

# %%
recipe = Recipe(
    loss="pairwise",
    negatives=8,
    batch_size=128,
    learning_rate=3e-3,
    decay_rate=0.1,
    decay_steps=steps,
    epochs=2 if profile == "fast" else 4,
)
trained = []
for run in range(runs):
    torch.manual_seed(seed + run)
    model = speed_up(build(log.schema, histories.vocabularies, options))
    history = fit(
        model,
        histories,
        parts,
        recipe,
        seed=seed + run,
        max_steps=steps,
        progress=False,
    )
    trained.append(
        (model, history, evaluate(model, histories, {"item": test}, negatives=20))
    )
model, history, result = trained[0]
pd.DataFrame(history.epochs)[["epoch", "loss", "validation_auc"]].set_index(
    "epoch"
).round(4)

# %% [markdown]
# ## How good can it get?
#
# On a real log nobody knows. In the simulated marketplace we do, since we know the true probability of every object
# after every history: ranking by it is the best that any model can do, given the same history ({ref}`ch-behaviors`).
# The same formula with one ingredient taken away shows what each ingredient is worth: without any history only
# popularity is left; with the history of items alone, queries and coupons are lost; without time, everything seems
# equally old. (The numbers differ from those of {ref}`ch-behaviors`, for this shop is smaller.)

# %%
truth = market.truth
reference = {
    "popularity alone": truth.auc(log, "item", use_groups=()),
    "own group alone": truth.auc(log, "item", use_groups=("item",)),
    "all groups, no time": truth.auc(log, "item", use_time=False),
    "the best possible": truth.auc(log, "item"),
}
model_auc = float(
    np.mean([evaluation.targets["item"] for _, _, evaluation in trained])
)
best = reference["the best possible"]
popularity = reference["popularity alone"]

# %% tags=["remove-cell"]
claim(
    best_auc=(best, 0.85, 0.95),
    popularity_auc=(popularity, 0.6, 0.8),
    own_group_auc=(reference["own group alone"], 0.8, 0.9),
    model_auc=(model_auc, 0.78, best),
    distance=(best - model_auc, 0.0, 0.12),
    share_of_way=(100 * (model_auc - popularity) / (best - popularity), 50, 100),
)

# %% mystnb={"figure": {"caption": "The trained model among its references. The bars know the true probabilities and differ in what they may look at; on average nothing can reach further than the longest. Each dot is one training run, with a 95 % interval over users; the dashed line carries their mean up to the bars. Follow it: what the model has learned is worth more than popularity, and a step is missing.", "name": "fig-ranking-optimum"}, "image": {"alt": "Horizontal bars of AUC: popularity alone is shortest, then the own group alone and all groups without time, and the best possible is longest. The dot of the trained model lies between popularity and the best possible, nearer to the best."}} tags=["hide-input"]
ours = model_color("atrank")
fig, ax = plt.subplots(figsize=(7, 3))
ax.barh(range(4), reference.values(), color=MUTED, height=0.6)
for y, value in enumerate(reference.values()):
    ax.text(value + 0.004, y, f"{value:.3f}", va="center")
for run, (_, _, evaluation) in enumerate(trained):
    low, high = evaluation.ci95
    ax.plot([low, high], [4 + 0.15 * run] * 2, color=ours)
    ax.plot(evaluation.targets["item"], 4 + 0.15 * run, "o", color=ours)
ax.axvline(model_auc, color=ours, linestyle="--", linewidth=1.2)
ax.text(high + 0.006, 4, f"{model_auc:.3f}", va="center", color=ours)
ax.set_yticks(range(5), [*reference, "trained model"])
_ = ax.set(xlim=(0.5, 0.95), xlabel="average user AUC on items")
ax.invert_yaxis()

# %% [markdown]
# The model reaches {glue:text}`model_auc:.3f`. Popularity alone gives {glue:text}`popularity_auc:.3f` and the
# best possible is {glue:text}`best_auc:.3f`: {glue:text}`share_of_way:.0f` percent of the way, with
# {glue:text}`distance:.3f` left to go. The formula without queries and coupons gets {glue:text}`own_group_auc:.3f`. (It
# is no bound for readers of items: weighted for items alone it would rank better. Only the longest bar is a bound.) There
# is still much in the three groups that the model has not learned. `profile = "full"` gives it more users and steps.
#
# ## What does the target look at?
#
# When a behavior in the marketplace was caused by an earlier one, the simulator remembers by which. So we can ask a
# hard question: among all behaviors in the history, does the target pay most attention to the *cause*? We take the
# test targets that have one, and the mean of the target's attention over spaces. For each target, the *detector AUC*
# is the probability that the true cause gets more attention than another behavior of the same history. One half is
# guessing.
#
# To judge the number we need to know what is easy and what is possible. Easy: the more recent, the more suspect; or:
# an item of the same category is the suspect; or any behavior that shares a visible category, brand or shop; or the most
# recent of those. Possible:
# the true posterior probability of having been the cause, which knows everything about the simulator.


# %% tags=["hide-input"]
# the true causes, and whom each detector suspects
def true_causes(samples):
    """For samples with a cause: the sample's number, and the cause as (group, row of
    the log)."""
    rows = histories.groups["item"].rows[samples.positions].numpy()
    table = truth.causes["item"].iloc[rows]
    number = {name: n for n, name in enumerate(log.schema.groups)}
    known = np.flatnonzero((table["cause_group"] != "").to_numpy())
    return (
        known,
        table["cause_group"].astype(str).map(number).to_numpy()[known],
        table["cause_row"].to_numpy()[known],
    )


def features_of(group, rows):
    """Category, brand and shop that the log shows for some events of a group; None
    where it shows none."""
    objects = log.objects[group].set_index("object_id")
    ids = log.events[group]["object_id"].iloc[rows]
    return [
        objects[f].loc[ids].to_list() if f in objects else [None] * len(rows)
        for f in ("category_id", "brand_id", "shop_id")
    ]


limit = 600 if profile == "fast" else 4000
known, cause_group, cause_row = (part[:limit] for part in true_causes(test))
samples = test[torch.from_numpy(known)]
posterior = truth.posterior(
    log, "item", histories.groups["item"].rows[samples.positions].numpy()
)
torch.manual_seed(seed)
# with the weights that training began with
before = build(log.schema, histories.vocabularies, options)

# %% tags=["remove-cell"]
claim(
    share_background=(1 - len(true_causes(test)[0]) / len(test), 0.02, 0.4),
)

# %% tags=["hide-input"]
groups = list(log.schema.groups)


def suspects(chunk):
    """One row for each (sample, earlier behavior), with every detector's
    suspicion."""
    part = samples[torch.arange(chunk.start, chunk.stop)]
    batch = build_batch(histories, part, part.objects[:, None])
    seen = explain(model.eval(), batch)
    sample, place = (seen.groups >= 0).nonzero(as_tuple=True)
    frame = pd.DataFrame(
        {
            "sample": sample.numpy() + chunk.start,
            "group": seen.groups[sample, place].numpy(),
        }
    )
    frame["attention"] = (
        seen.target_attention[:, :, 0].mean(dim=1)[sample, place].numpy()
    )
    frame["untrained"] = (
        explain(before.eval(), batch)
        .target_attention[:, :, 0]
        .mean(dim=1)[sample, place]
        .numpy()
    )
    position = seen.positions[sample, place]
    for number, name in enumerate(groups):
        mine = (frame["group"] == number).to_numpy(copy=True)
        history, at = histories.groups[name], position[torch.from_numpy(mine)]
        frame.loc[mine, "row"] = history.rows[at].numpy()
        frame.loc[mine, "recent"] = history.timestamps[at].numpy().astype(float)
        theirs = features_of(name, history.rows[at].numpy())
        owner = frame["sample"].to_numpy()[mine]
        target = features_of(
            "item", histories.groups["item"].rows[samples.positions].numpy()[owner]
        )
        equal = np.array(
            [
                [a == b for a, b in zip(x, y, strict=True)]
                for x, y in zip(theirs, target, strict=True)
            ]
        )
        frame.loc[mine, "category"] = equal[0].astype(float)
        frame.loc[mine, "any feature"] = equal.any(axis=0).astype(float)
    return frame


frame = pd.concat(
    [
        suspects(range(at, min(at + 250, len(known))))
        for at in range(0, len(known), 250)
    ]
)
true = pd.DataFrame(
    {
        "sample": np.repeat(np.arange(len(known)), np.diff(posterior.offsets)),
        "group": posterior.group,
        "row": posterior.row,
        "posterior": posterior.probability,
    }
)
frame = frame.merge(
    true[true["group"] >= 0],
    on=["sample", "group", "row"],
    how="left",
    validate="one_to_one",
)
assert frame["posterior"].notna().all()
owner = frame["sample"].to_numpy()
frame["cause"] = (frame["group"] == cause_group[owner]) & (
    frame["row"] == cause_row[owner]
)

# %% [markdown]
# For each target, the table holds one row for each earlier behavior, with every detector's suspicion. The AUC of a
# target compares its cause with all others; then we average over targets.


# %%
def detector_auc(frame, column):
    cause = frame[frame["cause"]].set_index("sample")[column]
    others = frame[~frame["cause"]]
    gap = cause.loc[others["sample"]].to_numpy() - others[column].to_numpy()
    wins = pd.Series((gap > 0) + 0.5 * (gap == 0), index=others["sample"].to_numpy())
    return wins.groupby(level=0).mean()  # one value a target


# what shares a feature before what shares none, the most recent first
frame["both"] = frame["any feature"] * 1e12 + frame["recent"]
detectors = {
    "untrained attention": "untrained",
    "the same category": "category",
    "a shared feature": "any feature",
    "the most recent": "recent",
    "both: shared first, then recent": "both",
    "trained attention": "attention",
    "the true posterior": "posterior",
}
found = pd.DataFrame(
    {name: detector_auc(frame, column) for name, column in detectors.items()}
)
found.agg(["mean", "sem"]).T.round(3)

# %% tags=["remove-cell"]
mean = found.mean()
both = mean["both: shared first, then recent"]

claim(
    detector_attention=(mean["trained attention"], 0.84, 0.95),
    detector_untrained=(mean["untrained attention"], 0.4, 0.62),
    detector_recent=(mean["the most recent"], 0.8, 0.87),
    detector_category=(mean["the same category"], 0.58, 0.66),
    detector_feature=(mean["a shared feature"], 0.79, 0.86),
    detector_posterior=(mean["the true posterior"], 0.96, 1.0),
    detector_both=(both, 0.9, 0.955),
    detector_over_both=(mean["trained attention"] - both, -0.1, 0.02),
)

# %% mystnb={"figure": {"caption": "Does attention find the cause? The probability that the behavior which truly caused the target gets more suspicion than another behavior of the same history. Lines are 95 % intervals over targets. Find attention before and after training, and what is still missing to the true posterior.", "name": "fig-ranking-causes"}, "image": {"alt": "Dots in seven rows, one for each detector: untrained attention at one half, the simple rules to the right of it, trained attention and the rule that combines two of them further right, the true posterior far right."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
order = found.mean().sort_values()
named_line(ax, 0.5, "guessing", at=0.95, side="right")
for y, (name, value) in enumerate(order.items()):
    color = model_color("atrank") if "attention" in name else MUTED
    ax.plot(
        [value - 1.96 * found[name].sem(), value + 1.96 * found[name].sem()],
        [y, y],
        color=color,
    )
    ax.plot(value, y, "o", color=color)
    ax.text(
        value + 1.96 * found[name].sem() + 0.012,
        y,
        f"{value:.3f}",
        va="center",
        color=color,
    )
ax.set_yticks(range(len(order)), order.index)
_ = ax.set(xlim=(0.4, 1.05), xlabel="detector AUC")

# %% [markdown]
# Before training, attention knows next to nothing ({glue:text}`detector_untrained:.3f`). The simple rules are
# strong: the most recent behavior gets {glue:text}`detector_recent:.3f`, since influence decays, and a shared
# feature {glue:text}`detector_feature:.3f`, since causes work through features. Trained attention gets
# {glue:text}`detector_attention:.3f`. Nobody told it about causes; it only learned to rank. It does better than
# either rule alone. But the two together, what shares a feature first and of that the most recent, get
# {glue:text}`detector_both:.3f`, and attention minus that is {glue:text}`detector_over_both:+.3f`: it has learned roughly
# what this one line says. And it stays well below {glue:text}`detector_posterior:.3f`, what is possible with the same
# information.
#
# So attention is *evidence* about causes, no better than a good rule of thumb. The detector AUC judges the order of suspects within a
# history, not whether there is a cause at all: a share of {glue:text}`share_background:.2f` of the test targets
# has none ({ref}`ch-interpret`).
#
# ## What would you show?
#
# `Ranker` prepares all items once; then `top` encodes one user's history and ranks all items that the user has not touched. Beside each item stands
# how often its category, brand and shop occur in the user's history of items.

# %%
user = str(histories.user_ids[0])
mine = (
    log.events["item"]
    .query("user_id == @user")
    .merge(log.objects["item"], on="object_id")
)
ranker = Ranker(model, histories, "item")
top = ranker.top(user, 8).merge(log.objects["item"], on="object_id")
for feature in ("category_id", "brand_id", "shop_id"):
    top[f"{feature.removesuffix('_id')} seen"] = (
        top[feature].map(mine[feature].value_counts()).fillna(0).astype(int)
    )
top.drop(columns=["price"]).round(2).set_index("rank")

# %% tags=["remove-cell"]
known_categories, all_known = [], []
for user in map(str, histories.user_ids[:100]):
    mine = (
        log.events["item"]
        .query("user_id == @user")
        .merge(log.objects["item"], on="object_id")
    )
    shown = ranker.top(user, 8).merge(log.objects["item"], on="object_id")
    known_categories.append(shown["category_id"].isin(mine["category_id"]).mean())
    all_known.append(
        log.objects["item"]["category_id"].isin(mine["category_id"]).mean()
    )

claim(
    top_category_seen=(np.mean(known_categories), 0.6),
    all_category_seen=(np.mean(all_known), None, 0.6),
)

# %% [markdown]
# No rule told the model to stay with categories that the user knows. Over a hundred users, a share of
# {glue:text}`top_category_seen:.2f` of the eight items shown has a category that the user has touched before, against
# {glue:text}`all_category_seen:.2f` of all items.

# %% [markdown]
# ## A real log
#
# Simulated users are tidy. What about real ones? If this chapter is given the folder of an event log (the parameter
# `data`; see {ref}`ch-behaviors` for the format), it trains on that log here, on the group with the most behaviors
# and with a bounded number of steps. Without one, it shows a *recorded* run on Amazon Sports, one of the review data
# sets in the family that the paper uses: made beforehand at full size, and read here from a file.


# %% tags=["hide-input"]
def train_on(folder):
    """A bounded training run on the reader's own log: settings and test AUC."""
    log = EventLog.read(folder)
    group = max(log.events, key=lambda name: len(log.events[name]))
    histories, parts = prepare(log, "validated", [group])
    own = Recipe(
        batch_size=128,
        negatives=4,
        learning_rate=1e-3,
        loss="pairwise",
        max_length=50,
    )
    torch.manual_seed(seed)
    model = speed_up(
        ATRank(
            log.schema,
            histories.vocabularies,
            ATRankConfig(embedding_size=16, hidden=64, spaces=4),
        )
    )
    for samples in (
        parts.validation,
        parts.test,
    ):  # some thousand users are enough for one decimal more
        chosen = torch.randperm(
            len(samples[group]), generator=torch.Generator().manual_seed(seed)
        )[:4000]
        samples[group] = samples[group][chosen.sort().values]
    fit(
        model,
        histories,
        parts,
        own,
        seed=seed,
        max_steps=400 if profile == "fast" else 4000,
        progress=False,
    )
    found = evaluate(model, histories, parts.test, negatives=20)
    low, high = found.ci95
    return pd.DataFrame(
        {
            "log": [log.schema.name],
            "target": [group],
            "test AUC": [found.average_user_auc],
            "users": [found.users],
        }
        | {"95 % from": [low], "to": [high], "how": ["trained here"]}
    )


runs_on_sports = [] if data else recorded_runs("amazon_sports")
if data:
    shown = train_on(data)
elif runs_on_sports:
    shown = pd.DataFrame(
        {
            "log": run["data_name"],
            "seed": run["seed"],
            "test AUC": run["average_user_auc"],
            "95 % from": run["ci95"][0],
            "to": run["ci95"][1],
            "users": run["users"],
            "negatives": run["negatives"],
            "how": "recorded run",
        }
        for run in runs_on_sports
    )
else:
    print(
        "No recorded run is at hand: the folder results/amazon_sports is part "
        "of the book's repository."
    )
    print(
        "Clone it, or make your own: python -m data_scripts.amazon --help, "
        "then atrank train --help."
    )
    shown = pd.DataFrame(columns=["log", "seed", "test AUC", "how"])
shown.round(4)

# %% tags=["remove-cell"]
if len(shown):
    name, low = ("own_log_auc", None) if data else ("recorded_sports_auc", 0.83)
    claim(name, shown["test AUC"].mean(), low)

# %% mystnb={"figure": {"caption": "Learning curves: validation AUC after each epoch. With dots: the run on the simulated marketplace above. Without: recorded runs on Amazon Sports, one line for each seed; the diamond is the epoch whose weights are kept. See how soon the lines become flat: the first epochs gain most, and the seeds stay closer together than two epochs.", "name": "fig-ranking-curves"}, "image": {"alt": "Validation AUC against epochs. The curves rise fast in the first epochs and then flatten."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.2))
curve = [epoch["validation_auc"] for epoch in history.epochs]
ours = model_color("atrank")
ax.plot(range(1, len(curve) + 1), curve, "o-", color=ours)
direct_label(ax, len(curve), curve[-1], "simulated marketplace", ours)
for run in runs_on_sports:
    curve = [epoch["validation_auc"] for epoch in run["epochs"]]
    ax.plot(range(1, len(curve) + 1), curve, color=MUTED, linewidth=1.4)
    kept = int(np.argmax(curve))
    ax.plot(kept + 1, curve[kept], "D", color=MUTED, markersize=6)
if runs_on_sports:
    direct_label(ax, len(curve), curve[-1], "Amazon Sports,\na line a seed", MUTED)
ax.margins(x=0.15)
ax.xaxis.get_major_locator().set_params(integer=True)
_ = ax.set(xlabel="epoch", ylabel="validation AUC")

# %% tags=["hide-input"]
provenance = [
    {
        "seed": run["seed"],
        "data fingerprint": run["data_fingerprint"],
        "protocol": run["protocol"],
        "loss": run["recipe"]["loss"],
        "batch": run["recipe"]["batch_size"],
        "hidden": run["options"]["hidden"],
        "commit": str(run["commit"])[:10],
        "torch": run["versions"].get("torch", ""),
        "hardware": run["hardware"],
    }
    for run in runs_on_sports
]
pd.DataFrame(provenance)

# %% [markdown]
# The second table says how recorded runs were made. In the recorded runs the test AUC lies below the validation AUC of {numref}`fig-ranking-curves`. Validation
# chose the epoch, and the test target comes after the validation target, so one behavior further from what was trained.
# On a real log there is no best reachable AUC to compare with. What can be compared is other models, under
# the same protocol and with the same negatives; and the spread over seeds and the interval over users say how much of
# a difference is worth talking about.
#
# ## What we learned
#
# A target asks the behaviors, gets a user vector of its own, and an inner product turns the two into a score. A loss
# that compares pairs trains what the metric measures. How far the model is from the optimum
# is a number, not a guess. Attention has learned to look at the right
# behaviors, within limits that we measured as well.
#
# Remove a behavior and see the rank of the target move in {ref}`the live model <live-tour-6>`.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: the pair-wise loss
# :label: ex-pairwise
# ```
# Write `pairwise(scores)`: `scores` is `[b, c]`, the positives are in column 0, all other columns are negatives.
# Return the mean of $-\log \sigma(f_+ - f_-)$ over all pairs of a positive and a negative of the same sample.


# %%
def pairwise(scores): ...  # your turn


check.ranking.pairwise(pairwise)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-pairwise
# :class: dropdown
# ```


# %%
def pairwise(scores):
    gaps = scores[:, :1] - scores[:, 1:]  # [b, c - 1]
    return -torch.nn.functional.logsigmoid(gaps).mean()


verdict = check.ranking.pairwise(pairwise)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What a target reads
# :label: ex-read
# ```
# Write `read(targets, keys, values, mask)`: what each of $c$ targets takes from $t$ places, of which those with a
# `mask` of True hold a behavior. `targets` is `[c, s]`, `keys` and `values` are `[t, s]`; the result is `[c, s]`.


# %%
def read(targets, keys, values, mask): ...  # your turn


check.ranking.read(read)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-read
# :class: dropdown
# ```


# %%
def read(targets, keys, values, mask):
    scores = (targets @ keys.T).masked_fill(~mask, float("-inf"))  # [c, t]
    return scores.softmax(dim=1) @ values  # [c, s]


verdict = check.ranking.read(read)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: the target in its own score
# :label: ex-target-residual
# ```
# The authors' code adds the target to the user vector and normalizes: $e_u^t = \operatorname{LayerNorm}(h_t +
# \mathcal{F}_{vanilla}(\cdot))$, the variant `ResidualTarget`. Then $h_t \cdot e_u^t$ contains $h_t$ twice. Think
# of a user about whom nothing is known, so that $\mathcal{F}_{vanilla}$ gives the same vector for every target. How
# are items ranked for this user without the residual, and how with it? Check your answer on an untrained
# `TargetAttention(..., residual=True)`, with random targets of different length and a layout without any behavior.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-target-residual
# :class: dropdown
# ```
# Without history, $e_u$ is the same for every target, and the score is one fixed direction: $h_t \cdot e_u$. With the
# residual, the score is roughly $h_t \cdot h_t / \lVert h_t \rVert$ times a constant: items are ranked by their own
# length, before anything is learned. Training can use this length as a popularity, for users with a history too. So
# such a model can look good without reading the history at all.

# %%
torch.manual_seed(seed)
lengths = torch.rand(1, 50, 1) * 3
# 50 targets of different length
h_random = torch.relu(torch.randn(1, 50, 64)) * lengths
nobody = Packing.of(*torch.zeros(2, 0, dtype=torch.long), size=1)
for kind in (TargetAttention, ResidualTarget):
    vanilla = kind(64, SpaceAttention(64, [16] * 4))
    with torch.no_grad():
        queries = vanilla.attention.queries(h_random)
        e = vanilla(h_random, queries, *vanilla.read(torch.zeros(0, 64)), nobody)
    correlation = np.corrcoef((h_random * e).sum(-1)[0], h_random.norm(dim=-1)[0])[
        0, 1
    ]
    print(f"{kind.__name__}: correlation of score and length {correlation:+.2f}")
assert correlation > 0.9

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise} Open-ended: choose f
# :label: ex-choose-f
# Train with `ranking="mlp"` instead of the inner product, from three seeds each. Is the difference larger than the
# spread over seeds? Then think of a shop with ten million items. Which of the two would let you find the best ten
# without scoring them all? (Careful: does $e_u^t$ depend on $t$?)
# ```
#
# ```{solution} ex-choose-f
# :class: dropdown
# Put the difference of the two means beside the spread of the seeds within each. Three seeds can show a large difference;
# for a small one they are too few ({ref}`ch-honest`). With an inner product and a user vector that does *not* depend on
# the target, the best items are the nearest neighbors of one vector, and an index finds them without looking at all of
# them. But in ATRank $e_u^t$ depends on the
# target, through the attention of eq. 7, so even the inner product has to be computed item by item. Therefore such
# models are used to *rank* some hundreds of candidates that a simpler model has retrieved.
# ```

# %% [markdown]
# ## Summary
#
# - **Target attention** {eq}`eq-target`: the target asks, the behaviors answer, $e_u^t$ is the user in its view;
#   $f(h_t, e_u^t)$ is the score.
# - **Losses**: point-wise {eq}`eq-loss` for probabilities, pair-wise for the order.
# - **Encode once, score often**: histories do not depend on candidates.
# - **Training**: `fit(model, histories, split, recipe)`; validation chooses the epoch, the test set is read once.
# - **Against the optimum**: {glue:text}`model_auc:.3f` of {glue:text}`best_auc:.3f`.
# - **Attention as a detector**: {glue:text}`detector_attention:.3f`, against
#   {glue:text}`detector_untrained:.3f` before training and {glue:text}`detector_posterior:.3f` at best.
# - **A real log**: the same call, with `data` set to its folder.
#
# **Where next?** This completes the model. {ref}`ch-competitors` sets it against others, {ref}`ch-multitask` trains it on
# several tasks, {ref}`ch-interpret` looks inside. Every number of these chapters, with the range that it was checked
# against, stands in the {doc}`results ledger <ledger>`.
