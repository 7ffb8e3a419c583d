"""Pages that say that they are articles keep the article; what does not say so keeps everything."""

from __future__ import annotations

from kb_pipeline_tests.clean.pages import document, markdown

STORY = "".join(
    f"<p>On day {n} the council met at the harbour, heard the engineers out and put the vote off once more.</p>"
    for n in range(12)
)
OFFER = "<div><p>Our club keeps the lights on: members get the paper on Saturdays and an invitation to tea.</p></div>"
DECLARED = (
    "<head><meta property=og:type content=article><meta property=article:published_time content=2024-05-01></head>"
)


def test_an_article_is_kept_without_what_stands_around_it() -> None:
    page = f"{DECLARED}<body><h1>Vote</h1>{STORY}<div class=comments>{OFFER}</div></body>"
    found = document(page)
    assert "On day 11" in found.markdown
    assert "members get the paper" not in found.markdown
    assert found.words["outside_article"] > 10


def test_the_same_page_keeps_everything_when_it_does_not_say_that_it_is_an_article() -> None:
    assert "members get the paper" in markdown(f"<body><h1>Vote</h1>{STORY}<div class=comments>{OFFER}</div></body>")


def test_captions_lists_and_tables_inside_an_article_stay() -> None:
    inside = (
        "<figure><img src=a.png alt=''><figcaption>Trench B, 3.2 m deep</figcaption></figure>"
        "<ul><li>The keeper denied it.</li></ul>"
        "<table><tr><th>Year</th><th>Cars</th></tr><tr><td>2023</td><td>120</td></table>"
    )
    text = markdown(f"{DECLARED}<body><article><h1>Vote</h1>{STORY}{inside}{STORY}</article></body>")
    assert "Trench B, 3.2 m deep" in text
    assert "The keeper denied it." in text
    assert "| 2023 | 120 |" in text


def test_one_sign_is_not_enough() -> None:
    # Many systems call every page an article, their price lists as well.
    head = "<head><meta property=og:type content=article></head>"
    assert "members get the paper" in markdown(f"{head}<body><h1>Vote</h1>{STORY}{OFFER}</body>")


def test_a_product_is_no_article_whatever_else_it_says() -> None:
    product = '<script type="application/ld+json">{"@type": "Product", "name": "Lamp"}</script>'
    assert "members get the paper" in markdown(f"{DECLARED}<body>{product}<h1>Lamp</h1>{STORY}{OFFER}</body>")


def test_reference_with_a_date_and_an_author_is_no_article() -> None:
    options = "".join(f"<dt>--option-{n}<dd>Sets the height of gate {n} in metres above the sill." for n in range(30))
    text = markdown(f"{DECLARED}<body><h1>Options</h1><p>All of them.</p><dl>{options}</dl></body>")
    assert text.count("above the sill") == 30
