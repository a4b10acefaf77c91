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
# (ch-behaviors)=
# # Users as behaviors
#
# Equation {eq}`eq-temporary` of {cite:t}`zhou2018atrank`.
#
# $$
# S = \operatorname{concat}^{(0)}(S_1, \dots, S_{K}), \qquad S_k = \operatorname{relu}(P_k S), \qquad A_k = \operatorname{softmax}(a(S_k, S; \theta_k))
# $$ (eq-temporary)

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_lib.claims import begin, claim

begin("01_behaviors", profile=profile, data=data, seed=seed)

# %%
import pandas as pd

auc = claim("temporary_auc", 0.75, low=0.5, high=1.0)
claim("temporary_name", "Bike pump")
pd.DataFrame({f"a long column name {i}": [0.5, i] for i in range(9)})

# %% [markdown]
# Here AUC is {glue:text}`temporary_auc:.3f` for a {glue:text}`temporary_name`, see {numref}`fig-temporary`.

# %% mystnb={"figure": {"caption": "A line and a heatmap.", "name": "fig-temporary"}, "image": {"alt": "Left: three rising lines, one a behavior group. Right: a matrix of 2 by 3 shades."}} tags=["hide-input"]
import matplotlib.pyplot as plt

from atrank_lib.figures import direct_label, group_color, heatmap, space_color

fig, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
for slope, name in enumerate(["item", "query", "coupon", "campaign", "other"], start=1):
    left.plot([0, 1], [0, slope], color=group_color(name))
    direct_label(left, 1, slope, name, group_color(name))
heatmap(
    right, [[0.1, 0.5, 0.4], [0.9, 0.0, 0.1]], rows=["a", "b"], columns=["x", "y", "z"], color=space_color(0)
)
# %% [markdown]
# ```{exercise-start}
# :label: ex-temporary
# ```
# What does the sum give?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-temporary
# :class: dropdown
# ```

# %%
print(sum(range(4)))

# %% [markdown]
# ```{solution-end}
# ```
