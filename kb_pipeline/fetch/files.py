"""Files beneath a folder as a source: keys are paths relative to it, in their order.

A file whose size and time of change are the stored ones is not read; else its hash decides. Links may lead to files
beneath the folder, never out of it, whoever swaps them while they are read. What cannot be read keeps its last good
document, and a folder that is not there, or has lost all its files, deletes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from mimetypes import MimeTypes
from pathlib import Path, PurePosixPath

from kb_pipeline.errors import Problem, Unhealthy
from kb_pipeline.fetch.file_tree import (
    REASONS,
    File,
    FileTree,
    Refused,
    check_place,
    compile_glob,
    hint_of,
    is_beneath,
    read_settled,
)
from kb_pipeline.fetch.journal import DOCUMENT_ROWS, DocumentRow, JournalWriter, read_outcomes
from kb_pipeline.fetch.page_budget import PageBudget
from kb_pipeline.fetch.source import (
    ERASED,
    QUOTA,
    Decision,
    FetchJob,
    KeyView,
    KnownDocument,
    Listing,
    NoColumns,
    Redact,
    SourceProblem,
    Traces,
)
from kb_pipeline.model import digest, document_id
from kb_pipeline.settings import Settings
from kb_pipeline.spec.sources import FilesSource

ROWS = DOCUMENT_ROWS
COLUMNS = NoColumns()
_TYPES = {
    ".htm": "text/html", ".html": "text/html", ".md": "text/markdown", ".markdown": "text/markdown",
    ".rst": "text/x-rst", ".text": "text/plain", ".txt": "text/plain", ".xhtml": "application/xhtml+xml",
}  # fmt: skip
TEXT_SUFFIXES = frozenset(_TYPES)
"""Of files that hold readable text."""
_OTHER_TYPES = MimeTypes()
"""Python's own list: what the machine's says differs from one to the next."""
_PROGRESS_FILES = 50
_MAX_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class FileRules:
    """What a source of the KB file and the operator ask."""

    source: str
    root: str
    paths: tuple[str, ...]
    exclude: tuple[str, ...]
    max_files: int
    max_bytes: int
    allowed_roots: tuple[str, ...] | None
    """Beneath which folders the root must lie, wherever links lead; None for anywhere."""
    closed: tuple[str, ...] = ()
    """Folders and files of the installation that are not read."""
    erased: tuple[str, ...] = ()


class FilesFolder:
    """A folder, read by its rules."""

    type = "files"
    columns = COLUMNS

    def __init__(self, rules: FileRules) -> None:
        self.rules, self.name = rules, rules.source

    def fingerprint(self) -> str:
        """Return what changes when any rule does."""
        return digest("file-rules", json.dumps(asdict(self.rules), sort_keys=True))

    def warm_up(self, *, knows_documents: bool) -> AbstractContextManager[object]:
        """Do nothing: there is nothing to start."""
        del knows_documents
        return nullcontext()

    def fetch(self, job: FetchJob) -> Listing:
        """Read what is new or changed into the journal."""
        with _Journal(job) as journal:
            return _Fetch(self.rules, job, journal).run()


class _Journal:
    """Writes rows, except those that an interrupted fetch has written already."""

    def __init__(self, job: FetchJob) -> None:
        self._writer = JournalWriter(job.journal, ROWS)
        past = read_outcomes(job.journal, ROWS.schema()).select(["key", "outcome", "state"])
        self._had = {row["key"]: row["state"] for row in past.to_pylist() if row["outcome"] in ("fetched", "unchanged")}

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def has(self, key: str, state: str) -> bool:
        """Return whether the file has been read as it is now."""
        return self._had.get(key) == state

    def write(self, row: DocumentRow) -> None:
        """Append a row; the last one of a key counts."""
        self._writer.append(row)


class _Fetch:
    """One walk over the folder."""

    def __init__(self, rules: FileRules, job: FetchJob, journal: _Journal) -> None:
        self._rules, self._job, self._journal = rules, job, journal
        self._budget = PageBudget(job.account)
        self._known = _KnownKeys(job)
        self._erased = frozenset(rules.erased)
        self._problems: list[SourceProblem] = []
        self._blind: list[str] = []
        """Folders that could not be listed, with a slash behind them."""
        self._listed = self._read = self._bytes = self._skipped = self._unrecorded = 0

    def run(self) -> Listing:
        """Give every file a row."""
        try:
            self._root = _real_root(self._rules)
            for file in FileTree(self._root, self._rules.paths, self._rules.exclude, self._refuse_folder).files():
                self._take(file)
            if self._listed == 0 and not self._blind and self._job.known.path is not None:
                raise Refused("empty_folder")
        except Refused as refused:
            self._note(self._rules.root, refused)
            self._keep_known(lambda _: True, refused)
            return self._listing(complete=False)
        self._keep_known(lambda key: key.startswith(tuple(self._blind)), Refused("folder_unreadable"))
        return self._listing(complete=True)

    def _listing(self, *, complete: bool) -> Listing:
        figures = {"files_read": self._read, "body_bytes": self._bytes}
        optional = {"not_asked": self._skipped, "not_recorded": self._unrecorded}
        figures |= {name: figure for name, figure in optional.items() if figure}
        return Listing(complete, tuple(self._problems), figures)

    def _take(self, file: File) -> None:
        known = self._known.find(file.key)
        self._listed += 1
        if self._listed % _PROGRESS_FILES == 0:
            self._job.progress(self._listed, None)
        if self._listed > self._rules.max_files and known is None:
            self._unrecorded += 1
            return
        try:
            if self._listed > self._rules.max_files:
                raise Refused("max_files")
            self._look_at(file, known)
        except Refused as refused:
            self._write(file.key, refused.outcome, reason=refused.reason, message=refused.message)

    def _look_at(self, file: File, known: KnownDocument | None) -> None:
        """Write the row of a file that may be read; raise Refused for others."""
        if document_id(self._rules.source, file.key) in self._erased:
            raise Refused(ERASED)
        hint = hint_of(self._stat(file))
        if self._journal.has(file.key, hint):
            return
        if known is not None and known.sha256 and known.state == hint:
            self._skipped += 1
            self._write(file.key, "unchanged", sha256=known.sha256, state=hint)
            return
        if not self._budget.spend():
            raise Refused(QUOTA)
        body, hint_read = read_settled(file.path, self._root, self._rules.closed, self._rules.max_bytes)
        self._read, self._bytes = self._read + 1, self._bytes + len(body)
        sha256 = hashlib.sha256(body).hexdigest()
        is_same = known is not None and known.sha256 == sha256
        self._write(
            file.key, "unchanged" if is_same else "fetched", attempts=1, received=len(body), sha256=sha256,
            body=None if is_same else body, state=hint_read, content_type=_content_type(file.key),
        )  # fmt: skip

    def _stat(self, file: File) -> os.stat_result:
        """Return what the system says of a file without opening it."""
        try:
            if file.is_link:
                check_place(os.path.realpath(file.path), self._root, self._rules.closed)
            found = file.path.stat()
        except OSError as error:
            raise Refused("unreadable", error.strerror) from None
        if not stat.S_ISREG(found.st_mode):
            raise Refused("not_a_file")
        if found.st_size > self._rules.max_bytes:
            raise Refused("too_large", f"{found.st_size} bytes")
        return found

    def _write(self, key: str, outcome: str, **fields: str | bytes | int | None) -> None:
        url = Path(self._rules.root, key).as_uri()
        self._journal.write(DocumentRow(key, url, outcome, datetime.now(UTC), **fields))  # type: ignore[arg-type] # each field has its type

    def _refuse_folder(self, key: str, refused: Refused) -> None:
        """Note a folder, or a name in it, that cannot be looked into."""
        self._note(key, refused)
        if refused.reason == "folder_unreadable":
            self._blind.append(f"{key}/")

    def _note(self, key: str, refused: Refused) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(SourceProblem(key, refused.outcome, refused.reason, refused.message))

    def _keep_known(self, is_kept: Callable[[str], bool], why: Refused) -> None:
        """Give known keys that could not be looked for a row that keeps their documents."""
        for known in self._job.known.documents():
            if known.sha256 and is_kept(known.key):
                self._write(known.key, "failed", reason=why.reason, message=REASONS[why.reason])


class _KnownKeys:
    """Known documents in the order of their keys, which is also that of the walk."""

    def __init__(self, job: FetchJob) -> None:
        self._rows = self._sorted(job)
        self._next = next(self._rows, None)

    def find(self, key: str) -> KnownDocument | None:
        """Return the document of a key; keys must be asked for in their order."""
        while self._next is not None and self._next.key < key:
            self._next = next(self._rows, None)
        return self._next if self._next is not None and self._next.key == key else None

    @staticmethod
    def _sorted(job: FetchJob) -> Iterator[KnownDocument]:
        import polars as pl

        if job.known.path is not None:
            columns = pl.read_parquet(job.known.path, columns=["key", "sha256", "state"]).sort("key")
            yield from (KnownDocument(*row) for row in columns.iter_rows())


def _real_root(rules: FileRules) -> str:
    """Return the folder that the root leads to; raise Refused where it may not be read or is not there."""
    root = os.path.realpath(rules.root)
    if not is_allowed(root, rules.allowed_roots, rules.closed):
        raise Refused("root_not_allowed")
    if not Path(root).is_dir():
        raise Refused("root_missing")
    return root


def is_allowed(root: str, allowed_roots: Sequence[str] | None, closed: Sequence[str]) -> bool:
    """Return whether a folder, given by its real path, may be a source's root."""
    if allowed_roots is None:
        return True
    is_opened = any(is_beneath(root, os.path.realpath(each)) for each in allowed_roots)
    return is_opened and not any(is_beneath(root, each) for each in closed)


def _content_type(key: str) -> str:
    return (
        _TYPES.get(PurePosixPath(key).suffix.lower()) or _OTHER_TYPES.guess_type(key)[0] or "application/octet-stream"
    )


def origin(given: FilesSource) -> str:
    """Return the folder and the first glob."""
    return f"{given.root.rstrip('/')}/{given.paths[0]}"


def check(given: FilesSource, settings: Settings, *, is_operator: bool) -> Iterator[Problem]:
    """Yield whether the root is none that a tenant may name; whether there is such a folder is not told."""
    rules = _rules(given, settings, (), is_operator=is_operator)
    if not is_allowed(os.path.realpath(given.root), rules.allowed_roots, rules.closed):
        yield Problem("root", repr(given.root), REASONS["root_not_allowed"])


def warnings(given: FilesSource, settings: Settings, redact: Redact) -> Iterator[str]:
    """Yield that the folder is not here: the refresh may run on another machine."""
    del settings
    if not Path(given.root).is_dir():
        yield f"source {given.name}: there is no folder {redact(given.root)} on this machine"


def spell(key: str) -> str | None:
    """Return the path relative to the source's folder; None for what cannot be one."""
    is_none = not key or key.startswith("/") or "://" in key or "\0" in key or ".." in key.split("/")
    return None if is_none else key


def explain(given: FilesSource, settings: Settings, key: str, traces: Traces) -> KeyView:
    """Return what the globs say of a path; the folder is not looked into."""
    del settings, traces
    return KeyView(tuple(_glob_decisions(given, key)))


def _glob_decisions(given: FilesSource, key: str) -> Iterator[Decision]:
    if (number := _first_match(given.paths, key)) is None:
        yield Decision("paths", False, "no glob of paths matches it", "excluded", ("paths",))
    else:
        yield Decision("paths", True, "a glob of paths matches it", place=("paths", number))
    if (number := _first_match(given.exclude, key)) is not None:
        yield Decision("exclude", False, "a glob leaves it out", "excluded", ("exclude", number))


def _first_match(globs: Sequence[str], key: str) -> int | None:
    return next((number for number, glob in enumerate(globs) if compile_glob(glob).fullmatch(key)), None)


def open_source(given: FilesSource, settings: Settings, erased: Sequence[str], *, is_operator: bool) -> FilesFolder:
    """Return the folder with the rules of the KB file and of the operator."""
    return FilesFolder(_rules(given, settings, erased, is_operator=is_operator))


def _rules(given: FilesSource, settings: Settings, erased: Sequence[str], *, is_operator: bool) -> FileRules:
    theirs = (settings.home, settings.data_dir, settings.secret_keys_file, settings.database_url_file)
    return FileRules(
        source=given.name,
        root=given.root,
        paths=tuple(given.paths),
        exclude=tuple(given.exclude),
        max_files=given.max_files,
        max_bytes=round(given.max_file_mb * (1 << 20)),
        allowed_roots=None if is_operator else tuple(str(root) for root in settings.file_roots),
        closed=() if is_operator else tuple(os.path.realpath(each) for each in theirs if each is not None),
        erased=tuple(erased),
    )


def _roots_state(settings: Settings) -> str:
    if missing := [str(root) for root in settings.file_roots if not root.is_dir()]:
        raise Unhealthy(f"KB_FILE_ROOTS names what is no folder on this machine: {', '.join(missing)}")
    told = ", ".join(str(root) for root in settings.file_roots)
    return f"tenants may name folders beneath {told}" if told else "no folder is opened to tenants (KB_FILE_ROOTS)"


DEPENDENCIES: Mapping[str, Callable[[Settings], str]] = {"file roots": _roots_state}
