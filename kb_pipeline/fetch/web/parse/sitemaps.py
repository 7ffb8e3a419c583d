"""Reads sitemap files, sitemap indexes and feeds (RSS, Atom), plain or gzipped, XML or text, within fixed limits."""

from __future__ import annotations

import codecs
import html.entities
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree

MAX_ENTRIES = 50_000
MAX_BYTES = 50 * 1024 * 1024
"""Both from sitemaps.org's protocol."""
MAX_NESTING = 3
_ROOTS = frozenset({"urlset", "sitemapindex", "rss", "feed", "rdf"})
_ENTRIES = frozenset({"url", "sitemap", "item", "entry"})
_FEEDS = frozenset({"channel", "feed"})
_NEXT = frozenset({"next", "prev-archive"})
"""How a feed names what continues it with older entries (RFC 5005); the newest ones come first."""
_DATES = ("lastmod", "updated", "pubdate", "date")
_DAY_IN_ANY_ZONE = timedelta(hours=24 + 12)
"""A date without a time zone may end as late as this after it began in UTC."""
_MINUTE = timedelta(minutes=1)
_REFERENCE = re.compile(rb"&(?:(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{0,31});)?", re.IGNORECASE)
_LITERAL, _LITERAL_END = b"<![CDATA[", b"]]>"
_XML_NAMES = frozenset({b"amp", b"lt", b"gt", b"quot", b"apos"})
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableSitemap(ValueError):
    """The file is not a sitemap."""


class TooManyEntries(UnreadableSitemap):
    """The file has more entries than the protocol allows; those within the limit were yielded before."""


@dataclass(frozen=True, slots=True)
class SitemapEntry:
    """One line of a sitemap: a page, one of its translations, or another sitemap."""

    url: str
    lastmod: str | None
    is_sitemap: bool
    is_next: bool = False
    """Whether it is the next page, or the archive, of the feed that names it (RFC 5005)."""


def is_past(lastmod: str, now: datetime) -> bool:
    """Return whether the day or minute that a lastmod names has certainly passed.

    Until then the page may change again and keep that lastmod, so it must not be stored as that of the fetched page.
    """
    try:
        named = datetime.fromisoformat(lastmod)
        end = named + _MINUTE if named.tzinfo else named.replace(tzinfo=UTC) + _DAY_IN_ANY_ZONE
    except (ValueError, OverflowError):
        return False  # "yesterday", or only a year: no definite moment
    return end < now


def read_sitemap(body: bytes) -> Iterator[SitemapEntry]:
    """Yield the entries of a sitemap, a sitemap index or a feed, at most 50,000, and as many translations of them.

    Raises:
        UnreadableSitemap: the file is neither XML nor a list of URLs.
        TooManyEntries: the file is larger than 50 MiB or has more entries; the first ones were yielded before.
    """
    content = _unzipped(body)
    start = content[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        yield from _read_xml(content)
    elif start.startswith((b"http://", b"https://")):
        yield from _read_lines(content)
    elif start:
        raise UnreadableSitemap("neither XML nor a list of URLs")
    if len(content) >= MAX_BYTES:
        raise TooManyEntries(f"what is beyond {MAX_BYTES >> 20} MiB is not read")


def _unzipped(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body[:MAX_BYTES]
    try:
        # Limited: a megabyte of gzip can hold a gigabyte. What is beyond the limit of the protocol is dropped.
        return zlib.decompressobj(wbits=31).decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise UnreadableSitemap(f"broken gzip: {error}") from error


def _read_lines(content: bytes) -> Iterator[SitemapEntry]:
    lines = content.decode("utf-8", "replace").split()
    for line in lines[:MAX_ENTRIES]:
        yield SitemapEntry(line, None, is_sitemap=False)
    if len(lines) > MAX_ENTRIES:
        raise TooManyEntries(_too_many())


def _too_many() -> str:
    return f"the entries beyond {MAX_ENTRIES:,} are not read"


def _read_xml(content: bytes) -> Iterator[SitemapEntry]:
    from lxml import etree

    # No DTD, no entities, no network; `recover` keeps the entries before a syntax error.
    parser = etree.iterparse(
        BytesIO(_repaired(content)),
        events=("end",),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        recover=True,
    )
    entries, root, translations = 0, "", _Translations()
    try:
        for _, element in parser:
            name = _local_name(element)
            if name in _ENTRIES:
                if entries == MAX_ENTRIES:
                    raise TooManyEntries(_too_many())
                if (entry := _entry(element, is_sitemap=name == "sitemap")) is not None:
                    yield entry
                    entries += 1
                    yield from translations.of(element)
                _free(element)
            elif name == "link" and (following := _following(element)):
                yield SitemapEntry(following, None, is_sitemap=False, is_next=True)
            root = name
    except etree.XMLSyntaxError as error:
        if not entries:
            raise UnreadableSitemap(f"broken XML: {error}") from error
    if not entries and root not in _ROOTS:
        raise UnreadableSitemap("XML, but neither a sitemap nor a feed")


def _repaired(content: bytes) -> bytes:
    """Return the file with `&` written as XML has it where an address was put in as it is, and no names of HTML.

    The parser would drop each with what stands behind it, and so lead to other addresses.
    """
    if b"&" not in content or content.startswith(_UTF_16):
        return content
    first, *others = content.split(_LITERAL)
    return _LITERAL.join([_REFERENCE.sub(_as_xml, first), *map(_repaired_after_literal, others)])


def _repaired_after_literal(part: bytes) -> bytes:
    end = part.find(_LITERAL_END)
    return part if end < 0 else part[:end] + _REFERENCE.sub(_as_xml, part[end:])


def _as_xml(found: re.Match[bytes]) -> bytes:
    name = found[1]
    if name is not None and (name.startswith(b"#") or name in _XML_NAMES):
        return found[0]
    character = html.entities.html5.get(f"{name.decode()};") if name is not None else None
    if character is not None:
        return b"".join(b"&#%d;" % ord(each) for each in character)
    return b"&amp;" + found[0][1:]


class _Translations:
    """The translations of a sitemap's pages, each once although every page of a group names them all."""

    def __init__(self) -> None:
        self._named: set[int] = set()

    def of(self, element: etree._Element) -> Iterator[SitemapEntry]:
        """Yield those of one entry that were not named yet."""
        for child in element:
            is_link = _local_name(child) == "link" and child.get("hreflang") and child.get("rel") == "alternate"
            href = child.get("href", "").strip() if is_link else ""
            if href and hash(href) not in self._named and len(self._named) < MAX_ENTRIES:
                self._named.add(hash(href))
                yield SitemapEntry(href, None, is_sitemap=False)


def _following(element: etree._Element) -> str:
    """Return where a link of a feed says that it goes on; empty for other links."""
    parent = element.getparent()
    if parent is None or _local_name(parent) not in _FEEDS or element.get("rel") not in _NEXT:
        return ""
    return str(element.get("href", "")).strip()


def _local_name(element: etree._Element) -> str:
    # A prefix that nobody declared stays in the name.
    return element.tag.rpartition("}")[2].rpartition(":")[2].lower() if isinstance(element.tag, str) else ""


def _entry(element: etree._Element, *, is_sitemap: bool) -> SitemapEntry | None:
    texts: dict[str, str] = {}
    for child in element:
        name = _local_name(child)
        texts.setdefault(name, (child.text or "").strip())
        if name == "link" and child.get("href") and child.get("rel", "alternate") == "alternate":
            texts["link"] = child.get("href", "").strip()  # Atom
    url = texts.get("loc") or texts.get("link") or _permanent(texts.get("guid", ""))
    if not url:
        return None
    return SitemapEntry(url, _lastmod(texts), is_sitemap)


def _permanent(guid: str) -> str:
    return guid if guid.startswith(("http://", "https://")) else ""


def _lastmod(texts: dict[str, str]) -> str | None:
    text = next((texts[name] for name in _DATES if texts.get(name)), None)
    if text is None or "lastmod" in texts or "updated" in texts:
        return text
    try:
        return parsedate_to_datetime(text).isoformat()  # RSS
    except ValueError:
        return text


def _free(element: etree._Element) -> None:
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]
