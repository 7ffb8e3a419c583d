"""Makes visible what a click shows, and removes what no reader brings to view: scripts, controls, hidden elements."""

from __future__ import annotations

import re
from collections import Counter
from enum import IntFlag, auto
from functools import cached_property
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.fields import does_nothing_else, read_field, skips_menu
from kb_pipeline.clean.html.forms import is_for_commands, labels_of_fields
from kb_pipeline.clean.html.labels import label_of
from kb_pipeline.clean.html.letters import Letters
from kb_pipeline.clean.html.purpose import (
    INLINE,
    asks_consent,
    controls_by_id,
    has_control_beside,
    has_page,
    is_decoration,
    is_dialog,
    is_one_of_several,
    is_title,
    may_repeat,
    named_by,
    pieces,
)
from kb_pipeline.clean.html.removal import Removal
from kb_pipeline.clean.html.shadow import open_frames, open_shadow_roots
from kb_pipeline.clean.html.tabs import label_tabs
from kb_pipeline.clean.html.visibility import is_hidden, is_only_unspoken, name_tokens

Element = Any

_UNREAD_TEXT = "script style noscript template iframe object embed svg canvas audio video map frameset"
_UNREAD = frozenset(_UNREAD_TEXT.split())
_FIELDS = frozenset({"button", "input", "select", "textarea", "option", "datalist"})
_JUDGED = _FIELDS | {"form", "dialog"}
_FRAME = frozenset({"nav", "header", "footer"})
_ROOTS = frozenset({"html", "body", "head", "main", "title", "meta", "link", "base"})
_PASSING_TEXT = """
    error errors success toast popup popover modal overlay lightbox cookie cookies consent loader loading spinner
    template honeypot newsletter subscribe login signin signup drawer offcanvas preheader flash validation noprint
"""
_PASSING = frozenset(_PASSING_TEXT.split())
"""Names of what appears for a moment, or never to a reader."""
_DATA = frozenset({"tr", "td", "th", "tbody", "table", "pre", "dl", "dt", "dd", "blockquote", "figure"})
_OPENERS = frozenset(
    {"accordion", "collapsible", "collapse", "disclosure", "expander", "faq", "question", "answer", "panel"}
)
"""Names of a button and of what follows it, where style sheets hide that."""
_MAX_CONSENT = 2_000
_PROSE = 16
"""Letters outside links from which a hidden block that nothing names is taken for content."""
_TELLING = frozenset({"hidden", "aria-hidden", "popover", "aria-modal", "role", "style"})
"""Attributes of what may be out of sight."""
_NAMED = re.compile(r"cookie|consent|gdpr|ccpa|cmp|onetrust|clone|duplicate", re.I)
_FIRST_LINKS = "(//a[@href])[position() <= 8]"


class _Within(IntFlag):
    """What an element stands in."""

    BODY = 0
    FORM = auto()
    FRAME = auto()
    PANEL = auto()
    """A hidden element that was found to be content: what it repeats was judged with it."""
    GONE = auto()
    """An element that was removed."""


def reveal(tree: Element, removal: Removal) -> None:
    """Change a parsed page in place: what a click shows stays, what no reader sees is removed and counted."""
    open_shadow_roots(tree)
    open_frames(tree)
    _remove_unread(tree, removal)
    label_tabs(tree)
    _Reader(tree, removal).walk()


def _remove_unread(tree: Element, removal: Removal) -> None:
    """Remove scripts and the like first: their letters are not to be weighed with those of the page."""
    gone: set[Element] = set()
    for element in list(tree.iter(*_UNREAD)):
        if gone.isdisjoint(islice(element.iterancestors(), 4)):
            gone.add(element)
            removal.remove(element, "hidden")


def _candidates(tree: Element) -> list[Element]:
    """Return the elements that may be controls or out of sight, in order: most of a page is neither."""
    attributes = [*tree.xpath("//@class", smart_strings=False), *tree.xpath("//@id", smart_strings=False)]
    attributes += tree.xpath("//@aria-label", smart_strings=False)
    named = {value for value in set(attributes) if _NAMED.search(value[:500])}
    found = []
    for element in tree.iter():
        is_control = element.tag in _JUDGED or (element.tag == "a" and _has_no_target(element))
        if is_control or not _TELLING.isdisjoint(element.keys()) or (named and not named.isdisjoint(element.values())):
            found.append(element)
    return found


def _has_no_target(link: Element) -> bool:
    return (link.get("href") or "")[:11].lower() in ("#", "javascript:")


class _Reader:
    """Judges the elements of one page from the outermost to the innermost, each once."""

    def __init__(self, tree: Element, removal: Removal) -> None:
        self._tree, self._removal = tree, removal
        self._texts: Counter[str] | None = None
        self._gone: set[str | None] = set()
        self._letters = Letters(tree)
        self._within = {tree: _Within.BODY}

    @cached_property
    def _shown_by(self) -> dict[str, Element]:
        return controls_by_id(self._tree)

    def walk(self) -> None:
        """Remove what is not content, and turn controls that are content into text."""
        fields = []
        for element in _candidates(self._tree):
            within = self._around(element)
            if within & _Within.GONE or self._is_out(element, within):
                continue
            if element.tag == "form" and not within & _Within.FORM and not self._is_most(element):
                for label in labels_of_fields(element):
                    self._removal.remove(label, "controls")
            if element.tag in _FIELDS or element.tag == "a" or element.get("role") == "button":
                fields.append((element, within))
        for field, within in fields:  # only now, since a control tells what is hidden beside it
            self._read_field(field, within)
        for link in self._tree.xpath(_FIRST_LINKS):
            if skips_menu(link):
                self._removal.remove(link, "controls")

    def _around(self, element: Element) -> _Within:
        """Return what an element stands in; what is known of its ancestors is kept, so that each is looked at once."""
        path, outer = [], element.getparent()
        while outer is not None and outer not in self._within:
            path.append(outer)
            outer = outer.getparent()
        within = _Within.GONE if outer is None and element is not self._tree else self._within.get(outer, _Within.BODY)
        for ancestor in reversed(path):
            within = self._within[ancestor] = self._inside(ancestor, within)
        return within

    def _inside(self, element: Element, within: _Within) -> _Within:
        if within & _Within.GONE:
            return within
        if element.tag == "form":
            return within if self._is_most(element) else within | _Within.FORM
        if element.tag in _FRAME:
            return within | _Within.FRAME
        return within | _Within.PANEL if is_hidden(element) or may_repeat(element) else within

    def _read_field(self, field: Element, within: _Within) -> None:
        """Turn a control into text, or remove it."""
        if field.getparent() is None:
            return
        is_button = field.tag == "button"
        if (is_button and self._opens_nothing(field)) or (field.tag not in _FIELDS and does_nothing_else(field)):
            self._removal.remove(field, "controls")
        if field.tag not in _FIELDS or field.getparent() is None:
            return
        is_title = is_button and self._opens_panel(field)
        read_field(field, self._removal, is_in_form=_Within.FORM in within, is_title=is_title)

    def _opens_nothing(self, button: Element) -> bool:
        """Return whether a button is for a menu or a dialog: for what is no content."""
        return any(name in self._gone for name in named_by(button))

    def _is_out(self, element: Element, within: _Within) -> bool:
        """Remove an element that is no content; return whether it was none."""
        if element.tag in _ROOTS or element.tag in _FIELDS:
            return False
        if self._is_command(element):
            self._gone.add(element.get("id"))
            self._removal.remove(element, "controls")
        elif self._is_unseen(element, within):
            self._forget(element)
            self._gone.add(element.get("id"))
            self._removal.remove(element, "hidden")
        return element.getparent() is None

    def _is_command(self, element: Element) -> bool:
        if element.tag == "form":
            return not self._is_most(element) and is_for_commands(element, self._letters)
        if is_dialog(element):
            return not (has_page(element) and self._is_most(element))
        return asks_consent(element) and self._letters.text(element) <= _MAX_CONSENT

    def _is_most(self, element: Element) -> bool:
        """Return whether an element holds half of the page's text."""
        unlinked = self._letters.unlinked(element)
        return unlinked > 0 and unlinked * 2 >= self._letters.page

    def _is_unseen(self, element: Element, within: _Within) -> bool:
        """Return whether no reader ever sees an element, or sees it elsewhere on the page."""
        if may_repeat(element) and _Within.PANEL not in within and self._is_repeated(element):
            return True
        if not (is_hidden(element) or element.get("popover") is not None) or self._is_most(element):
            return False
        if element.tag in INLINE and is_only_unspoken(element):
            return is_decoration(element, self._letters)
        return not self._is_panel(element, within)

    def _is_panel(self, element: Element, within: _Within) -> bool:
        """Return whether a hidden element is content that a click, a swipe or time brings to view."""
        control, role = self._shown_by.get(element.get("id") or ""), element.get("role")
        text = self._letters.text(element)
        if text == 0 or role in ("status", "alert", "menu", "listbox", "log", "tooltip"):
            return text == 0 and element.tag not in INLINE
        is_titled = role == "tabpanel" or (control is not None and is_title(control))
        is_part = is_titled or (is_one_of_several(element) and _PASSING.isdisjoint(name_tokens(element)))
        if self._letters.linked(element) * 2 > text:
            return is_part and _Within.FRAME not in within and self._is_new(element, within)
        if not is_part and not _PASSING.isdisjoint(name_tokens(element)):
            return False
        is_shown = control is not None or is_part or is_only_unspoken(element) or self._is_prose(element)
        return is_shown and self._is_new(element, within)

    def _is_prose(self, element: Element) -> bool:
        if element.tag in _DATA:
            return True
        is_long = self._letters.unlinked(element) >= _PROSE
        is_opened = has_control_beside(element)
        return (is_long and is_opened) if element.tag in INLINE else (is_long or is_opened)

    def _is_new(self, element: Element, within: _Within) -> bool:
        return _Within.PANEL in within or not self._is_repeated(element)

    def _is_repeated(self, element: Element) -> bool:
        """Return whether all that an element says stands elsewhere on the page as well."""
        if self._texts is None:
            self._texts = Counter(pieces(self._tree))
        own = Counter(pieces(element))
        return all(self._texts[piece] > count for piece, count in own.items())

    def _forget(self, element: Element) -> None:
        """Take what is removed out of the texts that others may repeat."""
        if self._texts is not None:
            self._texts.subtract(pieces(element))

    def _opens_panel(self, button: Element) -> bool:
        """Return whether a panel follows a button, or what holds it alone."""
        following = button.getnext()
        if following is None and button.getparent() is not None and label_of(button.getparent()) == label_of(button):
            following = button.getparent().getnext()
        if following is None or following.tag in INLINE:
            return False
        return is_hidden(following) or not _OPENERS.isdisjoint(name_tokens(button) | name_tokens(following))
