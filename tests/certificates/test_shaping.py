"""Text for the paper: every character is printed or written as its code, and right-to-left text is turned around."""

import unicodedata

import pytest

from unlocks.certificates import shaping

LATIN = set(range(0x20, 0x17F)) | {0x2019, 0x20AC, 0xFB01, 0x0301}
HEBREW = set(range(0x5B0, 0x5EB))
ARABIC = set(range(0x620, 0x656)) | set(range(0xFE70, 0xFEFD))
GLYPHS = LATIN | HEBREW | ARABIC


@pytest.mark.parametrize(
    ("text", "printable"),
    [
        ("plain", "plain"),
        ("Łukasz Żółć-Ñandú O’Brien €ﬁ", "Łukasz Żółć-Ñandú O’Brien €ﬁ"),
        ("e\u0301ric", "e\u0301ric"),
        ("李小龍", "[U+674E][U+5C0F][U+9F8D]"),
        ("👩\u200d👧", "[U+1F469][U+200D][U+1F467]"),
        ("a\u202eb\u200bc\u00add\ufeffe", "a[U+202E]b[U+200B]c[U+00AD]d[U+FEFF]e"),
        ("a\x00b\x07c\x7fd\x85", "a[U+0000]b[U+0007]c[U+007F]d[U+0085]"),
        ("a\ufe0f\u2028", "a[U+FE0F][U+2028]"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("  a   b ", "\xa0 a\xa0\xa0 b "),
        ("a\tb", "a\xa0\xa0\xa0 b"),
    ],
)
def test_nothing_is_dropped(text, printable):
    assert shaping.printable(text, GLYPHS) == printable


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a [U+4E2D] b", ["a", "[U+4E2D]", "b"]),
        ("a[U+4E2D][U+1F600]b", ["a|", "[U+4E2D]|", "[U+1F600]|", "b"]),
        ("[U+4E2D]", ["[U+4E2D]"]),
        ("[U+4E2D] [U+4E2D]x", ["[U+4E2D]", "[U+4E2D]|", "x"]),
        ("[ ] [U+12] [x]y", ["[", "]", "[U+12]", "[x]y"]),
    ],
)
def test_line_breaks_around_a_code_and_never_in_it(text, words):
    broken = shaping.breakable(text).split(" ")
    assert [word.replace("\u2060", "|") for word in broken] == words
    assert shaping.from_left(" ".join(broken)) == text


def test_character_with_a_glyph_but_no_shape_is_written_as_its_code():
    assert shaping.printable("\u202e\u115f\u2800\ufe00", set(range(0x10000))) == "[U+202E][U+115F][U+2800][U+FE00]"


def test_character_beyond_the_first_plane_is_written_as_its_code():
    assert shaping.printable("𝒜", set(range(0x20000))) == "[U+1D49C]"


def test_arabic_letters_are_joined():
    joined = shaping.printable("محمد", GLYPHS)
    assert [unicodedata.name(char).split()[-2] for char in joined] == ["INITIAL", "MEDIAL", "MEDIAL", "FINAL"]
    assert unicodedata.normalize("NFKC", joined) == "محمد"


def test_arabic_marks_are_kept():
    assert unicodedata.normalize("NFKC", shaping.printable("مُحَمَّد", GLYPHS)) == unicodedata.normalize("NFKC", "مُحَمَّد")


def test_arabic_letter_whose_joined_form_has_no_glyph_stays_as_it_is():
    assert shaping.printable("محمد", GLYPHS - set(range(0xFE70, 0xFEFD))) == "محمد"


@pytest.mark.parametrize(
    ("line", "from_left"),
    [
        ("abc", "abc"),
        ("a שלום b", "a םולש b"),
        ("שלום 123 עולם", "םלוע 123 םולש"),
        ("x שלום", "x םולש"),
        ("שלום (עולם) כן", "ןכ (םלוע) םולש"),
        ("שלום (עולם) and more", "(םלוע) םולש and more"),
        ("(שלום) x", "(םולש) x"),
        ("x (שלום) עולם", "x םלוע (םולש)"),
        ("שלום (Controller) of", "םולש (Controller) of"),
        ("- INV-1, שלום: 14 items, $11,920.00", "- INV-1, םולש: 14 items, $11,920.00"),
        ("שלום[U+4E2D]עולם", "םולש[U+4E2D]םלוע"),
        # A mark is drawn before its letter: the fonts put it to the right of where it is written.
        ("שִׁי", "י\u05c1\u05b4ש"),
    ],
)
def test_right_to_left_text_is_turned_around_and_what_follows_stays_behind_it(line, from_left):
    assert shaping.from_left(line) == from_left
