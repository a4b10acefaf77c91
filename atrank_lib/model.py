"""ATRank: from grouped behaviors to the scores of candidates, in one sitting.

With ``n`` behaviors over all groups and ``d = s_all``::

    u_ij = emb_i(o) + lookup_time_i(bucket(elapsed)) + lookup_action_i(a)     [n_i, b_i]
    S    = concat_i relu(M_i u_i)                                             [n, d]     eq. 1
    S_k  = relu(P_k S),  A_k = softmax(S_k W_k S^T),  C_k = A_k relu(Q_k S)   [n, s_k]   eq. 2-5
    C    = LayerNorm(S + dropout(F_self(concat_k C_k)))                       [n, d]     eq. 6
    h_t  = relu(M_g q_t),  e_u = F_vanilla(concat_k attend(relu(P_k h_t), C)) [d]        eq. 7
    score = f(h_t, e_u)                                                                  eq. 8
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from atrank_lib.attention import AttentionForm, FeedForward, SelfAttention, SpaceAttention, TargetAttention, Told
from atrank_lib.embedding import BehaviorEmbedding, key, shared_tables
from atrank_lib.grouping import Vocabularies, check_groups
from atrank_lib.layout import Layout
from atrank_lib.log.schema import Schema
from atrank_lib.noise import Dropout
from atrank_lib.projection import GroupProjection, space_sizes
from atrank_lib.ranking import MLP, DotProduct
from atrank_lib.samples import Batch, Candidates
from atrank_lib.time_encoding import TimeForm


class BehaviorConfig(BaseModel):
    """What every model of behaviors may choose; the sizes are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_size: int = Field(64, ge=1, description="dimensions of every feature's embedding")
    hidden: int = Field(128, ge=1, description="s_all, the sum of the spaces' sizes")
    dropout: float = Field(0.0, ge=0, lt=1, description="inside the model, after its own layers")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="on behavior and target embeddings")
    id_dropout: float = Field(0.0, ge=0, lt=1, description="in training, share of object_ids replaced by unknown")
    time: TimeForm = "lookup"
    linear_projection: bool = Field(False, description="leave the relu of eq. 1 out")


class ATRankConfig(BehaviorConfig):
    """Sizes and choices of the model; the defaults are the paper's where it is clear, and our reading where not.

    Where the paper is ambiguous or its code differs, the choice is an option: ``attention``, ``time``, ``residual``,
    ``target_attention``, ``target_residual``, ``ranked``, ``object_bias``, ``linear_projection``. Our reading:
    ``residual`` adds the behaviors S, as the paper does not say what; ``target_attention`` has parameters of its own,
    as in the original code, though eq. 7 writes the symbols of eq. 2 to 5; ``ranked`` follows eq. 8 and not the text
    after it; and no dropout, as the paper gives no rate.

    Dropout comes after F_self (and after F_vanilla with ``target_residual``). Two options go beyond the paper:
    ``task_heads``, as there all tasks share all parameters, and ``told="raw"``, by which the target reads behaviors as
    they are.

    >>> ATRankConfig(hidden=64, spaces=4).model_dump(include={"hidden", "spaces", "blocks"})
    {'hidden': 64, 'spaces': 4, 'blocks': 1}
    """

    spaces: int | tuple[int, ...] = Field(8, description="K equal spaces, or the sizes s_1 ... s_K")
    blocks: int = Field(1, ge=0, description="layers of self-attention; 0 leaves it out")
    attention: AttentionForm = "bilinear"
    residual: Literal["input", "attended"] = "input"
    target_attention: Literal["shared", "separate"] = "separate"
    target_residual: bool = False
    told: Told = Field("projected", description="e_u: F_vanilla of sums of relu(Q_k C) (eq. 7), or raw: sums of C")
    ranked: Literal["projected", "raw"] = Field(
        "projected", description="f reads h_t (eq. 8) or q_t (the text after it)"
    )
    object_bias: bool = Field(False, description="add a learned bias for each object_id to its score")
    task_heads: bool = Field(False, description="e_u <- e_u + a network of each target group's own")
    ranking: Literal["dot", "mlp"] = "dot"


@dataclass(frozen=True)
class Encoding:
    """Encoded histories: all that is needed to score any number of candidates for each of ``b`` samples."""

    behaviors: Float[Tensor, "n d"]  # C, packed
    layout: Layout
    keys: Float[Tensor, "n d"]
    values: Float[Tensor, "n d"]


@dataclass(frozen=True)
class Targets:
    """What scoring reads of candidates and what no user has a part in: computed once for any number of users."""

    group: str
    h: Float[Tensor, "*c d"]  # h_t
    queries: Float[Tensor, "*c d"]  # relu(P_k h_t), all spaces side by side
    ranked: Float[Tensor, "*c d"]  # what f compares with the user vector
    bias: Float[Tensor, "*c"] | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """``change`` done to every tensor, such as taking a part; what is one tensor stays one."""
        h = change(self.h)
        return Targets(
            self.group,
            h,
            change(self.queries),
            h if self.ranked is self.h else change(self.ranked),
            None if self.bias is None else change(self.bias),
        )

    @classmethod
    def join(cls, parts: Sequence[Targets]) -> Targets:
        """Flat parts ``[c, ...]`` of one group, end to end."""
        h = torch.cat([part.h for part in parts])
        return cls(
            parts[0].group,
            h,
            torch.cat([part.queries for part in parts]),
            h if parts[0].ranked is parts[0].h else torch.cat([part.ranked for part in parts]),
            torch.cat([part.bias for part in parts if part.bias is not None]) if parts[0].bias is not None else None,
        )


@dataclass(frozen=True)
class Scores:
    """Scores of candidates, and the two vectors each came from."""

    scores: Float[Tensor, "b c"]
    targets: Float[Tensor, "b c d"]  # h_t
    users: Float[Tensor, "b c d"]  # e_u^t

    def l2(self) -> Float[Tensor, ""]:
        """Half the squared norm of both vectors, summed over the batch: the original code's l2 loss."""
        return 0.5 * (self.targets.square().sum() + self.users.square().sum())

    def float32(self) -> Scores:
        """The same in full precision: what follows autocast sums in it."""
        return Scores(self.scores.float(), self.targets.float(), self.users.float())


@dataclass(frozen=True)
class Explanation:
    """Attention of a batch, laid out by sample. Places without a behavior have ``groups == -1`` and no weight.

    >>> from atrank_lib import GroupedHistories, build_batch, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies).eval()
    >>> samples = split(histories).test["item"][:2]
    >>> explanation = model.explain(build_batch(histories, samples, samples.objects[:, None]))
    >>> explanation.target_attention.shape[:3], round(explanation.target_attention.sum().item())  # 8 spaces, 2 samples
    (torch.Size([2, 8, 1]), 16)
    """

    self_attention: tuple[Float[Tensor, "b k t t"], ...]  # one entry per layer
    target_attention: Float[Tensor, "b k c t"]
    groups: Int[Tensor, "b t"]  # number of each behavior's group, in the schema's order
    positions: Int[Tensor, "b t"]  # its position in the flat tensors of its group (-1: no behavior)


class BehaviorModel(nn.Module):
    """What all models share: behaviors of every group embedded and projected into one space (eq. 1), and targets.

    Args:
        schema: groups, features and time scales of the event log.
        vocabularies: what the model knows; sizes its tables.
        config: sizes and options.
        histories: groups a history may contain; all by default.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: BehaviorConfig,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.histories = check_groups(schema, histories or tuple(schema.groups), "history groups")
        self.tables = shared_tables(schema, vocabularies, config.embedding_size)
        self.embeddings = nn.ModuleDict(
            {
                key(g): BehaviorEmbedding(schema, g, self.tables, config.embedding_size, config.time, config.id_dropout)
                for g in schema.groups
            }
        )
        widths = {g: self.embedding(g).size for g in schema.groups}
        self.projection = GroupProjection(widths, config.hidden, config.linear_projection)
        self.dropout = Dropout(config.embedding_dropout)

    def embedding(self, group: str) -> BehaviorEmbedding:
        module = self.embeddings[key(group)]
        assert isinstance(module, BehaviorEmbedding)
        return module

    def lookups(self) -> dict[str, list[nn.Embedding]]:
        """The tables that a batch's indices are looked up in, by the vocabulary of the indices."""
        names = {self.schema.vocabulary(g, f) for g, group in self.schema.groups.items() for f in group.features}
        return {
            name: [cast(nn.Embedding, self.tables[key(name)])] for name in sorted(names) if key(name) in self.tables
        }

    def project(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Eq. 1: the behaviors of all groups, embedded and projected, end to end."""
        return self.projection(
            {g: self.dropout(self.embedding(g)(behaviors)) for g, behaviors in batch.histories.items()}
        )

    def targets(self, candidates: Candidates) -> tuple[Float[Tensor, "b c d"], Float[Tensor, "b c _"]]:
        """``h_t = F_{M_g}(q_t)`` of every candidate, and ``q_t`` itself."""
        q = self.dropout(self.embedding(candidates.group).target(candidates.features))
        h = self.projection.one(candidates.group, q)
        return h.unflatten(0, candidates.shape), q.unflatten(0, candidates.shape)


class ATRank(BehaviorModel):
    """The model of the paper for any schema.

    Args:
        schema: groups, features and time scales of the event log.
        vocabularies: what the model knows; sizes its tables.
        config: sizes and options.
        histories: groups a history may contain; all by default.

    Every group's target can be scored, whichever groups the histories hold.

    >>> from atrank_lib import GroupedHistories, build_batch, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(hidden=64))
    >>> samples = split(histories).test["item"][:2]
    >>> batch = build_batch(histories, samples, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    >>> model(batch).scores.shape, model.encode(batch).behaviors.shape == (len(batch.slots), 64)
    (torch.Size([2, 3]), True)
    """

    Config = ATRankConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: ATRankConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        config = config or ATRankConfig()
        super().__init__(schema, vocabularies, config, histories)
        self.config = config
        sizes = space_sizes(config.hidden, config.spaces)
        self.blocks = nn.ModuleList(
            SelfAttention(config.hidden, sizes, config.attention, config.residual, config.dropout)
            for _ in range(config.blocks)
        )
        if config.target_attention == "separate" or not self.blocks:
            attention = SpaceAttention(config.hidden, sizes, config.attention, values=config.told == "projected")
        else:
            attention = self.block(-1).attention
        self.target = TargetAttention(config.hidden, attention, config.target_residual, config.dropout, config.told)
        self.heads = nn.ModuleDict({key(g): FeedForward(config.hidden) for g in schema.groups if config.task_heads})
        self.rank = DotProduct() if config.ranking == "dot" else MLP(config.hidden, config.dropout)
        self.biases = nn.ModuleDict()
        for g, group in schema.groups.items():
            width = self.embedding(g).size
            if config.ranked == "raw" and width != config.hidden:
                raise ValueError(f"ranked='raw' compares q_t of group {g!r} ({width} wide) with hidden={config.hidden}")
            if config.object_bias:
                if "object_id" not in group.features:
                    raise ValueError(f"object_bias needs object_id among the features of group {g!r}")
                bias = nn.Embedding(vocabularies.size(schema.vocabulary(g, "object_id")), 1)
                nn.init.zeros_(bias.weight)
                self.biases[key(g)] = bias

    def lookups(self) -> dict[str, list[nn.Embedding]]:
        found = super().lookups()
        for g in self.schema.groups:
            if key(g) in self.biases:
                found[self.schema.vocabulary(g, "object_id")].append(cast(nn.Embedding, self.biases[key(g)]))
        return found

    def block(self, number: int) -> SelfAttention:
        module = self.blocks[number]
        assert isinstance(module, SelfAttention)
        return module

    def encode(self, batch: Batch) -> Encoding:
        """Read the histories of a batch; candidates play no part."""
        return self.read(self.project(batch), Layout(batch.slots, batch.size, batch.length))

    def read(self, s: Float[Tensor, "n d"], layout: Layout) -> Encoding:
        """Eq. 2-6, and the keys and values of eq. 7, from projected behaviors ``S`` that lie anywhere."""
        c = s
        for number in range(len(self.blocks)):
            c = self.block(number)(c, layout)
        keys, values = self.target.read(c)  # [n, d]
        return Encoding(c, layout, keys, values)

    def score(self, encoding: Encoding, candidates: Candidates) -> Scores:
        """Score candidates against encoded histories, row by row; one encoding serves any number of calls."""
        return self.match(encoding, self.prepare(candidates))

    def prepare(self, candidates: Candidates) -> Targets:
        """The candidates' side of eq. 7 and 8: the histories play no part."""
        h, q = self.targets(candidates)
        bias = None
        if key(candidates.group) in self.biases:
            index = candidates.features["object_id"]
            assert isinstance(index, Tensor)
            bias = self.biases[key(candidates.group)](index).view(candidates.shape)
        queries = self.target.attention.queries(h)
        return Targets(candidates.group, h, queries, q if self.config.ranked == "raw" else h, bias)

    def match(self, encoding: Encoding, targets: Targets) -> Scores:
        """Eq. 7 and 8 from both sides, row by row."""
        e = self.target.tell(targets.h, targets.queries, encoding.keys, encoding.values, encoding.layout)  # [b, c, d]
        if key(targets.group) in self.heads:
            e = e + self.heads[key(targets.group)](e)
        scores = self.rank(targets.ranked, e)
        if targets.bias is not None:
            scores = scores + targets.bias
        return Scores(scores, targets.ranked, e)

    def forward(self, batch: Batch) -> Scores:
        return self.score(self.encode(batch), batch.candidates)

    @torch.no_grad()
    def explain(self, batch: Batch) -> Explanation:
        """Every attention weight behind the scores of a batch."""
        layout = Layout(batch.slots, batch.size, batch.length)
        c, matrices = self.project(batch), []
        for number in range(len(self.blocks)):
            matrices.append(self.block(number).weights(c, layout) * layout.mask[:, None, :, None])
            c = self.block(number)(c, layout)
        keys, _ = self.target.read(c)
        h, _ = self.targets(batch.candidates)
        target = self.target.weights(h, keys, layout) * layout.mask[:, None, None, :]
        order = list(self.schema.groups)
        numbers = torch.cat([torch.full_like(b.positions, order.index(g)) for g, b in batch.histories.items()])
        slots = batch.slots.cpu()  # positions never leave the CPU
        groups = torch.full((batch.size * batch.length,), -1).index_copy(0, slots, numbers)
        positions = torch.cat([b.positions for b in batch.histories.values()])
        places = torch.full((batch.size * batch.length,), -1).index_copy(0, slots, positions)
        shape = (batch.size, batch.length)
        return Explanation(tuple(matrices), target, groups.view(shape), places.view(shape))
