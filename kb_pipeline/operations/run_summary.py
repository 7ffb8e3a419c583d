"""What a run shows of itself: warnings, rows to look at, sizes and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Literal

from kb_pipeline.account import Account
from kb_pipeline.control.metering import daily_quotas, limits
from kb_pipeline.control.runs import refreshes
from kb_pipeline.embed.models import describe_model
from kb_pipeline.model import JsonObject
from kb_pipeline.operations import account_warnings
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.source_rules import origins
from kb_pipeline.store.durable_files import folder_bytes

SAMPLE_COLUMNS = {
    "pages": ["key", "outcome", "reason", "status", "content_type"],
    "documents": ["key", "language", "outcome", "reason"],
    "chunks": ["key", "ordinal", "tokens", "start", "end"],
}
"""By table, the columns of a sample. No text of documents, nor titles: Dagster's event log keeps the sample, and no
erasure reaches it."""
_SAMPLE_ROWS = 5
_REASONS_NAMED = 3
_NOUNS = {"fetch": "pages", "clean": "documents"}
"""What the stages whose failures are warned of count."""


class RunSummary:
    """What can be shown of one run, without what variables gave."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def live_counts(self) -> dict[str, int]:
        """Return the numbers of documents and chunks of the live version; empty without one."""
        live = self._context.live_manifest()
        return asdict(live.counts) if live else {}

    def sample(self, table: str) -> list[JsonObject]:
        """Return the first rows of a stage table, in the columns SAMPLE_COLUMNS."""
        rows = self._context.store.tables.open(table).head(SAMPLE_COLUMNS[table], _SAMPLE_ROWS)
        return [self._context.spec.redact(row) for row in rows.to_pylist()]

    def links(self) -> dict[str, str]:
        """Return where each source starts, by its name."""
        return origins(self._context.spec)

    def size_of(self, part: Literal["raw", "lance"]) -> int:
        """Return the bytes on disk of the KB's raw segments or Lance tables."""
        paths = self._context.store.paths
        return folder_bytes(paths.raw if part == "raw" else paths.lance)

    def warnings(self) -> list[str]:
        """Return what an operator should know of the run though it may publish, a sentence each."""
        stages = self._stages()
        languages = stages.get("clean", {}).get("languages", {})
        return [
            *self._failures(stages),
            *self._skipped_pages(stages),
            *self._missing(stages),
            *account_warnings.words_warnings(self._context.key, stages.get("clean", {}).get("lossy_pages", [])),
            *_repairs(stages),
            *language_warnings(self._context.spec.embedding.model, languages),
        ]

    def notes(self) -> list[str]:
        """Return what came back of what earlier refreshes had left out, a sentence each; nothing to worry about."""
        return list(account_warnings.returns(self._stages().get("fetch", {}).get("came_back", {})))

    def _stages(self) -> Mapping[str, JsonObject]:
        context = self._context
        row = refreshes.get_refresh(context.db, context.key, context.run_id)
        return row.stages if row else {}

    def _failures(self, stages: Mapping[str, JsonObject]) -> Iterator[str]:
        for stage, noun in _NOUNS.items():
            if failed := _failed_by_reason(stages.get(stage, {})):
                reasons = ", ".join(f"{reason} {count}" for reason, count in failed.most_common(_REASONS_NAMED))
                yield f"{failed.total()} {noun} failed ({reasons}); see: kb failures {self._context.key}"
        if kept := stages.get("clean", {}).get("kept_last_good"):
            told = f"see: kb failures {self._context.key}"
            yield f"{kept} documents are kept as they were, since their newest bytes gave none; {told}"

    def _missing(self, stages: Mapping[str, JsonObject]) -> Iterator[str]:
        """Yield a warning for each reason, other than failures and quotas, for which something in scope is missing."""
        key, fetched, cleaned = self._context.key, stages.get("fetch", {}), stages.get("clean", {})
        if "account" not in cleaned:
            return
        account = Account.from_json(cleaned["account"])
        yield from account_warnings.limit_warnings(key, account, cleaned.get("ended", {}))
        yield from account_warnings.cut_warnings(key, account)
        yield from account_warnings.problem_warnings(key, fetched.get("problems", []))
        yield from account_warnings.outside_warnings(account, fetched.get("outside_hosts", []))

    def _skipped_pages(self, stages: Mapping[str, JsonObject]) -> Iterator[str]:
        """Yield a warning if a quota left pages out."""
        if skipped := stages.get("fetch", {}).get("failed_by_reason", {}).get("quota"):
            reason = limits.used_up(self._context.db, self._context.key.tenant, daily_quotas.PAGES)
            yield f"{skipped} pages were not asked for: {reason}"


def language_warnings(model: str, languages: Iterable[str]) -> list[str]:
    """Return a warning that names the languages which the model was not trained for; empty if there are none."""
    known = describe_model(model).languages
    foreign = sorted(set(languages) - {"und"} - known) if known else []
    if not foreign:
        return []
    return [
        f"the model {model} does not know {', '.join(foreign)}: such documents are found by words only; "
        "choose embedding.model multilingual-e5-small"
    ]


def _repairs(stages: Mapping[str, JsonObject]) -> Iterator[str]:
    repaired = dict.fromkeys(what for report in stages.values() for what in report.get("repaired", []))
    for what in repaired:
        yield f"damaged data was set aside and made again: {what}"


def _failed_by_reason(report: JsonObject) -> Counter[str]:
    """Count failures by reason, without the pages that a quota left out: they did not fail."""
    return Counter({reason: n for reason, n in report.get("failed_by_reason", {}).items() if reason != "quota"})
