"""What Dagster's web UI shows of a stage's report."""

from __future__ import annotations

import dagster as dg

from kb_pipeline.account import Account, ReasonCount, SourceAccount
from kb_pipeline.defs.metadata import report_metadata
from kb_pipeline.model import StageReport

REASONS = (ReasonCount("fetch", "too_deep", "limits", 3), ReasonCount("clean", "no_text", "site", 1))


def test_an_account_is_sums_to_plot_and_a_table_of_reasons() -> None:
    account = Account((SourceAccount("site", 10, 5, 1, 0, REASONS),))
    metadata = report_metadata(StageReport("clean", extra={"account": account.as_json()}))
    assert (metadata["keys known"], metadata["keys documents"], metadata["keys limits"]) == (10, 5, 3)
    assert metadata["keys at_least"] is False
    table = metadata["left_out"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [(row.data["source"], row.data["reason"], row.data["keys"]) for row in table.records] == [
        ("site", "too_deep", 3), ("site", "no_text", 1),
    ]  # fmt: skip


def test_an_account_without_anything_left_out_has_no_table() -> None:
    account = Account((SourceAccount("site", 5, 5, 0, 0, ()),))
    assert "left_out" not in report_metadata(StageReport("clean", extra={"account": account.as_json()}))
