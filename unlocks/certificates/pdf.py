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

_FONTS = Path(__file__).parent / "fonts"
_PLAIN, _BOLD, _MONO = "DejaVuSansCondensed", "DejaVuSansCondensed-Bold", "DejaVuSansMono"

_MARGIN = 36  # stamps, head and foot stand in it
_WIDTH, _HEIGHT = (side - 2 * _MARGIN for side in LETTER)
_GUTTER = 14
_LEFT = 226  # the columns beside each other; the right one has the longer facts
_RIGHT = _WIDTH - _GUTTER - _LEFT

_INK, _MUTED, _ACCENT, _RULE, _FAINT = map(HexColor, ("#15202b", "#4f5d6b", "#0b5a6b", "#b9c3cc", "#dfe5ea"))
_WAIT = tuple(map(HexColor, ("#7a4a00", "#fdf3dc", "#c98a1b")))  # a notice's ink, ground and edge
_GOOD = tuple(map(HexColor, ("#0a6237", "#eaf6ef", "#4c9a70")))
_BAD = tuple(map(HexColor, ("#981b1b", "#fcecea", "#c65b52")))
_TINTS = {"interim": _WAIT, "final": _GOOD}

_BODY = ParagraphStyle("body", None, fontName=_PLAIN, fontSize=8.5, leading=10, textColor=_INK, spaceShrinkage=0)
_NOTE = ParagraphStyle("note", _BODY, textColor=_MUTED, spaceAfter=1)
_AMOUNT = ParagraphStyle("amount", _BODY, alignment=TA_RIGHT)
_CODE = ParagraphStyle("code", _BODY, fontName=_MONO)
_HEADING = ParagraphStyle("heading", _BODY, fontName=_BOLD, fontSize=10, leading=12, textColor=_ACCENT, spaceBefore=6)
_TITLE = ParagraphStyle("title", _BODY, fontName=_BOLD, fontSize=15, leading=19)
_NUMBER = ParagraphStyle("number", _AMOUNT, fontName=_BOLD, fontSize=10.5, spaceAfter=8)
_SUMMARY = ParagraphStyle("summary", _BODY, fontSize=9, leading=11.4, spaceBefore=7)
_HEAD = ParagraphStyle("head", _BODY, fontName=_BOLD, textColor=_MUTED)
_HEAD_RIGHT = ParagraphStyle("head right", _HEAD, alignment=TA_RIGHT)
_FACT = ParagraphStyle("fact", _BODY, bulletFontName=_PLAIN, bulletFontSize=8.5, bulletColor=_MUTED, spaceAfter=0.8)
_NOTICE = ParagraphStyle("notice", _FACT, bulletFontName=_BOLD, bulletIndent=8, borderWidth=0.6)
_NOTICE.spaceBefore, _NOTICE.spaceAfter = 8, 3
_HEADS = {"number": _HEAD_RIGHT, "amount": _HEAD_RIGHT}  # of a table's columns, by kind
_CELLS = {"number": _AMOUNT, "amount": _AMOUNT, "code": _CODE}

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
            **dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), _MARGIN - 6),  # and a frame's 6
            title=f"{paper.title} {paper.number}",
            author=paper.issuer,
            subject=paper.subtitle,
            keywords=[paper.number, *(notice.mark for notice in (*paper.notices, paper.status))],
            creator="Unlock Desk",
            lang="en-US",
            invariant=1,
            initialFontName=_PLAIN,
        )
        issued_at = datetime.fromisoformat(facts["issued_at"])
        document.build(_story(paper), canvasmaker=partial(_Pages, paper=paper, issued_at=issued_at))
    return file.getvalue()


@cache
def _register_fonts():
    for name in (_PLAIN, _BOLD, _MONO):
        pdfmetrics.registerFont(TTFont(name, str(_FONTS / f"{name}.ttf")))


class _Text(Paragraph):
    """A paragraph of plain text, whose lines are put into their order from left to right as they are drawn."""

    def __init__(self, text, style=_BODY, bulletText=None, **kwargs):
        super().__init__(text and "text", style, bulletText, **kwargs)
        if text:  # the halves of a paragraph that is split bring theirs along
            # Put in here and not parsed: nothing in it is markup, and the whole stays one fragment.
            glyphs = pdfmetrics.getFont(style.fontName).face.charToGlyph
            self.frags[0].text = shaping.breakable(shaping.printable(text, glyphs))

    def length(self):
        """Return how wide it is on one line."""
        return pdfmetrics.stringWidth(self.frags[0].text, self.style.fontName, self.style.fontSize)

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
    columns = [[named.pop(name) for name in names] for names in words.COLUMNS]
    notices = map(_notice, (*paper.notices, paper.status))
    summary = _Text(" ".join(paper.summary), _SUMMARY)
    return [_top(paper), *notices, summary, _beside_each_other(*columns), *_sections(named.values(), _WIDTH)]


def _top(paper):
    title = [_Text(paper.issuer, _HEADING), _Text(paper.title, _TITLE), _Text(paper.subtitle, _NOTE)]
    code, issued = _Text(f"Code {paper.code}", _AMOUNT), _Text(f"Issued {paper.issued}", _AMOUNT)
    style = [*_BARE, ("LINEBELOW", (0, 0), (-1, -1), 1.6, _ACCENT), ("BOTTOMPADDING", (0, 0), (-1, -1), 4)]
    return Table([[title, [_Text(paper.number, _NUMBER), code, issued]]], [_WIDTH - 170, 170], style=style)


def _beside_each_other(left, right):
    style = [*_BARE, ("RIGHTPADDING", (0, 0), (0, 0), _GUTTER)]
    cells = [[_sections(left, _LEFT), _sections(right, _RIGHT)]]
    return Table(cells, [_LEFT + _GUTTER, _RIGHT], style=style, spaceBefore=6, splitInRow=1)


def _notice(notice):
    ink, ground, edge = _TINTS.get(notice.name, _BAD)
    style = ParagraphStyle("notice", _NOTICE, bulletColor=ink, backColor=ground, borderColor=edge)
    style.leftIndent = pdfmetrics.stringWidth(notice.mark, _BOLD, 8.5) + 20
    style.borderPadding = (2.5, 0, 3.5, style.leftIndent)
    return _Text(notice.text, style, notice.mark)


def _sections(listed, width):
    return [part for section in listed for part in _section(section, width)]


def _section(section, width):
    total = f": {section.table.total}" if section.table and section.table.total else ""
    parts = [_Text(section.heading + total, _HEADING)]
    parts += [HRFlowable(width="100%", thickness=0.6, color=_RULE, spaceBefore=0.5, spaceAfter=2)]
    parts += [_Text(paragraph, _NOTE) for paragraph in section.paragraphs]
    room = 56  # for the heading and some of what follows
    if section.table:
        table = _table(section.table)
        table.wrap(_WIDTH, _HEIGHT)
        room += sum(table._rowHeights[:3])  # heads and first row, which is cut where it has no room
        parts += [table, Spacer(0, 2)]
    if width == _WIDTH:
        parts.insert(0, CondPageBreak(min(room, _HEIGHT)))
    for fact in section.facts:
        parts += _fact(fact.label, fact.value, fact.code, 60 if width == _WIDTH else 88)
    if section.text:
        parts += [Spacer(0, 3), *_shown(section)]
    return parts


def _fact(label, value, code=False, indent=0):
    style = ParagraphStyle("fact", _FACT, fontName=_MONO if code else _PLAIN, leftIndent=indent)
    first, *others = _lines(value)
    return [_Text(first, style, label), *(_Text(line, style) for line in others)]


def _shown(section):
    """Yield the text as it was shown, line by line; its headings in bold."""
    for line in _lines(section.text):
        hanging = 6 if line.startswith("- ") else 12 if line.startswith("[ ] ") else 0
        style = ParagraphStyle("quoted", _BODY, leftIndent=10 + hanging, firstLineIndent=-hanging)
        if line in section.headings:
            style.fontName, style.keepWithNext = _BOLD, True
        style.leading = 4 if line == "\xa0" else 10
        yield _Quoted(line, style)


def _table(table):
    """Lay out a table: its heads on every page, a rule below each row."""
    rows = [[_Text(column.heading, _HEADS.get(column.kind, _HEAD)) for column in table.beside()]]
    style = [*_BARE, ("RIGHTPADDING", (0, 0), (-2, -1), 8), ("BOTTOMPADDING", (0, 0), (-1, 0), 1)]
    style.append(("LINEBELOW", (0, 0), (-1, 0), 0.6, _RULE))
    for cells, under in table.cells():
        first = len(rows)
        rows.append([_Text(" ".join(_lines(cell)), _CELLS.get(column.kind, _BODY)) for column, cell in cells])
        for column, cell in under:
            style.append(("SPAN", (0, len(rows)), (-1, len(rows))))
            rows.append(_fact(column.heading, " ".join(_lines(cell)), column.kind == "code"))
        last = len(rows) - 1
        style += [("TOPPADDING", (0, first), (-1, first), 0.2), ("BOTTOMPADDING", (0, last), (-1, last), 1.2)]
        style += [("NOSPLIT", (0, first), (-1, last)), ("LINEBELOW", (0, last), (-1, last), 0.4, _FAINT)]
    return LongTable(rows, _widths(rows), repeatRows=1, splitInRow=1, style=style)


def _widths(rows):
    """Give each column the width of its longest cell, as far as all columns fit; the shortest come first."""
    beside = [row for row in rows if len(row) == len(rows[0])]
    lengths = [max(cell.length() for cell in column) + 8.5 for column in zip(*beside, strict=True)]
    widths, left = {}, _WIDTH
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        widths[number] = min(lengths[number], left / (len(lengths) - len(widths)))
        left -= widths[number]
    return [widths[number] + left / len(lengths) for number in range(len(lengths))]


class _Pages(Canvas):
    """Hold the pages back until their number is known, then draw on each what is on every page."""

    def __init__(self, *args, paper, issued_at, **kwargs):
        super().__init__(*args, **kwargs)
        # The file's ID, which would otherwise depend on the environment (SOURCE_DATE_EPOCH).
        self._doc.signature = sha256(f"{paper.number} {paper.code}".encode())
        self.setDateFormatter(lambda *_: f"D:{issued_at:%Y%m%d%H%M%S}+00'00'")
        self._paper, self._held = paper, []

    def showPage(self):
        self._held.append(dict(vars(self)))
        self._startPage()

    def save(self):
        held, paper = self._held, self._paper
        for number, page in enumerate(held, 1):
            self.__dict__ = page
            self._draw_margins(paper, f"Page {number} of {len(held)}", number > 1)
            super().showPage()
        super().save()

    def _draw_margins(self, paper, page, title):
        left, right = _MARGIN, _MARGIN + _WIDTH
        self.setFont(_PLAIN, 8)
        self.setFillColor(_MUTED)
        self.drawString(left, 22, f"{paper.number}  ·  code {paper.code}  ·  check at {paper.check_at}")
        self.drawRightString(right, 22, page)
        if title:
            self.drawString(left, 767, f"{paper.title} {paper.number}")
        if paper.stamps:
            self.setFont(_BOLD, 10)
            self.setFillColor(_TINTS.get(paper.stamps[0].name, _BAD)[0])
            self.drawRightString(right, 767, "  ·  ".join(stamp.mark for stamp in paper.stamps))
