"""Tests of the measure that judges cleaning by real manuals and articles."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.articles import articles, scored
from benchmarks.manuals import Generator, sample
from benchmarks.markdown_parts import compared, differences, missing_code, missing_headings, parts_of, words_of
from benchmarks.page_truth import Truth, truth_of
from benchmarks.phrases import PhraseCounts, phrase_pages
from benchmarks.reading import Manual, measure

MANUAL = Generator(
    "some",
    "some-doc",
    r"html/(?!toc).*",
    "//main",
    "//nav",
    "//*[@class='permalink']",
)
PAGE = b"""<!DOCTYPE html><html><head><title>Tea</title><script>var made = 1</script></head><body>
<header><a href="/">Kettle manual</a> <a href="/faq">Questions</a></header>
<main><nav>Up to chapter seven</nav>
<h1>Brewing<a class="permalink" href="#b">#</a></h1>
<p>Pour <b>boil</b>ing water over the leaves. Wait H<sub>2</sub>O minutes.</p>
<ul><li>green tea</li><li>black tea</li></ul>
<pre>
kettle --on
  kettle --off  </pre>
<table><tr><td><pre>kettle --help</pre></td></tr></table></main>
<footer>Made by hand in May</footer></body></html>"""


def truth(page: bytes = PAGE, generator: Generator = MANUAL) -> Truth:
    found = truth_of(page, generator)
    assert found is not None
    return found


def test_region_is_read_without_navigation_scripts_and_signs() -> None:
    assert truth().region.split("\n")[:4] == [
        "Brewing",
        "Pour boiling water over the leaves. Wait H 2 O minutes.",
        "green tea",
        "black tea",
    ]
    assert truth().boilerplate == "Kettle manual Questions\nUp to chapter seven\nMade by hand in May"
    assert truth().headings == [("Brewing", "Brewing#")]


def test_code_is_known_to_the_character_and_whether_it_stands_in_a_cell() -> None:
    assert [(code.spellings, code.is_in_cell) for code in truth().code] == [
        (("kettle --on\n  kettle --off",), False),
        (("kettle --help",), True),
    ]


def test_lines_in_elements_of_their_own_are_lines_of_code_without_their_numbers() -> None:
    page = b"""<main><div class="fragment"><div class="line"><span class="no">1</span>int a;</div>
<div class="line"><span class="no">2</span>  int b;</div></div></main>"""
    doxygen = Generator("some", "some-doc", "", "//main", "", "//*[@class='no']", ".//div[@class='fragment']")
    assert truth(page, doxygen).code[0].spellings[0] == "int a;\n  int b;"


def test_what_is_hidden_may_be_read_or_not() -> None:
    page = b"<main><p>Press <span hidden>Option</span>Alt.<h2 style='display: none'>More</h2></main>"
    hidden = truth(page)
    assert (hidden.region, hidden.headings) == ("Press Alt.", [])
    assert compared(hidden, "Press Option Alt. More") == compared(hidden, "Press Alt.") == ([], [])


def test_block_of_code_within_another_is_one_block() -> None:
    page = b"<main><p>Run:</p><pre><pre class=playground><code>let a = 1;</code></pre></pre></main>"
    assert [code.spellings for code in truth(page).code] == [("let a = 1;",)]


def test_page_without_region_has_no_truth_and_one_of_links_is_a_listing() -> None:
    assert truth_of(b"<p>redirected", MANUAL) is None
    assert truth(
        b"<main><h1>Contents</h1><a href=a>All about tea</a> <a href=b>And all about coffee</a></main>"
    ).is_listing
    assert not truth().is_listing


def test_whole_markdown_loses_nothing_and_leaves_nothing_in() -> None:
    markdown = (
        "# Brewing\n\nPour **boil**ing water over the leaves. Wait H~2~O minutes.\n\n- green tea\n- black tea\n\n"
    )
    parts = parts_of(f"{markdown}```sh\nkettle --on\n  kettle --off\n```\n\n| |\n|-|\n| `kettle --help` |\n")
    assert compared(truth(), parts.text) == ([], [])
    assert not missing_headings(truth().headings, parts.headings)
    assert not missing_code(truth().code, parts)


def test_lost_words_are_told_with_those_around_them() -> None:
    lost, left_in = compared(truth(), "Brewing Pour boiling water. Wait H 2 O minutes. green tea black tea kettle --on")
    assert str(lost[0]) == "Brewing Pour boiling water [[over the leaves]] Wait H 2 O minutes green"
    assert [passage.words for passage in lost[1:]] == [["kettle", "off", "kettle", "help"]]
    assert left_in == []


def test_word_that_stands_elsewhere_does_not_hide_a_loss() -> None:
    lost, _ = differences(["one", "tea", "two", "tea", "three"], ["one", "two", "tea", "three"])
    assert [passage.words for passage in lost] == [["tea"]]


def test_navigation_in_the_text_is_left_in_but_what_the_page_does_not_have_is_not_counted() -> None:
    region = truth().region
    _, left_in = compared(truth(), f"Up to chapter seven\n{region}\nMade by hand in May\nalt of an image")
    assert [passage.words for passage in left_in] == [
        ["Up", "to", "chapter", "seven"],
        ["Made", "by", "hand", "in", "May"],
    ]


def test_text_that_stands_in_another_place_is_neither_lost_nor_left_in() -> None:
    page = Truth("first of all comes this\nthen a note of five words\nand at last the end", "")
    assert compared(page, "then a note of five words\nfirst of all comes this\nand at last the end") == ([], [])


def test_heading_counts_once_and_whatever_its_markup() -> None:
    parts = parts_of("# The `kettle_on` call\n\n- ### In a list\n\nNo heading\n")
    assert parts.headings == ["The kettle_on call", "In a list"]
    assert missing_headings([("The kettle_on call",), ("In a list",), ("In a list",)], parts.headings) == ["In a list"]


@pytest.mark.parametrize(
    "markdown", ["```\nkettle --on\nkettle --off\n```", "kettle --on\n  kettle --off", "```\n kettle --on\n```"]
)
def test_code_that_lost_its_indentation_or_its_fence_is_not_whole(markdown: str) -> None:
    assert missing_code(truth().code[:1], parts_of(markdown))


def test_angle_brackets_that_are_no_markup_are_text() -> None:
    assert words_of(parts_of("a Vec<Item> of<br>all").text) == ["a", "Vec", "Item", "of", "all"]


def test_scripts_without_blanks_are_counted_by_characters() -> None:
    assert words_of("snake_case 北京 ok") == ["snakecase", "北", "京", "ok"]


def test_shingles_count_order_and_repetition() -> None:
    assert scored("a b c d e", "a b c d e").f1 == 1
    assert scored("a b c d e", "a b c d e a b c d e").precision == pytest.approx(2 / 7)
    assert scored("a b c d e", "e d c b a").f1 == 0
    assert scored("a b c d e", "").f1 == 0


def test_sample_is_spread_evenly_and_leaves_out_what_does_not_match(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/doc/some-doc/html"
    folder.mkdir(parents=True)
    for name in [*(f"page{number}" for number in range(9)), "toc"]:
        (folder / f"{name}.html").write_bytes(PAGE)
    assert [path.stem for path in sample(MANUAL, tmp_path, 3)] == ["page0", "page3", "page6"]
    assert len(sample(MANUAL, tmp_path, 20)) == 9


def test_manual_is_measured_from_its_pages_to_its_shares(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/doc/some-doc/html"
    folder.mkdir(parents=True)
    (folder / "tea.html").write_bytes(PAGE)
    manual, pages = measure(MANUAL, tmp_path, 5)
    assert (manual.pages, manual.headings, manual.code, len(pages)) == (1, 1, 2, 1)
    assert manual.words == len(words_of(truth().region))
    assert manual.seconds > 0


def test_each_share_has_its_floor() -> None:
    good = Manual("good", words=1000, lost=4, headings=1000, headings_broken=5, code=1, markdown_words=100, left_in=1)
    assert good.is_below() == []
    bad = Manual(
        "bad", words=1000, lost=5, headings=10, headings_broken=1, code=9, code_broken=1, markdown_words=50, left_in=1
    )
    assert bad.is_below() == ["lost", "left_in", "headings", "code"]


def test_articles_are_found_by_their_packages_layouts(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(150))
    newspaper, readability = tmp_path / "newspaper/tests/data", tmp_path / "node/package/test/test-pages/one"
    for folder in (newspaper / "html", newspaper / "txt", readability):
        folder.mkdir(parents=True)
    (newspaper / "html/a.html").write_text(f"<p>{text}")
    (newspaper / "txt/a.txt").write_text(text)
    (newspaper / "html/short.html").write_text("<p>Short")
    (newspaper / "txt/short.txt").write_text("Short")
    (readability / "source.html").write_text(f"<nav>Home</nav><p>{text}")
    (readability / "expected.html").write_text(f"<div><p>{text}</p><p>and more</p></div>")
    found = articles(tmp_path)
    assert [article.name for article in found] == ["newspaper4k/a", "readability/one"]
    assert found[1].expected.split()[-3:] == ["word149", "and", "more"]


def test_phrases_are_read_off_the_tests_that_name_them(tmp_path: Path) -> None:
    cache = tmp_path / "extractor/tests/cache"
    cache.mkdir(parents=True)
    (cache / "one.html").write_text("<p>A body of text")
    (tmp_path / "extractor/tests/unit_tests.py").write_text(
        "MOCK_PAGES = {'https://one.example/': 'one.html', 'https://gone.example/': 'gone.html'}\n"
        "def test():\n"
        "    result = load_mock_page('https://one.example/')\n"
        "    assert 'body of text' in result and 'Imprint' not in result\n"
        "    result = load_mock_page('https://gone.example/')\n"
        "    assert 'nothing' in result\n"
    )
    (page,) = phrase_pages(tmp_path)
    assert (page.url, page.wanted, page.unwanted) == ("https://one.example/", ["body of text"], ["Imprint"])
    counts = PhraseCounts()
    counts.add(page, "A *body* of text. Imprint")
    assert (counts.kept, counts.lost, counts.left_in, counts.left_out) == (1, 0, 1, 0)
    assert counts.shares()["precision"] == 0.5
