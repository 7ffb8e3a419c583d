"""Which options of a page's lists are addresses, and which are values of a form."""

from __future__ import annotations

import pytest

from kb_pipeline.fetch.web.parse.html_links import parse_page

URL = "https://example.com/docs/page.html?v=1"


def _paths(html: str) -> list[str]:
    found = parse_page(html.encode(), "text/html", URL, 100)
    return [url.removeprefix("https://example.com") for url in found.urls]


def _select(*values: str, **attributes: str) -> str:
    options = "".join(f'<option value="{value}">x' for value in values)
    written = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f"<select {written}>{options}</select>"


def test_options_that_are_addresses_lead_to_their_pages() -> None:
    values = ("/a", "b.html", "../c/", "d/e.php?x=1", "?v=2", "https://example.com/f", "//example.com/g", "guide/")
    assert _paths(_select(*values)) == [
        "/a", "/docs/b.html", "/c/", "/docs/d/e.php?x=1", "/docs/page.html?v=2", "/f", "/g", "/docs/guide/",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    ["", "#", "0", "-1", "asc", "DE", "2024", "Europe/Berlin", "text/html", "km/h", "N/A", "1.5", "javascript:go()"],
)
def test_values_of_a_form_lead_nowhere(value: str) -> None:
    assert _paths(_select(value)) == []
    assert _paths(_select(value, onchange="this.form.submit()")) == []
    assert _paths(_select(value, onchange="filter(this.value.replace('a', 'b'))")) == []


@pytest.mark.parametrize(
    "handler",
    [
        "location = this.value",
        "window.location.href = this.options[this.selectedIndex].value;",
        "if (this.value) top.location.assign(this.value)",
        "MM_jumpMenu('parent',this,0)",
        "window.open(this.value, '_self')",
        "document.location=$(this).val()",
    ],
)
def test_a_handler_that_goes_to_the_value_makes_any_value_an_address(handler: str) -> None:
    assert _paths(_select("two", "", "#", "unit/3", onchange=handler)) == ["/docs/two", "/docs/unit/3"]


def test_what_a_handler_writes_around_a_value_belongs_to_the_address() -> None:
    assert _paths(_select("2", onchange="location.href='/p/' + this.value + '/index.html'")) == ["/p/2/index.html"]
    assert _paths(_select("3", onchange="if(this.value) location='unit.php?n='+this.value;")) == ["/docs/unit.php?n=3"]
    assert _paths(_select("4", onchange="location = this.value + '.html'")) == ["/docs/4.html"]


def test_a_handler_that_cannot_be_read_leads_nowhere() -> None:
    assert _paths(_select("2", onchange="location = base + '/' + kind[this.value]")) == []
    assert _paths(_select("2", onchange="location.hash = this.value")) == []


def test_a_class_or_an_attribute_that_navigates_makes_paths_addresses() -> None:
    for attributes in ({"class": "form-select jump-menu"}, {"data-navigate": ""}, {"id": "nav"}):
        assert _paths(_select("unit/3", "v2.1", "asc", **attributes)) == ["/docs/unit/3", "/docs/v2.1"]
    assert _paths('<select><option value="de" data-url="/de/">Deutsch</select>') == ["/de/"]


def test_options_of_a_page_that_asks_for_nofollow_are_not_followed() -> None:
    assert _paths("<meta name=robots content=nofollow>" + _select("/a")) == []


def test_hostile_lists_end_at_the_limit_of_links() -> None:
    html = _select(*(f"/p{number}" for number in range(20_000)), onchange="location=" + "(" * 20_000)
    found = parse_page(html.encode(), "text/html", URL, 100)
    assert (len(found.urls), found.over_limit) == (100, 19_900)
    assert _paths(_select("/" + "a" * 100_000, "." * 1_900, "a/" * 900 + "\x00")) == []
