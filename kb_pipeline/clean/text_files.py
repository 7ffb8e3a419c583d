"""Turns plain text and reStructuredText into Markdown whose headings are those that a reader sees."""

from __future__ import annotations

import re

from kb_pipeline.media_types import media_type

_COMMENT = re.compile(r"^([ ]{0,3})(#{1,6})(?=[ \t])", re.M)
# A title, underlined and perhaps overlined by one kind of punctuation (docutils, "Sections").
_ADORNMENT = r"([=\-`:'\"~^_*+#<>.])\{}{{2,}}[ \t]*"
_TITLE = re.compile(
    rf"(?:(?<=\n\n)|\A)(?:(?P<over>{_ADORNMENT.format(2)})\n)?[ \t]?(?P<title>\S[^\n]{{0,200}})\n"
    rf"(?P<under>{_ADORNMENT.format(5)})(?=\n|\Z)"
)
_MAX_LEVEL = 6


def text_as_markdown(text: str, content_type: str, url: str) -> str:
    """Return a text as Markdown: a number sign at the start of a line is a comment there, and no heading."""
    plain = _COMMENT.sub(r"\1\\\2", text)
    is_rst = "rst" in media_type(content_type) or "restructured" in media_type(content_type)
    return _with_headings(plain) if is_rst or url.lower().endswith((".rst", ".rst.txt")) else plain


def _with_headings(text: str) -> str:
    """Return reStructuredText with its titles as headings; their levels are in the order of their first use."""
    levels: dict[tuple[str, bool], int] = {}

    def heading(match: re.Match[str]) -> str:
        title, over, under = match["title"].strip(), match["over"], match["under"]
        is_adorned = len(under) >= len(title) - 1 and (over is None or over[0] == under[0])
        if not is_adorned or not any(character.isalnum() for character in title):
            return match[0]
        level = levels.setdefault((under[0], over is not None), len(levels) + 1)
        return f"{'#' * min(level, _MAX_LEVEL)} {title}\n"

    return _TITLE.sub(heading, text)
