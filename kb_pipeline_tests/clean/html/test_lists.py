"""Lists, line breaks and nesting read as a browser shows them."""

from __future__ import annotations

import inspect
import sys

import pytest

from kb_pipeline_tests.clean.pages import markdown


@pytest.mark.parametrize(
    ("page", "items"),
    [
        ("<ol start=7><li>a<li>b</ol>", ["7. a", "8. b"]),
        ("<ol start=0><li>a<li>b</ol>", ["0. a", "1. b"]),
        ("<ol><li>a<li value=5>b<li>c</ol>", ["1. a", "5. b", "6. c"]),
        ("<ol reversed><li>c<li>b<li>a</ol>", ["3. c", "2. b", "1. a"]),
        ("<ol reversed start=10><li>a<li>b</ol>", ["10. a", "9. b"]),
        ("<ol type=a start=26><li>x<li>y</ol>", ["- z. x", "- aa. y"]),
        ("<ol type=I start=4><li>x<li>y</ol>", ["- IV. x", "- V. y"]),
        ("<ol style='margin:0; list-style: inside lower-roman'><li>x<li>y</ol>", ["- i. x", "- ii. y"]),
        ("<ol style='list-style-type:lower-greek'><li>x<li>y</ol>", ["- α. x", "- β. y"]),
        ("<ol class='upperalpha simple'><li>x</ol>", ["- A. x"]),
        ("<ol style='list-style:none'><li>(1) x</ol>", ["- (1) x"]),
        ("<ul style='list-style-type:decimal'><li>x</ul>", ["1. x"]),
        ("<ol start=-1><li>a<li>b</ol>", ["- -1. a", "0. b"]),
        ("<ol start=9999999999999><li>a</ol>", ["1. a"]),
        ("<ol type=i start=4000><li>a</ol>", ["4000. a"]),
        ("<div role=list><div role=listitem>a</div><div role=listitem>b</div></div>", ["- a", "- b"]),
        ("<ul><li>[x] done<li>[ ] open</ul>", ["- [x] done", "- [ ] open"]),
    ],
)
def test_items_are_numbered_as_shown(page: str, items: list[str]) -> None:
    assert markdown(page).splitlines() == items


def test_items_are_counted_and_found_whatever_is_around_them() -> None:
    assert markdown("<ol><li>a<li><li>c</ol>") == "1. a\n3. c\n"
    assert markdown("<ul><div><li>a</li><li>b</li></div></ul>") == "- a\n- b\n"
    assert markdown("<li>a</li>") == "- a\n"


def test_letters_nest() -> None:
    page = "<ol type=a><li>ferries<li>rafts<ol type=i><li>of timber</ol></ol>"
    assert markdown(page) == "- a. ferries\n- b. rafts\n  - i. of timber\n"


def test_heading_in_an_item_is_a_heading_of_the_page() -> None:
    page = "<ol><li>Intro<ul><li>n<h4>Deep</h4><p>t</p></ul><li><h3>Two</h3><p>p</p><li>last</ol>"
    assert markdown(page) == "1. Intro\n\n   - n\n\n#### Deep\n\nt\n\n### Two\n\np\n\n3. last\n"


def test_item_that_begins_with_code_keeps_its_number() -> None:
    assert markdown("<ol><li><pre>make</pre><li>Done.</ol>") == "1.\n\n```\nmake\n```\n\n2. Done.\n"


def test_role_makes_a_heading() -> None:
    page = "<div role=heading aria-level=3>Part</div><p>text</p><span role=heading aria-level=x>Other</span>"
    assert markdown(page) == "### Part\n\ntext\n\n## Other\n"


def test_two_line_breaks_part_paragraphs() -> None:
    page = "<b>Title</b><br><br>One.<br>\n<br>\nTwo<br>line two<br>&nbsp;<br>Last"
    assert markdown(page) == "**Title**\n\nOne.\n\nTwo\nline two\n\nLast\n"
    assert markdown("<ul><li>a<br><br>b</ul>") == "- a\n\n  b\n"
    assert markdown("<table><tr><th>a<th>b<tr><td>1<br><br>2<td>3</table>").endswith("| 1<br>2 | 3 |\n")


def test_span_shown_as_a_block_is_a_line_of_its_own() -> None:
    assert markdown("<p><span style='display:block'>one</span><span style='display: block'>two</span></p>") == (
        "one\n\ntwo\n"
    )


def test_link_or_emphasis_shown_as_a_block_stays_one() -> None:
    page = "<b style='display:block'>Title</b>text <a href=/x style='display:block'>more</a>"
    assert markdown(page) == "**Title**\n\ntext\n\n[more](https://site.test/x)\n"


def test_part_of_a_page_that_is_only_indented_keeps_its_headings() -> None:
    page = "<blockquote><h2>One</h2><p>a</p><h2>Two</h2><p>b</p></blockquote>"
    assert markdown(page) == "## One\n\na\n\n## Two\n\nb\n"
    assert markdown("<blockquote><h2>One</h2><p>a</p></blockquote>") == "> ## One\n\n> a\n"


def test_title_of_a_note_stays_with_its_text() -> None:
    page = "<div class='admonition warning'><p class=admonition-title>Warning</p><p>Mind the gap.</p><p>b</p></div>"
    assert markdown(page) == "**Warning**\nMind the gap.\n\nb\n"
    assert markdown("<div class=hint>Tip<pre>x</pre></div>") == "**Tip**\n\n```\nx\n```\n"


def test_label_and_value_stay_together() -> None:
    page = "<dl><div><dt>Weight</dt><dd>3 kg</dd></div><div><dt>Sizes</dt><dd><ul><li>S</ul></dd></div></dl>"
    assert markdown(page) == "**Weight**\n3 kg\n\n**Sizes**\n\n- S\n"


def test_terms_with_one_explanation_stay_together() -> None:
    assert markdown("<dl><dt>A<dt>B<dt>C<dd>all</dl>") == "**A**\n**B**\n**C**\nall\n"


def test_heading_of_a_note_inside_its_frame_is_none_of_the_page() -> None:
    page = "<div class=admonition><div class=admonition-heading><h5>note</h5></div><div><p>Mind it.</p></div></div>"
    assert markdown(page) == "**note**\nMind it.\n"


def test_question_and_legend_are_bold() -> None:
    page = "<details><summary>Why?</summary><p>So.</p></details><fieldset><legend>Size</legend>S</fieldset>"
    assert markdown(page) == "**Why?**\n\nSo.\n\n**Size**\n\nS\n"


@pytest.mark.parametrize("wrapper", ["div", "span", "section", "font", "center"])
@pytest.mark.parametrize("depth", [70, 300, 1500, 2500])
def test_depth_changes_nothing(wrapper: str, depth: int) -> None:
    inner = "<h2>T</h2><ul><li>a<ul><li>b</ul></ul><pre>x\n  y</pre><table><tr><th>A<th>B<tr><td>1<td>2</table>"
    page = f"<{wrapper}>" * depth + inner + f"</{wrapper}>" * depth
    assert markdown(page) == ("## T\n\n- a\n  - b\n\n```\nx\n  y\n```\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n")


@pytest.mark.parametrize("tag", ["blockquote", "ul><li", "ol><li", "dl><dd", "table><tr><td", "b", "q", "a href=/x"])
@pytest.mark.parametrize("depth", [100, 600])
def test_deep_nesting_loses_no_text(tag: str, depth: int) -> None:
    assert "the end" in markdown(f"<p>start</p>{f'<{tag}>x ' * depth}the end")


def test_mixed_deep_nesting_is_read_far_below_the_recursion_limit() -> None:
    page = "<ul><li>x<table><tr><th>a<th>b<tr><td>y<blockquote><dl><dd><div role=table><div role=row><b><i>" * 60
    frames, limit = len(inspect.stack(0)), sys.getrecursionlimit()
    sys.setrecursionlimit(frames + 700)
    try:
        assert "the end" in markdown(page + "the end")
    finally:
        sys.setrecursionlimit(limit)
