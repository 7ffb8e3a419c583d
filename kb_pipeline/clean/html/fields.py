"""Turns controls of a page into text where they show some, and removes those that only do something."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.labels import is_action, is_skip, label_of
from kb_pipeline.clean.html.removal import Removal
from kb_pipeline.clean.html.visibility import name_tokens

Element = Any

_TEXT_TYPES = frozenset(
    {"", "text", "url", "email", "tel", "number", "date", "time", "datetime-local", "month", "week"}
)
_BUTTON_TYPES = frozenset({"button", "submit", "reset"})
_TITLES = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "dt", "summary", "legend", "caption"})
_INLINE = frozenset({"a", "b", "strong", "em", "i", "span", "code", "kbd", "samp", "mark", "small", "u", "q", "cite"})
_TOGGLES = ("aria-expanded", "aria-controls", "data-bs-target", "data-target")
_LETTER = re.compile(r"\w")
_MAX_COMMAND = 60
_MOST_BESIDE = 8
"""Elements that may stand beside the button in a heading; with more it is a toolbar."""


def read_field(field: Element, removal: Removal, *, is_in_form: bool, is_title: bool = False) -> None:
    """Make text of a control that shows some, and remove any other.

    Args:
        field: a button, input, select, textarea, option list or data list.
        removal: of the page.
        is_in_form: whether it is in a form that a reader fills in.
        is_title: whether a button is known to open content.
    """
    if field.tag == "button":
        _read_button(field, removal, is_title=is_title)
    elif field.tag == "input":
        _read_input(field, removal, is_in_form=is_in_form)
    elif field.tag == "select" and field.get("disabled") is not None:
        _show_choice(field)
    elif field.tag == "textarea" and _shows_sample(field, is_in_form=is_in_form):
        return  # written as code
    else:
        removal.remove(field, "controls")


def is_editable(field: Element) -> bool:
    """Return whether a reader is to fill in a field."""
    if field.get("readonly") is not None or field.get("disabled") is not None:
        return False
    if field.tag == "input":
        return (field.get("type") or "").lower() not in _BUTTON_TYPES | {"hidden", "image"}
    return field.tag in ("select", "textarea")


def does_nothing_else(link: Element) -> bool:
    """Return whether a link, or what acts as a button, is a command for the page; one in a sentence is a word of it."""
    href = (link.get("href") or "#")[:2000]
    if not href.startswith(("#", "javascript:")) or next(islice(link.iterdescendants(), 20, None), None) is not None:
        return False
    label = label_of(link)
    is_inert = href == "#" or href.startswith("javascript:") or link.get("role") == "button"
    is_command = len(label) <= _MAX_COMMAND and _LETTER.search(label) is not None and is_action(label)
    return is_inert and is_command and not ((link.tail or "").strip() and _is_in_sentence(link))


def skips_menu(link: Element) -> bool:
    """Return whether a link leads past the menu to the content of its page."""
    return (link.get("href") or "").startswith("#") and is_skip(label_of(link))


def _read_button(button: Element, removal: Removal, *, is_title: bool) -> None:
    label, holder = label_of(button), _title_around(button)
    if holder is not None:
        is_said = _is_title(holder, button, label) or not is_action(label)
    else:
        is_said = _is_in_sentence(button) and not (_is_toggle(button) and is_action(label))
    if label and (is_said or (_is_first_cell(button) and not is_action(label))):
        _become(button, "span")
    elif not is_action(label) and (is_title or label.endswith(("?", "？")) or _is_toggle(button)):
        _become_line(button)
    else:
        removal.remove(button, "controls")


def _is_first_cell(button: Element) -> bool:
    """Return whether a button is what a row of a table is about: `Save` before what it does."""
    cell = button.getparent()
    return cell.tag in ("td", "th") and cell.getprevious() is None and cell.getnext() is not None


def _title_around(button: Element) -> Element | None:
    """Return the heading or the term that a button stands in, unless it is a toolbar."""
    around = list(islice(button.iterancestors(), 2))
    if any(next(islice(element, _MOST_BESIDE, None), None) is not None for element in around):
        return None
    return next((element for element in around if element.tag in _TITLES), None)


def _is_title(holder: Element, button: Element, label: str) -> bool:
    """Return whether a button is all of a heading or a term, or stands in the middle of it."""
    return label_of(holder) == label or bool(_LETTER.search(button.tail or "") and _is_in_sentence(button))


def _is_toggle(button: Element) -> bool:
    return button.get("aria-haspopup") is None and any(button.get(name) is not None for name in _TOGGLES)


def _is_in_sentence(button: Element) -> bool:
    """Return whether words stand directly beside a button, on its line, as in `Press Save`."""
    before = button.getprevious()
    text = before.tail if before is not None else button.getparent().text
    text, tail = text or "", button.tail or ""
    if _LETTER.search(text) is None and _LETTER.search(tail) is None:
        return False
    if not tail.strip() and text.rstrip()[-1:] in (".", "!", "?", ";", ")") and is_action(label_of(button)):
        return False  # it stands behind a sentence
    return before is None or before.tag in _INLINE or _LETTER.search(text) is not None


def _read_input(field: Element, removal: Removal, *, is_in_form: bool) -> None:
    kind, value = (field.get("type") or "").strip().lower(), (field.get("value") or "").strip()
    if kind in ("checkbox", "radio"):
        _read_mark(field, removal, is_in_form=is_in_form)
    elif value and (
        (kind in _TEXT_TYPES and not is_editable(field)) or (kind in _BUTTON_TYPES and _is_in_sentence(field))
    ):
        _become(field, "span")
        field.text = value
    else:
        removal.remove(field, "controls")


def _show_choice(field: Element) -> None:
    """Write what a select that cannot be changed shows: the option selected, or the first."""
    options = list(field.iter("option"))
    chosen = next((option for option in options if option.get("selected") is not None), options[0] if options else None)
    label = label_of(chosen) if chosen is not None else ""
    for part in list(field):
        field.remove(part)
    _become(field, "span")
    field.text = label


def _read_mark(field: Element, removal: Removal, *, is_in_form: bool) -> None:
    """Write the state of a box in a list or a table, as task lists in Markdown do."""
    around = next((a.tag for a in islice(field.iterancestors(), 4) if a.tag in ("li", "td", "th", "dd")), None)
    is_state = not is_editable(field) or (not is_in_form and (field.get("type") or "").lower() == "checkbox")
    if around is None or not is_state:
        removal.remove(field, "controls")
        return
    mark = "[x] " if field.get("checked") is not None else "[ ] "
    _become(field, "span")
    field.text = mark


def _shows_sample(field: Element, *, is_in_form: bool) -> bool:
    if not (field.text or "").strip():
        return False
    return not is_editable(field) or (not is_in_form and field.get("name") is None) or "code" in name_tokens(field)


def _become(element: Element, tag: str) -> None:
    element.tag = tag
    element.attrib.clear()


def _become_line(button: Element) -> None:
    """Make a bold line of its own from the button that opens a panel."""
    _become(button, "p")
    name = button.makeelement("strong")
    name.text, button.text = button.text, None
    name.extend(list(button))
    button.append(name)
