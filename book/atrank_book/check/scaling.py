"""Checkers for chapter 12: a batch shared between processes, their gradients combined, and a device that is full."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker
from atrank_lib.log.sharded import shard_of

Share = Callable[[int, int, int], Sequence[int]]
Combine = Callable[[Float[Tensor, "r p"], Int[Tensor, " r"]], Float[Tensor, " p"]]
Capacity = Callable[[int, int, str], float]


@checker
def share(answer: Share) -> str:
    """Which samples of a batch each process takes."""
    for samples, world in ((8, 2), (7, 3), (2, 4), (10, 4)):
        parts = [[int(i) for i in answered(answer(samples, rank, world))] for rank in range(world)]
        taken = [i for part in parts for i in part]
        who = f"of {samples} samples for {world} processes"
        if max(taken, default=0) >= samples:
            raise Mistake(f"sample {max(taken)} does not exist: {who} the numbers end at {samples - 1}")
        if len(taken) > len(set(taken)):
            twice = next(i for i in taken if taken.count(i) > 1)
            raise Mistake(f"{who} several take sample {twice}: it would count more than once")
        if len(taken) < samples:
            lost = sorted(set(range(samples)) - set(taken))
            raise Mistake(f"{who} nobody takes {lost}; samples // world drops what does not divide evenly")
        sizes = [len(part) for part in parts]
        if max(sizes) > min(sizes) + 1:
            raise Mistake(f"{who} the shares have sizes {sizes}: all wait for the largest, so let them differ by one")
        blocks = all(part == list(range(part[0], part[-1] + 1)) for part in parts if part)
        if samples >= 2 * world and blocks:
            raise Mistake(
                f"{who} process 0 takes {parts[0]}, a block: in a batch sorted by length the last process has all the "
                "long histories; deal the samples out like cards"
            )
    return "every sample once, shares of equal size, long and short histories for everybody"


@checker
def combine(answer: Combine) -> str:
    """The gradient of the mean over all samples, from the processes' own."""
    own = torch.tensor([[1.0, -2.0], [4.0, 0.0], [7.0, 1.0]])
    for counts in (torch.tensor([2, 1, 1]), torch.tensor([3, 0, 1])):
        gradients = own.clone()
        gradients[counts == 0] = float("nan")
        has = counts > 0
        right = (counts[has].float() / counts.sum()) @ gradients[has]
        found = torch.as_tensor(answered(answer(gradients, counts)))
        if found.shape != right.shape:
            raise Mistake(f"the gradient has the shape {list(right.shape)} of a process's, got {list(found.shape)}")
        if bool(found.isnan().any()):
            raise Mistake("NaN: a process without samples has share 0, but 0 times NaN is NaN; leave it out")
        if torch.allclose(found, right, atol=1e-5):
            continue
        if torch.allclose(found, gradients[has].mean(0), atol=1e-5):
            raise Mistake(f"the mean of the means: with {counts.tolist()} samples the processes do not count the same")
        if torch.allclose(found, gradients[has].sum(0), atol=1e-5):
            raise Mistake(
                "the plain sum: it grows with the number of processes; weigh each by its share of the samples"
            )
        if torch.allclose(found, right * counts.sum(), atol=1e-4):
            raise Mistake(
                "the gradient of the sum of the losses, not of their mean: divide by the number of all samples"
            )
        raise Mistake(
            f"for {counts.tolist()} samples and gradients {gradients.tolist()}: {found.tolist()}, not {right.tolist()}"
        )
    return "weighted by their samples, they are the gradient of the whole batch"


@checker
def capacity(answer: Capacity) -> str:
    """How many objects fit into a device's memory."""
    for memory, size, optimizer in ((80_000_000_000, 64, "adam"), (16_000_000_000, 64, "sgd"), (1_000_000, 16, "adam")):
        copies = 4 if optimizer == "adam" else 2
        right, found = memory // (4 * size * copies), float(answered(answer(memory, size, optimizer)))
        if abs(found - right) <= 1:
            continue
        case = f"{memory:,} bytes, rows of {size}, {optimizer}"
        if abs(found / right - 4) < 1e-3:
            if optimizer == "sgd" or abs(found - memory / (size * copies)) <= 1:
                raise Mistake(f"{case}: four times too many; a float32 takes 4 bytes")
            raise Mistake(f"{case}: the weights alone; the gradient is as large, and Adam keeps two moments more")
        if optimizer == "adam" and abs(found / right - 2) < 1e-3:
            raise Mistake(f"{case}: twice too many; Adam keeps two moments beside weights and gradient")
        if abs(found / right - 2) < 1e-3:
            raise Mistake(f"{case}: twice too many; the gradient is as large as the weights")
        if optimizer == "sgd" and abs(found / right - 0.5) < 1e-3:
            raise Mistake(f"{case}: half of what fits; plain SGD keeps no moments")
        raise Mistake(f"{case}: {found:,.0f}, not {right:,}; memory / (4 bytes x size x copies)")
    return "the table is the first to outgrow a device, and now you know when"


SHARD_USERS = [*(f"user{i}" for i in range(200)), "Zoë", "用户"]
SHARDS = 12


@checker
def shard(answer: Callable[[str, int], int]) -> str:
    """The shard of a user, from 0: the first four hexadecimal digits of the id's MD5, modulo the number of shards."""
    found = [answered(answer(user, SHARDS)) for user in SHARD_USERS]
    right = [shard_of(user, SHARDS) for user in SHARD_USERS]

    def like(rule: Callable[[str], int]) -> bool:
        return found == [rule(user) for user in SHARD_USERS]

    def md5(user: str) -> str:
        return hashlib.md5(user.encode(), usedforsecurity=False).hexdigest()

    if not all(isinstance(number, int) for number in found):
        raise Mistake(f"{SHARD_USERS[0]!r} got {found[0]!r}: a shard is a whole number; int(digits, 16) reads one")
    if like(lambda user: hash(user) % SHARDS):
        raise Mistake("Python salts hash() anew in every process: tomorrow the user would be looked for elsewhere")
    if like(lambda user: shard_of(user, SHARDS) + 1):
        raise Mistake("every shard is one too high: shards are numbered from 0")
    if like(lambda user: int(md5(user), 16) % SHARDS):
        raise Mistake("this takes all 32 digits of the MD5, too large a number for 64 bits; take the first four")
    if like(lambda user: int(md5(user)[:4], 16)):
        raise Mistake("this is the 16-bit number itself: take it modulo the number of shards")
    if max(found) >= SHARDS or min(found) < 0:
        worst = max(found) if max(found) > 0 else min(found)
        raise Mistake(f"a user got shard {worst} of {SHARDS}: they go from 0 to {SHARDS - 1}")
    largest = max(found.count(number) for number in range(SHARDS))
    if largest > len(found) / 4:
        raise Mistake(f"one shard got {largest} of {len(found)} users: like ids must not share a shard, hash them")
    wrong = [(user, a, b) for user, a, b in zip(SHARD_USERS, found, right, strict=True) if a != b]
    if wrong:
        user, a, b = wrong[0]
        raise Mistake(f"{user!r} got shard {a} of {SHARDS}, the engines say {b}: take 4 digits of MD5(UTF-8 bytes)")
    if answer("user0", 7) != shard_of("user0", 7):
        raise Mistake("right for 12 shards, wrong for 7: use the number of shards that you are given")
    return "right: DuckDB, Spark and Python agree on where every user lives"
