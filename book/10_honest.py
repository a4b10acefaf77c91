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
# (ch-honest)=
# # Evaluating honestly
#
# Two teams have built recommenders for the same shop. One is proud of its AUC, the other of its recall at ten. Each is
# right, and each would lose on the other's number. Which one should the shop take? A third team comes with an AUC that
# is half a percent higher. Is that better, or luck? Every number so far came from a few choices: how many negatives,
# which ones, whose future was visible, what happens at a tie. This chapter turns each of them and watches the number
# move.
#
# ```{admonition} In this chapter
# **Question**: How much of a model's lead comes from the choice of negatives, from a look into the future, and from
# luck?
#
# You will
#
# - say what one sampled negative estimates, and how large its noise is;
# - compute recall and NDCG against all objects, and see sampled versions of them put models in another order;
# - draw negatives by popularity instead of uniformly;
# - measure what choosing on the test set is worth to someone who wants to look good;
# - tell the spread over seeds from the interval over users;
# - say what leaks from the future, and what a tie is worth.
#
# **Runtime** (`fast`): about 20 seconds on one core. **Before this**: {ref}`ch-behaviors` for samples and the metric,
# {ref}`ch-ranking` for training. **Modules**: `atrank_lib.evaluation`, `negatives`.
# ```

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("10_honest", profile=profile, seed=seed)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import stats

from atrank_book import check
from atrank_book.figures import INK, MUTED, direct_label, plain_log_ticks
from atrank_book.play import Play
from atrank_lib import EventLog, Recipe, Schema, average_user_auc, evaluate, fit
from atrank_lib.competitors.floors import last_category, popularity
from atrank_lib.evaluation import fixed_candidates, user_auc
from atrank_lib.fast import speed_up
from atrank_lib.samples import prepare
from atrank_lib.variants import ATRankOptions, build
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.crossed import crossed_difference
from experiments.full_ranking import ndcg_at, recall_at, score_all
from experiments.own_log import answer
from experiments.records import recorded_runs, unpack

# %% [markdown]
# ## One negative is a coin
#
# Take one user, one *positive* (what the user did next) and five objects that the user never touched, the
# *negatives*. A model gives the six scores below. The user's AUC is the share of negatives that lie below the
# positive ({eq}`eq-auc`).

# %%
positive, negatives = 0.7, [0.1, 0.9, 0.3, 0.8, 0.2]
below = np.mean([positive > n for n in negatives])
one_user = average_user_auc(["ana"] * 6, [positive, *negatives], [1, 0, 0, 0, 0, 0])
assert float(one_user) == below
print(
    f"AUC {below:.1f}; with one negative: "
    f"{[int(positive > n) for n in negatives]}, each equally likely"
)

# %% [markdown]
# The paper, and the tables of {ref}`ch-competitors`, draw *one* negative for each test user. Then a user's AUC is 0 or
# 1: a coin that shows 1 with probability 0.6 for this user. The mean over users still estimates the same thing as all
# negatives would. It is only noisier. How much? Let us train a small model on the simulated marketplace and draw the
# negatives again and again.

# %%
users, items = (1500, 600) if profile == "fast" else (10_000, 3_000)
market = simulate(MarketplaceConfig(users=users, items=items, seed=seed))
log = market.log
histories, parts = prepare(log, "validated", ["item"])
test, train = parts.test["item"], parts.train["item"]
torch.manual_seed(seed)
options = ATRankOptions(
    embedding_size=16, hidden=32, spaces=4, linear_projection=True, id_dropout=0.5
)
model = speed_up(build(log.schema, histories.vocabularies, options))
recipe = Recipe(
    loss="pairwise",
    negatives=8,
    batch_size=128,
    learning_rate=5e-3,
    epochs=2,
    average=0.98,
)
_ = fit(model, histories, parts, recipe, seed=seed, progress=False)

# %%
counts = [1, 4, 16, 64]
spread = {}
for count in counts:
    draws = [
        evaluate(model, histories, {"item": test}, negatives=count, seed=s)
        for s in range(6)
    ]
    aucs = [draw.average_user_auc for draw in draws]
    low, high = draws[0].ci95
    spread[count] = {
        "mean AUC": np.mean(aucs),
        "sd over draws": np.std(aucs, ddof=1),
        "interval over users": high - low,
    }
spread = pd.DataFrame(spread).T.rename_axis("negatives")
spread.round(4)

# %% tags=["remove-cell"]
one_sd = spread.loc[1, "sd over draws"]
many_sd = spread.loc[64, "sd over draws"]

claim(
    mean_shift=(
        abs(spread.loc[1, "mean AUC"] - spread.loc[64, "mean AUC"]),
        None,
        0.02,
    ),
    sd_one_negative=(one_sd, 0.003, 0.025),
    sd_64_negatives=(many_sd, 0.0, 0.004),
    sd_ratio=(one_sd / many_sd, 2),
    width_one_negative=(spread.loc[1, "interval over users"], 0.02, 0.07),
    width_64_negatives=(spread.loc[64, "interval over users"], 0.01, 0.05),
)

# %% [markdown]
# The means agree to {glue:text}`mean_shift:.3f`: one negative is not *biased*. They jump by
# {glue:text}`sd_one_negative:.4f` from draw to draw with one negative, and by
# {glue:text}`sd_64_negatives:.4f` with 64. The interval over users shrinks less, because users differ. So fix the
# negatives by a seed, so that all models meet the same ones, and do not compare your number with one computed on other
# draws, unless the difference is much larger than this noise.
#
# ## All objects: recall and NDCG
#
# A shop shows ten objects, not two. So let us rank *all* objects that the user has not touched, and ask where the
# positive stands. *Recall at k* is the share of users whose positive is among the first $k$. *NDCG at k*
# {cite:p}`jarvelin2002cumulated` also asks how high it stands: a hit at rank $r \le k$ counts $1/\log_2(1 + r)$, a
# miss 0. We compare the model with two scorers that learn nothing, and with two that know the simulator's true
# probabilities: one sees the history of items alone, the other everything.

# %%
positions = histories.groups["item"].rows[test.positions].numpy()
everything = np.arange(len(histories.catalogs["item"]))
all_rows = torch.from_numpy(everything).expand(len(test), -1)
# [s, 1 + objects]; what the user touched is minus infinity
ours = score_all(model, histories, test)


def against_all(scores):
    """Scores of all objects, [s, objects], in the form of `score_all`."""
    own = scores.gather(1, test.objects[:, None])
    return torch.cat(
        [own, scores.masked_fill(torch.isinf(ours[:, 1:]), float("-inf"))], dim=1
    )


# %% [markdown]
# What a user has touched gets minus infinity, in our scores and in everybody's. The five scorers, one row a sample and
# the positive in column 0:

# %%
scorers = {
    "popularity": against_all(popularity(histories, test, all_rows, train)),
    "last category": against_all(last_category(histories, test, all_rows, train)),
    "ATRank": ours,
    "truth, items alone": against_all(
        torch.from_numpy(
            market.truth.scores(log, "item", positions, everything, ["item"])
        )
    ),
    "truth": against_all(
        torch.from_numpy(market.truth.scores(log, "item", positions, everything))
    ),
}

# %% [markdown]
# The AUC against all objects is the share of them that lie below the positive; recall and NDCG come from the library.


# %%
def auc_of_all(scores):
    others = scores[:, 1:]
    real = ~torch.isinf(others)
    wins = (others < scores[:, :1]).double() + 0.5 * (others == scores[:, :1])
    return (wins * real).sum(1) / real.sum(1)


table = pd.DataFrame(
    {
        name: {
            "AUC": auc_of_all(scores).mean().item(),
            "recall at 10": recall_at(scores, 10).mean().item(),
            "NDCG at 10": ndcg_at(scores, 10).mean().item(),
        }
        for name, scores in scorers.items()
    }
).T
table.round(3)

# %% tags=["remove-cell"]
for name in ("popularity", "last category", "ATRank", "truth"):
    claim(
        f"auc_{name.replace(' ', '_').lower()}",
        table.loc[name, "AUC"],
        low=0.5,
        high=1.0,
    )
claim(
    recall_atrank=(table.loc["ATRank", "recall at 10"], 0.05, 0.35),
    recall_truth=(table.loc["truth", "recall at 10"], 0.2, 0.5),
)

# %% [markdown]
# An AUC of {glue:text}`auc_truth:.3f` sounds like a solved problem. Even so, the scorer that knows the true
# probabilities puts what comes next among its first ten for only {glue:text}`recall_truth:.2f` of the users. AUC
# looks at the whole list, recall at its first ten, and most of the list is easy.
#
# ## Sampled metrics can turn the order around
#
# Ranking all objects is costly, so many papers draw 100 negatives and report recall at ten among the 101
# {cite:p}`krichene2020sampled`. That is *not* the recall that a user sees, and it does not even keep the order of
# models. Think of two. The *specialist* knows three in ten users well and puts their object among the first ten; for
# the others it guesses. The *all-rounder* never hits exactly, but always puts the object among the first fifth.
#
# If a positive has rank $r$ among $N$ objects, each drawn negative is above it with probability $(r - 1)/(N - 1)$. So
# with $m$ negatives, the positive is among the first $k$ if fewer than $k$ of $m$ draws, each with that probability,
# land above it. No model is needed, only ranks and draws:

# %%
N, m_values = 10_000, [9, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 9_999]
rng = np.random.default_rng(seed)
ranks = {
    "specialist": np.where(
        rng.random(4_000) < 0.3,
        rng.integers(1, 11, 4_000),
        rng.integers(1, N + 1, 4_000),
    ),
    "all-rounder": rng.integers(11, N // 5, 4_000),
}


def expected_recall(rank, m, k=10):
    """The chance that fewer than k of m drawn negatives are above each rank."""
    if m == N - 1:
        return (rank <= k).mean()  # all of them are drawn, each once
    above = np.random.default_rng(0).binomial(
        m, (rank - 1) / (N - 1), (40, len(rank))
    )
    return (above < k).mean()


curves = {
    name: [expected_recall(rank, m) for m in m_values]
    for name, rank in ranks.items()
}
auc = {name: 1 - ((rank - 1) / (N - 1)).mean() for name, rank in ranks.items()}

# %% tags=["remove-cell"]
sampled_gap = curves["all-rounder"][3] - curves["specialist"][3]

claim(
    all_rounder_lead_sampled=(sampled_gap, 0.05),
    specialist_lead_all=(curves["specialist"][-1] - curves["all-rounder"][-1], 0.2),
    specialist_auc=(auc["specialist"], 0.6, 0.7),
    all_rounder_auc=(auc["all-rounder"], 0.85, 0.95),
)

# %% mystnb={"figure": {"caption": "Recall at ten, as a function of how many negatives are drawn. Find where the lines cross: with few negatives the all-rounder leads; against all objects, which is what a user sees, it never hits. Where the lines cross depends on the two models alone.", "name": "fig-honest-sampled"}, "image": {"alt": "Two falling lines over the number of drawn negatives on a logarithmic axis. The all-rounder starts far above the specialist and falls to zero; the specialist levels off at three tenths. They cross between 100 and 200 negatives."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.6, 3.4))
for name, color in (
    ("specialist", INK),
    ("all-rounder", MUTED),
):
    ax.plot(m_values, curves[name], "o-", color=color)
    direct_label(ax, m_values[-1], curves[name][-1], name, color)
ax.axvline(100, color=INK, linestyle="--", linewidth=1)
ax.text(104, 0.9, "100 negatives", color=INK)
_ = ax.set(
    xscale="log", xlabel="negatives drawn", ylabel="recall at 10", ylim=(-0.03, 1.03)
)
plain_log_ticks(ax.xaxis)

# %% tags=["remove-input"]
models = [{"name": name, "recall": curve} for name, curve in curves.items()]
Play("negatives", {"drawn": m_values, "models": models}, figure="fig-honest-sampled")

# %% [markdown]
# At 100 negatives the all-rounder leads by {glue:text}`all_rounder_lead_sampled:.2f`; against all objects the
# specialist leads by {glue:text}`specialist_lead_all:.2f`. With small samples recall at $k$ turns into something
# like AUC, and there the all-rounder's {glue:text}`all_rounder_auc:.2f` beats the specialist's
# {glue:text}`specialist_auc:.2f`. Neither model is "better": the one fills a page of ten, the other a mailing to
# the most interested fifth. But a metric's name must not hide which of the two it measures.
#
# Does it happen to real scorers too? Here are the five from above, with their place in the order of each metric.


# %%
def sampled(scores, count, s=0):
    """The positive and `count` drawn candidates out of all that the user never
    touched."""
    free = (~torch.isinf(scores[:, 1:])).float()
    drawn = torch.multinomial(
        free, count, replacement=False, generator=torch.Generator().manual_seed(s)
    )
    return torch.cat([scores[:, :1], scores[:, 1:].gather(1, drawn)], dim=1)


compared = pd.DataFrame(
    {
        name: {
            "AUC": auc_of_all(scores).mean().item(),
            "recall at 10 of 101": np.mean(
                [
                    recall_at(sampled(scores, 100, s), 10).mean().item()
                    for s in range(5)
                ]
            ),
            "recall at 10 of all": recall_at(scores, 10).mean().item(),
            "recall at 1 of all": recall_at(scores, 1).mean().item(),
        }
        for name, scores in scorers.items()
    }
).T
places = compared.rank(ascending=False).astype(int)
moved = int((places.max(axis=1) != places.min(axis=1)).sum())
pd.concat({"value": compared.round(3), "place": places}, axis=1)

# %% tags=["remove-cell"]
claim(scorers_that_change_place=(moved, 0, 5))

# %% [markdown]
# The number of scorers whose place depends on the metric here: {glue:text}`scorers_that_change_place`. So where
# this book says that one model is better than another, it says so of AUC. Its recorded tables use one negative, as the
# paper does; the small experiments draw more, which estimates the same with less noise.
#
# ## Which negatives?
#
# Uniform negatives are mostly objects that hardly anybody wants. Just knowing what is popular beats them. If negatives
# are drawn in proportion to popularity, that knowledge is worth nothing, and only what is personal counts.

# %%
kinds = {}
for kind in ("uniform", "popularity"):
    candidates = fixed_candidates(
        histories, {"item": test}, 20, seed, kind, {"item": train}
    )["item"]
    kinds[kind] = {
        "popularity": float(
            user_auc(test, popularity(histories, test, candidates, train))
        ),
        "last category": float(
            user_auc(test, last_category(histories, test, candidates, train))
        ),
        "ATRank": float(
            evaluate(
                model,
                histories,
                {"item": test},
                negatives=20,
                seed=seed,
                kind=kind,
                training={"item": train},
            ).average_user_auc
        ),
        "truth": float(
            user_auc(
                test,
                torch.from_numpy(
                    market.truth.scores(log, "item", positions, candidates.numpy())
                ),
            )
        ),
    }
kinds = pd.DataFrame(kinds)
kinds.round(3)

# %% tags=["remove-cell"]
claim(
    uniform_popularity=(kinds.loc["popularity", "uniform"], 0.6, 0.8),
    popular_popularity=(kinds.loc["popularity", "popularity"], 0.4, 0.6),
    popular_atrank=(kinds.loc["ATRank", "popularity"], 0.55, 0.9),
    atrank_fall=(
        kinds.loc["ATRank", "uniform"] - kinds.loc["ATRank", "popularity"],
        0.005,
        0.25,
    ),
)

# %% [markdown]
# The popularity scorer falls from {glue:text}`uniform_popularity:.3f` to {glue:text}`popular_popularity:.3f`,
# a coin. ATRank falls by {glue:text}`atrank_fall:.3f`: part of its AUC was knowing what sells. (Even the truth
# falls: such negatives are harder for everybody.) Neither choice is wrong. But "AUC 0.8" says little until we know what
# it was against.
#
# ## Choosing on the test set
#
# The authors' code evaluates on the test set every thousand steps and reports the best. What is that worth? Suppose
# that all things tried (epochs, configurations, tricks) are *equally good*: each wins a test user with that user's own
# probability, and only luck differs. Whoever reports the best of them reports luck. How much there is of it, the recorded
# seeds of ATRank on Amazon Sports tell: all tries meet the same users and the same negatives, and agree on most of them.
# If two differ on a share $v$ of the users, the means of tries spread by $\sqrt{v / 2}$ over the root of how many users
# there are.

# %%
seeds = np.stack(
    [
        unpack(run["per_user"])
        for run in recorded_runs("table3/amazon_sports_and_outdoors", "atrank")
    ]
)
differ = (seeds[0] != seeds[1:]).mean()
tries = [1, 2, 5, 10, 20, 50, 100]
sizes = [500, 5_000, 50_000] if profile == "fast" else [500, 5_000, 50_000, 500_000]
luck = {}
for size in sizes:
    noise = np.sqrt(differ / (2 * size))
    results = rng.normal(0, noise, (2_000, max(tries)))
    luck[size] = [results[:, :t].max(axis=1).mean() for t in tries]

chance = auc_of_all(ours).numpy()  # of each user, against a negative drawn anew
anew = 2 * (chance * (1 - chance)).mean()

# %% tags=["remove-cell"]
claim(
    luck_500_users=(luck[500][4], 0.01, 0.03),
    luck_50000_users=(luck[50_000][4], 0.0005, 0.004),
    luck_differ=(differ, 0.03, 0.2),
    luck_anew=(np.sqrt(anew / differ), 1.2, 3),
)

# %% mystnb={"figure": {"caption": "What choosing on the test set adds to a reported AUC although all things tried are equally good: follow a line to the right, and it grows with what is tried; go down from line to line, and it shrinks with the users. One negative for each user.", "name": "fig-honest-luck"}, "image": {"alt": "Rising lines of added AUC over the number of things tried, one for each number of test users: highest for 500 users, about a third of that for 5,000, close to zero for 50,000."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.6, 3.2))
for size in sizes:
    ax.plot(tries, luck[size], "o-", color=INK)
    direct_label(ax, tries[-1], luck[size][-1], f"{size:,} users", INK)
ax.set(xscale="log", xlabel="things tried", ylabel="AUC gained by luck")
plain_log_ticks(ax.xaxis)

# %% [markdown]
# Two seeds differ on {glue:text}`luck_differ:.1%` of the users. Twenty tries on 500 users are then worth
# {glue:text}`luck_500_users:.3f` of AUC, on 50,000 users {glue:text}`luck_50000_users:.4f`. Epochs of one training agree
# more than seeds do, so less is to be won by them. Negatives drawn anew for every try leave more: with the chances of this
# chapter's model, {glue:text}`luck_anew:.1f` times as much. The remedy costs one behavior a user: choose on the last but
# one, report on the last. That is the protocol `validated`, which this book uses throughout. It does not help whoever
# changes the rules after reading the report ({ref}`ch-competitors`).
#
# ## Seeds and users
#
# Another *seed* gives other starting weights, another order of samples, other training negatives; another *sample of
# users* other people to please. The interval over users does not contain the first, the spread over seeds not the
# second. Here are the recorded runs on Amazon Sports of {ref}`ch-competitors`.

# %%
recorded = {
    name: recorded_runs("table3/amazon_sports_and_outdoors", name)
    for name in ("atrank", "bi-lstm", "cnn", "din")
}
rows = {}
for name, runs in recorded.items():
    if runs:
        aucs = [run["average_user_auc"] for run in runs]
        width = np.mean([(run["ci95"][1] - run["ci95"][0]) / 2 for run in runs])
        rows[name] = {
            "seeds": len(runs),
            "AUC": np.mean(aucs),
            "sd over seeds": np.std(aucs, ddof=1),
            "users, ±": width,
        }
pd.DataFrame.from_dict(rows, orient="index").round(4)

# %% tags=["remove-cell"]
wins = {
    name: np.stack([unpack(run["per_user"]) for run in runs])
    for name, runs in recorded.items()
}
low, high = crossed_difference(wins["atrank"], wins["bi-lstm"]).interval()
paired = stats.sem(wins["atrank"].mean(axis=0) - wins["bi-lstm"].mean(axis=0))
alone = np.mean(
    [(run["ci95"][1] - run["ci95"][0]) / 2 for run in recorded["atrank"]]
)
first_two = [run["average_user_auc"] for run in recorded["atrank"][:2]]

claim(
    interval_alone=(alone, 0.002, 0.006),
    interval_paired=(1.96 * paired, 0.0005, 0.005),
    interval_crossed=((high - low) / 2, 0.0005, 0.006),
    flipped=((wins["atrank"][0] != wins["atrank"][1]).mean(), 0.03, 0.2),
    first_two=(abs(first_two[0] - first_two[1]), 0.0, 0.006),
    sd_seeds=(rows["atrank"]["sd over seeds"], 0.0, 0.006),
)

# %% [markdown]
# The first two seeds of ATRank differ by {glue:text}`first_two:.4f` in the mean. That does not make them one
# model: {glue:text}`flipped:.1%` of the users are won by one of them and not by the other. The mean hides how much
# of it is luck.
#
# Each AUC has an interval of about ±{glue:text}`interval_alone:.4f` over users. But two models meet the *same*
# users and the same negatives, so the easy users are easy for both. The difference ATRank minus Bi-LSTM, user by user
# with the seeds averaged, has only ±{glue:text}`interval_paired:.4f`. Two intervals that overlap are no proof that two
# models are equal; look at the interval of the difference. But averaging takes the few seeds at hand for all there are.
# With their spread in it, the interval is ±{glue:text}`interval_crossed:.4f`. All differences of recorded runs in this
# book have such an interval, which crosses users and seeds ({doc}`protocol`).
#
# ## What leaks from the future
#
# Leave-one-out, with each user's last behavior as the test, asks every user at another moment. So while *this* user is
# asked in January, the training set holds what *other* users did in March. Whether that matters depends on whether the
# world changes. Let us make one that does: each item is in fashion for one week, and half of all choices follow the
# fashion.

# %%
weeks, per_week, people = 16, 6, 1200 if profile == "fast" else 6000
fashion = np.arange(weeks * per_week) // per_week  # the week of each item
frames = []
for user in range(people):
    length = rng.integers(4, 9)
    week = np.sort(rng.integers(0, weeks - 6) + rng.integers(0, 6, length))
    follows = rng.random(length) < 0.5
    item = np.where(
        follows,
        week * per_week + rng.integers(0, per_week, length),
        rng.integers(0, weeks * per_week, length),
    )
    frames.append(pd.DataFrame({"user_id": f"u{user}", "week": week, "item": item}))
choices = pd.concat(frames, ignore_index=True)

# %% [markdown]
# These rows become an event log, with a random second in the week and no feature but the id:

# %%
seconds = choices["week"] * 7 * 86_400 + rng.integers(0, 7 * 86_400, len(choices))
events = pd.DataFrame(
    {
        "user_id": choices["user_id"],
        "timestamp": seconds,
        "action": "wear",
        "object_id": "i" + choices["item"].astype(str),
    }
)
objects = pd.DataFrame({"object_id": [f"i{i}" for i in range(len(fashion))]})
schema = {
    "name": "fashion",
    "groups": {
        "item": {
            "actions": ["wear"],
            "features": {"object_id": {"kind": "categorical"}},
        }
    },
}
changing = EventLog.from_tables(
    Schema.model_validate(schema), {"item": events}, {"item": objects}
)

# %% [markdown]
# A cheeky scorer looks up how often an object was chosen in the training set within a week *around* the moment of
# asking. An honest one counts the week *before* it. Under `validated` both can be computed, and nobody stops us from
# reporting the first. The protocol `global_time` cuts the log at one moment for everybody: everything before it
# trains, everything after it is asked.


# %%
def recent(histories, samples, training, before, after, days=7):
    """How often each candidate was a training target within `days` before (and
    after) the moment of asking."""
    candidates = fixed_candidates(histories, {"item": samples}, 20, seed)["item"]
    scores = torch.zeros(candidates.shape)
    for row, moment in enumerate(samples.times.tolist()):
        lag = moment - training.times
        near = ((lag > 0) & (lag < days * 86_400) & before) | (
            (lag <= 0) & (lag > -days * 86_400) & after
        )
        counts = torch.bincount(
            training.objects[near], minlength=len(histories.catalogs["item"])
        )
        scores[row] = counts[candidates[row]].float()
    return float(user_auc(samples, scores))


# %% [markdown]
# Beside the two scorers we train a small ATRank, which does what every model does: it learns from all training samples.

# %%
leak = {}
for protocol in ("validated", "global_time"):
    grouped, cut = prepare(changing, protocol)
    asked, known = cut.test["item"], cut.train["item"]
    torch.manual_seed(seed)
    options = ATRankOptions(embedding_size=16, hidden=16, spaces=2, object_bias=True)
    small = speed_up(build(changing.schema, grouped.vocabularies, options))
    _ = fit(
        small,
        grouped,
        cut,
        Recipe(
            loss="pairwise",
            negatives=4,
            batch_size=32,
            learning_rate=3e-3,
            epochs=8,
            average=0.99,
        ),
        seed=seed,
        progress=False,
    )
    leak[protocol] = {
        "last week's": recent(grouped, asked, known, before=True, after=False),
        "this week's, future too": recent(
            grouped, asked, known, before=True, after=True
        ),
        "ATRank": evaluate(
            small, grouped, {"item": asked}, negatives=20, seed=seed
        ).average_user_auc,
    }
leak = pd.DataFrame(leak)
leak.round(3)

# %% tags=["remove-cell"]
claim(
    leak_past=(leak.loc["last week's", "validated"], 0.5, 0.75),
    leak_future=(leak.loc["this week's, future too", "validated"], 0.6, 0.85),
    leak_gain=(
        leak.loc["this week's, future too", "validated"]
        - leak.loc["last week's", "validated"],
        0.008,
    ),
    leak_model=(leak.loc["ATRank", "validated"], 0.5, 0.85),
    leak_model_global=(leak.loc["ATRank", "global_time"], 0.25, 0.65),
    leak_model_loss=(
        leak.loc["ATRank", "validated"] - leak.loc["ATRank", "global_time"],
        0.02,
    ),
)

# %% [markdown]
# Under `validated`, looking at other users' future lifts the scorer from {glue:text}`leak_past:.3f` to
# {glue:text}`leak_future:.3f`. ATRank does not look into the future on purpose. But it learns an embedding for
# each item from all training samples, so it learns which items go together in a week that some test users have yet to
# reach. It gets {glue:text}`leak_model:.3f` under `validated` and {glue:text}`leak_model_global:.3f` under
# `global_time`. There, what people choose is often an item of a new week, which the model has never seen, and a model
# trained to put the chosen above the rest prefers what it has seen chosen. (The scorer of last week gets exactly one half
# there: the training set ends more than a week before most questions.) This world is a toy, made to leak. No table of a
# real log in this book was run under `global_time`, so what it would change there is not known. Leave-one-out, the
# paper's protocol, compares models fairly where all profit alike; it is not a forecast.
#
# %% [markdown]
# ## A tie is half a win
#
# What if the model gives positive and negative the same score? The metric can call it won, lost, or half. Rounding the
# scores makes ties, as storing them in few bits would:

# %%
candidates = fixed_candidates(histories, {"item": test}, 1, seed)["item"]
pair = ours.gather(
    1,
    torch.cat(
        [torch.zeros(len(test), 1, dtype=torch.long), candidates[:, 1:] + 1], dim=1
    ),
)
ties = {}
for step in (0.0, 0.1, 0.5, 1e9):
    rounded = (pair / step).round() if step else pair
    won, level = (
        (rounded[:, 0] > rounded[:, 1]).double().mean().item(),
        (rounded[:, 0] == rounded[:, 1]).double().mean().item(),
    )
    name = {0.0: "as they are", 1e9: "all equal"}.get(step, f"rounded to {step}")
    ties[name] = {
        "lost": won,
        "half": won + level / 2,
        "won": won + level,
        "tied pairs": level,
    }
ties = pd.DataFrame(ties).T
assert ties.loc["all equal", "half"] == 0.5
ties.round(3)

# %% tags=["remove-cell"]
claim(
    tie_gap=(
        ties.loc["rounded to 0.5", "won"] - ties.loc["rounded to 0.5", "lost"],
        0.05,
    ),
)

# %% [markdown]
# Under "won", the scorer that says the same about everything is perfect. Under "lost", as in the authors' code, it
# is the worst of all, and a model may gain by adding noise. Only "half" gives it the 0.5 that it deserves. For scores
# rounded to 0.5, the choice alone moves AUC by {glue:text}`tie_gap:.3f`. Real models tie as well: popularity
# counts do it, half precision does it, and a dead relu gives zero to everybody.
#
# ## On your own log
#
# How much do protocol and negatives matter on *your* log? Give its folder as the parameter `data`: the rule that
# validation likes best and two small models are asked in five ways, the last time trained and tested at one moment for
# everybody. The column ± is half of ATRank's 95 % interval over users, *first* who leads. Without a log, this is a
# recorded answer on a small site of Stack Exchange ({doc}`logs`).

# %% tags=["hide-input"]
answer("protocols", data, seed=seed).set_index("asked").rename(
    columns={"+-": "±"}
).round(3)

# %% [markdown]
# If *first* changes from row to row, the way of asking decides the winner, and your use decides the way of asking.
#
# ## What we learned
#
# One negative is unbiased and noisy. Recall at ten is another question than AUC, and sampled recall is a third.
# Popularity is worth a good part of a uniform AUC. Luck grows with every look at the test set and shrinks with users.
# Seeds and users are two kinds of chance, and pairs of the same users tell models apart much better than two
# intervals. Leave-one-out lets the future in, and ties count half.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Warm-up: how noisy is a draw?
# :label: ex-draw-noise
# ```
# Suppose that for each of `users` users the positive beats a share `p` of all negatives, and that each user gets
# `negatives` negatives, drawn at random. Write `draw_noise(p, users, negatives)`: the standard deviation of the average
# user AUC from draw to draw.


# %%
def draw_noise(p, users, negatives): ...  # your turn


check.honest.draw_noise(draw_noise)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-draw-noise
# :class: dropdown
# ```
# Every comparison is a coin with variance $p (1 - p)$, and the AUC is the mean of all coins.


# %%
def draw_noise(p, users, negatives):
    return (p * (1 - p) / (users * negatives)) ** 0.5


verdict = check.honest.draw_noise(draw_noise)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Recall, with ties
# :label: ex-recall
# ```
# Write `recall(scores, k)`: `scores` is `[s, c]`, the positive is in column 0. Return, for each sample, 1 if the
# positive is among the best `k`, and 0 if not. When others have the same score as the positive, return the
# probability that it is among the best `k` if equals are put in random order.


# %%
def recall(scores, k): ...  # your turn


check.honest.recall(recall)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-recall
# :class: dropdown
# ```


# %%
def recall(scores, k):
    above = (scores[:, 1:] > scores[:, :1]).sum(dim=1)
    level = (scores[:, 1:] == scores[:, :1]).sum(dim=1)
    # k - above places for level + 1 equals
    return ((k - above) / (level + 1)).clamp(0, 1)


verdict = check.honest.recall(recall)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What sampling does to recall
# :label: ex-sampled-recall
# ```
# Write `sampled_recall(rank, objects, negatives, k)`: the positive has this `rank` (1 is best) among all `objects`.
# `negatives` of the other objects are drawn uniformly, with replacement. How likely is the positive among the best
# `k` of the candidates?


# %%
def sampled_recall(rank, objects, negatives, k): ...  # your turn


check.honest.sampled_recall(sampled_recall)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-sampled-recall
# :class: dropdown
# ```
# Fewer than $k$ of the drawn negatives may be above it, and each is with probability $(r - 1)/(N - 1)$.


# %%
def sampled_recall(rank, objects, negatives, k):
    from math import comb

    p = (rank - 1) / (objects - 1)
    return sum(
        comb(negatives, i) * p**i * (1 - p) ** (negatives - i)
        for i in range(min(k, negatives + 1))
    )


verdict = check.honest.sampled_recall(sampled_recall)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: win without a model
# :label: ex-win-without-a-model
# ```
# You may choose the protocol, the metric, the number and kind of negatives, and what a tie is. No training. Which
# combination gives the popularity scorer of this chapter its highest number? Which its lowest? Write the sentence that
# a paper would have to contain so that a reader could not be fooled by either.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-win-without-a-model
# :class: dropdown
# ```

# %%
same_scorer = {
    f"recall at 10 of {m + 1}": recall_at(sampled(scorers["popularity"], m), 10)
    .mean()
    .item()
    for m in (9, 20, 100)
}
same_scorer |= {
    "AUC, uniform negatives": kinds.loc["popularity", "uniform"],
    "AUC, popular negatives": kinds.loc["popularity", "popularity"],
    "recall at 1 of all": recall_at(scorers["popularity"], 1).mean().item(),
}
pd.Series(same_scorer, name="popularity").round(3)

# %% tags=["remove-cell"]
claim(
    popularity_highest=(max(same_scorer.values()), 1.0, 1.0),
    popularity_lowest=(min(same_scorer.values()), 0.0, 0.05),
)

# %% [markdown]
# The same scorer has anything between {glue:text}`popularity_lowest:.3f` and
# {glue:text}`popularity_highest:.0f`. Highest: uniform negatives, as few as possible of them for recall at $k$
# (with nine negatives, recall at ten is 1 for everybody), ties won, counts that include the future. Lowest: negatives
# by popularity, all objects, ties lost. The sentence names all of it: "average user AUC, each user's last behavior
# against one object drawn uniformly from those the user never touched, drawn once with seed 0 and the same for all
# models; ties count half; chosen on the last but one behavior; mean over five seeds, interval over users and seeds".
#
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise} Open-ended: referee a table
# :label: ex-referee
# Take a table of results from a paper on recommendation that you know, or Table 3 of {cite:t}`zhou2018atrank`. For
# every number, write down what you would need to know to repeat it, and what you are told. Which conclusion of the text
# survives if each missing choice was made in favor of the winner?
# ```
#
# ```{solution} ex-referee
# :class: dropdown
# A list to go through: who is in the test set, and whether the same users are in it for all models; cut per user or in
# time; how many negatives, of which kind, drawn how often; ties; which set chose the epoch and the settings; how many
# settings were tried for each model; seeds; an interval, and over what; whether differences are paired. Of the paper's
# Table 3 we know the users, the metric and one uniform negative, and from the authors' code that the test set chose the
# step. We do not know the settings tried for each competitor, and there are no seeds. A large gap, such as that of
# matrix factorization, survives; the order of neighbors in the table need not.
# ```

# %% [markdown]
# ## Summary
#
# - **One negative**: unbiased; moves by {glue:text}`sd_one_negative:.4f` from draw to draw here.
# - **Recall and NDCG at k** against all objects: `score_all`, `recall_at`, `ndcg_at`; ties by their chance.
# - **Sampled recall** can turn the order of models around ({numref}`fig-honest-sampled`).
# - **Popularity negatives** take away what popularity knows.
# - **Choosing on the test set** adds luck ({numref}`fig-honest-luck`); validate instead.
# - **Pairs**: compare models over the same users and negatives, several seeds each.
# - **global_time** is the protocol of a forecast; leave-one-out is not.
# - **Ties** count half.
#
# **Where next?** Every number, with the range it was checked against, stands in the {doc}`results ledger <ledger>`.
# {ref}`ch-fast` asks the question that comes after quality: how long does it take?
