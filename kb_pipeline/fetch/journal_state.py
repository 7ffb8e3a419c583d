"""What lies on disk beside `pages` while and between fetches: unfinished journals, known keys, times of checks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.fetch.journal import pages_used, segments
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.fetch.revisit import RevisitPolicy, plan
from kb_pipeline.fetch.source import QUOTA, Known, OwnColumns, Source
from kb_pipeline.model import PagesUsed
from kb_pipeline.store.durable_files import atomic_write, write_durably
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import commit_segments
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl

_KNOWN = ("key", "sha256", "state", "waits", "outcome", "reason", "message")
"""The columns of the file of known keys that every type of source has."""
_PLANNED = (
    "source", "key", "sha256", "segment", "state", "outcome", "reason", "message", "failures", "tried_at", "changes",
    "first_at",
)  # fmt: skip
_RESUME_WITHIN_S = 24 * 3600
"""An interrupted fetch is gone on with if it is younger than a day."""
_FIRST_TYPE = "web"
"""The type of a journal whose note does not say it: earlier releases knew no other."""


class FetchJournal:
    """Where one source's fetch keeps what it has until the table knows it."""

    def __init__(self, paths: KbPaths, source: Source, run_id: str) -> None:
        self.path, self._raw = paths.journal(source.name), paths.raw
        self._note = self.path.with_suffix(".json")
        self._rows = SOURCE_TYPES[source.type].ROWS
        self.fetch_id = self._begin_or_resume(source, run_id)

    @property
    def known_path(self) -> Path:
        """The file of known keys that belongs to it."""
        return self._note.with_suffix(".known.parquet")

    def used(self) -> dict[str, PagesUsed]:
        """Return what it has cost so far, by UTC day."""
        return pages_used(self.path, self._rows)

    def outcomes(self) -> pl.DataFrame:
        """Return the last row of every key without its body, and where that will lie among the raw segments."""
        import polars as pl

        columns = [name for name in self._rows.schema().names if name in {*pages_schema().names, "attempts"}]
        nothing = pl.DataFrame(pl.from_arrow(self._rows.schema().empty_table().select(columns)))
        frames = [
            pl.read_parquet(path, columns=columns)
            .with_row_index("position")
            .with_columns(pl.col("position").cast(pl.Int64), segment=pl.lit(f"{self.fetch_id}-{path.name}"))
            for path in segments(self.path)
        ]
        if not frames:
            return nothing.with_columns(position=pl.lit(0, pl.Int64), segment=pl.lit(""))
        return pl.concat(frames).unique("key", keep="last", maintain_order=True)

    def adopt(self, outcomes: pl.DataFrame) -> None:
        """Move the segments with bodies among the raw ones.

        The table was written first: a crash before the note says so leaves the journal, and the next fetch comes here
        again. After that the fetch is over, and what comes next is another one: its segments must not take the names
        of those that have been moved already.
        """
        import polars as pl

        wanted = outcomes.filter(pl.col("outcome") == "fetched")["segment"].unique().to_list()
        if wanted:
            write_durably(self._note, json.dumps({"fetch_id": self.fetch_id, "adopted": wanted}).encode())
        else:
            self._note.unlink(missing_ok=True)
        self._adopt(self.fetch_id, wanted)

    def _adopt(self, fetch_id: str, wanted: Sequence[str]) -> None:
        commit_segments(self.path, self._raw, fetch_id, wanted)
        self._note.unlink(missing_ok=True)
        self.known_path.unlink(missing_ok=True)

    def _begin_or_resume(self, source: Source, run_id: str) -> str:
        """Keep the journal of an interrupted fetch by the same rules, else start an empty one; return its id.

        A fetch that was over but for moving its segments is brought to its end first.
        """
        try:
            state = json.loads(self._note.read_bytes())
            is_fresh = time.time() - self._note.stat().st_mtime < _RESUME_WITHIN_S
            if "adopted" in state:
                self._adopt(str(state["fetch_id"]), state["adopted"])
            elif is_fresh and state["rules"] == source.fingerprint():
                return str(state["fetch_id"])
        except (OSError, ValueError, KeyError):
            pass  # no interrupted fetch, or a torn note: begin anew
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        fetch_id = f"{source.name}-{run_id[:8]}-{time.time_ns():x}"
        note = {"fetch_id": fetch_id, "rules": source.fingerprint(), "type": source.type}
        write_durably(self._note, json.dumps(note).encode())
        return fetch_id


def unfinished(paths: KbPaths) -> Iterator[tuple[str, dict[str, PagesUsed]]]:
    """Yield the fetches that were interrupted, each with what it has used; some will never be gone on with."""
    for note in sorted(paths.journals.glob("*.json")):
        try:
            state = json.loads(note.read_bytes())
            fetch_id, rows = str(state["fetch_id"]), SOURCE_TYPES[state.get("type", _FIRST_TYPE)].ROWS
        except (ValueError, KeyError):
            continue
        if "adopted" not in state:  # else it has been counted, and is half gone
            yield fetch_id, pages_used(note.with_suffix(""), rows)


class Checks:
    """When each key of a source was last asked for; a file of its own, so that asking alone changes no table."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> pl.DataFrame:
        """Return `key`, `checked_at` and `refusals` (how often in a row a server refused it) of every key noted."""
        import polars as pl

        nothing = pl.DataFrame(
            schema=[("key", pl.String), ("checked_at", pl.Datetime("us", "UTC")), ("refusals", pl.Int32)]
        )
        if not self._path.exists():
            return nothing
        # Files of earlier releases lack `refusals`.
        return pl.concat([pl.read_parquet(self._path), nothing], how="diagonal").select(nothing.columns)

    def note(self, outcomes: pl.DataFrame, refused: pl.Expr, *, pages_too: bool) -> None:
        """Remember what a fetch asked for; keys that failed, or that it has no outcome of, are forgotten.

        Args:
            outcomes: one row a key.
            refused: whether a server refused to give it.
            pages_too: whether pages that came are remembered, not only what was refused.
        """
        import polars as pl

        # Those that a quota left out wait in the order in which they were last asked for.
        waits = (pl.col("reason") == QUOTA).fill_null(value=False)
        came = pl.col("outcome").is_in(["fetched", "unchanged"])
        noted = outcomes.with_columns(is_refused=refused.fill_null(value=False)).filter(
            pl.col("is_refused") | waits | (came if pages_too else pl.lit(value=False))
        )
        before = self.read()
        again = pl.when("is_refused").then(pl.col("refusals").fill_null(0) + 1).otherwise(0).cast(pl.Int32)
        asked = noted.filter(pl.col("attempts") > 0).join(before, on="key", how="left")
        asked = asked.select("key", checked_at="fetched_at", refusals=again)
        earlier = before.join(noted.filter(pl.col("attempts") == 0), on="key", how="semi")
        self._write(pl.concat([asked, earlier]))

    def _write(self, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path, self._path.with_suffix(".tmp")) as file:
            rows.write_parquet(file, compression="zstd")


def write_known(pages: LanceTable, source: Source, path: Path, checks: Checks, policy: RevisitPolicy) -> Known:
    """Write every key met so far, for the source to ask after those with stored bytes; nothing when there are none."""
    import polars as pl

    own: OwnColumns = source.columns
    columns = list(dict.fromkeys([*_PLANNED, *own.known]))
    known = pages.require_unique(pages.read_columns(columns).filter(pl.col("source") == source.name), "key")
    if known["sha256"].null_count() == known.height:
        return Known(None)
    has_bytes = pl.col("segment").is_not_null()
    planned = plan(known, checks.read(), policy, datetime.now(UTC), own.order, own.refused()).with_columns(
        *own.as_known(),
        state=pl.when(has_bytes).then("state"),  # else the bytes were damaged, and are to be fetched again
    )
    planned.select(*_KNOWN, *own.known).write_parquet(path, compression="lz4")
    return Known(path)
