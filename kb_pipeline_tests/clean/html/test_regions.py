"""Which part of a page is its content, and what of it goes: never by a name alone."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import document, markdown

PROSE = "The keeper of the lock opens both gates before the tide turns, and notes the hour in the book by the door."
LINKS = "<a href=/a>Pumps and valves</a> <a href=/b>Ropes and chains</a> <a href=/c>Lamps and oil</a>"


@pytest.mark.parametrize(
    "name", ["menu", "header", "footer", "related", "sidebar", "navigation", "banner", "ad", "toc"]
)
def test_a_name_alone_removes_nothing(name: str) -> None:
    text = markdown(
        f"<main><p>{PROSE}</p><div class={name}><p>Lamp oil costs 3.20 a litre.</p></div><p>{PROSE}</p></main>"
    )
    assert "Lamp oil costs 3.20 a litre." in text


@pytest.mark.parametrize(
    "name", ["menu", "related-posts", "sidebar", "nav", "pagination", "toc", "breadcrumbs", "share"]
)
def test_what_is_named_as_navigation_and_consists_of_links_goes(name: str) -> None:
    page = document(f"<main><p>{PROSE}</p><div class={name}><h3>More</h3>{LINKS}</div></main>")
    assert "Ropes and chains" not in page.markdown
    assert page.words["navigation"] == 10
    assert page.words["kept"] == len(PROSE.split())


def test_a_list_of_links_without_a_name_is_content() -> None:
    assert "Ropes and chains" in markdown(f"<main><h1>Stores</h1><p>{PROSE}</p><ul><li>{LINKS}</li></ul></main>")


def test_title_of_a_card_is_kept_though_it_is_a_link_of_class_header() -> None:
    card = "<div class=card><a class=header href=/{0}>{0} plan</a><p>Up to {1} users.</p></div>"
    text = markdown(f"<main><p>{PROSE}</p>{card.format('Oak', 5)}{card.format('Elm', 50)}</main>")
    assert "Oak plan" in text
    assert "Elm plan" in text


def test_nothing_is_removed_inside_a_heading() -> None:
    assert "## Navigation lights" in markdown(
        f"<main><h2><a class=header href=#nav>Navigation lights</a></h2><p>{PROSE}</p></main>"
    )


def test_breadcrumbs_go_though_the_page_they_end_with_is_no_link() -> None:
    crumbs = "<nav aria-label=breadcrumb><a href=/>Home</a> / How the lock is opened before the tide turns</nav>"
    assert "Home" not in markdown(f"<main>{crumbs}<p>{PROSE}</p></main>")


def test_a_navigation_element_that_tells_something_stays() -> None:
    told = f"<nav><h2>Finding your way</h2><p>{PROSE} {PROSE}</p><a href=/map>Map</a></nav>"
    assert "Finding your way" in markdown(f"<main><p>{PROSE} {PROSE} {PROSE}</p>{told}</main>")


def test_header_of_a_page_with_its_title_and_first_sentence_is_content() -> None:
    page = f"<body><header><h1>Tides</h1><p>The spring tide reaches 5.8 metres.</p></header><p>{PROSE}</p></body>"
    assert "5.8 metres" in markdown(page)


def test_closing_line_of_a_page_goes_and_a_note_of_class_footer_stays() -> None:
    page = f"<body><p>{PROSE}</p><div class=footer>* Price per metre.</div><footer>© 2024 Lock Ltd</footer></body>"
    text = markdown(page)
    assert "Price per metre" in text
    assert "Lock Ltd" not in text


def test_an_article_that_is_one_comment_of_many_things_is_not_the_page() -> None:
    rest = "".join(f"<p>Part {n}. {PROSE}</p>" for n in range(5))
    assert "Part 4." in markdown(f"<body><h1>Pump</h1>{rest}<article><p>Works well.</p></article></body>")


def test_blocks_of_links_beside_the_text_go_where_nothing_is_marked() -> None:
    layout = f"<table><tr><td>{LINKS}</td><td><h1>Lock</h1>{f'<p>{PROSE}</p>' * 3}</td></tr></table>"
    text = markdown(f"<body>{layout}</body>")
    assert "Ropes and chains" not in text
    assert text.count("the tide turns") == 3


def test_a_page_that_is_a_list_of_links_keeps_it() -> None:
    many = "".join(f"<li><a href=/{n}>Chapter {n} of the manual</a></li>" for n in range(50))
    assert "Chapter 49" in markdown(f"<body><div><p>All chapters of it.</p></div><ul>{many}</ul></body>")


@pytest.mark.parametrize(
    "row", [f"<p>{LINKS}</p>", f"<ul><li>{LINKS}</ul>", "<div><a href=/>Lock</a> &gt; <a href=/a>Gates</a></div>"]
)
def test_a_row_of_links_above_the_first_heading_goes(row: str) -> None:
    text = markdown(f"<body><hr>{row}<hr><h1>Lock</h1><p>{PROSE}</p>{row}<p>{PROSE}</p></body>")
    assert text.startswith("# Lock")
    assert "](https://site.test/a)" in text  # the row between the paragraphs


def test_links_to_translations_go_wherever_they_stand() -> None:
    languages = "<p>Available in: <a hreflang=de href=/de>Deutsch</a> <a hreflang=fr href=/fr>Français</a></p>"
    assert "Deutsch" not in markdown(f"<main><h1>Lock</h1>{languages}<p>{PROSE}</p>{languages}</main>")


def test_a_list_of_contents_after_the_text_stays_where_nothing_is_marked() -> None:
    page = f"<body><div><p>{PROSE}</p><p>{PROSE}</p></div><div><p>Modules</p><ul><li>{LINKS}</ul></div></body>"
    assert "Ropes and chains" in markdown(page)


def test_a_page_footer_with_contact_data_stays_and_one_without_goes() -> None:
    page = "<body><h1>Lock</h1><p>{0}</p><p>{0}</p><footer><p>{1}</p></footer></body>"
    assert "555 0188" in markdown(page.format(PROSE, "Harbour office, telephone 555 0188"))
    assert "Imprint" not in markdown(page.format(PROSE, "Imprint"))


def test_words_outside_the_main_content_are_counted() -> None:
    page = document(f"<body><div>Sale ends on Sunday</div><main><p>{PROSE}</p></main></body>")
    assert page.words == {"kept": len(PROSE.split()), "outside_main": 4}


def test_a_header_of_links_that_names_the_page_stays() -> None:
    header = f"<div class=header><div>{LINKS}</div><div class=title>ArrayWrapper class template reference</div></div>"
    assert "ArrayWrapper class template reference" in markdown(f"<body>{header}<p>{PROSE}</p></body>")


def test_bars_of_manuals_with_titles_of_chapters_go() -> None:
    bar = (
        "<div class=navheader><table><tr><th colspan=3>9.12. Functions</th></tr><tr><td><a href=/a>Prev</a></td>"
        "<th>Chapter 9. Functions and Operators</th><td><a href=/c>Next</a></td></tr></table><hr></div>"
    )
    assert "Chapter 9" not in markdown(f"<body>{bar}<h2>Network Functions</h2><p>{PROSE}</p></body>")
