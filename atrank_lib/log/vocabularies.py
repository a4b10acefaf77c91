"""What a model knows of a log: its values as numbers, and the scale of what is continuous."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import TypeAdapter

from atrank_lib.log.schema import Schema
from atrank_lib.log.writing import write_text

UNKNOWN = 0  # index 0 of every vocabulary: a value that training never showed; padding is a mask, never an id


@dataclass(frozen=True)
class Vocabularies:
    """Every value a model knows: text to index (from 1; 0 is *unknown*), and the scale of continuous features.

    ``words`` maps a vocabulary's name to its values; ``scales`` maps ``group.feature`` to (mean, deviation);
    ``users`` are the users that training showed, for models that give each user an embedding (ATRank does not).

    >>> words = Vocabularies({"shop": ("s1", "s2")}, {})
    >>> words.size("shop"), words.index("shop", pd.Series(["s2", "never seen", None])).tolist()
    (3, [2, 0, 0])
    """

    words: dict[str, tuple[str, ...]]
    scales: dict[str, tuple[float, float]]
    users: tuple[str, ...] = ()

    @classmethod
    def from_objects(
        cls, schema: Schema, objects: Mapping[str, pd.DataFrame], users: Iterable[str] = ()
    ) -> "Vocabularies":
        """Collect the values of objects tables; groups that share a vocabulary pool their values."""
        words, scales = dict[str, set[str]](), {}
        for name, group in schema.groups.items():
            for feature, spec in group.features.items():
                column = objects[name][feature]
                if spec.kind == "continuous":
                    values = column.to_numpy(float)
                    known = values[np.isfinite(values)]
                    mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
                    scales[f"{name}.{feature}"] = (float(mean), float(deviation) or 1.0)
                else:
                    words.setdefault(schema.vocabulary(name, feature), set()).update(distinct(column))
        return cls({name: tuple(sorted(values)) for name, values in words.items()}, scales, tuple(users))

    def size(self, vocabulary: str) -> int:
        """Rows that a table of this vocabulary needs, the unknown one included."""
        return len(self.words[vocabulary]) + 1

    def index(self, vocabulary: str, values: pd.Series) -> Int[np.ndarray, " n"]:
        """Indices of ``values``; whatever is missing or not in the vocabulary becomes ``UNKNOWN``."""
        found = pd.Index(self.words[vocabulary], dtype="str").get_indexer(pd.Index(values, dtype="str"))
        return np.where(values.isna(), UNKNOWN, found + 1).astype(np.int64)

    def write(self, path: Path) -> None:
        write_text(path, json.dumps(asdict(self), ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> "Vocabularies":
        return TypeAdapter(cls).validate_json(path.read_bytes())


def distinct(column: pd.Series) -> set[str]:
    """The values of a categorical column, or the tokens of a column of lists."""
    return set(column.explode().dropna().unique())
