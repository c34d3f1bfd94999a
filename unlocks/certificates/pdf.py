"""The certificate as PDF: US Letter, two pages for a small case, the same bytes for the same facts.

The page streams are compressed, so the same bytes need the same ReportLab (pinned) and the same zlib.
"""

import io
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Lock

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import CondPageBreak, HRFlowable, LongTable, Paragraph, SimpleDocTemplate, Spacer, Table

from . import shaping, words

_PLAIN, _BOLD, _MONO = "DejaVuSansCondensed", "DejaVuSansCondensed-Bold", "DejaVuSansMono"
_SIDE, _END = 36, 33  # the margins; stamps, head and foot stand in those at the ends
_WIDTH = LETTER[0] - 2 * _SIDE
_LEFT = 240  # of two columns the left one, with the gutter; the right one has the longer facts

_INK, _MUTED, _ACCENT, _RULE = map(HexColor, ("#15202b", "#4f5d6b", "#0b5a6b", "#b9c3cc"))
_WAIT = tuple(map(HexColor, ("#7a4a00", "#fdf3dc", "#c98a1b")))  # a notice's ink, ground and edge
_GOOD = tuple(map(HexColor, ("#0a6237", "#eaf6ef", "#4c9a70")))
_BAD = tuple(map(HexColor, ("#981b1b", "#fcecea", "#c65b52")))
_TINTS = {"interim": _WAIT, "expired": _WAIT, "final": _GOOD}

_BODY = ParagraphStyle("body", None, fontName=_PLAIN, fontSize=8.5, leading=9.9, textColor=_INK, spaceShrinkage=0)
_NOTE = ParagraphStyle("note", _BODY, textColor=_MUTED, spaceAfter=1)
_AMOUNT = ParagraphStyle("amount", _BODY, alignment=TA_RIGHT)
_HEADING = ParagraphStyle("heading", _BODY, fontName=_BOLD, fontSize=10, leading=12, textColor=_ACCENT, spaceBefore=5)
_TITLE = ParagraphStyle("title", _BODY, fontName=_BOLD, fontSize=15, leading=19)
_NUMBER = ParagraphStyle("number", _AMOUNT, fontName=_BOLD, fontSize=10.5, spaceAfter=8)
_SUMMARY = ParagraphStyle("summary", _BODY, fontSize=9, leading=11.4, spaceBefore=7)
_FACT = ParagraphStyle("fact", _BODY, bulletFontName=_PLAIN, bulletFontSize=8.5, bulletColor=_MUTED, spaceAfter=0.8)
_NOTICE = ParagraphStyle("notice", _FACT, bulletFontName=_BOLD, bulletIndent=8, borderWidth=0.6, spaceBefore=8)
_CELLS = {"number": _AMOUNT, "amount": _AMOUNT, "code": ParagraphStyle("code", _BODY, fontName=_MONO)}
_BARE = [  # a table's style: no padding, everything at the top, no font of ReportLab's own
    *((f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("FONT", (0, 0), (-1, -1), _PLAIN),
]
_one_at_a_time = Lock()  # a font object of ReportLab's serves one document at a time


def render(facts):
    """Return the PDF of the certificate with these facts."""
    paper, file = words.paper(facts), io.BytesIO()
    with _one_at_a_time:
        _register_fonts()
        document = SimpleDocTemplate(
            file,
            pagesize=LETTER,
            **dict.fromkeys(("leftMargin", "rightMargin"), _SIDE - 6),  # and the 6 of ReportLab's frame
            **dict.fromkeys(("topMargin", "bottomMargin"), _END - 6),
            title=f"{paper.title} {paper.number}",
            author=paper.issuer,
            subject=paper.subtitle,
            keywords=[paper.number, *(notice.mark for notice in (*paper.notices, paper.status))],
            creator="Unlock Desk",
            lang="en-US",
            invariant=1,
            initialFontName=_PLAIN,
        )
        document.build(list(_story(paper)), canvasmaker=partial(_Pages, paper, facts["issued_at"]))
    return file.getvalue()


@cache
def _register_fonts():
    for name in (_PLAIN, _BOLD, _MONO):
        pdfmetrics.registerFont(TTFont(name, str(Path(__file__).parent / "fonts" / f"{name}.ttf")))


class _Text(Paragraph):
    """A paragraph of plain text, whose lines are put into their order from left to right as they are drawn."""

    def __init__(self, text, style=_BODY, bulletText=None, **kwargs):
        super().__init__(text and "text", style, bulletText, **kwargs)
        if text:  # the halves of a paragraph that is split bring theirs along
            # Put in here and not parsed: nothing in it is markup, and the whole stays one fragment.
            glyphs = pdfmetrics.getFont(style.fontName).face.charToGlyph
            self.frags[0].text = shaping.breakable(shaping.printable(text, glyphs))
            self.length = pdfmetrics.stringWidth(self.frags[0].text, style.fontName, style.fontSize)

    def draw(self):
        self.blPara.lines = [(spare, [shaping.from_left(" ".join(words))]) for spare, words in self.blPara.lines]
        super().draw()


class _Quoted(_Text):
    """A line of the text as it was shown, beside a rule."""

    def draw(self):
        self.canv.setFillColor(_RULE)
        self.canv.rect(0, -0.2, 1.6, self.height + 0.4, stroke=0, fill=1)
        super().draw()


def _lines(text):
    """Return the lines of a value; one without words is a blank, to keep its height."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line if line.strip() else "\xa0" for line in lines]


def _story(paper):
    named = {section.name: section for section in paper.sections}
    beside = [[part for name in names for part in _section(named.pop(name), indent=88)] for names in words.COLUMNS]
    style = [*_BARE, ("RIGHTPADDING", (0, 0), (0, 0), 14)]
    yield _top(paper)
    yield from map(_notice, (*paper.notices, paper.status))
    yield _Text(" ".join(paper.summary), _SUMMARY)
    yield Table([beside], [_LEFT, _WIDTH - _LEFT], style=style, spaceBefore=6, splitInRow=1)
    for section in named.values():
        yield CondPageBreak(110 if section.table else 56)  # the heading and some of what follows stay together
        yield from _section(section, indent=60)


def _top(paper):
    title = [_Text(paper.issuer, _HEADING), _Text(paper.title, _TITLE), _Text(paper.subtitle, _NOTE)]
    code, issued = _Text(f"Code {paper.code}", _AMOUNT), _Text(f"Issued {paper.issued}", _AMOUNT)
    style = [*_BARE, ("LINEBELOW", (0, 0), (-1, -1), 1.6, _ACCENT), ("BOTTOMPADDING", (0, 0), (-1, -1), 4)]
    return Table([[title, [_Text(paper.number, _NUMBER), code, issued]]], [_WIDTH - 170, 170], style=style)


def _notice(notice):
    ink, ground, edge = _TINTS.get(notice.name, _BAD)
    style = ParagraphStyle("notice", _NOTICE, bulletColor=ink, backColor=ground, borderColor=edge, spaceAfter=3)
    style.leftIndent = pdfmetrics.stringWidth(notice.mark, _BOLD, 8.5) + 20
    style.borderPadding = (2.5, 0, 3.5, style.leftIndent)
    return _Text(notice.text, style, notice.mark)


def _section(section, indent):
    total = f": {section.table.total}" if section.table and section.table.total else ""
    yield _Text(section.heading + total, _HEADING)
    yield HRFlowable(width="100%", thickness=0.6, color=_RULE, spaceBefore=0.5, spaceAfter=2)
    yield from (_Text(paragraph, _NOTE) for paragraph in section.paragraphs)
    if section.table:
        yield _table(section.table)
    for fact in section.facts:
        yield from _fact(fact.label, fact.value, fact.code, indent)
    if section.text:
        yield Spacer(0, 3)
        yield from _shown(section)


def _fact(label, value, code=False, indent=0):
    style = ParagraphStyle("fact", _FACT, fontName=_MONO if code else _PLAIN, leftIndent=indent)
    return [_Text(line, style, label if number == 0 else None) for number, line in enumerate(_lines(value))]


def _shown(section):
    """Yield the text as it was shown, line by line; its headings in bold."""
    for line in _lines(section.text):
        hanging = 6 if line.startswith("- ") else 12 if line.startswith("[ ] ") else 0
        style = ParagraphStyle("quoted", _BODY, leftIndent=10 + hanging, firstLineIndent=-hanging)
        if line in section.headings:
            style.fontName, style.keepWithNext = _BOLD, True
        style.leading = 3 if line == "\xa0" else _BODY.leading
        yield _Quoted(line, style)


def _table(table):
    """Lay out a table: its heads on every page, a rule below each row."""
    beside = [(column.heading, _CELLS.get(column.kind, _BODY)) for column in table.beside()]
    heads = [_Text(head, ParagraphStyle("head", of, fontName=_BOLD, textColor=_MUTED)) for head, of in beside]
    rows, style = [heads], [*_BARE, ("RIGHTPADDING", (0, 0), (-2, -1), 8), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.3)]
    for cells, under in table.cells():
        first = len(rows)
        rows.append([_Text(" ".join(_lines(cell)), _CELLS.get(column.kind, _BODY)) for column, cell in cells])
        for column, cell in under:
            style.append(("SPAN", (0, len(rows)), (-1, len(rows))))
            rows.append(_fact(column.heading, " ".join(_lines(cell)), column.kind == "code"))
        style += [("LINEABOVE", (0, first), (-1, first), 0.4, _RULE), ("NOSPLIT", (0, first), (-1, len(rows) - 1))]
    return LongTable(rows, _widths(rows), repeatRows=1, splitInRow=1, style=style, spaceAfter=2)


def _widths(rows):
    """Give each column the width of its longest cell, as far as all columns fit; the shortest come first."""
    beside = [row for row in rows if len(row) == len(rows[0])]
    lengths = [max(cell.length for cell in column) + 8.5 for column in zip(*beside, strict=True)]
    widths, left = {}, _WIDTH
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        widths[number] = min(lengths[number], left / (len(lengths) - len(widths)))
        left -= widths[number]
    return [widths[number] + left / len(lengths) for number in range(len(lengths))]


class _Pages(Canvas):
    """Hold the pages back until their number is known, then draw on each what is on every page."""

    def __init__(self, paper, issued_at, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The file's ID, which would otherwise depend on the environment (SOURCE_DATE_EPOCH).
        self._doc.signature = sha256(f"{paper.number} {paper.code}".encode())
        self.setDateFormatter(lambda *_: f"D:{datetime.fromisoformat(issued_at):%Y%m%d%H%M%S}+00'00'")
        self._paper, self._held = paper, []

    def showPage(self):
        self._held.append(dict(vars(self)))
        self._startPage()

    def save(self):
        held, paper = self._held, self._paper
        for number, page in enumerate(held, 1):
            self.__dict__ = page
            self._draw_head_and_foot(paper, number, len(held))
            super().showPage()
        super().save()

    def _draw_head_and_foot(self, paper, number, of):
        right = _SIDE + _WIDTH
        self.setFont(_PLAIN, 8)
        self.setFillColor(_MUTED)
        self.drawString(_SIDE, 22, f"{paper.number}  ·  code {paper.code}  ·  check at {paper.check_at}")
        self.drawRightString(right, 22, f"Page {number} of {of}")
        self.drawString(_SIDE, 767, f"{paper.title} {paper.number}" if number > 1 else "")
        for stamp in reversed(paper.stamps):
            self.setFont(_BOLD, 10)
            self.setFillColor(_TINTS.get(stamp.name, _BAD)[0])
            self.drawRightString(right, 767, stamp.mark)
            right -= pdfmetrics.stringWidth(stamp.mark, _BOLD, 10) + 14
