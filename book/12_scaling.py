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
# (ch-scaling)=
# # When the log outgrows the laptop
#
# Mira's shop had ten thousand customers when she trained her first model, over lunch. Now it has ten million. An epoch
# takes a week, and the table of objects does not fit next to the operating system. She can rent more processors, or a
# GPU, or ten. What has to change in the code? What comes out differently? And when is the answer a different engine?
#
# ```{admonition} In this chapter
# **Question**: Ten million users do not fit a laptop: what has to change in the code, and what comes out differently?
#
# You will
#
# - share a batch between processes so that the sum of their work *is* the work of one;
# - train with two real processes and compare the losses with one process, digit by digit;
# - hand a run over from two processes to one;
# - choose device, precision and compilation by an option, and read what they were worth here;
# - deal a log out into shards, with one expression on two engines, and train shard by shard;
# - compute what a billion behaviors cost: memory, hours, and bytes sent at every step.
#
# **Runtime** (`fast`): about 30 seconds on one core; speeds are recorded runs. **Before this**: {ref}`ch-ranking`; the
# section on several tasks in {ref}`ch-multitask` helps. **Modules**: `atrank_lib.scale`; `data_scripts.shard`.
# **Departs from the defaults**: small models train for an epoch or two, since ways to train the same model are
# compared, not how well it ranks.
# ```

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("12_scaling", profile=profile, seed=seed)

# %% tags=["hide-input"]
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import ibis
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from atrank_book import check
from atrank_book.figures import INK, MUTED, direct_label
from atrank_lib import (
    RECIPES,
    ATRank,
    ATRankConfig,
    EventLog,
    GroupedHistories,
    NegativeSampler,
    Recipe,
    batches,
    fit,
)
from atrank_lib.log.sharded import shard_of
from atrank_lib.negatives import draw_candidates
from atrank_lib.ranking import pairwise_loss
from atrank_lib.runs import train_run
from atrank_lib.samples import prepare
from atrank_lib.scale import Execution, Processes, ScaledSteps, Shards
from atrank_lib.training import Part, Training
from data_scripts.shard import write
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.records import read_record, recorded

# %% [markdown]
# ## The mean of the means is not the mean
#
# A step of training looks at a batch of $b$ samples and follows the gradient of their mean loss. Let two processes
# share the batch: each computes the mean loss of its own samples, and they meet in the middle. With two samples each,
# that is right. But with three samples, of losses 1, 2 and 6, process 0 has the first and the third, process 1 the
# second:

# %%
losses = torch.tensor([1.0, 2.0, 6.0])
mine = [losses[rank::2] for rank in (0, 1)]  # every second sample
means = torch.stack([part.mean() for part in mine])  # 3.5 and 2
print("mean of the means:", means.mean().item(), "  mean:", losses.mean().item())

# %% [markdown]
# The lonely sample of process 1 counts as much as the two of process 0 together. Each mean has to count as much as the
# samples behind it. With $\ell_i$ the loss of sample $i$, $b_r$ samples in process $r$, and $L_r$ their mean loss:
#
# $$ L = \frac{1}{b} \sum_{i=1}^{b} \ell_i = \sum_r \frac{b_r}{b} L_r, \qquad
# \nabla L = \sum_r \frac{b_r}{b} \nabla L_r $$ (eq-shares)
#
# The gradient of a sum is the sum of the gradients, so nothing but gradients has to be exchanged. $b_r / b$ is the
# process's *share*; the shares of all add up to one.

# %%
shares = torch.tensor([len(part) / len(losses) for part in mine])  # [2]: 2/3 and 1/3
torch.testing.assert_close((shares * means).sum(), losses.mean())

# %% [markdown]
# Most batches divide evenly. The last one of every task seldom does, and a process may even be left without any sample:
# it has no mean loss at all, yet the others wait for its gradient. Its share is zero, and so is what it sends.
#
# The library's `Processes` knows a process's rank and the number of all, and `batches` gives each its part of every
# batch. Here are three processes, one after the other, on batches of four samples of a simulated log:

# %%
users = 60 if profile == "fast" else 3_000
market = simulate(MarketplaceConfig(users=users, seed=seed))
histories, parts = prepare(market.log, "validated", ["item"])
few = {"item": parts.train["item"][:10]}
candidates = {
    "item": draw_candidates(
        few["item"],
        NegativeSampler(histories, "item"),
        2,
        torch.Generator().manual_seed(seed),
    )
}
torch.manual_seed(seed)
model = ATRank(
    market.log.schema,
    histories.vocabularies,
    ATRankConfig(embedding_size=8, hidden=16, spaces=2),
)


def gradients(processes):
    """A process's gradient of every batch, all parameters in one row, and its
    share."""
    found = []
    # the same in every process: they cut the same batches
    shuffle = torch.Generator().manual_seed(seed)
    for _, index, batch in batches(
        histories, few, candidates, 4, generator=shuffle, part=processes.part
    ):
        share = processes.share(len(index))
        slope = torch.autograd.grad(
            share * pairwise_loss(model(batch).scores),
            list(model.parameters()),
            allow_unused=True,
            materialize_grads=True,
        )
        found.append((share, torch.cat([g.flatten() for g in slope])))
    return found


whole = gradients(Processes())
three = [gradients(Processes(rank, 3)) for rank in range(3)]
for step, (_, expected) in enumerate(whole):
    torch.testing.assert_close(
        sum(part[step][1] for part in three), expected, rtol=1e-4, atol=1e-6
    )
pd.DataFrame(
    [[part[step][0] for part in three] for step in range(3)],
    columns=[f"process {r}" for r in range(3)],
).round(3)

# %% [markdown]
# A row is a batch. The sums are the gradients of the whole batches; the batch of two samples leaves one process with
# nothing to do.
#
# That is all that `ScaledSteps` adds to the steps of `fit`: a part of each batch, its share, and the sum of gradients.
# Equal parameters, an equal gradient and the same formula make equal parameters again, so each process keeps a copy of
# everything. This is *data parallel* training {cite:p}`li2020distributed`; the sum that all receive is called
# *all-reduce*.
#
# Two things would break it, quietly. If every process drew its own negatives or shuffled its own way, they would not
# share one batch; so the randomness of an epoch comes from the seed and is drawn by all. And dropout falls on a
# process's own samples, so each needs noise of its own: with dropout, two processes and one differ as two seeds do.
# Without, they are the same run.
#
# ## Two processes, one run
#
# Now in earnest. A *launcher* starts the same command several times, and tells each copy its rank through the
# environment:
#
# ```bash
# atrank train --data LOG --out RUN --recipe paper                                              # one process
# torchrun --nproc_per_node 2 -m atrank_lib train --data LOG --out RUN --recipe paper           # two
# accelerate launch --multi_gpu --num_processes 2 -m atrank_lib train --data LOG --out RUN ...  # two, by accelerate
# ```
#
# The recipe *paper* has no dropout. One process is this notebook, by the function behind the command; two are started
# by `torchrun`:

# %%
place = tempfile.TemporaryDirectory()
folder = Path(place.name)
market.log.write(folder / "log")


def here(out, epochs, resume=False):
    """Train in this process; the run's epochs."""
    recipe = RECIPES["paper"].model_copy(
        update={"batch_size": 256, "epochs": epochs}
    )
    log = EventLog.read(folder / "log")
    run = train_run(
        log,
        folder / out,
        targets=["item"],
        recipe=recipe,
        resume=resume,
        progress=False,
    )
    return pd.DataFrame(run.epochs)


alone = here("one", epochs=2)
# what `torchrun` is
launcher = (
    "torch.distributed.run --standalone --nproc_per_node 2 -m atrank_lib train"
)
options = "--recipe paper --targets item --batch-size 256 --epochs 1"
command = [
    sys.executable,
    "-m",
    *launcher.split(),
    "--data",
    folder / "log",
    "--out",
    folder / "two",
    *options.split(),
]
subprocess.run(
    command,
    check=True,
    capture_output=True,
    env=os.environ | {"OMP_NUM_THREADS": "1"},
)
both = pd.DataFrame(
    json.loads((folder / "two" / "metrics.json").read_text())["epochs"]
)
first = pd.concat([alone[:1], both]).set_index("processes")
first[["steps", "samples", "loss"]].round(5)

# %% tags=["remove-cell"]
assert list(first.index) == [1, 2]

claim(
    curve_difference=(abs(float(both["loss"][0] / alone["loss"][0] - 1)), 0.0, 1e-5),
    curve_moved=(alone["loss"][0] - alone["loss"][1], 1e-3),
)

# %% [markdown]
# The same steps, the same samples. The losses differ by a share of {glue:text}`curve_difference:.0e`, for two partial
# sums are added in another order than one long sum; the next epoch lowers the loss by {glue:text}`curve_moved:.4f`. The
# batch size in the recipe is that of all processes together. That is a choice: many programs keep the batch of each
# process, so that more processes mean a larger batch, another learning rate {cite:p}`goyal2017accurate` and another
# curve.
#
# Only process 0 writes, and what it writes does not tell how many there were. The run of two processes gets its second
# epoch from one, and goes on where it was:

# %%
longer = here("two", epochs=2, resume=True)
assert list(longer["processes"]) == [2, 1]
assert (folder / "one" / "config.json").read_text() == (
    folder / "two" / "config.json"
).read_text()
np.testing.assert_allclose(longer["loss"], alone["loss"], rtol=0.01)
pd.DataFrame({"one process": alone["loss"], "two, then one": longer["loss"]}).round(
    5
)

# %% [markdown]
# If a process fails, all end, with one error; a run that has no checkpoint yet leaves no folder. On several machines
# each starts the launcher with the same meeting place. With `--max_restarts`, when a machine is lost the others wait
# until another takes its place, and all go on from the last checkpoint:
#
# ```bash
# torchrun --nnodes 2 --nproc_per_node 1 --max_restarts 3 --rdzv_backend c10d --rdzv_endpoint HOST:29400 \
#     -m atrank_lib train --data SHARDS --out RUN --resume
# ```
#
# (A newcomer needs `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` in the environment of all.) A test kills one of two nodes, and
# gets the losses of an undisturbed run.
#
# ## What it gives
#
# Four processes do a quarter of the work each. Are they four times as fast? They also build batches, send gradients,
# and wait for the slowest. And the obvious rival costs one option: a single process with four threads. A recorded run
# (commit {glue:text}`commit`) sets them side by side on the {glue:text}`cores` of one machine and a real log, in
# samples per second.

# %% tags=["hide-input"]
scaling = read_record(recorded("speed") / "scaling.json")
speeds = pd.DataFrame(scaling["rows"])
table = speeds[~speeds["compiled"]].pivot(
    index="batch", columns=["processes", "threads"], values="samples_per_second"
)
base = table[(1, 1)]
large = int(max(table.index))
compiled = speeds[speeds["compiled"]].set_index("batch")["samples_per_second"]
table.round(0).astype(int)

# %% tags=["remove-cell"]
claim(
    cores=scaling["hardware"].split(", ")[-1],
    commit=scaling["commit"][:8],
    large_batch=large,
    processes_gain=(table.loc[large, (4, 1)] / base[large], 1.2, 5),
    threads_gain=(table.loc[large, (1, 4)] / base[large], 1.2, 5),
    small_gain=(table.loc[min(table.index), (4, 1)] / base[min(table.index)], 0, 1),
    compiled=((compiled / base).median(), 0.3, 2),
)

# %% mystnb={"figure": {"caption": "Training speed on one machine, as a multiple of one process with one thread; a recorded run. Points are medians, bars the range of the repeats (other programs on the machine disturb four processes most); the dashed line would be perfect. See how far each line stays below it: processes and threads share the same cores, so neither can win by more than their number.", "name": "fig-scaling-speed"}, "image": {"alt": "One panel for each batch size. Two lines, processes and threads, rise from one at one core to at most a few at four cores, below a dashed diagonal; for the smallest batch the line of the processes falls below one."}} tags=["hide-input"]
fig, axes = plt.subplots(
    1, len(table), figsize=(9.6, 3.0), sharey=True, squeeze=False
)
for ax, (size, group) in zip(
    axes[0], speeds[~speeds["compiled"]].groupby("batch"), strict=True
):
    ax.plot([1, 4], [1, 4], "--", color=INK, linewidth=1)
    ax.text(3.85, 4, "perfect", ha="right", va="center", fontsize=9)
    for kind, other, color in (
        ("processes", "threads", INK),
        ("threads", "processes", MUTED),
    ):
        line = group[group[other] == 1].sort_values(kind)
        middle = line["samples_per_second"] / base[size]
        spread = np.abs(
            line[["low", "high"]].to_numpy().T / base[size] - middle.to_numpy()
        )
        ax.errorbar(line[kind], middle, yerr=spread, marker="o", color=color)
        other_end = (
            group[group[kind] == 1].sort_values(other)["samples_per_second"]
            / base[size]
        ).iloc[-1]
        # so that names of lines that end together do not meet
        away = 0.17 if middle.iloc[-1] > other_end else -0.17
        direct_label(
            ax, line[kind].iloc[-1], middle.iloc[-1] + away, kind, color=color
        )
    ax.set(
        title=f"batches of {size}", xlabel="processes or threads", xticks=[1, 2, 4]
    )
_ = axes[0][0].set_ylabel("times one")

# %% [markdown]
# With batches of {glue:text}`large_batch`, four processes give {glue:text}`processes_gain:.1f` times the speed of one,
# four threads {glue:text}`threads_gain:.1f` times; with the smallest batches, four processes give
# {glue:text}`small_gain:.1f`: a share of a small batch is little work, and every step has its exchange. So on one
# machine measure both, and enlarge the batch first. What threads cannot do is to reach a second GPU or a second
# machine.
#
# ## A GPU, by an option
#
# `--device cuda` moves model and batches to a GPU; histories stay in the main memory, and batches are cut there, for a
# log is larger than a GPU's memory. Under a launcher every process takes a GPU of its own. `--precision bfloat16`
# computes products of matrices with 8 bits of mantissa instead of 24, several times faster there, while weights and
# sums keep all 24. `--compile` fuses small operators, where starting one costs as much as doing it. In Python all three
# are an `Execution`, handed to `ScaledSteps`. It is no part of the recipe: it says where a model learns, not what. The
# precision can be tried without a GPU:

# %%
recipe = Recipe(
    loss="pairwise", negatives=4, batch_size=128, learning_rate=3e-3, epochs=1
)


def train(on):
    """The loss of a small model in its first epoch."""
    torch.manual_seed(seed)
    model = ATRank(
        market.log.schema,
        histories.vocabularies,
        ATRankConfig(embedding_size=16, hidden=32, spaces=4),
    )
    result = fit(
        model,
        histories,
        parts,
        recipe,
        progress=False,
        steps=partial(ScaledSteps, on=on),
    )
    return result.epochs[0]["loss"]


precision = pd.Series(
    {name: train(Execution(precision=name)) for name in ("float32", "bfloat16")},
    name="loss",
)
precision.round(4).to_frame()

# %% tags=["remove-cell"]
claim(
    bfloat16=(
        abs(float(precision["bfloat16"] / precision["float32"] - 1)),
        1e-7,
        0.03,
    ),
)

# %% [markdown]
# The losses differ by a share of {glue:text}`bfloat16:.4f`; on a processor that is a test and no gain. Nor is
# compilation there: the record has the compiled model at {glue:text}`compiled:.2f` times the speed of the plain one,
# for our layers are few and large. We have no record of a GPU; `benchmarks/scaling.py` makes it where there is one.

# %% [markdown]
# ## A log that does not fit
#
# More processors do not help when the log is larger than the memory. Which part of it must be there at once? A sample
# needs the whole history of *its* user, and nothing of anybody else's. So the users can be dealt out to **shards**, and
# a training run holds one shard at a time. Only what is about objects stays global: the vocabularies, the popularity of
# the objects, and the model itself.
#
# Who goes where? A rule must give every user one shard, about the same number to each, and the same answer next year in
# another program. So we take a hash function that is a standard, MD5, and of its hexadecimal digits the first four: a
# number below 65,536, taken modulo the number of shards.
#
# The preparation of the logs of this book is written as **expressions** in Ibis: a description of a table, which an
# engine turns into its own SQL and runs. Here is one, for DuckDB on a laptop and for Spark on a thousand machines:

# %%
events = ibis.table(
    {"user_id": "string", "timestamp": "int64", "row": "int64"}, name="events"
)
# about one user in 16
some = events.filter(events.user_id.hexdigest("md5").startswith("a"))
counts = some.group_by("user_id").agg(behaviors=some.count())
print(ibis.to_sql(counts, dialect="duckdb"))
print(ibis.to_sql(counts, dialect="pyspark"))

# %% [markdown]
# They differ in quotes and little else here; where they differ more, Ibis knows, and we do not have to. What the tests
# assert is what matters: the two engines write files that are equal byte by byte, also Spark on a cluster
# (`--spark-master spark://HOST:PORT`), a small one in the test. For that, every expression puts its rows into a full
# order, for an engine that works in parallel has none of its own. On DuckDB, in this notebook:

# %%
shop = simulate(MarketplaceConfig(users=200, behaviors=20, seed=seed))
shop.log.write(folder / "shop", overwrite=True)
sharded = write(folder / "shop", folder / "in_4", shards=4, overwrite=True)
sizes = pd.DataFrame(
    [extent[None]._asdict() for extent in sharded.extents()]
).rename_axis("shard")
sizes[["users", "behaviors"]]

# %% [markdown]
# Nothing is lost: a shard is a log, and the users of all shards are the users of the log, each once, where the rule
# says. `Shards.survey` goes through all shards once and notes what must be known of all of them, vocabularies and
# numbers of samples. They are those of the whole log.

# %%
found = {
    user: k
    for k in range(4)
    for user in GroupedHistories.from_log(sharded.shard(k)).user_ids
}
grouped, cuts = prepare(shop.log, "validated")
assert sorted(found) == list(grouped.user_ids)
assert all(shard_of(user, 4) == k for user, k in found.items())

shards = Shards.survey(sharded, "validated")
assert shards.vocabularies == grouped.vocabularies
for name, part in cuts.train.items():
    assert sum(size[name] for size in shards.sizes) == len(part)

# %% tags=["remove-cell"]
claim(
    shard_users=(len(found), 200, 200),
    shard_largest=(sizes["users"].max() / sizes["users"].mean(), 1.0, 1.35),
)

# %% [markdown]
# `fit` is a `Training` of one `Part`: histories and their split. Shards are a sequence of parts, each loaded when its
# turn comes, in every epoch in another order. Two users of different shards never meet in a batch. Is a model that was
# trained so a worse one? And with a single shard the result must be the same, bit by bit.

# %%
one = Shards.survey(
    write(folder / "shop", folder / "in_1", shards=1, overwrite=True), "validated"
)
short = Recipe(
    epochs=2,
    batch_size=64,
    loss="pairwise",
    negatives=4,
    learning_rate=5e-3,
    patience=None,
)
tiny = ATRankConfig(embedding_size=8, hidden=16, spaces=2)
trained, aucs = {}, {}
for name, source in (
    ("whole", [Part(grouped, cuts)]),
    ("1 shard", one),
    ("4 shards", shards),
):
    torch.manual_seed(seed)
    trained[name] = ATRank(shop.log.schema, grouped.vocabularies, tiny)
    sizes = None if name == "whole" else source.sizes
    training = Training(trained[name], source, short, seed=seed, sizes=sizes)
    while training.goes_on():
        training.epoch()
    aucs[name] = training.finish().epochs[-1]["validation_auc"]
for a, b in zip(
    trained["whole"].parameters(), trained["1 shard"].parameters(), strict=True
):
    assert torch.equal(a, b)
pd.Series(aucs, name="validation AUC").round(3)

# %% tags=["remove-cell"]
claim(shard_gap=(aucs["4 shards"] - aucs["whole"], -0.06, 0.06))

# %% [markdown]
# The same bits with one shard. With four, whose largest has {glue:text}`shard_largest:.2f` times the mean number of
# users, the AUC moves by {glue:text}`shard_gap:+.3f`, which is noise here. What one would *not* do is to put like users
# together, all of one country in one shard: then a step would no longer see a sample of everybody. A hash mixes.
#
# And the memory? It is that of one shard, and no longer grows with the log. `benchmarks/ten_million.py` takes
# {glue:text}`ten_million:.1f` million simulated behaviors through the whole chain, every step a command that is watched
# from outside:

# %% tags=["hide-input"]
chain = read_record(recorded("speed") / "ten_million.json")
stages = pd.DataFrame(chain["steps"]).T
stages.rename(columns={"cpu_seconds": "processor seconds", "peak_gb": "peak GB"})

# %% tags=["remove-cell"]
claim(
    ten_million=(chain["behaviors"] / 1e6, 9, 12),
    ten_peak=(chain["peak_gb"], 0.1, chain["limit_gb"]),
    ten_training_peak=(
        chain["steps"]["train one epoch"]["peak_gb"],
        0.1,
        chain["limit_gb"],
    ),
    ten_auc=(chain["test"]["average_user_auc"], 0.6, 1.0),
)

# %% [markdown]
# No step holds more than {glue:text}`ten_peak:.1f` GB; training, which goes from shard to shard, holds
# {glue:text}`ten_training_peak:.1f`. An epoch reaches an average user AUC of {glue:text}`ten_auc:.3f` on the test
# samples.
#
# ```{exercise-start} Warm-up: where does a user live?
# :label: ex-shard
# ```
# Write the rule in Python: the shard of a user, from 0, is given by the first four hexadecimal digits of the MD5 of the
# id's UTF-8 bytes, modulo the number of shards. Why not Python's own `hash`?


# %%
def shard(user_id: str, shards: int) -> int: ...  # your turn


check.scaling.shard(shard)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-shard
# :class: dropdown
# ```
# Python draws a new salt for `hash` of a text whenever it starts, so that nobody can flood a dictionary on purpose.

# %%
import hashlib


def shard(user_id: str, shards: int) -> int:
    digits = hashlib.md5(user_id.encode()).hexdigest()[:4]
    return int(digits, 16) % shards


verdict = check.scaling.shard(shard)
assert verdict
assert shard("user0", 4) == shard_of("user0", 4)
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## What a billion behaviors cost
#
# Paper and pencil, with figures that this page measures. First the log. A behavior in memory is a time, an action, an
# object and the row it came from; a sample says where to cut every group's history, and has candidates, drawn anew for
# an epoch. Then the hours, at the speed that the record of {ref}`ch-competitors` has:

# %%
per_behavior = {
    name: sum(t.element_size() for t in (g.timestamps, g.actions, g.objects, g.rows))
    for name, g in histories.groups.items()
}
s = parts.train["item"]
per_sample = sum(
    t.nbytes for t in (s.users, s.times, s.ends, s.objects, s.positions)
) // len(s)
negatives = 8  # of the recipe "modern"
per_draw = 8 * (1 + negatives)  # int64
record = read_record(recorded("speed") / "cpu.json")
(speed,) = [
    row["samples_per_second"]
    for row in record["rows"]
    if (row["model"], row["histories"], row["batch"])
    == ("atrank-kernels", "log", 512)
]
hours = 1e9 / speed / 3_600

# %% [markdown]
# Third, the objects. Each has its own row, and training keeps it several times. And fourth, the wire: at every step
# each process sends its gradient, in which a table has all its rows, though a batch touches few.

# %%
config = ATRankConfig()
copies = {"weights": 1, "gradient": 1, "Adam's moments": 2, "averaged weights": 1}
row = 4 * config.embedding_size  # float32
per_object = row * sum(copies.values())
torch.manual_seed(seed)
full = ATRank(market.log.schema, histories.vocabularies, config)
tables = {name for name, p in full.named_parameters() if name.startswith("tables.")}
layers = 4 * sum(p.numel() for n, p in full.named_parameters() if n not in tables)
draws = torch.Generator().manual_seed(seed)
draw = draw_candidates(s, NegativeSampler(histories, "item"), negatives, draws)
_, _, batch = next(
    batches(histories, {"item": s}, {"item": draw}, 512, generator=draws)
)
read = [batch.candidates.features, batch.histories["item"].features]
looked_up = sum(len(features["object_id"]) for features in read)  # at most

# %% tags=["hide-input"]
# the four bills, for a billion behaviors and a hundred million objects
bills = [
    ("histories, GB", per_behavior["item"], "bytes each"),
    (
        "samples and candidates, if each is a target, GB",
        per_sample + per_draw,
        "bytes each",
    ),
    ("an epoch, hours", round(speed), "samples a second"),
    ("objects in training, GB", per_object, "bytes each"),
    ("wire: layers, MB a step", layers, "bytes"),
    ("wire: the table of all objects, MB a step", row, "bytes a row"),
    (
        "wire: the rows that a batch of 512 looks up, MB a step",
        row + 8,
        "bytes a row",
    ),
]
totals = [
    per_behavior["item"],
    per_sample + per_draw,
    hours,
    per_object / 10,
    layers / 1e6,
    row * 100,
    looked_up * (row + 8) / 1e6,
]
table = pd.DataFrame(
    {
        "each": [f"{each:,} {unit}" for _, each, unit in bills],
        "in all": [f"{total:,.1f}" for total in totals],
    },
    index=[name for name, *_ in bills],
)
table

# %% tags=["remove-cell"]
assert len(set(per_behavior.values())) == 1
claim(
    behavior_bytes=(per_behavior["item"], 8, 40),
    sample_bytes=(per_sample + per_draw, 40, 400),
    log_gigabytes=(sum(totals[:2]), 20, 500),
    histories_gigabytes=(totals[0], 5, 50),
    epoch_hours=(hours, 1, 200),
    object_bytes=(per_object, 500, 5_000),
    capacity=(80e9 / per_object / 1e6, 10, 200),
    row_saving=(row * 100 / totals[-1], 100),
)

# %% [markdown]
# The log is stored once, and a workstation holds it; the candidates are first to be drawn batch by batch. The hours are
# within reach of a few machines or one GPU: nobody needs a new engine to wait for a night. But 80 GB are full at
# {glue:text}`capacity:.0f` million objects. (Users do not count: ATRank has no row for a user, only for what users
# touch.) And a whole table's gradient ends data parallel training first; the rows that a batch looked up are
# {glue:text}`row_saving:,.0f` times less. On CPUs `atrank train` sends those alone where a table is large
# ({ref}`ch-fast`).
#
# So the order in which things give way is: hours, which more processes shorten; then the wire; then the device's
# memory. The last two are about tables alone, and there are engines for them:
#
# | engine | what it does with a table | when |
# |---|---|---|
# | TorchRec {cite:p}`ivchenko2022torchrec` | cuts it by rows, columns or tables over GPUs; a lookup is an exchange of rows, layers stay data parallel | PyTorch, several GPUs |
# | Merlin HugeCTR {cite:p}`wang2022hugectr` | the same, and keeps rarely used rows in main memory or on disk | GPUs of one maker, largest speed |
# | a parameter server {cite:p}`li2014parameter` | keeps rows on servers; workers ask for rows and send changes back, not in step with each other | many plain machines |
#
# All three replace the lookup, and nothing behind it: eq. 1 to 8 are dense layers on rows that somebody has looked up.
# In this library that place is `shared_tables` of `atrank_lib.embedding`, one dictionary of tables.
#
# ## What we learned
#
# - Shares weighted by their samples add up to the batch, so several processes train the model of one.
# - Where a model is trained is an option: processes, device and precision change between two epochs of a run.
# - Larger batches come first: every step has its exchange. Processes reach the second device, which threads do not.
# - A billion behaviors are a matter of hours and tens of gigabytes. A hundred million *objects* are what takes another
#   engine.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Who gets what
# :label: ex-share
# ```
# Write `share(samples, rank, world)`: the numbers, out of `range(samples)`, that process `rank` of `world` takes. Every
# sample goes to exactly one process, and no process has more than one sample more than another. One more condition:
# batches are sorted by length of history, and no process should get all the long ones.


# %%
def share(samples, rank, world): ...  # your turn


check.scaling.share(share)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-share
# :class: dropdown
# ```


# %%
def share(samples, rank, world):
    return range(rank, samples, world)


verdict = check.scaling.share(share)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The gradient of all
# :label: ex-combine
# ```
# Each process has computed the gradient of its own mean loss, a row of `gradients` (`[processes, p]`), from so many
# samples, `counts` (`[processes]`). Combine them to the gradient of the mean loss of all samples. A process without
# samples has a row of NaN: the mean of nothing.


# %%
def combine(gradients, counts): ...  # your turn


check.scaling.combine(combine)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-combine
# :class: dropdown
# ```


# %%
def combine(gradients, counts):
    has = counts > 0  # zero times NaN is NaN
    weights = counts[has] / counts.sum()  # [processes that have samples]
    return weights @ gradients[has]  # [p]


verdict = check.scaling.combine(combine)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} When is the device full?
# :label: ex-capacity
# ```
# `capacity(memory, size, optimizer)`: how many objects fit into `memory` bytes, if every object has a row of `size`
# float32 weights, and training keeps weights and gradient, with `"adam"` also two moments? (No average this time; with
# `"sgd"` nothing more.)


# %%
def capacity(memory, size, optimizer): ...  # your turn


check.scaling.capacity(capacity)

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-capacity
# :class: dropdown
# ```


# %%
def capacity(memory, size, optimizer):
    copies = 4 if optimizer == "adam" else 2
    return memory // (4 * size * copies)


verdict = check.scaling.capacity(capacity)
assert verdict
verdict

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Break it and see: an average of averages
# :label: ex-break-shares
# ```
# Let every process count the same, $1/P$ for $P$ processes, whatever its samples: write a subclass of `Processes` with
# another `share`, and hand it to `gradients`. Which gradient of the three processes above is wrong now, and by how
# much? First guess, then compute for each of the three batches by how much the sum of `three` is off.

# %%
# your turn

# %% [markdown]
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} ex-break-shares
# :class: dropdown
# ```


# %%
class Alike(Processes):
    def share(self, samples):
        return 1 / self.world


broken = [gradients(Alike(rank, 3)) for rank in range(3)]
off = [
    float(
        (sum(part[step][1] for part in broken) - whole[step][1]).norm()
        / whole[step][1].norm()
    )
    for step in range(3)
]
pd.Series(
    off, index=["batch 1", "batch 2", "batch 3"], name="error / gradient"
).round(3).to_frame()

# %% tags=["remove-cell"]
claim(
    broken_least=(min(off), 0.02, 5),
    broken_most=(max(off), 0.05, 5),
)

# %% [markdown]
# All of them: four samples among three processes are as uneven as two. In the batch of two, the process without a
# sample computes the gradient of the first one, for it must send something, and now it counts a third: that sample
# counts twice as much as the other. Nothing crashes, the loss goes down, and only a comparison with one process shows
# it.
#
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Open-ended: a plan for a year
# :label: ex-plan
# ```
# Your shop's log doubles every six months. Take your own machine's numbers (train one epoch, look at `metrics.json` and
# at the memory) and write a plan: when does the log outgrow the memory, when does an epoch outgrow a night, when do the
# tables outgrow a GPU? Which option do you change at each point, and what will the change cost in accuracy?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-plan
# :class: dropdown
# ```
# A good plan names the first limit that is hit, with a number: for most shops it is the night, long before memory.
# Shards cost no accuracy that the noise would show; processes cost none at all as long as the global batch stays the
# same; a larger batch does, and needs a new search for the learning rate. Nobody's tables outgrow a GPU before the log
# has outgrown a machine.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# You shared batches between processes by weighing each with its samples {eq}`eq-shares`; trained with two and with one
# and found the same losses; handed a run over; tried a precision; dealt users out into shards, and trained shard by
# shard; and know what a billion behaviors cost in memory, hours and bytes a step, and where tables need an engine of
# their own.
