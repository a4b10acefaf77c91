"""What a model reads: behaviors of some samples, packed, and the candidates to score. Packed means all behaviors of all
samples end to end, without padding; beside them stands whose each one is."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ranges(starts: Int[Tensor, " b"], lengths: Int[Tensor, " b"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The numbers ``starts[i] ... starts[i] + lengths[i] - 1`` for every ``i``, end to end, and their ``i``.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3]))
    (tensor([5, 6, 0, 1, 2]), tensor([0, 0, 1, 1, 1]))
    """
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(len(owner), device=lengths.device) + shift[owner], owner


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths in one tensor: list ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    values: Int[Tensor, " n"]
    offsets: Int[Tensor, " b_plus_1"]

    def take(self, rows: Int[Tensor, " m"]) -> "Ragged":
        """The lists ``rows``, in that order."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        positions, _ = ranges(starts, lengths)
        return Ragged(self.values[positions], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


# what a model reads of some objects: indices, lists of indices, or (standardized value, is missing)
Features = dict[str, Tensor | Ragged]


@dataclass(frozen=True)
class GroupBatch:
    """The history behaviors of one group in a batch, packed: no padding, ``n_i`` behaviors of all samples."""

    features: Features
    actions: Int[Tensor, " n_i"]
    elapsed: Int[Tensor, " n_i"]  # time from the behavior to the moment of ranking, in the schema's timestamp_unit
    positions: Int[Tensor, " n_i"]  # where it lies in the flat tensors of its group


@dataclass(frozen=True)
class Candidates:
    """``c`` objects to score for each of ``b`` samples; features hold them row by row, and so does what is known of
    them as they are shown (``context``). Where rows differ in length, ``real`` says which places hold an object."""

    group: str
    features: Features
    shape: tuple[int, int]
    context: Features | None = None
    real: Bool[Tensor, "b c"] | None = None


@dataclass(frozen=True, eq=False)
class Packing:
    """Whose the packed behaviors of a batch are: row ``i``, in any order, is behavior number ``place[i]`` of sample
    ``owner[i]``. ``longest`` is the largest of ``lengths``, at least 1."""

    owner: Int[Tensor, " n"]
    place: Int[Tensor, " n"]
    lengths: Int[Tensor, " b"]
    longest: int

    @classmethod
    def of(cls, owner: Int[Tensor, " n"], place: Int[Tensor, " n"], size: int) -> "Packing":
        """Of ``size`` samples."""
        lengths = torch.bincount(owner, minlength=size)
        return cls(owner, place, lengths, max(1, int(lengths.max())) if size else 1)

    @cached_property
    def mask(self) -> Bool[Tensor, "b t"]:
        """Which places of a padded table ``[b, longest]`` hold a behavior."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def visible(self) -> Bool[Tensor, "b t"]:
        """What attention may look at: behaviors and, of a sample without any, its first empty place, whose value is
        zero, and so is the result; a softmax over nothing would be NaN."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths.clamp(min=1)[:, None]

    @cached_property
    def _slots(self) -> Int[Tensor, " n"] | None:
        """Where the rows stand in a padded table; None if they are one already, all histories being equally long."""
        slots, places = self.owner * self.longest + self.place, len(self.lengths) * self.longest
        return None if torch.equal(slots, torch.arange(places, device=slots.device)) else slots

    def pad(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "b t d"]:
        """A sample's behaviors side by side; empty places hold zeros."""
        if self._slots is not None:
            x = x.new_zeros(len(self.lengths) * self.longest, x.shape[1]).index_copy_(0, self._slots, x)
        return x.view(len(self.lengths), self.longest, x.shape[1])

    def pack(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "n d"]:
        """The inverse of ``pad``."""
        return x.flatten(0, 1) if self._slots is None else x.flatten(0, 1).index_select(0, self._slots)

    @cached_property
    def offsets(self) -> Int[Tensor, " b_plus_1"]:
        """Sample ``i`` has the rows ``order[offsets[i]:offsets[i + 1]]``."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def order(self) -> Int[Tensor, " n"]:
        """The rows sample by sample, those of a sample in their places."""
        numbers = torch.arange(len(self.owner), device=self.owner.device)
        return torch.empty_like(numbers).index_copy_(0, self.offsets[self.owner] + self.place, numbers)


@dataclass(frozen=True)
class Batch:
    """Histories and candidates of ``b`` samples. Behaviors are packed, groups end to end in the schema's order;
    ``packing`` says whose each one is. ``users`` are indices of the vocabularies' users."""

    histories: dict[str, GroupBatch]
    packing: Packing
    users: Int[Tensor, " b"]
    candidates: Candidates

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.users)


@dataclass(frozen=True)
class Samples:
    """``s`` predictions to make about one group; ``objects`` are rows of its objects table (-1: no known target).

    >>> samples = split(histories).test["item"]
    >>> len(samples), samples.ends.shape  # cuts in three groups
    (40, torch.Size([40, 3]))
    """

    target_group: str
    users: Int[Tensor, " s"]
    times: Int[Tensor, " s"]  # the moment of ranking, in the schema's timestamp_unit
    ends: Int[Tensor, "s groups"]  # cut position per group, in the schema's order of groups
    objects: Int[Tensor, " s"]
    positions: Int[Tensor, " s"]  # the target's position in the flat tensors of its group (-1: none)

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: Int[Tensor, " m"] | Bool[Tensor, " s"] | slice) -> "Samples":
        parts = self.users, self.times, self.ends, self.objects, self.positions
        return Samples(self.target_group, *(part[index] for part in parts))


TaskSamples = dict[str, Samples]  # one entry for each target group
