"""The order in which leads take variants."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sendledger.campaigns.split_leads import catch_up, split_sequence, variants_in_turn

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


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.integers(0, 20), st.integers(0, 7), st.booleans())
def test_counts_of_equal_weights_never_differ_by_two_when_one_of_them_is_retired(
    variants: int, leads: int, retired: int, was_sent: bool
) -> None:
    counts = [(leads + variants - 1 - place) // variants for place in range(variants)]
    unsent = counts.pop(retired % variants)
    weights = (1,) * len(counts)
    turns = catch_up(weights, counts) + [*split_sequence(weights)] * (2 * leads + 3)
    for place in turns[: 2 * leads + 3 + (0 if was_sent else unsent)]:
        counts[place] += 1
        assert max(counts) - min(counts) <= 1


@settings(deadline=None, max_examples=50)
@given(WEIGHTS.filter(lambda weights: len(weights) > 1), st.integers(0, 300), st.integers(0, 7))
def test_after_a_catch_up_counts_are_exactly_in_proportion(weights: tuple[int, ...], leads: int, retired: int) -> None:
    sequence = split_sequence(weights)
    counts = [0] * len(weights)
    for rank in range(leads):
        counts[sequence[rank % len(sequence)]] += 1
    lost = retired % len(weights)
    left = [each for place, each in enumerate(zip(weights, counts, strict=True)) if place != lost]
    weights, counts = tuple(weight for weight, _ in left), [count for _, count in left]
    for place in catch_up(weights, counts):
        counts[place] += 1
    assert [count * sum(weights) for count in counts] == [sum(counts) * weight for weight in weights]


def test_counts_in_proportion_need_no_catch_up() -> None:
    assert catch_up([2, 1], [4, 2]) == []


def test_catch_up_of_counts_that_are_far_off_ends() -> None:
    ahead = catch_up([1, 1], [1_000_000, 0])
    assert set(ahead) == {1}
    assert len(ahead) < 10_000
