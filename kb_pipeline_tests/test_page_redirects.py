"""How a page sends its reader on: refreshes in every spelling, and scripts that do nothing else."""

from __future__ import annotations

import pytest

from kb_pipeline.page_redirects import goes_on, read_refresh, script_target


@pytest.mark.parametrize(
    ("content", "seconds", "target"),
    [
        ("0;URL=new.html", 0, "new.html"),
        ("0; url='new.html'", 0, "new.html"),
        ('3; URL="a b.html" trailing', 3, "a b.html"),
        (" 0 ; url = new.html ", 0, "new.html"),
        ("0,url=new.html", 0, "new.html"),
        ("0;overview-summary.html", 0, "overview-summary.html"),
        ("1 new.html", 1, "new.html"),
        ("1.5; url=/x", 1, "/x"),
        (".5; url=/x", 0, "/x"),
        ("0; urls.html", 0, "urls.html"),
        ("0; url=/go?url=/there", 0, "/go?url=/there"),
        ("300", 300, ""),
        ("5;", 5, ""),
        ("9" * 5000 + "; url=x", 10**9, "x"),
    ],
)
def test_refreshes_are_read_as_browsers_do(content: str, seconds: int, target: str) -> None:
    assert read_refresh(content) == (seconds, target)


@pytest.mark.parametrize("content", ["", "now", "url=new.html", "0url=new.html", "-1; url=x", "; url=x"])
def test_what_names_no_time_is_no_refresh(content: str) -> None:
    assert read_refresh(content) is None


@pytest.mark.parametrize(
    "script",
    [
        'location.href = "new.html"',
        "window.location.replace('new.html');",
        "top.location='new.html'",
        "document.location.assign('new.html')",
        "setTimeout(function(){ window.location.href = 'new.html'; }, 100)",
        'var anchor=window.location.hash.substr(1);location.href="new.html"+(anchor?"#"+anchor:"")',
        "window.location.replace('new.html' + window.location.hash)",
    ],
)
def test_a_script_that_leads_every_reader_away_names_where(script: str) -> None:
    assert script_target(["var x = 1;", script]) == "new.html"


@pytest.mark.parametrize(
    "script",
    [
        "if (top == self) location.href = 'new.html'",  # a frame that wants its frameset
        "function go() { location.href = 'new.html' }",
        "button.addEventListener('click', () => location.href = 'new.html')",
        "location.href = 'new.html?id=' + id",
        "location.href = next",
        "if (location.href == 'new.html') start()",
        "mylocation = 'new.html'",
        "geo.location = 'new.html'",
    ],
)
def test_a_script_that_decides_or_computes_leads_to_no_known_place(script: str) -> None:
    assert script_target([script]) == ""


def test_a_script_that_only_looks_where_it_is_does_not_go_on() -> None:
    assert not goes_on(["track(location.href)", "x = location.hash"])
    assert goes_on(["location.replace(next)"])
