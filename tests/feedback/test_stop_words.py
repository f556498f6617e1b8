"""A reply that says stop and nothing else is told from every other one."""

from __future__ import annotations

import pytest

from sendledger.feedback.stop_words import asks_to_stop

QUOTED = (
    "\n\nOn Tue, Nov 24, 2026 at 10:00 AM Sales <\nsales@example.com> wrote:\n\n> Dear Ann\n> Unsubscribe: https://x"
)


@pytest.mark.parametrize(
    "text",
    [
        "unsubscribe",
        "  UNSUBSCRIBE!! \n",
        "Remove me.",
        "Please remove me from your list",
        "stop",
        "退订",
        "सदस्यता समाप्त करें",
        "Darse de baja",
        "Désabonnez-moi",
        "إلغاء الاشتراك",
        "আমাকে সরিয়ে দিন",
        "Descadastrar",
        "Отписаться",
        "ان سبسکرائب",
        "Bitte austragen!",
        "Unsubscribe" + QUOTED,
        "Unsubscribe\n\n-- \nAnn Lee, Spa",
        "Unsubscribe\n> Dear Ann",
        "Hello,\n\nplease remove me from your mailing list.\n\nThank you!\n--\nAnn Lee",
        "Unsubscribe, please.",
        "请取消订阅",
        "Por favor, darme de baja. Gracias",
        "कृपया मुझे हटा दें",
        "Don't contact me again.\nSent from my phone",
        "Abmelden\n\nAm 24.11.2026 um 10:00 schrieb Sales <sales@example.com>:\n> Hallo",
    ],
)
def test_message_that_only_says_stop_asks_to_stop(text: str) -> None:
    assert asks_to_stop("Re: Hello", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes, please!",
        "Unsubscribe me, unless you have a better price.",
        "Unsubscribe\n\nBut first tell me where you got my address.",
        "We do not want to stop, on the contrary.",
        "I like it." + QUOTED,
        "unsubscribe " * 50,
        "> unsubscribe",
        "Thank you!",
        "Please",
        "please " * 10 + "call me",
        "Hello, can you stop by on Monday?",
    ],
)
def test_message_that_says_anything_else_does_not(text: str) -> None:
    assert not asks_to_stop("Re: Unsubscribe from noise", text)


def test_subject_counts_where_there_is_no_text() -> None:
    assert asks_to_stop("Unsubscribe", "\n")
    assert asks_to_stop("unsubscribe", QUOTED)
    assert not asks_to_stop("Unsubscribe", "What do you sell?")
