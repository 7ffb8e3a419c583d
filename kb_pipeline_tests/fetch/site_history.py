"""A home over the life of a site: which documents it has after each refresh, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kb_pipeline.errors import SourceFailed
from kb_pipeline.fetch.web.reasons import ENDED_BY_FILE
from kb_pipeline_tests.fetch.model_home import Killed, ModelHome, StoredDocument, StoredPage
from kb_pipeline_tests.fetch.site_model import Server, Step, World, html_sha256
from kb_pipeline_tests.fetch.site_oracle import FRESH, Expected, expected

OURS = frozenset(
    ["excluded", "robots", "too_deep", "max_pages", "erased", "out_of_scope", "quota", "path_repetition", "repetitive"]
)
"""Reasons of our own rules, which every refresh judges anew; the others are the server's."""


class History:
    """One home over the life of one site."""

    def __init__(
        self, world: World, server: Server, home: ModelHome, fresh: Callable[[], ModelHome] | None = None
    ) -> None:
        """Begin with an empty home; `fresh` makes others to compare it with."""
        self.world, self._server, self._home, self._fresh = world, server, home, fresh
        self._memory = FRESH
        self._ended: frozenset[str] = frozenset()
        """What killed refreshes ended that the next one goes on with: its rows say so once, like those of any other."""

    def problem(self, step: Step) -> str:
        """Let one step happen; return what is not as it must be, or nothing."""
        if step.kind not in ("refresh", "killed"):
            self.world = self.world.after(step)
            return ""
        self._server.site = self.world.site
        is_retry = step.value == "retry"
        memory = replace(self._memory, waiting=frozenset() if is_retry else _waiting(self._home.pages()))
        try:
            kill = step.value if step.kind == "killed" else ("", 0)
            self._home.refresh(self.world.file, retry=is_retry, kill=kill)
        except (Killed, SourceFailed):
            return ""
        finally:
            self._remember()
            self._ended |= memory.held.keys() - self._memory.held.keys()
        if step.kind == "killed":
            return ""
        wanted = expected(self.world, memory)
        if wanted.is_whole:
            self._memory = replace(self._memory, file=self.world.file, orphans=wanted.orphans)
        problem = self._differs(self._home.documents(), wanted)
        if not problem and is_retry and self._fresh is not None:
            problem = self._differs_from_fresh(self._fresh(), wanted)
        self._ended = frozenset()
        return problem

    def _remember(self) -> None:
        """Note whose bytes the home has now."""
        rows = self._home.pages()
        held = {path: page for path, page in self._memory.held.items() if path in rows and rows[path].sha256}
        for path, row in rows.items():
            page = self.world.site.pages.get(path)
            if page is not None and row.sha256 == html_sha256(page):
                held[path] = page
        targets = {page.target for path, page in self.world.site.pages.items() if page.target and path in rows}
        self._memory = replace(self._memory, held=held, targets=self._memory.targets | targets)

    def _differs(self, found: dict[str, StoredDocument], wanted: Expected) -> str:
        if missing := sorted(set(wanted.must) - set(found)):
            return f"missing {missing}: {[self._row(path) for path in missing]}"
        if extra := sorted(set(found) - set(wanted.must) - set(wanted.may)):
            return f"still there {extra}: {[self._row(path) for path in extra]}"
        if left_out := sorted(path for path, document in found.items() if document.left_out):
            return f"left out {left_out}: {[found[path].left_out for path in left_out]}"
        texts = {**wanted.may, **wanted.must}
        for path, document in found.items():
            if not any(page.marker in document.markdown for page in texts[path]):
                return f"{path} has an old text"
        return _wrong_copies(found) or self._wrong_number(found, wanted)

    def _row(self, path: str) -> str:
        row = self._home.pages().get(path)
        return f"{row.outcome} {row.reason or ''}".strip() if row else "never met"

    def _wrong_number(self, found: dict[str, StoredDocument], wanted: Expected) -> str:
        answering = sum(self.world.answer(path) == "page" for path in found)
        if wanted.pages is not None and not wanted.pages[0] <= answering <= wanted.pages[1]:
            return f"{answering} pages where max_pages asks for {wanted.pages[0]} to {wanted.pages[1]}"
        return ""

    def _differs_from_fresh(self, fresh: ModelHome, wanted: Expected) -> str:
        """Compare with a home that begins today, where both can be compared key by key."""
        try:
            fresh.refresh(self.world.file)
        except SourceFailed:
            return ""
        today = expected(self.world, FRESH)
        if problem := self._differs(fresh.documents(), today):
            return f"in a fresh home: {problem}"
        if wanted.pages is not None or today.pages is not None:
            return ""
        return self._wrong_account(self._home.pages(), fresh.pages(), wanted)

    def _wrong_account(self, found: dict[str, StoredPage], fresh: dict[str, StoredPage], wanted: Expected) -> str:
        if unknown := sorted(set(fresh) & wanted.as_today - set(found)):
            return f"no row for {unknown}, which a fresh home knows: {[fresh[path] for path in unknown]}"
        # What failed may go on leading where it led.
        fails = not wanted.is_whole or any(row.outcome == "failed" for row in found.values())
        for path, row in found.items():
            new = fresh.get(path)
            is_told = row.reason in ENDED_BY_FILE or path in self._ended  # why it ended, once
            if row.sha256 is None and new is None and path not in wanted.known and not (fails or is_told):
                return f"{path} is known ({row.reason}) though nothing leads to it"
            # What max_pages cuts off is not judged by other rules in every order.
            is_cut = new is not None and "max_pages" in (row.reason, new.reason)
            is_comparable = row.sha256 is None and new is not None and path in wanted.as_today and not is_cut
            if is_comparable and new is not None and (row.outcome, row.reason) != (new.outcome, new.reason):
                return f"{path} is {row.outcome} {row.reason}, in a fresh home {new.outcome} {new.reason}"
        return ""


def _waiting(pages: dict[str, StoredPage]) -> frozenset[str]:
    return frozenset(
        path
        for path, row in pages.items()
        if row.outcome == "failed" or (row.sha256 is None and row.reason not in OURS)
    )


def _wrong_copies(found: dict[str, StoredDocument]) -> str:
    """Return which documents with the same text are not one document and its copies."""
    by_text: dict[str, list[str]] = {}
    for path, document in found.items():
        by_text.setdefault(document.markdown, []).append(path)
    for paths in by_text.values():
        originals = [path for path in paths if found[path].duplicate_of is None]
        if len(originals) != 1:
            return f"{paths} have the same text and {len(originals)} of them stand for themselves"
        if wrong := [path for path in paths if found[path].duplicate_of not in (None, originals[0])]:
            return f"{wrong} are no copies of {originals[0]}"
    return ""
