"""Files as people's programs write them, and what is read from them."""

import io
import zipfile

import openpyxl

from unlocks.imports.problems import Problem, Unreadable
from unlocks.imports.reading import open_file

LINES = "account_number,batch_number,kind,number,line"  # the kind of file whose columns that may be empty matter least


def read(content, **options):
    """Return the rows of a file, or the sentence that says why it has none; of a problem the column and sentence."""
    try:
        file = open_file("a file", io.BytesIO(content.encode() if isinstance(content, str) else content), **options)
        return [(line, _short(row)) for line, row in file.rows()]
    except Unreadable as unreadable:
        return str(unreadable)


def _short(row):
    return [f"{each.column}: {each.sentence}" for each in row] if isinstance(row, list) else row


def problems(content):
    """Return all problems of a file."""
    rows = open_file("a file", io.BytesIO(content)).rows()
    return [each for _, row in rows if isinstance(row, list) for each in row if isinstance(each, Problem)]


def workbook(*sheets, epoch=None):
    """Return a workbook with a sheet of each list of rows; a sheet whose first row is 'hidden' is."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    if epoch:
        book.epoch = epoch
    for number, rows in enumerate(sheets, start=1):
        sheet = book.create_sheet(f"Sheet {number}")
        if rows and rows[0] == "hidden":
            sheet.sheet_state = "hidden"
        for row in rows[rows[:1] == ["hidden"] :]:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def parts(content):
    """Return {path: content} of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts):
    """Return an archive of {path: content}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()
