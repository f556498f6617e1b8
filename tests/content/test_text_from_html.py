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
    "image map": (
        (
            '<img src="a.png" alt="Menu" usemap="#m"><map name="m"><area href="https://example.com/a" alt="Shoes">'
            '<area href="https://example.com/b" alt="Hats"><area href="#"></map>'
        ),
        "Menu\nShoes <https://example.com/a>\nHats <https://example.com/b>\n",
    ),
    "picture with a title only": (
        '<a href="https://example.com/"><img src="a.png" title="Sale"></a><img alt="" title="No">',
        "Sale <https://example.com/>\n",
    ),
    "tracking pixel with a text": ('<img width="1" height="1" alt="pixel"><p>Hi</p>', "Hi\n"),
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


TEMPLATES: dict[str, tuple[str, str]] = {
    "Cerberus: two preheaders, ghost tables, columns in a cell without a size for letters": (
        """<body style="margin:0"><center role="article"><!--[if mso]><table><tr><td><![endif]-->
        <div style="max-height:0; overflow:hidden; mso-hide:all" aria-hidden="true">
            In short
        </div>
        <div style="display: none; font-size: 1px; mso-hide: all">&zwnj;&nbsp;&zwnj;&nbsp;</div>
        <table role="presentation"><tr><td style="font-size:0; padding:10px"><!--[if mso]><table><tr><td><![endif]-->
            <div style="display:inline-block"><table role="presentation" style="font-size:14px">
                <tr><td><img src="a.png" alt="Left"></td></tr>
                <tr><td>One</td></tr></table></div>
            <!--[if mso]></td><td><![endif]-->
            <div style="display:inline-block"><table role="presentation" style="font-size:14px">
                <tr><td>Two</td></tr></table></div></td></tr>
            <tr><td aria-hidden="true" height="40" style="font-size:0px; line-height:0px">&nbsp;</td></tr>
        </table>
        <unsubscribe>Leave</unsubscribe></center></body>""",
        "Left\nOne\nTwo\nLeave\n",
    ),
    "leemunroe: a preheader hidden by its class, blank cells at the sides, a button in two tables": (
        """<head><style>@media all { .btn { width: 100% } } .preheader { opacity: 0; display: none; }</style></head>
        <body><table><tr><td>&nbsp;</td><td class="container">
            <span class="preheader">In short</span>
            <table role="presentation"><tr><td><p>Hi there</p>
                <table class="btn"><tbody><tr><td><table><tbody><tr>
                    <td> <a href="https://example.com/go">Go</a> </td></tr></tbody></table></td></tr></tbody></table>
                <p>Good luck</p></td></tr></table>
            <div class="footer"><table><tr><td><span>Acme Inc</span>
                <br> No more? <a href="https://example.com/u">Unsubscribe</a>.</td></tr></table></div>
            </td><td>&nbsp;</td></tr></table></body>""",
        """Hi there

Go <https://example.com/go>

Good luck

Acme Inc
No more? Unsubscribe <https://example.com/u>.
""",
    ),
    "MJML: cells without a size for letters, text in a div with one": (
        """<div style="display:none;font-size:1px;line-height:1px">In short</div>
        <td style="direction:ltr;font-size:0px"><div class="column" style="font-size:0px"><table>
            <tr><td style="font-size:0px"><div style="font-size:13px">Hello</div></td></tr>
            <tr><td style="font-size:0px"><a href="https://example.com/"><img alt="Logo"></a></td></tr>
        </table></div></td>""",
        "Hello\nLogo <https://example.com/>\n",
    ),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_text_of_a_template_shaped_like_a_public_one(template: str) -> None:
    html, text = TEMPLATES[template]
    assert text_from_html(html) == text


STYLED = "<html><head><style>{}</style></head><body>{}<p>Hi</p></body></html>"

HIDDEN: dict[str, str] = {
    "letters without size": '<div style="font-size:0">Psst</div>',
    "letters of one pixel": '<span style="font-size: 1px; line-height: 1px; color: #fff">Psst</span>',
    "size in a font": '<div style="font:0/0 a">Psst</div>',
    "hidden in Outlook": '<div style="mso-hide:all"><span>Psst</span>&zwnj;&nbsp;</div>',
    "no height": '<td style="height:0; overflow: hidden">Psst</td>',
    "no width": '<div style="max-width: 0px; overflow:hidden">Psst</div>',
    "height of a pixel": '<div style="overflow:hidden; height:1px; width:600px">Psst</div>',
    "max-height": '<div style="max-height:0">Psst</div>',
    "seen through": '<div style="opacity: 0.0">Psst</div>',
    "collapsed": '<tr style="visibility:collapse"><td>Psst</td></tr>',
    "far away": '<div style="position:absolute;left:-9999px">Psst</div>',
    "hidden attribute": "<div hidden=''>Psst<p>Psst</p></div>",
    "in an element that is hidden": '<div style="display:none!important"><table><tr><td>Psst</td></tr></table></div>',
    "only characters without width": "<p>&#847;&zwnj;&nbsp;&#8199;&shy;&#65279;&#8203;&zwj;&#8288;&#6158;&#10240;</p>",
}


@pytest.mark.parametrize("preheader", HIDDEN)
def test_hidden_preheader_is_not_in_the_text(preheader: str) -> None:
    assert text_from_html(f"<body>{HIDDEN[preheader]}<p>Hi</p></body>") == "Hi\n"


@pytest.mark.parametrize(
    ("css", "preheader"),
    [
        (".preheader { color: transparent; display: none; }", '<span class="preheader">Psst</span>'),
        ("/* a } */ p{a:b} .a, span.preheader {FONT-SIZE:0}", '<span class="x Preheader">Psst</span>'),
        ("<!-- #top { max-height: 0; } -->", '<div id="top">Psst</div>'),
        ("@import url(x); .x{display:none !important}", '<div class="x" style="display:block">Psst</div>'),
        (".x{display:block} .x{display:none}", '<div class="x">Psst</div>'),
    ],
)
def test_preheader_that_a_style_sheet_hides_is_not_in_the_text(css: str, preheader: str) -> None:
    assert text_from_html(STYLED.format(css, preheader)) == "Hi\n"


@pytest.mark.parametrize(
    ("css", "element"),
    [
        ("@media (max-width: 600px) { .x { display: none } .y { a: b } }", '<p class="x">Seen</p>'),
        ("@media print{.x{display:none}}", '<p class="x">Seen</p>'),
        (".x{display:none}", '<p class="x" style="display:block">Seen</p>'),
        (".x{display:none} .x{display:block}", '<p class="x">Seen</p>'),
        ("[data-ogsc] .x, .x:hover, .a.x, td .x {display:none}", '<p class="x">Seen</p>'),
        ("/* .x{display:none} */ .x{color:red}", '<p class="x">Seen</p>'),
        (".x{display:none", '<p class="x">Seen</p>'),
        ("", '<p style="font-size:0.9em">Seen</p>'),
        ("", '<p style="font: 700 14px/20px Arial; max-height:1px; opacity:.5; left:-5px">Seen</p>'),
        ("", '<td style="font-size:0"><div style="font-size:13px">Seen</div></td>'),
        ("", '<td style="font-size:0"><img alt="Seen" src="x"></td>'),
        ("", '<td style="height:0">Seen</td>'),
        ("", '<td style="overflow:hidden; width:1%; height:auto">Seen</td>'),
        ("", '<p style="max-height:none; background:url(display:none)">Seen</p>'),
    ],
)
def test_what_is_seen_in_some_program_is_in_the_text(css: str, element: str) -> None:
    assert text_from_html(STYLED.format(css, element)) == "Seen\n\nHi\n"


def test_button_that_outlook_gets_in_another_form_is_in_the_text() -> None:
    button = '<a href="https://a.example" style="mso-hide:all">Book</a>'
    html = f"<div><!--[if mso]><v:roundrect>Book<![endif]-->{button}</div>"
    assert text_from_html(html) == "Book <https://a.example>\n"
    assert text_from_html("<table style='mso-hide:all'><tr><td>All</td></tr></table>") == "All\n"


def test_text_that_is_hidden_as_a_whole_is_better_than_none() -> None:
    assert text_from_html('<div style="opacity:0">Offer of the week</div><img src="a.png">') == "Offer of the week\n"


def test_words_keep_their_joiners() -> None:
    assert text_from_html("<p>می&zwnj;خواهم 👨\u200d👩&zwnj; x</p>") == "می\u200cخواهم 👨\u200d👩 x\n"


def _worst(piece: str) -> str:
    return piece * (500_000 // len(piece))


@pytest.mark.parametrize(
    "piece",
    [
        *("<div>", "<head ", "<!--", "<a href=x>", "<table><tr><td>", "<b><p>", "<blockquote>x", "<ul><li>x"),
        *("<form><div>", "{{ ", "<", "&#", "</p>", "<style>", "<![CDATA[", "<?", "<p a='", "a<br>", "\u200b "),
        *("<a href='https://x'>y", "<p style='font-size:0'>", "<p style='mso-hide:all'>x", "<p class='a b c'>"),
        *("<style>a{", "<style>.a{display:none}</style>", "&zwnj;", "&zwnj; ", "<area alt=x href=http:>"),
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
