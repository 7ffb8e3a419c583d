"""Segments, and which row of a key counts."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from kb_pipeline.fetch.journal import SEGMENT_ROWS, segments
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, Row, read_outcomes, read_rows, schema
from kb_pipeline.fetch.web.crawl.known_pages import KnownPages
from kb_pipeline.fetch.web.reasons import FAILED, REJECTED, explain, is_transient
from kb_pipeline_tests.fetch.web.conftest import rules_for


def _row(key: str, outcome: str = "fetched", body: bytes | None = b"x") -> Row:
    return Row(key=key, url=key, outcome=outcome, fetched_at=datetime.now(UTC), depth=0, body=body)


def test_segments_are_numbered_complete_and_bounded(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    for number in range(SEGMENT_ROWS + 1):
        writer.append(_row(f"k{number}"))
    writer.append(_row("big", body=b"x" * 9_000_000))
    writer.append(_row("last"))
    writer.close()
    assert [path.name for path in segments(tmp_path)] == [f"{number:06d}.parquet" for number in (1, 2, 3)]
    assert [pq.read_metadata(path).num_rows for path in segments(tmp_path)] == [SEGMENT_ROWS, 2, 1]
    assert pq.read_schema(segments(tmp_path)[0]).equals(schema())


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    first = JournalWriter(tmp_path)
    first.append(_row("a", "failed", None))
    first.append(_row("b"))
    first.close()
    second = JournalWriter(tmp_path)
    second.append(_row("a", "fetched", b"later"))
    second.close()
    assert read_outcomes(tmp_path).select(["key", "outcome"]).to_pylist() == [
        {"key": "b", "outcome": "fetched"},
        {"key": "a", "outcome": "fetched"},
    ]
    assert [(row["key"], row["body"]) for row in read_rows(tmp_path)] == [("b", b"x"), ("a", b"later")]


def test_what_a_killed_writer_had_appended_is_taken_up(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from kb_pipeline.fetch.web.crawl.journal import JournalWriter, Row\n"
        "writer = JournalWriter(Path(sys.argv[1]))\n"
        "for n in range(300): writer.append(Row(f'k{n}', f'k{n}', 'fetched', datetime.now(UTC), 0, body=b'x' * n))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    (open_segment,) = tmp_path.glob("000002.open")
    open_segment.write_bytes(open_segment.read_bytes()[:-5])  # as if the kill had come within the last row
    JournalWriter(tmp_path).close()
    rows = {row["key"]: row for row in read_rows(tmp_path)}
    assert sorted(rows) == sorted(f"k{number}" for number in range(299))
    assert len(rows["k298"]["body"]) == 298
    assert rows["k0"]["fetched_at"].tzinfo is not None
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".parquet", ".parquet"]


def test_an_empty_journal_reads_as_no_rows(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path / "none").num_rows == 0
    assert list(read_rows(tmp_path / "none")) == []
    assert len(KnownPages(None)) == 0
    assert KnownPages(None).get("x") is None


def test_rules_survive_json_and_have_a_fingerprint() -> None:
    rules = rules_for("https://example.com/", sitemap=("https://example.com/s.xml",), include=("/a/**",))
    again = type(rules).from_json(rules.as_json())
    assert again == rules
    assert again.fingerprint() == rules.fingerprint()
    assert rules_for("https://example.com/", delay_s=2.0).fingerprint() != rules.fingerprint()


def test_reason_codes_belong_to_one_outcome() -> None:
    assert not set(REJECTED) & set(FAILED)
    assert not any(is_transient(reason) for reason in REJECTED)
    assert is_transient("http_503")
    assert not is_transient("http_403")
    assert "5xx" in explain("http_503")
    assert "robots.txt" in explain("robots")


def test_the_caller_imports_nothing_heavy() -> None:
    heavy = "{'scrapy', 'twisted', 'pyarrow', 'lxml', 'tldextract'}"
    ours = "kb_pipeline.fetch.web.crawl.process, kb_pipeline.fetch.web.crawl.journal"
    code = f"import sys, {ours}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
