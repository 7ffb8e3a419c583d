"""Tells facts from structured data: price, availability, rating, dates and places, questions and answers.

They are a document's metadata. Those that its text does not have are written below it as well: shops show the price of
a product with scripts, and keep answers out of the page until they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kb_pipeline.clean.html.inline import escape_text
from kb_pipeline.clean.html.structured_data import Object, nested, objects_of, text_of, types_of, values_of

Element = Any
Facts = Mapping[str, str | list[str]]

_PRODUCTS = frozenset({"Product", "ProductGroup", "IndividualProduct", "Vehicle", "Car", "Book", "SoftwareApplication"})
_ARTICLES = frozenset({"Article", "NewsArticle", "BlogPosting", "TechArticle", "Report", "ScholarlyArticle"})
_LABELS = {
    "price": "Price", "availability": "Availability", "sku": "SKU", "rating": "Rating", "start": "Start", "end": "End",
    "location": "Location", "employer": "Employer", "salary": "Salary", "employment": "Employment",
    "valid_through": "Valid through",
}  # fmt: skip
"""The facts that are written into the text where it has none of them."""
_DATES = frozenset({"start", "end", "valid_through"})
_WORD = re.compile(r"\w+")
_MAX_QUESTIONS = 200
_MAX_LISTED = 50
_COMPARED = 8
"""Words of an answer that tell whether the page shows it."""


def facts_of(tree: Element, title: str) -> tuple[dict[str, str | list[str]], list[tuple[str, str]]]:
    """Return the facts of what a page is about, and its questions with their answers."""
    objects = list(nested(objects_of(tree)))
    subject = _subject(objects, title)
    facts = _thing(subject) if subject is not None else {}
    for item in objects:
        facts = {**_facts(item), **facts}
    return {key: value for key, value in facts.items() if value}, _questions(objects)


def missing_facts(facts: Facts, questions: list[tuple[str, str]], markdown: str) -> str:
    """Return as Markdown what a document's text has not of the facts; empty if it has all."""
    if not questions and _LABELS.keys().isdisjoint(facts):
        return ""
    plain = re.sub(r"[\\*`]", "", markdown)
    shown = f" {' '.join(_WORD.findall(plain.lower()))} "
    lines = [
        f"- {label}: {escape_text(value)}"
        for name, label in _LABELS.items()
        if isinstance(value := facts.get(name), str) and not _is_shown(name, value, plain, shown)
    ]
    blocks = ["\n".join(lines)] if lines else []
    for question, answer in questions:
        if not _has_words(answer, shown):
            blocks.append(f"**{escape_text(question)}**\n\n{escape_text(answer)}")
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _subject(objects: list[Object], title: str) -> Object | None:
    """Return the thing that a page is about: the only one of its kind, or the one that the title names."""
    things = [
        item for item in objects if types_of(item) & _PRODUCTS or _is_event(item) or "JobPosting" in types_of(item)
    ]
    names = {text_of(item.get("name") or item.get("title")) for item in things}
    if len(names) == 1:
        return max(things, key=len)
    return next((item for item in things if (name := text_of(item.get("name"))) and name in title), None)


def _is_event(item: Object) -> bool:
    return any(kind.endswith("Event") or kind == "Festival" for kind in types_of(item))


def _facts(item: Object) -> dict[str, str | list[str]]:
    """Return the facts of one object; of lists, organizations and others that are on every page, none."""
    kinds = types_of(item)
    if "BreadcrumbList" in kinds:
        entries = [value for value in values_of(item, "itemListElement") if isinstance(value, dict)]
        return {"breadcrumb": [text_of(entry.get("name") or entry.get("item")) for entry in entries[:_MAX_LISTED]]}
    if kinds & _ARTICLES:
        return {"author": [name for author in values_of(item, "author")[:_MAX_LISTED] if (name := text_of(author))]}
    return {}


def _thing(item: Object) -> dict[str, str | list[str]]:
    if "JobPosting" in types_of(item):
        return _job(item)
    return _event(item) if _is_event(item) else _product(item)


def _product(item: Object) -> dict[str, str | list[str]]:
    offers = [offer for offer in values_of(item, "offers") if isinstance(offer, dict)]
    facts: dict[str, str | list[str]] = {"type": "Product", "name": text_of(item.get("name"))}
    facts["price"] = _price(offers)
    facts["availability"] = next((_spelled(text_of(offer.get("availability"))) for offer in offers), "")
    for name in ("sku", "mpn", "gtin13", "brand"):
        facts[name] = text_of(item.get(name))
    facts["rating"] = _rating(item)
    return facts


def _price(offers: list[Object]) -> str:
    """Return the price of one offer, or the range of several."""
    amounts: dict[str, str] = {}
    for offer in offers[:_MAX_LISTED]:
        sources = [offer, *(spec for spec in values_of(offer, "priceSpecification") if isinstance(spec, dict))]
        for source in sources:
            currency = text_of(source.get("priceCurrency") or offer.get("priceCurrency"))
            for name in ("price", "lowPrice", "highPrice"):
                if re.search(r"\d", amount := text_of(source.get(name))):
                    amounts[amount] = currency
    ordered = sorted(amounts, key=_number)
    if not ordered:
        return ""
    span = ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
    return f"{span} {amounts[ordered[0]]}".strip()


def _number(amount: str) -> float:
    found = re.search(r"\d+(?:\.\d+)?", amount.replace(",", "."))
    return float(found[0]) if found else 0.0


def _rating(item: Object) -> str:
    rating = next((value for value in values_of(item, "aggregateRating") if isinstance(value, dict)), {})
    value, best = text_of(rating.get("ratingValue")), text_of(rating.get("bestRating")) or "5"
    count = text_of(rating.get("reviewCount") or rating.get("ratingCount"))
    if not value:
        return ""
    return f"{value} of {best}" + (f" ({count} ratings)" if count else "")


def _event(item: Object) -> dict[str, str | list[str]]:
    return {
        "type": "Event",
        "name": text_of(item.get("name")),
        "start": _date(item.get("startDate")),
        "end": _date(item.get("endDate")),
        "location": _place(item.get("location")),
        "price": _price([offer for offer in values_of(item, "offers") if isinstance(offer, dict)]),
    }


def _job(item: Object) -> dict[str, str | list[str]]:
    salary = next((value for value in values_of(item, "baseSalary") if isinstance(value, dict)), {})
    amount = next((value for value in values_of(salary, "value") if isinstance(value, dict)), salary)
    limits = [text for name in ("minValue", "maxValue", "value") if (text := text_of(amount.get(name)))]
    pay = [" to ".join(limits[:2]), text_of(salary.get("currency"))] if limits else []
    kinds = (_spelled(text_of(value).replace("_", " ").title()) for value in values_of(item, "employmentType"))
    return {
        "type": "JobPosting",
        "name": text_of(item.get("title") or item.get("name")),
        "employer": text_of(item.get("hiringOrganization")),
        "location": _place(item.get("jobLocation")),
        "salary": " ".join(pay).strip(),
        "employment": ", ".join(filter(None, kinds)),
        "valid_through": _date(item.get("validThrough")),
    }


def _place(value: object) -> str:
    place = next((item for item in (value if isinstance(value, list) else [value])), None)
    if not isinstance(place, dict):
        return text_of(place)
    address = place.get("address")
    parts = [text_of(place.get("name"))]
    if isinstance(address, dict):
        parts += [text_of(address.get(name)) for name in ("streetAddress", "postalCode", "addressLocality")]
    else:
        parts.append(text_of(address))
    return ", ".join(dict.fromkeys(filter(None, parts)))


def _date(value: object) -> str:
    """Return date and time as people write them: without seconds and time zone."""
    found = re.match(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d))?", text_of(value))
    return " ".join(filter(None, found.groups())) if found else ""


def _spelled(value: str) -> str:
    """Return a value of schema.org in words: `https://schema.org/InStock` is "In stock"."""
    name = value.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"(?<=[a-z])\s?(?=[A-Z])", " ", name).capitalize()


def _questions(objects: list[Object]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for page in objects:
        if types_of(page) & {"FAQPage", "QAPage"}:
            for question in values_of(page, "mainEntity")[:_MAX_QUESTIONS]:
                if isinstance(question, dict) and (asked := text_of(question.get("name") or question.get("text"))):
                    answer = next(
                        iter(values_of(question, "acceptedAnswer") or values_of(question, "suggestedAnswer")), ""
                    )
                    said = answer.get("text") if isinstance(answer, dict) else answer
                    found.setdefault(_without_tags(asked), _without_tags(text_of(said)))
    return [(question, answer) for question, answer in found.items() if question and answer]


def _without_tags(markup: str) -> str:
    """Return the text of an answer, which may be HTML."""
    from lxml import html

    if "<" not in markup and "&" not in markup:
        return markup
    spaced = re.sub(r"<(?=/?(?:p|br|li|div|ul|ol|h\d)\b)", " <", markup, flags=re.I)
    tree = html.fromstring(f"<div>{spaced}</div>")
    return " ".join("".join(tree.itertext()).split())


def _is_shown(name: str, value: str, plain: str, shown: str) -> bool:
    if name == "price":
        return any(_has_amount(amount, plain) for amount in re.findall(r"\d[\d.,]*", value))
    if name in _DATES:
        return _has_date(value, plain)
    if name == "rating":
        return _has_amount(value.split(" ")[0], plain)
    if name == "location":
        return any(_has_words(part, shown) for part in value.split(", "))
    return _has_words(value, shown)


def _has_amount(amount: str, plain: str) -> bool:
    """Return whether a text has an amount, however it writes thousands and decimals."""
    whole, _, decimals = (
        amount.replace(",", ".").rpartition(".") if re.search(r"[.,]\d{1,2}$", amount) else (amount, "", "")
    )
    digits = re.sub(r"\D", "", whole)
    grouped = r"[.,'’\s\u00a0]?".join(re.findall(r"\d{1,3}(?=(?:\d{3})*$)", digits)) if digits else "0"
    cents = decimals.rstrip("0")
    tail = rf"[.,]{cents}0?" if cents else r"(?:[.,](?:00?|[-–—]+))?"
    return re.search(rf"(?<![\d.,]){grouped}{tail}(?![\d]|[.,]\d)", plain) is not None


def _has_date(value: str, plain: str) -> bool:
    year, month, day = value[:10].split("-")
    near = rf"(?<!\d)0?{int(day)}(?!\d)[^\n]{{0,20}}(?<!\d){year}|(?<!\d){year}[^\n]{{0,14}}(?<!\d)0?{int(day)}(?!\d)"
    return re.search(near, plain) is not None or f"{int(month)}/{int(day)}" in plain


def _has_words(text: str, shown: str) -> bool:
    words = _WORD.findall(text.lower())[:_COMPARED]
    return bool(words) and f" {' '.join(words)} " in shown
