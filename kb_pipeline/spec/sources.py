"""What a KB file says of a source, one class for each type."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from kb_pipeline.spec.yaml_file import Slug, Strict, read_off

_MAX_WILDCARDS = 8
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("allowed are absolute http:// and https:// URLs")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a user name or password")
    _ = parts.port  # raises ValueError when out of range
    return url


HttpUrl = Annotated[str, Field(max_length=2000), AfterValidator(_check_url)]


class CrawlLimits(Strict):
    """How much of a site is too much; what is left out has a reason code of its own."""

    body_mb: Annotated[float, Field(gt=0, le=1000)] = 20
    """The most MiB of one page, as sent and decompressed."""
    links_per_page: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    per_directory: Annotated[int, Field(ge=1)] = 10_000
    """Visits to URLs of one folder that lead to nothing new; folders that differ in numbers count as one."""
    per_query_pattern: Annotated[int, Field(ge=1)] = 1_000
    """Visits to URLs of one path with the same names of parameters that lead to nothing new."""
    path_segments: Annotated[int, Field(ge=1, le=1000)] = 20
    repetitive_pages: Annotated[int, Field(ge=1)] = 100
    """Visits to one host that lead to nothing new, where news raises it; one pattern may have about an eighth."""


class WebSource(Strict):
    """A web site, crawled from its start URLs and sitemaps."""

    name: Slug
    type: Literal["web"]
    start_urls: Annotated[list[HttpUrl], Field(min_length=1, max_length=1000)]
    sitemap: Annotated[Literal["auto", "off"] | list[HttpUrl], BeforeValidator(read_off)] = "auto"
    scope: Literal["host", "domain", "prefix"] = "host"
    include: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)
    max_pages: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    max_depth: Annotated[int, Field(ge=0, le=100)] = 5
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 1.0
    trust_lastmod: bool = False
    """Whether a page is skipped when its sitemap gives the lastmod of the time it was last asked for."""
    render: Literal["never", "auto", "always"] = "never"
    """Whether pages are opened in a browser that runs their scripts: those without a text of their own, or all."""
    views: Literal["skip", "keep"] = "skip"
    """Whether pages that only show another page's content in another way (order, selection, print) and forms to log in,
    reply or edit are left out, or are documents like any other."""
    limits: CrawlLimits = CrawlLimits()


def _check_root(root: str) -> str:
    if _SCHEME.match(root) or root == "uploads":
        raise ValueError("only folders of this machine can be read so far: give the absolute path of one")
    if not root.startswith("/") or "\0" in root or ".." in PurePosixPath(root).parts:
        raise ValueError("allowed is the absolute path of a folder, without '..'")
    return root


def _check_path_glob(glob: str) -> str:
    parts = glob.split("/")
    if glob.startswith("/") or {"", ".", ".."} & set(parts) or "\0" in glob:
        raise ValueError("allowed are paths relative to root, without '.' and '..', as in manuals/**/*.md")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("use ** alone between slashes for any folders, and * for any part of one name")
    if glob.count("*") - glob.count("**") + glob.count("?") > _MAX_WILDCARDS:
        raise ValueError(f"at most {_MAX_WILDCARDS} wildcards")
    return glob


PathGlob = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_path_glob)]


class FilesSource(Strict):
    """Files beneath a folder of the machine that fetches."""

    name: Slug
    type: Literal["files"]
    root: Annotated[str, Field(max_length=4000), AfterValidator(_check_root)]
    paths: Annotated[list[PathGlob], Field(min_length=1, max_length=1000)]
    """Globs relative to root: `**` for any folders, `*` and `?` within a name; hidden names only where they are written
    with their dot."""
    exclude: Annotated[list[PathGlob], Field(max_length=1000)] = Field(default_factory=list)
    max_files: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    max_file_mb: Annotated[float, Field(gt=0, le=1000)] = 20
    """The most MiB of one file."""


Source = Annotated[WebSource | FilesSource, Field(discriminator="type")]
SourceType = Literal["web", "files"]
