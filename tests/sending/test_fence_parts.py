"""In which parts a chunk is fenced, and how long before its time."""

from __future__ import annotations

import pytest

from sendledger.sending import fence_parts

NEAR = 0.005
"""What a fence takes in seconds, where the database answers within a millisecond."""


def sizes(count: int, rate: float, fencing: float, between: float) -> list[int]:
    found = list[int]()
    while left := count - sum(found):
        found.append(fence_parts.next_part(left, rate, fencing, between))
    return found


@pytest.mark.parametrize(
    ("count", "rate", "between", "found"),
    [
        (100, 100.0, 9.0, [*[5] * 14, 30]),
        (14, 14.0, 0.1, [5, 5, 4]),
        (1, 1.0, 20.0, [1]),
        (500, 3000.0, 0.2, [500]),
        (500, 1000.0, 0.0, [50] * 10),
        (100, 100.0, 0.04, [*[5] * 18, 10]),
    ],
)
def test_chunk_is_fenced_in_parts_of_a_twentieth_of_a_second(
    count: int, rate: float, between: float, found: list[int]
) -> None:
    assert sizes(count, rate, NEAR, between) == found


@pytest.mark.parametrize(
    ("fencing", "between", "found"),
    [
        (0.02, 0.04, [*[6] * 15, 10]),
        (0.065, 0.1, [20] * 5),
        (0.155, 0.4, [47, 53]),
        (10.0, 0.4, [100]),
    ],
)
def test_part_is_as_long_as_three_fences(fencing: float, between: float, found: list[int]) -> None:
    assert sizes(100, 100.0, fencing, between) == found


@pytest.mark.parametrize(("fencing", "lead"), [(0.0, 0.03), (NEAR, 0.03), (0.0625, 0.0825), (0.25, 0.27), (10.0, 0.5)])
def test_part_is_fenced_as_long_before_its_time_as_that_takes(fencing: float, lead: float) -> None:
    assert fence_parts.lead(fencing) == lead
