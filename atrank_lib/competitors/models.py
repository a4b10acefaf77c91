"""The models that ATRank is compared with: matrix factorization, then those that read behaviors as ATRank does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from atrank_lib.attention import SpaceAttention, TargetAttention
from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.competitors.base import Competitor
from atrank_lib.embedding import ObjectEmbedding, shared_tables
from atrank_lib.heads import zeros
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import EmbeddingConfig, Encoding
from atrank_lib.ranking import Model, Scores
from atrank_lib.variants import BehaviorOptions

WIDTHS, MAPS = range(1, 11), 32  # of the CNN: "ten kinds of window sizes from one to ten", 32 maps each
HEADS = 8  # of BST


class BPRMF(Model[Tensor]):
    """Matrix factorization (Rendle et al., 2009): ``score = p_u . q_o + b_o``, meant for the pair-wise loss.

    The object vector ``q_o`` concatenates the embeddings of the object's features, as in the paper's comparison; the
    user vector ``p_u`` is as wide and belongs to the target's group. A user unseen in training has the vector of
    *unknown*. Histories and time play no part.
    """

    Config = EmbeddingConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: EmbeddingConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or EmbeddingConfig()
        self.schema, self.histories = schema, schema.check_groups(histories or None, "history groups")
        size = config.embedding_size
        self.tables = shared_tables(schema, vocabularies, size)
        objects = {key(g): ObjectEmbedding(schema, g, self.tables, size, config.id_dropout) for g in schema.groups}
        self.objects = nn.ModuleDict(objects)
        self.users, self.biases = nn.ModuleDict(), nn.ModuleDict()
        for g, group in schema.groups.items():
            users = nn.Embedding(len(vocabularies.users) + 1, size * len(group.features))
            nn.init.normal_(users.weight, std=users.embedding_dim**-0.5)
            self.users[key(g)] = users
            if "object_id" in group.features:
                self.biases[key(g)] = zeros(self.tables, schema.vocabulary(g, "object_id"))
        self.dropout = nn.Dropout(config.embedding_dropout)

    def encode(self, batch: Batch) -> Int[Tensor, " b"]:
        """Who asks; the vector depends on the target's group."""
        return batch.users

    def score(self, encoding: Int[Tensor, " b"], candidates: Candidates) -> Scores:
        name = key(candidates.group)
        q = self.dropout(self.objects[name](candidates.features)).unflatten(0, candidates.shape)  # [b, c, b_i]
        p = self.dropout(self.users[name](encoding))[:, None].expand_as(q)
        scores = (p * q).sum(dim=-1)
        if name in self.biases:
            scores = scores + self.biases[name](candidates.features["object_id"]).view(candidates.shape)
        return Scores(scores, q, p)


def run_packed(
    lstm: nn.LSTM, x: Float[Tensor, "n d"], packing: Packing
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "b s"]]:
    """States of both directions at every behavior, and the two final ones of every sample (zero without behaviors).

    The sequences are packed: the backward direction begins at a sample's last behavior, never at padding.

    >>> packing = Packing.of(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), size=2)  # one behavior, and three
    >>> states, final = run_packed(nn.LSTM(8, 8, bidirectional=True), torch.randn(4, 8), packing)
    >>> states.shape, final.shape
    (torch.Size([4, 16]), torch.Size([2, 16]))
    """
    if not len(x):
        return x.new_zeros(0, 2 * lstm.hidden_size), x.new_zeros(len(packing.lengths), 2 * lstm.hidden_size)
    lengths = packing.lengths.clamp(min=1).cpu()  # of a sample without behaviors, a zero is read and forgotten
    packed, (h, _) = lstm(pack_padded_sequence(packing.pad(x), lengths, batch_first=True, enforce_sorted=False))
    states, _ = pad_packed_sequence(packed, batch_first=True)
    return packing.pack(states), torch.cat([h[0], h[1]], dim=1) * (packing.lengths > 0)[:, None]


class BiLSTM(Competitor):
    """A recurrent network that reads both ways (Zhang et al., 2014): ``e_u = W [h_forward; h_backward] + b``, from the
    final states of both directions, each as wide as ``hidden``."""

    def add_layers(self) -> None:
        hidden = self.config.hidden
        self.lstm = nn.LSTM(hidden, hidden, bidirectional=True)
        self.join = nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(2 * hidden, hidden))

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        return self.join(run_packed(self.lstm, *self.sequence(batch))[1])


class BiLSTMAttention(BiLSTM):
    """Vanilla attention (eq. 7) of each target over the states of a bidirectional LSTM, joined as above."""

    def add_layers(self) -> None:
        super().add_layers()
        hidden = self.config.hidden
        self.target = TargetAttention(hidden, SpaceAttention(hidden, [hidden]))

    def encode(self, batch: Batch) -> Encoding:
        s, packing = self.sequence(batch)
        states = self.join(run_packed(self.lstm, s, packing)[0])
        return Encoding(states, packing, *self.target.read(states))

    def score(self, encoding: Encoding, candidates: Candidates) -> Scores:
        targets = self.targets(candidates)
        queries = self.target.attention.queries(targets.h)
        e = self.target(targets.h, queries, encoding.keys, encoding.values, encoding.packing)
        return Scores(self.rank(targets, e), targets.h, e)


class CNN(Competitor):
    """Filters of ten widths over the history, and the maximum of each (Kim, 2014)::

        e_u = F(concat_w max_i relu(conv_w(s_i ... s_{i+w-1})))

    A window begins at every behavior; what it reads after the last one is zero. Only windows that begin at a
    behavior count, so padding changes nothing.
    """

    def add_layers(self) -> None:
        hidden = self.config.hidden
        self.convolutions = nn.ModuleList(nn.Conv1d(hidden, MAPS, width) for width in WIDTHS)
        self.after = nn.Dropout(self.config.dropout)
        self.join = nn.Linear(len(WIDTHS) * MAPS, hidden)

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        s, packing = self.sequence(batch)
        x, maps = packing.pad(s).transpose(1, 2), []  # [b, d, t]
        for width, convolution in zip(WIDTHS, self.convolutions, strict=True):
            windows = torch.relu(convolution(nn.functional.pad(x, (0, width - 1))))  # [b, 32, t]
            maps.append((windows * packing.mask[:, None]).amax(dim=2))  # none is below zero
        return self.join(self.after(torch.cat(maps, dim=1)))


class DINConfig(BehaviorOptions):
    """Sizes and choices of a DIN."""

    normalized: bool = Field(False, description="weights of a sample's behaviors sum to one, as ATRank's do")


class DIN(Competitor):
    """Deep Interest Network (Zhou et al., 2018): each behavior is weighted by a network that also sees the target.

    ``e_u^t = sum_i a(s_i, h_t) s_i`` and ``score = MLP([h_t; e_u^t; h_t * e_u^t])``. The activation unit ``a`` is an
    MLP over ``[s; h; s - h; s * h]``; its weights are not normalized, so that the strength of an interest is kept,
    unless ``normalized`` asks for it. Time enters through the time feature alone.
    """

    Config = DINConfig
    config: DINConfig

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        self.activation = nn.Sequential(nn.Linear(4 * d, 36), nn.PReLU(), nn.Linear(36, 1))
        self.top = nn.Sequential(
            nn.Linear(3 * d, 80), nn.PReLU(), nn.Dropout(dropout), nn.Linear(80, 40), nn.PReLU(), nn.Linear(40, 1)
        )
        self.ranks_in = 80

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "n d"], Packing]:
        return self.project(batch), batch.packing

    def score(self, encoding: tuple[Float[Tensor, "n d"], Packing], candidates: Candidates) -> Scores:
        (s, packing), targets = encoding, self.targets(candidates)
        h = targets.h
        first, *rest = self.activation
        own, target, less, times = cast(nn.Linear, first).weight.chunk(4, dim=1)  # linear: what one side needs alone
        of_s, of_h = s @ (own + less).T + cast(nn.Linear, first).bias, h @ (target - less).T
        s, both = s[:, None], s[:, None] * h.index_select(0, packing.owner)  # [n, c, d]
        weight = both @ times.T + of_s[:, None] + of_h.index_select(0, packing.owner)
        weight = nn.Sequential(*rest)(weight)  # [n, c, 1]
        if self.config.normalized:
            padded = packing.pad(weight.squeeze(-1)).masked_fill(~packing.visible[:, :, None], float("-inf"))
            weight = packing.pack(padded.softmax(dim=1))[:, :, None]
        e = torch.zeros_like(h).index_add(0, packing.owner, weight * s)
        return Scores(self.context(self.top, torch.cat([h, e, h * e], dim=-1), targets), h, e)


class BST(Competitor):
    """Behavior Sequence Transformer (Chen et al., 2019): one transformer layer over the history and the target.

    ``score = MLP([x_t; mean_i x_i; h_t])`` with ``x = Transformer([h_t; s_1 ... s_n])``. The position of a behavior is
    its elapsed time to the target, in the buckets of the time feature; the target's own is zero. The original
    concatenates the outputs of a history of fixed length; here, where lengths differ, the target's output and the mean
    of the others take their place. Each candidate changes the whole sequence, so nothing can be encoded once for many.
    """

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        if d % HEADS:
            raise ValueError(f"hidden={d} cannot be divided among {HEADS} heads")
        self.layer = nn.TransformerEncoderLayer(
            d, HEADS, dim_feedforward=d, dropout=dropout, activation=nn.functional.leaky_relu, batch_first=True
        )
        self.top = nn.Sequential(nn.Linear(3 * d, d), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(d, 1))
        self.ranks_in = d

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
        """Projected behaviors, padded, and which places hold one."""
        return batch.packing.pad(self.project(batch)), batch.packing.mask

    def position(self, candidates: Candidates, h: Float[Tensor, "b c d"]) -> Float[Tensor, "b c d"]:
        """The target as a member of the sequence: at elapsed time zero."""
        embedding = self.embedding(candidates.group)
        q = embedding.objects(candidates.features)
        q = embedding.timed(q, torch.zeros(len(q), dtype=torch.long, device=q.device))
        return self.projection.one(candidates.group, self.dropout(q)).view_as(h)

    def score(self, encoding: tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]], candidates: Candidates) -> Scores:
        (table, mask), targets = encoding, self.targets(candidates)
        h, (b, t, d) = targets.h, table.shape
        c = h.shape[1]
        target = self.position(candidates, h)
        x = torch.cat([target[:, :, None], table[:, None].expand(b, c, t, d)], dim=2).flatten(0, 1)  # [b c, 1+t, d]
        empty = nn.functional.pad(~mask, (1, 0))[:, None].expand(b, c, 1 + t).flatten(0, 1)  # never the target
        x = self.layer(x, src_key_padding_mask=empty).unflatten(0, (b, c))
        seen = mask.to(x.dtype)[:, None, :, None]
        others = (x[:, :, 1:] * seen).sum(dim=2) / seen.sum(dim=2).clamp(min=1)
        return Scores(self.context(self.top, torch.cat([x[:, :, 0], others, h], dim=-1), targets), h, others)


@dataclass(frozen=True)
class History:
    """What both halves read: the mean of the projected behaviors, and every categorical value with its sample."""

    mean: Float[Tensor, "b d"]
    values: dict[str, tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]  # vocabulary: (index, sample) of each occurrence


class WideDeep(Competitor):
    """Wide & Deep (Cheng et al., 2016), a linear model that remembers, and a network that generalizes. Wide: a weight
    for every categorical value of the candidate, and one for its cross with the history, which counts
    ``log(1 + how often the history holds that value)`` times. Deep: ``MLP([mean_i s_i; h_t])``."""

    def add_layers(self) -> None:
        d = self.config.hidden
        self.alone, self.crossed = nn.ModuleDict(), nn.ModuleDict()
        for name in dict.fromkeys(name for group in self.schema.groups for name in self.categorical(group).values()):
            self.alone[key(name)] = zeros(self.tables, name)
            self.crossed[key(name)] = zeros(self.tables, name)
        self.deep = nn.Sequential(
            nn.Linear(2 * d, d), nn.ReLU(), nn.Dropout(self.config.dropout), nn.Linear(d, d // 2), nn.ReLU()
        )
        self.top = nn.Linear(d // 2, 1)

    def categorical(self, group: str) -> dict[str, str]:
        """The categorical features of a group and their vocabularies."""
        features = self.schema.groups[group].features
        return {f: self.schema.vocabulary(group, f) for f, spec in features.items() if spec.kind == "categorical"}

    def encode(self, batch: Batch) -> History:
        s, owner, lengths = self.project(batch), batch.packing.owner, batch.packing.lengths
        owners = owner.split([len(behaviors.actions) for behaviors in batch.histories.values()])
        held: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for (group, behaviors), samples in zip(batch.histories.items(), owners, strict=True):
            for feature, name in self.categorical(group).items():
                held.setdefault(name, []).append((cast(Tensor, behaviors.features[feature]), samples))
        values = {name: (torch.cat([v for v, _ in p]), torch.cat([s for _, s in p])) for name, p in held.items()}
        total = s.new_zeros(batch.size, s.shape[1]).index_add(0, owner, s)
        return History(total / lengths.clamp(min=1)[:, None], values)

    def wide(self, encoding: History, candidates: Candidates) -> Float[Tensor, "b c"]:
        """The linear half."""
        total = torch.zeros(candidates.shape, device=encoding.mean.device, dtype=encoding.mean.dtype)
        for feature, name in self.categorical(candidates.group).items():
            index = cast(Tensor, candidates.features[feature]).view(candidates.shape)
            total = total + self.alone[key(name)](index).squeeze(-1)
            if name in encoding.values:
                value, owner = encoding.values[name]
                same = (index[owner] == value[:, None]).to(total.dtype)  # [n, c]
                times = torch.zeros_like(total).index_add(0, owner, same)
                total = total + self.crossed[key(name)](index).squeeze(-1) * times.log1p()
        return total

    def score(self, encoding: History, candidates: Candidates) -> Scores:
        h = self.targets(candidates).h
        e = encoding.mean[:, None].expand_as(h)
        deep = self.top(self.deep(torch.cat([e, h], dim=-1))).squeeze(-1)
        return Scores(self.wide(encoding, candidates) + deep, h, e)
