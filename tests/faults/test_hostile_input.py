"""Input that is made to stop its reader costs less than two seconds and 200 MB, whatever the entrance."""

from __future__ import annotations

import pytest

from testbed.hostile import ENTRANCES, measure


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_worst_input_of_an_entrance_is_read_or_refused_within_the_limits(entrance: str) -> None:
    costs = measure(entrance)
    assert len(costs) > 10
    assert [cost for cost in costs if cost.is_too_much] == []
