"""Documents as resources: `kb://{kb}/documents/{key}{?version}`, listed a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import cast

from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    ListResourcesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from kb_pipeline.errors import TenantInactive, UnknownKb, UnknownVersion, UsageError
from kb_pipeline.index.document_page import DocumentPage
from kb_pipeline.installation import Installation
from kb_pipeline.service.cursors import read_cursor, write_cursor
from kb_pipeline.service.mcp.tools import find_document, kb_named
from kb_pipeline.service.names import kb_id
from kb_pipeline.service.problems import VersionGone

_TEMPLATE = UriTemplate.parse("kb://{kb}/documents/{key}{?version}")
_MARKDOWN = "text/markdown"
_PAGE = 100
"""Documents in one answer."""
_TITLE_CHARS = 120
"""Titles are their pages' words: hosts show them in lists."""

TEMPLATE = ResourceTemplate(
    name="document",
    title="A document",
    uri_template=str(_TEMPLATE),
    description="A document of a knowledge base as Markdown. kb is tenant.kb; key the document's id or URL, escaped.",
    mime_type=_MARKDOWN,
)


def list_resources(home: Installation, cursor: str | None) -> ListResourcesResult:
    """Return the next documents of the KBs that the caller may read, by KB and id; a page never spans two KBs.

    Raises:
        UsageError: the cursor is not one that was given.
        VersionGone: the version that a page began with is not kept any more.
    """
    ids = sorted(kb_id(each.kb) for each in home.overview() if each.live_version is not None)
    version, kb, after = (0, "", "") if cursor is None else _read_place(cursor)
    remaining = [each for each in ids if each > kb]
    page = _page(home, kb, version, after) if version else None
    while page is None and remaining:
        kb, *remaining = remaining
        page = _page(home, kb, None, "")
    if page is None:
        return ListResourcesResult(resources=[])
    following = None
    if page.after:
        following = write_cursor(page.version, f"{kb}:{page.after}")
    elif remaining:
        following = write_cursor(0, f"{kb}:")
    resources = [
        Resource(
            uri=_TEMPLATE.expand({"kb": kb, "key": each.key}), name=each.key, title=_shortened(each.title or each.key),
            mime_type=_MARKDOWN,
        )
        for each in page.documents
    ]  # fmt: skip
    return ListResourcesResult(resources=resources, next_cursor=following)


def read_resource(home: Installation, uri: str) -> ReadResourceResult:
    """Return the document of that URI.

    Raises:
        UsageError: no document can have the URI, or there is none such.
    """
    matched = cast("Mapping[str, str] | None", _TEMPLATE.match(uri))
    if matched is None:
        raise UsageError(f"a resource here is {_TEMPLATE}, its key escaped; got another URI")
    version = matched.get("version")
    if version is not None and not version.isdecimal():
        raise UsageError("version is a number, as in ?version=3")
    document = find_document(kb_named(home, matched["kb"]), matched["key"], None if version is None else int(version))
    contents = TextResourceContents(uri=uri, mime_type=_MARKDOWN, text=document.markdown)
    return ReadResourceResult(contents=[contents])


def _page(home: Installation, kb: str, version: int | None, after: str) -> DocumentPage | None:
    """Return a page of a KB; None of one that cannot be read just now, so that others are listed all the same."""
    try:
        return kb_named(home, kb).document_page(after=after, limit=_PAGE, as_of=version)
    except UnknownVersion as error:
        if version is not None:
            raise VersionGone(error) from None
        return None
    except (UnknownKb, TenantInactive):
        return None


def _shortened(title: str) -> str:
    return shorten(title, _TITLE_CHARS, placeholder=" …") or title[:_TITLE_CHARS]


def _read_place(cursor: str) -> tuple[int, str, str]:
    version, place = read_cursor(cursor)
    kb, _, after = place.partition(":")
    return version, kb, after
