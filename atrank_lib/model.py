"""ATRank: from grouped behaviors to the scores of candidates, in one sitting.

With ``n`` behaviors over all groups and ``d = s_all``::

    u_ij = emb_i(o) + lookup_time_i(bucket(elapsed)) + lookup_action_i(a)     [n_i, b_i]
    S    = concat_i relu(M_i u_i)                                             [n, d]     eq. 1
    S_k  = relu(P_k S),  A_k = softmax(S_k W_k S^T),  C_k = A_k relu(Q_k S)   [n, s_k]   eq. 2-5
    C    = LayerNorm(S + dropout(F_self(concat_k C_k)))                       [n, d]     eq. 6
    h_t  = relu(M_g q_t),  e_u = F_vanilla(concat_k attend(relu(P_k h_t), C)) [d]        eq. 7
    score = f(h_t, e_u)                                                                  eq. 8

The classes are the paper. Whatever departs from it is another part, handed in: see ``variants``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.attention import SelfAttention, SpaceAttention, TargetAttention
from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.embedding import BehaviorEmbedding, shared_tables
from atrank_lib.log.schema import Schema, Settings, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.projection import GroupProjection, space_sizes
from atrank_lib.ranking import DotProduct, Model, Read, Scores, Targets


class EmbeddingConfig(Settings):
    """Sizes that every model has; the defaults are the paper's, which names no dropout."""

    embedding_size: int = Field(64, ge=1, description="dimensions of every feature's embedding")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="on the embeddings of behaviors, users and targets")
    id_dropout: float = Field(0.0, ge=0, lt=1, description="in training, share of object_ids replaced by unknown")


class BehaviorConfig(EmbeddingConfig):
    """Sizes that every model of behaviors has."""

    hidden: int = Field(128, ge=1, description="s_all, the sum of the spaces' sizes")
    dropout: float = Field(0.0, ge=0, lt=1, description="inside the model, after its own layers")


class ATRankConfig(BehaviorConfig):
    """Sizes of the model; what the paper leaves open, or its authors' code does otherwise, is in ``variants``.

    >>> ATRankConfig(hidden=64, spaces=4).blocks
    1
    """

    spaces: int | tuple[int, ...] = Field(8, description="K equal spaces, or the sizes s_1 ... s_K")
    blocks: int = Field(1, ge=0, description="layers of self-attention; 0 leaves it out")


@dataclass(frozen=True)
class Parts:
    """What a model is made of: the paper's parts, unless others are handed in."""

    embedding: Callable[..., BehaviorEmbedding] = BehaviorEmbedding
    projection: Callable[[Mapping[str, int], int], GroupProjection] = GroupProjection
    attention: Callable[[int, Sequence[int]], SpaceAttention] = SpaceAttention
    self_attention: Callable[..., SelfAttention] = SelfAttention
    target_attention: Callable[[int, SpaceAttention], TargetAttention] = TargetAttention
    rank: Callable[[Schema, Vocabularies], nn.Module] = lambda *_: DotProduct()


PAPER = Parts()


@dataclass(frozen=True)
class Encoding:
    """Encoded histories: all that is needed to score any number of candidates for each of ``b`` samples."""

    behaviors: Float[Tensor, "n d"]  # C, packed
    packing: Packing
    keys: Float[Tensor, "n d"]
    values: Float[Tensor, "n d"]


class BehaviorModel(Model[Read]):
    """What all models share: behaviors of every group embedded and projected into one space (eq. 1), and targets. Made
    for the groups of a ``schema`` and the values that ``vocabularies`` know; ``histories`` names the groups that a
    history may contain, all by default."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: BehaviorConfig,
        histories: Sequence[str] | None = None,
        parts: Parts = PAPER,
    ) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        self.histories = schema.check_groups(histories or None, "history groups")
        size = config.embedding_size
        self.tables = shared_tables(schema, vocabularies, size)
        embeddings = {key(g): parts.embedding(schema, g, self.tables, size, config.id_dropout) for g in schema.groups}
        self.embeddings = nn.ModuleDict(embeddings)
        widths = {g: self.embedding(g).size for g in schema.groups}
        self.projection = parts.projection(widths, config.hidden)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.rank = parts.rank(schema, vocabularies)

    def embedding(self, group: str) -> BehaviorEmbedding:
        return cast(BehaviorEmbedding, self.embeddings[key(group)])

    def project(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Eq. 1: the behaviors of all groups, embedded and projected, end to end."""
        return self.projection({g: self.dropout(self.embedding(g)(b)) for g, b in batch.histories.items()})

    def targets(self, candidates: Candidates) -> Targets:
        """``h_t = F_{M_g}(q_t)`` of every candidate, ``[b, c, d]``, and ``q_t`` itself."""
        q = self.dropout(self.embedding(candidates.group).target(candidates.features))
        h = self.projection.one(candidates.group, q)
        ids = cast(Tensor | None, candidates.features.get("object_id"))
        rows = candidates.shape
        ids = None if ids is None else ids.view(rows)
        return Targets(candidates.group, h.unflatten(0, rows), q.unflatten(0, rows), ids, context=candidates.context)


class ATRank(BehaviorModel[Encoding]):
    """The model of the paper for any schema; every group's target can be scored, whichever groups the histories hold.

    >>> samples = split(histories).test["item"][:2]
    >>> batch = build_batch(histories, samples, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    >>> model(batch).scores.shape, model.encode(batch).behaviors.shape
    (torch.Size([2, 3]), torch.Size([54, 128]))
    """

    config: ATRankConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: ATRankConfig | None = None,
        histories: Sequence[str] | None = None,
        parts: Parts = PAPER,
    ) -> None:
        config = config or ATRankConfig()
        super().__init__(schema, vocabularies, config, histories, parts)
        d, sizes = config.hidden, space_sizes(config.hidden, config.spaces)
        blocks = [parts.self_attention(d, parts.attention(d, sizes), config.dropout) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.target = parts.target_attention(d, parts.attention(d, sizes))

    def block(self, number: int) -> SelfAttention:
        return cast(SelfAttention, self.blocks[number])

    def encode(self, batch: Batch) -> Encoding:
        return self.read(self.project(batch), batch.packing)

    def read(self, s: Float[Tensor, "n d"], packing: Packing) -> Encoding:
        """Eq. 2-6, and the keys and values of eq. 7, from projected behaviors ``S`` of any samples."""
        c = s
        for block in self.blocks:
            c = block(c, packing)
        return Encoding(c, packing, *self.target.read(c))

    def score(self, encoding: Encoding, candidates: Candidates) -> Scores:
        return self.match(encoding, self.prepare(candidates))

    def prepare(self, candidates: Candidates) -> Targets:
        """The candidates' side of eq. 7 and 8: the histories play no part."""
        targets = self.targets(candidates)
        return replace(targets, queries=self.target.attention.queries(targets.h))

    def match(self, encoding: Encoding, targets: Targets) -> Scores:
        """Eq. 7 and 8 from both sides, row by row."""
        e = self.target(targets.h, targets.queries, encoding.keys, encoding.values, encoding.packing)  # [b, c, d]
        return Scores(self.rank(targets, e), targets.h, e)
