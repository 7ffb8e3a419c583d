"""Converts stage reports, gates and versions to metadata that people read in Dagster's web UI.

The first lines say in words what happened; numbers, which the web UI plots over runs, and tables come after them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg

from kb_pipeline.model import JsonObject, KbKey, StageReport
from kb_pipeline.publish.integrity_gates import Gate

if TYPE_CHECKING:
    from kb_pipeline.control.runs.failures import FailureRecord
    from kb_pipeline.control.runs.refreshes import RefreshRecord
    from kb_pipeline.operations.publish import Publication
    from kb_pipeline.operations.run_summary import VersionChanges
from kb_pipeline.units import size, span

_MAX_ROWS = 50
_NONE_HELD = "no_kb_held"


def report_metadata(
    report: StageReport, samples: Iterable[Mapping[str, Any]] = (), failures: Sequence[FailureRecord] = ()
) -> dict[str, Any]:
    """Return what a stage did in words, its counts and rate, reasons, failures and sample rows."""
    metadata: dict[str, Any] = {
        "summary": _summary(report),
        "dagster/row_count": report.passed,
        "in": report.entered,
        "out": report.passed,
        "unchanged": report.unchanged,
        "rejected": report.rejected.total(),
        "failed": report.failed.total(),
        "deleted": report.deleted,
        "seconds": round(report.seconds, 3),
    }
    worked = report.entered - report.unchanged
    if worked > 0 and report.seconds > 0:
        metadata["rate_per_s"] = round(worked / report.seconds, 1)
    if reasons := _reasons(report):
        metadata["reasons"] = dg.MetadataValue.table(reasons)
    if failures:
        metadata["failures"] = dg.MetadataValue.table([dg.TableRecord(_failure_row(each)) for each in failures])
    for name, value in report.extra.items():
        metadata |= _account_metadata(value) if name == "account" else _extra_metadata(name, value)
    rows = [_flat(row) for row in samples]
    if rows:
        metadata["sample"] = dg.MetadataValue.table([dg.TableRecord(row) for row in rows])
    return metadata | _links([each.key for each in failures] + [str(row.get("key", "")) for row in rows])


def size_metadata(name: str, n_bytes: int) -> dict[str, Any]:
    """Return a number of bytes with its unit, and as a number to plot."""
    return {name: size(n_bytes), f"{name}_bytes": n_bytes}


def score_metadata(scores: Mapping[str, float]) -> dict[str, dg.MetadataValue]:
    """Return the version's retrieval scores, which the web UI plots over versions."""
    return {name: dg.MetadataValue.float(float(value)) for name, value in scores.items()}


def change_metadata(changes: VersionChanges | None) -> dict[str, Any]:
    """Return what changed since the live version: in words, as numbers to plot, and the first keys."""
    if changes is None:
        return {}
    counts = {f"documents_{what}": count for what, count in changes.counts.items()}
    words = ", ".join(f"{count} {what}" for what, count in changes.counts.items() if count) or "none changed"
    metadata: dict[str, Any] = {"changes": f"documents since version {changes.since}: {words}", **counts}
    if changes.keys:
        rows = [dg.TableRecord({"change": what, "key": key}) for what, key in changes.keys]
        metadata["changed_documents"] = dg.MetadataValue.table(rows)
    return metadata | _links([key for _, key in changes.keys])


def published_metadata(published: Publication, before: int | None, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return which version is live now and which was, and how much is in it."""
    if published.status == "unchanged":
        words = f"version {published.version} is live still: nothing changed"
    else:
        words = f"version {published.version} is live" + (f", after version {before}" if before else ", the first one")
    return {"summary": words, "dagster/row_count": counts.get("chunks", 0), **counts, **published.as_json()}


def check_specs(
    asset: str, promises: Mapping[str, str], partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetCheckSpec]:
    """Return the declared checks of an asset, by name and promise, with a verdict for each partition.

    Unpartitioned, as they are by default, the newest verdict stands for all KBs, so that one that passes hides another
    that is held. Dagster 1.13 calls partitions of checks a preview, which it would say in every process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        of_each = [
            dg.AssetCheckSpec(name, asset=asset, description=promise, blocking=True, partitions_def=partitions)
            for name, promise in promises.items()
        ]
    # The asset's overview counts the newest verdict of each check: of the KB that was refreshed last.
    return [*of_each, dg.AssetCheckSpec(_NONE_HELD, asset=asset, description="No KB of this home waits for approval.")]


def check_results(gates: Iterable[Gate], names: Iterable[str], *, force: bool) -> list[dg.AssetCheckResult]:
    """Return a result for every declared check; a gate that was not run, since nothing changed, has passed.

    A failure of severity ERROR blocks publishing; with `force`, a failure that would only hold the version warns.
    """
    found = {gate.name: gate for gate in gates}
    unchanged = Gate("", passed=True, message="unchanged: the live version passed")
    return [_check_result(name, found.get(name, unchanged), force=force) for name in names]


def none_held(count: int) -> dg.AssetCheckResult:
    """Return the verdict over all KBs, which counts and names none: deleting a KB must leave nothing of it here."""
    words = f"{count} of all KBs are held and wait for kb approve; their runs have the tag kb/status=held"
    return dg.AssetCheckResult(
        check_name=_NONE_HELD,
        passed=not count,
        severity=dg.AssetCheckSeverity.WARN,
        description=words if count else "no KB is held",
        metadata={"held": count},
    )


def verdict_metadata(key: KbKey, ended: RefreshRecord) -> dict[str, Any]:
    """Return why a candidate is not published, and how a person lets one through that is held."""
    metadata: dict[str, Any] = {"status": ended.status, "version": ended.version, "why": ended.message or ""}
    if ended.status == "held":
        metadata["approve_with"] = f"kb approve {key} {ended.version}"
    return metadata


def unpublished(key: KbKey, ended: RefreshRecord) -> dg.Failure:
    """Return the failure of a run whose candidate is not published: held for approval, or not whole."""
    metadata = verdict_metadata(key, ended)
    del metadata["why"]  # the description says it
    return dg.Failure(f"{ended.status}: {ended.message}", metadata=metadata, allow_retries=False)


def _summary(report: StageReport) -> str:
    counts = {
        "unchanged": report.unchanged,
        "rejected": report.rejected.total(),
        "failed": report.failed.total(),
        "deleted": report.deleted,
    }
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{report.passed} of {report.entered} passed{rest}, in {span(report.seconds)}"


def _check_result(name: str, gate: Gate, *, force: bool) -> dg.AssetCheckResult:
    warns = force and gate.holds
    verdict = "" if gate.passed or warns else "held: " if gate.holds else "failed: "
    return dg.AssetCheckResult(
        check_name=name,
        passed=gate.passed,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=f"{verdict}{gate.message}",
        metadata=gate.measured,
    )


def _account_metadata(account: JsonObject) -> dict[str, Any]:
    """Return the sums of an account, which the web UI plots over runs, and what is left out as a table."""
    rows = [{"source": each["source"], **reason} for each in account["sources"] for reason in each["reasons"]]
    sums: dict[str, Any] = {f"keys {name}": value for name, value in account.items() if name != "sources"}
    return sums | ({"left_out": dg.MetadataValue.table([dg.TableRecord(row) for row in rows])} if rows else {})


def _extra_metadata(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any value that a stage reports
    """Return a table for a list of records or a flat structure, bytes with their unit, JSON for other structures."""
    if name.endswith("_bytes") and isinstance(value, int):
        return size_metadata(name.removesuffix("_bytes"), value)
    if isinstance(value, dict) and value and all(isinstance(each, (int, float, str)) for each in value.values()):
        value = [{"name": key, "value": each} for key, each in value.items()]
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return {name: dg.MetadataValue.table([dg.TableRecord(_flat(row)) for row in value[:_MAX_ROWS]])}
    return {name: dg.MetadataValue.json(value) if isinstance(value, (dict, list)) else value}


def _reasons(report: StageReport) -> list[dg.TableRecord]:
    kinds = (("rejected", report.rejected), ("failed", report.failed))
    return [
        dg.TableRecord({"outcome": kind, "reason": reason, "count": count})
        for kind, reasons in kinds
        for reason, count in reasons.most_common()
    ]


def _failure_row(failure: FailureRecord) -> dict[str, str | int | float | bool]:
    row = {name: getattr(failure, name) for name in ("key", "reason", "message", "attempts")}
    return _flat(row | {"since": f"{failure.first_seen:%Y-%m-%d %H:%M} UTC"})


def _links(keys: Iterable[str]) -> dict[str, dg.MetadataValue]:
    """Return the keys that are web addresses as links, which a table cannot hold; nothing without any."""
    urls = [key for key in dict.fromkeys(keys) if urlsplit(key).scheme in ("http", "https")]
    lines = [f"- <{url}>" for url in urls[:_MAX_ROWS] if not set(url) & set("<> \n")]
    return {"links": dg.MetadataValue.md("\n".join(lines))} if lines else {}


def _flat(row: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {
        name: value if isinstance(value, (int, float)) else str("" if value is None else value)[:300]
        for name, value in row.items()
    }
