"""Headings hold their words, and no anchors, edit links or labels for screen readers."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown


def body(page: str) -> str:
    return markdown(f"<div class=markdown-body>{page}</div>").strip()


@pytest.mark.parametrize(
    "heading",
    [
        '<h2 id="a">Alpha<a href="#a">¶</a></h2>',
        '<h2 id="a"><a href="#a" aria-hidden="true">#</a>Alpha</h2>',
        '<h2 id="a">Alpha <a href="#a" aria-label="Permalink to &quot;Alpha&quot;">&ZeroWidthSpace;</a></h2>',
        '<h2 id="a">Alpha <a href="#a" title="Permalink"><i class="fa fa-link"></i></a></h2>',
        '<h2 id="a">Alpha <a href="#a">🔗</a></h2>',
        '<h2>Alpha<a href="https://site.test/guide/page.html#a">#</a></h2>',
        '<h2>Alpha <a href="#a">Permalink</a></h2>',
        "<h2>Alpha<button>Copy link</button></h2>",
        '<h2>Alpha <a href="#a"><span class="visually-hidden">Direct link to Alpha</span></a></h2>',
        '<h2><span class="sr-only">Section: </span>Alpha</h2>',
        '<h2>Alpha <span class="x">[<a href="/w/index.php?action=edit&section=2">edit</a>]</span></h2>',
        '<h2>Alpha<a class="src" href="../src/x.rs.html#1-9">Source</a></h2>',
        '<div><h2 id="a">Alpha</h2><a href="#a"><span class="sr-only">Section titled “Alpha”</span></a></div>',
        '<div><h2 id="a">Alpha</h2><a href="#a">Direct link to Alpha</a></div>',
        '<div><h2>Alpha</h2><a class="anchor" aria-label="Permalink: Alpha" href="#a"><svg></svg></a></div>',
    ],
)
def test_anchor_leaves_the_heading(heading: str) -> None:
    assert body(heading).removesuffix(" []") == "## Alpha"


@pytest.mark.parametrize(
    ("heading", "written"),
    [
        ('<h2 id="a"><a href="#a">Alpha</a></h2>', "## Alpha"),
        ('<h2><a href="/other">Other page</a></h2>', "## Other page"),
        ('<h2 id="x"><a href="#section-1">1. </a><a href="#x">Introduction</a></h2>', "## 1. Introduction"),
        ('<h3 id="plus"><a href="#plus">+ -</a></h3><p>so</p>', "### + -\n\nso"),
        ('<h3>Operator <a href="#star">*</a></h3>', "### Operator *"),
        ('<h3 id="cs"><a href="#cs">C#</a></h3>', "### C#"),
        ('<h2><a href="#share">Share</a></h2>', "## Share"),
        ('<h2>Edit <a href="/edit">profile</a></h2>', "## Edit profile"),
        ("<h2>Link</h2>", "## Link"),
        ('<h2>Sharing <a href="/links">links</a></h2>', "## Sharing links"),
    ],
)
def test_words_of_a_heading_stay(heading: str, written: str) -> None:
    assert body(heading) == written
