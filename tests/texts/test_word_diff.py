import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlocks.texts.first_terms import TEXT
from unlocks.texts.word_diff import differences


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        ("", "", []),
        ("The same.", "The same.", [("same", "The same.")]),
        ("", "All new.", [("ins", "All new.")]),
        ("All gone.", "", [("del", "All gone.")]),
        (
            "made in QuickBooks. ServiceTitan is",
            "made in {accounting_software}. {vendor} is",
            [
                ("same", "made in "),
                ("del", "QuickBooks"),
                ("ins", "{accounting_software}"),
                ("same", ". "),
                ("del", "ServiceTitan"),
                ("ins", "{vendor}"),
                ("same", " is"),
            ],
        ),
        # A changed phrase is one change, not one a word.
        (
            "one two three four",
            "one deux trois four",
            [("same", "one "), ("del", "two three"), ("ins", "deux trois"), ("same", " four")],
        ),
        # A paragraph that came in is shown whole, even when the next begins like it.
        (
            "The one.\n\nThe two.",
            "The one.\n\nThe new.\n\nThe two.",
            [("same", "The one.\n\n"), ("ins", "The new.\n\n"), ("same", "The two.")],
        ),
        ("a b", "a  b", [("same", "a"), ("del", " "), ("ins", "  "), ("same", "b")]),
        ("don't", "do not", [("del", "don't"), ("ins", "do not")]),
    ],
)
def test_reads_word_by_word(old, new, read):
    assert differences(old, new) == read


words = st.text(st.sampled_from("ab {}.\n'v"), max_size=40)


@given(words, words)
def test_both_texts_stand_in_it_to_the_letter(old, new):
    pieces = differences(old, new)
    assert "".join(piece for what, piece in pieces if what != "ins") == old
    assert "".join(piece for what, piece in pieces if what != "del") == new
    assert all(piece for _, piece in pieces)
    # Two pieces of a kind never stand side by side.
    assert all(one[0] != next_one[0] for one, next_one in itertools.pairwise(pieces))


def test_a_long_text_takes_no_time():
    assert len(differences(TEXT * 20, TEXT.replace("sole ", "whole ") * 20)) > 30
