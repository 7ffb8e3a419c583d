"""Sums up how many words of the pages are in their documents, and how many cleaning removed and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from kb_pipeline.clean.html.removal import Reason
from kb_pipeline.store.table import LanceTable

KEPT = "kept"
REASONS = get_args(Reason)
_PROSE = ("hidden", "outside_article")
"""Reasons for which text goes that is more than navigation and controls; what is repeated stays in one document."""
MUCH = 0.3
"""The share of a page's prose whose removal is worth a look."""


def account_of_words(documents: LanceTable) -> dict[str, Any]:
    """Return what a stage report says of words.

    Returns:
        `words`: a record for each source, with `kept` and a count for each reason; `lossy_pages`: a record for each
        source with pages of which much prose was removed, with `pages` and the `key` of the one that lost most. Neither
        where nothing was counted: for text, and for what an earlier release cleaned.
    """
    sums: dict[str, Counter[str]] = {}
    lossy: dict[str, tuple[int, float, str]] = {}
    if "words" not in documents.schema.names:
        return {}
    rows = documents.read_columns(["source", "key", "words"], "outcome = 'document' AND words IS NOT NULL")
    for source, key, words in rows.sort("source", "key").iter_rows():
        counts = json.loads(words)
        sums.setdefault(source, Counter()).update(counts)
        if (share := lost_share(counts)) > MUCH:
            pages, most, worst = lossy.get(source, (0, 0.0, ""))
            lossy[source] = pages + 1, max(share, most), key if share > most else worst
    found: dict[str, Any] = {}
    if sums:
        found["words"] = [
            {"source": source, **{name: counts[name] for name in (KEPT, *REASONS)}} for source, counts in sums.items()
        ]
    if lossy:
        found["lossy_pages"] = [{"source": name, "pages": n, "key": key} for name, (n, _, key) in lossy.items()]
    return found


def lost_share(words: Mapping[str, int]) -> float:
    """Return which share of a page's words, navigation and controls aside, was removed."""
    lost = sum(words.get(reason, 0) for reason in _PROSE)
    return lost / (lost + words.get(KEPT, 0)) if lost else 0.0
