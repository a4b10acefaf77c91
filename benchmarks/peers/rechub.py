"""torch-rechub's DIN and BST. Its transformer layer is 2,048 wide inside, whatever the model's size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import BST, DIN
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

from benchmarks.peers.base import ACTIVATION, EMBEDDING, HEADS, RATE, TOP, Peer, versions

VERSIONS = versions("torch-rechub")


class Contender(Peer):
    def build(self, name: str) -> None:
        sizes = {"item": self.items, "category": self.categories}
        target = [SparseFeature(f, size, EMBEDDING, padding_idx=0) for f, size in sizes.items()]
        history = [
            SequenceFeature(f"hist_{f}", size, EMBEDDING, pooling="concat", shared_with=f, padding_idx=0)
            for f, size in sizes.items()
        ]
        context = [SparseFeature("context", 2, 1)]  # it asks for one at least
        if name == "rechub-din":
            model = DIN(context, history, target, {"dims": TOP}, {"dims": ACTIVATION})
        else:
            top = {"dims": [2 * EMBEDDING]}
            model = BST(context, history, target, top, HEADS, dropout=0.0, max_seq_len=self.length + 1)
        self.trainer = CTRTrainer(model, optimizer_params={"lr": RATE})

    def loader(self, columns: dict[str, np.ndarray]) -> Iterable[Any]:
        x = {name: columns[name] for name in ("item", "category", "hist_item", "hist_category")}
        x["context"] = np.zeros(len(columns["label"]), dtype=np.int64)
        y = columns["label"]
        few = {name: column[:1] for name, column in x.items()}
        data = DataGenerator(x, y).generate_dataloader(few, y[:1], few, y[:1], batch_size=self.setting.batch)
        return data[0]

    def run(self, batches: Iterable[Any]) -> None:
        self.trainer.train_one_epoch(batches)
