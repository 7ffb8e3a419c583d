"""Tells a notice to the reader, that there is no page or not for them, from a page; by what it says alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from kb_pipeline.clean.address import words_of
from kb_pipeline.clean.notice_words import LOGIN_TITLE, NAMES_PAGE, TO_THE_READER, WALL_TEXT, WALL_TITLE
from kb_pipeline.clean.signs import LOGIN_FIELD, PASSWORD, WALL_SCRIPT, is_named_error, names_error

ERROR_PAGE, WALL, LOGIN = "error_page", "bot_wall", "login_page"
REASONS = {
    ERROR_PAGE: "the server says that all is well, but the page reads like an error or a log-in",
    WALL: "the site's guard against robots stands in the place of the page",
    LOGIN: "the page only asks to log in",
}
"""By the reason codes of a page that is a notice."""
_MOST_ERROR_WORDS, _MOST_WALL_WORDS, _MOST_LOGIN_WORDS = 120, 120, 80
_MOST_CHARS = 4000
_MOST_BARE_WORDS = 3
"""Words beside its headings that an error may have which says nothing else."""
_MOST_HEADINGS = 6
_TITLE_PARTS = re.compile(r"\s+[|·•–—»:-]\s+|\s*[|·•»]\s*|:\s+")
_EXPLAINS = re.compile(r"^(?:```|~~~|\||    \S)", re.MULTILINE)
"""Code or a table: a page about errors, not one of them."""
_MOST_NAME_WORDS = 8
_MOST_NAME_CHARS = 24
"""Of scripts whose words are single characters."""
_BARE = re.compile(r"(?:(?:oops|sorry|error|fehler|erreur|ошибка) )*(?P<rest>.*)")


def notice_in(title: str, text: str, signs: Collection[str]) -> str | None:
    """Return the reason why a page is none but a notice; None if it may be a page.

    A page about errors, walls or logging in says more, or does not speak to the reader who was turned away.

    Args:
        title: of the document.
        text: its Markdown without the targets of links.
        signs: of the document, see `signs.signs_of`.
    """
    if len(text) > _MOST_CHARS or len(said := words_of(text)) > _MOST_ERROR_WORDS:
        return None
    spoken, headings = " ".join(said), _headings(title, text)
    if _is_wall(headings, spoken, len(said), signs):
        return WALL
    if _is_login(headings, len(said), signs):
        return LOGIN
    return ERROR_PAGE if _is_error(headings, text, spoken) else None


def _headings(title: str, text: str) -> list[str]:
    lines = [line.lstrip("#") for line in text.splitlines() if line.startswith("#")]
    return [title, *lines[:_MOST_HEADINGS]]


def _is_wall(headings: Sequence[str], spoken: str, words: int, signs: Collection[str]) -> bool:
    says = len(set(WALL_TEXT.findall(spoken)))
    if WALL_SCRIPT in signs and words <= _MOST_WALL_WORDS:
        return words == 0 or says > 0 or any(WALL_TITLE.search(" ".join(words_of(heading))) for heading in headings)
    is_titled = any(WALL_TITLE.search(" ".join(words_of(heading))) for heading in headings[:2])
    return is_titled and says > (1 if words > _MOST_WALL_WORDS // 2 else 0)


def _is_login(headings: Collection[str], words: int, signs: Collection[str]) -> bool:
    if words > _MOST_LOGIN_WORDS or not {PASSWORD, LOGIN_FIELD} & set(signs):
        return False
    parts = (" ".join(words_of(part)) for heading in headings for part in _TITLE_PARTS.split(heading))
    return any(LOGIN_TITLE.fullmatch(part) for part in parts)


def _is_error(headings: Collection[str], text: str, spoken: str) -> bool:
    parts = {part for heading in headings for part in (heading, *_TITLE_PARTS.split(heading))}
    if not any(_names_missing_page(part) for part in parts) or _EXPLAINS.search(text):
        return False
    body = [word for line in text.splitlines() if not line.startswith("#") for word in words_of(line)]
    return len(body) <= _MOST_BARE_WORDS or TO_THE_READER.search(spoken) is not None


def _names_missing_page(part: str) -> bool:
    """Return whether a title, a part of one or a heading says no more than that this page is missing or refused."""
    words = words_of(part)
    if not words or (len(words) > _MOST_NAME_WORDS and len(part) > _MOST_NAME_CHARS) or not names_error(part):
        return False
    return NAMES_PAGE.search(part.lower()) is not None or is_named_error(_BARE.sub(r"\g<rest>", " ".join(words)))
