"""Fields of forms are decoded piece by piece."""

from __future__ import annotations

from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import visit

# Escapes, what looks like one, other letters, and a character of three bytes that may be cut.
SIGNS = ["%41", "%e2%82%ac", "%", "%4", "%zz", "+", "a", "ü", "%E2", "%0D%0A"]


@given(signs=st.lists(st.sampled_from(SIGNS), max_size=30), piece=st.integers(3, 12))
def test_field_is_decoded_as_by_urllib_wherever_its_pieces_end(signs: list[str], piece: int) -> None:
    text = "".join(signs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(visit, "PIECE", piece)
        assert visit.decoded_field(text) == unquote_plus(text)
