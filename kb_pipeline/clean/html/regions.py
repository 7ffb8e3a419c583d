"""Finds the main content of a page and removes boilerplate around it."""

from __future__ import annotations

import re
from typing import Any

Element = Any

_DROPPED_TAGS_TEXT = """
    script style noscript template iframe object embed svg canvas audio video map
    button input select textarea option datalist nav head link meta title frameset
"""
_DROPPED_TAGS = tuple(_DROPPED_TAGS_TEXT.split())
_DROPPED_ROLES = frozenset(
    {"navigation", "search", "banner", "contentinfo", "complementary", "menu", "menubar", "toolbar"}
)
_DROPPED_NAMES_TEXT = """
    nav navbar nav-bar navigation navheader navfooter docnav topnav bottomnav site-nav menu breadcrumb
    breadcrumbs rst-breadcrumbs-buttons sidebar sphinxsidebar sidebar-container site-header
    page-header-nav site-footer page-footer footer footnav header banner related related-posts
    pagination pagination-nav pager prev-next prevnext skip-link skiplink skip-to-content cookie-banner
    cookie-notice cookie-consent social-share share-buttons sharing advertisement ads ad newsletter
    headerlink anchorjs-link hash-link headeranchor anchor-link permalink viewcode-link
    copybtn copy-button edit-link edit-this-page mw-editsection mw-jump-link printfooter catlinks
    linenos linenodiv lineno theme-edit-this-page theme-doc-breadcrumbs theme-doc-footer
    table-of-contents tableofcontents md-nav md-sidebar md-header md-footer md-source-file
"""
_DROPPED_NAMES = frozenset(_DROPPED_NAMES_TEXT.split())
_KEPT_ASIDES_TEXT = """
    footnote footnotes footnote-list admonition note tip warning caution important callout
"""
_KEPT_ASIDES = frozenset(_KEPT_ASIDES_TEXT.split())
_KEPT_ROLES = frozenset({"note", "doc-footnote", "doc-endnotes", "doc-tip", "doc-notice"})
_ALWAYS_DROPPED_TEXT = """
    navheader navfooter docnav headerlink linenos linenodiv hash-link anchorjs-link headeranchor viewcode-link copybtn
    mw-editsection mw-jump-link
"""
_ALWAYS_DROPPED = frozenset(_ALWAYS_DROPPED_TEXT.split())
_NAMED_BY_ID = frozenset({"div", "ul", "p", "table", "aside", "header", "footer"})
_GENERATORS = re.compile(
    r"sphinx|docutils|docusaurus|mkdocs|docbook|publican|javadoc|doxygen|rustdoc|pdoc|gitbook|vitepress|vuepress"
    r"|starlight|antora|asciidoctor|texinfo|makeinfo|mdbook|yard|typedoc|jsdoc|groff|hevea|mediawiki|hugo.*book",
    re.I,
)
_CONTAINERS_TEXT = """
    theme-doc-markdown md-content__inner rst-content vp-doc td-content mw-parser-output markdown-body refentry
    main-page-content
"""
_CONTAINERS = tuple(_CONTAINERS_TEXT.split())
_CONTAINER = "contains(concat(' ', normalize-space(@class), ' '), ' {} ')"
_DOCUMENTATION = "//*[@class and (" + " or ".join(_CONTAINER.format(name) for name in _CONTAINERS) + ")]"
_MAIN = ("//*[@role='main']", "//main", "//article")


def documentation_content(tree: Element) -> Element | None:
    """Return the whole content of a documentation page, of which nothing may be lost; None for any other page."""
    if len(found := tree.xpath(_DOCUMENTATION)) == 1:
        return found[0]
    if not _is_generated(tree):
        return None
    main = main_content(tree)
    return main if main is not None else tree.find("body")


def main_content(tree: Element) -> Element | None:
    """Return the only element that the page marks as its main content, or None."""
    for path in _MAIN:
        if len(found := tree.xpath(path)) == 1:
            return found[0]
    return None


def _is_generated(tree: Element) -> bool:
    """Return whether a documentation tool made the page, by its generator or by the layout of DocBook or Sphinx."""
    names = tree.xpath("//meta[translate(@name,'GENRATO','genrato')='generator']/@content")
    if any(_GENERATORS.search(name) for name in names):
        return True
    return bool(
        tree.xpath("//div[@class='titlepage'] | //div[@class='body' and @role='main'] | //div[@class='navheader']")
    )


def strip_boilerplate(root: Element, *, is_documentation: bool) -> None:
    """Remove navigation, decoration and invisible elements from a tree.

    In documentation, a `sidebar` or `related` box is content unless it is made of links.
    """
    from lxml import etree

    etree.strip_elements(root, *_DROPPED_TAGS, with_tail=False)
    length = _text_length(root)
    for element in list(root.iterdescendants()):
        if _is_always_dropped(element) or (_is_boilerplate(element) and _is_small(element, length, is_documentation)):
            remove([element], root)


def _is_small(element: Element, page_length: int, is_documentation: bool) -> bool:
    """Return whether removing an element loses no content: one with half of a page's text is never boilerplate."""
    length = _text_length(element)
    if length * 2 >= page_length > 0:
        return False
    linked = sum(_text_length(link) for link in element.iter("a"))
    return not is_documentation or linked * 2 >= length or element.tag in ("header", "footer")


def remove(elements: list[Element], root: Element) -> None:
    """Remove elements but keep the text after each."""
    for element in elements:
        if element is not root and element.getparent() is not None:
            element.drop_tree()


def _is_boilerplate(element: Element) -> bool:
    tag, names = element.tag, _names(element)
    if not _DROPPED_NAMES.isdisjoint(names) or element.get("role") in _DROPPED_ROLES:
        return not (tag in ("body", "main", "article") or element.get("role") == "main")
    if tag == "aside":
        return _KEPT_ASIDES.isdisjoint(names) and element.get("role") not in _KEPT_ROLES
    if tag in ("header", "footer"):
        return _outside_main(element)
    return _is_hidden(element)


def _is_always_dropped(element: Element) -> bool:
    """Return whether a class name means navigation or decoration on every site that uses it."""
    return element.get("class") is not None and not _ALWAYS_DROPPED.isdisjoint(element.get("class").lower().split())


def _is_hidden(element: Element) -> bool:
    """Return whether a reader can never see an element; tab panels count as visible, since a click shows them."""
    if element.get("role") == "tabpanel":
        return False
    style = (element.get("style") or "")[:1000].replace(" ", "").lower()
    return element.get("hidden") is not None or element.get("aria-hidden") == "true" or "display:none" in style


def _outside_main(element: Element) -> bool:
    """Return whether a header or footer is the page's, not an article's, which may hold the title."""
    ancestors = {ancestor.tag for ancestor in element.iterancestors()}
    return ancestors.isdisjoint({"main", "article", "section"}) and element.getparent().get("role") != "main"


def _names(element: Element) -> set[str]:
    """Return the names in an element's class, and its id unless that is the anchor of a heading or section."""
    classes = set((element.get("class") or "")[:1000].lower().split())
    if element.tag in _NAMED_BY_ID and not any(name.startswith("sect") for name in classes):
        classes.add((element.get("id") or "")[:100].lower())
    return classes


def _text_length(element: Element) -> int:
    return sum(len(text.strip()) for text in element.itertext())
