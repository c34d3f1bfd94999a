"""One way to read what is typed or pasted, whatever it was copied from."""

import pytest

from unlocks.texts import normalize


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
