"""The Markdown of each construct of HTML."""

from __future__ import annotations

from kb_pipeline_tests.clean.pages import document, markdown


def test_headings_keep_their_levels() -> None:
    page = "".join(f"<h{n}>Level <a href='#l'>{n}</a></h{n}>" for n in range(1, 7))
    assert markdown(page).split("\n\n") == [*(f"{'#' * n} Level {n}" for n in range(1, 6)), "###### Level 6\n"]


def test_heading_of_a_note_is_not_a_heading_of_the_page() -> None:
    assert markdown("<h2>A</h2><div class=note><h3>Note</h3><p>b</p></div>") == "## A\n\n**Note**\nb\n"


def test_nested_lists_keep_their_nesting_and_numbers() -> None:
    nested = "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"
    numbered = "<ol start=3><li>d</li><li><p>e</p><p>f</p></li></ol>"
    assert markdown(f"{nested}<p>then</p>{numbered}") == "- a\n  - b\n- c\n\nthen\n\n3. d\n\n4. e\n\n   f\n"


def test_table_becomes_a_gfm_table() -> None:
    page = """<table><caption>Sizes</caption><thead><tr><th>Name<th>Size</tr></thead>
    <tr><td>a|b<td><p>1</p><p>2</p></tr><tr><td colspan=2>wide</td></tr></table>"""
    assert markdown(page) == ("Sizes\n\n| Name | Size |\n| --- | --- |\n| a\\|b | 1<br>2 |\n| wide | wide |\n")


def test_cell_that_spans_rows_does_not_shift_the_rows_below() -> None:
    page = "<table><tr><th>A<th>B</tr><tr><td rowspan=2>x<td>1</tr><tr><td>2</tr></table>"
    assert "| x | 1 |\n| x | 2 |" in markdown(page)


def test_layout_table_becomes_what_it_arranges() -> None:
    assert markdown("<table><tr><td><p>a</p><td><pre>x\n  y</pre></table>") == "a\n\n```\nx\n  y\n```\n"


def test_code_is_kept_byte_for_byte_even_inside_lists_and_quotes() -> None:
    code = "def f():\n\treturn  1\n\n    # *not* `markup`\n"
    for page in (
        "<pre>{}</pre>",
        "<ul><li>a<ul><li>b<pre>{}</pre>c</li></ul></li></ul>",
        "<blockquote><pre>{}</pre></blockquote>",
    ):
        assert f"\n```\n{code}```" in "\n" + markdown(page.format(code))


def test_a_list_goes_on_with_its_numbers_after_code() -> None:
    page = "<ol><li><pre>make</pre><li>Then:<pre>x\n y</pre><li>Done.</ol>"
    assert markdown(page) == "1.\n\n```\nmake\n```\n\n2. Then:\n\n```\nx\n y\n```\n\n3. Done.\n"


def test_code_language_is_taken_from_the_page() -> None:
    assert "```python\nx\n```" in markdown(
        "<div class='highlight-python notranslate'><div><pre><span>x</span></pre></div></div>"
    )
    assert "```rust\nx\n```" in markdown("<pre><code class='hljs language-rust'>x</code></pre>")
    assert "```\nx\n```" in markdown("<div class='highlight-default'><pre>x</pre></div>")


def test_fence_is_longer_than_the_backticks_inside() -> None:
    assert "`````\n````\n`````" in markdown("<p>so</p><pre>````</pre>")
    assert "``a`b``" in markdown("<p><code>a`b</code></p>")


def test_links_are_absolute_and_only_to_addresses() -> None:
    found = document(
        """<base href="/docs/v2/"><p><a href="a b.html">one</a> <a href="javascript:alert(1)">two</a>
        <a href="data:text/html,x">three</a> <a href="//[bad">four</a> <a href="#top"></a> <a href="http://x.test/(1)">five</a></p>"""
    )
    assert found.markdown == (
        "[one](https://site.test/docs/v2/a%20b.html) two three four [five](http://x.test/%281%29)\n"
    )
    assert found.links == 2


def test_emphasis_keeps_spaces_outside() -> None:
    assert markdown("<p>a <b>bold </b>b <i> it</i> <em><code>c</code></em></p>") == "a **bold** b *it* `c`\n"


def test_text_that_looks_like_markup_is_escaped() -> None:
    assert markdown("<p># not a heading, 2 * 3, *x*, snake_case, _y_, &lt;div></p>") == (
        "\\# not a heading, 2 * 3, \\*x\\*, snake_case, \\_y\\_, \\<div>\n"
    )


def test_definition_list_keeps_terms_and_definitions() -> None:
    page = "<dl><dt><code>open</code>(path)</dt><dd><p>Opens.</p><dl><dt>mode</dt><dd>How.</dd></dl></dd></dl>"
    assert markdown(page) == "`open(path)`\nOpens.\n\n**mode**\nHow.\n"


def test_powers_stay_powers() -> None:
    assert markdown("<p>10<sup>6</sup> and H<sub>2</sub>O</p>") == "10^6 and H2O\n"


def test_a_note_is_labelled_in_bold_and_headed_by_a_heading_that_says_more() -> None:
    page = "<h2>Gates</h2><div class=note><h3>{}</h3><p>Mind the gap.</p></div>"
    assert "**Caution**" in markdown(page.format("Caution"))
    assert "### Mapped addresses of gates" in markdown(page.format("Mapped addresses of gates"))
