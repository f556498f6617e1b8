"""Which lead gets which variant: weights in, out comes the order in which the leads take the variants, by their rank.

Nothing is read or written. See docs/variants.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

LONGEST_CATCH_UP = 2_000
"""Leads that one call of `catch_up` looks ahead: more than two times the largest sum of weights."""


@functools.lru_cache(maxsize=256)
def split_sequence(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Positions in `weights`, in an order that is repeated without end. The leads take them one after the other.

    However many leads have taken one, no position was taken once more or once less often than its share.
    """
    counts = [0] * len(weights)
    sequence = []
    for _ in range(sum(weights) // math.gcd(*weights)):
        sequence.append(_next(weights, counts))
        counts[sequence[-1]] += 1
    return tuple(sequence)


def catch_up(weights: Sequence[int], taken: Sequence[int]) -> list[int]:
    """The positions that are taken next, until the counts are exactly in proportion; `split_sequence` goes on then.

    `taken` is how often each position was taken so far. With equal weights, counts that differ by at most one go on
    doing so.
    """
    counts, total = list(taken), sum(weights)
    found: list[int] = []
    while len(found) < LONGEST_CATCH_UP:
        if all(count * total == sum(counts) * weight for count, weight in zip(counts, weights, strict=True)):
            break
        found.append(_next(weights, counts))
        counts[found[-1]] += 1
    return found


def _next(weights: Sequence[int], counts: Sequence[int]) -> int:
    """The quota method of Balinski and Young: a position may be taken if its count stays below its share rounded up,
    and of these the one with the greatest weight for its next count is taken."""
    total, taken = sum(weights), sum(counts) + 1
    # count < taken * weight / total, in whole numbers.
    allowed = [place for place, weight in enumerate(weights) if counts[place] * total < taken * weight]
    return max(allowed, key=lambda place: (weights[place] / (counts[place] + 1), -place))


def variants_in_turn(variants: Sequence[tuple[int, int]]) -> list[int]:
    """The numbers of the variants in the order in which leads take them; `variants` are pairs of number and weight."""
    numbers = [number for number, _ in variants]
    return [numbers[place] for place in split_sequence(tuple(weight for _, weight in variants))]


def place_of(rank: str, head: str, length: str) -> str:
    """The place, from 0, of a rank in an array of turns, in SQL: `head` turns once, then `length` ones without end."""
    return f"{rank} - greatest(0, ({rank} - {head}) / {length}) * {length}"
