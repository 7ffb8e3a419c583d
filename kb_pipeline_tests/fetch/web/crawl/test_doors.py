"""Sites that answer only who brings back the cookie they gave."""

from __future__ import annotations

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Hit, Page, Response, Site


def door(target: str, page: Page, cookie: str = "seen=1; Path=/; Expires=Wed, 01 Jan 2098 00:00:00 GMT") -> Response:
    """Redirect there with a cookie until it comes back."""

    def answer(hit: Hit, _: int) -> Page:
        came = "seen=1" in hit.headers.get("Cookie", "")
        return page if came else Page(status=302, headers={"Location": target, "Set-Cookie": cookie})

    return answer


def text(words: str) -> Page:
    return Page(f"<html><body><p>{words}</body></html>".encode())


def test_a_page_behind_a_redirect_to_itself_is_fetched_and_the_door_stays_open(site: Site, crawled: Crawler) -> None:
    site.link("/", "/members", "/more")
    site.pages["/members"] = door("/members", text("of the club"))
    found = crawled(site.url + "/", concurrency=1)
    assert found.outcome(site.url + "/members") == "fetched"
    assert found.rows[site.url + "/members"]["attempts"] == 2
    later = [hit for hit in site.hits if hit.path == "/more"]
    assert [hit.headers.get("Cookie") for hit in later] == ["seen=1"]


def test_a_page_behind_a_door_at_another_address_is_fetched(site: Site, crawled: Crawler) -> None:
    site.link("/", "/news")
    site.pages["/news"] = door("/consent?to=/news", text("of the day"), "asked=1")
    site.pages["/consent?to=/news"] = Page(status=303, headers={"Location": "/news", "Set-Cookie": "seen=1; Path=/"})
    assert crawled(site.url + "/").outcome(site.url + "/news") == "fetched"


def test_a_redirect_with_a_cookie_that_leads_elsewhere_is_a_redirect(site: Site, crawled: Crawler) -> None:
    pages = [f"/old{number}" for number in range(10)]
    site.link("/", *pages)
    for path in pages:
        site.pages[path] = door("/new", text("never"))
    site.link("/new")
    found = crawled(site.url + "/")
    assert {found.outcome(site.url + path) for path in pages} == {"redirected"}
    assert site.count("/new") == 4, "three tries, and the page itself"
    assert not any("Cookie" in hit.headers for hit in site.hits if hit.path in pages)


def test_a_door_that_never_opens_is_a_loop_and_is_left_alone(site: Site, crawled: Crawler) -> None:
    site.link("/", "/closed")
    site.pages["/closed"] = Page(status=302, headers={"Location": "/closed", "Set-Cookie": "other=1"})
    assert crawled(site.url + "/").outcome(site.url + "/closed") == "rejected redirect_loop"
    assert site.count("/closed") <= 6


def test_cookies_stay_with_their_origin_and_robots_are_heeded(site: Site, crawled: Crawler) -> None:
    site.pages["/robots.txt"] = Page(b"User-agent: *\nDisallow: /consent", headers={"Content-Type": "text/plain"})
    site.link("/", "/news", "/out")
    site.pages["/news"] = door("/consent", text("of the day"), "asked=1")
    site.pages["/out"] = door("http://127.0.0.2:9/", text("of others"))
    found = crawled(site.url + "/")
    assert found.outcome(site.url + "/news") == "redirected"
    assert found.outcome(site.url + "/out") == "rejected redirect_out_of_scope"
    assert site.count("/consent") == 0
