"""The words of the house, held: what US Support staff and customers read says things the American way, and one way."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
# What is not said, and what is said instead.
BANNED = {
    r"\bmail(s|ed|ing)?\b": "email",
    r"\bcancell": "canceled",
    r"\bauthoris": "authorized",
    r"\bbehaviour": "behavior",
    r"\bcolour": "color",
    r"\blicence": "license",
    r"\btaken? down\b": "recorded by phone",
    r"\btook (it|this|the consent) down\b": "recorded by phone",
    r"\b(taken|takes?) (it |the consent )?back\b": "withdraw",
    r"\bweaker\b": "lower-assurance",
    r"\block(ed|s)? (it |them |the rest |its batches )?again\b": "relock",
    r"\banew\b": "again",
    r"\bneed no[t ]": "does not need to",
    r"\bnobody of staff\b": "no one on staff",
    r"\block-out": "locked out",
    r"\bor how it begins\b": "or the start of it",
    r"\bit holds until\b": "valid until",
    r"\bwaits? under\b": "is waiting under",
    r"\blink (that )?is out\b": "the link was sent, an active link",
    r"\bbulk acts?\b": "bulk action",
    r"\buser names?\b": "username",
    r"\bnot by you\b": "someone else must unlock",
    r"\bsomebody\b": "someone",
    r"\bfor ever\b": "forever",
    rf"\b\d{{1,2}} ({MONTHS})[a-z]* \d{{4}}": "Nov 25, 2026",
}
# In code it is a model.
BANNED_ON_SCREENS = BANNED | {r"\bverdicts?\b": "Can it be unlocked?"}
# The vendor's own words, a format's name and the trial's folder.
VERBATIM = {
    "unlocks/management/commands/load_sample.py": {"mail"},
    "unlocks/texts/first_terms.py": {"12 May 2023"},
}
SCREENS = sorted([*(ROOT / "templates").rglob("*.html"), *(ROOT / "templates").rglob("*.txt")])
CODE = sorted(path for path in (ROOT / "unlocks").rglob("*.py") if "migrations" not in path.parts)
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def strings(source):
    """Return the strings of a module, its docstrings included."""
    texts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [node.value for node in texts if isinstance(node.value, str)]


def comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def words(template):
    return [re.sub(r"\{[%{#].*?[%}#]\}|<[^>]*>", " ", template, flags=re.DOTALL)]


def prose(text):
    return [re.sub(r"```.*?```|`[^`]*`", " ", text, flags=re.DOTALL)]


def banned(texts, verbatim=frozenset(), words=BANNED):
    found = (match[0] for text in texts for word in words for match in re.finditer(word, text, re.IGNORECASE))
    return sorted(set(found) - verbatim)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SCREENS, ids=name_of)
def test_screens_and_emails(path):
    assert banned(words(path.read_text()), words=BANNED_ON_SCREENS) == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_messages_labels_docstrings_and_comments(path):
    source = path.read_text()
    assert banned([*strings(source), *comments(source)], VERBATIM.get(name_of(path), frozenset())) == []


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_docs(path):
    assert banned(prose(path.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "Mailed to you",
        "It was cancelled.",
        "authorised",
        "Lock it again",
        "taken down by staff",
        "on 25 Nov 2026",
        "User name",
    ],
)
def test_a_banned_word_is_seen(text):
    assert banned([text]) != []


def test_what_sounds_alike_is_no_finding():
    assert banned(["Email sent Nov 25, 2026. Canceled, authorized, relocked; gmail.com is out of scope."]) == []
