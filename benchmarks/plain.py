"""ATRank in plain PyTorch, as one would write it from the paper: the yardstick for what `atrank_lib` adds.

Padded tables and a mask, an explicit softmax over `Q K^T`, a look-up for histories and one for targets, SGD with
sparse gradients. It is the model of `ATRankOptions(attention="dot")` for one group of items with a category and one
action; with the same parameters both give the same scores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmarks.work import DAY, Setting, Work, padded


class PlainBatch(NamedTuple):
    """Histories in padded tables, and the targets to score: the positive in column 0, then the negative."""

    items: Int[Tensor, "b t"]
    categories: Int[Tensor, "b t"]
    actions: Int[Tensor, "b t"]
    buckets: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    target_items: Int[Tensor, "b c"]
    target_categories: Int[Tensor, "b c"]


def batches(work: Work, batch_size: int, generator: torch.Generator) -> Iterator[PlainBatch]:
    """All samples once, shuffled; each batch is as wide as its longest history."""
    category, edges = torch.from_numpy(work.category), torch.tensor([2**k for k in range(15)])
    for part in torch.randperm(len(work), generator=generator).split(batch_size):
        index = part.numpy()
        at, real = padded(work, index)
        items, mask = torch.from_numpy(np.where(real, work.items[at], 0)), torch.from_numpy(real)
        days = torch.from_numpy(np.where(real, work.moments[index][:, None] - work.times[at], 0)) // DAY
        targets = torch.from_numpy(np.stack([work.positives[index], work.negatives[index]], axis=1))
        yield PlainBatch(
            items,
            category[items],
            torch.zeros_like(items),
            torch.bucketize(days, edges, right=True),
            mask,
            targets,
            category[targets],
        )


class Attention(nn.Module):
    """`softmax(Q K^T / sqrt(s)) V` in every space, then a feedforward network."""

    def __init__(self, hidden: int, spaces: int) -> None:
        super().__init__()
        self.spaces, self.size = spaces, hidden // spaces
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.feed_forward = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def split(self, x: Float[Tensor, "b q d"]) -> Float[Tensor, "b k q s"]:
        return x.view(x.shape[0], x.shape[1], self.spaces, self.size).transpose(1, 2)

    def forward(
        self, asking: Float[Tensor, "b q d"], told: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b q d"]:
        q = self.split(torch.relu(self.query(asking)))
        k = self.split(torch.relu(self.key(told)))
        v = self.split(torch.relu(self.value(told)))
        scores = q @ k.transpose(2, 3) / self.size**0.5
        scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        x = torch.softmax(scores, dim=-1) @ v
        return self.feed_forward(x.transpose(1, 2).reshape(asking.shape))


class PlainATRank(nn.Module):
    """Eq. 1 to 8 for one group of behaviors."""

    def __init__(
        self,
        items: int,
        categories: int,
        actions: int = 1,
        buckets: int = 16,
        size: int = 64,
        hidden: int = 128,
        spaces: int = 8,
    ) -> None:
        super().__init__()
        self.item = nn.Embedding(items, size, sparse=True)
        self.category = nn.Embedding(categories, size, sparse=True)
        self.action = nn.Embedding(actions, 2 * size)
        self.time = nn.Embedding(buckets, 2 * size)
        for table in (self.item, self.category, self.action, self.time):
            nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
        self.project = nn.Linear(2 * size, hidden)
        self.self_attention = Attention(hidden, spaces)
        self.norm = nn.LayerNorm(hidden)
        self.target_attention = Attention(hidden, spaces)

    def forward(self, batch: PlainBatch) -> Float[Tensor, "b c"]:
        u = torch.cat([self.item(batch.items), self.category(batch.categories)], dim=-1)
        u = u + self.action(batch.actions) + self.time(batch.buckets)
        s = torch.relu(self.project(u))
        c = self.norm(s + self.self_attention(s, s, batch.mask))
        q = torch.cat([self.item(batch.target_items), self.category(batch.target_categories)], dim=-1)
        h = torch.relu(self.project(q))
        e = self.target_attention(h, c, batch.mask)
        return (h * e).sum(dim=-1)


class Contender:
    """The model above, and the loop that everybody writes."""

    def __init__(self, name: str, setting: Setting) -> None:
        torch.manual_seed(0)
        self.work, self.batch_size = setting.work(), setting.batch
        self.available = len(self.work)
        self.model = PlainATRank(len(self.work.category), int(self.work.category.max()) + 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.generator = torch.Generator().manual_seed(0)

    def train(self, samples: int) -> tuple[int, float]:
        """Train on so many samples, in whole batches; returns how many there were, and the seconds."""
        began, seen = time.perf_counter(), 0
        while seen < samples:
            for batch in batches(self.work, self.batch_size, self.generator):
                scores = self.model(batch)
                labels = torch.zeros_like(scores)
                labels[:, 0] = 1.0
                loss = nn.functional.binary_cross_entropy_with_logits(scores, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                seen += len(scores)
                if seen >= samples:
                    break
        return seen, time.perf_counter() - began
