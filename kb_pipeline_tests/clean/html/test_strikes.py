"""Struck text is told from text that holds, also where whole blocks are struck."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown


def body(page: str) -> str:
    return markdown(f"<div class=markdown-body><p>Prices.</p>{page}</div>").strip().removeprefix("Prices.\n\n")


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("<del><p>Old rule.</p><p>And more.</p></del><p>New.</p>", "~~Old rule.~~\n\n~~And more.~~\n\nNew."),
        ("<ul><li><s>Done</s></li><li class='line-through'>Gone</li></ul>", "- ~~Done~~\n- ~~Gone~~"),
        ("<p style='color: red; text-decoration:line-through'>59 EUR</p><p>39 EUR</p>", "~~59 EUR~~\n\n39 EUR"),
        ("<div class='price-box'><span class='old-price'>59</span> <span class='price'>39</span></div>", "~~59~~ 39"),
        ("<p><del>a <b>b</b></del> <s>c <del>d</del></s></p>", "~~a **b**~~ ~~c d~~"),
        ("<p><span style='text-decoration: underline'>u</span> <ins>i</ins></p>", "u i"),
    ],
)
def test_struck_text_is_marked(page: str, written: str) -> None:
    assert body(page) == written
