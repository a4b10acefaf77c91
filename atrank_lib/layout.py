"""Where the packed behaviors of a batch sit in padded tables, and in strips.

What concerns one behavior runs on packed tensors ``[n, d]`` (all behaviors of a batch, no padding); where each user's
behaviors must lie side by side, they fill a padded table ``[b, t, d]``. So that one long history does not stretch the
table of all, samples of similar length share a table of their own, a *strip*. A mask is True where a behavior is real.

Shapes: ``b`` samples, ``t`` places, ``n`` behaviors, ``d`` or ``c`` columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from atrank_lib.fast import kernels

# a strip takes shorter samples in while its empty places stay below both a share of the real ones and a number that
# costs less than one more call
_WASTED_SHARE, _WASTED_PLACES = 0.1, 256


@dataclass(frozen=True)
class Strip:
    """Samples of similar length, side by side in a table ``[b_i, t_i]``.

    ``slots``, ``mask`` and ``visible`` (see ``Layout``) are None when no place is empty.
    """

    size: int
    length: int
    behaviors: int
    slots: Int[Tensor, " n_i"] | None
    mask: Bool[Tensor, "b_i t_i"] | None
    visible: Bool[Tensor, "b_i t_i"] | None

    def pad(self, x: Float[Tensor, "n_i c"]) -> Float[Tensor, "b_i t_i c"]:
        """Packed to padded; empty places hold zeros."""
        if self.slots is not None:
            x = x.new_zeros(self.size * self.length, x.shape[1]).index_copy_(0, self.slots, x)
        return x.view(self.size, self.length, x.shape[1])

    def pack(self, x: Float[Tensor, "b_i t_i c"]) -> Float[Tensor, "n_i c"]:
        """Padded to packed."""
        x = x.flatten(0, 1)
        return x if self.slots is None else x.index_select(0, self.slots)


def _visible(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"] | None:
    if bool(mask.all()):
        return None
    visible = mask.clone()
    visible[:, 0] |= ~mask.any(dim=1)
    return visible


@dataclass(frozen=True)
class Order:
    """A way to line things up, and back; None where they are lined up already."""

    there: Int[Tensor, " n"] | None
    back: Int[Tensor, " n"] | None

    @classmethod
    def by(cls, keys: Int[Tensor, " n"]) -> Order:
        if bool((keys[1:] >= keys[:-1]).all()):
            return cls(None, None)
        there = keys.argsort(stable=True)
        return cls(there, torch.empty_like(there).index_copy_(0, there, torch.arange(len(there), device=there.device)))

    def apart(self, x: Float[Tensor, "n *c"], sizes: list[int]) -> Sequence[Float[Tensor, "_ *c"]]:
        """Lined up, and cut into parts of these sizes."""
        x = x if self.there is None else x.index_select(0, self.there)
        return x.split(sizes) if len(sizes) > 1 else [x]

    def together(self, parts: Sequence[Float[Tensor, "_ *c"]]) -> Float[Tensor, "n *c"]:
        """The inverse of ``apart``."""
        x = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return x if self.back is None else x.index_select(0, self.back)


@dataclass(frozen=True)
class Layout:
    """Where the packed behaviors of a batch sit in its padded table, and in its strips.

    >>> layout = Layout(torch.tensor([0, 3, 4, 5]), size=2, length=3)  # one behavior, and three
    >>> layout.mask.tolist()
    [[True, False, False], [True, True, True]]
    """

    slots: Int[Tensor, " n"]
    size: int
    length: int

    @cached_property
    def mask(self) -> Bool[Tensor, "b t"]:
        """Which places of the table hold a behavior."""
        mask = torch.zeros(self.size * self.length, dtype=torch.bool, device=self.slots.device)
        mask[self.slots] = True
        return mask.view(self.size, self.length)

    @cached_property
    def samples(self) -> Order:
        """Samples, strip by strip."""
        return Order.by(self.mask.sum(dim=1))

    @cached_property
    def _placed(self) -> Int[Tensor, " n"]:
        """Slots once the samples are sorted by length."""
        at = self.slots // self.length
        place = at if self.samples.back is None else self.samples.back[at]
        return place * self.length + self.slots % self.length

    @cached_property
    def behaviors(self) -> Order:
        """Packed behaviors, strip by strip."""
        return Order.by(self._placed)

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Tables of samples of similar length."""
        lengths = self.mask.sum(dim=1)
        by_length = lengths if self.samples.there is None else lengths[self.samples.there]
        at, length = self._placed, self.length
        at = at if self.behaviors.there is None else at[self.behaviors.there]
        strips, first, done = [], 0, 0
        for count, real, longest in _runs(by_length):
            if real == count * longest:
                strips.append(Strip(count, longest, real, None, None, None))
            else:
                inside = at[done : done + real] - first * length
                own = inside // length * longest + inside % length
                flat = torch.zeros(count * longest, dtype=torch.bool, device=self.slots.device)
                here = flat.index_fill_(0, own, True).view(count, longest)
                strips.append(Strip(count, longest, real, own, here, _visible(here)))
            first, done = first + count, done + real
        return tuple(strips)

    @cached_property
    def among(self) -> kernels.Rows:
        """Packed behaviors that ask those of their own sample: what compiled code wants to know instead of strips."""
        counts = torch.bincount(self.slots // self.length, minlength=self.size)
        ends = nn.functional.pad(counts.cumsum(0), (1, 0))
        rows = Order.by(self.slots).there
        return kernels.Rows(ends, ends, rows, rows)

    def asked(self, targets: int) -> kernels.Rows:
        """The same for ``targets`` targets of every sample."""
        return kernels.Rows(torch.arange(self.size + 1) * targets, self.among.told, None, self.among.tells)

    def pad(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "b t c"]:
        """Packed to padded, in one table; empty places hold zeros."""
        x = x.new_zeros(self.size * self.length, x.shape[1]).index_copy_(0, self.slots, x)
        return x.view(self.size, self.length, -1)

    def pack(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "n c"]:
        """Padded to packed."""
        return x.flatten(0, 1)[self.slots]

    def visible(self) -> Bool[Tensor, "b t"] | None:
        """What attention may look at; None when every place is real.

        A sample without any behavior sees its first empty place: its value is zero, and so is the result, where a
        softmax over nothing would be NaN.
        """
        return _visible(self.mask)

    def apart(self, x: Float[Tensor, "n c"]) -> Iterator[Float[Tensor, "_ _ c"]]:
        """Packed behaviors as the padded table of every strip."""
        parts = self.behaviors.apart(x, [strip.behaviors for strip in self.strips])
        return (strip.pad(part) for strip, part in zip(self.strips, parts, strict=True))


def _runs(lengths: Int[Tensor, " b"]) -> list[tuple[int, int, int]]:
    """Cut ascending lengths into strips: (samples, behaviors, longest) of each."""
    values, counts = torch.unique_consecutive(lengths, return_counts=True)
    runs: list[tuple[int, int, int]] = []
    wasted = 0
    for value, count in zip(reversed(values.tolist()), reversed(counts.tolist()), strict=True):
        if runs:
            samples, real, longest = runs[-1]
            wasted += (longest - value) * count
            if wasted <= max(_WASTED_PLACES, _WASTED_SHARE * real):
                runs[-1] = (samples + count, real + value * count, longest)
                continue
        runs.append((count, value * count, max(value, 1)))
        wasted = count if value == 0 else 0
    return runs[::-1]
