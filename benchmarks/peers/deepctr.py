"""DeepCTR-Torch's DIN. Shim: `requests`, with which it asks the network for a newer version when it is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.base import ACTIVATION, EMBEDDING, TOP, Peer, versions

sys.modules["requests"] = MagicMock()

from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import DIN, basemodel  # noqa: E402

VERSIONS = versions("deepctr-torch")


class Contender(Peer):
    def build(self, name: str) -> None:
        sizes = {"item": self.items, "category": self.categories}
        target = [SparseFeat(f, size, EMBEDDING) for f, size in sizes.items()]
        history = [
            VarLenSparseFeat(
                SparseFeat(f"hist_{f}", size, EMBEDDING, embedding_name=f), maxlen=self.length, length_name="length"
            )
            for f, size in sizes.items()
        ]
        self.model = DIN(
            [*target, *history],
            list(sizes),
            dnn_hidden_units=TOP,
            att_hidden_size=ACTIVATION,
            l2_reg_embedding=0,  # by default it squares all parameters of the tables in every step
        )
        self.model.compile("adam", "binary_crossentropy")

    def loader(self, columns: dict[str, np.ndarray]) -> Iterable[Any]:
        """As `fit` makes it."""
        x = [columns[name].reshape(len(columns["label"]), -1) for name in self.model.feature_index]
        rows = TensorDataset(torch.from_numpy(np.concatenate(x, axis=-1)), torch.from_numpy(columns["label"]))
        return DataLoader(rows, batch_size=self.setting.batch, shuffle=True)

    def run(self, batches: Iterable[Any]) -> None:
        """`fit`, given a loader instead of rows to make it from."""
        made = basemodel.DataLoader
        basemodel.DataLoader = lambda **_: batches
        row = {name: column[:1] for name, column in self.columns.items()}
        try:
            self.model.fit(row, row["label"], batch_size=self.setting.batch, verbose=0)
        finally:
            basemodel.DataLoader = made
