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
# (ch-projection)=
# # Semantic projection
#
# Ben bought red sneakers and looked at a blue backpack. Tonight a red backpack is on offer. It takes its color from the
# one and its kind from the other. Can a model see that if all it can say is how *much* each behavior counts? And before
# that: sneakers have a brand, a price and a shop, a search has only its words. How can behaviors as unlike as a purchase
# and a search be compared at all?
#
# ```{admonition} In this chapter
# **Question**: How can a purchase and a search be compared, and is one weight for each behavior enough?
#
# You will
#
# - bring behaviors of different widths into one common space,
# - split that space into several semantic spaces, and write K perceptrons as one,
# - show with two behaviors why one weight for each behavior must compromise,
# - test in a controlled experiment whether several spaces help, and on which task they do not.
#
# **Runtime** (`fast`): about 20 seconds on one core. **Before this**: {ref}`ch-time`.
# **Modules**: `atrank_lib.projection`. **Paper**: "Latent Semantic Spaces", equations 1 and 2.
# ```

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("04_projection", profile=profile, seed=seed)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_rgb
from torch import nn

from atrank_book import check
from atrank_book.colors import MIDDLE
from atrank_book.figures import INK, space_color
from atrank_book.play import Play
from atrank_lib import GroupProjection, SemanticProjection, TargetAttention
from atrank_lib.attention import SpaceAttention
from atrank_lib.batches import Packing
from atrank_lib.fast import speed_up
from atrank_lib.projection import Perceptron, space_sizes
from atrank_lib.ranking import pairwise_loss

# %% [markdown]
# ## One common space
#
# After {ref}`ch-time` every behavior is a vector, but the width $b_i$ depends on its group $i$: more features, more
# numbers. Take two items with three numbers and one search with two:

# %%
item = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])  # [n_item = 2, b_item = 3]
query = torch.tensor([[2.0, 1.0]])  # [n_query = 1, b_query = 2]

# %% [markdown]
# They cannot be compared, or even put into one table. So each group gets a map of its own into an overall space with
# $d = s_{all}$ dimensions. The results of all groups are placed below each other:
#
# $$
# S = \operatorname{concat}^{(0)}\bigl(\mathcal{F}_{M_1}(u_{bg_1}), \dots, \mathcal{F}_{M_G}(u_{bg_G})\bigr)
# $$ (eq-projection)
#
# This is equation 1 of {cite:t}`zhou2018atrank`. $u_{bg_i}$ holds the embedded behaviors of group $i$, one a row, and $G$ is the number of groups. The superscript says
# along which axis the parts are joined. $\mathcal{F}_\theta$ is the same building block in the whole paper: a perceptron with
# a single layer, $\mathcal{F}_\theta(x) = \operatorname{relu}(x\,\theta^\top + \text{bias})$.
#
# By hand, without biases, with $d = 2$. The first map adds an item's first and third number, and subtracts the second
# from the third. The second map keeps a query's first number, and subtracts it from the second.

# %%
M_item = torch.tensor([[1.0, 0.0, 1.0], [0.0, -1.0, 1.0]])  # [d, b_item]
M_query = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])  # [d, b_query]

# [n = 3, d = 2]
S = torch.cat([(item @ M_item.T).relu(), (query @ M_query.T).relu()], dim=0)
assert S.tolist() == [[3, 2], [1, 0], [2, 0]]
S

# %% [markdown]
# The query's second number would be $-2 + 1 = -1$; the relu makes it $0$. Now all three behaviors live in the same space,
# and can be compared. Through the library:

# %%
projection = GroupProjection({"item": 3, "query": 2}, hidden=2)
with torch.no_grad():
    for group, matrix in (("[item]", M_item), ("[query]", M_query)):
        projection.maps[group][0].weight.copy_(matrix)
        projection.maps[group][0].bias.zero_()

torch.testing.assert_close(projection({"item": item, "query": query}), S)

# %% [markdown]
# ## Several semantic spaces
#
# {cite:t}`zhou2018atrank` explain the next step with colors. A behavior is a *composite* color. A glass of red, one of green and
# one of blue split it into *atomic* colors. Seen through one glass, any two composite colors can be compared, in
# that respect and no other. {numref}`fig-colors` does it with three colors.

# %% mystnb={"figure": {"caption": "A composite color and its atoms. Each row is a color, split into its shares of red, green and blue. Compare one column of bars at a time: through the red glass violet and ocher are alike, through the blue one violet and teal. Likeness depends on the glass.", "name": "fig-colors"}, "image": {"alt": "Three rows, for violet, teal and ocher. On the left a patch in the composite color; to its right three bars of different lengths for its red, green and blue shares."}} tags=["hide-input"]
fig, axes = plt.subplots(
    1, 4, figsize=(7.2, 2.2), width_ratios=[1, 1, 1, 1], sharey=True
)
composites = ("ocher", "teal", "violet")
axes[0].barh(composites, [1] * 3, color=[MIDDLE[name] for name in composites])
axes[0].set(title="composite", xticks=[], xlim=(0, 1.05))
for part, (ax, name) in enumerate(
    zip(axes[1:], ("red", "green", "blue"), strict=True)
):
    ax.barh(
        composites,
        [to_rgb(MIDDLE[composite])[part] for composite in composites],
        color=MIDDLE[name],
        height=0.5,
    )
    ax.set(title=name, xlim=(0, 1.05), xticks=[0, 1])
for ax in axes:
    ax.grid(False)
    ax.tick_params(length=0)

# %% [markdown]
# In the model the glasses are learned. Each of $K$ semantic spaces has its own perceptron:
#
# $$
# S_k = \mathcal{F}_{P_k}(S), \qquad k = 1, \dots, K
# $$ (eq-spaces)
#
# That is equation 2. $S_k$ is `[n, s_k]`, and the sizes add up to the overall one, $s_1 + \dots + s_K = d$. Two spaces of one dimension
# for our three behaviors:

# %%
# each [s_k = 1, d = 2]
P = [
    torch.tensor([[1.0, -1.0]]),
    torch.tensor([[0.0, 1.0]]),
]
S_1, S_2 = ((S @ P_k.T).relu() for P_k in P)
S_1.T, S_2.T

# %% [markdown]
# K perceptrons that read the same $S$ are one perceptron whose matrix holds their rows, one block below the other. Its
# outputs come out block by block, and `split` hands them back to their spaces. One large product is faster
# than $K$ small ones, so this is how the library does it:

# %%
spaces = SemanticProjection(hidden=2, sizes=(1, 1))
with torch.no_grad():
    spaces.map[0].weight.copy_(torch.cat(P))  # [s_1 + s_2, d]
    spaces.map[0].bias.zero_()

for ours, theirs in zip((S_1, S_2), spaces.spaces(S), strict=True):
    torch.testing.assert_close(ours, theirs)

# %% [markdown]
# Does a larger $K$ cost more? No. The blocks share the same $d$ rows among more spaces:

# %%
sizes = {
    K: sum(
        p.numel() for p in SemanticProjection(32, space_sizes(32, K)).parameters()
    )
    for K in (1, 2, 4, 8)
}
assert len(set(sizes.values())) == 1
sizes

# %% [markdown]
# So if the numbers are the same, what do several spaces buy?
#
# ## Why one weight must compromise
#
# To attend is to take a weighted mean of the behaviors, $C = \sum_i a_i \vec v_i$, with weights that sum to one
# ({ref}`ch-attention` shows where they come from). The paper's argument: "each element in $\vec v_i$ will multiply by the same
# $a_i$, such that different semantics of $\vec v_i$ can only compromise" ({cite:t}`zhou2018atrank`).
#
# Ben's sneakers and backpack, with two numbers for the color and two for the kind:

# %%
#                         red  blue | shoe  bag
sneakers = torch.tensor([1.0, 0.0, 1.0, 0.0])
backpack = torch.tensor([0.0, 1.0, 0.0, 1.0])
wanted = torch.tensor([1.0, 0.0, 0.0, 1.0])  # the red of one, the bag of the other

# every weight the sneakers can have; the backpack has the rest
a = torch.linspace(0, 1, 101)[:, None]
C = a * sneakers + (1 - a) * backpack  # [101, 4]
distance = (C - wanted).norm(dim=1)

# %% tags=["remove-cell"]
claim(best_scalar_distance=(distance.min(), 0.99, 1.01))
# %% [markdown]
# No weight comes closer than {glue:text}`best_scalar_distance:.1f`. It is worse than that: look at the *match*, the inner product of $C$ with
# what is wanted. It is $a$ for the color plus $1 - a$ for the kind, always exactly one. A backpack that matches only in kind gets as much with $a = 0$.
# To this mean, the perfect offer and the half-matching one look the same. With a weight of its own in each space nothing has to give:

# %%
assert torch.allclose(C @ wanted, torch.ones(101))

color_space = 1.0 * sneakers[:2] + 0.0 * backpack[:2]  # weights (1, 0)
kind_space = 0.0 * sneakers[2:] + 1.0 * backpack[2:]  # weights (0, 1)
torch.testing.assert_close(torch.cat([color_space, kind_space]), wanted)

# %% mystnb={"figure": {"caption": "What a weighted mean keeps of the sneakers' color and of the backpack's kind. Look at the corner: one weight for each behavior can only move along the line; two spaces reach it.", "name": "fig-compromise"}, "image": {"alt": "A square with the kept color on the horizontal axis and the kept kind on the vertical axis. A straight falling diagonal from the top left to the bottom right is labeled one space. A point at the top right corner is labeled two spaces."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(3.6, 3.4))
ax.plot(C[:, 0], C[:, 3], color=space_color(0), linewidth=3)
ax.text(
    0.28,
    0.32,
    "one space",
    color=space_color(0),
    rotation=-45,
    ha="center",
    va="center",
)
ax.plot(1, 1, "*", color=space_color(3), markersize=16, clip_on=False)
ax.annotate(
    "two spaces",
    (1, 1),
    xytext=(-10, -2),
    textcoords="offset points",
    ha="right",
    va="center",
    color=INK,
)
_ = ax.set(
    xlabel="red kept, of the sneakers",
    ylabel="bag kept, of the backpack",
    xlim=(0, 1.05),
    ylim=(0, 1.05),
    aspect="equal",
)
# %% tags=["remove-input"]
behaviors = {"first": sneakers.tolist(), "second": backpack.tolist()}
names = ["sneakers", "backpack"]
Play(
    "weight",
    {"names": names, **behaviors, "wanted": wanted.tolist()},
    figure="fig-compromise",
)

# %% [markdown]
# ## Does it show in a trained model?
#
# The argument is about one mean. A network has ways around it: in ATRank a small network follows the mean and may bend
# it, and values may be mapped so that what matters is kept. So we ask experimentally, on a task made for the purpose.
#
# A user has four behaviors. Each has one of ten colors and one of ten kinds, and none repeats. There are two tasks:
#
# - **two behaviors**: the right offer has the color of one behavior and the kind of *another*. A wrong offer has only
#   the color, or only the kind, of some behavior; its other half occurs nowhere in the history.
# - **one behavior**: the right offer has color and kind of *the same* behavior. A wrong offer takes one
#   half from it and the other half from another behavior.
#
# The second task is the control. There a single weight is all one needs, so several spaces have no reason to win.

# %%
VALUES, LENGTH = 10, 4


def draw(task, users, generator):
    """Histories [users, 4, 2] of (color, kind), and offers [users, 3, 2]: the right
    one first."""
    # two shuffled decks a user
    order = torch.rand(users, 2, VALUES, generator=generator).argsort(dim=2)
    history = order[:, :, :LENGTH].transpose(1, 2)
    # places 0 to 3 are in the history, place 4 is not
    color, kind = (
        order[:, 0],
        order[:, 1],
    )
    if task == "two behaviors":
        pairs = [
            (color[:, 0], kind[:, 1]),
            (color[:, 0], kind[:, 4]),
            (color[:, 4], kind[:, 1]),
        ]
    else:
        pairs = [
            (color[:, 0], kind[:, 0]),
            (color[:, 0], kind[:, 1]),
            (color[:, 1], kind[:, 0]),
        ]
    # in no particular order
    place = torch.rand(users, LENGTH, generator=generator).argsort(dim=1)
    history = history.gather(1, place[:, :, None].expand(-1, -1, 2))
    return history, torch.stack([torch.stack(pair, dim=1) for pair in pairs], dim=1)


# %% [markdown]
# The model is the target's half of ATRank: embed, project {eq}`eq-projection`, attend in $K$ spaces, compare with the offer.
# `TargetAttention` comes from the library as it is, with the small network after the mean; a `Packing` tells it which
# behaviors belong to which user. {ref}`ch-attention` and {ref}`ch-ranking` open both, and the pair-wise loss as well: it asks that
# the right offer score higher than a wrong one. Only $K$ changes. The number of parameters does not.


# %%
class Matcher(nn.Module):
    def __init__(self, K, hidden=32, size=8):
        super().__init__()
        self.color, self.kind = (
            nn.Embedding(VALUES, size),
            nn.Embedding(VALUES, size),
        )
        self.project = Perceptron(2 * size, hidden)
        self.attend = TargetAttention(
            hidden, SpaceAttention(hidden, space_sizes(hidden, K))
        )

    def embed(self, things):  # [..., 2] -> [..., d]
        return self.project(
            torch.cat(
                [self.color(things[..., 0]), self.kind(things[..., 1])], dim=-1
            )
        )

    def forward(self, history, offers):
        users, n, _ = history.shape
        owner, place = (
            torch.arange(users).repeat_interleave(n),
            torch.arange(n).repeat(users),
        )
        packing = Packing.of(owner, place, users)
        keys, values = self.attend.read(self.embed(history).flatten(0, 1))
        h = self.embed(offers)  # [users, 3, d]
        e = self.attend(h, self.attend.attention.queries(h), keys, values, packing)
        return (h * e).sum(dim=-1)  # [users, 3]


# %%
steps = 200 if profile == "fast" else 1_500


def run(task, K, number, hidden=32):
    """AUC after training: how often the right offer beats a wrong one; a tie counts
    half."""
    torch.manual_seed(number)
    generator = torch.Generator().manual_seed(number)
    model = speed_up(Matcher(K, hidden))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    for _ in range(steps):
        loss = pairwise_loss(model(*draw(task, 256, generator)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = model(
            *draw(task, 4_000, torch.Generator().manual_seed(1_000 + seed))
        )
    right, wrong = scores[:, :1], scores[:, 1:]
    return ((right > wrong).float() + 0.5 * (right == wrong).float()).mean().item()


# %%
seeds = range(seed, seed + 4)
two = pd.DataFrame(
    {K: [run("two behaviors", K, number) for number in seeds] for K in (1, 2, 4, 8)},
    index=seeds,
)
one = pd.DataFrame(
    {K: [run("one behavior", K, number) for number in seeds[:3]] for K in (1, 8)},
    index=seeds[:3],
)
wide = [run("two behaviors", 1, number, hidden=64) for number in seeds[:3]]
summary = pd.concat(
    {
        "two behaviors": two.agg(["mean", "std"]),
        "one behavior": one.agg(["mean", "std"]),
    }
)
summary.map("{:.3f}".format).replace("nan", "")  # empty: not trained

# %% tags=["remove-cell"]
narrow, broad = (
    sum(p.numel() for p in Matcher(1, hidden).parameters()) for hidden in (32, 64)
)

claim(
    auc_one_space=(two[1].mean(), 0.75, 0.88),
    auc_two_spaces=(two[2].mean(), 0.88),
    auc_four_spaces=(two[4].mean(), 0.88),
    auc_eight_spaces=(two[8].mean(), 0.88),
    gain_two_spaces=(two[2].mean() - two[1].mean(), 0.05),
    gap_between_seeds=(two[2].min() - two[1].max(), -0.1),
    auc_one_space_wide=(np.mean(wide), 0.70, 0.92),
    wide_behind_two_spaces=(two[2].mean() - np.mean(wide), 0.0),
    wide_parameters=(broad / narrow, 3.0),
    control_one_space=(one[1].mean(), 0.95),
    control_gain_eight_spaces=(one[8].mean() - one[1].mean(), -0.1, 0.02),
)
# %% mystnb={"figure": {"caption": "AUC for one to eight spaces with the same number of parameters, a dot for each seed, a line through the means. Look at the step from one space to two. Left: two behaviors have to be combined, and several spaces help; the dashed line is what color or kind alone can reach. Right: the control, where one behavior holds everything, and several spaces help nothing.", "name": "fig-spaces"}, "image": {"alt": "Two panels with the number of spaces on the horizontal axis and AUC on the vertical axis. Left, one space lies clearly below two, four and eight spaces, which lie close together near the top, all above a dashed line at three quarters. Right, one space and eight spaces both lie at the top."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
for ax, table, title in (
    (axes[0], two, "two behaviors"),
    (axes[1], one, "one behavior (control)"),
):
    x = np.log2(table.columns.to_numpy(float))
    ax.plot(x, table.mean(), color=INK)
    for _, row in table.iterrows():
        ax.plot(x, row, "o", color=INK, markersize=5, markerfacecolor="none")
    ax.set(
        title=title,
        xlabel="semantic spaces K",
        xticks=range(4),
        xticklabels=[1, 2, 4, 8],
        xlim=(-0.3, 3.3),
    )
axes[0].axhline(0.75, color=INK, linestyle="--", linewidth=1)
axes[0].text(3.3, 0.745, "color or kind alone", ha="right", va="top", fontsize=9)
_ = axes[0].set(ylabel="AUC", ylim=(0.68, 1.02))

# %% [markdown]
# On the left of {numref}`fig-spaces` one space reaches {glue:text}`auc_one_space:.3f`, two reach
# {glue:text}`auc_two_spaces:.3f`, a gain of {glue:text}`gain_two_spaces:.3f` at the same number of parameters. Four
# ({glue:text}`auc_four_spaces:.3f`) and eight ({glue:text}`auc_eight_spaces:.3f`) add little: the task has two
# semantics. Is one space merely too small? Twice as wide, with {glue:text}`wide_parameters:.1f` times the parameters, it
# reaches {glue:text}`auc_one_space_wide:.3f`, {glue:text}`wide_behind_two_spaces:.3f` less than two narrow spaces.
#
# Is one space then at the mercy of its single mean? Not entirely. A scorer that sees color or kind alone wins against one of the two wrong offers
# and ties with the other: three quarters. One space gets above that, since the layer after the mean is not linear and can
# bend a compromise into something useful. It compensates in part, as a skeptic would have guessed.
#
# The control on the right came out as it should have: with one behavior to match, one space reaches {glue:text}`control_one_space:.3f`,
# and eight change that by {glue:text}`control_gain_eight_spaces:+.3f`. Several spaces are no free lunch and no magic. They help where
# *different behaviors matter in different respects*. Whether a marketplace is like that is a question for data, not for algebra.
#
# ## What we learned
#
# - Each group has its own map into the common space; only there can behaviors of all groups stand in one table.
# - $K$ perceptrons are one matrix, cut into blocks. $K$ costs no parameters.
# - One weight for each behavior is a point on a line between compromises; several spaces can leave that line.
#
# What the spaces of a trained model look at, behavior by behavior, stands in {ref}`the live model <live-tour-4>`.
#
# ## Exercises
#
# ```{exercise-start} Warm-up: stack the perceptrons
# :label: ex-stack
# ```
# Make one perceptron out of $K$. You get a list of weights `[s_k, d]` and one of biases `[s_k]`; return the weight and the bias whose output
# `split` would hand out to space 1, space 2, and so on.


# %%
def stack(weights, biases): ...  # your turn


check.projection.stack(stack)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-stack
# :class: dropdown
# ```


# %%
def stack(weights, biases):
    return torch.cat(weights, dim=0), torch.cat(biases, dim=0)  # [d, d], [d]


verdict = check.projection.stack(stack)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Break it and see: one map for all groups
# :label: ex-project
# ```
# Write {eq}`eq-projection`. `groups` maps a name to `[n_i, b_i]`, `maps` a name to a weight `[d, b_i]` and a bias `[d]`.
# Then break it: send every group through the first group's map. When does PyTorch complain, and when does it stay silent? The checker knows both cases.


# %%
def project(groups, maps): ...  # your turn


check.projection.project(project)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-project
# :class: dropdown
# ```


# %%
def project(groups, maps):
    # each [n_i, d]
    parts = [
        (u @ maps[name][0].T + maps[name][1]).relu() for name, u in groups.items()
    ]
    return torch.cat(parts, dim=0)


def broken(groups, maps):
    first = next(iter(maps))
    return project(groups, dict.fromkeys(groups, maps[first]))


verdict = check.projection.project(project)
assert verdict
assert not check.projection.project(broken)
verdict, check.projection.project(broken)

# %% [markdown]
# With different widths the product of matrices fails, which is lucky. With equal widths nothing complains, and the numbers
# are wrong. Widths are no type check: the library looks maps up by the group's name.
#
# ```{solution-end}
# ```
#
# ```{exercise-start} Count the parameters
# :label: ex-count
# ```
# How many numbers do {eq}`eq-projection` and {eq}`eq-spaces` learn, biases included? `widths` lists the $b_i$ of the groups,
# `hidden` is $d$, and `spaces` is the number $K$ of equal spaces.


# %%
def parameters(widths, hidden, spaces): ...  # your turn


check.projection.parameters(parameters)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-count
# :class: dropdown
# ```
# Every output has one weight for each input, and a bias. The $K$ spaces have $d$ outputs together, whatever $K$ is.


# %%
def parameters(widths, hidden, spaces):
    groups = sum((b + 1) * hidden for b in widths)
    return groups + (hidden + 1) * hidden


verdict = check.projection.parameters(parameters)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```
#
# ````{exercise} On paper: no single weight
# :label: ex-no-single-weight
#
# Let $v_1 = (x_1, y_1)$ and $v_2 = (x_2, y_2)$, where each half is a vector, $x_1 \ne x_2$ and $y_1 \ne y_2$. Show that no weights
# $a$ and $1 - a$ make the weighted mean equal to $(x_1, y_2)$. Then: does it help to drop the condition that weights sum to one?
# ````
#
# ````{solution} ex-no-single-weight
# :class: dropdown
#
# The first half asks for $a x_1 + (1 - a) x_2 = x_1$, that is $(1 - a)(x_2 - x_1) = 0$, so $a = 1$. The second half asks for
# $a (y_1 - y_2) = 0$, so $a = 0$. Both cannot be. With free weights $a_1, a_2$: if $x_1, x_2$ are linearly independent, the first half still forces
# $a_1 = 1, a_2 = 0$, and if $y_1, y_2$ are, the second forces the opposite. It is the *sharing* of the weight that hurts, not its sum.
# ````
#
# ```{exercise} Open-ended: what is a space about?
# :label: ex-name-a-space
#
# A colleague looks at a trained model and says: "Space 3 is the price." How could you find out whether that is so? Plan a test that
# could come out against your colleague, say what you would draw, and what the same picture should look like if nothing were behind it.
# ```
#
# ```{solution} ex-name-a-space
# :class: dropdown
#
# One way: predict each feature (price, brand, category) from the vectors of one space by a linear map, on objects that the map has not
# seen, and make a table of spaces by features. If space 3 is the price, its row should be high for price *and low for the rest*, and the
# column of price high for space 3 *alone*. Two controls: an untrained model with the same sizes, in which every space already knows
# something of everything, and other seeds, in which "space 3" is another one, for nothing keeps the spaces in order. A third: set the space
# to zero and see whether candidates of a wrong price rise. A picture of a few well-chosen objects is no test; it cannot fail.
# ```
#
# ## Summary
#
# You can now
#
# - bring groups of different widths into one table {eq}`eq-projection`;
# - split it into $K$ semantic spaces, and do so with one matrix {eq}`eq-spaces`;
# - show what a single weight cannot do;
# - say where several spaces help, where they do not, and how you would find out.
#
# So far the weights came from nowhere. {ref}`ch-attention` lets the behaviors decide themselves how much they take from each other.
