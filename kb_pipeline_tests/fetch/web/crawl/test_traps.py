"""Sites without an end: visited as far as the limits let, and no real page is lost in them."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site

REAL = 60
CAP = 40
SLACK = 16
"""Visits under way when a limit is reached."""
Generator = Callable[[str], str | None]
"""HTML by path and query; None where the trap has no page. The first page is at /trap/."""


def _link(*targets: str) -> str:
    return "".join(f'<a href="{target}">{target.rpartition("/")[2]}</a> ' for target in targets)


def calendar(path: str) -> str | None:
    """Return a page of an endless calendar: one a month, and one a day."""
    parts = [int(part) for part in path.removeprefix("/trap/").strip("/").split("/") if part.isdecimal()]
    year, month, day = [*parts, *(2026, 1, 0)[len(parts) :]]
    later = (year + month // 12, month % 12 + 1)
    earlier = (year - (month == 1), (month - 2) % 12 + 1)
    days = _link(*(f"/trap/{year}/{month}/{number}" for number in range(1, 29)))
    heading = f"<h1>Events of {year}-{month:02d}{f'-{day:02d}' if day else ''}</h1><p>No events are planned.</p>"
    return heading + days + _link("/trap/{}/{}".format(*earlier), "/trap/{}/{}".format(*later))


def session_ids(path: str) -> str | None:
    """Three real pages, each link with another session."""
    name = urlsplit(path).path.rpartition("/")[2] or "start"
    texts = {"start": "Welcome to the shop of tools", "saws": "Saws cut wood along and across", "drills": "Drills bore"}
    links = (f"/trap/{target}?visit={random.getrandbits(64):x}" for target in ("saws", "drills", "start"))
    return f"<p>{texts[name]}</p>" + _link(*links) if name in texts else None


def path_repetition(path: str) -> str | None:
    """Return a page whose relative link should be absolute."""
    return "<p>The page of the menu, which is wrong about where it is.</p>" + '<a href="a/b/">deeper</a>'


def query_combinations(path: str) -> str | None:
    """Every filter can be added to every other."""
    chosen = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    goods = ["red shirt of cotton", "blue shirt of wool", "green hat of felt", "black shoes of leather"]
    random.Random(str(chosen)).shuffle(goods)
    filters = {"colour": "rgb", "size": "sml", "sort": "pn", "page": "123", "view": "gl"}
    links = []
    for name, values in filters.items():
        for value in values:
            query = "&".join(f"{n}={v}" for n, v in ({**chosen, name: value}).items())
            links.append(f"/trap/?{query}")
    return "".join(f"<p>{good}</p>" for good in goods) + _link(*links)


def soft_404(path: str) -> str | None:
    """Whatever is asked for is answered, and suggests more."""
    missing = urlsplit(path).path
    suggestions = (f"/trap/{random.getrandbits(40):x}" for _ in range(5))
    apology = f"<h1>Oops</h1><p>We could not find {missing} for you. Perhaps you look for one of these:</p>"
    return apology + _link(*suggestions)


def endless_redirects(path: str) -> str | None:
    """Not a page at all: see _serve."""
    return None


TRAPS: list[Generator] = [calendar, session_ids, path_repetition, query_combinations, soft_404, endless_redirects]


def _serve(site: Site, trap: Generator) -> None:
    """Real pages beside the trap; some are linked only from the last ones."""

    class Pages(dict[str, object]):
        def get(self, path: str, default: object = None) -> object:
            return self[path] if path in self else _page(path) or default

    def _page(path: str) -> Page | None:
        if not path.startswith("/trap/"):
            return None
        if trap is endless_redirects:
            number = int(path.rpartition("/")[2] or 0)
            return Page(status=302, headers={"Location": f"/trap/{number + 1}"})
        html = trap(path)
        return Page(f"<html><body>{html}</body></html>".encode()) if html else None

    site.pages = Pages()  # type: ignore[assignment]
    words = [f"{first}{second}" for first in ("oak", "elm", "ash", "fir", "yew") for second in ("wood", "leaf", "bark")]
    for number in range(REAL):
        said = " ".join(random.Random(number).choices(words, k=40))
        links = _link("/trap/", *(f"/real{n}" for n in (2 * number + 1, 2 * number + 2) if n < REAL))
        site.pages[f"/real{number}"] = Page(f"<html><body><p>{said}</p>{links}</body></html>".encode())


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_a_trap_is_left_and_every_real_page_kept(site: Site, crawled: Crawler, trap: Generator) -> None:
    _serve(site, trap)
    limits = crawled.limits(repetitive_pages=CAP, per_query_pattern=100)
    found = crawled(site.url + "/real0", limits=limits, max_pages=5000, max_depth=100)
    kept = {key.removeprefix(site.url) for key, row in found.rows.items() if row["outcome"] == "fetched"}
    assert {f"/real{number}" for number in range(REAL)} <= kept
    in_trap = sum(path.startswith("/trap/") for path in site.paths())
    # What the first pages of the trap say is new; then it may be visited as far as the limit, or as the site is large.
    assert in_trap <= REAL + max(CAP, REAL) + SLACK
    assert found.summary.finished


def test_copies_in_another_language_are_no_trap(site: Site, crawled: Crawler) -> None:
    """Untranslated pages say nothing new, yet a translated one may hang on them."""
    texts = [f"Chapter {n} tells of {' '.join(random.Random(n).choices('abcdefghijklmnop', k=30))}" for n in range(80)]
    for language in ("en", "de", "fr"):
        site.link(f"/{language}/", *(f"/{language}/{number}" for number in range(40)))
        for number in range(40):
            links = [f"/{language}/{number + 40}"]
            site.link(f"/{language}/{number}", *links)
            site.link(f"/{language}/{number + 40}")
            for path in (f"/{language}/{number}", f"/{language}/{number + 40}"):
                text = texts[int(path.rpartition("/")[2])].encode()
                page = site.pages[path]
                assert isinstance(page, Page)
                site.pages[path] = Page(page.body.replace(path.encode(), text, 1))
    site.link("/", "/en/", "/de/", "/fr/")
    found = crawled(site.url + "/", limits=crawled.limits(repetitive_pages=10))
    assert found.summary.outcomes == {"fetched": 1 + 3 * 81}


def test_a_sitemap_is_believed(site: Site, crawled: Crawler) -> None:
    paths = [f"/price/{number}" for number in range(100)]
    urls = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
    site.pages["/sitemap.xml"] = Page(f"<urlset>{urls}</urlset>".encode(), headers={"Content-Type": "text/xml"})
    site.link("/")
    for number, path in enumerate(paths):
        site.pages[path] = Page(f"<p>The price today is {number} euro.</p>".encode())
    limits = crawled.limits(repetitive_pages=5, per_directory=5, per_query_pattern=5)
    assert crawled(site.url + "/", sitemap="auto", limits=limits).summary.outcomes == {"fetched": 101}
