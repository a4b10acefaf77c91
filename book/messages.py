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
# (messages)=
# # Everything that can be wrong with a log
#
# A log is refused with all that is wrong at once: each line names the table, the column, the row (counted from 0, without
# the header), the value, and what to do. Here a small log is broken in every way that the library knows, and what it
# says is shown. Come here when your own log is refused, or when you wonder what is checked. Many rows with one fault make
# few lines: three examples, then a count.

# %% tags=["parameters"]
profile = "fast"
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("messages", profile=profile, seed=seed)

# %% tags=["hide-input", "told"]
import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from IPython.display import Markdown

from atrank_lib import EventLog, EventLogError, Schema

# %% [markdown]
# ## A small log
#
# It is in order. The folded cells below hold the changes, a line each, in the order of the tables.

# %% tags=["told"]
GOOD = {
    "schema.yaml": """
name: small
groups:
  item:
    actions: [browse, buy]
    features:
      shop: {kind: categorical, vocabulary: shop}
      price: {kind: continuous}
      tags: {kind: tokens}
    time: {unit: day, edges: [1, 7]}
""",
    "item.events.csv": (
        "user_id,timestamp,action,object_id\n"
        "ann,100,browse,i1\nann,200,buy,i1\nbob,300,browse,i2\n"
    ),
    "item.objects.csv": (
        "object_id,shop,price,tags\ni1,s1,9.5,red wool\ni2,s2,,blue wool\n"
    ),
}


# %% tags=["hide-input", "told"]
# a log with mistakes, and what is said about it
def broken(*changes):
    """What is said about the small log with some changes: (file, old text, new
    text), or (file, new content)."""
    files = dict(GOOD)
    for file, *change in changes:
        files[file] = files[file].replace(*change) if len(change) == 2 else change[0]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for file, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, file)
            elif isinstance(content, bytes):
                Path(file).write_bytes(content)
            elif content == "a folder":
                Path(file).mkdir()
            elif content is not None:
                Path(file).write_text(content)
        try:
            EventLog.read(".")
        except EventLogError as error:
            return error.problems
    return ()


assert broken() == ()  # as it stands, the small log is valid
told = []


def tell(groups):
    """A table of what is said about each list of changes: one row for each thing
    that is wrong."""
    rows = ["| where, and the value | what is wrong, and what to do |", "|---|---|"]
    for changes in groups:
        found = changes() if callable(changes) else broken(*changes)
        assert found, f"nothing was said about {changes}"
        told.extend(found)
        for p in found:
            place = [p.table, p.column, None if p.row is None else f"row {p.row}"]
            where = ", ".join(
                str(part) for part in place if part is not None
            ).replace("_", r"\_")
            value = "" if p.value is None else f"<br>`{repr(p.value)[:22]}`"
            message = p.message.replace("<", "&lt;").replace("_", r"\_")
            rows.append(f"| {where}{value} | {message} |".replace("\n", " "))
    return Markdown("\n".join(rows))


# %% [markdown]
# ## The file `schema.yaml`
#
# Places are dotted: `groups.item.time.unit` is the key `unit` under `time` under `item` under `groups`.

# %% tags=["hide-input", "told"]
S = "schema.yaml"
two = "  b/c: {actions: [x], features: {f: {kind: tokens}}}\n"
tell(
    [
        [(S, None)],
        [(S, "a folder")],
        [(S, b"name: \xff")],
        [(S, "name: [a\n")],
        [(S, "name: a\x01")],
        [(S, "name: small", "name: small\nname: tall")],
        [(S, "name: small\n", "")],
        [(S, "name: small", "name: ''")],
        [(S, "name: small", "name: 7")],
        [(S, "name: small", "name: [small]")],
        [(S, "groups:", "group:")],
        [(S, "- item")],
        [(S, "actions: [browse, buy]", "actions: []")],
        [(S, "actions: [browse, buy]", "actions: browse")],
        [(S, "actions: [browse, buy]", "actions: [browse, buy, buy]")],
        [(S, "kind: tokens", "kind: token")],
        [(S, "{kind: continuous}", "{kind: continuous, vocabulary: shop}")],
        [(S, "tags: {kind: tokens}", "object_id: {kind: tokens}")],
        [(S, "unit: day", "unit: days")],
        [(S, "edges: [1, 7]", "edges: []")],
        [(S, "edges: [1, 7]", "edges: [0, 7]")],
        [(S, "edges: [1, 7]", "edges: [7, 1]")],
        [(S, "edges: [1, 7]", "edges: [1, 7], buckets: 9")],
        [(S, "edges: [1, 7]", "buckets: 1")],
        [(S, "groups:\n", "groups:\n" + two)],
        [(S, "groups:\n", "groups:\n" + two.replace("b/c", "ITEM"))],
    ]
)

# %% [markdown]
# ## Files and columns

# %% tags=["hide-input", "told"]
E, K = "item.events.csv", "item.objects.csv"
head = "user_id,timestamp,action,object_id\n"
frame = pd.DataFrame(
    {"user_id": ["ann"], "timestamp": [1], "action": ["buy"], "object_id": ["i1"]}
)


def nowhere():
    try:
        EventLog.read("nowhere")
    except EventLogError as error:
        return error.problems


tell(
    [
        nowhere,
        [(E, None)],
        [(E, None), ("item.event.csv", head)],
        [("item.events.parquet", pa.Table.from_pandas(frame))],
        [(E, "")],
        [(E, head)],
        [(E, b"user_id,timestamp,action,object_id\n\xff,1,buy,i1\n")],
        [(E, None), ("item.events.parquet", b"no Parquet")],
        [(E, "user_id,", "user,")],
        [(E, "user_id,timestamp,", "user_id,user_id,")],
        [(E, "200,buy", "200,buy,at once")],
        [(E, head + "ann\n" * 5)],
    ]
)

# %% [markdown]
# ## Values

# %% tags=["hide-input", "told"]
tell(
    [
        [(E, "ann,200", ",200")],
        [(E, "buy", "bye")],
        [(E, "bob,300,browse,i2", "bob,300,browse,i9")],
        [(E, head + "".join(f"ann,{i},browse,x{i}\n" for i in range(9)))],
        [(E, "200", "")],
        [(E, "200", "on Tuesday")],
        [(E, "200", "200.5")],
        [(E, "200", "1700000000000000")],
        [(K, "i2,s2", "i1,s2")],
        [(K, "9.5", "cheap")],
        [(K, "9.5", "inf")],
    ]
)

# %% [markdown]
# ## What was shown
#
# Where a log has impressions, the chosen object is among what was shown, and each object once.

# %% tags=["hide-input", "told"]
shown = "item.impressions.csv"
time = "    time: "
tell(
    [
        [(shown, "event,object_id\n9,i1\n")],
        [(shown, "event,object_id\n0,i1\n0,i1\n")],
        [(shown, "event,object_id\n0,i2\n")],
        [(S, time, "    context: {price: {kind: continuous}}\n" + time)],
        [(S, time, "    context: {at: {kind: tokens, vocabulary: shop}}\n" + time)],
    ]
)

# %% [markdown]
# ## Tables with types
#
# CSV knows text only. Parquet files and data frames have types, and these can be wrong as well. A frame in memory is
# checked by `EventLog.from_tables`, where a few more things can happen.

# %% tags=["hide-input", "told"]
schema = Schema.model_validate(
    {
        "name": "small",
        "groups": {
            "item": {
                "actions": ["buy"],
                "features": {
                    "price": {"kind": "continuous"},
                    "tags": {"kind": "tokens"},
                },
            }
        },
    }
)
objects = pd.DataFrame(
    {
        "object_id": ["i1", "i2"],
        "price": [9.5, None],
        "tags": [["red"], ["blue", "wool"]],
    }
)


def in_memory(events=frame, objects=objects, group="item"):
    """What is said about frames in memory."""

    def say():
        try:
            EventLog.from_tables(schema, {group: events}, {group: objects})
        except EventLogError as error:
            return error.problems

    return say


no_text = pa.Array.from_buffers(
    pa.string(),
    1,
    [None, pa.py_buffer(np.array([0, 1], "int32")), pa.py_buffer(b"\xff")],
)
no_utf8 = pa.table(
    {"object_id": ["i1"], "shop": no_text, "price": [9.5], "tags": [["red"]]}
)

tell(
    [
        [
            (E, GOOD[E].replace("i2", "i1")),
            (K, None),
            ("item.objects.parquet", no_utf8),
        ],
        in_memory(group="items"),
        in_memory(frame.assign(user_id=[1.5])),
        in_memory(frame.assign(timestamp=pd.to_datetime(["2024-02-01"]))),
        in_memory(pd.concat([frame, frame.assign(user_id=7)])),
        in_memory(objects=objects.assign(price="cheap")),
        in_memory(objects=objects.assign(tags="red wool")),
        in_memory(objects=objects.assign(tags=[["red"], ["blue", None]])),
        in_memory(objects=objects.assign(tags=[["red"], [1, "blue"]])),
    ]
)

# %% tags=["remove-cell"]
kinds = len({p.message for p in told})

claim(problems=(kinds, 50))

# %% [markdown]
# These are {glue:text}`problems` different messages. {ref}`ch-your-data` tells what no program can refuse, since it may be
# as it should be.
