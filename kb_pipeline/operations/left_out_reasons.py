"""Says of each reason code by whose will a key has no document, and what would help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kb_pipeline.account import Category
from kb_pipeline.clean.html.stubs import SENT_ON
from kb_pipeline.clean.views import REASONS as VIEWS
from kb_pipeline.errors import UsageError
from kb_pipeline.fetch.source import ERASED, QUOTA
from kb_pipeline.maintenance.purge import LIFTED

NOT_CLEANED = "not_cleaned"
"""Of a key whose bytes no refresh has come to read."""
UNDECIDED = "undecided"
"""Of a key about which nothing is recorded."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What stands behind a reason code."""

    category: Category
    remedy: str | None = None
    """What to do to get the document all the same; None where it is somebody's will that there is none."""


_RETRY = "see kb failures; kb retry asks again at once"
_LATER = "the next refresh asks for it"
_FAILED = Cause("failed", _RETRY)
_SITE = Cause("site")
_FETCH: Mapping[str, Cause] = {
    **dict.fromkeys(("excluded", "out_of_scope", "unlinked"), Cause("file")),
    **dict.fromkeys(("not_found", "robots", "noindex", "content_type", "invalid_url"), _SITE),
    **dict.fromkeys(("redirect_out_of_scope", "redirect_loop"), _SITE),
    **dict.fromkeys(("outside_root", "not_allowed", "not_a_file", "folder_link"), _SITE),
    "too_deep": Cause("limits", "raise max_depth"),
    "max_pages": Cause("limits", "raise max_pages"),
    "max_files": Cause("limits", "raise max_files"),
    "too_large": Cause("limits", "raise limits.body_mb, or max_file_mb of a folder"),
    "blocked_address": Cause("limits", "open private networks with KB_ALLOW_PRIVATE_NETWORKS, if it lies in one"),
    "path_too_long": Cause("limits", "raise limits.path_segments"),
    "path_repetition": Cause("limits", "name such pages in start_urls or in a sitemap"),
    "directory_limit": Cause("limits", "raise limits.per_directory"),
    "query_limit": Cause("limits", "raise limits.per_query_pattern"),
    "repetitive": Cause("limits", "raise limits.repetitive_pages"),
    ERASED: Cause("request", "take it back with kb erase --lift"),
    QUOTA: Cause("not_asked", _LATER + ", once the tenant's quota renews"),
    "asked_to_wait": Cause("not_asked", _LATER + ", once its host lets it"),
    "start_failed": Cause("not_asked", _LATER + ", once the start URL answers"),
    LIFTED: Cause("not_asked", _LATER),
    UNDECIDED: Cause("not_asked", _LATER),
    **dict.fromkeys(
        (
            "timeout", "too_slow", "render_timeout", "render_memory", "render_failed", "headers_too_large",
            "connection", "dns", "tls", "truncated", "decoding", "robots_unreachable", "empty_page", "moved_to_nothing",
            "http_<status>",
        ),
        _FAILED,
    ),
    **dict.fromkeys(
        (
            "root_missing", "root_unreadable", "root_not_allowed", "empty_folder", "folder_unreadable", "name_not_utf8",
            "empty", "changing", "unreadable",
        ),
        _FAILED,
    ),
}  # fmt: skip
_CLEAN: Mapping[str, Cause] = {
    **dict.fromkeys(("no_text", "noindex", "content_type"), _SITE),
    **dict.fromkeys(VIEWS, _SITE),
    "needs_javascript": Cause("limits", "set render: auto"),
    **dict.fromkeys(("undecodable", "too_deep", "timeout", "memory", "crashed", "error"), _FAILED),
    **dict.fromkeys(
        ("error_page", "login_page"),
        Cause("failed", "kb retry asks again; views: keep makes it a document"),
    ),
    "bot_wall": Cause("failed", "ask the site to let the crawler's User-Agent in, or fetch slower (delay_s)"),
    SENT_ON: _SITE,
    LIFTED: Cause("not_asked", _LATER),
    NOT_CLEANED: Cause("not_asked", "the next refresh reads it"),
}
CAUSES: Mapping[str, Mapping[str, Cause]] = {"fetch": _FETCH, "clean": _CLEAN}
"""By stage and reason code; `http_<status>` stands for every status."""


def cause_of(stage: str, reason: str) -> Cause:
    """Return what stands behind a reason code; one that is not known is a failure, so that somebody looks at it."""
    return CAUSES[stage].get(reason, _FAILED)


def require_reason(reason: str) -> None:
    """Raise UsageError for what is no reason code."""
    known = {each for causes in CAUSES.values() for each in causes}
    if reason not in known and not re.fullmatch(r"http_\d{3}", reason):
        raise UsageError(f"{reason!r} is no reason code; those that there are: {', '.join(sorted(known))}")
