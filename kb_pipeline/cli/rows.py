"""Prints rows and fields: aligned for people on a terminal, tab-separated and whole for other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Literal, TypeAlias, TypeVar

import typer

from kb_pipeline.units import from_now, size, span

T = TypeVar("T")
Columns: TypeAlias = Mapping[str, Callable[[T], object]]
"""By its name, what a column shows of a row."""

LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows.")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="A,B", help="Only these columns, in this order; 'help' lists them.")
]


class Bytes(int):
    """A number of bytes: `12.3 MB` for people."""


class Seconds(float):
    """A time span: `2 min 5 s` for people."""


class Code(str):
    """A word of ours, with spaces for people: `ready with warnings`."""

    __slots__ = ()


class Ago(datetime):
    """A time that people read from now: `3 minutes ago`."""

    @classmethod
    def of(cls, at: datetime | None) -> Ago | None:
        """Return an aware time as one that is read from now."""
        return None if at is None else cls.fromtimestamp(at.timestamp(), UTC)


def print_rows(
    rows: Iterable[T], columns: Columns[T], shown: Sequence[str], *, chosen: str | None = None, limit: int | None = None
) -> None:
    """Print rows: a table on a terminal, else a line for each, tab-separated, without a heading.

    Args:
        rows: what is listed; read as far as it is printed.
        columns: all that can be shown.
        shown: which are, where nobody chose.
        chosen: `--columns`.
        limit: `--limit`.

    Raises:
        UsageError: `chosen` names a column that is none.
    """
    names = _chosen(chosen, list(columns)) if chosen is not None else list(shown)
    cells = ([columns[name](row) for name in names] for row in islice(rows, limit))
    print_table(names, cells)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print rows of cells as `print_rows` does."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(map(plain, row)) + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from kb_pipeline.cli.terminal import out, printable

    table = Table(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 0), pad_edge=False
    )
    read = list(rows)
    for number, name in enumerate(columns):
        is_figure = any(isinstance(row[number], (int, float)) for row in read) and all(
            row[number] is None or isinstance(row[number], (int, float)) for row in read
        )
        # Folded, never cut: a key that ends in dots is of no use. What rows begin with stays whole where there is room.
        longest = max((len(for_people(row[0])) for row in read), default=0)
        is_whole = number == 0 and longest <= out.width // 2
        justify: Literal["left", "right"] = "right" if is_figure else "left"
        table.add_column(name, overflow="fold", justify=justify, no_wrap=is_whole)
    for row in read:
        table.add_row(*(escape(printable(for_people(cell))) for cell in row))
    out.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print what is known of one thing, a line a field: aligned on a terminal, else tab-separated; no empty ones."""
    known = {name: value for name, value in fields.items() if value not in (None, "", ())}
    from kb_pipeline.cli.terminal import printable

    width = max(map(len, known), default=0)
    for name, value in known.items():
        if sys.stdout.isatty():
            text = printable(for_people(value)).replace("\n", "\n" + " " * (width + 2))
            sys.stdout.write(f"{name:<{width}}  {text}\n")
        else:
            sys.stdout.write(f"{name}\t{plain(value)}\n")


def for_people(value: object) -> str:
    """Return a value with units, as people read it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Bytes):
        return size(value)
    if isinstance(value, Seconds):
        return span(value)
    if isinstance(value, Ago):
        return from_now(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if isinstance(value, Code):
        return value.replace("_", " ")
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain(value: object) -> str:
    """Return a value whole and on one line, for other programs; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, (int, float)):
        return f"{value:d}" if isinstance(value, int) else repr(float(value))
    return "".join(c if c.isprintable() else " " for c in str(value))


def _chosen(written: str, known: Sequence[str]) -> list[str]:
    from kb_pipeline.errors import UsageError
    from kb_pipeline.spec.problems import did_you_mean

    if written.strip() == "help":
        sys.stdout.write("\n".join(known) + "\n")
        raise typer.Exit
    names = [name.strip() for name in written.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise UsageError(f"no column {unknown[0]!r};{f' {near}' if near else ''} there are: {', '.join(known)}")
    if not names:
        raise UsageError(f"name columns, as in --columns {','.join(known[:2])}; there are: {', '.join(known)}")
    return names
