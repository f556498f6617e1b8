"""Ids in the order of time: UUIDs of version 7.

New ones sort last. So they fill the pages of an index one after the other, and the order of ids is that in which the
rows came in.
https://www.rfc-editor.org/rfc/rfc9562#section-5.7
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator


def ordered_ids(number: int) -> Iterator[uuid.UUID]:
    """So many new ids, each greater than the one before."""
    # Twelve bits count parts of a millisecond, and each id of a call takes one such part.
    now = (time.time_ns() << 12) // 1_000_000
    for parts in range(now, now + number):
        milliseconds, part = divmod(parts, 1 << 12)
        yield uuid.UUID(int=milliseconds << 80 | 7 << 76 | part << 64 | 2 << 62 | random.getrandbits(62))


def ordered_id() -> uuid.UUID:
    """One new id."""
    return next(ordered_ids(1))
