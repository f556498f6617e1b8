"""Which lead gets which variant: weights in, out comes the order in which the leads take the variants, by their rank.

Nothing is read or written. See docs/variants.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence


@functools.lru_cache(maxsize=256)
def split_sequence(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Positions in `weights`, in an order that is repeated without end. The leads take them one after the other.

    However many leads have taken one, no position was taken once more or once less often than its share.
    This is the quota method of Balinski and Young: a position may be taken if its count stays below its share rounded
    up, and of these the one with the greatest weight for its next count is taken.
    """
    divisor, total = math.gcd(*weights), sum(weights)
    counts = [0] * len(weights)
    sequence = []
    for taken in range(1, total // divisor + 1):
        # count < taken * weight / total, in whole numbers.
        allowed = [place for place, weight in enumerate(weights) if counts[place] * total < taken * weight]
        best = max(allowed, key=lambda place: (weights[place] / (counts[place] + 1), -place))
        counts[best] += 1
        sequence.append(best)
    return tuple(sequence)


def variants_in_turn(variants: Sequence[tuple[int, int]]) -> list[int]:
    """The numbers of the variants in the order in which leads take them; `variants` are pairs of number and weight."""
    numbers = [number for number, _ in variants]
    return [numbers[place] for place in split_sequence(tuple(weight for _, weight in variants))]
