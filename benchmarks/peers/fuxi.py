"""FuxiCTR's DIN and BST. Shim: `ray`, which it imports for Parquet files and nothing here uses.

The wheel's model zoo holds DIN alone. `BST` below is FuxiCTR's BST written anew on the library's base class, embedding
and network blocks, in the operations of the one in its repository: PyTorch's `MultiheadAttention` with a mask of its
own for every head, its weights returned, then two layers, with residuals and norms around both. Its positions, which
would make it 192 wide, are left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.peers.base import ACTIVATION, EMBEDDING, HEADS, RATE, TOP, Peer, versions

for part in ("ray", "ray.data", "ray.data.datasource", "ray.data.datasource.filename_provider"):
    sys.modules[part] = MagicMock()

from fuxictr.features import FeatureMap  # noqa: E402
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader  # noqa: E402
from fuxictr.pytorch.layers import FeatureEmbeddingDict, MLP_Block  # noqa: E402
from fuxictr.pytorch.models import BaseModel  # noqa: E402
from model_zoo.LongCTR.DIN.DIN import DIN  # noqa: E402
from model_zoo.LongCTR.longctr_dataloader import LongCTRDataLoader  # noqa: E402

VERSIONS = versions("fuxictr")
WIDTH = 2 * EMBEDDING


class BST(BaseModel):
    """A transformer layer over history and target, the mean of its real outputs, and a network on top."""

    def __init__(self, feature_map: FeatureMap, **settings: Any) -> None:
        super().__init__(feature_map, gpu=-1, **settings)
        self.embedding_layer = FeatureEmbeddingDict(feature_map, EMBEDDING)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.dnn = MLP_Block(
            input_dim=2 * WIDTH, output_dim=1, hidden_units=[WIDTH], output_activation=self.output_activation
        )
        self.compile(settings["optimizer"], settings["loss"], settings["learning_rate"])
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.get_inputs(inputs)
        embedded = self.embedding_layer(x)
        target = torch.cat([embedded["item"], embedded["category"]], dim=-1)
        history = torch.cat([embedded["hist_item"], embedded["hist_category"]], dim=-1)
        s = torch.cat([history, target[:, None]], dim=1)
        empty = nn.functional.pad(x["hist_item"] == 0, (0, 1))
        length = s.shape[1]
        hidden = empty.repeat_interleave(HEADS, dim=0)[:, None].expand(-1, length, length)
        hidden = hidden & ~torch.eye(length, dtype=torch.bool)  # each place sees itself
        s = self.norms[0](s + self.attention(s, s, s, attn_mask=hidden)[0])
        s = self.norms[1](s + self.network(s))
        real = (~empty).float()[:, :, None]
        pooled = (s * real).sum(dim=1) / real.sum(dim=1)
        return {"y_pred": self.dnn(torch.cat([target, pooled], dim=-1))}


class Contender(Peer):
    def build(self, name: str) -> None:
        self.din = name == "fuxictr-din"
        sizes = {"item": self.items, "category": self.categories}
        features = OrderedDict(
            (f, {"source": "item", "type": "categorical", "padding_idx": 0, "vocab_size": size})
            for f, size in sizes.items()
        )
        if self.din:
            features.update((f, {"type": "meta"}) for f in ("user_index", "seq_len", "item_index"))
        else:
            for f, size in sizes.items():
                spec = {"source": "", "type": "sequence", "vocab_size": size, "padding_idx": 0, "max_len": self.length}
                features[f"hist_{f}"] = {**spec, "share_embedding": f}
        self.map = FeatureMap("log", "")
        self.map.labels, self.map.default_emb_dim = ["label"], EMBEDDING
        self.map.features = features
        self.map.set_column_index()
        self.folder = tempfile.TemporaryDirectory()
        settings = {
            "optimizer": "adam",
            "loss": "binary_crossentropy",
            "learning_rate": RATE,
            "metrics": ["AUC"],
            "verbose": 0,
            "model_root": self.folder.name,
        }
        if self.din:
            self.model = DIN(
                self.map,
                embedding_dim=EMBEDDING,
                dnn_hidden_units=TOP,
                attention_hidden_units=ACTIVATION,
                **settings,
            )
        else:
            self.model = BST(self.map, **settings)
        # what `fit` sets before its loop over epochs
        self.model._max_gradient_norm, self.model._stop_training = 10.0, False
        self.model._total_steps, self.model._eval_steps = 0, sys.maxsize

    def loader(self, columns: dict[str, np.ndarray]) -> Iterable[Any]:
        place = Path(self.folder.name)
        if self.din:
            self.write(columns, place)
            files = {f"{name}_info": str(place / f"{name}.parquet") for name in ("user", "item")}
            return LongCTRDataLoader(
                self.map, str(place / "rows"), **files, batch_size=self.setting.batch, shuffle=True, max_len=self.length
            )
        np.savez(place / "rows.npz", **{name: columns[name] for name in (*self.map.features, "label")})
        return NpzDataLoader(self.map, str(place / "rows"), batch_size=self.setting.batch, shuffle=True)

    def write(self, columns: dict[str, np.ndarray], place: Path) -> None:
        """Rows, histories and items in the three files that the model zoo's loader reads."""
        number = len(columns["label"])
        rows = {"user_index": np.arange(number), "seq_len": columns["length"], "item_index": columns["item"]}
        pd.DataFrame({**rows, "label": columns["label"].astype(int)}).to_parquet(place / "rows.parquet")
        histories = [row[:n] for row, n in zip(columns["hist_item"], columns["length"], strict=True)]
        pd.DataFrame({"full_item_seq": histories}).to_parquet(place / "user.parquet")
        items = {"item_index": np.arange(self.items), "item": np.arange(self.items), "category": self.category}
        pd.DataFrame(items).to_parquet(place / "item.parquet")

    def run(self, batches: Iterable[Any]) -> None:
        self.model.train_epoch(batches)
