"""In which parts a chunk is fenced."""

from __future__ import annotations

import pytest

from sendledger.sending.fence_parts import parts


@pytest.mark.parametrize(
    ("count", "rate", "between", "sizes"),
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
    count: int, rate: float, between: float, sizes: list[int]
) -> None:
    found = list(parts(count, rate, between))
    assert [len(part) for part in found] == sizes
    assert [position for part in found for position in part] == list(range(count))
