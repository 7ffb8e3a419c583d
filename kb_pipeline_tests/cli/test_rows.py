"""How rows and fields are printed: for people on a terminal, tab-separated and whole for programs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import typer

from kb_pipeline.cli.rows import Ago, Bytes, Code, Seconds, for_people, plain, print_fields, print_rows
from kb_pipeline.errors import UsageError

ROWS = [("https://example.com/a\tb\nc", 1234, None), ("key", 5, True)]
COLUMNS = {"key": lambda row: row[0], "count": lambda row: row[1], "good": lambda row: row[2]}
LONG = "https://example.com/" + "long-name/" * 20


def test_without_a_terminal_a_row_is_a_line_of_whole_values_and_there_is_no_heading(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, COLUMNS, list(COLUMNS))
    assert capsys.readouterr().out == "https://example.com/a b c\t1234\t\nkey\t5\tyes\n"


def test_columns_and_rows_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, ["key"], chosen="count, key", limit=1)
    assert capsys.readouterr().out == "1234\thttps://example.com/a b c\n"
    with pytest.raises(UsageError, match=r"no column 'cuont'; did you mean count\? there are: key, count, good"):
        print_rows(ROWS, COLUMNS, ["key"], chosen="cuont")
    with pytest.raises(UsageError, match="name columns"):
        print_rows(ROWS, COLUMNS, ["key"], chosen=",")
    with pytest.raises(typer.Exit):
        print_rows(ROWS, COLUMNS, ["key"], chosen="help")
    assert capsys.readouterr().out == "key\ncount\ngood\n"


def test_rows_are_read_only_as_far_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    read = []

    def rows() -> object:
        for row in ROWS:
            read.append(row)
            yield row

    print_rows(rows(), COLUMNS, ["count"], limit=1)  # type: ignore[arg-type]
    assert (len(read), capsys.readouterr().out) == (1, "1234\n")


def test_fields_that_are_not_known_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(
        {"kb": "acme/docs", "version": None, "languages": "", "documents": 0, "at": datetime(2026, 1, 2, tzinfo=UTC)}
    )
    assert capsys.readouterr().out == "kb\tacme/docs\ndocuments\t0\nat\t2026-01-02T00:00:00+00:00\n"


@pytest.mark.parametrize(
    ("value", "people", "program"),
    [
        (None, "", ""),
        (True, "yes", "yes"),
        (1234567, "1,234,567", "1234567"),
        (0.123456789, "0.1235", "0.123456789"),
        (Bytes(12_345_678), "12.3 MB", "12345678"),
        (Seconds(3.21), "3.2 s", "3.21"),
        (datetime(2026, 11, 30, 9, 5, 7, tzinfo=UTC), "2026-11-30 09:05 UTC", "2026-11-30T09:05:07+00:00"),
        ("a\x1b[31mb", "a\x1b[31mb", "a [31mb"),
        (Code("ready_with_warnings"), "ready with warnings", "ready_with_warnings"),
    ],
)
def test_values_have_units_for_people_and_are_plain_for_programs(value: object, people: str, program: str) -> None:
    assert (for_people(value), plain(value)) == (people, program)


def test_a_time_may_be_told_from_now() -> None:
    assert Ago.of(None) is None
    assert for_people(Ago.of(datetime.now(UTC) - timedelta(days=3, minutes=1))) == "3 days ago"


def test_on_a_narrow_terminal_a_key_is_folded_and_never_cut() -> None:
    program = (
        "from kb_pipeline.cli.rows import print_rows\n"
        f"print_rows([({LONG!r}, 7)], {{'key': lambda r: r[0], 'count': lambda r: r[1]}}, ['key', 'count'])"
    )
    shown = _on_terminal(program)
    assert "count" in shown
    assert LONG in re.sub(r"\s|\x1b\[[0-9;]*m|7", "", shown).replace("─", "")


def test_a_table_that_is_too_wide_for_its_terminal_loses_nothing() -> None:
    program = (
        "from datetime import UTC, datetime\n"
        "from kb_pipeline.cli.rows import Code, print_rows\n"
        "from kb_pipeline.model import KbKey\n"
        "at = datetime(2026, 1, 2, tzinfo=UTC)\n"
        "row = (KbKey('acme', 'handbook'), Code('ready_with_warnings'), 1234567, at, 'words of a message')\n"
        "print_rows([row], {str(n): (lambda r, n=n: r[n]) for n in range(5)}, list('01234'))"
    )
    words = re.sub(r"\x1b\[[0-9;]*m", "", _on_terminal(program)).split()
    for value in ("acme/handbook", "ready", "with", "warnings", "1,234,567", "2026-01-02", "UTC", "words", "message"):
        assert value in words, (value, words)


def _on_terminal(program: str) -> str:
    """Return what a Python program shows on a terminal of 60 columns."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=follower,
        stdin=follower,
        env=os.environ | {"COLUMNS": "60", "TERM": "xterm"},
    ) as child:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:  # the program has ended
            pass
        assert child.wait() == 0
    os.close(leader)
    return shown.decode()
