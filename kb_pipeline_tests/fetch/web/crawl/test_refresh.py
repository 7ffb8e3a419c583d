"""A second crawl: pages of an earlier refresh cost a conditional request each."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kb_pipeline_tests.fetch.web.conftest import Crawler, known_file
from kb_pipeline_tests.fetch.web.site import Hit, Page, Site


def _known(path: Path, *rows: tuple[str, int, str | None, str | None, str]) -> Path:
    names = ("key", "depth", "etag", "last_modified", "sha256")
    return known_file(path, *(dict(zip(names, row, strict=True)) for row in rows))


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_known_pages_are_requested_conditionally(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    def validated(hit: Hit, _: int) -> Page:
        return Page(status=304) if hit.headers.get("If-None-Match") == '"v1"' else Page(b"changed")

    site.link("/", "/same", "/new")
    same = b"<p>no validators, same bytes</p>"
    site.pages["/etag"] = validated
    site.pages["/same"] = Page(same, headers={"Content-Type": "text/html", "ETag": '"fresh"'})
    site.pages["/changed"] = Page(b"<p>other bytes</p><a href='/new'>new</a>")
    site.link("/new")
    known = _known(
        tmp_path / "known.parquet",
        (site.url + "/etag", 3, '"v1"', "Mon, 01 Jan 2024 00:00:00 GMT", "a" * 64),
        (site.url + "/same", 1, '"stale"', None, _sha256(same)),
        (site.url + "/changed", 1, None, None, "b" * 64),
    )
    found = crawled(site.url + "/", known=known)
    etag = found.rows[site.url + "/etag"]
    assert (etag["outcome"], etag["status"], etag["etag"], etag["sha256"]) == ("unchanged", 304, '"v1"', "a" * 64)
    assert etag["depth"] == 3
    row = found.rows[site.url + "/same"]
    assert (row["outcome"], row["etag"], row["body"]) == ("unchanged", '"fresh"', None)
    assert found.outcome(site.url + "/changed") == "fetched"
    assert found.outcome(site.url + "/new") == "fetched"
    asked = next(hit for hit in site.hits if hit.path == "/etag")
    assert asked.headers["If-Modified-Since"] == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert all(site.count(path) == 1 for path in ("/", "/etag", "/same", "/changed", "/new"))
