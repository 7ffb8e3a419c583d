"""What a run shows of itself: warnings, rows to look at, sizes and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Literal

from kb_pipeline.account import Account
from kb_pipeline.control.metering import daily_quotas, limits
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.failures import FailureRecord, list_failures
from kb_pipeline.embed.models import describe_model
from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.diff import diff_documents
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import JsonObject
from kb_pipeline.operations import account_warnings
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.source_rules import origins
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.manifest import Manifest

SAMPLE_COLUMNS = {
    "pages": ["key", "outcome", "reason", "status", "content_type"],
    "documents": ["key", "language", "outcome", "reason"],
    "chunks": ["key", "ordinal", "tokens", "start", "end"],
}
"""By table, the columns of a sample. No text of documents, nor titles: Dagster's event log keeps the sample, and no
erasure reaches it."""
_SAMPLE_ROWS = 5
_FAILURES_NAMED = 50
_CHANGES_NAMED = 10
_REASONS_NAMED = 3
_NOUNS = {"fetch": "pages", "clean": "documents"}
"""What the stages whose failures are warned of count."""


@dataclass(frozen=True, slots=True)
class VersionChanges:
    """How the documents of a version differ from those of the live one."""

    since: int
    """The number of the live version."""
    counts: Mapping[str, int]
    """How many were `removed`, `changed` and `added`."""
    keys: Sequence[tuple[str, str]]
    """What happened to a key, for the first of each kind."""


class RunSummary:
    """What can be shown of one run, without what variables gave."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def ended(self) -> refreshes.RefreshRecord | None:
        """Return how the refresh ended; None while it goes on."""
        row = self._row()
        return row if row and row.status != "running" else None

    def live_counts(self) -> dict[str, int]:
        """Return the numbers of documents and chunks of the live version; empty without one."""
        live = self._context.live_manifest()
        return asdict(live.counts) if live else {}

    def live_version(self) -> int | None:
        """Return the number of the live version; None before the first one is published."""
        live = self._context.live_manifest()
        return live.version if live else None

    def changes(self, candidate: Manifest) -> VersionChanges | None:
        """Return how a candidate's documents differ from the live version's; None if there is none to compare with."""
        live = self._context.live_manifest()
        if live is None:
            return None
        store = self._context.store
        try:
            with VersionReader(store, live) as before, VersionReader(store, candidate) as after:
                found = diff_documents(before, after)
        except DamagedStore:  # the checks have told
            return None
        frames = {"removed": found.removed, "changed": found.changed, "added": found.added}
        keys = [(what, key) for what, rows in frames.items() for key in rows["key"].head(_CHANGES_NAMED).to_list()]
        counts = {what: rows.height for what, rows in frames.items()}
        return VersionChanges(live.version, counts, [(what, self._context.spec.redact(key)) for what, key in keys])

    def failures(self, stage: str) -> list[FailureRecord]:
        """Return the first of a stage's open failures."""
        context = self._context
        of_stage = (each for each in list_failures(context.db, context.key) if each.stage == stage)
        return list(islice(of_stage, _FAILURES_NAMED))

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
        row = self._row()
        return row.stages if row else {}

    def _row(self) -> refreshes.RefreshRecord | None:
        context = self._context
        return refreshes.get_refresh(context.db, context.key, context.run_id)

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
