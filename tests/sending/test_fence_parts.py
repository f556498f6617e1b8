"""In which parts a chunk is fenced."""

from __future__ import annotations

import pytest

from sendledger.sending.fence_parts import parts


@pytest.mark.parametrize(
    ("count", "rate", "last", "sizes"),
    [
        (100, 100.0, 30, [10, 10, 10, 10, 10, 10, 40]),
        (14, 14.0, 2, [5, 5, 4]),
        (1, 1.0, 20, [1]),
        (500, 3000.0, 600, [500]),
        (500, 1000.0, 0, [100, 100, 100, 100, 100]),
    ],
)
def test_chunk_is_fenced_in_parts_of_a_tenth_of_a_second(count: int, rate: float, last: int, sizes: list[int]) -> None:
    found = list(parts(count, rate, last))
    assert [len(part) for part in found] == sizes
    assert [position for part in found for position in part] == list(range(count))
