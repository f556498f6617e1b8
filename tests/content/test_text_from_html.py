"""The text of real-world shapes of HTML emails, and of what is no email at all."""

from __future__ import annotations

import pytest

from sendledger.content.text_from_html import text_from_html

LAYOUT = '<table role="presentation" width="600" cellpadding="0"><tr><td align="center">{}</td></tr></table>'

SHAPES: dict[str, tuple[str, str]] = {
    "layout table": (
        LAYOUT.format(LAYOUT.format("<h1>Hello Ann</h1><p>We are here.</p>")),
        "Hello Ann\n\nWe are here.\n",
    ),
    "layout table without role": (
        "<table><tr><td><table><tr><td>One</td></tr><tr><td>Two</td></tr></table></td></tr></table>",
        "One\nTwo\n",
    ),
    "two columns": (
        "<table><tr><td><p>Left</p></td><td><p>Right</p></td></tr></table>",
        "Left\n\nRight\n",
    ),
    "table of data": (
        "<table><tr><th>Item</th><th>Price</th></tr><tr><td>Pen</td><td>2 EUR</td></tr></table>",
        "Item  Price\nPen  2 EUR\n",
    ),
    "linked picture": (
        '<a href="https://example.com/"><img src="logo.png" alt="Acme"></a>',
        "Acme <https://example.com/>\n",
    ),
    "linked picture without a text": (
        '<a href="https://example.com/sale"><img src="sale.png"></a>',
        "<https://example.com/sale>\n",
    ),
    "pictures only": (
        LAYOUT.format(
            '<img src="a.png" alt="Sale: 20 % off" style="display:block"><br><img src="b.png" alt="Until Friday">'
        ),
        "Sale: 20 % off\nUntil Friday\n",
    ),
    "tracking pixel": ('<p>Hi</p><img src="https://t.example/1.gif" width="1" height="1" alt="">', "Hi\n"),
    "hidden preheader": (
        '<div style="display:none; max-height:0px; overflow:hidden">Psst&nbsp;&zwnj;&#847;</div><p>Hi</p>',
        "Hi\n",
    ),
    "hidden preheader of another kind": (
        '<span style="visibility:hidden">Psst</span><div style="MAX-HEIGHT : 0 !important">x</div><i hidden>y</i>Hi',
        "Hi\n",
    ),
    "filler of a preheader that is seen": (
        "<div>In short&nbsp;&zwnj;&nbsp;&zwnj;&#847;&shy;&#8203;</div><p>Hi</p>",
        "In short\n\nHi\n",
    ),
    "conditional comments": (
        "<!--[if mso]><table><tr><td>Outlook<![endif]--><p>Hi</p><!--[if !mso]><!--><p>All</p><!--<![endif]-->",
        "Hi\n\nAll\n",
    ),
    "revealed conditional": ("<![if !mso]><p>Not Outlook</p><![endif]>", "Not Outlook\n"),
    "Outlook's own elements": (
        '<!--[if gte mso 9]><xml><o:OfficeDocumentSettings/></xml><![endif]--><p class="MsoNormal">Hi<o:p></o:p></p>',
        "Hi\n",
    ),
    "button": (
        LAYOUT.format('<a href="https://example.com/book?a=1&amp;b=2" style="padding:12px"><span>Book now</span></a>'),
        "Book now <https://example.com/book?a=1&b=2>\n",
    ),
    "link before a bracket": (
        '<p>Read (<a href="https://example.com/a">our offer</a>) or https://example.com/b.</p>',
        "Read (our offer <https://example.com/a>) or https://example.com/b.\n",
    ),
    "link that shows its address": (
        '<a href="https://example.com/">example.com</a>, <a href="https://example.com/a">https://example.com/a</a>)',
        "example.com, <https://example.com/a>)\n",
    ),
    "address and number": (
        '<a href="mailto:a@example.com">a@example.com</a> <a href="tel:+44201">+44 201</a> <a href="mailto:b@c">Us</a>',
        "a@example.com +44 201 Us <mailto:b@c>\n",
    ),
    "links that lead nowhere": (
        '<a href="#top">Top</a> <a name="x">Here</a> <a href="javascript:x()">No</a> <a href="">Empty</a>',
        "Top Here No Empty\n",
    ),
    "block in a link": (
        '<a href="https://example.com/"><h2>Offer</h2><p>Today</p></a><p>Bye</p>',
        "Offer\n\nToday <https://example.com/>\n\nBye\n",
    ),
    "lists": (
        "<ul><li>One</li><li><p>Two</p></li><li>Three<ol><li>a</li><li>b</li></ol></li></ul><p>End</p>",
        "- One\n\n- Two\n\n- Three\n  1. a\n  2. b\n\nEnd\n",
    ),
    "head": (
        "<!doctype html><html><head><meta charset=utf-8><title>T</title><style>a{}</style></head>Hi</html>",
        "Hi\n",
    ),
    "blanks and breaks": (
        "<p> A \n <b>b</b>&nbsp;c,<i>d</i> </p>\n\n<p>E<br/>F<br><br>G<br><br><br>H</p>",
        "A b c,d\n\nE\nF\n\nG\n\nH\n",
    ),
    "quotation and signature": (
        "<div>Hi</div><blockquote><p>You wrote</p><p>this</p></blockquote><hr><div>Ann</div>",
        "Hi\n\n> You wrote\n\n> this\n\n" + "-" * 20 + "\nAnn\n",
    ),
    "preformatted": ("<pre>a\n  b</pre>", "a\n  b\n"),
    "entities and signs": (
        "<p>&lt;b&gt; &amp;amp; &euro; 😀 &#x1F600; *a* _b_ # c</p>",
        "<b> &amp; € 😀 😀 *a* _b_ # c\n",
    ),
    "without tags": ("Hello & welcome", "Hello & welcome\n"),
    "XML declaration": ('<?xml version="1.0" encoding="latin-1"?><html><body><p>ä</p></body></html>', "ä\n"),
    "sloppy HTML": ("<p>A<p>B<div>C<td>D</div></body>E", "A\n\nB\n\nC  D\nE\n"),
    "template's remains": ("<p>{{ x }} {% if %} JINJATAG5X</p>", "{{ x }} {% if %} JINJATAG5X\n"),
    "nothing": ("<html><head><title>t</title></head><body><!-- a --></body></html>", ""),
    "only a comment": ("<!-- a -->", ""),
    "blank": (" \n", ""),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_text_of(shape: str) -> None:
    html, text = SHAPES[shape]
    assert text_from_html(html) == text


def _worst(piece: str) -> str:
    return piece * (500_000 // len(piece))


@pytest.mark.parametrize(
    "piece",
    [
        *("<div>", "<head ", "<!--", "<a href=x>", "<table><tr><td>", "<b><p>", "<blockquote>x", "<ul><li>x"),
        *("<form><div>", "{{ ", "<", "&#", "</p>", "<style>", "<![CDATA[", "<?", "<p a='", "a<br>", "\u200b "),
        "<a href='https://x'>y",
    ],
)  # fmt: skip
def test_text_of_hostile_html_is_no_longer_than_a_few_times_the_html(piece: str) -> None:
    assert len(text_from_html(_worst(piece))) < 1_500_000


def test_links_in_links_are_written_once() -> None:
    text = text_from_html('<a href="https://a.example">x' * 1_000)
    assert text.count("https://a.example") == 1_000


@pytest.mark.parametrize("html", ["<p>\x00a\x0bb</p>", "<p>a\ud800b</p>", "<p>&#0;&#xD800;&#x110000;a</p>"])
def test_characters_that_no_document_has_do_no_harm(html: str) -> None:
    assert "a" in text_from_html(html)
    assert "\x00" not in text_from_html(html)
