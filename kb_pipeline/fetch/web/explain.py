"""Says how a URL is met and what each rule decides about it, from what is stored: no request is made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from kb_pipeline.fetch.source import Decision, KeyView, Traces
from kb_pipeline.fetch.web.crawl.robots_cache import StoredRobots
from kb_pipeline.fetch.web.crawl.scope import PathFilter, Scope
from kb_pipeline.fetch.web.crawl.sessions import SESSIONS_FILE, Sessions
from kb_pipeline.fetch.web.crawl.traps import TRAPS_FILE, TrapFilter
from kb_pipeline.fetch.web.http.ssrf_guard import literal_refusal
from kb_pipeline.fetch.web.link_graph import LinkGraph
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.store.paths import LINKS_FILE
from kb_pipeline.urls import canonical_url, hostname_of, netloc_of, origin_of, path_of

_MOST_HOPS = 10
_LIMIT_OF = {
    "path_repetition": "limits.repetitive_pages", "repetitive": "limits.repetitive_pages",
    "query_limit": "limits.per_query_pattern", "directory_limit": "limits.per_directory",
}  # fmt: skip
"""By reason code, the limit that pages of one form without news come to first."""


def explain_url(rules: CrawlRules, url: str, traces: Traces) -> KeyView:
    """Return how a canonical URL is met and what the rules of a crawl decide about it, in their order."""
    starts = [start for start in map(canonical_url, rules.start_urls) if start]
    graph = LinkGraph.read(traces.notes / LINKS_FILE)
    chain = graph.path_to(url, starts) or ([url] if url in starts else [])
    depth = graph.distances(dict.fromkeys(starts, 0)).of(url) if chain else None
    linked_from = graph.linked_from(url)
    decisions = (
        *_spelling(url, traces),
        *_place(rules, url, traces),
        *_globs(rules, url),
        *_form(rules, url),
        *(() if traces.has_bytes or url in starts else _traps(rules, url, traces)),
        *_depth(rules, depth, linked_from),
        *_robots(rules, url, traces),
        *_pages(rules, traces),
    )
    return KeyView(decisions, tuple(chain), tuple(linked_from), depth)


def _spelling(url: str, traces: Traces) -> Iterator[Decision]:
    if (first := Sessions(traces.notes / SESSIONS_FILE).spelling(url)) != url:
        yield Decision("session", False, f"it differs only in a session from {first}, which stands for it")


def _place(rules: CrawlRules, url: str, traces: Traces) -> Iterator[Decision]:
    scope = Scope(rules)
    for start in rules.start_urls:
        for target in _redirects_from(canonical_url(start) or start, traces):
            scope.admit(target)
    covers, where = scope.covers(url), f"scope: {rules.scope}"
    said = f"{where} covers {netloc_of(url)}" if covers else f"{where} of the start URLs does not cover it"
    yield Decision("scope", covers, said, None if covers else "out_of_scope", ("scope",))
    if why := literal_refusal(hostname_of(url), rules.allowed_networks):
        yield Decision("address", False, why, "blocked_address")


def _redirects_from(url: str, traces: Traces) -> Iterator[str]:
    """Yield where a start URL led to: places that the scope has beside its own."""
    for _ in range(_MOST_HOPS):
        target = traces.redirects(url)
        if target is None:
            return
        yield target
        url = target


def _globs(rules: CrawlRules, url: str) -> Iterator[Decision]:
    found = PathFilter(rules.include, rules.exclude).deciding_glob(url)
    if found is None:
        return
    field, number = found
    if field == "exclude":
        yield Decision("exclude", False, "a glob leaves it out", "excluded", ("exclude", number or 0))
    elif number is None:
        yield Decision("include", False, "no glob of include matches it", "excluded", ("include",))
    else:
        yield Decision("include", True, "a glob matches it", place=("include", number))


def _form(rules: CrawlRules, url: str) -> Iterator[Decision]:
    segments, most = path_of(url).partition("?")[0].count("/"), rules.limits.path_segments
    if segments > most:
        said = f"its path has {segments} segments, more than {most}"
        yield Decision("limits.path_segments", False, said, "path_too_long", ("limits", "path_segments"))


def _traps(rules: CrawlRules, url: str, traces: Traces) -> Iterator[Decision]:
    traps = TrapFilter(rules.limits, lambda *_: False, traces.notes / TRAPS_FILE)
    if pattern := traps.blocked_by(url):
        reason = traps.reason(url, pattern)
        said = f"what is like it ({pattern}) led to nothing new so far, so it waits, unless a sitemap names it"
        rule = _LIMIT_OF[reason]
        yield Decision(rule, False, said, reason, tuple(rule.split(".")))


def _depth(rules: CrawlRules, depth: int | None, linked_from: list[str]) -> Iterator[Decision]:
    place = ("max_depth",)
    if depth is None:
        told = "only pages that no chain of links leads to link to it" if linked_from else "no page links to it"
        yield Decision("links", None, f"{told}, as far as pages were read; a sitemap may name it")
    elif depth > rules.max_depth:
        said = f"it is {depth} links away from a start URL, more than {rules.max_depth}"
        yield Decision("max_depth", False, said, "too_deep", place)
    else:
        yield Decision("max_depth", True, f"it is {depth} links away from a start URL", place=place)


def _robots(rules: CrawlRules, url: str, traces: Traces) -> Iterator[Decision]:
    origin = origin_of(url)
    stored = StoredRobots(traces.notes).read(origin)
    if stored is None:
        yield Decision("robots.txt", None, f"no robots.txt of {origin} is stored")
        return
    body, fetched_at = stored
    rule = RobotsPolicy(body, rules.user_agent).deciding_rule(url)
    when = f"as of {fetched_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if rule is None:
        yield Decision("robots.txt", True, f"no rule of it matches, {when}")
    else:
        told = "a rule allows it" if rule.allows else "a rule forbids it"
        yield Decision("robots.txt", rule.allows, f"{told}, {when}", None if rule.allows else "robots", line=str(rule))


def _pages(rules: CrawlRules, traces: Traces) -> Iterator[Decision]:
    if not traces.has_bytes and traces.kept >= rules.max_pages:
        said = f"{traces.kept} pages are kept, and max_pages is {rules.max_pages}"
        yield Decision("max_pages", False, said, "max_pages", ("max_pages",))
