"""Ids of emails and leads are in the order in which these came in."""

from __future__ import annotations

import time
import uuid

from sendledger.core.ordered_ids import ordered_id, ordered_ids


def test_ids_of_a_call_are_in_order() -> None:
    made = list(ordered_ids(10_000))
    assert made == sorted(made)
    assert len(set(made)) == 10_000


def test_ids_begin_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = ordered_id().int >> 80
    assert before <= milliseconds <= time.time_ns() // 1_000_000


def test_ids_are_uuids_of_version_7() -> None:
    assert {(id_.version, id_.variant) for id_ in ordered_ids(5_000)} == {(7, uuid.RFC_4122)}
