"""RecBole's DIN. Shims: names that NumPy 2 dropped and `Config` asks for, and TensorBoard, which it would write to.

Its activation unit has the layers of its top: the library has one setting for both.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from benchmarks.peers.base import EMBEDDING, RATE, TOP, Peer, versions

for old, new in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    setattr(np, old, new)
sys.modules["torch.utils.tensorboard"] = MagicMock()

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.dataloader import TrainDataLoader  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.model.sequential_recommender import DIN  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402

VERSIONS = versions("recbole")


class Contender(Peer):
    def build(self, name: str) -> None:
        sys.argv = sys.argv[:1]  # which it reads as settings
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder) / "log")
            settings = {
                "data_path": folder,
                "checkpoint_dir": folder,
                "load_col": {
                    "inter": ["user_id", "item_id", "timestamp", "label"],
                    "item": ["item_id", "category"],
                },
                "LABEL_FIELD": "label",
                "MAX_ITEM_LIST_LENGTH": self.length,
                "train_neg_sample_args": None,
                "train_batch_size": self.setting.batch,
                "embedding_size": EMBEDDING,
                "mlp_hidden_size": TOP,
                "learning_rate": RATE,
                "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "labeled"},
                "metrics": ["AUC"],
                "valid_metric": "AUC",
                "use_gpu": False,
                "show_progress": False,
            }
            self.config = Config(model="DIN", dataset="log", config_dict=settings)
            self.dataset = create_dataset(self.config).build()[0]
            self.dataset.item_feat["category"][0] = 0  # of the padding; with pandas 3 RecBole leaves it unset
            self.model = DIN(self.config, self.dataset)
            self.trainer = Trainer(self.config, self.model)
        numbers = self.dataset.field2token_id["item_id"]
        self.number = np.array([0, *(numbers[str(item)] for item in range(1, self.items))])

    def write(self, folder: Path) -> None:
        """All items in RecBole's format, and one user, so that it knows the fields; samples come as tensors."""
        folder.mkdir()
        lines = [f"{item}\t{self.category[item]}" for item in range(1, self.items)]
        (folder / "log.item").write_text("item_id:token\tcategory:token\n" + "\n".join(lines) + "\n")
        lines = [f"1\t{item}\t{item}\t1" for item in range(1, 9)]
        header = "user_id:token\titem_id:token\ttimestamp:float\tlabel:float\n"
        (folder / "log.inter").write_text(header + "\n".join(lines) + "\n")

    def loader(self, columns: dict[str, np.ndarray]) -> Iterable[Any]:
        self.dataset.inter_feat = Interaction(
            {
                "user_id": torch.ones(len(columns["label"]), dtype=torch.long),
                "item_id": torch.from_numpy(self.number[columns["item"]]),
                "item_id_list": torch.from_numpy(self.number[columns["hist_item"]]),
                "item_length": torch.from_numpy(columns["length"]),
                "label": torch.from_numpy(columns["label"]),
            }
        )
        return TrainDataLoader(self.config, self.dataset, None, shuffle=True)

    def run(self, batches: Iterable[Any]) -> None:
        self.trainer._train_epoch(batches, 0)
