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
# (logs)=
# # The logs of this book
#
# Where does a log come from, and may you have it? Each one below is made by one command, which checks all that it reads
# and writes a folder in the format of {ref}`ch-behaviors`. What was joined, and what was left out and why, stands in
# the folder's `JOINS.md`. No log is part of this book's repository.

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("logs", profile=profile, seed=seed)

# %% tags=["hide-input"]
import pandas as pd

from experiments.records import read_record, recorded

# %% [markdown]
# ## What there is
#
# | log | what people do in it | license | how to get it |
# |---|---|---|---|
# | simulated marketplace | browse, mark, buy; search; receive | this project's | nothing to get: it is drawn |
# | Amazon 2014 | review a product, once | research only | public files, downloaded by the command |
# | trivago 2019 | look at hotels, choose one from a list; search; filter | research only | on request, from the challenge's organizers |
# | Stack Exchange | ask, answer, comment, edit; earn badges | CC BY-SA 4.0 | public dumps of some 180 sites |
# | The Complete Journey | buy products, redeem coupons, receive campaigns | CC0 | an R package |
# | any table | whatever it holds | yours | `atrank init` |
#
# | log | command, after `python -m` |
# |---|---|
# | simulated marketplace | `data_scripts.simulate --users 2000 --out my_log` |
# | Amazon 2014 | `data_scripts.amazon --category Electronics --out my_log` |
# | trivago 2019 | `data_scripts.trivago --raw train.csv --out my_log` |
# | Stack Exchange | `data_scripts.stackexchange --dump beer.stackexchange.com.7z --out my_log` |
# | The Complete Journey | `data_scripts.completejourney --raw-dir tables --out my_log` |
# | RecBole's files, or your own tables | `atrank_lib init my_tables --out my_log` (or `atrank init ...`) |
#
# The sources are {cite:t}`he2016ups` for Amazon, {cite:t}`knees2019recsys` for trivago, {cite:t}`boehmke2019journey`
# for The Complete Journey, and each site's contributors for Stack Exchange: whoever publishes what was made of a dump
# names them (`ATTRIBUTION.md` in the folder). The converters keep ids, times, tags and features; no name of a person and
# no text that somebody wrote.
#
# ## What came out
#
# The same summary that `atrank check` prints, side by side. These are records: the logs themselves are not needed to
# build this page. *Choices* are behaviors beside which a list was shown, *shown* is how many objects all those lists
# hold, and *each* how many behaviors a user has.

# %% tags=["hide-input"]
SHORT = {
    "Amazon Sports_and_Outdoors (2014, 5-core)": "Amazon Sports",
    "beer.stackexchange.com": "Stack Exchange, beer",
    "simulated marketplace": "marketplace",
    "The Complete Journey (2017)": "Complete Journey",
}
tables = {
    SHORT.get(record["data_name"], record["data_name"]): pd.DataFrame.from_dict(
        record["summary"], orient="index"
    )
    for record in map(read_record, sorted(recorded("logs").glob("*.json")))
}
logs = pd.concat(tables, names=["log", "group"])
days = pd.to_datetime(logs["last day"]) - pd.to_datetime(logs["first day"])
logs = logs.assign(
    days=days.dt.days + 1, each=logs["average length"].astype(float).round(1)
)
counts = ["users", "behaviors", "objects", "choices", "shown", "days"]
logs[[*counts, "each"]].astype(dict.fromkeys(counts, "Int64"))

# %% tags=["remove-cell"]
whole = logs.xs("all groups", level="group")
claim(
    trivago_users=int(whole.loc["trivago", "users"]),
    trivago_choices=int(whole.loc["trivago", "choices"]),
    trivago_length=(whole.loc["trivago", "average length"], 10, 20),
    beer_users=int(whole.loc["Stack Exchange, beer", "users"]),
)

# %% [markdown]
# Read the table with the question of the book in mind: which of these logs has several kinds of objects, a search among
# them, and enough of each user?
#
# - *trivago* has all three, and what was shown beside what was chosen. But it is two days of {glue:text}`trivago_users`
#   users: a history is one or two sessions, and most hotels are seen once.
# - *Stack Exchange* has five kinds of behavior and is open to anyone. The site here is small: a site of your own field
#   makes a better exercise.
# - *Amazon* is the paper's own kind of log, with one behavior a product.
# - *The Complete Journey* looks like the paper's log and is not: at hand is a random 6.8 % of its purchases, and a sample
#   of single behaviors destroys sequences.
# - The *marketplace* is the only one of which we know what causes what.
