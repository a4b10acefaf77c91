"""RecBole's atomic files as RecBole reads them, and the texts that it takes as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
           "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]  # fmt: skip


def as_recbole_reads(path: Path) -> pd.DataFrame:
    """An atomic file by the calls of RecBole 1.2.1, ``Dataset._load_feat``, written for pandas 3."""
    with path.open(encoding="utf-8") as lines:
        header = lines.readline()[:-1].split("\t")
    types = {name: name.split(":")[1] for name in header}
    dtype: Any = {name: np.float64 if kind == "float" else str for name, kind in types.items()}
    frame = pd.read_csv(path, delimiter="\t", usecols=header, dtype=dtype, encoding="utf-8", engine="python")
    for name in (name for name, kind in types.items() if kind == "token_seq"):
        frame[name] = [list(filter(None, text.split(" "))) for text in frame[name].fillna("")]
    return frame.rename(columns=lambda name: name.split(":")[0])
