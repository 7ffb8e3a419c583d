"""Footnotes and their references stay tied, and no reference runs into the number before it."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown


def body(page: str) -> str:
    return markdown(f"<div class=markdown-body>{page}</div>").strip()


@pytest.mark.parametrize(
    "page",
    [
        '<p>Built in 1987<sup><a href="#fn1" id="fnref1">1</a></sup>.<section class="footnotes"><ol><li id="fn1">'
        '<p>By the harbour board. <a href="#fnref1" class="footnote-back">↩︎</a></p></li></ol></section>',
        '<p>Built in 1987<sup id="ref-1" class="reference"><a href="#note-1"><span>[</span>1<span>]</span></a></sup>.'
        '<ol><li id="note-1"><span class="mw-cite-backlink"><b><a href="#ref-1">^</a></b></span> '
        "<span>By the harbour board.</span></li></ol>",
        '<p>Built in 1987<a class="brackets" href="#id3" id="id1" role="doc-noteref"><span>[</span>1<span>]</span></a>.'
        '<aside id="id3" role="doc-footnote"><span class="label"><span>[</span><a role="doc-backlink" href="#id1">1</a>'
        "<span>]</span></span><p>By the harbour board.</p></aside>",
        '<p>Built in 1987<a href="#_ftn1" name="_ftnref1"><sup>[1]</sup></a>.'
        '<p><a href="#_ftnref1" name="_ftn1">[1]</a> By the harbour board.',
        '<p>Built in 1987<sup><a href="#n1">1</a></sup>.<p id="n1"><sup>1</sup> By the harbour board.',
    ],
    ids=["pandoc", "mediawiki", "docutils", "word", "hand"],
)
def test_reference_and_note_have_the_same_label(page: str) -> None:
    assert body(page) == "Built in 1987[^1].\n\n[^1]: By the harbour board."


def test_note_of_one_word_is_no_address_of_a_link() -> None:
    page = (
        '<p>See<sup><a href="#a">a</a>,<a href="#b">b</a></sup>.<ol><li id=a>https://x.test<li id=b>Two words here</ol>'
    )
    assert body(page) == "See[^a][^b].\n\n[^a] https://x.test\n\n[^b]: Two words here"


def test_reference_before_a_parenthesis_is_no_link() -> None:
    page = '<p>Tide<sup><a href="#a">1</a></sup>(high).<p id=a>1 A note'
    assert body(page) == "Tide[^1]\\(high).\n\n1 A note"


def test_other_raised_links_stay_links() -> None:
    assert body('<p>x<sup><a href="/other">1</a></sup> y') == "x[1](https://site.test/other) y"
    assert body('<p id=top>x <a href="#top">1</a> y') == "x [1](https://site.test/guide/page.html#top) y"
