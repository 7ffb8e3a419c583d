"""Prints differences of versions, receipts and backups for people."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from rich.markup import escape

from kb_pipeline.cli.output import print_json
from kb_pipeline.cli.rows import Bytes, print_fields, print_rows, print_table
from kb_pipeline.cli.terminal import out, printable

if TYPE_CHECKING:
    from kb_pipeline.control.kbs.erasure_receipt import ErasureReceipt
    from kb_pipeline.index.diff import VersionDiff
    from kb_pipeline.operations.apply import AppliedKb
    from kb_pipeline.operations.backup import Backup
    from kb_pipeline.operations.delete import DeletionPlan
    from kb_pipeline.operations.deletion_receipt import DeletionReceipt
    from kb_pipeline.operations.explain import Explanation, SourceExplanation
    from kb_pipeline.operations.key_fates import LeftOutKey
    from kb_pipeline.operations.plan_erasure import ErasurePlan
    from kb_pipeline.operations.replay import Replay
    from kb_pipeline.operations.restore import Restoration

_VALUE_CHARS = 200
"""Of a field that an edit of a KB file changes."""
_LEFT_OUT_COLUMNS = ("key", "source", "reason", "category", "message", "remedy")
_KEYS = 20
"""How many keys of each kind of difference are shown."""


def print_applied(item: AppliedKb) -> None:
    """Print what was done with a KB file, or would be, what it changes and what comes of it."""
    action = {"created": "create", "updated": "update"}.get(item.action)
    out.print(f"{item.kb}: {f'would {action}' if item.is_dry and action else item.action}", markup=False)
    if item.is_dry and item.action == "updated":
        for change in item.changes:
            before, after = _written(change.before), _written(change.after)
            out.print(printable(f"  {change.field}: {before} -> {after}"), markup=False)
    for effect in item.effects if item.is_dry or item.action == "updated" else ():
        out.print(printable(f"  {effect}"), markup=False)


def _written(value: object) -> str:
    text = "not given" if value is None else json.dumps(value, ensure_ascii=False)
    return textwrap.shorten(text, _VALUE_CHARS, placeholder=" ...")


def print_left_out(rows: Iterable[LeftOutKey], chosen: str | None = None) -> None:
    """Print each key that has no document: below its reason and what would help for people, else a line each."""
    if chosen is not None or not sys.stdout.isatty():
        print_rows(rows, {name: attrgetter(name) for name in _LEFT_OUT_COLUMNS}, _LEFT_OUT_COLUMNS, chosen=chosen)
        return
    for (source, reason), group in groupby(rows, key=lambda row: (row.source, row.reason)):
        for number, row in enumerate(group):
            if number == 0:
                remedy = f"; to have them: {row.remedy}" if row.remedy else ""
                out.print(printable(f"{source}: {reason} ({row.category}){remedy}"), markup=False, style="bold")
            sys.stdout.write(printable(f"  {row.key}  {row.message}\n"))


def print_explanation(found: Explanation) -> None:
    """Print what is known of an address, one block a source, each line behind what it is about."""
    for each in found.sources:
        out.print(printable(f"{each.key} in source {each.source}"), markup=False, style="bold")
        for name, lines in _explained(found, each):
            for number, line in enumerate(lines):
                sys.stdout.write(printable(f"  {'' if number else name:<12} {line}\n"))


def _explained(found: Explanation, source: SourceExplanation) -> Iterator[tuple[str, Sequence[str]]]:
    yield "verdict", [source.verdict]
    yield "to have it", [source.remedy] if source.remedy else []
    yield "dropped", [", ".join(found.dropped)] if found.dropped else []
    yield "met by", source.chain
    more = source.linked_from_count - len(source.linked_from)
    yield "linked from", [*source.linked_from, *([f"and {more} more"] if more else [])]
    yield "decided by", _decision_lines(source)
    if last := source.last:
        status = f", status {last.status}" if last.status else ""
        reason = f" ({last.reason}: {last.message})" if last.reason else ""
        yield "last answer", [f"{last.outcome}{reason}{status}"]
        yield "redirects to", [last.redirect_to] if last.redirect_to else []
        yield "stored", [f"bytes of {last.fetched_at:%Y-%m-%d %H:%M} UTC"] if last.fetched_at else []
    yield "next", [source.next_ask]


def _decision_lines(source: SourceExplanation) -> list[str]:
    width = max((len(each.rule) for each in source.decisions), default=0)
    answers = {True: "yes", False: "no", None: "?"}
    return [
        f"{each.rule:<{width}}  {answers[each.allows]:<3}  {each.said}" + (f"   [{each.line}]" if each.line else "")
        for each in source.decisions
    ]


def print_diff(diff: VersionDiff) -> None:
    """Print counts, then the first keys of each kind."""
    columns = ["added", "changed", "removed", "unchanged"]
    fields = diff.as_json()
    rows = [[noun, *(fields[noun].get(column) for column in columns)] for noun in ("documents", "chunks")]
    print_table(["", *columns], rows, title=f"{fields['kb']}: version {fields['from']} to {fields['to']}")
    for change, mark in (("added", "+"), ("changed", "~"), ("removed", "-")):
        keys = fields[change]
        for key in keys[:_KEYS]:
            out.print(f"{mark} {escape(printable(key))}")
        if len(keys) > _KEYS:
            out.print(f"{mark} and {len(keys) - _KEYS} more {change}; --json lists all")


def print_erasure(receipt: ErasureReceipt) -> None:
    """Print the places that were looked into, and what was removed there."""
    moment = receipt.erased_at.isoformat()
    out.print(f"{receipt.kb}: {receipt.key}: {receipt.status} at {moment}", markup=False)
    print_table(["place", "removed", "what"], ([place.place, place.removed, place.what] for place in receipt.places))
    print_table(["looked through again", "found"], ([each.store, each.found] for each in receipt.checks))
    _print_list("The same bytes or text are also stored under:", receipt.same_content_at)
    _print_list("It stood for these in the index; the next refresh makes them found again:", receipt.stood_for)
    _print_list("Not reached:", receipt.not_reached)


def _print_list(heading: str, lines: Sequence[str]) -> None:
    if lines:
        out.print(heading, *lines, sep="\n  ", markup=False)


def print_plan(plan: ErasurePlan | DeletionPlan) -> None:
    """Print what would be removed, a line each; what there is none of is left out."""
    out.print(f"nothing was removed; {'kb erase' if 'key' in plan.as_json() else 'kb delete'} would remove:")
    fields = plan.as_json()
    places = fields.pop("places", [])
    told = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in fields.items()}
    print_fields({name: value for name, value in told.items() if value} | {"bytes": Bytes(plan.bytes)})
    if places:
        rows = ([each["place"], each["removed"], Bytes(each.get("bytes", 0)) or None] for each in places)
        print_table(["place", "what is there", "bytes"], rows)


def print_deletion(receipt: DeletionReceipt, *, as_json: bool) -> None:
    """Print the places that were emptied, and the stores that were looked through once more."""
    if as_json:
        print_json(receipt.as_json())
        return
    moment = receipt.removed_at or receipt.begun_at
    out.print(f"{receipt.key}: {receipt.status}{f' at {moment.isoformat()}' if moment else ''}", markup=False)
    places = receipt.places or ()
    print_table(["place", "removed", "size"], ([p.place, p.removed, Bytes(p.bytes or 0)] for p in places))
    print_table(["looked through again", "found"], ([each.store, each.found] for each in receipt.checks or ()))
    for line in receipt.not_reached or ():
        out.print(f"not reached: {line}", markup=False)


def print_replay(result: Replay) -> None:
    """Print what was compared, the verdict, and every difference."""
    chunks = result.chunks
    out.print(f"bytes     {_verdict(result.bytes_match)} {result.raw_sha256}")
    out.print(f"document  {_verdict(result.document_matches)} {result.document_id}")
    if result.duplicate_of:
        out.print(f"chunks    none: the same text is indexed as {result.duplicate_of}")
    elif result.left_out:
        out.print(f"chunks    none: it is left out as {result.left_out}")
    else:
        out.print(f"chunks    {chunks.matching} match, {chunks.stored} stored, {chunks.derived} came out")
    for reason in result.differs:
        out.print(f"- {printable(reason)}", markup=False)
    out.print(f"version {result.version}: {'matches' if result.matches else 'DOES NOT MATCH'}")


def _verdict(matches: bool) -> str:
    return "match " if matches else "DIFFER"


def print_backup(outcome: Backup | Restoration, *, as_json: bool) -> None:
    """Print what was copied, and what is not part of a backup."""
    fields = outcome.as_json()
    if as_json:
        print_json(fields)
        return
    print_fields({name: value for name, value in fields.items() if not isinstance(value, list)})
    for version in fields.get("live_versions", []):
        out.print(f"searched: {version}", markup=False)
    for line in outcome.left_out:
        out.print(f"not part of it: {line}", markup=False)
