"""The contract of a source: what refreshing a KB asks of each origin of documents, and what it gives it.

A source is handed what is known of its keys, a journal, an account that limits it and a scheduler that paces it. It
writes one row a key to the journal, with the bytes of what is new, and returns a `Listing`. Rules that every source
keeps:

- A key names the same document in every refresh, and only that one, within its source.
- A row says `fetched` (with bytes), `unchanged`, `rejected` or `failed`, the last two with a reason code. A failure
  keeps the last good document; of rejections only those of PROOF_OF_ABSENCE end one.
- A key without a row is one that the source did not see. Only a listing that is `complete` proves by it that the
  document is gone; a source that cannot be sure says so, and nothing is deleted.
- Killed at any line, it is called again with the same journal and goes on: it asks again for nothing that is there.
- It asks the account before what costs a page, and the scheduler before it asks a host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kb_pipeline.errors import Problem
from kb_pipeline.fetch.journal import RowFormat
from kb_pipeline.host_scheduler import HostScheduler
from kb_pipeline.model import PagesUsed, Record, ReportProgress
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from kb_pipeline.store.raw_segments import RawBody

PROOF_OF_ABSENCE = ("not_found", "robots", "excluded", "out_of_scope", "noindex", "erased")
"""Reasons of rejections that end a document's life; after every other outcome the last good bytes stay."""
ERASED = "erased"
ERASED_MESSAGE = "it was erased; kb erase --lift lets it be fetched again"
QUOTA = "quota"
QUOTA_MESSAGE = "the tenant's pages of the day are used up; the next refresh after they renew asks for it"


class PageAccount(Protocol):
    """Limits and records the pages that one KB's fetches use."""

    def take(self, pages: int) -> int | None:
        """Take up to `pages` pages; return how many may be requested, None when there is no limit."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Record what a fetch has used, by UTC day; a later call for the same fetch and day replaces an earlier one."""


class Unlimited:
    """An account without a limit."""

    def take(self, pages: int) -> int | None:
        """Return None: there is no limit."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """No-op."""


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A key that an earlier refresh met."""

    key: str
    sha256: str | None
    """Of the stored bytes; None when there are none."""
    state: str | None
    """What the source wrote beside the stored bytes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier refreshes know of a source's keys."""

    path: Path | None
    """A Parquet file: key, sha256, state, waits, outcome, reason, message, and the known columns of the source's own;
    in the order in which the keys are best asked for. None when no key has stored bytes."""

    def documents(self) -> Iterator[KnownDocument]:
        """Yield every key that was met, a batch in memory at a time."""
        import pyarrow.parquet as pq

        if self.path is not None:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(columns=["key", "sha256", "state"]):
                    yield from (KnownDocument(**row) for row in batch.to_pylist())


ReadBodies = Callable[[Collection[str]], Iterator["RawBody"]]
"""Yields the stored bytes of those of the keys that have some; bytes that are damaged are left out."""


def _no_bodies(_: Collection[str]) -> Iterator[RawBody]:
    return iter(())


@dataclass(frozen=True, slots=True)
class FetchJob:
    """One fetch of one source: what it is given."""

    known: Known
    journal: Path
    """The folder of its rows; what is there already need not be fetched again. See fetch.journal.JournalWriter."""
    notes: Path
    """A folder, maybe missing, for what the source wants to remember from one fetch to the next."""
    progress: ReportProgress
    account: PageAccount
    hosts: HostScheduler
    read_bodies: ReadBodies = _no_bodies


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """What an operator should know of a key or place, though the fetch went on: a sitemap that cannot be read, say."""

    key: str
    """Its URL or path."""
    outcome: str
    """`failed` when asking again later can help, else `rejected`."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a fetch says of itself; its documents are in the journal."""

    complete: bool
    """Whether every key that the source has now, or may have, got a row: documents of all other keys are gone."""
    problems: tuple[SourceProblem, ...] = ()
    """What it could not see, and why."""
    figures: Mapping[str, int] = field(default_factory=dict)
    """Counts for the stage's report, added up over the sources."""
    details: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows for the stage's report, JSON-able, those of all sources one after the other."""
    names_all: bool = False
    """Whether every key that anything in the source still leads to got a row: of the others, those without stored bytes
    are forgotten."""


class OwnColumns(Protocol):
    """The columns of `pages` that only sources of one type fill and read; see fetch.fetch_state for the others."""

    names: tuple[str, ...]
    known: tuple[str, ...]
    """Those that are written to the file of known keys."""
    order: tuple[str, ...]
    """Those by which known keys are sorted when nothing else tells them apart."""
    unwritten: tuple[str, ...]
    """Those whose change alone is not worth a write."""

    def fields(self) -> Sequence[pa.Field]:
        """Return the columns with their types, all nullable."""

    def merged(self, *, fetched: pl.Expr, gone: pl.Expr) -> Sequence[pl.Expr]:
        """Return an expression for each column that does not simply take the row's value; `NAME_old` is stored."""

    def settled(self, new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
        """Return the outcomes of a fetch, with those changed that only all of them together decide.

        Args:
            new: one row a key that the fetch has an outcome of.
            old: the source's rows of the table.
        """

    def gone(self) -> pl.Expr:
        """Return whether a row ends a document's life for a reason that only this type knows."""

    def refused(self) -> pl.Expr:
        """Return whether a row without bytes is what a server said, who may say otherwise another time."""

    def as_known(self) -> Sequence[pl.Expr]:
        """Return what differs, in the file of known keys, from what is stored."""


class NoColumns:
    """For sources to which the shared columns are enough."""

    names: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    unwritten: tuple[str, ...] = ()

    def fields(self) -> Sequence[pa.Field]:
        """Return nothing."""
        return ()

    def merged(self, *, fetched: pl.Expr, gone: pl.Expr) -> Sequence[pl.Expr]:
        """Return nothing."""
        del fetched, gone
        return ()

    def settled(self, new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
        """Return the outcomes as they are."""
        del old
        return new

    def gone(self) -> pl.Expr:
        """Return false."""
        import polars as pl

        return pl.lit(value=False)

    def refused(self) -> pl.Expr:
        """Return false."""
        return self.gone()

    def as_known(self) -> Sequence[pl.Expr]:
        """Return nothing."""
        return ()


class Source(Protocol):
    """One source of a KB, ready to be fetched."""

    @property
    def name(self) -> str:
        """The name that the KB file gives it."""

    @property
    def type(self) -> str:
        """The type that the KB file gives it, a key of fetch.registry.SOURCE_TYPES."""

    @property
    def columns(self) -> OwnColumns:
        """The columns of `pages` that are its own."""

    def fingerprint(self) -> str:
        """Return what changes when any of its rules does: a journal is gone on with only by the same rules."""

    def warm_up(self, *, knows_documents: bool) -> AbstractContextManager[object]:
        """Start what takes time to start, while the caller opens its tables; end it if it was not used."""

    def fetch(self, job: FetchJob) -> Listing:
        """Write a row for every key to the journal; an exception ends the refresh, and the journal stays."""


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """What one rule says of a key."""

    rule: str
    """A field of the source, such as `exclude`; or `robots.txt`, `address`, `erasure`."""
    allows: bool | None
    """Whether the rule lets it become a document; None where that cannot be told without asking."""
    said: str
    reason: str | None = None
    """The reason code of a key that the rule leaves out."""
    place: tuple[str | int, ...] = ()
    """Where in the source's part of the KB file the rule stands: `("exclude", 0)`."""
    line: str | None = None
    """What the KB file says there, or the deciding line of robots.txt behind its number."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What is stored that tells how a source met a key, and how it would decide."""

    notes: Path
    """The folder of what the source remembers."""
    redirects: Callable[[str], str | None]
    """Return what a key redirected to when it was last asked for."""
    kept: int
    """Keys of the source with stored bytes."""
    has_bytes: bool
    """Whether this key is one of them."""


@dataclass(frozen=True, slots=True)
class KeyView:
    """What a source says of one key, without asking for it."""

    decisions: tuple[Decision, ...]
    """In the order in which they are made."""
    chain: tuple[str, ...] = ()
    """A shortest chain of links from a start to the key, both included; empty where none is stored."""
    linked_from: tuple[str, ...] = ()
    """The stored keys that lead to it."""
    depth: int | None = None
    """Links from a start by the chain; None without one."""


Redact = Callable[[Any], Any]
"""Hides in JSON what variables gave."""
GivenT = TypeVar("GivenT", contravariant=True)


class SourceType(Protocol[GivenT]):
    """What is done with a source of a KB file, apart from fetching it; a module can be one."""

    @property
    def ROWS(self) -> RowFormat[Any]:  # noqa: N802 - a module's constant
        """How such sources write their journal."""

    @property
    def COLUMNS(self) -> OwnColumns:  # noqa: N802 - a module's constant
        """The columns of `pages` that such sources have for themselves."""

    @property
    def DEPENDENCIES(self) -> Mapping[str, Callable[[Settings], str]]:  # noqa: N802 - a module's constant
        """What such sources need of this machine, each with what `kb doctor` asks of it: a state, or a KbError."""

    def origin(self, given: GivenT) -> str:
        """Return where it starts, in one line for people."""

    def check(self, given: GivenT, settings: Settings, *, is_operator: bool) -> Iterator[Problem]:
        """Yield what is wrong with it beyond its own fields: asked when a file is applied.

        `is_operator` says whether whoever applied the file runs the installation, or else showed a tenant's API key.
        """

    def warnings(self, given: GivenT, settings: Settings, redact: Redact) -> Iterator[str]:
        """Yield what whoever applies it should know, though nothing is wrong."""

    def spell(self, key: str) -> str | None:
        """Return the one spelling of a key that somebody names, None for what is no key of such a source."""

    def explain(self, given: GivenT, settings: Settings, key: str, traces: Traces) -> KeyView:
        """Return how a key is met and what is decided about it; nothing is asked for, on the network or elsewhere."""

    def open_source(self, given: GivenT, settings: Settings, erased: Sequence[str], *, is_operator: bool) -> Source:
        """Return the source; documents whose ids (model.document_id) are `erased` must not be fetched.

        It refuses by itself what whoever applied the file may not name (any more).
        """
