"""A site and its KB file as values, the random steps that change them, and what the site answers at each moment."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from kb_pipeline.fetch.web.http.client import Request
from kb_pipeline_tests.fetch.web.scripted import SITE, Answer

PAGE, NOINDEX, NOINDEX_HEADER = "page", "noindex", "noindex_header"
GONE, ERROR, EMPTY, IMAGE, LOGIN, MOVED, LENT = "gone", "error", "empty", "image", "login", "moved", "lent"
"""What an address answers: its text; its text, but not to be kept; 404; 500; nothing; a picture; 403; 301; 302."""
ANSWERS = (GONE, ERROR, EMPTY, IMAGE, LOGIN, NOINDEX, NOINDEX_HEADER)
FAILING = (ERROR, EMPTY, IMAGE, LOGIN)
PARSED = (PAGE, NOINDEX, NOINDEX_HEADER)
"""Answers whose links lead on."""
NONE, HONEST, RESTLESS, LYING_ETAG, LYING_DATE = "none", "honest", "restless", "lying_etag", "lying_date"
LIARS = (LYING_ETAG, LYING_DATE)
VALIDATORS = (NONE, HONEST, RESTLESS, *LIARS)
"""There are none; they follow the text; they are new with each response; 304 whatever changed, by ETag or by date."""
FOLDERS = ("/a/", "/b/", "/c/")
_WORDS = 60


@dataclass(frozen=True)
class Page:
    """One page as its author left it."""

    text: tuple[str, int]
    """Whose text it is, and how often that was edited: two pages with the same one are copies."""
    links: tuple[str, ...] = ()
    answer: str = PAGE
    target: str = ""
    """Where it redirects to."""
    canonical: str = ""
    validators: str = HONEST

    @property
    def marker(self) -> str:
        """A word that no other text has."""
        return "m" + hashlib.sha256(repr(self.text).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Site:
    """All that a site answers with, by path."""

    pages: Mapping[str, Page]
    forbidden: frozenset[str] = frozenset()
    """Folders that robots.txt forbids."""
    sitemap: frozenset[str] = frozenset()
    sitemap_fails: bool = False

    def with_page(self, path: str, **changes: Any) -> Site:
        """Return the site with one page changed."""
        return replace(self, pages={**self.pages, path: replace(self.pages[path], **changes)})


@dataclass(frozen=True)
class File:
    """What the KB file says of the source."""

    start: tuple[str, ...] = ("/",)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_pages: int = 1000
    max_depth: int = 20
    sitemap: str = "auto"
    erased: tuple[str, ...] = ()
    """Paths."""


@dataclass(frozen=True)
class Step:
    """One thing that happens: to the site, to the file, or a refresh."""

    kind: str
    path: str = ""
    value: Any = None

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.path, self.value) if part not in ("", None))


@dataclass(frozen=True)
class World:
    """The site and the file at one moment."""

    site: Site
    file: File = field(default_factory=File)

    def answer(self, path: str) -> str:
        """Return what a path answers."""
        page = self.site.pages.get(path)
        return GONE if page is None else page.answer

    def after(self, step: Step) -> World:
        """Return the world after a step; one that means nothing, since an earlier one was left out, does nothing."""
        if step.kind == "file":
            return replace(self, file=replace(self.file, **{step.path: step.value}))
        if step.kind in _SITE_STEPS:
            return replace(self, site=replace(self.site, **{step.kind: step.value}))
        if step.kind == "publish":
            page = Page((step.path, 0), links=("/",))
            return replace(self, site=replace(self.site, pages={**self.site.pages, step.path: page}))
        known = step.path in self.site.pages
        return replace(self, site=self.site.with_page(step.path, **_changes(self.site, step))) if known else self


_SITE_STEPS = ("forbidden", "sitemap", "sitemap_fails")


def _changes(site: Site, step: Step) -> dict[str, Any]:
    page = site.pages[step.path]
    if step.kind == "edit":
        return {"text": (step.path, step.value)}
    if step.kind in ("link", "unlink"):
        others = tuple(link for link in page.links if link != step.value)
        return {"links": (*others, step.value) if step.kind == "link" else others}
    if step.kind in (MOVED, LENT):
        return {"answer": step.kind, "target": step.value}
    if step.kind == "copy":
        return {"text": site.pages[step.value].text} if step.value in site.pages else {}
    return {step.kind: step.value}  # answer, canonical, validators


def planted(seed: int) -> World:
    """Return a site of eight to twenty pages: a tree with more links across it, and links to pages not there yet."""
    dice = random.Random(seed)
    paths = ["/"] + [f"{dice.choice(FOLDERS)}{number}" for number in range(1, dice.randint(8, 20))]
    links: dict[str, list[str]] = {path: [] for path in paths}
    for number, path in enumerate(paths[1:], start=1):
        links[paths[dice.randrange(max(0, number - 4), number)]].append(path)
    for _ in range(len(paths) // 2):
        links[dice.choice(paths)].append(dice.choice(paths))
    for _ in range(2):
        links[dice.choice(paths)].append(f"{dice.choice(FOLDERS)}{dice.randint(90, 93)}")
    validators = [*VALIDATORS, HONEST, HONEST]
    pages = {
        path: Page((path, 0), tuple(dict.fromkeys(links[path])), validators=dice.choice(validators)) for path in paths
    }
    sitemap = frozenset(dice.sample(paths, 3)) if dice.random() < 0.4 else frozenset()
    return World(Site(MappingProxyType(pages), sitemap=sitemap))


def steps(seed: int, refreshes: int, world: World) -> Iterator[Step]:
    """Yield random steps, with so many refreshes among them."""
    dice, left = random.Random(seed + 1), refreshes
    yield Step("refresh", value="retry")
    while left:
        for _ in range(dice.randint(0, 3)):
            step = _step(dice, world)
            world = world.after(step)
            yield step
        left -= 1
        if dice.random() < 0.15:
            how = dice.choice(("stop", "kill", "failpoint"))
            yield Step("killed", value=(how, dice.randint(1, 8 if how == "failpoint" else 15)))
        yield Step("refresh", value="retry" if dice.random() < 0.7 else "")


def _step(dice: random.Random, world: World) -> Step:
    site, file = world.site, world.file
    paths = sorted(site.pages)
    path, other = dice.choice(paths), dice.choice(paths)
    inner = dice.choice(paths[1:])
    folder = dice.choice(FOLDERS)
    choices = [
        (6, Step("edit", path, dice.randint(1, 10**6))),
        (5, Step("link", path, other)),
        (4, Step("unlink", path, dice.choice(site.pages[path].links or ("/",)))),
        (6, Step("answer", inner, dice.choice(ANSWERS))),
        (8, Step("answer", _broken(dice, site) or inner, PAGE)),
        (3, Step(MOVED, inner, other)),
        (2, Step(LENT, inner, other)),
        (3, Step("copy", inner, other)),
        (2, Step("canonical", inner, other)),
        (2, Step("validators", path, dice.choice(VALIDATORS))),
        (3, Step("publish", dice.choice(sorted(_unpublished(site)) or [f"{folder}{dice.randint(20, 60)}"]))),
        (2, Step("link", path, f"{folder}{dice.randint(90, 93)}")),
        (3, Step("forbidden", value=site.forbidden ^ {folder})),
        (3, Step("sitemap", value=site.sitemap ^ {inner})),
        (1, Step("sitemap_fails", value=not site.sitemap_fails)),
        (1, Step("answer", "/", ERROR)),
        (3, Step("file", "exclude", () if file.exclude else (f"{folder}**",))),
        (2, Step("file", "include", () if file.include else ("/", "/a/**", "/b/**"))),
        (4, Step("file", "max_depth", dice.choice((1, 2, 3, 20, 20)))),
        (3, Step("file", "max_pages", dice.choice((3, 6, 1000, 1000)))),
        (2, Step("file", "start", ("/",) if len(file.start) > 1 else ("/", inner))),
        (1, Step("file", "sitemap", "off" if file.sitemap == "auto" else "auto")),
        (2, Step("file", "erased", () if file.erased else (inner,))),
    ]
    return dice.choices([step for _, step in choices], [weight for weight, _ in choices])[0]


def _broken(dice: random.Random, site: Site) -> str:
    broken = sorted(path for path, page in site.pages.items() if page.answer != PAGE)
    return dice.choice(broken) if broken else ""


def _unpublished(site: Site) -> set[str]:
    return {link for page in site.pages.values() for link in page.links} - set(site.pages)


class Server:
    """Answers requests as the site does now."""

    def __init__(self, url: str = SITE) -> None:
        self.url, self.site = url, Site({})
        self._answered = 0

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        self._answered += 1
        path = request.url.removeprefix(self.url)
        if path == "/robots.txt":
            lines = ["User-agent: *", *(f"Disallow: {folder}" for folder in sorted(self.site.forbidden))]
            return Answer("\n".join(lines).encode(), headers={"content-type": "text/plain"})
        if path == "/sitemap.xml":
            return self._sitemap()
        page = self.site.pages.get(path)
        return Answer(status=404) if page is None else _answer(page, request, self._answered)

    def _sitemap(self) -> Answer:
        if self.site.sitemap_fails:
            return Answer(status=500)
        if not self.site.sitemap:
            return Answer(status=404)
        named = "".join(f"<url><loc>{self.url}{path}</loc></url>" for path in sorted(self.site.sitemap))
        return Answer(f"<urlset>{named}</urlset>".encode(), headers={"content-type": "text/xml"})


def _answer(page: Page, request: Request, number: int) -> Answer:
    if page.answer in (MOVED, LENT):
        return Answer(status=301 if page.answer == MOVED else 302, headers={"location": page.target})
    if page.answer in _STATUS:
        return Answer(b"<html><body><p>An accident.</p>", _STATUS[page.answer])
    if page.answer == EMPTY:
        return Answer(b"<html><body></body></html>")
    if page.answer == IMAGE:
        return Answer(b"\x89PNG", headers={"content-type": "image/png"})
    body = _html(page)
    validator = _validator(page.validators, body, number)
    headers = {"content-type": "text/html", **validator}
    if page.answer == NOINDEX_HEADER:
        headers["x-robots-tag"] = "noindex"
    asked = request.headers.get("If-None-Match", "") or request.headers.get("If-Modified-Since", "")
    if asked and page.answer == PAGE and (page.validators in LIARS or asked == validator.get("etag")):
        return Answer(status=304, headers=headers)
    return Answer(body, headers=headers)


def _validator(kind: str, body: bytes, number: int) -> dict[str, str]:
    if kind == LYING_DATE:
        return {"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    value = {LYING_ETAG: "always", HONEST: hashlib.sha256(body).hexdigest(), RESTLESS: str(number), NONE: ""}[kind]
    return {"etag": f'"{value}"'} if value else {}


_STATUS = {GONE: 404, ERROR: 500, LOGIN: 403}


def html_sha256(page: Page) -> str:
    """Return the hash of a page's bytes."""
    return hashlib.sha256(_html(page)).hexdigest()


def _html(page: Page) -> bytes:
    dice = random.Random(page.marker)
    words = [_word(dice) for _ in range(_WORDS)]
    sentences = [" ".join(words[at : at + 12]).capitalize() + "." for at in range(0, _WORDS, 12)]
    head = '<meta name="robots" content="noindex">' if page.answer == NOINDEX else ""
    if page.canonical:
        head += f'<link rel="canonical" href="{page.canonical}">'
    links = "".join(f'<li><a href="{link}">{link}</a></li>' for link in page.links)
    title = f"{words[0]} {words[1]}".title()
    return (
        f"<html><head><title>{title}</title>{head}</head><body><nav><ul>{links}</ul></nav>"
        f"<main><h1>{title}</h1><p>{page.marker} {sentences[0]}</p><p>{' '.join(sentences[1:])}</p></main>"
        "</body></html>"
    ).encode()


def _word(dice: random.Random) -> str:
    return "".join(dice.choice("bdfglmnprstv") + dice.choice("aeiou") for _ in range(dice.randint(2, 4)))
