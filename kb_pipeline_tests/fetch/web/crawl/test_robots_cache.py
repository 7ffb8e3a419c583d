"""What the fetch of robots.txt leads to (RFC 9309, 2.3 to 2.5), as a server sees it: is the page asked for?"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site

TEXT = {"Content-Type": "text/plain"}
FORBIDS = b"User-agent: *\nDisallow: /\n"


def _says(body: bytes, status: int = 200, **page: float) -> Callable[[Site], None]:
    def set_up(site: Site) -> None:
        site.pages["/robots.txt"] = Page(body, status, TEXT, **page)  # type: ignore[arg-type]

    return set_up


def _redirects(hops: int, origin: str = "") -> Callable[[Site], None]:
    def set_up(site: Site) -> None:
        names = ["/robots.txt", *(f"/r{hop}" for hop in range(1, hops + 1))]
        for name, target in pairwise(names):
            site.redirect(name, origin.format(port=site.url.rpartition(":")[2]) + target)
        site.pages[names[-1]] = Page(FORBIDS, headers=TEXT)

    return set_up


OUTCOMES: dict[str, tuple[Callable[[Site], None], str]] = {
    "200 with rules": (_says(FORBIDS), "rejected robots"),
    **{f"{hops} redirects": (_redirects(hops), "rejected robots") for hops in (1, 2, 3, 4, 5)},
    "6 redirects": (_redirects(6), "fetched"),
    "redirect to another host": (_redirects(1, "http://localhost:{port}"), "rejected robots"),
    **{str(status): (_says(FORBIDS, status), "fetched") for status in (400, 401, 403, 404, 410, 429, 451)},
    **{str(status): (_says(b"", status), "failed robots_unreachable") for status in (500, 502, 503, 504)},
    "read timeout": (_says(FORBIDS, hang_s=9), "failed robots_unreachable"),
    "cut off": (_says(FORBIDS + b"#", content_length=99), "failed robots_unreachable"),
    "a rule within 500 KiB of 2 MiB": (_says(b"#\n" * 200_000 + FORBIDS + b"#" * 1_600_000), "rejected robots"),
    "a byte order mark": (_says(b"\xef\xbb\xbf" + FORBIDS), "rejected robots"),
    "garbage among rules": (_says(b"\x00\xff<html>\n:::\n" + FORBIDS + b"what is this\n"), "rejected robots"),
    "a page instead": (_says(b"<!doctype html><title>Not found</title><p>Disallow: nothing"), "fetched"),
}


@contextmanager
def _resetting() -> Iterator[str]:
    """Listen on a port and reset every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        threading.Thread(target=reset, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)


def test_every_outcome_of_the_fetch(crawled: Crawler) -> None:
    with ExitStack() as stack:
        sites = {name: stack.enter_context(running_site()) for name in OUTCOMES}
        for name, (set_up, _) in OUTCOMES.items():
            set_up(sites[name])
            sites[name].link("/")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refused = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        unreachable = [refused, stack.enter_context(_resetting()), "http://no-such-host.invalid/"]
        starts = [*(site.url + "/" for site in sites.values()), *unreachable]
        found = crawled(*starts, retries=0, timeout_s=1.0)
        got = {name: found.outcome(site.url + "/") for name, site in sites.items()}
        assert got == {name: outcome for name, (_, outcome) in OUTCOMES.items()}
        asked = {name for name, site in sites.items() if site.count("/")}
        assert asked == {name for name, (_, outcome) in OUTCOMES.items() if outcome == "fetched"}
        assert {found.outcome(url) for url in unreachable} == {"failed robots_unreachable"}


@pytest.mark.parametrize(
    ("hours", "outcomes"),
    [(23, ["rejected robots", "fetched"]), (25, ["failed robots_unreachable"] * 2)],
)
def test_a_copy_stands_in_for_an_unreachable_file_for_a_day(
    site: Site, crawled: Crawler, hours: float, outcomes: list[str]
) -> None:
    site.link("/", "/private", "/open")
    site.link("/private")
    site.link("/open")
    _says(b"User-agent: *\nDisallow: /private\n")(site)
    crawled(site.url + "/")
    (copy,) = crawled.notes.glob("robots-*.txt")
    os.utime(copy, (time.time() - hours * 3600,) * 2)
    _says(b"", 503)(site)
    crawled.forget()
    found = crawled(site.url + "/private", site.url + "/open", retries=0)
    assert [found.outcome(site.url + path) for path in ("/private", "/open")] == outcomes
    assert site.count("/private") == 0


def test_what_robots_txt_says_now_counts_and_not_what_it_said_before(site: Site, crawled: Crawler) -> None:
    site.link("/")
    _says(b"")(site)
    assert crawled(site.url + "/").outcome(site.url + "/") == "fetched"
    _says(FORBIDS)(site)
    crawled.forget()
    assert crawled(site.url + "/").outcome(site.url + "/") == "rejected robots"
