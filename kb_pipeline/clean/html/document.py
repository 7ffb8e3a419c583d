"""Turns a raw document into Markdown: parses it once, finds its main content, writes that."""

from __future__ import annotations

import logging
import re
from typing import Any

from kb_pipeline.clean.charset import decode
from kb_pipeline.clean.html import metadata
from kb_pipeline.clean.html.prose import Article, keep_article
from kb_pipeline.clean.html.regions import documentation_content, main_content, strip_boilerplate
from kb_pipeline.clean.html.tables import span
from kb_pipeline.clean.html.to_markdown import write_markdown
from kb_pipeline.clean.language import detect_language
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.simhash import simhash
from kb_pipeline.model import Document, RawDocument, Rejected

Element = Any

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/html"})
_TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/x-markdown", "text/x-rst", "text/prs.fallenstein.rst"})
_UNTYPED = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-unknown", "unknown/unknown"}
)
_LOOKS_LIKE_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta|div|p|h1|main|article|table)\b",
    re.I | re.S,
)
_INTERNAL_SUBSET = re.compile(r"(<!DOCTYPE[^>\[]{0,300})\[.*?\]\s*>", re.I | re.S)
_INLINE_TAG = re.compile(r"</?(?:a|b|i|u|s|em|strong|span|font|code|tt|small|big|sub|sup)\b[^>]{0,1000}>", re.I)
_BLOCK_TAG = re.compile(
    r"</?(?!(?:p|pre|h[1-6]|br|html|head|body|title|meta|link|base|script|style|noscript|template)\b)[a-z][^>]{0,1000}>",
    re.I,
)
_WORD = re.compile(r"\w+")
_PARSER_DEPTH = 2_000
_MAX_COLUMNS = 20
_LONG_ARTICLE = 100
_MAX_SHELL_WORDS = 50
_ROOTS = frozenset(
    {"root", "app", "__next", "__nuxt", "__layout", "q-app", "gatsby-focus-wrapper", "svelte", "application"}
)


def read_html(raw: RawDocument, rules: CleaningRules) -> Document | Rejected:
    """Return the document in the bytes of an HTML page or text file, or why there is none."""
    kind = _kind(raw.content_type)
    if kind is None:
        return _rejected(raw, "content_type", f"{_mime_type(raw.content_type)} is neither a web page nor text")
    text = decode(raw.body, raw.content_type)
    if text is None:
        return _rejected(raw, "undecodable", "the body is binary, or in no known character encoding")
    if kind == "sniff":
        kind = "html" if _LOOKS_LIKE_HTML.match(text[:4096]) else "text"
    return _read_page(raw, text, rules) if kind == "html" else _read_text(raw, text, rules)


def warm_up() -> None:
    """Load parser and language models, so that the first page takes no longer than the others."""
    _tree("<p>warm")
    detect_language("This sentence is only here to load the models that tell languages apart. " * 4)


def _kind(content_type: str) -> str | None:
    mime_type = _mime_type(content_type)
    if mime_type in _HTML_TYPES:
        return "html"
    if mime_type in _TEXT_TYPES:
        return "text"
    return "sniff" if mime_type in _UNTYPED else None


def _mime_type(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def _read_text(raw: RawDocument, text: str, rules: CleaningRules) -> Document | Rejected:
    """Take plain text and Markdown as they are, titled by their first heading or their URL."""
    words = len(_WORD.findall(text))
    if words < max(rules.min_words, 1):
        return _rejected(raw, "no_text", f"{words} words")
    heading = re.search(r"(?m)\A\s*#\s+(\S.*?)\s*#*$", text[:2000])
    title = heading[1] if heading else metadata.title_from_url(raw.url or raw.key)
    return _document(raw, title=title, markdown=text, language=detect_language(text))


def _read_page(raw: RawDocument, text: str, rules: CleaningRules) -> Document | Rejected:
    tree = _parse(text)
    if tree is None:
        return _rejected(raw, "no_text", "the body is empty")
    if metadata.forbids_indexing(tree):
        return _rejected(raw, "noindex", "its robots meta tag says noindex")
    base_url = metadata.base_of(tree, raw.url)
    declared = metadata.language_of(tree)
    published, modified = metadata.dates_of(tree)
    title, canonical = metadata.title_of(tree, raw.url or raw.key), metadata.canonical_of(tree, base_url)
    translations = metadata.translations_of(tree, base_url)
    is_shell = _is_shell(tree)
    markdown, links = write_markdown(_content(tree, raw.url, rules), base_url)
    words = len(_WORD.findall(markdown))
    if is_shell and words < _MAX_SHELL_WORDS:
        return _rejected(raw, "needs_javascript", "its text is made by scripts; try rendering it")
    if words < max(rules.min_words, 1):
        return _rejected(raw, "no_text", f"{words} words")
    language = detect_language(markdown, declared)
    return _document(
        raw,
        title=title,
        markdown=markdown,
        language=language,
        canonical_url=canonical,
        published=published,
        modified=modified,
        links=links,
        translations=translations,
    )


def _document(raw: RawDocument, **found: Any) -> Document:  # noqa: ANN401 - fields of Document
    known = {"canonical_url": None, "published": None, "modified": None, **found}
    return Document(source=raw.source, key=raw.key, raw_sha256=raw.sha256, sketch=simhash(found["markdown"]), **known)


def _rejected(raw: RawDocument, reason: str, message: str) -> Rejected:
    return Rejected(raw.source, raw.key, reason, message, raw.sha256)


def _parse(text: str) -> Element | None:
    """Parse a page, without comments; entities, DTDs and network access are disabled."""
    tree = _tree(_INTERNAL_SUBSET.sub(r"\1>", text, count=1))
    if tree is not None and _is_cut_off(tree):
        # The parser drops what is nested too deep; with all blocks as flat paragraphs it keeps everything.
        tree = _tree(_BLOCK_TAG.sub("<p>", _INLINE_TAG.sub(" ", text)))
    return tree


def _tree(text: str) -> Element | None:
    from lxml import etree
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True, no_network=True)
    try:
        tree = document_fromstring(text.encode("utf-8"), parser=parser)
    except etree.ParserError:  # the text is blank
        return None
    except etree.XMLSyntaxError as error:  # this parser accepts any syntax, so it ran out of memory
        raise MemoryError from error
    if any(entry.type == etree.ErrorTypes.ERR_NO_MEMORY for entry in parser.error_log):
        raise MemoryError  # the parser returns the part of the page that fitted into memory
    return tree


def _is_cut_off(tree: Element) -> bool:
    """Return whether the tree is as deep as the parser allows."""
    depths = {tree: 0}
    for element in tree.iterdescendants():
        depths[element] = depths[element.getparent()] + 1
    return max(depths.values()) >= _PARSER_DEPTH


def _content(tree: Element, url: str, rules: CleaningRules) -> Element:
    """Return the main content without navigation: all of a documentation page, the article of any other."""
    content = documentation_content(tree)
    if content is not None:
        strip_boilerplate(content, is_documentation=True)
        return content
    marked = main_content(tree)
    content = marked if marked is not None else _body(tree)
    article = None if marked is not None and _is_reference(marked) else _article(tree, url, rules)
    strip_boilerplate(content, is_documentation=False)
    if article is not None and article.words >= _LONG_ARTICLE:
        keep_article(content, article)
    return content


def _body(tree: Element) -> Element:
    body = tree.find("body")
    return body if body is not None else tree


def _is_reference(content: Element) -> bool:
    """Return whether a page's main content has code or definitions, which article extractors lose."""
    return next(content.iter("pre", "dl"), None) is not None


def _article(tree: Element, url: str, rules: CleaningRules) -> Article | None:
    """Return what trafilatura extracts as the article; None if it finds none."""
    from trafilatura import bare_extraction

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs content of pages
    for cell in tree.iter("td", "th"):
        if span(cell) > _MAX_COLUMNS:
            cell.attrib.pop(
                "colspan"
            )  # trafilatura pads every row to the widest, which takes minutes for a hostile table
    found: Any = bare_extraction(
        tree, url=url or None, fast=True, include_comments=False, include_tables=True,
        favor_recall=rules.focus == "recall", favor_precision=rules.focus == "precision",
    )  # fmt: skip
    if found is None or found.body is None:
        return None
    blocks = ("".join(block.itertext()) for block in found.body.iter("p", "head", "item", "cell", "quote", "code"))
    return Article.of(blocks)


def _is_shell(tree: Element) -> bool:
    """Return whether scripts are to fill the page: it has an empty mount point, or asks for JavaScript, or is empty."""
    if next(tree.iter("script"), None) is None:
        return False
    roots = [element for element in tree.iter("div", "main", "app-root") if _is_root(element)]
    messages = ("".join(message.itertext()).lower() for message in tree.iter("noscript"))
    return (
        any(not _has_words(root) for root in roots)
        or any("javascript" in message for message in messages)
        or not _has_words(_body(tree))
    )


def _is_root(element: Element) -> bool:
    return element.tag == "app-root" or (element.get("id") or "").lower() in _ROOTS


def _has_words(element: Element) -> bool:
    """Return whether an element shows text, beyond a placeholder such as 'Loading'."""
    hidden = ("script", "style", "noscript", "template", "head")
    texts = [part.text for part in element.iter() if part.text and part.tag not in hidden]
    texts += [part.tail for part in element.iterdescendants() if part.tail]
    return sum(len(_WORD.findall(text)) for text in texts) > 2
