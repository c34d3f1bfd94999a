"""The certificate as PDF: US Letter, two pages for a small case, the same bytes for the same facts.

The page streams are compressed, so the same bytes need the same ReportLab (pinned) and the same zlib.
"""

import io
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from itertools import chain
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

_SIDE, _TOP, _BOTTOM = 36, 36, 34  # the margins; stamps, head and foot stand in those above and below
_PADDING = 6  # of ReportLab's frame, inside the margins
_WIDTH = LETTER[0] - 2 * _SIDE
_GUTTER = 14
_HALF = (_WIDTH - _GUTTER) / 2
# Of a table's columns, by kind; columns of words share what is left.
_WIDTHS = {"number": 48, "amount": 80, "short": 108, "time": 138, "code": 124}

_INK, _MUTED, _ACCENT, _RULE, _FAINT = map(HexColor, ("#15202b", "#4f5d6b", "#0b5a6b", "#b9c3cc", "#dfe5ea"))
_WAIT = tuple(map(HexColor, ("#7a4a00", "#fdf3dc", "#c98a1b")))  # a notice's ink, ground and edge
_GOOD = tuple(map(HexColor, ("#0a6237", "#eaf6ef", "#4c9a70")))
_BAD = tuple(map(HexColor, ("#981b1b", "#fcecea", "#c65b52")))
_TINTS = {"interim": _WAIT, "final": _GOOD}

_BODY = ParagraphStyle("body", None, fontName=_PLAIN, fontSize=8.5, leading=10, textColor=_INK, spaceShrinkage=0)
_NOTE = ParagraphStyle("note", _BODY, textColor=_MUTED, spaceAfter=1.5)
_RIGHT = ParagraphStyle("right", _BODY, alignment=TA_RIGHT)
_CODE = ParagraphStyle("code", _BODY, fontName=_MONO)
_HEADING = ParagraphStyle("heading", _BODY, fontName=_BOLD, fontSize=10, leading=12.5, textColor=_ACCENT)
_TITLE = ParagraphStyle("title", _BODY, fontName=_BOLD, fontSize=15, leading=19.5)
_NUMBER = ParagraphStyle("number", _RIGHT, fontName=_BOLD, fontSize=10.5, spaceAfter=8)
_SUMMARY = ParagraphStyle("summary", _BODY, fontSize=9.5, leading=12.4, spaceBefore=5)
_HEAD = ParagraphStyle("head", _BODY, fontName=_BOLD, textColor=_MUTED)
_HEAD_RIGHT = ParagraphStyle("head right", _HEAD, alignment=TA_RIGHT)
_FOOT = ParagraphStyle("foot", _BODY, fontSize=8, leading=10, textColor=_MUTED)
_FOOT_RIGHT = ParagraphStyle("foot right", _FOOT, alignment=TA_RIGHT)
_CELLS = {"number": _RIGHT, "amount": _RIGHT, "code": _CODE}

_one_at_a_time = Lock()  # a font object of ReportLab's serves one document at a time


def render(facts):
    """Return the PDF of the certificate with these facts."""
    paper, file = words.paper(facts), io.BytesIO()
    with _one_at_a_time:
        _register_fonts()
        document = SimpleDocTemplate(
            file,
            pagesize=LETTER,
            leftMargin=_SIDE - _PADDING,
            rightMargin=_SIDE - _PADDING,
            topMargin=_TOP - _PADDING,
            bottomMargin=_BOTTOM - _PADDING,
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


# --- Text ------------------------------------------------------------------------------------------------------------


class _Text(Paragraph):
    """A paragraph of plain text, whose lines are put into their order from left to right as they are drawn."""

    def __init__(self, text, style=_BODY, bulletText=None, **kwargs):
        super().__init__(text and "text", style, bulletText, **kwargs)
        if text:  # the halves of a paragraph that is split bring theirs along
            # Put in here and not parsed: nothing in it is markup, and the whole stays one fragment.
            self.frags[0].text = shaping.printable(text, pdfmetrics.getFont(style.fontName).face.charToGlyph)

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


def _one_line(text):
    return " ".join(_lines(text))


# --- Parts of the paper ----------------------------------------------------------------------------------------------


def _story(paper):
    named = {section.name: section for section in paper.sections}
    columns = [[named.pop(name) for name in names] for names in words.COLUMNS]
    return [*_top(paper), *_beside_each_other(columns), *_sections(named.values(), _WIDTH)]


def _beside_each_other(columns):
    """Lay out sections in two columns; one below the other where that is too long for a page."""
    gutter = ("RIGHTPADDING", (0, 0), (0, 0), _GUTTER)
    table = Table([[_sections(column, _HALF) for column in columns]], [_HALF + _GUTTER, _HALF], style=_style(gutter))
    fits = table.wrap(_WIDTH, LETTER[1])[1] < LETTER[1] - _TOP - _BOTTOM
    return [table] if fits else _sections(chain(*columns), _WIDTH)


def _sections(listed, width):
    return [part for section in listed for part in _section(section, width)]


def _top(paper):
    """Title, number, notices and the summary."""
    title = [_Text(paper.issuer, _HEADING), _Text(paper.title, _TITLE), _Text(paper.subtitle, _NOTE)]
    number = [
        _Text(paper.number, _NUMBER),
        _Text(f"Code {paper.code}", _RIGHT),
        _Text(f"Issued {paper.issued}", _RIGHT),
    ]
    style = _style(("LINEBELOW", (0, 0), (-1, -1), 1.6, _ACCENT), ("BOTTOMPADDING", (0, 0), (-1, -1), 4))
    notices = map(_notice, (*paper.notices, paper.status))
    return [
        Table([[title, number]], [_WIDTH - 170, 170], style=style),
        *notices,
        _Text(" ".join(paper.summary), _SUMMARY),
    ]


def _notice(notice):
    ink, ground, edge = _TINTS.get(notice.name, _BAD)
    mark = _Text(notice.mark, ParagraphStyle("mark", _BODY, fontName=_BOLD, textColor=ink))
    width = pdfmetrics.stringWidth(notice.mark, _BOLD, 8.5) + 20
    style = _style(
        ("BACKGROUND", (0, 0), (-1, -1), ground),
        ("LINEBEFORE", (0, 0), (0, -1), 3, edge, 0),
        ("LEFTPADDING", (0, 0), (0, -1), 10),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
    )
    return Table([[mark, _Text(notice.text)]], [width, _WIDTH - width], style=style, spaceBefore=5)


def _style(*commands):
    """Return a table's style: no padding, everything at the top, no font of ReportLab's own, and these commands."""
    common = [
        ("VALIGN", "TOP"),
        ("FONT", _PLAIN),
        *((f"{side}PADDING", 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")),
    ]
    return [*((name, (0, 0), (-1, -1), value) for name, value in common), *commands]


def _section(section, width):
    total = f": {section.table.total}" if section.table and section.table.total else ""
    parts = [Spacer(0, 7), _Text(section.heading + total, _HEADING)]
    parts += [HRFlowable(width="100%", thickness=0.6, color=_RULE, spaceBefore=1, spaceAfter=2.5)]
    parts += [_Text(paragraph, _NOTE) for paragraph in section.paragraphs]
    room = 56  # for the heading and some of what follows
    if section.table:
        table = _table(section.table)
        table.wrap(_WIDTH, LETTER[1])
        room += sum(table._rowHeights[:3])  # heads and first row, which is cut where it has no room
        parts += [table, Spacer(0, 3)]
    if width == _WIDTH:
        parts.insert(0, CondPageBreak(min(room, LETTER[1] - _TOP - _BOTTOM)))
    for fact in section.facts:
        parts += _fact(fact.label, fact.value, fact.code, 88 if width == _HALF else 60)
    if section.text:
        parts += [Spacer(0, 3), *_shown(section)]
    return parts


def _fact(label, value, code=False, indent=0):
    style = ParagraphStyle(
        "fact",
        _CODE if code else _BODY,
        leftIndent=indent,
        spaceAfter=1,
        bulletFontName=_PLAIN,
        bulletFontSize=8.5,
        bulletColor=_MUTED,
    )
    first, *others = _lines(value)
    return [_Text(first, style, label), *(_Text(line, style) for line in others)]


def _shown(section):
    """Yield the text as it was shown, line by line; its headings in bold."""
    for line in _lines(section.text):
        hanging = 6 if line.startswith("- ") else 12 if line.startswith("[ ] ") else 0
        yield _Quoted(line, _quoted_style(line in section.headings, line == "\xa0", hanging))


@cache
def _quoted_style(bold, blank, hanging):
    return ParagraphStyle(
        "quoted",
        _BODY,
        fontName=_BOLD if bold else _PLAIN,
        leading=5 if blank else 10,
        leftIndent=10 + hanging,
        firstLineIndent=-hanging,
        keepWithNext=bold,
    )


def _table(table):
    """Lay out a table: its heads on every page, a rule below each row."""
    beside = table.beside()
    fixed = [_WIDTHS[column.kind] for column in beside if column.kind in _WIDTHS]
    share = (_WIDTH - sum(fixed)) / (len(beside) - len(fixed))
    rows = [[_Text(column.heading, _HEAD_RIGHT if _CELLS.get(column.kind) is _RIGHT else _HEAD) for column in beside]]
    style = [("RIGHTPADDING", (0, 0), (-2, -1), 10), ("LINEBELOW", (0, 0), (-1, 0), 0.6, _RULE)]
    for cells, under in table.cells():
        first = len(rows)
        rows.append([_Text(_one_line(cell), _CELLS.get(column.kind, _BODY)) for column, cell in cells])
        for column, cell in under:
            style.append(("SPAN", (0, len(rows)), (-1, len(rows))))
            rows.append(_fact(column.heading, _one_line(cell), column.kind == "code"))
        last = len(rows) - 1
        style += [("TOPPADDING", (0, first), (-1, first), 0.6), ("BOTTOMPADDING", (0, last), (-1, last), 1.6)]
        style += [("NOSPLIT", (0, first), (-1, last)), ("LINEBELOW", (0, last), (-1, last), 0.4, _FAINT)]
    widths = [_WIDTHS.get(column.kind, share) for column in beside]
    return LongTable(rows, widths, repeatRows=1, splitInRow=1, style=_style(*style))


# --- Pages -----------------------------------------------------------------------------------------------------------


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
            self._draw(f"{paper.number}  ·  code {paper.code}  ·  check at {paper.check_at}", _FOOT, 20)
            self._draw(f"Page {number} of {len(held)}", _FOOT_RIGHT, 20)
            self._draw(f"{paper.title} {paper.number}" if number > 1 else "", _FOOT, 763)
            self._draw_stamps()
            super().showPage()
        super().save()

    def _draw(self, text, style, y):
        text = _Text(text, style)
        text.wrapOn(self, _WIDTH, 20)
        text.drawOn(self, _SIDE, y)

    def _draw_stamps(self):
        right = _SIDE + _WIDTH
        for stamp in reversed(self._paper.stamps):
            ink, ground, edge = _TINTS.get(stamp.name, _BAD)
            width = pdfmetrics.stringWidth(stamp.mark, _BOLD, 9) + 16
            self.setFillColor(ground)
            self.setStrokeColor(edge)
            self.rect(right - width, 767, width, 14, fill=1)
            self.setFillColor(ink)
            self.setFont(_BOLD, 9)
            self.drawString(right - width + 8, 770.8, stamp.mark)
            right -= width + 6
