"""Matrix factorization for ranking (Rendle et al., 2009): a vector for each user, a vector for each object."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates
from atrank_lib.embedding import ObjectEmbedding, shared_tables
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Model, Scores
from atrank_lib.variants import zeros


class BPRMFConfig(BaseModel):
    """Sizes and regularization of BPR-MF."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_size: int = Field(64, ge=1, description="dimensions of every feature's embedding")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="on user and object vectors")
    id_dropout: float = Field(0.0, ge=0, lt=1, description="in training, share of object_ids replaced by unknown")


class BPRMF(Model[Tensor]):
    """``score = p_u . q_o + b_o``, meant for the pair-wise loss.

    The object vector ``q_o`` concatenates the embeddings of the object's features, as in the paper's comparison; the
    user vector ``p_u`` is as wide and belongs to the target's group. A user unseen in training has the vector of
    *unknown*. Histories and time play no part.
    """

    Config = BPRMFConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: BPRMFConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or BPRMFConfig()
        self.schema = schema
        self.histories = schema.check_groups(histories or None, "history groups")
        size = config.embedding_size
        self.tables = shared_tables(schema, vocabularies, size)
        self.objects = nn.ModuleDict(
            {key(g): ObjectEmbedding(schema, g, self.tables, size, config.id_dropout) for g in schema.groups}
        )
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
