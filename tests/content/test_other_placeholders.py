"""Placeholders of other products are recognized; CSS, our own tags and plain text are not taken for them."""

from __future__ import annotations

import re

import pytest

from sendledger.content.other_placeholders import other_placeholders
from sendledger.content.render_email import compile_template
from sendledger.core.errors import InvalidInput

# Each form is that of some product or of a habit of people.
PLACEHOLDERS = r"""
*|FNAME|*  *|IF:PLAN|*  *%7CFNAME%7C*
{FIRST_NAME}  {first_name}  {firstName}  {First Name}  { first_name }  {first_name}}  {name, "there"}
{Hello|Hi|Hey}  {Hi|}  {!Contact.FirstName}  {!firstname_fix}  {!Contact:First Name;}  {$name}  {$user.name}
{contactfield=firstname}  {subtag:name}  &#123;&#123;first_name&#125;&#125;  &lbrace;name&rbrace;  ｛｛first_name｝｝
%%x%%  %%First Name%%  %%=v(@first)=%%  %%[ var @x ]%%  %FIRSTNAME%  %FirstName%  %first_name%  %recipient.name%
%recipient_fname%  %7B%7Bfirst_name%7D%7D  %7b%7b%20x%20%7d%7d  %5B%5Bname%5D%5D
${name}  $!{name}  $[FNAME|Customer]$  $FNAME$  $firstname$  $first_name  #{name}  #FIRSTNAME#  ##First Name##
#recipient:Name|there#  -firstName-  -first_name-  -name-  ~Contact.FirstName~  @FIRSTNAME@  @@name@@
[[name]]  [[first_name]]  [[FIRSTNAME OR "there"]]  [[data:firstname:""]]  [% member:first_name %]  [FNAME]
[First Name]  [contact:first_name]  [CONTACT.FIRSTNAME]  [firstname,fallback=there]
[subscriber:firstname | default:reader]  [Your Name]  [Insert Company Here]  (fname)
<<name>>  <<First Name>>  &lt;&lt;name&gt;&gt;  &lt;First Name&gt;
<First Name>  «FirstName»  «First Name»  <%= name %>
"""


@pytest.mark.parametrize("placeholder", re.split(r"\s\s+|\n", PLACEHOLDERS.strip()))
def test_placeholder_is_found(placeholder: str) -> None:
    assert other_placeholders(f"<p>Hi {placeholder}, {{{{ city }}}}</p>") == [placeholder]


def test_each_is_named_once() -> None:
    assert other_placeholders("*|A|* *|A|* {B}") == ["*|A|*", "{B}"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ first_name | default('there') }} {% if city == 'Bath' %}{# {x} #}{% endif %}",
        "<style>a{color:red} b{x}</style><p style='a:b'>100% of 50% #hashtag #FF00AA</p>",
        "https://example.com/?a=%20b%C3%96&b={}",
        "2 * 3 | 4 * 5, [1], [sic] a << b >> c, $5 {, }",
        "50% off and 20% more, 100%natural, 50%fresh, first%last, {{ city }}% up and {{ country }}% down",
        "https://example.com/?a=%E2%9C%93&b=%7Euser%7B1%7D#/name#x, https://example.com/your-name-here?x=[1]&y={2}",
        "a-name-b, a first-name-based index, -- name --, --name--, __Name__, *Name*, ~5 days~, @name, $name, #name",
        "a<<b>>c, C++: cout << name >> x, if (a < b) { return x; }, function(){ return {a:1} }",
        "[Email] [Website], [email protected], « Bonjour », «bonjour», (name), <name@example.com>, {1} {2.5} {}",
        "a { color: red; } .b{color:red;margin:0} @media print{a{b:c}} rgba(0,0,0,.5) url(#name) #ABCDEF",
        "<!--[if mso]><v:rect xmlns:v='urn:x'><![endif]--><p style='mso-line-height-rule:exactly'>",
    ],
)
def test_other_text_is_not_a_placeholder(text: str) -> None:
    assert other_placeholders(text) == []


@pytest.mark.parametrize(
    "piece",
    [
        "{a",
        "*|",
        "%%",
        "[[",
        "<<",
        "%7B%7B",
        "{a|",
        "<%",
        "${",
        "<style>",
        "#A",
        "[name",
        "$[",
        "-name",
        "%name",
        "~a.name",
        "«name",
        "&#123;",
        "*%7C",
        "{name,",
        "[[a",
        "$first",
        "a.",
        "%5B%5B",
    ],
)
def test_hostile_text_is_searched(piece: str) -> None:
    assert other_placeholders(piece * 100_000) == other_placeholders(piece * 2_000)


def test_triple_braces_are_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidInput) as caught:
        compile_template("Hi", "Hi {{{ name }}}", None)
    assert "a value is written {{ first_name | default('there') }}" in caught.value.errors[0].message
