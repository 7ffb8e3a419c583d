"""Pages that are none because they send their readers on: redirects, with the rules of redirects."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site

HTML = {"Content-Type": "text/html; charset=utf-8"}


def put(site: Site, path: str, html: str, headers: Mapping[str, str] | None = None) -> None:
    site.pages[path] = Page(html.encode(), headers={**HTML, **(headers or {})})


def stub(content: str, head: str = "", body: str = "moved") -> str:
    return f'<html><head><meta http-equiv="refresh" content="{content}">{head}</head><body>{body}</body></html>'


STUBS = {
    "capitals": "<META HTTP-EQUIV=REFRESH CONTENT=\"0;URL='new'\"><p>Please wait",
    "after 5 s": stub("5; url=new"),
    "without url": stub("0; new"),
    "by its base": stub("0; url=new", head='<base href="/docs/">'),
    "in the body": '<p>Moved</p><meta http-equiv="refresh" content="0;url=/docs/new">',
    "a script": '<title>Moved</title><script>window.location.replace("new")</script><p><a href="new">here</a>',
    "onload": """<body onload="location.href='/docs/new'">Redirecting</body>""",
    "noscript beside a script": "<script>window.location.replace(next())</script><noscript>"
    '<meta http-equiv="Refresh" content="0;new"></noscript><p><a href="new">overview</a>',
}


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_is_a_redirect(site: Site, crawled: Crawler, name: str) -> None:
    site.link("/", "/docs/old")
    put(site, "/docs/old", STUBS[name])
    site.link("/docs/new")
    found = crawled(site.url + "/")
    assert found.outcome(site.url + "/docs/old") == "redirected"
    assert found.rows[site.url + "/docs/old"]["redirect_to"] == site.url + "/docs/new"
    assert found.outcome(site.url + "/docs/new") == "fetched"


def test_a_header_sends_on_as_well_and_text_files_too(site: Site, crawled: Crawler) -> None:
    site.link("/", "/old", "/old.txt", "/slow")
    put(site, "/old", "<p>wait", {"Refresh": "0; url=/new"})
    put(site, "/old.txt", "wait", {"Refresh": "3;URL=/new", "Content-Type": "text/plain"})
    put(site, "/slow", "<p>something to read", {"Refresh": "30; url=/new"})
    site.link("/new")
    found = crawled(site.url + "/")
    assert found.outcome(site.url + "/old") == found.outcome(site.url + "/old.txt") == "redirected"
    assert found.outcome(site.url + "/slow") == "fetched"


PAGES = {
    "itself": stub("5"),
    "itself by name": stub("3; url=/page"),
    "its fragment": stub("0; url=#top"),
    "later": stub("6; url=/new"),
    "no web page": stub("0; url=mailto:us@example.com"),
    "for those without scripts": '<script src="/app.js"></script><noscript>'
    '<meta http-equiv="refresh" content="0;url=/new"></noscript><p>Text',
    "a frame that wants its frameset": "<script>if (top == self) location.href = '/new'</script><p>Chapter 1",
    "a button": "<script>function go() { location = '/new' }</script><button onclick='go()'>Go</button>",
    "much text": f"<script>location.href='/new'</script><p>{'many words of a page ' * 20}",
}


@pytest.mark.parametrize("name", PAGES)
def test_other_pages_stay_pages(site: Site, crawled: Crawler, name: str) -> None:
    site.link("/", "/page")
    put(site, "/page", PAGES[name])
    assert crawled(site.url + "/").outcome(site.url + "/page") == "fetched"


def test_refreshes_obey_the_rules_of_redirects(site: Site, crawled: Crawler) -> None:
    site.link("/", "/out", "/a", "/private")
    put(site, "/out", stub("0; url=http://127.0.0.1:9/elsewhere"))
    put(site, "/private", stub("0; url=http://10.0.0.1/"))
    put(site, "/a", stub("0; url=/b"))
    put(site, "/b", stub("0; url=/a"))
    found = crawled(site.url + "/")
    assert found.outcome(site.url + "/out") == "rejected redirect_out_of_scope"
    assert found.outcome(site.url + "/private").startswith("rejected")
    assert found.outcome(site.url + "/b") == "rejected redirect_loop"
    assert site.count("/a") == site.count("/b") == 1


def test_a_chain_of_refreshes_ends(site: Site, crawled: Crawler) -> None:
    site.link("/", "/hop0")
    for hop in range(6):
        put(site, f"/hop{hop}", stub(f"0; url=/hop{hop + 1}"))
    found = crawled(site.url + "/", max_redirects=3)
    assert found.outcome(site.url + "/hop3") == "rejected redirect_loop"


def test_a_start_url_that_refreshes_leads_the_crawl_on(site: Site, crawled: Crawler) -> None:
    put(site, "/", stub("0; url=/docs/5.2/"))
    site.link("/docs/5.2/", "next")
    site.link("/docs/5.2/next")
    found = crawled(site.url + "/")
    assert found.outcome(site.url + "/") == "redirected"
    assert found.outcome(site.url + "/docs/5.2/next") == "fetched"


def test_a_page_has_moved_for_good_where_it_names_the_target_as_its_address(site: Site, crawled: Crawler) -> None:
    site.link("/", "/moved", "/detour")
    put(
        site, "/moved", stub("0; url=/new", head='<link rel="canonical" href="/new"><meta name=robots content=noindex>')
    )
    put(site, "/detour", stub("0; url=/new"))
    site.link("/new")
    found = crawled(site.url + "/")
    assert [found.rows[site.url + path]["status"] for path in ("/moved", "/detour")] == [301, 302]
    assert found.rows[site.url + "/moved"]["message"] == "a meta refresh sends its readers on"
