"""The certificate as PDF: US Letter, one page for a small case, the same bytes for the same facts.

A paper is made of lines, and lines of pieces of text at fixed places, so that a page can break between any two lines
and nothing is ever too tall for a page. First everything is laid out, then drawn. The page streams are compressed, so
the same bytes need the same reportlab (pinned) and the same zlib.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock

from reportlab.lib.colors import HexColor
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from . import letters, words

_PAGE = (612, 792)
_LEFT, _RIGHT = 33, 579
_WIDTH = _RIGHT - _LEFT
_TOP, _BOTTOM = 768, 32  # of the body
_TOP_AFTERWARDS = 744  # on the pages after the first, under their heading
_GUTTER = 13
_WIDE = 293  # the left column, with the text and what has 64 digits
_NARROW = _WIDTH - _GUTTER - _WIDE

_SIZES = (7.6, 7.4, 7.2, 7.0, 6.9)  # the largest that brings a small case onto one page
_TIGHT_SIZES = (6.9, 6.8, 6.7, 6.6, 6.5)  # if none does: these, with less room between the lines
_FLOWING = 7.4  # the size when there is more than one page
_TABLES = 6.8  # the largest size in a table: a time stands on one line
_CODE = 6.5  # the smallest size there is: 64 digits are as wide as a column
_TOGETHER = 14  # lines: a longer section begins right under the last one, and goes on on the next page
_SMALL_CASE = 150  # lines of text and rows; what has more is not tried on one page

_FONTS = Path(__file__).parent / "fonts"
_PLAIN, _BOLD, _MONO = "DejaVuSansCondensed", "DejaVuSansCondensed-Bold", "DejaVuSansMono"
_INK, _MUTED, _ACCENT, _RULE, _FAINT = "#15202b", "#4f5d6b", "#0b5a6b", "#b9c3cc", "#dfe5ea"
_TINTS = {  # a notice's ink, ground and edge
    "interim": ("#7a4a00", "#fdf3dc", "#c98a1b"),
    "final": ("#0a6237", "#eaf6ef", "#4c9a70"),
    "weaker": ("#981b1b", "#fcecea", "#c65b52"),
    "withdrawn": ("#981b1b", "#fcecea", "#c65b52"),
    "declined": ("#981b1b", "#fcecea", "#c65b52"),
}

_one_at_a_time = Lock()  # a font object of reportlab's serves one document at a time


def render(facts):
    """Return the PDF of the certificate with these facts."""
    paper = words.paper(facts)
    with _one_at_a_time:
        _register_fonts()
        pages = _pages(paper)
        return _drawn(paper, pages, datetime.fromisoformat(facts["issued_at"]))


# --- Lines -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """What stands at one height: pieces (x, drop to the baseline, text, font, size, color) and shapes.

    A shape is (x, drop, width, height, color). `keep`: the next line has to be on the same page. `again`: the lines
    to repeat when a page begins with this one.
    """

    height: float
    pieces: list = field(default_factory=list)
    shapes: list = field(default_factory=list)
    keep: bool = False
    again: tuple = ()


def _height(lines):
    return sum(line.height for line in lines)


def _gap(height):
    return _Line(height)


@cache
def _register_fonts():
    for name in (_PLAIN, _BOLD, _MONO):
        pdfmetrics.registerFont(TTFont(name, str(_FONTS / f"{name}.ttf")))


def _face(font):
    return pdfmetrics.getFont(font).face


def _width(text, font, size):
    widths = _face(font).charWidths
    return sum([widths[ord(char)] for char in text]) * size / 1000


def _wrapped(text, width, font, size):
    """Return the lines of one paragraph: broken at blanks, and inside a word that is wider than a line."""
    text = letters.visible(text, _face(font).charToGlyph)
    if _width(text, font, size) <= width:
        return [text]
    widths, scale = _face(font).charWidths, size / 1000
    lines, line, used = [], "", 0.0
    for word in _words(text):
        needed = sum([widths[ord(char)] for char in word.rstrip(" ")]) * scale
        if line.strip() and used + needed > width:
            lines.append(line.rstrip(" "))
            line, used = "", 0.0
        if needed > width:
            *full, word = _cut(word, width - used, width, widths, scale)
            if full:
                lines.append(line + full[0])
                lines += full[1:]
                line, used = "", 0.0
        line += word
        used += sum([widths[ord(char)] for char in word]) * scale
    return [*lines, line.rstrip(" ")]


def _words(text):
    """Yield words, each with the blanks after it."""
    start = 0
    for place in range(1, len(text)):
        if text[place - 1] == " " and text[place] != " ":
            yield text[start:place]
            start = place
    yield text[start:]


def _cut(word, first, width, widths, scale):
    """Cut a word into pieces as wide as a line, `first` the room on the current one; a mark stays with its letter."""
    pieces, piece, used, room = [], "", 0.0, first
    for char in word:
        wide = widths[ord(char)] * scale
        if piece and used + wide > room and wide:
            pieces.append(piece)
            piece, used, room = "", 0.0, width
        piece += char
        used += wide
    return [*pieces, piece]


def _one_line(value):
    return " ".join(value.split())


# --- Parts of the paper ----------------------------------------------------------------------------------------------


class _Style:
    """The sizes and distances that follow from the size of the type."""

    def __init__(self, size, *, tight=False):
        self.size = size
        self.roomy = size >= 7
        self.tight = tight
        self.leading = round(size * (1.26 if self.roomy else 1.165 if tight else 1.2), 2)
        self.heading = size + 0.9

    def paragraph(self, text, width, *, font=_PLAIN, color=_INK, size=None, leading=None):
        size = size or self.size
        leading = leading or self.leading * size / self.size
        return [
            _Line(leading, [(0, leading * 0.78, line, font, size, color)])
            for line in _wrapped(_one_line(text), width, font, size)
        ]

    def heading_lines(self, text, width):
        """A section's heading with the rule under it, kept with what follows."""
        lines = [_gap(self.leading * (0.85 if self.roomy else 0.45 if self.tight else 0.6))]
        lines += self.paragraph(text, width, font=_BOLD, color=_ACCENT, size=self.heading, leading=self.heading * 1.3)
        lines[-1].shapes.append((0, self.heading * (1.24 if self.tight else 1.34), width, 0.6, _RULE))
        lines[-1].height += 2.6 if self.roomy else 0.8 if self.tight else 2.0
        for line in lines:
            line.keep = True
        return lines

    def _run_in(self, heading, note, width):
        """Put a note to the right of a table's heading, if there is room; return whether there was."""
        x, drop, text, font, size, _ = heading.pieces[0]
        wide = _width(note, _PLAIN, self.size)
        if x + _width(text, font, size) + 12 + wide > width:
            return False
        heading.pieces.append((width - wide, drop, note, _PLAIN, self.size, _MUTED))
        return True

    def fact_lines(self, facts, width, label_width):
        lines = []
        for fact in facts:
            lines += self._fact(fact, width, label_width)
        return lines

    def _fact(self, fact, width, label_width):
        font, size = (_MONO, _CODE) if fact.code else (_PLAIN, self.size)
        label = _wrapped(_one_line(fact.label), label_width - 6, _PLAIN, self.size)
        indent, value = label_width, _wrapped(_one_line(fact.value), width - label_width, font, size)
        if fact.code and len(value) > 1:
            needed = _width(fact.label, _PLAIN, self.size) + 8
            if needed + _width(fact.value, font, size) <= width:
                indent, value = needed, [fact.value]
            else:
                label = _wrapped(_one_line(fact.label), width, _PLAIN, self.size)
                indent, value = 0, ["" for _ in label] + _wrapped(_one_line(fact.value), width, font, size)
        drop = self.leading * 0.78
        lines = []
        for row in range(max(len(label), len(value))):
            line = _Line(self.leading, keep=True)
            if row < len(label):
                line.pieces.append((0, drop, label[row], _PLAIN, self.size, _MUTED))
            if row < len(value) and value[row]:
                line.pieces.append((indent, drop, value[row], font, size, _INK))
            lines.append(line)
        return _kept(lines)

    def text_lines(self, text, headings, width):
        """The text as it was shown, line by line, beside a rule of its own; its headings in bold."""
        inset, lines = 8, []
        for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            font = _BOLD if line in headings else _PLAIN
            hanging = 6 if line.startswith("- ") else 12 if line.startswith("[ ] ") else 0
            first, *others = _wrapped(line, width - inset, font, self.size) if line.strip() else [""]
            if others and hanging:
                others = _wrapped(line[len(first) :].lstrip(" "), width - inset - hanging, font, self.size)
            height = self.leading if line.strip() else self.leading * (0.36 if self.tight else 0.5)
            lines.append(self._beside_rule(first, inset, height, font))
            lines += [self._beside_rule(other, inset + hanging, self.leading, font) for other in others]
            lines[-1].keep = font == _BOLD
        return lines

    def _beside_rule(self, text, x, height, font):
        line = _Line(height, shapes=[(0, 0, 1.6, height + 0.15, _RULE)])
        if text:
            line.pieces.append((x, self.leading * 0.78, text, font, self.size, _INK))
        return line

    def table_lines(self, table, width):
        """A table: its heads, to be repeated on every page, and its rows with a rule under each."""
        below = [i for i, column in enumerate(table.columns) if column.under]
        beside = [i for i, column in enumerate(table.columns) if not column.under]
        widths = self._column_widths(table, beside, width)
        spare = width - sum(widths.values()) - self.between * (len(beside) - 1)
        between = self.between + min(spare / (len(beside) - 1), 14)
        places, x = {}, 0
        for i in beside:
            places[i] = x
            x += widths[i] + between
        heads = self._heads(table, beside, widths, places, width)
        lines = list(heads)
        for row in table.rows:
            lines += self._row(table, row, beside, below, widths, places, width, heads)
        return lines

    between = 9

    def _cell_font(self, column):
        return (_MONO, _CODE) if column.kind == "code" else (_PLAIN, self.size)

    def _column_widths(self, table, beside, width):
        """Give each column what it asks for; where that is too much, the widest columns of words give way.

        Times and outcomes give way only where the columns of words have become narrow.
        """
        asked = {}
        for i in beside:
            font, size = self._cell_font(table.columns[i])
            glyphs = _face(font).charToGlyph
            cells = [_width(letters.visible(_one_line(row[i]), glyphs), font, size) for row in table.rows[:300]]
            head = _width(table.columns[i].heading, _BOLD, self.size)
            asked[i] = max(head, *cells) + 0.1 if cells else head
        room = width - self.between * (len(beside) - 1)
        words = [i for i in beside if table.columns[i].kind == "text"]
        others = [i for i in beside if table.columns[i].kind in ("short", "time")]
        for i in words:
            asked[i] = min(asked[i], room * 0.45)
        for giving, least in ((words, 50), (others, 50), (words + others, 24)):
            self._narrow(asked, giving, least, room)
        return asked

    def _narrow(self, asked, columns, least, room):
        """Take from the widest of these columns what is too much, down to the least."""
        while (excess := sum(asked.values()) - room) > 0.01:
            wide = [i for i in columns if asked[i] > least]
            if not wide:
                return
            widest = max(asked[i] for i in wide)
            giving = [i for i in wide if asked[i] > widest - 0.5]
            next_to = max([least, *(asked[i] for i in wide if i not in giving)])
            step = max(0.25, min(excess / len(giving), widest - next_to + 0.25))
            for i in giving:
                asked[i] -= step

    def _heads(self, table, beside, widths, places, width):
        drop = self.leading * 0.78
        pieces = []
        for i in beside:
            heading = table.columns[i].heading
            x = places[i]
            if table.columns[i].kind == "number":
                x += widths[i] - _width(heading, _BOLD, self.size)
            pieces.append((x, drop, heading, _BOLD, self.size, _MUTED))
        space = 0.4 if self.tight else 0.8
        return (_Line(self.leading + 1.4 + space, pieces, [(0, self.leading + space, width, 0.6, _RULE)], keep=True),)

    def _row(self, table, row, beside, below, widths, places, width, heads):
        drop, cells = self.leading * 0.78, {}
        for i in beside:
            font, size = self._cell_font(table.columns[i])
            cells[i] = _wrapped(_one_line(row[i]), widths[i], font, size)
        lines = []
        for n in range(max(len(cell) for cell in cells.values())):
            line = _Line(self.leading, keep=True, again=heads)
            for i in beside:
                if n < len(cells[i]):
                    font, size = self._cell_font(table.columns[i])
                    x, text = places[i], cells[i][n]
                    if table.columns[i].kind == "number":
                        x += widths[i] - _width(text, font, size)
                    line.pieces.append((x, drop, text, font, size, _INK))
            lines.append(line)
        for i in below:
            label = table.columns[i].heading
            x = _width(label, _PLAIN, self.size) + 5
            for n, text in enumerate(_wrapped(row[i], width - x, _MONO, _CODE)):
                line = _Line(self.leading, [(x, drop, text, _MONO, _CODE, _MUTED)], keep=True, again=heads)
                if n == 0:
                    line.pieces.append((0, drop, label, _PLAIN, self.size, _MUTED))
                lines.append(line)
        lines = _kept(lines)
        lines[-1].height += 0.4 if self.tight else 0.9
        lines[-1].shapes.append((0, lines[-1].height - (0.5 if self.tight else 0.9), width, 0.4, _FAINT))
        return lines

    def section_lines(self, section, width):
        """A whole section, its heading to begin with."""
        total = f": {section.table.total}" if section.table and section.table.total else ""
        lines, paragraphs = self.heading_lines(section.heading + total, width), section.paragraphs
        if section.table and paragraphs and self._run_in(lines[-1], paragraphs[0], width):
            paragraphs = paragraphs[1:]
        for paragraph in paragraphs:
            lines += _kept(self.paragraph(paragraph, width))
            if section.facts or section.table:
                lines += [_gap(0.8 if self.tight else 1.6)]
        if section.table:
            lines += _Style(min(self.size, _TABLES), tight=self.tight).table_lines(section.table, width)
            if section.facts:
                lines += [_gap(1.2 if self.tight else 2.4)]
        label_width = self._label_width(section, width)
        if self.tight and self._all_short(section, label_width, width / 2):
            lines += self._in_two_columns(section.facts, label_width, width / 2)
        else:
            lines += self.fact_lines(section.facts, width, label_width)
        if section.text:
            lines += [_gap(2.4), *self.text_lines(section.text, section.headings, width)]
        return lines

    def _label_width(self, section, width):
        """Return the room for a section's labels: what the longest asks for, but no more than a good third."""
        if section.table:
            return width - 64 * _width("0", _MONO, _CODE) - 0.1  # hashes under hashes
        widest = max((self._wide(fact.label) for fact in section.facts), default=0)
        return min(widest + 9, width * 0.38)

    def _wide(self, text):
        return _width(letters.visible(_one_line(text), _face(_PLAIN).charToGlyph), _PLAIN, self.size)

    def _all_short(self, section, label_width, width):
        room = width - label_width - 6
        return len(section.facts) > 3 and all(self._wide(fact.value) <= room for fact in section.facts)

    def _in_two_columns(self, facts, label_width, width):
        """Two columns of facts, each of them one line."""
        first = (len(facts) + 1) // 2
        lines = self.fact_lines(facts[:first], width, label_width)
        for line, beside in zip(lines, self.fact_lines(facts[first:], width, label_width), strict=False):
            line.pieces += [(width + x, *piece) for x, *piece in beside.pieces]
        return lines


def _kept(lines):
    """Keep a few lines together; a long run may break anywhere."""
    for n, line in enumerate(lines, 1):
        line.keep = len(lines) <= 8 and n < len(lines)
    return lines


# --- The top of the first page ---------------------------------------------------------------------------------------


def _top(paper, style):
    """Title, number, notices and the summary."""
    lines = [_masthead(paper)]
    for notice in (*paper.notices, paper.status):
        lines += [_gap(3.5 if style.tight else 5), *_notice(notice, style)]
    lines.append(_gap(4 if style.tight else 6))
    size = style.size + (0.3 if style.tight else 1.2)
    lines += style.paragraph(" ".join(paper.summary), _WIDTH, size=size, leading=size * (1.24 if style.tight else 1.32))
    return lines


def _masthead(paper):
    pieces = [
        (0, 9, _fitting(paper.issuer, _BOLD, 8.5, 330), _BOLD, 8.5, _ACCENT),
        (0, 29, paper.title, _BOLD, 17, _INK),
        (0, 42, _fitting(paper.subtitle, _PLAIN, 8.8, 370), _PLAIN, 8.8, _MUTED),
        *_to_the_right(9, paper.number, _BOLD, 10.5, _INK),
        *_to_the_right(30, f"Code {paper.code}", _PLAIN, 8, _INK),
        *_to_the_right(42, f"Issued {paper.issued}", _PLAIN, 8, _INK),
    ]
    return _Line(49, pieces, [(0, 48, _WIDTH, 1.6, _ACCENT)])


def _to_the_right(drop, text, font, size, color):
    text = letters.visible(text, _face(font).charToGlyph)
    return [(_WIDTH - _width(text, font, size), drop, text, font, size, color)]


def _fitting(text, font, size, width):
    """Return as much of a line as there is room for; what is cut off stands elsewhere on the paper."""
    shown = letters.visible(_one_line(text), _face(font).charToGlyph)
    if _width(shown, font, size) <= width:
        return shown
    while _width(shown, font, size) > width - 8:
        shown = shown[:-1]
    return f"{shown}…"


def _notice(notice, style):
    ink, ground, edge = _TINTS[notice.name]
    size = style.size + 0.6
    leading = size * 1.3
    x = 10 + _width(notice.mark, _BOLD, size + 0.6) + 10
    wrapped = _wrapped(_one_line(notice.text), _WIDTH - x - 8, _PLAIN, size)
    edge_height = 1.8 if style.tight else 3.4
    lines = [_Line(edge_height, keep=True)]
    for n, text in enumerate(wrapped):
        line = _Line(leading, [(x, leading * 0.77, text, _PLAIN, size, _INK)], keep=True)
        if n == 0:
            line.pieces.append((10, leading * 0.77, notice.mark, _BOLD, size + 0.6, ink))
        lines.append(line)
    lines.append(_Line(edge_height))
    height = _height(lines)
    lines[0].shapes = [(0, 0, _WIDTH, height, ground), (0, 0, 3.2, height, edge)]
    return lines


# --- Pages -----------------------------------------------------------------------------------------------------------


def _pages(paper):
    """Return the pages, each a list of (x, y of the top, line)."""
    if len(paper.section("text").text) < 12_000 and _rows(paper) <= _SMALL_CASE:
        for style in (*map(_Style, _SIZES), *(_Style(size, tight=True) for size in _TIGHT_SIZES)):
            pages = _side_by_side(paper, style)
            if pages and len(pages) == 1:
                return pages
        if pages := _side_by_side(paper, _Style(_FLOWING)):
            return pages
    return _one_after_the_other(paper, _Style(_FLOWING))


def _rows(paper):
    return sum(len(section.table.rows) for section in paper.sections if section.table)


# The order of the sections, the same on every certificate: two columns with the text, or above it, then the tables.
_LEFT_FACTS, _BESIDE_TEXT = ("signer", "identity", "link"), ("decision", "batches", "duties", "case")


def _side_by_side(paper, style):
    """Lay out text and facts in two columns, the tables below; None where the columns don't fit on the first page."""
    flow = _Flow()
    flow.add(_top(paper, style))
    if not _add_columns(flow, paper, style, ("text", "check"), (*_LEFT_FACTS, *_BESIDE_TEXT)):
        return None
    return _with_tables(flow, paper, style)


def _one_after_the_other(paper, style):
    """Lay out a big case: the facts on the first page, then the text, then the tables."""
    flow = _Flow()
    flow.add(_top(paper, style))
    if not _add_columns(flow, paper, style, (*_LEFT_FACTS, "check"), _BESIDE_TEXT):
        for name in (*_LEFT_FACTS, "check", *_BESIDE_TEXT):
            flow.add(_lines(paper, style, name, _WIDTH))
    flow.add(_lines(paper, style, "text", _WIDTH))
    return _with_tables(flow, paper, style)


def _add_columns(flow, paper, style, left, right):
    """Put sections into two columns, if there is room for them; return whether there was."""
    left = [line for name in left for line in _lines(paper, style, name, _WIDE)]
    right = [line for name in right for line in _lines(paper, style, name, _NARROW)]
    fits = flow.has_room(max(_height(left), _height(right)))
    if fits:
        flow.add_columns(left, right)
    return fits


def _with_tables(flow, paper, style):
    for section in paper.sections:
        if section.table:
            flow.add(style.section_lines(section, _WIDTH))
    return flow.pages


def _lines(paper, style, name, width):
    """Lay out a section among the facts; one with a table is none of them."""
    section = paper.section(name)
    return [] if section.table else style.section_lines(section, width)


class _Flow:
    """Lines being put on pages from top to bottom."""

    def __init__(self):
        self.pages = [[]]
        self.y = _TOP

    def has_room(self, height):
        return self.y - height >= _BOTTOM

    def add(self, lines):
        if not self.has_room(_height(lines)) and len(lines) <= _TOGETHER:
            self._turn(())
        start = 0
        while start < len(lines):
            end = start
            while lines[end].keep and end + 1 < len(lines):
                end += 1
            together = lines[start : end + 1]
            if not self.has_room(_height(together)) and self.pages[-1]:
                self._turn(together[0].again)
            for line in together:
                if not self.has_room(line.height):
                    self._turn(line.again)
                self._put(_LEFT, line)
            start = end + 1

    def add_columns(self, left, right):
        top = self.y
        bottoms = []
        for x, lines in ((_LEFT, left), (_LEFT + _WIDE + _GUTTER, right)):
            self.y = top
            for line in lines:
                self._put(x, line)
            bottoms.append(self.y)
        self.y = min(bottoms)

    def _turn(self, again):
        self.pages.append([])
        self.y = _TOP_AFTERWARDS
        for line in again:
            self._put(_LEFT, line)

    def _put(self, x, line):
        self.pages[-1].append((x, self.y, line))
        self.y -= line.height


# --- Drawing ---------------------------------------------------------------------------------------------------------


def _drawn(paper, pages, issued_at):
    canvas = Canvas(
        "certificate.pdf", pagesize=_PAGE, pageCompression=1, invariant=1, lang="en-US", initialFontName=_PLAIN
    )
    # The file's ID, which would otherwise depend on the environment (SOURCE_DATE_EPOCH).
    canvas._doc.signature = sha256(f"{paper.number} {paper.code}".encode())
    canvas.setTitle(f"{paper.title} {paper.number}")
    canvas.setAuthor(paper.issuer)
    canvas.setSubject(paper.subtitle)
    canvas.setKeywords(", ".join([paper.number, *(notice.mark for notice in (*paper.notices, paper.status))]))
    canvas.setCreator("Unlock Desk")
    canvas.setDateFormatter(lambda *_: f"D:{issued_at:%Y%m%d%H%M%S}+00'00'")
    for number, page in enumerate(pages, 1):
        _draw_frame(canvas, paper, number, len(pages))
        for x, y, line in page:
            _draw(canvas, x, y, line)
        canvas.showPage()
    return canvas.getpdfdata()


def _draw(canvas, x, y, line):
    for left, drop, width, height, color in line.shapes:
        canvas.setFillColor(_color(color))
        canvas.rect(x + left, y - drop - height, width, height, stroke=0, fill=1)
    for left, drop, text, font, size, color in line.pieces:
        canvas.setFillColor(_color(color))
        canvas.setFont(font, size)
        canvas.drawString(x + left, y - drop, letters.from_left(text, _face(font).charToGlyph))


@cache
def _color(color):
    return HexColor(color)


def _draw_frame(canvas, paper, number, count):
    """Draw what is on every page: the foot, the stamps, a heading on all but the first."""
    foot = f"{paper.number}  ·  code {paper.code}  ·  check at {paper.check_at}"
    pages = f"Page {number} of {count}"
    pieces = [(0, 8, _fitting(foot, _PLAIN, 7, 430), _PLAIN, 7, _MUTED), *_to_the_right(8, pages, _BOLD, 7, _INK)]
    _draw(canvas, _LEFT, 29, _Line(10, pieces, [(0, -1.5, _WIDTH, 0.6, _RULE)]))
    if number > 1:
        pieces = [(0, 8, _fitting(f"{paper.title} {paper.number}", _BOLD, 8, 380), _BOLD, 8, _ACCENT)]
        pieces += _to_the_right(8, f"Issued {paper.issued}", _PLAIN, 7.4, _MUTED)
        _draw(canvas, _LEFT, 764, _Line(10, pieces, [(0, 12.5, _WIDTH, 0.8, _ACCENT)]))
    right = _RIGHT
    for stamp in reversed(paper.stamps):
        ink, ground, edge = _TINTS[stamp.name]
        wide = _width(stamp.mark, _BOLD, 9) + 16
        box = [(0, 0, wide, 13, edge), (0.8, 0.8, wide - 1.6, 11.4, ground)]
        _draw(canvas, right - wide, 784, _Line(13, [(8, 9.7, stamp.mark, _BOLD, 9, ink)], box))
        right -= wide + 6
