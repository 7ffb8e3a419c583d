"""Says in a line a reason what is missing from a KB though nobody wants it so, and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kb_pipeline.account import Account
from kb_pipeline.clean.words import MUCH
from kb_pipeline.model import JsonObject, KbKey
from kb_pipeline.operations.left_out_reasons import cause_of

_NEARLY_ALL = 0.8
"""The share of all links that lead to one other host, from which on the scope is probably not what was meant."""
_LEADING = frozenset({"too_deep", "max_pages", "repetitive", "query_limit", "directory_limit", "path_repetition"})
"""Reasons of pages that were not read, so that nobody knows where they lead."""
_FEW_PAGES = 5
"""A source with so few pages may be the door to a host that is no sibling of it."""


def limit_warnings(key: KbKey, account: Account, ended: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each limit or setting of the KB file that leaves pages out.

    Args:
        key: the KB.
        account: its account.
        ended: documents of the live version that are none any more, by reason.
    """
    groups = [(source.source, each) for source in account.sources for each in source.reasons]
    counts: dict[tuple[str, str], Counter[str]] = {}
    for source, each in groups:
        if each.category == "limits":
            counts.setdefault((each.stage, each.reason), Counter())[source] += each.keys
    for (stage, reason), sources in sorted(counts.items(), key=lambda item: (-item[1].total(), item[0])):
        of = f" of {', '.join(sorted(sources))}" if len(account.sources) > 1 else ""
        lost = f", {ended[reason]} of which the live version has" if ended.get(reason) else ""
        yield (
            f"{_pages(sources.total(), reason)} left out{of} ({reason}){lost}: {cause_of(stage, reason).remedy}; "
            f"see: kb documents {key} --left-out --reason {reason}"
        )


def cut_warnings(key: KbKey, account: Account) -> Iterator[str]:
    """Yield a line for what was met and not recorded, and for listings that were not read to their end."""
    if account.not_recorded:
        yield f"at least {_more(account.not_recorded)} met and not recorded: raise max_pages"
    if account.cut_listings:
        listings = "a page or sitemap was" if account.cut_listings == 1 else f"{account.cut_listings} listings were"
        yield f"{listings} not read to the end, so there may be more pages; see: kb failures {key}"


def problem_warnings(key: KbKey, problems: Sequence[JsonObject]) -> Iterator[str]:
    """Yield a line for the sitemaps, feeds and folders that could not be read at all."""
    unread = Counter(each["reason"] for each in problems if _is_unread(each))
    if unread:
        reasons = ", ".join(f"{reason} {count}" for reason, count in unread.most_common())
        yield f"sitemaps, feeds or folders could not be read ({reasons}); see: kb failures {key}"


def outside_warnings(account: Account, hosts: Sequence[JsonObject]) -> Iterator[str]:
    """Yield a line if nearly all links lead to one host that the scope leaves out, with the key of the file to add.

    Args:
        account: of the KB.
        hosts: rows with `source`, `host`, `urls` (distinct addresses) and `is_sibling`.
    """
    for source in account.sources:
        outside = [each for each in hosts if each["source"] == source.source]
        most = max(outside, key=lambda each: each["urls"] if each["host"] else 0, default=None)
        links = source.known + sum(each["urls"] for each in outside)
        if most is None or not most["host"] or most["urls"] < _NEARLY_ALL * links:
            continue
        if most["is_sibling"] or source.known <= _FEW_PAGES:
            of = f" of source {source.source}" if len(account.sources) > 1 else ""
            remedy = "set scope: domain, or start there" if most["is_sibling"] else "name it in start_urls"
            yield f"{most['urls']} of {links} addresses lie at {most['host']}, which the scope{of} leaves out: {remedy}"


def words_warnings(key: KbKey, lossy: Sequence[JsonObject]) -> Iterator[str]:
    """Yield a line for each source with pages of which cleaning removed much that is no navigation.

    Args:
        key: the KB.
        lossy: rows with `source`, `pages`, and the `key` of the page that lost most.
    """
    for each in lossy:
        pages = "1 page" if each["pages"] == 1 else f"{each['pages']} pages"
        yield (
            f"cleaning took more than {MUCH:.0%} of the text of {pages} of {each['source']}, navigation aside, most of "
            f"all from {each['key']}; see how many words and why: kb page {key} {each['key']} --json"
        )


def returns(came_back: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each reason for which pages had been left out that are there now."""
    for reason, count in Counter(came_back).most_common():
        yield f"{count} {'page' if count == 1 else 'pages'} that had been left out ({reason}) came back"


def _pages(count: int, reason: str) -> str:
    if reason in _LEADING:
        return "1 page and what lies behind it are" if count == 1 else f"{count} pages and what lies behind them are"
    return "1 page is" if count == 1 else f"{count} pages are"


def _more(count: int) -> str:
    return "1 more page was" if count == 1 else f"{count} more pages were"


def _is_unread(problem: JsonObject) -> bool:
    return bool(problem["outcome"] == "failed" or problem["reason"] in ("sitemap_invalid", "sitemap_loop", "not_found"))
