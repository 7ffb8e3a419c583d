"""Raised, lowered, struck and quoted text keeps its meaning."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown


def text(body: str, language: str = "en") -> str:
    return markdown(f"<html lang={language}><body><div class=markdown-body><p>{body}</p></div>").strip()


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("10<sup>6</sup>, 10<sup>−15</sup>, m<sup>2</sup>", "10^6, 10^−15, m^2"),
        ("<i>x</i><sup>n+1</sup>, e<sup>2x</sup>, e<sup>iπ</sup>", "*x*^{n+1}, e^{2x}, e^{iπ}"),
        ("1<sup>st</sup>, XX<sup>e</sup>, M<sup>me</sup>", "1st, XXe, Mme"),
        ("Acme<sup>TM</sup>, Foo<sup>®</sup>, Plan<sup>New</sup>", "Acme™, Foo®, Plan New"),
        ("H<sub>2</sub>O, CO<sub>2</sub>, Fe<sub>2</sub>O<sub>3</sub>", "H2O, CO2, Fe2O3"),
        ("SO<sub>4</sub><sup>2−</sup>, Na<sup>+</sup>", "SO4^{2−}, Na^+"),
        ("<i>x</i><sub>1</sub>, log<sub>2</sub> 8, V<sub>in</sub>", "*x*_1, log_2 8, V_in"),
        ("1011<sub>2</sub>, <code>10<sup>6</sup></code>", "1011_2, `10^6`"),
    ],
)
def test_raised_and_lowered_text_stays_apart(page: str, written: str) -> None:
    assert text(page) == written


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("<span>$</span><span>12</span><sup class=cents>99</sup> a piece", "$12.99 a piece"),
        ("<span>12<sup>99</sup></span> €", "12.99 €"),
        ("<sup>$</sup>12<small>99</small>", "$12.99"),
        ("USD 1,299<span class='price__decimals'>00</span>", "USD 1,299.00"),
        ("€ 12.<sup>99</sup>", "€ 12.99"),
        ("$12<sup>.99</sup>", "$12.99"),
        ("<span>1.299</span><span>,–</span> EUR", "1.299,– EUR"),
    ],
)
def test_raised_cents_are_decimals(page: str, written: str) -> None:
    assert text(page) == written


def test_cents_follow_the_comma_of_the_language() -> None:
    assert text("Preis: 12<sup>99</sup> €", language="de") == "Preis: 12,99 €"


def test_two_raised_digits_without_a_currency_are_a_power() -> None:
    assert text("2<sup>10</sup> values") == "2^10 values"


@pytest.mark.parametrize(
    "struck",
    [
        "<del>59 EUR</del>",
        "<s>59 EUR</s>",
        "<strike>59 EUR</strike>",
        "<span style='text-decoration: line-through'>59 EUR</span>",
        "<span class='line-through'>59 EUR</span>",
        "<span class='old-price'>59 EUR</span>",
    ],
)
def test_struck_text_is_struck(struck: str) -> None:
    assert text(f"Now {struck} <ins>39 EUR</ins>") == "Now ~~59 EUR~~ 39 EUR"


def test_reading_of_ruby_is_in_parentheses_once() -> None:
    assert text("<ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>") == "漢字(かんじ)"
    assert text("<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby>") == "漢(かん)字(じ)"


def test_quotation_inside_a_quotation_has_single_marks() -> None:
    assert text("He <q>said <q>no</q> twice</q>.") == "He \"said 'no' twice\"."


def test_listing_keeps_its_characters() -> None:
    assert "```\n10 6\n```" in markdown("<div class=markdown-body><p>so</p><pre>10<sup> 6</sup></pre></div>")
