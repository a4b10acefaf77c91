"""What came after ATRank: models that read a history forwards, each behavior knowing the earlier ones alone.

Each is in its paper's equations, on this book's behaviors: embedded with action and time and projected (eq. 1), all
groups in one sequence, oldest first. Sequences are padded behind their last behavior, which nothing before it sees.
Training asks one target of a history at a time, as for every model here; the papers train on all places at once.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.competitors.base import Competitor
from atrank_lib.log.schema import TICKS, key
from atrank_lib.ranking import Scores
from atrank_lib.variants import BehaviorOptions

LAYERS, HEADS, PLACES = 2, 2, 64  # places from the end that are told apart
TIMES = 32  # buckets of the time between two behaviors: powers of two, in seconds


def _last(x: Float[Tensor, "b t d"], packing: Packing) -> Float[Tensor, "b d"]:
    """What stands at the last behavior of each sample; zero where there is none."""
    place = (packing.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
    return x.gather(1, place)[:, 0] * (packing.lengths > 0)[:, None]


def _heads(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b k t d_k"]:
    """Columns shared out among heads."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class SASRec(Competitor):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018): transformer layers with a causal mask, and the
    user is what stands at the last behavior: ``score = h_t . LayerNorm(x_n)``.

    A place is counted from the end, and known beside the time. As in later implementations a layer normalizes what it
    reads, and adds to what it was given; the original adds to the normalized queries.
    """

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        self.places = nn.Embedding(PLACES, d)
        nn.init.normal_(self.places.weight, std=d**-0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, HEADS, d, dropout, batch_first=True, norm_first=True) for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(d)

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        s, packing = self.sequence(batch)
        from_end = (packing.lengths[packing.owner] - 1 - packing.place).clamp(max=PLACES - 1)
        x = packing.pad(s + self.places(from_end))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return _last(self.norm(x), packing)


class HSTULayer(nn.Module):
    """One layer of HSTU (Zhai et al., 2024)::

        U, V, Q, K = split(silu(W1 norm(X) + b1))
        X <- X + W2 (norm(A V) * U) + b2,   A = silu(Q K^T + bias) / t,   earlier behaviors alone

    No softmax: weights need not sum to one, so that ten matches count more than one. ``bias`` has a number for each
    distance of places, and one for each of times.
    """

    def __init__(self, hidden: int, dropout: float = 0.0, softmax: bool = False) -> None:
        super().__init__()
        self.softmax = softmax
        self.norm, self.map = nn.LayerNorm(hidden), nn.Linear(hidden, 4 * hidden)
        self.attended, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.of_places, self.of_times = nn.Embedding(PLACES, 1), nn.Embedding(TIMES, 1)
        for table in (self.of_places, self.of_times):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, x: Float[Tensor, "b t d"], places: Int[Tensor, "t t"], times: Int[Tensor, "b t t"]
    ) -> Float[Tensor, "b t d"]:
        u, v, q, k = nn.functional.silu(self.map(self.norm(x))).chunk(4, dim=-1)
        bias = self.of_places(places.clamp(min=0)) + self.of_times(times)  # [b, t, t, 1]
        scores = _heads(q) @ _heads(k).transpose(2, 3) + bias.squeeze(-1)[:, None]
        later = places < 0
        weights = nn.functional.silu(scores).masked_fill(later, 0) / PLACES
        if self.softmax:
            weights = scores.masked_fill(later, float("-inf")).softmax(dim=-1)
        y = (weights @ _heads(v)).transpose(1, 2).flatten(2)
        return x + self.out(self.dropout(self.attended(y) * u))


class HSTUOptions(BehaviorOptions):
    """HSTU's configuration."""

    softmax: bool = Field(False, description="weights that sum to one, in the place of silu")


class HSTU(Competitor):
    """Hierarchical sequential transduction units: ``HSTULayer`` upon layer, and what stands at the last behavior.

    A behavior's own time is known by eq. 1, the times between behaviors by the layers' bias. The original divides by
    the length that sequences are padded to; here it is a constant, so that nobody else's history changes a score.
    """

    Config = HSTUOptions
    config: HSTUOptions

    def add_layers(self) -> None:
        d, dropout, softmax = self.config.hidden, self.config.dropout, self.config.softmax
        self.layers = nn.ModuleList(HSTULayer(d, dropout, softmax) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(d)

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        s, packing = self.sequence(batch)
        x, t = packing.pad(s), torch.arange(packing.longest, device=s.device)
        elapsed = torch.cat([group.elapsed for group in batch.histories.values()]).double()
        age = packing.pad((elapsed / TICKS[self.schema.timestamp_unit])[:, None]).squeeze(-1)  # [b, t], in seconds
        gap = (age[:, None, :] - age[:, :, None]).clamp(min=1)  # from the key's moment to the query's
        times = gap.log2().long().clamp(max=TIMES - 1) * (self.config.time != "none")
        places = (t[:, None] - t).clamp(max=PLACES - 1)  # below zero: later ones
        for layer in self.layers:
            x = layer(x, places, times)
        return _last(self.norm(x), packing)


class RMSNorm(nn.RMSNorm):
    """In the precision of its weights, as autocast has it for ``LayerNorm``."""

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return super().forward(x.to(self.weight.dtype))


class Mixed(nn.Module):
    """The parameters of one kind of token in one layer of OneTrans: its queries, keys and values, and its network."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = RMSNorm(hidden), nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.feed_forward = nn.Sequential(
            RMSNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )

    def ask(self, x: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n d"], ...]:
        return self.qkv(self.norm(x)).chunk(3, dim=-1)

    def tell(self, x: Float[Tensor, "*n d"], attended: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        x = x + self.out(attended)
        return x + self.feed_forward(x)


@dataclass(frozen=True)
class Cache:
    """What targets read of histories: keys and values of every layer."""

    packing: Packing
    keys: list[Float[Tensor, "b k t d_k"]]
    values: list[Float[Tensor, "b k t d_k"]]


class OneTrans(Competitor):
    """One transformer for behaviors and target (after Zhang et al., 2025): all groups are tokens of one sequence, the
    target is its last token, and attention is shared, while each group of behaviors, and of targets, has parameters of
    its own (``Mixed``). Behaviors see earlier ones alone, so they are encoded once for all candidates.

    The original has many tokens that are no behaviors, and lets the sequence become shorter from layer to layer.
    """

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        kinds = [f"{role} {key(g)}" for role in ("behavior", "target") for g in self.schema.groups]
        self.layers = nn.ModuleList(nn.ModuleDict({k: Mixed(d, dropout) for k in kinds}) for _ in range(LAYERS))
        for group in self.schema.groups:  # nobody asks what the last layer makes of behaviors
            kind = self.kind(LAYERS - 1, "behavior", group)
            del kind.out, kind.feed_forward
        self.top = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d, 1))
        self.ranks_in = d

    def kind(self, layer: int, role: str, group: str) -> Mixed:
        return cast(Mixed, cast(nn.ModuleDict, self.layers[layer])[f"{role} {key(group)}"])

    def encode(self, batch: Batch) -> Cache:
        x, packing = self.sequence(batch)
        sizes, cache = [len(group.actions) for group in batch.histories.values()], Cache(packing, [], [])
        for number in range(LAYERS):
            kinds = [self.kind(number, "behavior", group) for group in batch.histories]
            asked = [kind.ask(part) for kind, part in zip(kinds, x.split(sizes), strict=True)]
            q, k, v = (_heads(packing.pad(torch.cat(parts))) for parts in zip(*asked, strict=True))
            cache.keys.append(k)
            cache.values.append(v)
            if number == LAYERS - 1:
                break
            seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            read = packing.pack(seen.transpose(1, 2).flatten(2)).split(sizes)
            x = torch.cat([kind.tell(*pair) for kind, *pair in zip(kinds, x.split(sizes), read, strict=True)])
        return cache

    def score(self, encoding: Cache, candidates: Candidates) -> Scores:
        targets = self.targets(candidates)
        x, hidden = targets.h, ~encoding.packing.mask[:, None, None, :]
        for number, (keys, values) in enumerate(zip(encoding.keys, encoding.values, strict=True)):
            kind = self.kind(number, "target", candidates.group)
            q, k, v = map(_heads, kind.ask(x))  # [b, k, c, d_k]; candidates do not see each other
            scale = q.shape[-1] ** -0.5
            others = (q @ keys.transpose(2, 3) * scale).masked_fill(hidden, float("-inf"))
            itself = (q * k).sum(dim=-1, keepdim=True) * scale
            weights = torch.cat([others, itself], dim=-1).softmax(dim=-1)
            seen = weights[..., :-1] @ values + weights[..., -1:] * v
            x = kind.tell(x, seen.transpose(1, 2).flatten(2))
        return Scores(self.context(self.top, x, targets), targets.h, x)
