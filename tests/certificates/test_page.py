"""The certificate as a page: the same words as on paper, nothing inline, nothing unescaped."""

import html
import re

import pytest
from django.template.loader import render_to_string

from unlocks.certificates.words import paper

from . import samples


def page(facts):
    context = {
        "facts": facts,
        "paper": paper(facts),
        "pdf_url": "/c/1.pdf",
        "json_url": "/c/1.json",
        "csv_url": "/c/1.csv",
    }
    return render_to_string("unlocks/certificate.html", context)


def words_of(markup):
    body = markup[markup.index("<main") : markup.index("</footer>")]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_everything_that_is_said_is_on_the_page(kind):
    facts = kind()
    whole, shown = words_of(page(facts)), paper(facts)
    said = [shown.title, shown.subtitle, shown.number, shown.code, shown.issued, " ".join(shown.summary)]
    said += [f"{notice.mark} {notice.text}" for notice in (*shown.notices, shown.status)]
    for section in shown.sections:
        said += [section.heading, *section.paragraphs, section.text]
        said += [f"{fact.label} {fact.value}" for fact in section.facts]
        if section.table:
            said += [column.heading for column in section.table.columns] + [section.table.total]
            said += [cell for row in section.table.rows for cell in row]
    assert [words for words in said if " ".join(words.split()) not in whole] == []


def test_nothing_is_inline():
    markup = page(samples.recorded_by_phone())
    assert re.findall(r"<style|<script|\sstyle=|\son\w+=", markup) == []


def test_text_is_shown_as_it_stands():
    facts = samples.closed()
    facts["consent"]["text"] = "  two  blanks\n\n<b>& so on</b>\n"
    markup = page(facts)
    assert html.unescape(re.search(r"<pre>(.*?)</pre>", markup, re.DOTALL)[1]) == facts["consent"]["text"]
    assert "<b>& so" not in markup


def test_lines_of_a_reason_stay_lines():
    facts = samples.interim()
    facts["case"]["reason"] = "first <b>\nsecond"
    assert "first &lt;b&gt;<br>second" in page(facts)


def _marked_up(value):
    """Return facts in which every text that somebody may have typed ends in markup."""
    if isinstance(value, dict):
        kept = {
            "format",
            "public_key",
            "number",
            "code",
            "time_zone",
            "decision",
            "how",
            "pin_typed_by",
            "total",
            "fingerprint",
            "outcome",
            "kind",
        }
        return {key: inner if key in kept or key.endswith("_at") else _marked_up(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked_up(inner) for inner in value]
    return f"{value}<i>" if isinstance(value, str) and not value.startswith("20") else value


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_nothing_typed_becomes_markup(kind):
    markup = page(_marked_up(kind()))
    assert (markup.count("<i>"), markup.count("&lt;i&gt;") >= 5) == (0, True)


def test_strip_for_print_says_what_no_page_may_go_without():
    strips = {}
    for kind in samples.EVERY_KIND:
        found = re.search(r'<p class="strip"[^>]*>(.*?)</p>', page(kind()), re.DOTALL)
        strips[kind.__name__] = found and found[1].strip()
    assert strips == {
        "interim": "INTERIM",
        "closed": None,
        "declined": "DECLINED",
        "recorded_by_phone": "RECORDED BY PHONE · INTERIM",
        "unlocking": "INTERIM",
        "relocking": "WITHDRAWN · INTERIM",
        "withdrawn": "WITHDRAWN",
        "withdrawn_by_phone": "WITHDRAWN · RECORDED BY PHONE",
        "unknown": "INTERIM",
    }


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_headings_in_the_text_are_bold_and_the_text_is_as_it_stands(kind):
    shown = re.search(r"<pre>(.*?)</pre>", page(kind()), re.DOTALL)[1]
    assert html.unescape(shown.replace("<b>", "").replace("</b>", "")) == kind()["consent"]["text"]
    headings = ["Unlock bypassed batches (UR-000007)", "Before you decide", "Your decision"]
    bold = re.findall("<b>(.*?)</b>", shown)
    assert [heading for heading in headings if heading not in bold] == []


def test_files_can_be_had():
    found = {}
    for kind in (samples.closed, samples.declined):
        links = re.findall(r'<a class="btn[^>]*href="([^"]*)"', page(kind()))
        found[kind.__name__] = [link for link in links if link != "#main"]
    assert found == {"closed": ["/c/1.pdf", "/c/1.json", "/c/1.csv"], "declined": ["/c/1.pdf", "/c/1.json"]}


def test_numbers_of_sections_are_unique():
    ids = re.findall(r'\sid="([^"]*)"', page(samples.recorded_by_phone()))
    assert len(ids) == len(set(ids))
