"""A convolutional competitor: filters of ten widths over the history, and the maximum of each (Kim, 2014)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.batches import Batch
from atrank_lib.competitors.base import Competitor

WIDTHS, MAPS = range(1, 11), 32  # the paper's: "ten kinds of window sizes from one to ten", 32 maps each


class CNN(Competitor):
    """``e_u = F(concat_w max_i relu(conv_w(s_i ... s_{i+w-1})))``.

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
