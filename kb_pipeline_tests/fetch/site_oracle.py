"""What the documents of a home must be after a refresh, computed from the history of the site alone.

A document ends on proof only: 404, noindex, robots.txt, the file's globs, limits and erasures, a permanent redirect
whose target gave bytes, an edit of the file after which nothing leads to it. What fails in any other way, and what the
site does not link to any more, keeps its last good bytes. All else is as in a home that begins today.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from kb_pipeline.fetch.web.crawl.scope import compile_glob
from kb_pipeline_tests.fetch.site_model import (
    EMPTY,
    FAILING,
    GONE,
    LENT,
    LIARS,
    MOVED,
    NOINDEX,
    NOINDEX_HEADER,
    PAGE,
    PARSED,
    File,
    Page,
    World,
)

_MAX_HOPS = 10
_NOWHERE = 10**6
"""The depth of what no link leads to."""
WHOLE = 20
"""A max_depth that cuts nothing off."""


@dataclass(frozen=True)
class Memory:
    """What a home knows before a refresh."""

    held: Mapping[str, Page]
    """The pages whose last good bytes it has, as they were when these came."""
    waiting: frozenset[str] = frozenset()
    """Paths that the server refused or failed to give, which this refresh may leave alone for a while."""
    file: File | None = None
    """The file of the last refresh that saw all that names pages."""
    orphans: frozenset[str] = frozenset()
    """The stored pages that nothing led to then."""
    targets: frozenset[str] = frozenset()
    """Where pages have redirected to; one that fails since may go on leading there."""


FRESH = Memory({})


@dataclass(frozen=True)
class Expected:
    """What the documents must be, copies included: each path with the pages whose text it may have."""

    must: Mapping[str, tuple[Page, ...]]
    may: Mapping[str, tuple[Page, ...]]
    """Those about which the semantics say nothing: kept ones whose proof of absence is doubtful, what only pages lead
    to that nothing leads to, what waits."""
    pages: tuple[int, int] | None
    """The least and greatest number of pages that answer, where max_pages cuts the site: which ones is left open."""
    known: frozenset[str]
    """All paths that the home can have met."""
    as_today: frozenset[str]
    """The paths that are as far away as in a home that begins today."""
    orphans: frozenset[str]
    """The paths of stored pages that nothing leads to."""
    is_whole: bool
    """Whether all that names pages can be read."""


def expected(world: World, memory: Memory) -> Expected:
    """Return what a refresh of a home with this memory must lead to."""
    judge = _Judge(world, memory)
    paths = sorted({*judge.today, *judge.stored, *judge.loose, *memory.held})
    must = {path: texts for path in paths if (texts := judge.must(path))}
    may = {path: texts for path in paths if path not in must and (texts := judge.may(path))}
    most = world.file.max_pages
    answering = [sum(world.answer(path) == PAGE for path in found) for found in (must, may)]
    # Stored pages have places among max_pages, and so have those that turn out to be empty only when they are read.
    empty = sum(world.answer(path) == EMPTY and _is_allowed(path, world) for path in judge.loose)
    failing = len(must) + len(may) - sum(answering) + empty
    least = max(0, min(most - failing, answering[0]))
    pages = None if sum(answering) + failing <= most else (least, most)
    if pages:
        must, may = {}, {**must, **may}
    # A lying server hides from this home what a new one would read.
    today = _depths(world, FRESH, [(path, 0) for path in world.file.start], knows_stored=False)
    as_today = frozenset(path for path in judge.loose if today[path] == judge.today[path] == judge.stored[path])
    unlinked = frozenset(path for path in memory.held if judge.today[path] == judge.stored[path] == _NOWHERE)
    return Expected(must, may, pages, frozenset(judge.loose), as_today, unlinked, judge.is_whole)


class _Judge:
    """Judges every path of one moment."""

    def __init__(self, world: World, memory: Memory) -> None:
        self._world, self._memory = world, memory
        starts = [(path, 0) for path in world.file.start]
        held = [(path, 0) for path in (*memory.held, *memory.targets)]
        self.today = _depths(world, memory, starts, knows_stored=False)
        """The depths in a home that begins today."""
        self.stored = _depths(world, memory, starts, knows_stored=True)
        """The depths by all links that this home knows: those of stored pages that fail, or are too deep, too."""
        self.lent = _depths(world, memory, starts, knows_stored=True, knows_lent=True)
        """The same with the links of stored pages that redirect now, which may count or not."""
        self.loose = _depths(world, memory, [*starts, *held], knows_stored=True, knows_lent=True)
        """What can be found at all by a home with these pages."""
        self.asked = _depths(world, memory, starts, knows_stored=False, without=memory.waiting)
        """The depths if nothing is asked for that may wait."""
        pages = {**world.site.pages, **memory.held}
        before = replace(world, site=replace(world.site, pages=pages))
        self.earlier = _depths(before, memory, starts, knows_stored=True, knows_lent=True)
        """The depths by the links as they were: what the site alone does not link to any more is kept."""
        self.is_whole = not (world.site.sitemap_fails and world.file.sitemap == "auto") and all(
            world.answer(path) in PARSED and not _is_robots_forbidden(path, world) for path in world.file.start
        )

    @property
    def orphans(self) -> frozenset[str]:
        """The paths of stored pages that nothing leads to."""
        depths = {path: min(self.today[path], self.stored[path], self.lent[path]) for path in self._memory.held}
        return frozenset(path for path, depth in depths.items() if depth == _NOWHERE)

    def must(self, path: str) -> tuple[Page, ...]:
        """Return the texts one of which a path must have as a document; none if it need not be one."""
        world, held = self._world, self._memory.held.get(path)
        if path in self._memory.waiting or not _is_allowed(path, world):
            return ()
        if world.answer(path) == PAGE and self.today[path] <= world.file.max_depth:
            is_asked = self.asked[path] <= world.file.max_depth
            return (_seen(world.site.pages[path], held),) if held or is_asked else ()
        return (self._kept(path),) if held and self._is_kept(path) else ()

    def may(self, path: str) -> tuple[Page, ...]:
        """Return the texts that a path may have as a document."""
        world, held = self._world, self._memory.held.get(path)
        if not _is_allowed(path, world):
            return ()
        # What fails, or was erased, may lead on where it led once; what robots.txt cuts off is no doing of the file.
        fails = any(world.answer(each) in FAILING for each in self.loose)
        fails = fails or bool(world.site.forbidden or world.file.erased)
        is_cut_off = self._is_cut_off(path) and self.earlier[path] == _NOWHERE and not fails
        if self.is_whole and (self._is_too_deep(path) or is_cut_off):
            return ()
        is_page = world.answer(path) == PAGE and path in self.loose
        now = (_seen(world.site.pages[path], held), world.site.pages[path]) if is_page else ()
        is_ended = world.answer(path) in (GONE, NOINDEX, NOINDEX_HEADER) or self._has_moved(path)
        if held is None or (is_ended and path not in self._memory.waiting):
            return now
        return (*now, held)

    def _kept(self, path: str) -> Page:
        held = self._memory.held[path]
        return _seen(self._world.site.pages[path], held) if self._world.answer(path) == PAGE else held

    def _is_kept(self, path: str) -> bool:
        """Return whether nothing proves that a page is gone whose bytes are held."""
        answer = self._world.answer(path)
        if answer in (GONE, NOINDEX, NOINDEX_HEADER) or (answer == MOVED and not self._is_lost(path)):
            return False
        if min(self.lent[path], self.today[path]) != min(self.stored[path], self.today[path]):
            return False
        if path in self.orphans and self._world.file.max_depth < WHOLE:
            return False  # it may count by the depth that it had
        return not (self._is_too_deep(path) or self._is_cut_off(path))

    def _is_too_deep(self, path: str) -> bool:
        nearest = min(self.today[path], self.stored[path], self.lent[path])
        return self._world.file.max_depth < nearest < _NOWHERE

    def _is_cut_off(self, path: str) -> bool:
        """Return whether the edited file, not the site, took away the last link to a path."""
        before, now = self._memory.file, self._world.file
        is_edited = before is not None and any(
            getattr(before, name) != getattr(now, name) for name in ("start", "include", "exclude", "sitemap")
        )
        return is_edited and path in self.orphans and path not in self._memory.orphans

    def _is_lost(self, path: str) -> bool:
        """Return whether a redirect certainly leads to what gives no bytes."""
        end = _end(path, self._world)
        return end is None or self._world.answer(end) not in PARSED

    def _has_moved(self, path: str) -> bool:
        """Return whether a permanent redirect certainly leads to a document."""
        end = _end(path, self._world) if self._world.answer(path) == MOVED else None
        if end is None or not _is_allowed(end, self._world) or end in self._memory.waiting:
            return False
        return self._world.answer(end) == PAGE and self.today[end] <= self._world.file.max_depth


def _seen(page: Page, held: Page | None) -> Page:
    """Return the page whose text and links a home has after asking: a lying server says that nothing changed."""
    return held if held is not None and page.validators in LIARS and page.answer == PAGE else page


def _end(path: str, world: World) -> str | None:
    """Return where the redirects of a page end; None if they lead in a circle."""
    chain = [path]
    while len(chain) <= _MAX_HOPS:
        page = world.site.pages.get(chain[-1])
        if page is None or page.answer not in (MOVED, LENT):
            return chain[-1]
        if page.target in chain:
            return None
        chain.append(page.target)
    return None


def _is_allowed(path: str, world: World) -> bool:
    """Return whether neither robots.txt nor the file forbid a path."""
    included = not world.file.include or _matches(world.file.include, path)
    return included and not _is_forbidden(path, world)


def _is_forbidden(path: str, world: World) -> bool:
    """Return whether not even the links of a start page may be read."""
    return path in world.file.erased or _is_robots_forbidden(path, world) or _matches(world.file.exclude, path)


def _is_robots_forbidden(path: str, world: World) -> bool:
    return path.startswith(tuple(world.site.forbidden))


def _matches(globs: Iterable[str], path: str) -> bool:
    return any(compile_glob(glob).fullmatch(path) for glob in globs)


class _Depths(dict[str, int]):
    """The least number of links from a start URL to each path."""

    def __missing__(self, path: str) -> int:
        return _NOWHERE


def _depths(
    world: World,
    memory: Memory,
    starts: Iterable[tuple[str, int]],
    *,
    knows_stored: bool,
    knows_lent: bool = False,
    without: Collection[str] = (),
) -> _Depths:
    """Return the least depth of each path.

    Args:
        world: the site as it is now, and the rules; what these forbid leads nowhere.
        memory: of the home.
        starts: where to begin.
        knows_stored: whether pages that fail now, or are too deep now, lead where they led when their bytes came.
        knows_lent: whether pages that redirect now do so too.
        without: paths that are not asked for.
    """
    site, file = world.site, world.file
    in_sitemap = () if file.sitemap == "off" or site.sitemap_fails else sorted(site.sitemap)
    is_start = set(file.start)
    by_depth: dict[int, deque[str]] = {}
    for path, depth in (*starts, *((path, min(1, file.max_depth)) for path in in_sitemap)):
        by_depth.setdefault(depth, deque()).append(path)
    depths = _Depths()
    depth = 0
    while depth <= max(by_depth):
        here = by_depth.get(depth, deque())
        while here:
            path = here.popleft()
            if path in depths:
                continue
            depths[path] = depth
            held = memory.held.get(path) if knows_stored else None
            if path in without or _is_forbidden(path, world) or (depth > file.max_depth and held is None):
                continue
            if not _is_allowed(path, world) and path not in is_start:
                continue
            page = site.pages.get(path)
            if page is not None and page.answer in (MOVED, LENT):
                here.append(page.target)
                is_start |= {page.target} if path in is_start else set()
            if page is not None and page.answer in (MOVED, LENT) and not knows_lent:
                held = None
            by_depth.setdefault(depth + 1, deque()).extend(_links(page, memory.held.get(path), held))
        depth += 1
    return depths


def _links(page: Page | None, held: Page | None, stored: Page | None) -> tuple[str, ...]:
    if page is None or page.answer == GONE:
        return ()
    read = _seen(page, held) if page.answer in PARSED else stored
    if read is None:
        return ()
    return (*read.links, read.canonical) if read.canonical else read.links
