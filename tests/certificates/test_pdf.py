"""The certificate on paper: the same bytes, one page for a small case, every letter of it readable."""

import io
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from pypdf import PdfReader

from unlocks.certificates import letters, pdf

from . import samples


def read(facts):
    return PdfReader(io.BytesIO(pdf.render(facts)))


def text_of(reader):
    return [page.extract_text() for page in reader.pages]


def squeezed(text):
    """Return a text without its blanks, as line ends on paper are elsewhere."""
    return re.sub(r"\s", "", text)


def tokens(reader, operator):
    """Return the operands of an operator, on all pages."""
    streams = (page.get_contents().get_data().decode("latin-1") for page in reader.pages)
    return [match for stream in streams for match in re.findall(rf"(\S+) {operator}\b", stream)]


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
def test_small_case_is_one_page(kind):
    assert len(read(kind()).pages) == 1


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_sections_stand_in_the_same_order_on_every_certificate(kind):
    names = ["text", "check", "signer", "identity", "link", "decision", "duties", "case", "ledger"]
    paper, page = pdf.words.paper(kind()), text_of(read(kind()))[0]
    places = [re.search(rf"^{re.escape(paper.section(name).heading)}$", page, re.MULTILINE) for name in names]
    assert [name for name, place in zip(names, places, strict=True) if place is None] == []
    assert sorted(places, key=re.Match.start) == places


def test_ledger_begins_right_under_the_batches():
    pages = text_of(read(samples.many(60)))
    assert [("INV-2026000060" in page.split("The case in the ledger")[0]) for page in pages[-1:]] == [True]


@pytest.mark.parametrize("facts", [samples.closed(), samples.withdrawn(), samples.taken_back(), samples.many(40)])
def test_nothing_is_too_small_or_off_the_page(facts):
    sizes = {float(size) for size in tokens(read(facts), "Tf")}
    sizes |= {float(size) for size in re.findall(r"/F\S+ ([\d.]+) Tf", _streams(facts))}
    assert min(sizes) >= 6.5
    assert _outside(facts) == []


def _streams(facts):
    return "".join(page.get_contents().get_data().decode("latin-1") for page in read(facts).pages)


def _outside(facts):
    """Return the pieces of text that stick out of the margins."""
    paper = pdf.words.paper(facts)
    found = []
    for page in pdf._pages(paper):
        for x, y, line in page:
            for left, drop, text, font, size, _ in line.pieces:
                end = x + left + pdf._width(text, font, size)
                if end > pdf._RIGHT + 0.5 or y - drop < pdf._BOTTOM or x < pdf._LEFT:
                    found.append(text)
    return found


def test_every_page_names_certificate_and_page():
    pages = text_of(read(samples.many(40)))
    assert [
        ("CN-000012-2" in page, f"Page {number} of {len(pages)}" in page, "INTERIM" in page)
        for number, page in enumerate(pages, 1)
    ] == [(True, True, False)] * len(pages)


def test_every_page_is_stamped():
    facts = samples.many(40) | {"interim": True, "withdrawal": samples.withdrawn()["withdrawal"]}
    facts["consent"] |= {"how": "phone", "recorded_by": "agent"}
    pages = text_of(read(facts))
    marks = ("INTERIM", "WITHDRAWN", "TAKEN DOWN BY STAFF", "DECLINED")
    assert len(pages) > 2
    assert {tuple(mark in page for mark in marks) for page in pages[1:]} == {(True, True, True, False)}
    assert "DECLINED" in text_of(read(samples.declined()))[0]


def test_headings_in_the_text_are_bold():
    paper = pdf.words.paper(samples.closed())
    pdf._register_fonts()
    lines = pdf._Style(7).text_lines(paper.section("text").text, paper.section("text").headings, 290)
    bold = [text for line in lines for _, _, text, font, *_ in line.pieces if font == pdf._BOLD]
    assert bold == [
        "Unlock bypassed batches (UR-000007)",
        "Batches to unlock: 3 batches, 52 items, $17,504.50 in total",
        "Before you decide",
        "Unlocking bypassed batches (version 1)",
        "Your decision",
    ]


def test_heads_are_repeated_and_no_row_is_lost():
    pages = text_of(read(samples.many(300)))
    with_rows = [page for page in pages if "Re-exported" in page and "INV-20260002" in page]
    assert len(with_rows) > 2
    assert {page.count("Outcome") for page in with_rows} == {1}
    whole = "".join(pages)
    assert {whole.count(batch["fingerprint"]) for batch in samples.many(300)["batches"]} == {1}  # in the text
    assert [batch["number"] for batch in samples.many(300)["batches"] if whole.count(batch["number"]) != 2] == []


def test_big_case_is_drawn_soon():
    assert len(read(samples.many(1000)).pages) > 20


# --- What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_everything_that_is_said_is_on_paper(kind):
    facts = kind()
    whole = squeezed("".join(text_of(read(facts))))
    paper = pdf.words.paper(facts)
    said = [paper.title, paper.subtitle, paper.code, paper.issued, paper.issuer]
    said += [part for notice in (*paper.notices, paper.status) for part in (notice.mark, notice.text)]
    said += paper.summary
    for section in paper.sections:
        said += [
            section.heading,
            *section.paragraphs,
            *(part for fact in section.facts for part in (fact.label, fact.value)),
        ]
        said += section.text.splitlines()
        if section.table:
            said += [column.heading for column in section.table.columns]
            # A column's cell may be broken over lines between which its neighbours stand.
            said += [word for row in section.table.rows for cell in row for word in cell.split()]
    missing = [words for words in said if squeezed(words) not in whole and not _words_on(words, whole)]
    assert missing == []


def _words_on(words, whole):
    return all(squeezed(word) in whole for word in words.split())


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_whole_text_and_its_hash_are_on_paper(kind):
    facts = kind()
    whole = squeezed("".join(text_of(read(facts))))
    assert squeezed(facts["consent"]["text"]) in whole
    assert facts["consent"]["text_sha256"] in whole


def test_weaker_kind_says_so_at_the_top():
    page = text_of(read(samples.recorded_by_phone()))[0]
    assert page.index("WEAKER KIND") < page.index("On 23 Nov 2026")
    assert "Certificate of a consent taken down by staff" in page


def test_metadata():
    reader = read(samples.interim())
    assert {key: str(value) for key, value in reader.metadata.items() if key != "/Producer"} == {
        "/Title": "Certificate of consent CN-000012-1",
        "/Author": "ServiceTitan Support",
        "/Subject": "Unlocking bypassed batches of Northwind Heating, account 4711",
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
    fonts = read(samples.closed()).pages[0]["/Resources"]["/Font"].values()
    embedded = {
        str(font.get_object()["/BaseFont"]).split("+")[-1]: "/FontFile2" in font.get_object()["/FontDescriptor"]
        for font in fonts
        if "/FontDescriptor" in font.get_object()
    }
    assert embedded == {"DejaVuSansCondensed": True, "DejaVuSansCondensed-Bold": True, "DejaVuSansMono": True}


# --- Every kind of letter --------------------------------------------------------------------------------------------


def name_on_paper(name):
    """Return how a name is printed, the rest of the line taken away."""
    facts = samples.interim()
    facts["signer"]["name"] = name
    page = text_of(read(facts))[0]
    return re.search(r"Name, as typed\s*(.*?)\s*Role, as typed", page, re.DOTALL)[1].replace("\n", "")


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Łukasz Żółć-Ñandú O’Brien", "Łukasz Żółć-Ñandú O’Brien"),
        ("Дарья Ξένια", "Дарья Ξένια"),
        ("e\u0301ric", "e\u0301ric"),
        ("李小龍", "[U+674E][U+5C0F][U+9F8D]"),
        ("ก", "[U+0E01]"),
        ("😀", "[U+1F600]"),
        ("👩\u200d👧", "[U+1F469][U+200D][U+1F467]"),
        ("a\u202eb\u200bc\u00add\ufeffe", "a[U+202E]b[U+200B]c[U+00AD]d[U+FEFF]e"),
        ("a\x00b\x07c\x7fd", "a[U+0000]b[U+0007]c[U+007F]d"),
        ("a\ufe0f", "a[U+FE0F]"),
        ("<b>&amp;</b> \"'\\ (%s) {x}", "<b>&amp;</b> \"'\\ (%s) {x}"),
        ("ﬁ ½ € ™", "ﬁ ½ € ™"),
        ("W" * 200, "W" * 200),
        # pypdf turns these back, as readers do when text is copied.
        ("שלום דן", "שלום דן"),
    ],
)
def test_letters_are_printed(name, printed):
    assert name_on_paper(name) == printed


def test_arabic_letters_are_joined_and_turned():
    name = name_on_paper("محمد")
    assert unicodedata.normalize("NFKC", name) == "محمد"
    assert [unicodedata.name(char).split()[-2] for char in name] == ["INITIAL", "MEDIAL", "MEDIAL", "FINAL"]


@pytest.mark.parametrize(
    ("line", "from_left"),
    [
        ("abc", "abc"),
        ("a שלום b", "a םולש b"),
        ("שלום 123 עולם", "םלוע 123 םולש"),
        ("שלום (עולם) כן", "ןכ (םלוע) םולש"),
        ("x שלום", "x םולש"),
        ("ab", "ab"),
        ("שׁ", "שׁ"),
    ],
)
def test_writing_from_right_to_left(line, from_left):
    glyphs = set(map(ord, line + from_left))
    assert letters.from_left(line, glyphs) == from_left


@pytest.mark.parametrize("long", ["中" * 2000, "x" * 2000, "\n" * 2000 + "x", "<br/>" * 400, "a " * 1000])
def test_long_values_everywhere(long):
    facts = samples.withdrawn()
    facts["case"] |= {"reason": long, "account_name": long[:200]}
    facts["withdrawal"]["why"] = long
    facts["consent"] |= {"text": long, "browser": long[:400]}
    facts["batches"][0] |= {"name": long[:200], "number": long[:40]}
    facts["evidence"] = samples.recorded_by_phone()["evidence"]
    facts["evidence"][0]["file_name"] = long[:200]
    facts["ledger"]["entries"][0]["actor"] = long[:200]
    reader = read(facts)
    assert (len(reader.pages) > 1, _outside(facts)) == (True, [])


def test_text_with_other_line_ends():
    facts = samples.interim()
    facts["consent"]["text"] = "first\r\nsecond\rthird\n\nfourth\ttabbed\n"
    page = text_of(read(facts))[0]
    assert [word for word in ("first", "second", "third", "fourth", "[U+000D]") if word in page] == [
        "first",
        "second",
        "third",
        "fourth",
    ]
