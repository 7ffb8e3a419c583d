"""Remembers by which rules a site was last crawled, and which stored pages no link led to by then.

A page that a site does not link to any more stays, as long as it answers. One that only the KB file has cut off, by an
edited glob or start URL, ends: a new KB of the same file would not have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.model import digest

_MOST = 100_000


class Orphans:
    """What the last complete crawl of a source noted."""

    def __init__(self, path: Path, rules: CrawlRules) -> None:
        self._path, self._rules = path, _fingerprint(rules)
        self._before: str | None = None
        self._keys: frozenset[str] = frozenset()
        try:
            noted = json.loads(path.read_bytes())
            self._before, self._keys = str(noted["rules"]), frozenset(noted["keys"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the first crawl, or a torn file

    @property
    def rules_changed(self) -> bool:
        """Whether what the rules reach may differ from what they reached last time."""
        return self._before is not None and self._before != self._rules

    def was_orphan(self, key: str) -> bool:
        """Whether no link led to the page last time either."""
        return key in self._keys

    def write(self, keys: Iterable[str]) -> None:
        """Note the stored pages that no link leads to now."""
        found = sorted(keys)[:_MOST]
        if self._before == self._rules and self._keys == frozenset(found):
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"rules": self._rules, "keys": found}))
        temporary.replace(self._path)


def _fingerprint(rules: CrawlRules) -> str:
    reach = (rules.start_urls, rules.sitemap, rules.scope, rules.include, rules.exclude)
    return digest("reach", json.dumps(reach))
