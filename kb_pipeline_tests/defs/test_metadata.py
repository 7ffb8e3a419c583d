"""What Dagster's web UI shows of a stage's report."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest

from kb_pipeline.account import Account, ReasonCount, SourceAccount
from kb_pipeline.defs.metadata import change_metadata, check_results, report_metadata, size_metadata
from kb_pipeline.model import StageReport
from kb_pipeline.operations.run_summary import VersionChanges
from kb_pipeline.publish.integrity_gates import Gate

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


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 Bytes"), (999, "999 Bytes"), (71_428, "71.4 kB"), (12_345_678, "12.3 MB")]
)
def test_bytes_have_a_unit_for_people_and_a_number_to_plot(number: int, words: str) -> None:
    assert size_metadata("raw", number) == {"raw": words, "raw_bytes": number}


def test_a_stage_says_in_words_what_it_did_before_its_numbers() -> None:
    report = StageReport("fetch", 49, 44, 40, rejected=Counter(robots=4), failed=Counter(http_503=1), seconds=3.62)
    metadata = report_metadata(report)
    assert next(iter(metadata.items())) == (
        "summary", "44 of 49 passed, 40 unchanged, 4 rejected, 1 failed, in 3.6 s",
    )  # fmt: skip
    assert metadata["seconds"] == 3.62


def test_keys_that_are_addresses_become_links_and_others_do_not() -> None:
    changes = VersionChanges(3, {"removed": 1, "changed": 0, "added": 2}, [
        ("removed", "https://site.example/old"), ("added", "javascript:alert(1)"), ("added", "notes/one.txt"),
    ])  # fmt: skip
    metadata = change_metadata(changes)
    assert metadata["changes"] == "documents since version 3: 1 removed, 2 added"
    assert metadata["documents_added"] == 2
    assert metadata["links"].value == "- <https://site.example/old>"


def test_a_held_check_says_so_and_a_forced_one_warns() -> None:
    gate = Gate("not_shrunk", passed=False, message="3 of 5 documents vanished", holds=True)
    (held,) = check_results([gate], ["not_shrunk"], force=False)
    (forced,) = check_results([gate], ["not_shrunk"], force=True)
    assert (held.description, held.severity) == ("held: 3 of 5 documents vanished", dg.AssetCheckSeverity.ERROR)
    assert (forced.description, forced.severity) == ("3 of 5 documents vanished", dg.AssetCheckSeverity.WARN)
