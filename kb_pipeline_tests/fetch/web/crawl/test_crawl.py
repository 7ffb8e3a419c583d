"""A whole crawl of a real site: what is fetched, what is not, and why."""

from __future__ import annotations

import gzip
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kb_pipeline.errors import ChildCrashed
from kb_pipeline.fetch.web.crawl.journal import read_outcomes
from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site

TEXT = {"Content-Type": "text/plain"}


def test_every_linked_page_is_fetched_once(site: Site, crawled: Crawler) -> None:
    site.link("/", "/a", "/b#part", "/b?utm_source=x", "https://elsewhere.example/", "//elsewhere.example/")
    site.link("/a", "/", "/b", "/c", "http://[bad")
    site.link("/b", headers={"Content-Type": "text/html", "ETag": '"b1"', "Last-Modified": "yesterday"})
    site.link("/c")
    found = crawled(site.url + "/")
    assert {key: row["outcome"] for key, row in found.rows.items()} == {
        site.url + path: "fetched" for path in ("/", "/a", "/b", "/c")
    }
    assert sorted(site.paths()) == ["/", "/a", "/b", "/c", "/robots.txt"]
    b = found.rows[site.url + "/b"]
    assert (b["etag"], b["last_modified"], b["status"], b["depth"]) == ('"b1"', "yesterday", 200, 1)
    assert b["body"] == site.pages["/b"].body  # type: ignore[union-attr]
    assert found.rows[site.url + "/c"]["depth"] == 2
    assert found.summary.out_of_scope == 2
    assert (found.summary.requests, found.summary.finished) == (5, True)
    assert all(hit.headers["User-Agent"] == "kb-test/1.0 (+mailto:test@example.com)" for hit in site.hits)
    assert crawled.progress == sorted(crawled.progress)


def test_modules_of_the_folder_that_somebody_is_in_are_not_run(
    site: Site, crawled: Crawler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "h2", "ada_url"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert crawled(site.url + "/").rows


def test_what_is_rejected_or_failed_has_a_reason(site: Site, crawled: Crawler) -> None:
    paths = "/gone /missing /forbidden /login /teapot /image /big /bomb /short /text /md /untyped /robots-no /out"
    site.link("/", *paths.split(), "/deep/1")
    site.pages["/gone"] = Page(status=410)
    site.pages["/forbidden"] = Page(status=403)
    site.pages["/login"] = Page(status=401)
    site.pages["/teapot"] = Page(status=418)
    site.pages["/image"] = Page(b"x" * 100, headers={"Content-Type": "image/png"})
    site.pages["/big"] = Page(b"x" * 30_000)
    bomb = gzip.compress(b"x" * 10_000_000)
    site.pages["/bomb"] = Page(bomb, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})
    site.pages["/short"] = Page(b"half", content_length=8)
    site.pages["/text"] = Page(b"a text", headers=TEXT)
    site.pages["/md"] = Page(b"# a text", headers={"Content-Type": "text/markdown; charset=utf-8"})
    site.pages["/untyped"] = Page(b"<!DOCTYPE html><p>hello", headers={})
    site.pages["/robots.txt"] = Page(b"User-agent: kb-test\nDisallow: /robots-no", headers=TEXT)
    site.redirect("/out", "http://127.0.0.1:9/elsewhere")
    site.link("/deep/1", "/deep/2")
    site.link("/deep/2", "/deep/3")
    found = crawled(site.url + "/", max_body_bytes=20_000, max_depth=2, retries=1)
    outcomes = {key.removeprefix(site.url): found.outcome(key) for key in found.rows}
    assert outcomes == {
        "/": "fetched",
        "/gone": "rejected not_found",
        "/missing": "rejected not_found",
        "/forbidden": "failed http_403",
        "/login": "failed http_401",
        "/teapot": "failed http_418",
        "/image": "rejected content_type",
        "/big": "rejected too_large",
        "/bomb": "rejected too_large",
        "/short": "failed truncated",
        "/text": "fetched",
        "/md": "fetched",
        "/untyped": "fetched",
        "/robots-no": "rejected robots",
        "/out": "rejected redirect_out_of_scope",
        "/deep/1": "fetched",
        "/deep/2": "fetched",
        "/deep/3": "rejected too_deep",
    }
    assert site.count("/robots-no") == 0
    assert site.count("/short") == 2, "a truncated body is worth a retry"
    assert site.count("/forbidden") == 1, "a refusal is not"
    assert found.summary.reasons["not_found"] == 2


def test_redirects_become_rows_and_loops_end(site: Site, crawled: Crawler) -> None:
    site.link("/", "/old", "/loop", "/self", "/hop0", "/mail")
    site.link("/new")
    site.redirect("/old", "new?utm_source=redirect", 301)
    site.redirect("/loop", "/loop2", 307)
    site.redirect("/loop2", "/loop", 308)
    site.redirect("/self", "/self")
    site.redirect("/mail", "mailto:me@example.com")
    for hop in range(30):
        site.redirect(f"/hop{hop}", f"/hop{hop + 1}")
    found = crawled(site.url + "/", max_redirects=3)
    assert found.outcome(site.url + "/old") == "redirected"
    assert found.rows[site.url + "/old"]["redirect_to"] == site.url + "/new"
    assert found.outcome(site.url + "/new") == "fetched"
    assert found.rows[site.url + "/new"]["depth"] == 1
    assert found.outcome(site.url + "/loop") == "redirected"
    assert found.outcome(site.url + "/loop2") == "rejected redirect_loop"
    assert found.outcome(site.url + "/self") == "rejected redirect_loop"
    assert found.outcome(site.url + "/mail") == "rejected invalid_url"
    assert found.outcome(site.url + "/hop3") == "rejected redirect_loop"
    assert site.url + "/hop4" not in found.rows


def test_a_page_that_stays_broken_fails_and_nothing_else_does(site: Site, crawled: Crawler) -> None:
    site.link("/", "/broken", "/silent", "/slow", "/fine")
    site.link("/fine")
    site.pages["/broken"] = Page(status=502)
    site.pages["/silent"] = Page(b"x", hang_s=30)
    site.pages["/slow"] = Page(b"y" * 1000, chunk_pause_s=0.2)
    found = crawled(site.url + "/", retries=1, timeout_s=0.7, deadline_s=1.5)
    assert found.outcome(site.url + "/broken") == "failed http_502"
    assert found.outcome(site.url + "/silent") == "failed timeout"
    assert found.outcome(site.url + "/slow") == "failed too_slow"
    assert found.outcome(site.url + "/fine") == "fetched"
    assert [site.count(path) for path in ("/broken", "/silent", "/slow")] == [2, 2, 2]


def test_a_host_that_is_not_there(crawled: Crawler) -> None:
    found = crawled("http://127.0.0.1:9/", "https://no-such-host.invalid/", "file:///etc/passwd", retries=0)
    assert found.outcome("http://127.0.0.1:9/") == "failed robots_unreachable"
    assert "refused" in found.rows["http://127.0.0.1:9/"]["message"]
    assert found.outcome("https://no-such-host.invalid/") == "failed robots_unreachable"
    assert found.outcome("file:///etc/passwd") == "rejected invalid_url"
    assert found.summary.finished


@pytest.mark.upgrade("scrapy")
def test_a_server_that_ends_each_connection_without_saying_so_is_asked_once_for_each_page(crawled: Crawler) -> None:
    asked: Counter[str] = Counter()

    class OldServer(BaseHTTPRequestHandler):
        """Speaks HTTP/1.0, as Python's does by default."""

        def do_GET(self) -> None:
            asked[self.path] += 1
            links = "".join(f'<a href="/{number}">{number}</a>' for number in range(200)) if self.path == "/" else ""
            chance = random.Random(self.path)  # every page has words of its own
            words = " ".join("".join(chance.choices("abcdefghij", k=8)) for _ in range(20))
            body = f"<p>{words}</p>{links}".encode()
            self.send_response(404 if self.path == "/robots.txt" else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), OldServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        found = crawled(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert found.summary.outcomes == {"fetched": 201}
    assert found.summary.requests == asked.total() == 202, "no request went into a connection that was over"


def test_a_crash_of_the_child_is_reported_with_its_words(tmp_path: Path, site: Site, crawled: Crawler) -> None:
    site.link("/")
    broken = tmp_path / "known.parquet"
    broken.write_bytes(b"this is not parquet")
    with pytest.raises(ChildCrashed, match=r"(?i)parquet") as caught:
        crawled(site.url + "/", known=broken)
    assert caught.value.transient
    assert read_outcomes(crawled.journal).num_rows == 0
