"""A folder as a source: what it reads, what it leaves alone, what it refuses, and that a kill costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kb_pipeline.fetch import journal
from kb_pipeline.fetch.file_tree import compile_glob
from kb_pipeline.fetch.files import ROWS, FileRules, FilesFolder
from kb_pipeline.fetch.source import FetchJob, Known, Listing, PageAccount, Unlimited
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline.model import PagesUsed, document_id

LONG_AGO_NS = 1_700_000_000 * 10**9


class Folder:
    """A source's folder, its journal, and what the last fetch left as known."""

    def __init__(self, place: Path) -> None:
        self.root, self._place, self._fetches = place / "root", place, 0
        self.root.mkdir()
        self.rules = FileRules("manuals", str(self.root), ("**",), (), 1000, 10_000, None)
        self.known = Known(None)

    def put(self, key: str, text: str, mtime_ns: int = LONG_AGO_NS) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(mtime_ns, mtime_ns))
        return path

    @property
    def journal(self) -> Path:
        return self._place / f"journal{self._fetches}"

    def fetch(self, account: PageAccount = Unlimited(), **changes: Any) -> Listing:  # noqa: B008 - has no state
        job = FetchJob(
            self.known, self.journal, self._place / "notes", lambda done, total: None, account, LocalHostScheduler()
        )
        return FilesFolder(replace(self.rules, **changes)).fetch(job)

    def rows(self) -> dict[str, dict[str, Any]]:
        found = journal.read_outcomes(self.journal, ROWS.schema())
        return {row["key"]: row for row in journal.read_rows(self.journal, found)}

    def outcomes(self) -> dict[str, str]:
        """By key, the outcome or its reason."""
        return {key: row["reason"] or row["outcome"] for key, row in self.rows().items()}

    def next(self) -> None:
        """Know what the last fetch found, as the table of pages does."""
        kept = [row for row in self.rows().values() if row["sha256"]]
        path = self._place / f"known{self._fetches}.parquet"
        pl.DataFrame(kept).select("key", "sha256", "state").write_parquet(path)
        self.known, self._fetches = Known(path), self._fetches + 1


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class Account:
    """So many pages and no more."""

    def __init__(self, pages: int) -> None:
        self.left = pages

    def take(self, pages: int) -> int:
        taken = min(self.left, pages)
        self.left -= taken
        return taken

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        raise AssertionError("a source does not count by itself")


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("manuals/**/*.md", ["manuals/a.md", "manuals/x/y/a.md"], ["a.md", "manuals/a.mdx", "manuals/.git/a.md"]),
        ("*.md", ["a.md"], ["x/a.md", ".a.md"]),
        ("**", ["a", "x/y.z"], [".env", "x/.env", ".git/config"]),
        ("**/.well-known/*", ["x/.well-known/a", ".well-known/a"], ["x/.other/a"]),
        ("a?.txt", ["ab.txt"], ["a/.txt", "a.txt"]),
        ("a[1].md", ["a[1].md"], ["a1.md"]),
    ],
)
def test_globs(glob: str, matches: list[str], others: list[str]) -> None:
    pattern = compile_glob(glob)
    assert [path for path in matches + others if pattern.fullmatch(path)] == matches


def test_a_file_is_read_when_its_hint_changes_and_fetched_when_its_bytes_do(folder: Folder) -> None:
    for name in ("same", "touched", "edited", "gone"):
        folder.put(f"{name}.md", name)
    listing = folder.fetch()
    assert (listing.complete, listing.figures["files_read"], listing.problems) == (True, 4, ())
    row = folder.rows()["same.md"]
    assert (row["body"], row["content_type"], row["attempts"]) == (b"same", "text/markdown", 1)
    assert row["url"] == (folder.root / "same.md").as_uri()
    folder.next()
    folder.put("touched.md", "touched", LONG_AGO_NS + 1)
    folder.put("edited.md", "changed", LONG_AGO_NS + 1)
    (folder.root / "gone.md").unlink()
    listing = folder.fetch()
    assert folder.outcomes() == {"same.md": "unchanged", "touched.md": "unchanged", "edited.md": "fetched"}
    assert (listing.complete, listing.figures) == (True, {"files_read": 2, "body_bytes": 14, "not_asked": 1})


def test_what_changed_this_moment_is_read_again(folder: Folder) -> None:
    path = folder.put("a.md", "first")
    os.utime(path)
    folder.fetch()
    assert folder.rows()["a.md"]["state"] is None
    folder.next()
    folder.fetch()
    assert (folder.rows()["a.md"]["outcome"], folder.rows()["a.md"]["attempts"]) == ("unchanged", 1)


def test_keys_come_in_their_order_whatever_folders_are_called(folder: Folder) -> None:
    for key in ("a/x", "a-b", "a.c", "ab", "a/b/c", "a0"):
        folder.put(key, key)
    folder.fetch()
    assert list(folder.rows()) == sorted(folder.rows())
    folder.next()
    assert folder.fetch().figures == {"files_read": 0, "body_bytes": 0, "not_asked": 6}


def test_what_may_not_be_read_is_refused_with_its_reason(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("not for them")
    (tmp_path / "elsewhere").mkdir()
    folder.put("good.md", "good")
    folder.put("big.md", "x" * 10_001)
    folder.put("empty.md", "")
    folder.put("erased.md", "erased")
    os.mkfifo(folder.root / "pipe.md")
    (folder.root / "leads-out.md").symlink_to(secret)
    (folder.root / "leads-round.md").symlink_to("leads-round.md")
    (folder.root / "leads-in.md").symlink_to("good.md")
    (folder.root / "folder").symlink_to(tmp_path / "elsewhere")
    (folder.root / os.fsdecode(b"caf\xe9.md")).write_text("latin")
    listing = folder.fetch(erased=(document_id("manuals", "erased.md"),))
    assert folder.outcomes() == {
        "good.md": "fetched", "leads-in.md": "fetched", "big.md": "too_large", "empty.md": "empty",
        "erased.md": "erased", "pipe.md": "not_a_file", "leads-out.md": "outside_root", "leads-round.md": "unreadable",
    }  # fmt: skip
    assert {problem.key: problem.reason for problem in listing.problems} == {
        "folder": "folder_link", "caf\\xe9.md": "name_not_utf8",
    }  # fmt: skip
    assert listing.complete


def test_more_files_than_allowed_keep_what_is_stored_and_add_nothing(folder: Folder) -> None:
    for key in ("b", "d"):
        folder.put(key, key)
    folder.fetch()
    folder.next()
    for key in ("a", "c", "e"):
        folder.put(key, key)
    listing = folder.fetch(max_files=2)
    assert folder.outcomes() == {"a": "fetched", "b": "unchanged", "d": "max_files"}
    assert listing.figures["not_recorded"] == 2


def test_an_account_that_is_used_up_leaves_the_rest_for_later(folder: Folder) -> None:
    for key in ("a", "b", "c"):
        folder.put(key, key)
    folder.fetch(Account(2))
    assert folder.outcomes() == {"a": "fetched", "b": "fetched", "c": "quota"}
    assert folder.rows()["c"]["attempts"] == 0
    assert sum(used.pages for used in journal.pages_used(folder.journal, ROWS).values()) == 2


@pytest.mark.parametrize(
    ("happens", "reason"), [("removed", "root_missing"), ("emptied", "empty_folder"), ("closed", "root_not_allowed")]
)
def test_a_folder_that_is_not_there_deletes_nothing(folder: Folder, happens: str, reason: str) -> None:
    folder.put("a.md", "a")
    folder.fetch()
    folder.next()
    if happens == "removed":
        folder.root.rename(folder.root.with_name("away"))
    elif happens == "emptied":
        (folder.root / "a.md").unlink()
    listing = folder.fetch(allowed_roots=() if happens == "closed" else None)
    assert not listing.complete
    assert [problem.reason for problem in listing.problems] == [reason]
    assert folder.outcomes() == {"a.md": reason}
    assert folder.rows()["a.md"]["outcome"] == "failed"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, which may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_lies_in_a_folder_that_cannot_be_listed_stays() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        folder = Folder(Path(place))
        for key in ("closed/a.md", "open/b.md", "open/c.md"):
            folder.put(key, key)
        with as_nobody():
            folder.fetch()
        folder.next()
        (folder.root / "open/c.md").unlink()
        (folder.root / "open/b.md").chmod(0)
        os.utime(folder.root / "open/b.md")
        (folder.root / "closed").chmod(0)
        with as_nobody():
            listing = folder.fetch()
        (folder.root / "closed").chmod(0o755)
        assert folder.outcomes() == {"closed/a.md": "folder_unreadable", "open/b.md": "unreadable"}
        assert {row["outcome"] for row in folder.rows().values()} == {"failed"}
        assert [(problem.key, problem.reason) for problem in listing.problems] == [("closed", "folder_unreadable")]
        assert listing.complete, "c.md is gone for sure"


@pytest.mark.parametrize(
    ("root", "opened", "found"),
    [
        ("root", ".", {"a.md": "fetched"}),
        ("opened/theirs", "opened", {}),
        ("root", "root-not", {}),
        ("root", "roo", {}),
    ],
)
def test_a_tenants_folder_must_lie_beneath_one_that_is_opened_wherever_links_lead(
    folder: Folder, root: str, opened: str, found: dict[str, str]
) -> None:
    place = folder.root.parent
    folder.put("a.md", "a")
    (place / "opened").mkdir()
    (place / "opened/theirs").symlink_to(folder.root)
    listing = folder.fetch(root=str(place / root), allowed_roots=(str(place / opened),))
    assert (folder.outcomes(), listing.complete) == (found, bool(found))


def test_what_is_the_installations_is_not_read_for_a_tenant(folder: Folder) -> None:
    folder.put("home/control.db", "everybody's")
    folder.put("docs/a.md", "a")
    closed = (str(folder.root / "home"),)
    folder.fetch(allowed_roots=(str(folder.root),), closed=closed)
    assert folder.outcomes() == {"docs/a.md": "fetched", "home/control.db": "not_allowed"}
    folder.next()
    listing = folder.fetch(root=closed[0], allowed_roots=(str(folder.root),), closed=closed)
    assert [problem.reason for problem in listing.problems] == ["root_not_allowed"]


def test_a_fetch_that_was_killed_reads_only_the_rest(folder: Folder) -> None:
    for number in range(120):
        folder.put(f"{number:03d}.md", f"text {number}")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from kb_pipeline.fetch.files import FileRules, FilesFolder\n"
        "from kb_pipeline.fetch.source import FetchJob, Known, Unlimited\n"
        "from kb_pipeline.host_scheduler import LocalHostScheduler\n"
        "rules = FileRules('manuals', sys.argv[1], ('**',), (), 1000, 10_000, None)\n"
        "die = lambda done, total: os.kill(os.getpid(), 9) if done == 100 else None\n"
        "journal = Path(sys.argv[2])\n"
        "job = FetchJob(Known(None), journal, journal, die, Unlimited(), LocalHostScheduler())\n"
        "FilesFolder(rules).fetch(job)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.root), str(folder.journal)])
    assert done.returncode == -9
    folder.put("050.md", "changed since", LONG_AGO_NS + 1)
    listing = folder.fetch()
    assert listing.figures["files_read"] == 22
    assert set(folder.outcomes().values()) == {"fetched"}
    assert len(folder.rows()) == 120
    assert folder.rows()["050.md"]["body"] == b"changed since"
    assert sum(used.pages for used in journal.pages_used(folder.journal, ROWS).values()) == 121
