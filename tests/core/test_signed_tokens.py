"""A token opens what it was made for and nothing else."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.core.signed_tokens import EmailReference, TokenKey, TokenKeys

OLD, NEW = TokenKey("k1", bytes(range(32))), TokenKey("k2", bytes(range(1, 33)))
KEYS = TokenKeys([OLD])
EMAIL = EmailReference(2**63 - 1, uuid.uuid4(), uuid.uuid4())


@given(st.integers(1, 2**63 - 1), st.uuids(), st.uuids())
def test_token_gives_back_its_email(scheduled_email_id: int, campaign: uuid.UUID, lead: uuid.UUID) -> None:
    email = EmailReference(scheduled_email_id, campaign, lead)
    assert KEYS.read_unsubscribe_token(KEYS.unsubscribe_token(email)) == email
    assert KEYS.read_reply_token(KEYS.reply_token(scheduled_email_id)) == scheduled_email_id


def test_tokens_of_the_old_key_work_after_a_rotation() -> None:
    rotated = TokenKeys([NEW, OLD])
    assert rotated.read_unsubscribe_token(KEYS.unsubscribe_token(EMAIL)) == EMAIL
    assert rotated.unsubscribe_token(EMAIL).startswith("k2.")


def test_tokens_of_a_withdrawn_key_do_not_work() -> None:
    assert TokenKeys([NEW]).read_unsubscribe_token(KEYS.unsubscribe_token(EMAIL)) is None
    assert TokenKeys([NEW]).read_reply_token(KEYS.reply_token(1)) is None


def test_a_key_cannot_pass_as_another() -> None:
    token = KEYS.unsubscribe_token(EMAIL)
    assert TokenKeys([OLD, NEW]).read_unsubscribe_token(token.replace("k1.", "k2.")) is None


@pytest.mark.parametrize("position", range(3, 79))
def test_token_with_one_changed_character_does_not_verify(position: int) -> None:
    token = KEYS.unsubscribe_token(EMAIL)
    other = "A" if token[position] != "A" else "B"
    assert KEYS.read_unsubscribe_token(token[:position] + other + token[position + 1 :]) is None


@given(st.text(max_size=200))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    assert KEYS.read_unsubscribe_token(text) is None
    assert KEYS.read_reply_token(text) is None


def test_truncated_and_extended_tokens_are_refused() -> None:
    tokens = (KEYS.unsubscribe_token(replace(EMAIL, scheduled_email_id=number)) for number in range(1, 1_000))
    # After a sign everything is ignored, and the signature's last character may be one.
    token = next(each for each in tokens if each[-2].isalnum())
    for length in range(len(token) - 2):
        assert KEYS.read_unsubscribe_token(token[:length]) is None
    for more in ("A", "e", "AAAA", "A" * 1_000_000):
        assert KEYS.read_unsubscribe_token(token + more) is None


@given(st.integers(1, 2**63 - 1), st.uuids(), st.uuids())
def test_unsubscribe_token_ends_in_a_letter(scheduled_email_id: int, campaign: uuid.UUID, lead: uuid.UUID) -> None:
    assert KEYS.unsubscribe_token(EmailReference(scheduled_email_id, campaign, lead))[-1].isalnum()


def old_tokens(*ends: str) -> list[tuple[str, EmailReference]]:
    """Tokens as they were before they got a last letter, one for each of the characters at the end."""
    found: dict[str, tuple[str, EmailReference]] = {}
    for number in range(10_000):
        email = EmailReference(number, uuid.UUID(int=1), uuid.UUID(int=2))
        token = KEYS.unsubscribe_token(email).removesuffix("e")
        found.setdefault(token[-1], (token, email))
        if found.keys() >= set(ends):
            break
    return [found[end] for end in ends]


def test_old_tokens_stay_valid_also_without_the_last_character_that_programs_cut_off() -> None:
    for token, email in old_tokens("-", "_", "e", "A"):
        assert KEYS.read_unsubscribe_token(token) == email
    for token, email in old_tokens("-", "_"):
        assert KEYS.read_unsubscribe_token(token[:-1]) == email
    ((token, _),) = old_tokens("A")
    assert KEYS.read_unsubscribe_token(token[:-1]) is None


@pytest.mark.parametrize(
    "more",
    [
        ".",
        ")",
        ">",
        "/",
        "),",
        ".)",
        "*",
        '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}.",
        " ",
        "?",
        "/.",
        "_",
        "=",
        "\n",
        "&gt;",
        "%29",
        "</a>",
        "|x",
    ],
)
def test_punctuation_behind_a_token_does_not_matter(more: str) -> None:
    assert KEYS.read_unsubscribe_token(KEYS.unsubscribe_token(EMAIL) + more) == EMAIL


def test_reply_token_survives_a_change_of_case_and_fits_into_a_local_part() -> None:
    token = KEYS.reply_token(2**63 - 1)
    assert KEYS.read_reply_token(token.upper()) == 2**63 - 1
    assert len(f"reply+{token}") <= 64


def test_reply_token_is_no_unsubscribe_token() -> None:
    assert KEYS.read_unsubscribe_token(KEYS.reply_token(EMAIL.scheduled_email_id)) is None


def test_token_can_stand_in_a_url_and_names_no_person() -> None:
    token = KEYS.unsubscribe_token(EMAIL)
    assert len(token) == 80
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_secret_is_not_shown_with_its_key() -> None:
    assert repr(OLD) == "TokenKey('k1')"
