"""Finds the part of a page that is its content, and strips what surrounds content on every site."""

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
_CERTAIN_TEXT = """
    navheader navfooter docnav headerlink linenos linenodiv hash-link anchorjs-link headeranchor viewcode-link copybtn
    mw-editsection mw-jump-link
"""
_CERTAIN = frozenset(_CERTAIN_TEXT.split())
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
    """The whole content of a page of documentation, where nothing may be lost; None for any other page."""
    if len(found := tree.xpath(_DOCUMENTATION)) == 1:
        return found[0]
    if not _is_generated(tree):
        return None
    main = main_content(tree)
    return main if main is not None else tree.find("body")


def main_content(tree: Element) -> Element | None:
    """The one element that the page itself marks as its main content."""
    for path in _MAIN:
        if len(found := tree.xpath(path)) == 1:
            return found[0]
    return None


def _is_generated(tree: Element) -> bool:
    """Whether a documentation tool made the page: it says so, or it is laid out as DocBook or Sphinx do."""
    names = tree.xpath("//meta[translate(@name,'GENRATO','genrato')='generator']/@content")
    if any(_GENERATORS.search(name) for name in names):
        return True
    return bool(
        tree.xpath("//div[@class='titlepage'] | //div[@class='body' and @role='main'] | //div[@class='navheader']")
    )


def strip_boilerplate(root: Element, *, is_documentation: bool) -> None:
    """Remove from a tree what is navigation, decoration or machinery.

    In documentation a `sidebar` or `related` box is content unless it is made of links.
    """
    from lxml import etree

    etree.strip_elements(root, *_DROPPED_TAGS, with_tail=False)
    length = _length(root)
    for element in list(root.iterdescendants()):
        if _is_certain(element) or (_is_boilerplate(element) and _is_minor(element, length, is_documentation)):
            drop([element], root)


def _is_minor(element: Element, page_length: int, is_documentation: bool) -> bool:
    """Whether no content would go with it: what holds most of a page is no boilerplate, whatever its name."""
    length = _length(element)
    if length * 2 >= page_length > 0:
        return False
    linked = sum(_length(link) for link in element.iter("a"))
    return not is_documentation or linked * 2 >= length or element.tag in ("header", "footer")


def drop(elements: list[Element], root: Element) -> None:
    """Remove elements, keeping the text that follows each."""
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


def _is_certain(element: Element) -> bool:
    """Names that mean navigation or decoration on every site that has them."""
    return element.get("class") is not None and not _CERTAIN.isdisjoint(element.get("class").lower().split())


def _is_hidden(element: Element) -> bool:
    """Whether a reader can never see it; the panels of tabs are shown on a click."""
    if element.get("role") == "tabpanel":
        return False
    style = (element.get("style") or "")[:1000].replace(" ", "").lower()
    return element.get("hidden") is not None or element.get("aria-hidden") == "true" or "display:none" in style


def _outside_main(element: Element) -> bool:
    """A page's header or footer, unlike that of an article, which may hold its title."""
    ancestors = {ancestor.tag for ancestor in element.iterancestors()}
    return ancestors.isdisjoint({"main", "article", "section"}) and element.getparent().get("role") != "main"


def _names(element: Element) -> set[str]:
    """The words of an element's class, and of its id unless that is the anchor of a heading or section."""
    classes = set((element.get("class") or "")[:1000].lower().split())
    if element.tag in _NAMED_BY_ID and not any(name.startswith("sect") for name in classes):
        classes.add((element.get("id") or "")[:100].lower())
    return classes


def _length(element: Element) -> int:
    return sum(len(text.strip()) for text in element.itertext())
