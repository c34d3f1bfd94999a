"""The certificate on paper: the same bytes, two pages for a small case, no word of it lost."""

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from bidi.mirror import MIRRORED
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from reportlab.pdfbase.pdfmetrics import stringWidth

from unlocks.certificates import pdf, words

from . import samples

LONG_RUN = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def read(facts):
    """Return a reader of the PDF with these facts, built once for all tests."""
    return _read(json.dumps(facts))


@cache
def _read(facts):
    return PdfReader(io.BytesIO(pdf.render(json.loads(facts))))


@cache
def pages_of(reader):
    """Return (text, pieces) of each page."""
    pages = []
    for page in reader.pages:
        found = []
        text = page.extract_text(visitor_text=lambda *piece, found=found: found.append(piece))
        pages.append((text, found))
    return pages


def text_of(reader):
    return [text for text, _ in pages_of(reader)]


def bodies(facts):
    """Return what is on each page, without its head, foot and stamps, which are drawn last."""
    return [page[: page.index(f"{facts['number']}  ·  code ")] for page in text_of(read(facts))]


def squeezed(text):
    """Return a text without its blanks, as line ends on paper are elsewhere."""
    return re.sub(r"\s", "", text)


def pieces(reader):
    """Yield each piece of text as (page, text, left, right, bottom, font, size)."""
    for number, (_, found) in enumerate(pages_of(reader), 1):
        for text, matrix, line, font, size in found:
            if words := text.strip():
                name = str(font["/BaseFont"]).partition("+")[2]
                left = matrix[4] + line[4]
                yield number, words, left, left + stringWidth(words, name, size), matrix[5] + line[5], name, size


# --- The same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_same_facts_same_bytes(kind):
    assert pdf.render(kind()) == pdf.render(kind())


def test_order_of_the_facts_means_nothing():
    assert pdf.render(dict(reversed(samples.closed().items()))) == pdf.render(samples.closed())


def test_another_process_writes_the_same_bytes():
    """With another hash seed, time zone, locale, date and order of work."""
    program = (
        "import sys, django; django.setup()\n"
        "from tests.certificates import samples\n"
        "from unlocks.certificates import pdf\n"
        "pdf.render(samples.withdrawn())\n"
        "sys.stdout.buffer.write(pdf.render(samples.closed()))"
    )
    environment = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "86400"}
    environment |= {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    root = Path(__file__).parent.parent.parent
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=os.environ | environment, cwd=root, check=True
    )
    assert other.stdout == pdf.render(samples.closed())


# --- Pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_small_case_is_two_pages(kind):
    assert len(read(kind()).pages) == 2


@pytest.mark.parametrize(
    ("kind", "pages"), [(samples.closed, 2), (samples.withdrawn, 3), (samples.withdrawn_by_phone, 3)]
)
def test_case_of_ten_batches_is_two_pages_and_withdrawn_three_at_most(kind, pages):
    assert [len(read(samples.many(count, kind)).pages) for count in (1, 10)] == [2, pages]


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_sections_stand_in_the_order_of_the_page(kind):
    paper, whole = words.paper(kind()), "\n".join(text_of(read(kind())))
    headings = [
        section.heading + (f": {section.table.total}" if section.table and section.table.total else "")
        for section in paper.sections
    ]
    found = [re.search(rf"^{re.escape(heading)}$", whole, re.MULTILINE) for heading in headings]
    assert [heading for heading, place in zip(headings, found, strict=True) if place is None] == []
    assert sorted(found, key=re.Match.start) == found


def _added_up():
    """Return facts of so many batches that they are added up by day, with a short text."""
    facts = samples.many(501)
    facts["consent"]["text"] = "The text."
    return facts


# As long as a reason may be, or at least longer than a page.
LENGTH = 2000 if LONG_RUN else 700
LONG = [
    "中" * LENGTH,
    "x" * LENGTH,
    "\n" * (LENGTH // 8) + "x",
    "<br/>" * (LENGTH // 5),
    "a " * (LENGTH // 2),
    "שלום (א) " * (LENGTH // 9),
]


def _long(value):
    """Return facts in which all that somebody types is as long as it may be."""
    facts = samples.withdrawn()
    facts["case"] |= {"reason": value, "account_name": value[:200]}
    facts["signer"] |= {"name": value[:120], "role": value[:120]}
    facts["withdrawal"]["why"] = value
    facts["consent"] |= {"text": value, "browser": value[:400]}
    facts["batches"][1] |= {"name": value[:200], "number": value[:40]}
    facts["batches"][0]["outcome"] = "unlocked"
    facts["batches"][2]["ended_by"] = value[:150]
    facts["evidence"] = samples.recorded_by_phone()["evidence"]
    facts["evidence"][0]["file_name"] = value[:200]
    facts["ledger"]["entries"][0]["actor"] = value[:100]
    return facts


@pytest.mark.parametrize(
    "facts", [*(kind() for kind in samples.EVERY_KIND), samples.many(40), _added_up(), *map(_long, LONG)]
)
def test_nothing_is_too_small_or_off_the_page(facts):
    whole = list(pieces(read(facts)))
    margins = [words for _, words, left, right, *_ in whole if left < 36 or right > 576.5]
    foot = 30
    body = [(words, size) for _, words, _, _, bottom, _, size in whole if foot < bottom < 760]
    assert (margins, [words for words, size in body if size < 8.5]) == ([], [])
    assert {size for *_, size in whole} <= {8, 8.5, 9, 9.5, 10, 10.5, 15}
    assert min(bottom for _, _, _, _, bottom, _, _ in whole) > 18


def test_every_page_names_certificate_and_page():
    pages = text_of(read(samples.many(40)))
    assert [
        ("CN-000012-2" in page, "QF0Z-3W8N-1HJ5" in page, f"Page {number} of {len(pages)}" in page, "INTERIM" in page)
        for number, page in enumerate(pages, 1)
    ] == [(True, True, True, False)] * len(pages)


def test_every_page_is_stamped():
    facts = samples.many(40) | {"interim": True, "withdrawal": samples.withdrawn()["withdrawal"]}
    facts["consent"] |= {"how": "phone", "recorded_by": "agent"}
    pages = text_of(read(facts))
    marks = ("INTERIM", "WITHDRAWN", "RECORDED BY PHONE", "DECLINED")
    assert len(pages) > 2
    assert {tuple(mark in page for mark in marks) for page in pages} == {(True, True, True, False)}
    assert {"DECLINED" in page for page in text_of(read(samples.declined()))} == {True}


def test_headings_in_the_text_are_bold():
    whole = [(words, font) for _, words, left, _, _, font, _ in pieces(read(samples.closed())) if left == 46]
    assert [words for words, font in whole if font == "DejaVuSansCondensed-Bold" and words != "FINAL"] == [
        "Unlock bypassed batches (UR-000007)",
        "Batches to unlock: 3 batches, 52 items, $17,504.50 in total",
        "Before you decide",
        "Unlocking bypassed batches (version 1)",
        "What happens when you agree",
        "Your decision",
    ]


def test_heads_are_repeated_and_no_row_is_lost():
    facts = samples.many(100)
    pages = text_of(read(facts))
    rows = [page for page in pages if "Re-exported\nINV-2026" in page]
    assert (len(rows) > 2, {page.count("Outcome\n") for page in rows}) == (True, {1})
    whole = squeezed("".join(bodies(facts)))
    assert {whole.count(batch["fingerprint"]) for batch in facts["batches"]} == {1}  # in the text
    assert [batch["number"] for batch in facts["batches"] if whole.count(batch["number"]) != 2] == []


# From 22 batches a heading would be last on its page, but for the break before it.
@pytest.mark.parametrize("count", range(1, 40) if LONG_RUN else range(21, 25))
def test_no_heading_stands_at_the_foot_of_a_page(count):
    """Whatever the length of the case, something of a section is on the page of its heading."""
    headings = {section.heading for section in words.paper(samples.closed()).sections}
    ends = [page.splitlines()[-1].partition(":")[0] for page in bodies(samples.many(count))]
    assert [end for end in ends if end in headings] == []


def test_batches_of_a_big_case_are_not_listed_beside_the_text():
    whole = "".join(bodies(samples.many(501)))
    assert (whole.count("INV-2026000321"), whole.count("Batches: 501 batches, ")) == (1, 1)


def test_text_of_many_batches_is_printed_whole():
    facts = samples.many(2000 if LONG_RUN else 501)
    printed = Counter(re.findall("[0-9a-f]{64}", squeezed("".join(bodies(facts)))))
    assert {printed[batch["fingerprint"]] for batch in facts["batches"]} == {1}


# --- What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_whole_text_and_its_hash_are_on_paper(kind):
    facts = kind()
    whole = squeezed("".join(bodies(facts)))
    assert squeezed(facts["consent"]["text"]) in whole
    assert facts["consent"]["text_sha256"] in whole


def test_lower_assurance_is_said_at_the_top():
    page = text_of(read(samples.recorded_by_phone()))[0]
    assert page.index("LOWER-ASSURANCE CONSENT") < page.index("On Nov 23, 2026")
    assert "Certificate of consent recorded by phone" in page


def test_metadata():
    reader = read(samples.interim())
    assert {key: str(value) for key, value in reader.metadata.items() if key != "/Producer"} == {
        "/Title": "Certificate of consent CN-000012-1",
        "/Author": "ServiceTitan Support",
        "/Subject": "Unlocking bypassed batches for Northwind Heating, account 4711",
        "/Keywords": "CN-000012-1, INTERIM",
        "/Creator": "Unlock Desk",
        "/CreationDate": "D:20261123140509+00'00'",
        "/ModDate": "D:20261123140509+00'00'",
        "/Trapped": "/False",
    }
    assert (reader.root_object["/Lang"], [float(side) for side in reader.pages[0].mediabox]) == (
        "en-US",
        [0, 0, 612, 792],
    )


def test_fonts_are_embedded():
    fonts = [font.get_object() for font in read(samples.closed()).pages[0]["/Resources"]["/Font"].values()]
    embedded = {str(font["/BaseFont"]).split("+")[-1]: "/FontFile2" in font["/FontDescriptor"] for font in fonts}
    assert embedded == {"DejaVuSansCondensed": True, "DejaVuSansCondensed-Bold": True, "DejaVuSansMono": True}


# --- No word is lost -------------------------------------------------------------------------------------------------


def counted(text):
    """Return how often each character that can be seen is in a text, codes such as [U+4E2D] decoded.

    Joined letters count as the letters that they join, and a bracket as either half: it is mirrored in a run from
    right to left.
    """
    decoded = re.sub(r"\[U\+([0-9A-F]{4,6})\]", lambda code: chr(int(code[1], 16)), squeezed(text))
    seen = (char for char in unicodedata.normalize("NFKD", decoded) if not char.isspace())
    return Counter(min(char, MIRRORED.get(char, char)) for char in seen)


def said(facts):
    """Yield all the words of a certificate."""
    paper = words.paper(facts)
    yield from (paper.title, paper.subtitle, paper.number, paper.code, paper.issued, paper.issuer, *paper.summary)
    yield from (part for notice in (*paper.notices, paper.status) for part in (notice.mark, notice.text))
    for section in paper.sections:
        yield from (section.heading, *section.paragraphs, section.text)
        yield from (part for fact in section.facts for part in (fact.label, fact.value))
        if section.table:
            yield section.table.total
            yield from (column.heading for column in section.table.beside())
            for beside, under in section.table.cells():
                yield from (cell for _, cell in beside)
                yield from (part for column, cell in under for part in (column.heading, cell))


def printed(facts):
    return counted("".join(bodies(facts)))


def lost(facts):
    return counted("".join(said(facts))) - printed(facts)


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_no_word_is_lost(kind):
    assert lost(kind()) == Counter()


@pytest.mark.parametrize("value", LONG)
def test_no_word_of_a_long_value_is_lost(value):
    assert lost(_long(value)) == Counter()


anything = st.characters(exclude_categories=["Cs"])
alphabets = st.sampled_from(
    [
        "אבגדהוזחטיםןשׁוֹ ()[]0123 ",
        "ابتثجحخدذرزسشصضطظعغفقكلمنهويىئءآأإؤ لا ٠١٢\u064b\u064e\u0651 ()",
        "中文字 日本語、한국어",
        "😀👩\u200d👧🏽🇺🇸 ",
        "e\u0301a\u0308o\u0328\u0307n\u0303",
        "<b>&amp;</b> <br/> \"'%(s){x}\\",
        "\x01\x07\x0b\x0c\x1c\x1f\x7f\x85\xa0\xad\t\r\n",
        "abc ABC 123 $,.-",
    ]
).flatmap(lambda letters: st.text(letters, max_size=80))
typed = st.lists(alphabets | st.text(anything, max_size=40), max_size=4).map("".join)
long = st.builds(lambda text, times: text * times, typed, st.integers(1, 40 if LONG_RUN else 5))
HARD = "- 😀 שלום (חיפה): 14 items, $11,920.00, posted Nov 1, 2026, " + "W" * 150


@settings(max_examples=1000 if LONG_RUN else 10)
@given(text=long, name=typed, batch=typed, reason=long, file_name=typed)
@example(text=HARD, name=HARD, batch=HARD, reason=HARD, file_name=HARD)
@example(text=f"[ ] {HARD}", name="محمد", batch="李小龍", reason="[U+4E2D]", file_name="\u202efdp.exe")
def test_no_character_of_what_was_recorded_is_lost(text, name, batch, reason, file_name):
    facts = samples.withdrawn_by_phone()
    facts["consent"]["text"] = "\n".join([text, f"- INV-1, {batch}: 14 items, $11,920.00, content {'0' * 64}", reason])
    facts["signer"]["name"], facts["batches"][0]["name"] = name, batch
    facts["case"]["reason"] = facts["withdrawal"]["why"] = reason
    facts["evidence"][0]["file_name"] = file_name
    assert lost(facts) == Counter()
    recorded = [facts["consent"]["text"], name, batch, reason, reason, file_name]
    assert counted("".join(recorded)) - printed(facts) == Counter()


@settings(max_examples=200 if LONG_RUN else 4)
@given(before=st.text("ab 😀", max_size=70), after=st.text("中 ש", max_size=30))
@example(before="x" * 119, after="😀" * 90)
@example(before="", after="李 小龍" * 40)
def test_no_code_breaks_across_lines(before, after):
    facts = samples.declined()
    facts["consent"]["text"] = facts["case"]["reason"] = f"{before}😀{after}"
    rest = re.sub(r"\[U\+[0-9A-F]{4,6}\]", "", "\n".join(bodies(facts)))
    assert ("[U" in rest, "U+" in rest) == (False, False)
