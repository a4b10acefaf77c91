"""Latent semantic spaces: behaviors of every group become comparable (paper: eq. 1 and 2)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.log.schema import key


class Perceptron(nn.Sequential):
    """``F_theta``: "a single layer perceptron parametrized by theta with relu as the activation function"."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.ReLU())


def space_sizes(hidden: int, spaces: int | Sequence[int]) -> tuple[int, ...]:
    """Dimensions ``s_k`` of the semantic spaces, which sum to ``hidden``.

    >>> space_sizes(128, 8), space_sizes(6, [4, 2])
    ((16, 16, 16, 16, 16, 16, 16, 16), (4, 2))
    """
    if isinstance(spaces, int):
        if spaces < 1 or hidden % spaces:
            raise ValueError(f"hidden={hidden} cannot be divided into spaces={spaces} equal parts; list the sizes")
        return (hidden // spaces,) * spaces
    if sum(spaces) != hidden or min(spaces) < 1:
        raise ValueError(f"spaces={list(spaces)}, in all {sum(spaces)}, must be positive and sum to hidden={hidden}")
    return tuple(spaces)


class GroupProjection(nn.Module):
    """Eq. 1: ``S = concat_i F_{M_i}(u_bg_i)``: each group has its own map into the overall space ``d = s_all``.

    >>> projection = GroupProjection({"item": 6, "query": 2}, hidden=4)
    >>> projection({"item": torch.randn(3, 6), "query": torch.randn(1, 2)}).shape  # behaviors of both, end to end
    torch.Size([4, 4])
    """

    def __init__(self, sizes: Mapping[str, int], hidden: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({key(group): Perceptron(b, hidden) for group, b in sizes.items()})

    def forward(self, groups: Mapping[str, Float[Tensor, "_ _"]]) -> Float[Tensor, "n d"]:
        return torch.cat([self.maps[key(name)](u) for name, u in groups.items()], dim=0)

    def one(self, group: str, u: Float[Tensor, "n b"]) -> Float[Tensor, "n d"]:
        """``F_{M_g}`` alone: how the target is brought into the overall space (eq. 7)."""
        return self.maps[key(group)](u)


class SemanticProjection(nn.Module):
    """Eq. 2: ``S_k = F_{P_k}(S)`` for all spaces at once. The K perceptrons read the same input, so their weights are
    one matrix: columns of the output belong to space 1, then space 2, and so on.

    >>> [space.shape for space in SemanticProjection(hidden=6, sizes=[4, 2]).spaces(torch.randn(5, 6))]
    [torch.Size([5, 4]), torch.Size([5, 2])]
    """

    def __init__(self, hidden: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.map = Perceptron(hidden, sum(sizes))

    def forward(self, s: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return self.map(s)

    def spaces(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n _"], ...]:
        """The projections ``S_1 ... S_K``, each ``[n, s_k]``."""
        return self(s).split(self.sizes, dim=-1)
