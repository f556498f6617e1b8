"""The order in which leads take variants."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sendledger.campaigns.split_leads import split_sequence, variants_in_turn

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=8).map(tuple)


@settings(deadline=None, max_examples=50)
@given(WEIGHTS, st.integers(1, 3))
def test_after_any_number_of_leads_no_count_is_off_by_one(weights: tuple[int, ...], rounds: int) -> None:
    sequence = split_sequence(weights)
    counts, total = [0] * len(weights), sum(weights)
    for taken, place in enumerate(sequence * rounds, 1):
        counts[place] += 1
        # count - taken * weight / total, in whole numbers.
        assert all(abs(count * total - taken * weight) < total for count, weight in zip(counts, weights, strict=True))


@settings(deadline=None, max_examples=50)
@given(WEIGHTS, st.integers(2, 5))
def test_same_proportions_give_the_same_order(weights: tuple[int, ...], factor: int) -> None:
    assert split_sequence(weights) == split_sequence(tuple(weight * factor for weight in weights))


def test_variants_are_taken_by_their_numbers() -> None:
    assert variants_in_turn([(2, 1), (5, 2)]) == [5, 2, 5]
