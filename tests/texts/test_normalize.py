"""One way to read what is typed or pasted, whatever it was copied from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlocks.texts import normalize

INVISIBLE = (
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\u2066\u2069\ufeff\u00ad\u034f\u3164\u115f\0\x7f\ufe0f\U000e0041"
)
BLANKS = " \t\u00a0\u2009\u202f\u3000"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"
QUOTES = {"'": "'\u2018\u2019\u2032\u00b4`", '"': '"\u201c\u201d\u201e\u2033\u00ab\u00bb'}
DIGITS = [chr(zero) for zero in (0x30, 0x660, 0x6F0, 0x966, 0xFF10, 0x1D7CE)]


def _spelled(character):
    """Return a strategy for one character as some other program may write it."""
    if character.isdecimal():
        return st.sampled_from([chr(ord(zero) + int(character)) for zero in DIGITS])
    if "!" <= character <= "~" and character.isalnum():
        return st.sampled_from([character, chr(ord(character) + 0xFEE0)])  # full-width
    return st.sampled_from({"-": DASHES, " ": BLANKS, **QUOTES}.get(character, character))


@st.composite
def pasted(draw, text, between=INVISIBLE):
    """Write `text` in other digits, dashes, quotes and widths, with what can't be seen strewn in."""
    unseen = st.text(st.sampled_from(between), max_size=2)
    return draw(unseen) + "".join(draw(_spelled(character)) + draw(unseen) for character in text)


numbers = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._/-]{0,18}[A-Za-z0-9])?\Z")


@given(data=st.data(), number=numbers, quote=st.sampled_from(["", '"', "'", "\u201c"]))
def test_any_number_is_the_same_however_it_was_written(data, number, quote):
    around = st.text(st.sampled_from(BLANKS + "\r\n"), max_size=2)
    text = data.draw(around) + quote + data.draw(pasted(number)) + quote + data.draw(around)
    assert normalize.number(text) == number


@given(data=st.data(), pin=st.from_regex(r"\A[0-9]{6}\Z"))
def test_any_pin_is_the_same_however_it_was_written(data, pin):
    assert normalize.pin(data.draw(pasted(pin, INVISIBLE + BLANKS + DASHES + ".,_'\u201c"))) == pin


@given(data=st.data(), address=st.from_regex(r"\A[a-z0-9.+_-]{1,12}@[a-z0-9-]{1,10}\.example\Z"))
def test_any_address_is_the_same_however_it_was_written(data, address):
    written = "".join(data.draw(st.sampled_from([letter, letter.upper()])) for letter in address)
    assert normalize.email(data.draw(pasted(written, INVISIBLE + BLANKS))) == address


@given(data=st.data(), name=st.from_regex(r"\A[A-Z][a-z]{1,8} ([A-Z]'|[A-Z][a-z]{1,8}-)[A-Z][a-z]{1,8}\Z"))
def test_any_name_is_the_same_however_it_was_written(data, name):
    written = data.draw(pasted(name))
    assert normalize.plain(written) == name
    assert normalize.person(written.swapcase()) == normalize.person(name)


@given(st.text())
def test_what_was_read_once_is_read_the_same_again(text):
    for read in (normalize.plain, normalize.number, normalize.pin, normalize.email, normalize.person, normalize.line):
        assert read(read(text)) == read(text)


def test_a_character_may_become_two():
    assert normalize.plain("a\uffe3") == "a \u0304"


@given(st.text(st.one_of(st.characters(), st.sampled_from(INVISIBLE + BLANKS + "aم\u0301"))))
def test_what_was_read_hides_nothing(text):
    assert not normalize.hides(normalize.plain(text), joiners=False)
    assert not normalize.hides(normalize.line(text))


@given(data=st.data(), name=numbers, unseen=st.sampled_from(INVISIBLE))
def test_any_name_with_something_unseen_hides(data, name, unseen):
    place = data.draw(st.integers(0, len(name)))
    assert normalize.hides(name[:place] + unseen + name[place:])
    assert not normalize.hides(name)


@pytest.mark.parametrize(
    "pasted",
    [
        "20261104-INV",
        "\u200b20261104-INV",  # zero-width space
        "\ufeff20261104-INV",  # byte order mark
        "20261104-INV\u200e",  # left-to-right mark
        "20261104-\u00adINV",  # soft hyphen
        "20261104\u2011INV",  # non-breaking hyphen
        "20261104\u2013INV",  # en dash
        "20261104\u2212INV",  # minus
        "20261104\uff0dINV",  # full-width hyphen
        '"20261104-INV"',
        "\u201c20261104-INV\u201d",
        "\u00a0 20261104-INV\t\r\n",
        "\uff12\uff10\uff12\uff16\uff11\uff11\uff10\uff14-\uff29\uff2e\uff36",  # full-width
        "\u0662\u0660\u0662\u0666\u0661\u0661\u0660\u0664-INV",  # Arabic-Indic digits
        "20261104-INV\0",
        "20261104-INV\u3164",  # Hangul filler
    ],
)
def test_a_number_is_the_same_whatever_it_was_copied_from(pasted):
    assert normalize.number(pasted) == "20261104-INV"


@pytest.mark.parametrize(
    "typed",
    [
        "482915",
        "482 915",
        "482-915",
        "482\u2011915",
        "\u200b482915",
        "482\u202f915",
        "\uff14\uff18\uff12\uff19\uff11\uff15",
        "\u0664\u0668\u0662\u0669\u0661\u0665",
        "\u201c482915\u201d",
        "482915.",
        "482\u00ad915",
    ],
)
def test_a_pin_is_the_same_in_every_form(typed):
    assert normalize.pin(typed) == "482915"


@pytest.mark.parametrize(
    "typed",
    ["bo@northwind.example", "Bo@Northwind.Example", "bo@northwind.example\u200b", " bo@north\u00adwind.example "],
)
def test_an_address_is_the_same_in_every_form(typed):
    assert normalize.email(typed) == "bo@northwind.example"


@pytest.mark.parametrize(
    ("typed", "compared"),
    [
        ("  O\u2019Brien\u2019s   Drains ", "O'Brien's Drains"),
        ("Jose\u0301", "José"),
        ("Smith \u2014 Sons", "Smith - Sons"),
        ("ServiceCo\u2122", "ServiceCo\u2122"),  # a mark of its own, no other way to write letters
        ("\u200b\u3164\0", ""),
    ],
)
def test_a_term_of_a_search(typed, compared):
    assert normalize.plain(typed) == compared


@pytest.mark.parametrize(
    "text",
    [
        "\u3164\u3164",
        "\uffa0",
        "\u200bDana",
        "Da\u00adna",
        "\ufeffDana",
        "Da\u2060na",
        "Dana\U000e0041",
        "Da\u200dna",
        "Dana\ufe0f",
        "Da\U000e0100na",
        "\u2800",
        "Da\u034fna",
        "Da\nna",
        "\u0639\u200c",
        "\u200c\u0639",
        "Da\u202ena",
    ],
)
def test_what_can_not_be_seen_hides(text):
    assert normalize.hides(text)


@pytest.mark.parametrize(
    "text",
    [
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "\u0915\u094d\u200d\u0937",
        "José",
        "O\u2019Neil",
        "\u845b\U000e0100\u98fe",
        "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f527",
        "two words",
    ],
)
def test_what_a_script_needs_hides_nothing(text):
    assert not normalize.hides(text)


def test_joiners_hide_where_none_are_wanted():
    assert normalize.hides("\u0639\u0644\u06cc\u200c\u0631", joiners=False)


def test_what_another_system_said_is_one_line():
    assert normalize.one_line(" a\x00b\n\tc\u202ed\ud800 \u2028é\u00a0! ") == "a b c d é !"
