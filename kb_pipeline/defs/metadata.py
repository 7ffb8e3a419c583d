"""Converts stage reports and gates to metadata of Dagster's web UI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from kb_pipeline.model import JsonObject, StageReport
from kb_pipeline.publish.integrity_gates import Gate

_MAX_ROWS = 50


def report_metadata(report: StageReport, samples: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return counts, rate, reasons and sample rows of a stage."""
    metadata: dict[str, Any] = {
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
    for name, value in report.extra.items():
        metadata |= _account_metadata(value) if name == "account" else {name: _to_metadata(value)}
    if rows := [dg.TableRecord(_flat(row)) for row in samples]:
        metadata["sample"] = dg.MetadataValue.table(rows)
    return metadata


def score_metadata(scores: Mapping[str, float]) -> dict[str, dg.MetadataValue]:
    """Return the version's retrieval scores, which the web UI plots over versions."""
    return {name: dg.MetadataValue.float(float(value)) for name, value in scores.items()}


def check_results(gates: Iterable[Gate], names: Iterable[str], *, force: bool) -> list[dg.AssetCheckResult]:
    """Return a result for every declared check; a gate that was not run, since nothing changed, has passed.

    A failure of severity ERROR blocks publishing; with `force`, a failure that would only hold the version warns.
    """
    found = {gate.name: gate for gate in gates}
    unchanged = Gate("", passed=True, message="unchanged: the live version passed")
    return [_check_result(name, found.get(name, unchanged), force=force) for name in names]


def _check_result(name: str, gate: Gate, *, force: bool) -> dg.AssetCheckResult:
    warns = force and gate.holds
    return dg.AssetCheckResult(
        check_name=name,
        passed=gate.passed,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=gate.message,
        metadata=gate.measured,
    )


def _account_metadata(account: JsonObject) -> dict[str, Any]:
    """Return the sums of an account, which the web UI plots over runs, and what is left out as a table."""
    rows = [{"source": each["source"], **reason} for each in account["sources"] for reason in each["reasons"]]
    sums: dict[str, Any] = {f"keys {name}": value for name, value in account.items() if name != "sources"}
    return sums | ({"left_out": dg.MetadataValue.table([dg.TableRecord(row) for row in rows])} if rows else {})


def _to_metadata(value: Any) -> Any:  # noqa: ANN401 - any value that a stage reports
    """Return a table for a list of records, JSON for other structures, else the value itself."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return dg.MetadataValue.table([dg.TableRecord(_flat(row)) for row in value[:_MAX_ROWS]])
    return dg.MetadataValue.json(value) if isinstance(value, (dict, list)) else value


def _reasons(report: StageReport) -> list[dg.TableRecord]:
    kinds = (("rejected", report.rejected), ("failed", report.failed))
    return [
        dg.TableRecord({"outcome": kind, "reason": reason, "count": count})
        for kind, reasons in kinds
        for reason, count in reasons.most_common()
    ]


def _flat(row: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {
        name: value if isinstance(value, (int, float)) else str("" if value is None else value)[:300]
        for name, value in row.items()
    }
