"""Turns a raw document into Markdown: parses it once, finds its main content, writes that."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from kb_pipeline.charset import Undecodable, decode, is_binary
from kb_pipeline.clean.blocks import edges_of
from kb_pipeline.clean.fingerprints import comparisons_of
from kb_pipeline.clean.html import metadata
from kb_pipeline.clean.html.anchors import strip_anchors
from kb_pipeline.clean.html.article import declares_article, is_prose, reduce_to_article
from kb_pipeline.clean.html.code import read_listings
from kb_pipeline.clean.html.facts import facts_of, missing_facts
from kb_pipeline.clean.html.icons import write_names
from kb_pipeline.clean.html.images import write_images
from kb_pipeline.clean.html.maths import write_formulas
from kb_pipeline.clean.html.notes import write_notes
from kb_pipeline.clean.html.regions import is_documentation, main_content, narrow_down, remove_frame, remove_link_bars
from kb_pipeline.clean.html.removal import Removal, words_of
from kb_pipeline.clean.html.reveal import reveal
from kb_pipeline.clean.html.scripts import write_scripts
from kb_pipeline.clean.html.shells import is_filled_by_scripts
from kb_pipeline.clean.html.strikes import mark_struck_text
from kb_pipeline.clean.html.stubs import SENT_ON, redirect_of
from kb_pipeline.clean.html.to_markdown import write_markdown
from kb_pipeline.clean.language import detect_language
from kb_pipeline.clean.markdown_files import as_page, is_markdown
from kb_pipeline.clean.notices import REASONS as NOTICES
from kb_pipeline.clean.notices import WALL, notice_in
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.signs import WALL_SCRIPT, controls_of, signs_of
from kb_pipeline.clean.text_files import text_as_markdown
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.media_types import media_type
from kb_pipeline.model import Document, RawDocument, Rejected
from kb_pipeline.page_kind import kind_of
from kb_pipeline.word_count import count_words
from kb_pipeline.xhtml import as_html

Element = Any

_INTERNAL_SUBSET = re.compile(r"(<!DOCTYPE[^>\[]{0,300})\[.*?\]\s*>", re.I | re.S)
_STYLE_TAG = re.compile(r"</?(?:span|font)\b[^>]{0,1000}>", re.I)
_WRAPPER_TAG = re.compile(r"</?(?:div|section|article|center)\b[^>]{0,1000}>", re.I)
_INLINE_TAG = re.compile(r"</?(?:a|b|i|u|s|em|strong|span|font|code|tt|small|big|sub|sup)\b[^>]{0,1000}>", re.I)
_BLOCK_TAG = re.compile(
    r"</?(?!(?:p|pre|h[1-6]|br|html|head|body|title|meta|link|base|script|style|noscript|template)\b)[a-z][^>]{0,1000}>",
    re.I,
)
_PARSER_DEPTH = 2_000
_MAX_SHELL_WORDS = 50


def read_html(raw: RawDocument, rules: CleaningRules) -> Document | Rejected:
    """Return the document in the bytes of an HTML page or text file, or why there is none."""
    kind = kind_of(raw.content_type, raw.url or raw.key, raw.body)
    if kind is None:
        return _no_page(raw)
    try:
        text = decode(raw.body, raw.content_type)
    except Undecodable as error:
        return _rejected(raw, "undecodable", str(error))
    if kind in ("html", "xhtml"):
        return _read_page(raw, as_html(text) if kind == "xhtml" else text, rules)
    if (kind == "markdown" or is_markdown(text)) and (page := as_page(text)) is not None:
        return _read_page(raw, page, rules, is_whole=True)
    return _read_text(raw, text, rules)


def warm_up() -> None:
    """Load parser and language models, so that the first page takes no longer than the others."""
    _tree("<p>warm")
    detect_language("This sentence is only here to load the models that tell languages apart. " * 4)


def _read_text(raw: RawDocument, text: str, rules: CleaningRules) -> Document | Rejected:
    """Take plain text as it is, but for what Markdown would take for headings, and none of reStructuredText's."""
    words = count_words(text)
    if words < max(rules.min_words, 1):
        return _rejected(raw, "no_text", f"{words} words")
    url = raw.url or raw.key
    markdown = text_as_markdown(text, raw.content_type, url)
    heading = re.match(r"\s*#\s+(\S.*)", markdown[:2000])
    title = heading[1] if heading else metadata.title_from_url(url)
    return _document(raw, title=title, markdown=markdown, language=detect_language(text))


def _read_page(raw: RawDocument, text: str, rules: CleaningRules, *, is_whole: bool = False) -> Document | Rejected:
    """Read a page of HTML; of one that is whole, such as a file of Markdown was made into, no part is left out."""
    tree = _parse(text)
    if tree is None:
        return _rejected(raw, "no_text", "the body is empty")
    if metadata.forbids_indexing(tree):
        return _rejected(raw, "noindex", "its robots meta tag says noindex")
    base_url = metadata.base_of(tree, raw.url)
    if target := redirect_of(tree, raw.url, base_url):
        return _rejected(raw, SENT_ON, f"it sends its readers on to {target}")
    declared = metadata.language_of(tree)
    published, modified = metadata.dates_of(tree)
    title, canonical = metadata.title_of(tree, raw.url or raw.key), metadata.canonical_of(tree, base_url)
    translations = metadata.translations_of(tree, base_url)
    is_shell, controls, removal = not is_whole and is_filled_by_scripts(tree), controls_of(tree), Removal()
    may_be_article = not is_whole and rules.focus != "recall" and declares_article(tree)
    facts, questions = facts_of(tree, title)
    _spell_out(tree)
    read_listings(tree)
    reveal(tree, removal)
    content = _region(tree, removal) if not is_whole else _body(tree)
    if may_be_article and is_prose(content) and not is_documentation(tree):
        reduce_to_article(tree, content, raw.url, rules.focus, removal)
    if not is_whole:
        remove_frame(content, removal)
        remove_link_bars(content, removal)
    markdown, links = write_markdown(content, base_url)
    words = count_words(markdown)
    if WALL_SCRIPT in controls and notice_in(title, strip_link_targets(markdown), controls) == WALL:
        return _rejected(raw, WALL, f"{NOTICES[WALL]}: {title}")
    if is_shell and words < _MAX_SHELL_WORDS:
        return _rejected(raw, "needs_javascript", "its text is made by scripts; try rendering it")
    if words < max(rules.min_words, 1):
        return _rejected(raw, "no_text", f"{words} words")
    language = detect_language(markdown, declared)
    if unsaid := missing_facts(facts, questions, markdown):
        markdown = f"{markdown}\n{unsaid}"
    return _document(
        raw,
        controls,
        title=title,
        markdown=markdown,
        language=language,
        canonical_url=canonical,
        published=published,
        modified=modified,
        links=links,
        translations=translations,
        metadata=facts,
        words={"kept": words, **removal.words},
        edges=edges_of(markdown).to_bytes(),
    )


def _spell_out(tree: Element) -> None:
    """Write as text what a page shows by other means, before scripts, drawings and controls go."""
    write_formulas(tree)
    write_notes(tree)
    write_scripts(tree)
    mark_struck_text(tree)
    strip_anchors(tree)
    write_images(tree)
    write_names(tree)


def _document(raw: RawDocument, controls: Collection[str] = (), **found: Any) -> Document:  # noqa: ANN401 - of Document
    known = {"canonical_url": None, "published": None, "modified": None, **found}
    title, markdown = known["title"], known["markdown"]
    text = strip_link_targets(markdown)
    signs = signs_of(title, text, controls)
    notice = notice_in(title, text, signs)
    return Document(
        source=raw.source,
        key=raw.key,
        raw_sha256=raw.sha256,
        signs=(*signs, notice) if notice else signs,
        **comparisons_of(raw.key, title, markdown),
        **known,
    )


def _no_page(raw: RawDocument) -> Rejected:
    stated = media_type(raw.content_type)
    if not stated and is_binary(raw.body):
        return _rejected(raw, "undecodable", "the body is binary, and no Content-Type says what it is")
    return _rejected(raw, "content_type", f"{stated or 'the body'} is neither a web page nor text")


def _rejected(raw: RawDocument, reason: str, message: str) -> Rejected:
    return Rejected(raw.source, raw.key, reason, message, raw.sha256)


def _parse(text: str) -> Element | None:
    """Parse a page, without comments; entities, DTDs and network access are disabled."""
    tree = _tree(_INTERNAL_SUBSET.sub(r"\1>", text, count=1))
    if tree is not None and _is_cut_off(tree):
        # The parser drops what is nested too deep. Without what only groups, code and tables stay what they are.
        text = _WRAPPER_TAG.sub("<p>", _STYLE_TAG.sub("", text))
        tree = _tree(text)
    if tree is not None and _is_cut_off(tree):
        # With all blocks as flat paragraphs nothing is dropped.
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


def _region(tree: Element, removal: Removal) -> Element:
    """Return the part of a page that holds its content."""
    body, region = _body(tree), main_content(tree)
    if region is None:
        narrow_down(body, removal)
        return body
    removal.words["outside_main"] += words_of(body) - words_of(region)
    return region


def _body(tree: Element) -> Element:
    body = tree.find("body")
    return body if body is not None else tree
