"""The pictures that an HTML template shows."""

from __future__ import annotations

import time

from sendledger.content.attachments import pictures_in


def test_pictures_are_found_by_their_content_ids() -> None:
    html = """<img src="cid:logo"><img src='CID:a%40b'><p style="background: url(cid:back)"> cid:text, acid:no cid:"""
    assert pictures_in(html) == {"logo", "a@b", "back", "text,"}


def test_pictures_of_a_long_text_are_found_in_linear_time() -> None:
    began = time.process_time()
    assert pictures_in("cid:" * 100_000) == set()
    assert time.process_time() - began < 10
