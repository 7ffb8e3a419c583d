"""Files beneath a folder as a source: keys are paths relative to it, in their order.

A file whose size and time of change are the stored ones is not read; else its hash decides. Links may lead to files
beneath the folder, never out of it, whoever swaps them while they are read. What cannot be read keeps its last good
document, and a folder that is not there, or has lost all its files, deletes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from mimetypes import MimeTypes
from pathlib import Path, PurePosixPath

from kb_pipeline.errors import Problem, Unhealthy
from kb_pipeline.fetch.journal import DOCUMENT_ROWS, DocumentRow, JournalWriter, read_outcomes
from kb_pipeline.fetch.page_budget import PageBudget
from kb_pipeline.fetch.source import (
    ERASED,
    ERASED_MESSAGE,
    QUOTA,
    QUOTA_MESSAGE,
    FetchJob,
    KnownDocument,
    Listing,
    NoColumns,
    Redact,
    SourceProblem,
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
_OTHER_TYPES = MimeTypes()
"""Python's own list: what the machine's says differs from one to the next."""
_SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within the same tick of its clock."""
_TRIES = 3
_PROGRESS_FILES = 50
_MAX_PROBLEMS = 1000
_REASONS = {
    "root_missing": "the folder is not there",
    "root_unreadable": "the folder cannot be listed",
    "root_not_allowed": "a tenant may name folders only beneath those that the operator opens (KB_FILE_ROOTS)",
    "empty_folder": "no file matches any more; what is stored stays until one does, or the source leaves the KB file",
    "folder_unreadable": "the folder that it lies in cannot be listed",
    "folder_link": "links to folders are not followed",
    "name_not_utf8": "its name is not UTF-8",
    "outside_root": "it is a link that leads out of the source's folder",
    "not_allowed": "it belongs to the installation",
    "not_a_file": "it is a device, a pipe or a socket",
    "too_large": "it is larger than max_file_mb",
    "max_files": "max_files files come before it",
    "empty": "it is empty; it may be being written",
    "changing": "it was changed each time while it was read",
    "unreadable": "it cannot be read",
    ERASED: ERASED_MESSAGE,
    QUOTA: QUOTA_MESSAGE,
}
"""Every reason code of a key or folder."""
_REJECTED = frozenset({"outside_root", "not_allowed", "not_a_file", "too_large", "max_files", "folder_link", ERASED})
"""Those that give the same when asked again."""


class _Refused(Exception):
    """A file or folder that gives no bytes: a reason code, and maybe what the system said."""

    def __init__(self, reason: str, said: str | None = None) -> None:
        super().__init__(reason, said)
        self.reason = reason
        self.outcome = "rejected" if reason in _REJECTED else "failed"
        self.message = f"{_REASONS[reason]}: {said}" if said else _REASONS[reason]


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
            for file in _Tree(self._rules, self._root, self._refuse_folder).files():
                self._take(file)
            if self._listed == 0 and not self._blind and self._job.known.path is not None:
                raise _Refused("empty_folder")
        except _Refused as refused:
            self._note(self._rules.root, refused)
            self._keep_known(lambda _: True, refused)
            return self._listing(complete=False)
        self._keep_known(lambda key: key.startswith(tuple(self._blind)), _Refused("folder_unreadable"))
        return self._listing(complete=True)

    def _listing(self, *, complete: bool) -> Listing:
        figures = {"files_read": self._read, "body_bytes": self._bytes}
        optional = {"not_asked": self._skipped, "not_recorded": self._unrecorded}
        figures |= {name: figure for name, figure in optional.items() if figure}
        return Listing(complete, tuple(self._problems), figures)

    def _take(self, file: _File) -> None:
        known = self._known.find(file.key)
        self._listed += 1
        if self._listed % _PROGRESS_FILES == 0:
            self._job.progress(self._listed, None)
        if self._listed > self._rules.max_files and known is None:
            self._unrecorded += 1
            return
        try:
            if self._listed > self._rules.max_files:
                raise _Refused("max_files")
            self._look_at(file, known)
        except _Refused as refused:
            self._write(file.key, refused.outcome, reason=refused.reason, message=refused.message)

    def _look_at(self, file: _File, known: KnownDocument | None) -> None:
        """Write the row of a file that may be read; raise _Refused for others."""
        if document_id(self._rules.source, file.key) in self._erased:
            raise _Refused(ERASED)
        hint = _hint(self._stat(file))
        if self._journal.has(file.key, hint):
            return
        if known is not None and known.sha256 and known.state == hint:
            self._skipped += 1
            self._write(file.key, "unchanged", sha256=known.sha256, state=hint)
            return
        if not self._budget.spend():
            raise _Refused(QUOTA)
        body, hint_read = _read_settled(file.path, self._root, self._rules.closed, self._rules.max_bytes)
        self._read, self._bytes = self._read + 1, self._bytes + len(body)
        sha256 = hashlib.sha256(body).hexdigest()
        is_same = known is not None and known.sha256 == sha256
        self._write(
            file.key, "unchanged" if is_same else "fetched", attempts=1, received=len(body), sha256=sha256,
            body=None if is_same else body, state=hint_read, content_type=_content_type(file.key),
        )  # fmt: skip

    def _stat(self, file: _File) -> os.stat_result:
        """Return what the system says of a file without opening it."""
        try:
            if file.is_link:
                _check_place(os.path.realpath(file.path), self._root, self._rules.closed)
            found = file.path.stat()
        except OSError as error:
            raise _Refused("unreadable", error.strerror) from None
        if not stat.S_ISREG(found.st_mode):
            raise _Refused("not_a_file")
        if found.st_size > self._rules.max_bytes:
            raise _Refused("too_large", f"{found.st_size} bytes")
        return found

    def _write(self, key: str, outcome: str, **fields: str | bytes | int | None) -> None:
        url = Path(self._rules.root, key).as_uri()
        self._journal.write(DocumentRow(key, url, outcome, datetime.now(UTC), **fields))  # type: ignore[arg-type] # each field has its type

    def _refuse_folder(self, key: str, refused: _Refused) -> None:
        """Note a folder, or a name in it, that cannot be looked into."""
        self._note(key, refused)
        if refused.reason == "folder_unreadable":
            self._blind.append(f"{key}/")

    def _note(self, key: str, refused: _Refused) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(SourceProblem(key, refused.outcome, refused.reason, refused.message))

    def _keep_known(self, is_kept: Callable[[str], bool], why: _Refused) -> None:
        """Give known keys that could not be looked for a row that keeps their documents."""
        for known in self._job.known.documents():
            if known.sha256 and is_kept(known.key):
                self._write(known.key, "failed", reason=why.reason, message=_REASONS[why.reason])


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


@dataclass(frozen=True, slots=True)
class _File:
    """A file whose path the globs match."""

    key: str
    path: Path
    is_link: bool


class _Tree:
    """The files beneath a folder that the globs match, in the order of their keys, one folder in memory at a time."""

    def __init__(self, rules: FileRules, root: str, refuse: Callable[[str, _Refused], None]) -> None:
        self._root, self._refuse = root, refuse
        self._paths = [compile_glob(glob) for glob in rules.paths]
        self._exclude = [compile_glob(glob) for glob in rules.exclude]
        self._heads = [_literal_head(glob) for glob in rules.paths]
        self._names_hidden = any(_is_hidden(glob) for glob in rules.paths)

    def files(self, folder: str = "") -> Iterator[_File]:
        """Yield the files beneath a folder; what cannot be listed is told to `refuse`."""
        for name, entry in self._entries(folder):
            key = folder + name
            is_link = entry.is_symlink()
            if not is_link and entry.is_dir(follow_symlinks=False):
                yield from self.files(f"{key}/") if self._may_hold(f"{key}/") else ()
            elif is_link and _leads_to_folder(entry):
                if self._may_hold(f"{key}/") and not self._is_excluded(key):
                    self._refuse(key, _Refused("folder_link"))
            elif any(glob.fullmatch(key) for glob in self._paths) and not self._is_excluded(key):
                yield _File(key, Path(entry.path), is_link)

    def _entries(self, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
        """Return what a folder holds, so that paths come in the order of their characters."""
        try:
            with os.scandir(Path(self._root, folder)) as found:
                entries = list(found)
        except FileNotFoundError:  # removed since it was listed itself
            return []
        except OSError as error:
            if not folder:
                raise _Refused("root_unreadable", error.strerror) from None
            self._refuse(folder.removesuffix("/"), _Refused("folder_unreadable", error.strerror))
            return []
        return sorted(
            ((entry.name, entry) for entry in entries if self._is_text(folder, entry.name)),
            key=lambda item: item[0] + "/" * item[1].is_dir(follow_symlinks=False),
        )

    def _is_text(self, folder: str, name: str) -> bool:
        try:
            name.encode()
        except UnicodeEncodeError:
            written = os.fsencode(folder + name).decode("utf-8", "backslashreplace")
            self._refuse(written, _Refused("name_not_utf8"))
            return False
        return True

    def _is_excluded(self, key: str) -> bool:
        return any(glob.fullmatch(key) for glob in self._exclude)

    def _may_hold(self, folder: str) -> bool:
        """Return whether a glob may match something beneath a folder."""
        is_on_the_way = any(head.startswith(folder) or folder.startswith(head) for head in self._heads)
        return is_on_the_way and (self._names_hidden or not _is_hidden(folder))


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # links in a circle, or through a folder that is closed
        return False


def compile_glob(glob: str) -> re.Pattern[str]:
    """Compile a glob for whole relative paths: `**` stands for folders, and nothing but a dot matches a leading dot."""
    *folders, name = glob.split("/")
    pieces = ["(?:[^/.][^/]*/)*" if part == "**" else f"{_segment(part)}/" for part in folders]
    last = "(?:[^/.][^/]*/)*[^/.][^/]*" if name == "**" else _segment(name)
    return re.compile("".join(pieces) + last, re.DOTALL)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _segment(part: str) -> str:
    pieces = (
        {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character) for character in part
    )  # fmt: skip
    return ("" if part.startswith(".") else r"(?!\.)") + "".join(pieces)


def _literal_head(glob: str) -> str:
    """Return the folders that everything lies in that a glob matches."""
    folders = glob.split("/")[:-1]
    plain = next((number for number, part in enumerate(folders) if re.search(r"[*?]", part)), len(folders))
    return "".join(f"{part}/" for part in folders[:plain])


def _real_root(rules: FileRules) -> str:
    """Return the folder that the root leads to; raise _Refused where it may not be read or is not there."""
    root = os.path.realpath(rules.root)
    if not is_allowed(root, rules.allowed_roots, rules.closed):
        raise _Refused("root_not_allowed")
    if not Path(root).is_dir():
        raise _Refused("root_missing")
    return root


def is_allowed(root: str, allowed_roots: Sequence[str] | None, closed: Sequence[str]) -> bool:
    """Return whether a folder, given by its real path, may be a source's root."""
    if allowed_roots is None:
        return True
    is_opened = any(_is_beneath(root, os.path.realpath(each)) for each in allowed_roots)
    return is_opened and not any(_is_beneath(root, each) for each in closed)


def _check_place(real_path: str, root: str, closed: Sequence[str]) -> None:
    if not _is_beneath(real_path, root):
        raise _Refused("outside_root")
    if any(_is_beneath(real_path, each) for each in closed):
        raise _Refused("not_allowed")


def _is_beneath(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def _read_settled(path: Path, root: str, closed: Sequence[str], max_bytes: int) -> tuple[bytes, str | None]:
    """Return the bytes of a file, and its hint unless it may change unseen; raise _Refused."""
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                # Where it really lies, now that nobody can swap it any more.
                _check_place(str(Path(f"/proc/self/fd/{descriptor}").readlink()), root, closed)
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise _Refused("not_a_file")
                body = file.read(max_bytes + 1)
                after = os.fstat(descriptor)
        except OSError as error:
            raise _Refused("unreadable", error.strerror) from None
        if len(body) > max_bytes:
            raise _Refused("too_large", f"more than {max_bytes} bytes")
        if _hint(before) == _hint(after) and len(body) == after.st_size:
            if not body:
                raise _Refused("empty")
            is_settled = time.time_ns() - after.st_mtime_ns > _SETTLED_NS
            return body, _hint(after) if is_settled else None
    raise _Refused("changing")


def _hint(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


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
        yield Problem("root", repr(given.root), _REASONS["root_not_allowed"])


def warnings(given: FilesSource, settings: Settings, redact: Redact) -> Iterator[str]:
    """Yield that the folder is not here: the refresh may run on another machine."""
    del settings
    if not Path(given.root).is_dir():
        yield f"source {given.name}: there is no folder {redact(given.root)} on this machine"


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
