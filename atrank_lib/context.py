"""Context: what is known of an object as it is shown, such as its place in a list, for networks that rank.

The paper: ``f`` of eq. 8 may be any network that ranks, with further features. Histories have no part in them.
"""

from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.embedding import ObjectEmbedding, shared_tables
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Targets


def contexts(schema: Schema) -> Schema | None:
    """The groups that have context, with it as their features; None where no group has.

    >>> contexts(log.schema) is None
    True
    """
    groups = {n: g.model_copy(update={"features": g.context, "context": {}}) for n, g in schema.groups.items()}
    groups = {name: group for name, group in groups.items() if group.features}
    return schema.model_copy(update={"groups": groups}) if groups else None


class Context(nn.Module):
    """What is known of candidates as they were shown, added to what the first layer of a ranking network gives.

    Args:
        width: of that layer.
        schema, vocabularies: of the log; without context in them nothing is added.
    """

    def __init__(
        self, width: int, schema: Schema | None = None, vocabularies: Vocabularies | None = None, size: int = 16
    ) -> None:
        super().__init__()
        self.groups = nn.ModuleDict()
        if schema and vocabularies and (known := contexts(schema)):
            try:
                tables = shared_tables(known, vocabularies, size)
            except KeyError as error:
                message = f"context {error} has no vocabulary; `impressions.prepare_shown` makes those of context too"
                raise ValueError(message) from None
            for g in known.groups:
                read = ObjectEmbedding(known, g, tables, size)
                self.groups[key(g)] = nn.Sequential(read, nn.Linear(read.size, width, bias=False))

    def forward(self, layers: nn.Sequential, x: Float[Tensor, "b c n"], targets: Targets) -> Float[Tensor, "b c"]:
        """The one output of ``layers`` for the inputs ``x`` of every candidate."""
        first = layers[0](x)
        if targets.context is not None and key(targets.group) in self.groups:
            first = first + self.groups[key(targets.group)](targets.context).view_as(first)
        return layers[1:](first).squeeze(-1)
