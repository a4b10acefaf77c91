"""Checkers for chapter 8: the modes of a schema, an epoch of equal tasks, and a gradient without conflict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker

Modes = Callable[[Sequence[str]], Sequence[tuple[str, Sequence[str], Sequence[str]]]]
Weights = Callable[[dict[str, int]], dict[str, float]]
Project = Callable[[Float[Tensor, " p"], Float[Tensor, " p"]], Float[Tensor, " p"]]


@checker
def modes(answer: Modes) -> str:
    """(name, histories, targets) of every training mode of some groups."""
    for groups in (["item", "query", "coupon"], ["film", "trailer"], ["song"]):
        found = [
            (name, tuple(histories), tuple(targets)) for name, histories, targets in answered(answer(list(groups)))
        ]
        names = [name for name, _, _ in found]
        everything = tuple(groups)
        right: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {f"{g}2{g}": ((g,), (g,)) for g in groups}
        if len(groups) > 1:
            right |= {f"all2{g}": (everything, (g,)) for g in groups}
            right["all2all"] = (everything, everything)
        if len(names) != len(set(names)):
            raise Mistake(f"a mode is listed twice: {names}")
        if len(groups) == 1 and len(found) > 1:
            raise Mistake(f"with one group, reading all is reading one: only {list(right)} is left; got {names}")
        missing, extra = [n for n in right if n not in names], [n for n in names if n not in right]
        crossed = [n for n in extra if "2" in n and not n.startswith("all") and n.split("2")[0] != n.split("2")[-1]]
        if crossed:
            raise Mistake(f"{crossed} reads one group and predicts another; the paper's modes do not have it")
        if missing or extra:
            raise Mistake(f"of {groups}: missing {missing}, too many {extra}")
        for name, histories, targets in found:
            if (histories, targets) != right[name]:
                raise Mistake(
                    f"{name} reads {right[name][0]} and predicts {right[name][1]}; got {histories}, {targets}"
                )
    return "right: 2 G + 1 modes for G groups, and one mode where there is one group"


@checker
def equal_weights(answer: Weights) -> str:
    """Weights that let every task count alike, given its number of samples."""
    for counts in ({"a": 300, "b": 100}, {"a": 10, "b": 10, "c": 40}, {"a": 7}):
        found = answered(answer(dict(counts)))
        if set(found) != set(counts):
            raise Mistake(f"one weight for each of {list(counts)} is wanted; got {list(found)}")
        n, tasks = sum(counts.values()), len(counts)
        shares = {name: found[name] * counts[name] for name in counts}
        if all(abs(w - next(iter(found.values()))) < 1e-9 for w in found.values()) and len(set(counts.values())) > 1:
            raise Mistake(f"all weights are equal, so a task with more samples still counts more: {shares}")
        if all(abs(found[name] - counts[name] / n) < 1e-9 for name in counts) and tasks > 1:
            raise Mistake("this gives large tasks even more weight; divide by the number of samples")
        if max(shares.values()) - min(shares.values()) > 1e-6 * max(shares.values()):
            raise Mistake(f"weight times samples should be the same for all tasks; got {shares}")
        if abs(sum(shares.values()) - n) > 1e-6 * n:
            raise Mistake(
                f"the tasks count alike, but all together {sum(shares.values()):.4g} instead of {n}: that changes the "
                "learning rate by the way"
            )
    return "right: N / (T n_t), which keeps the sum of all weights at N"


@checker
def without_conflict(answer: Project) -> str:
    """A task's gradient, freed from what opposes another's."""
    cases = (
        ([1.0, 1.0], [-1.0, 0.5]),
        ([1.0, 0.0], [0.0, 2.0]),
        ([2.0, 1.0], [1.0, 3.0]),
        ([1.0, -2.0, 0.5], [-3.0, 1.0, 1.0]),
    )
    for ours, theirs in cases:
        g, other = torch.tensor(ours), torch.tensor(theirs)
        kept = (g.clone(), other.clone())
        found = answered(answer(g, other))
        if not torch.equal(g, kept[0]) or not torch.equal(other, kept[1]):
            raise Mistake("the gradients that were given are changed; make a new one")
        against = g @ other
        right = g - against / (other @ other) * other if against < 0 else g
        if torch.allclose(found, right, atol=1e-6):
            continue
        always = g - against / (other @ other) * other
        for hint, wrong in (
            ("they do not conflict (g . other >= 0), so nothing is to be removed", always),
            ("divide by |other|^2, not by |other|", g - against / other.norm() * other),
            ("this removes nothing although they conflict", g),
            ("the sign is wrong: subtract the projection", g + against / (other @ other) * other),
            ("project on `other`, not on g itself", g - against / (g @ g) * g),
            ("this frees `other` from g; it is g that is wanted", other - against / (g @ g) * g),
        ):
            if torch.allclose(found, wrong, atol=1e-6):
                raise Mistake(f"{hint} (g = {ours}, other = {theirs})")
        raise Mistake(f"g = {ours}, other = {theirs}: got {found.tolist()}, expected {right.tolist()}")
    return "right: orthogonal to the other gradient where they conflict, untouched where they do not"
