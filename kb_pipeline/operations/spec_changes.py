"""Says what an edited KB file changes, and what that costs at the next refresh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kb_pipeline.account import Account
from kb_pipeline.model import Record
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.spec.sources import Source, WebSource
from kb_pipeline.store.manifest import Counts


@dataclass(frozen=True, slots=True)
class FieldChange(Record):
    """A field that a KB file gives another value than the file in force."""

    field: str
    """Sources are named: `sources.site.max_pages`."""
    before: Any
    """None where it was not written."""
    after: Any
    """None where it is not written any more."""


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[FieldChange]:
    """Yield what differs between two KB files as they are written, with `${NAME}` for what variables give."""
    old, new = dict(_fields(before)), dict(_fields(after))
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            yield FieldChange(field, old.get(field), new.get(field))


def _fields(body: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, Mapping) and value:
            yield from _fields(value, f"{place}{name}.")
        elif name == "sources" and not place and isinstance(value, list):
            for source in value:
                if isinstance(source, Mapping):
                    yield from _fields(source, f"sources.{source.get('name')}.")
        else:
            yield f"{place}{name}", value


def effects_of(before: KbSpec | None, after: KbSpec, live: Counts | None, account: Account | None) -> Iterator[str]:
    """Yield what the next refresh will do because of an edit, a sentence each; nothing if it only reads on.

    Args:
        before: the file in force; None of a new KB.
        after: the edited file.
        live: what the live version counts.
        account: what became of every known key so far.
    """
    yield from _source_effects(before, after, account)
    if before is None or live is None:
        return
    documents, chunks = f"{live.documents:,} documents", f"{live.chunks:,} chunks"
    if before.embedding.model != after.embedding.model:
        yield (
            f"all {chunks} are embedded again with {after.embedding.model}; until that is published, the live version "
            f"answers with {before.embedding.model}"
        )
    if before.chunking != after.chunking:
        yield f"all {documents} are chunked again; of their chunks, today {chunks}, those that change are embedded"
    if after.retention.versions < before.retention.versions:
        yield f"published versions beyond the newest {after.retention.versions} are deleted"


def _source_effects(before: KbSpec | None, after: KbSpec, account: Account | None) -> Iterator[str]:
    old = {source.name: source for source in before.sources} if before else {}
    new = {source.name: source for source in after.sources}
    for name, source in new.items():
        if name not in old:
            yield f"source {name} is new: {_first_fetch(source)}"
        elif source != old[name]:
            yield (
                f"source {name}: its known pages are judged by the new rules, without asking for them; pages that they "
                "let in are fetched, documents that they leave out go"
            )
    if gone := [name for name in old if name not in new]:
        yield from _gone_effects(gone, after, account)


def _first_fetch(source: Source) -> str:
    if not isinstance(source, WebSource):
        return f"up to {source.max_files:,} files are read"
    pause = f", {_duration(source.max_pages * source.delay_s)} if there are as many" if source.delay_s else ""
    return f"up to {source.max_pages:,} pages are fetched, {_pace(source.delay_s)}{pause}"


def _pace(delay_s: float) -> str:
    return f"at most one every {delay_s:g} s of each host" if delay_s else "without a delay"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _gone_effects(gone: list[str], after: KbSpec, account: Account | None) -> Iterator[str]:
    counts = {each.source: each.documents for each in account.sources} if account else {}
    leaving, of_all = sum(counts.get(name, 0) for name in gone), sum(counts.values())
    names = ", ".join(gone)
    yield f"source {names}: {leaving:,} of {of_all:,} documents go"
    if of_all and leaving / of_all > after.publish.max_shrink:
        share = f"{leaving / of_all:.0%} of all documents, and publish.max_shrink is {after.publish.max_shrink:g}"
        yield f"the version without them is held for approval: that is {share}"
