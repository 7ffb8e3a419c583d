"""What a page says for machines is metadata of its document, and text where the page says it nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from kb_pipeline.model import Document
from kb_pipeline_tests.clean.pages import document

_LAMP = {
    "@context": "https://schema.org",
    "@type": "Product",
    "name": "Brass lamp",
    "sku": "BL-77",
    "offers": {
        "@type": "Offer",
        "price": "1274.50",
        "priceCurrency": "EUR",
        "availability": "https://schema.org/InStock",
    },
}


def page(described: object, body: str = "", title: str = "A page") -> Document:
    script = f"<script type='application/ld+json'>{json.dumps(described)}</script>"
    return document(f"<title>{title}</title>{script}<main><p>Some words of the page.</p>{body}</main>")


def unsaid(described: object, body: str = "", title: str = "A page") -> str:
    return page(described, body, title).markdown.split("words of the page.\n")[1].strip()


def test_facts_of_a_product_are_metadata_and_text() -> None:
    found = page({**_LAMP, "aggregateRating": {"ratingValue": 4.4, "reviewCount": 89}})
    assert found.metadata == {
        "type": "Product", "name": "Brass lamp", "price": "1274.50 EUR", "availability": "In stock", "sku": "BL-77",
        "rating": "4.4 of 5 (89 ratings)",
    }  # fmt: skip
    assert found.markdown.endswith(
        "\n\n- Price: 1274.50 EUR\n- Availability: In stock\n- SKU: BL-77\n- Rating: 4.4 of 5 (89 ratings)\n"
    )


@pytest.mark.parametrize("shown", ["1274.50 EUR", "€1,274.50", "1.274,50 €", "1 274,5 EUR", "<b>1274</b>.50"])
def test_price_in_the_text_is_not_repeated(shown: str) -> None:
    assert "Price:" not in unsaid(_LAMP, f"<p>{shown}")


@pytest.mark.parametrize("other", ["274.50", "11274.50", "1274.59", "12.74"])
def test_other_numbers_are_not_the_price(other: str) -> None:
    assert "- Price: 1274.50 EUR" in unsaid(_LAMP, f"<p>{other}")


def test_whole_price_may_be_shown_without_decimals() -> None:
    offer = {"price": "1299.00", "priceCurrency": "EUR"}
    assert "Price" not in unsaid({**_LAMP, "offers": offer}, "<p>1.299,– EUR")


def test_several_offers_have_a_range_of_prices() -> None:
    offers = {"@type": "AggregateOffer", "lowPrice": "9.50", "highPrice": "20", "priceCurrency": "USD"}
    assert page({**_LAMP, "offers": offers}).metadata["price"] == "9.50 to 20 USD"


def test_list_of_products_has_the_facts_of_none_but_the_one_it_is_about() -> None:
    products = [_LAMP, {**_LAMP, "name": "Tin lamp", "sku": "TL-1"}]
    assert page(products).metadata == {}
    assert page(products, title="Brass lamp - Shop").metadata["sku"] == "BL-77"


@pytest.mark.parametrize(
    "body",
    [
        '<div itemscope itemtype="https://schema.org/Product"><b itemprop="name">Rope</b>'
        '<div itemprop="offers" itemscope itemtype="https://schema.org/Offer">'
        '<meta itemprop="priceCurrency" content="EUR"><meta itemprop="price" content="74.50"></div></div>',
        '<div vocab="https://schema.org/" typeof="Product"><b property="name">Rope</b>'
        '<div property="offers" typeof="Offer">'
        '<meta property="priceCurrency" content="EUR"><meta property="price" content="74.50"></div></div>',
    ],
    ids=["microdata", "rdfa"],
)
def test_markup_of_elements_is_read_too(body: str) -> None:
    found = document(f"<title>A page</title><main><p>Some words.</p>{body}</main>")
    assert found.metadata == {"type": "Product", "name": "Rope", "price": "74.50 EUR"}
    assert "- Price: 74.50 EUR" in found.markdown


def test_answer_that_the_page_does_not_show_is_text() -> None:
    answers = {"How deep?": "<p>Up to <b>5 metres</b>.</p><p>More &amp; more.</p>", "Open?": "Yes, all week long."}
    questions = [{"name": name, "acceptedAnswer": {"text": text}} for name, text in answers.items()]
    shown = "<h2>Open?</h2><p>Yes, all <b>week</b> long."
    assert unsaid({"@type": "FAQPage", "mainEntity": questions}, shown) == (
        "## Open?\n\nYes, all **week** long.\n\n**How deep?**\n\nUp to 5 metres. More & more."
    )


def test_date_and_place_of_an_event() -> None:
    place = {"@type": "Place", "name": "Old pier", "address": {"streetAddress": "Quay 1"}}
    event = {"@type": "MusicEvent", "name": "Night", "startDate": "2026-05-01T19:30:00+02:00", "location": place}
    assert unsaid(event) == "- Start: 2026-05-01 19:30\n- Location: Old pier, Quay 1"
    assert unsaid(event, "<p>1 May 2026 at the Old Pier") == "1 May 2026 at the Old Pier"


def test_job_has_employer_and_salary() -> None:
    pay = {"currency": "EUR", "value": {"minValue": 40000, "maxValue": 50000}}
    job = {"@type": "JobPosting", "title": "Keeper", "hiringOrganization": {"name": "Harbour"}, "baseSalary": pay}
    assert unsaid(job) == "- Employer: Harbour\n- Salary: 40000 to 50000 EUR"


def test_characters_that_cannot_be_stored_are_left_out() -> None:
    assert page({**_LAMP, "sku": "B\ud800L\x00-7"}).metadata["sku"] == "BL-7"


def test_author_and_path_are_metadata_only() -> None:
    path = {"@type": "BreadcrumbList", "itemListElement": [{"name": "Home"}, {"item": {"name": "Lamps"}}]}
    article = {"@type": "Article", "author": [{"@type": "Person", "name": "Ada"}, "Bob"]}
    found = page({"@graph": [path, article]})
    assert found.metadata == {"breadcrumb": ["Home", "Lamps"], "author": ["Ada", "Bob"]}
    assert found.markdown == "Some words of the page.\n"


@pytest.mark.parametrize(
    "broken",
    [
        1,
        [None, {"@type": [None, 3, "Product"], "name": {"a": 1}, "offers": [3, {"price": None}, {"price": [{}]}]}],
        {"@type": "FAQPage", "mainEntity": ["x", {"name": "q"}, {"name": "q", "acceptedAnswer": [3]}]},
        {"@type": "Event", "startDate": "soon", "location": [[]]},
        {"@type": "JobPosting", "baseSalary": "much", "jobLocation": {"address": ["x"]}},
    ],
)
def test_broken_descriptions_are_no_failure(broken: Mapping[str, Any]) -> None:
    assert page(broken).markdown.startswith("Some words of the page.")
