"""Tells which documents are no documents of their own: views of another one, forms and states of a site's software.

A page is left out only when several signs agree: the form of its address and what it says, or that another document
says everything that it says. A page with prose or numbers of its own stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from kb_pipeline.clean import signs
from kb_pipeline.clean.address import PAGINATION, SORTING, Address, read_address, words_of
from kb_pipeline.clean.segments import HEADING, LINK, ONLY_ADDRESS, PAGE_NUMBER, TEXT, Segments, address_hash

if TYPE_CHECKING:
    import polars as pl

VIEWS_VERSION = "1"
"""Raise it when the same documents would be judged otherwise."""
REASONS = {
    "listing_view": "another order, selection or page of a listing that is a document",
    "print_view": "the printed form of what is a document",
    "login": "a page to log in or to register",
    "form": "a form to reply, quote, edit, share or buy",
    "revision": "the history, the differences or an older text of a page",
    "search_results": "what the site's own search found",
    "soft_404": "an error page that is answered as if it were a page",
    "calendar": "a calendar without a text of its own",
}
"""Why a document is left out, by the code in the column `left_out`."""
_OWN_WORDS = 12
"""Words of its own that a view may have: `Showing 11 to 20 of 40`, `Sorted by name`."""
_MOSTLY = 0.6
"""Share of a page's content words in links to documents of its source from which it is a list of them."""
_MOST_TITLED = 20
_MOST_PARAMETERS = 8
_PRINTED_WORDS = frozenset({"page", "version", "view", "friendly", "druckversion", "imprimir", "imprimer"})
_SAME_ITEMS = 0.8
_LEAST_ITEMS = 3
_MOST_SAID = 30
_EMPTY_WORDS, _NOTICE_WORDS, _FORM_WORDS = 25, 60, 150
_LEAST_PRINTED_WORDS = 20


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a document is left out, and of which other one it is a view, if of any."""

    reason: str
    view_of: str | None = None
    """The `document_id` of that one."""


@dataclass(frozen=True)
class _Page:
    """A document, whose segments are read and compared only when they are needed: of most, they never are."""

    document_id: str
    title: str
    address: Address
    stored: bytes
    template: int
    signs: frozenset[str]
    is_start: bool

    @cached_property
    def segments(self) -> Segments:
        return Segments.from_bytes(self.stored)

    @property
    def words(self) -> int:
        return int(self.segments.words.sum())


@dataclass(frozen=True)
class _Base:
    """What documents that are kept say, to look up in; the first is the one that others are views of."""

    pages: Sequence[_Page]

    @property
    def page(self) -> _Page:
        return self.pages[0]

    @cached_property
    def texts(self) -> set[int]:
        found = (page.segments for page in self.pages)
        return {text for each in found for texts in (each.text, each.masked) for text in texts.tolist()}

    @cached_property
    def unlinked(self) -> set[int]:
        return set(self.page.segments.unlinked.tolist())


@dataclass(frozen=True, slots=True)
class _Own:
    """What a page has that neither its base nor other kept lists of its path have."""

    words: int
    """Outside links to documents."""
    headings: int
    """Of these, in its title and headings."""
    items: int
    """Items of a list of which kept lists say the same."""
    links: int
    """To documents to which no part of these lists links."""


_Parameters = frozenset[tuple[str, str]]
_Words = tuple[str, ...]
_Item = tuple[int, ...]
"""The target of a link, and the texts after it."""


def find_views(rows: pl.DataFrame, starts: set[str]) -> dict[str, LeftOut]:
    """Return the documents of one source that are left out, by `document_id`.

    Args:
        rows: document_id, key, title, duplicate_of, segments, template, signs; in the order of `duplicates.rank`.
        starts: keys of start URLs: who names a page there wants it.
    """
    pages = list(_pages(rows, starts))
    twins = {row["document_id"]: row["duplicate_of"] for row in rows.iter_rows(named=True) if row["duplicate_of"]}
    judge = _Judge(pages, {address_hash(key) for key in rows["key"]})
    left_out = judge.states([page for page in pages if page.document_id not in twins])
    groups: dict[str, list[_Page]] = {}
    for page in pages:
        if page.document_id not in twins and page.document_id not in left_out:
            groups.setdefault(page.address.stem, []).append(page)
    for group in groups.values():
        left_out |= judge.views(group)
    # What has the text of a page that is left out is left out with it.
    return left_out | {twin: LeftOut(left_out[of].reason, of) for twin, of in twins.items() if of in left_out}


def _pages(rows: pl.DataFrame, starts: set[str]) -> Iterator[_Page]:
    for row in rows.iter_rows(named=True):
        if row["segments"] is not None:
            found = frozenset((row["signs"] or "").split())
            address = read_address(row["key"])
            yield _Page(
                row["document_id"], row["title"], address, row["segments"], row["template"], found, row["key"] in starts
            )


class _Judge:
    """Judges the documents of one source."""

    def __init__(self, pages: Sequence[_Page], keys: set[int]) -> None:
        self._alike = Counter(page.template for page in pages)
        self._same = Counter((page.template, page.title) for page in pages)
        self._keys = keys
        plain = [page for page in pages if not page.address.forms]
        self._stems = {page.address.stem for page in plain}
        self._names = {tuple(words_of(page.address.path.rstrip("/").rpartition("/")[2])) for page in plain}
        self._titled: dict[_Words, list[_Page]] = {}
        for page in plain:
            self._titled.setdefault(_bare_title(page.title), []).append(page)

    def states(self, pages: Iterable[_Page]) -> dict[str, LeftOut]:
        """Return the pages that are a form or state of the site's software by address and content."""
        found = ((page, self._state(page)) for page in pages if not page.is_start)
        return {page.document_id: LeftOut(reason) for page, reason in found if reason}

    def views(self, group: list[_Page]) -> dict[str, LeftOut]:
        """Return which pages of one path are views of others of them; they are in order of rank."""
        if len(group) == 1 and not group[0].address.forms:
            return {}
        return dict(_Group(self, group).judged())

    def printed(self, page: _Page) -> _Base | None:
        """Return what the pages at plain addresses with the title of a printed one say together."""
        pages = [other for other in self._titled.get(_bare_title(page.title), ()) if other is not page]
        return _Base(pages[:_MOST_TITLED]) if pages else None

    def is_internal(self, segments: Segments) -> Any:  # noqa: ANN401 - numpy's array of bools
        """Return which segments are links to documents of the source."""
        return np.array([target in self._keys for target in segments.target.tolist()], dtype=bool)

    def _state(self, page: _Page) -> str | None:
        forms = page.address.forms
        if signs.ERROR in page.signs and self._is_soft_404(page):
            return "soft_404"
        checks = (
            ("login", self._is_login), ("form", self._is_form), ("revision", self._is_revision),
            ("search_results", self._is_search), ("calendar", self._is_calendar), ("special", self._is_special),
        )  # fmt: skip
        for form, agrees in checks:
            if form in forms and agrees(page):
                return "listing_view" if form == "special" else form
        return None

    def _is_soft_404(self, page: _Page) -> bool:
        """Return whether there are others like it under its title; that of a thing says that the thing is known."""
        return self._alike[page.template] > 1 and (self._is_same(page) or signs.names_error(page.title))

    def _is_same(self, page: _Page) -> bool:
        """Return whether another address gives the same title, and the same text but for the address."""
        return self._same[page.template, page.title] > 1

    def _is_login(self, page: _Page) -> bool:
        asks = signs.ASKS_LOGIN in page.signs and self._is_repeated(page) and page.words <= _NOTICE_WORDS
        is_form = signs.PASSWORD in page.signs or self._is_one_of_many(page)
        return asks or (is_form and page.words <= _FORM_WORDS)

    def _is_form(self, page: _Page) -> bool:
        shows_form = page.signs & {signs.PASSWORD, signs.TEXTAREA} or self._is_one_of_many(page)
        asks = signs.ASKS_LOGIN in page.signs and self._is_repeated(page) and page.words <= _NOTICE_WORDS
        is_empty = signs.EMPTY in page.signs and page.words <= _EMPTY_WORDS
        return bool(shows_form and page.words <= _FORM_WORDS) or asks or is_empty

    def _is_one_of_many(self, page: _Page) -> bool:
        """Return whether other addresses with parameters give the same."""
        return bool(page.address.parameters) and self._is_same(page)

    def _is_repeated(self, page: _Page) -> bool:
        """Return whether there are or may be others like it, as there is one form for each post."""
        return bool(page.address.parameters) or self._alike[page.template] > 1

    def _is_revision(self, page: _Page) -> bool:
        """Return whether the page whose revision it names is there, or it is one of many alike."""
        address = page.address
        values = (tuple(words_of(value)) for _, value in address.parameters if not value.isdigit())
        return (
            address.stem in self._stems or any(value in self._names for value in values)
            or self._is_same(page)
        )  # fmt: skip

    def _is_search(self, page: _Page) -> bool:
        if not page.address.parameters and signs.EMPTY not in page.signs:
            return False
        return bool(page.signs & {signs.SEARCH, signs.EMPTY}) or self._is_listing(page)

    def _is_calendar(self, page: _Page) -> bool:
        return signs.CALENDAR in page.signs

    def _is_special(self, page: _Page) -> bool:
        """Return whether a page that a wiki makes lists others, with at most a sentence about them."""
        is_text = page.segments.kind == TEXT
        is_short = "do" in page.address.names and int(page.segments.content[is_text].sum()) <= _MOST_SAID
        return is_short or self._is_listing(page)

    def _is_listing(self, page: _Page) -> bool:
        return self.linked_share(page) >= _MOSTLY

    def linked_share(self, page: _Page) -> float:
        """Return the share of links to documents of the source in what a page says, leaving other links aside."""
        content, is_internal = page.segments.content[1:], self.is_internal(page.segments)[1:]
        linked, said = content[is_internal].sum(), content[page.segments.kind[1:] != LINK].sum()
        return float(linked / (linked + said)) if linked else 0.0


class _Group:
    """The documents of one path, judged in the order of their rank against those that were kept."""

    def __init__(self, judge: _Judge, pages: list[_Page]) -> None:
        self._judge, self._pages = judge, pages
        self._kept: dict[tuple[_Parameters, bool], _Base] = {}
        """By parameters, and whether the address is that of a print or a page of several."""
        self._parts: dict[_Parameters, _Base] = {}
        """By parameters without the number of a page: the first page of a listing."""
        self._lists: list[tuple[_Page, bool]] = []
        """Pages that say what is in a listing, and whether they are kept; not yet read."""
        self._items: set[_Item] = set()
        """What the lists of the pages that are kept say of documents."""
        self._listed: set[int] = set()
        """The documents to which these and other parts of their lists link."""

    def judged(self) -> Iterator[tuple[str, LeftOut]]:
        """Yield what is left out; every other page becomes one of those that the next are compared with."""
        # Pages of a listing come before selections of it, which consist of their parts.
        for page in sorted(self._pages, key=lambda page: not page.address.names <= PAGINATION):
            base = None if page.is_start else self._base(page)
            reason = self._reason(page, base) if base and not page.segments.is_cut else None
            if reason and base:
                yield page.document_id, LeftOut(reason, base.page.document_id)
            else:
                self._keep(page)
            if not reason or reason == "listing_view":
                self._lists.append((page, reason is None))

    @cached_property
    def _everywhere(self) -> set[int]:
        """Targets of links that are on more than half of the pages: a menu, not items of a list."""
        counts = Counter(target for page in self._pages for target in set(page.segments.target.tolist()))
        most = max(2, len(self._pages) // 2)
        return {target for target, count in counts.items() if count > most}

    def _base(self, page: _Page) -> _Base | None:
        """Return the kept page whose address has the most of this one's parameters and no others.

        Else the first page of the listing. A printed view may have an address of its own: it is compared with the
        pages of its title.
        """
        address = page.address
        simpler = ((fewer, is_variant) for fewer in _fewer(address.parameters) for is_variant in (False, True))
        base = next((self._kept[each] for each in simpler if each in self._kept), None)
        base = base or self._parts.get(_without_number(address))
        if _is_variant(address):
            base = self._kept.get((address.parameters, False)) or base
        if "print_view" not in address.forms:
            return base
        bases = [each for each in (base, self._judge.printed(page)) if each]
        return min(bases, key=lambda each: self._own(page, each).words, default=None)

    def _keep(self, page: _Page) -> None:
        base = _Base((page,))
        self._kept.setdefault((page.address.parameters, _is_variant(page.address)), base)
        if page.address.names & PAGINATION:
            self._parts.setdefault(_without_number(page.address), base)

    def _read_lists(self) -> None:
        """Read the pages that were judged since it was done last."""
        for page, is_kept in self._lists:
            segments = page.segments
            self._listed.update(segments.target[self._judge.is_internal(segments)].tolist())
            if is_kept:
                items = list(self._item_texts(segments))
                self._items.update((item, *segments.text[places].tolist()) for item, places in items)
                for item, places in items[-1:]:
                    texts = segments.text[places].tolist()
                    self._items.update((item, *texts[:length]) for length in range(1, len(texts)))
        self._lists.clear()

    def _reason(self, page: _Page, base: _Base) -> str | None:
        own, forms = self._own(page, base), page.address.forms - base.page.address.forms
        if "print_view" in forms:
            is_covered = own.words <= max(_OWN_WORDS, page.words // 10) and page.words >= _LEAST_PRINTED_WORDS
            return "print_view" if is_covered else None
        if "form" in forms and own.words <= _OWN_WORDS:
            return "form"
        if signs.EMPTY in page.signs and page.words <= _EMPTY_WORDS and int(page.segments.text[0]) in base.texts:
            return "listing_view"
        is_list = own.items >= _LEAST_ITEMS or self._more(page, base) <= SORTING
        if not own.links and not own.headings and own.words <= (_OWN_WORDS if is_list else 0):
            return "listing_view"
        return "listing_view" if not own.headings and self._is_part_of_listing(page, base) else None

    def _more(self, page: _Page, base: _Base) -> frozenset[str]:
        """Return the names of the parameters in which a page differs from its base."""
        return frozenset(name for name, _ in page.address.parameters - base.page.address.parameters)

    def _is_part_of_listing(self, page: _Page, base: _Base) -> bool:
        """Return whether a page that consists of links is another part or selection of the base's listing."""
        if self._judge.linked_share(page) < _MOSTLY:
            return False
        segments, is_internal = page.segments, self._judge.is_internal(page.segments)
        external = (segments.kind == LINK) & ~is_internal & ~_is_among(segments, base.texts)
        words = set(segments.unlinked.tolist()) - base.unlinked
        own = len(words) + int(segments.words[external].sum())
        more = self._more(page, base)
        is_part = (more and more <= PAGINATION | SORTING) or "page" in page.address.forms
        targets = set(segments.target[is_internal].tolist()) - self._everywhere
        is_selection = bool(targets) and len(targets & self._listed) >= _SAME_ITEMS * len(targets)
        has_values = any(word & 1 for word in words)
        return own <= _OWN_WORDS and not has_values and (bool(is_part) or is_selection)

    def _own(self, page: _Page, base: _Base) -> _Own:
        self._read_lists()
        segments, is_internal = page.segments, self._judge.is_internal(page.segments)
        is_said = _is_among(segments, base.texts)
        is_link = is_internal & ~is_said
        unlisted = [target not in self._listed for target in segments.target[is_link].tolist()]
        is_said |= is_internal
        is_item, items = self._listed_texts(segments)
        words = np.where(is_said | is_item, 0, segments.words)
        return _Own(int(words.sum()), int(words[segments.kind == HEADING].sum()), items, sum(unlisted))

    def _listed_texts(self, segments: Segments) -> tuple[Any, int]:
        """Return which texts are all that a kept page says of the same item of its list, and how many items have such.

        The first is an array of bools.
        """
        count = 0
        found = np.zeros(len(segments.text), dtype=bool)
        items = list(self._item_texts(segments))
        for number, (item, places) in enumerate(items, start=1):
            texts = segments.text[places].tolist()
            # After the last item may come what ends the page.
            lengths = range(len(texts), 0, -1) if number == len(items) else range(len(texts), len(texts) - 1, -1)
            known = next((length for length in lengths if (item, *texts[:length]) in self._items), 0)
            found[places[:known]] = True
            count += known > 0
        return found, count

    def _item_texts(self, segments: Segments) -> Iterator[tuple[int, list[int]]]:
        """Yield the target of each link to a document that not every page has, and the places of the texts after it."""
        item, places = 0, list[int]()
        is_internal = self._judge.is_internal(segments).tolist()
        rows = zip(segments.target.tolist(), segments.kind.tolist(), is_internal, strict=True)
        for place, (target, kind, internal) in enumerate(rows):
            if internal:
                if item and places:
                    yield item, places
                item, places = (0 if target in self._everywhere else target), []
            elif kind == TEXT:
                places.append(place)
        if item and places:
            yield item, places


def _bare_title(title: str) -> _Words:
    """Return the words of a title without what says that it is printed, or a page of several."""
    words = words_of(PAGE_NUMBER.sub(" ", title))
    return tuple(word for word in words if not word.startswith("print") and word not in _PRINTED_WORDS)


def _is_among(segments: Segments, texts: set[int]) -> Any:  # noqa: ANN401 - numpy's array of bools
    """Return which segments are among the texts, or would be but for words of the address.

    A title or heading that only repeats the address names the page: nobody else says it.
    """
    rows = zip(segments.text.tolist(), segments.masked.tolist(), segments.kind.tolist(), strict=True)
    found = [
        text in texts or masked in texts or (masked == ONLY_ADDRESS and kind != HEADING) for text, masked, kind in rows
    ]
    return np.array(found, dtype=bool)


def _fewer(parameters: _Parameters) -> Iterator[_Parameters]:
    """Yield what is left of the parameters without some, the largest first; of many parameters not every selection."""
    count = len(parameters)
    sizes = range(count - 1, -1, -1) if count <= _MOST_PARAMETERS else (size for size in (count - 1, 1, 0))
    for size in sizes:
        yield from map(frozenset, combinations(sorted(parameters), size))


def _without_number(address: Address) -> _Parameters:
    return frozenset((name, "" if name in PAGINATION else value) for name, value in address.parameters)


def _is_variant(address: Address) -> bool:
    """Return whether the path names a print, or a page of several."""
    return bool(address.forms & {"print_view", "page"})


def message_of(reason: str, view_of: str | None) -> str:
    """Return the sentence about a document that is left out, with the key of what it is a view of, if of any."""
    return REASONS[reason] + (f": {view_of}" if view_of else "")
