"""A quote stands in a passage word for word, or it is told what is wrong with it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.answers.verify import Located, check_quote, locate_quote

RETURNS = "Items may be returned within 90 days.\nThe\u00a0refund is paid  by bank transfer, at most 1,250.50 euros."
SHIPPING = "Parcels are sent on working days, and arrive after three of them."
PASSAGES = (RETURNS, SHIPPING)


@pytest.mark.parametrize(
    ("quote", "stored"),
    [
        ("returned within 90 days", "returned within 90 days"),
        ("  90 days. The refund is paid by ", "90 days.\nThe\u00a0refund is paid  by"),
        ("the most 1,250.50", None),
        ("at most 1,250.50 euros", "at most 1,250.50 euros"),
        ("re\u00adfund is\u200b paid", "refund is paid"),
        ("ｒｅｆｕｎｄ is paid", "refund is paid"),
    ],
)
def test_a_quote_is_found_whatever_its_white_space_and_width(quote: str, stored: str | None) -> None:
    found = locate_quote(quote, RETURNS)
    assert (RETURNS[found.start : found.end] if found else None) == stored


@pytest.mark.parametrize(
    ("quote", "number", "kind"),
    [
        ("Refunds are paid in gold coins", 1, "fabricated"),
        ("Items may be paid by bank transfer", 1, "stitched"),
        ("returned within 90 days ... at most 1,250.50 euros", 1, "stitched"),
        ("returned within 90 days", 2, "misattributed"),
        ("returned within 90 days", 3, "number_out_of_range"),
        ("returned within 90 days", 0, "number_out_of_range"),
        ("", 1, "quote_too_short"),
        ("\u200b\u00ad\u2060 \u200b", 1, "quote_too_short"),
        ("90 days", 1, "quote_too_short"),
        ("turned within 90 days", 1, "fabricated"),
        ("returned within 9", 1, "fabricated"),
        ("at most 1,250", 1, "fabricated"),
        ("250.50 euros", 1, "fabricated"),
        ("returned \u202ewithin\u202c 90 days", 1, "stitched"),
    ],
)
def test_what_is_wrong_with_a_quote_is_told_by_its_kind(quote: str, number: int, kind: str) -> None:
    assert check_quote(quote, number, PASSAGES) == kind


def test_scripts_without_spaces_are_quoted_from_within_a_sentence() -> None:
    assert isinstance(check_quote("备份保留三十天", 1, ["数据库在凌晨两点备份，备份保留三十天。"]), Located)
    assert check_quote("天", 1, ["备份保留三十天。"]) == "quote_too_short"


def test_a_soft_hyphen_in_the_stored_text_is_passed_over_and_quoted() -> None:
    passage = "Die Rück\u00adgabe\u200b ist kosten\u00adlos."
    found = locate_quote("Rückgabe ist kostenlos", passage)
    assert found is not None
    assert passage[found.start : found.end] == "Rück\u00adgabe\u200b ist kosten\u00adlos"


def test_letters_that_are_composed_are_found_decomposed_and_the_other_way_round() -> None:
    for passage in ("Die Rückgabe kostet nichts.", "한국어 문서는 여기에 있다."):
        for form in ("NFD", "NFC", "NFKD"):
            for other in ("NFD", "NFC"):
                stored = unicodedata.normalize(other, passage)
                found = locate_quote(unicodedata.normalize(form, passage), stored)
                assert found == Located(0, len(stored))


LETTERS = st.text(st.sampled_from(list("ab cdé1,.\u00ad\u200b\n你é각\u0301\u1100\u1161ﬁ½")), max_size=60)


@given(LETTERS, st.data())
def test_what_is_cut_from_a_passage_at_words_stands_in_it(passage: str, data: st.DataObject) -> None:
    words = passage.split()
    if not words:
        return
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    quote = " ".join(words[first : last + 1])
    found = locate_quote(quote, passage)
    if found is not None:
        assert locate_quote(quote, passage[found.start : found.end]) is not None, "what is cited has the same words"
    else:
        assert not any(letter.isalnum() for letter in quote) or not quote.isascii()


@given(LETTERS, LETTERS)
def test_what_is_located_has_the_words_of_the_quote(quote: str, passage: str) -> None:
    found = locate_quote(quote, passage)
    if found is not None:
        assert _bare(quote) in _bare(passage[found.start : found.end])


def _bare(text: str) -> str:
    kept = "".join(letter for letter in unicodedata.normalize("NFKC", text) if letter not in "\u00ad\u200b")
    return "".join(unicodedata.normalize("NFKC", kept).split())
