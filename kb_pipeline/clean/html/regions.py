"""Finds the main content of a page and removes what frames it: navigation, and what consists of links around it."""

from __future__ import annotations

import re
from typing import Any

from kb_pipeline.clean.html.removal import Removal
from kb_pipeline.clean.html.weights import HEADINGS, Weights

Element = Any

_NAVIGATION_ROLES = frozenset({"navigation", "search", "menu", "menubar", "toolbar", "doc-toc", "doc-pagelist"})
_FRAME_ROLES = frozenset({"banner", "contentinfo", "complementary"})
_NAVIGATION_NAME = re.compile(
    r"(?:^|[-_])(?:nav|menu|breadcrumbs?|crumbs?|pag(?:er|ination)|prev|next|skip|toc|tableofcontents|sidebar"
    r"|related|share|social|jump|catlinks|edit(?:section|link|page)?|permalink)"
    r"|(?:nav|navi|navigation|navbar|menu|sidebar|relatedposts|pager|toc|breadcrumbs?|headerlink|headeranchor)$",
)
_FRAME_NAME = re.compile(r"(?:^|[-_])(?:header|footer|masthead|colophon|topbar)$|^(?:header|footer)(?:[-_]|$)")
_ALWAYS_DROPPED_TEXT = """
    headerlink hash-link anchorjs-link headeranchor viewcode-link copybtn mw-editsection mw-jump-link
"""
_ALWAYS_DROPPED = frozenset(_ALWAYS_DROPPED_TEXT.split())
_SECTIONING = frozenset({"main", "article", "section", "li", "td", "dd", "details", "blockquote"})
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
_LEAST_SHARE = 0.4
"""Of a page's text outside links: an `article` with less is one of many things on it, such as a comment."""
_LINKED = 0.5
"""Share of linked text from which an element consists mostly of links."""
_DOMINANT = 0.6
"""Share of the letters outside links that one block holds if the others beside it frame it."""
_LEAVES = frozenset({"p", "pre", "ul", "ol", "dl", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "a"})
_PHRASE = 30
"""Letters outside links of a block that says something."""
_PROSE = 120
"""Letters outside links from which a navigation bar says more than where its links lead."""
_CONTACT = re.compile(r"@|\d[\d\s/().-]{4,}\d|\d\s?[€$£¥]|[€$£¥]\s?\d")
"""An address, a telephone number or a price, which make a page's footer worth keeping."""
_COPYRIGHT = re.compile(r"©|\(c\)|\bcopyright\b|\ball rights reserved\b", re.I)


def main_content(tree: Element) -> Element | None:
    """Return the only element that the page marks as its main content, or that a documentation tool puts it into."""
    if len(found := tree.xpath(_DOCUMENTATION)) == 1:
        return found[0]
    for path in _MAIN:
        if len(found := tree.xpath(path)) == 1:
            return found[0] if found[0].tag != "article" or _is_most(found[0], tree) else None
    return None


def _is_most(article: Element, tree: Element) -> bool:
    body = tree.find("body")
    if body is None:
        return True
    weights = Weights(body)
    return weights.unlinked(article) >= _LEAST_SHARE * weights.unlinked(body)


def is_documentation(tree: Element) -> bool:
    """Return whether a documentation tool made the page, by its generator, its container or its layout."""
    if tree.xpath(_DOCUMENTATION):
        return True
    names = tree.xpath("//meta[translate(@name,'GENRATO','genrato')='generator']/@content")
    if any(_GENERATORS.search(name) for name in names):
        return True
    return bool(
        tree.xpath("//div[@class='titlepage'] | //div[@class='body' and @role='main'] | //div[@class='navheader']")
    )


def narrow_down(body: Element, removal: Removal) -> None:
    """Remove the blocks of links before the text of a page that marks no main content, and columns of links beside it.

    Where one block holds most of the text, blocks before it that consist of links lead elsewhere; and so on inside it.
    What follows the text may be its list of contents, and a list that outweighs the text is content.
    """
    weights, element = Weights(body), body
    while True:
        children = list(element)
        main = max(children, key=weights.unlinked, default=None)
        if main is None or weights.unlinked(main) < _DOMINANT * weights.unlinked(element) or main.tag in _LEAVES:
            return
        others = [child for child in children if child is not main]
        if sum(weights.unlinked(child) > _PHRASE for child in others) > 1:
            return  # sections beside one another
        before = children[: children.index(main)]
        for child in others if main.tag == "td" else before:
            if _leads_elsewhere(child, main, weights):
                removal.remove(child, "navigation")
        element = main


def _leads_elsewhere(element: Element, main: Element, weights: Weights) -> bool:
    text, linked = weights.text(element), weights.linked(element)
    if linked < _LINKED * text or text - linked > _PHRASE or weights.links(element) < 2:
        return False
    return 2 * text <= weights.text(main) and next(element.iter("h1"), None) is None


def remove_link_bars(root: Element, removal: Removal) -> None:
    """Remove rows of links before the first heading or sentence of a region, and those that name its translations."""
    weights = Weights(root)
    for element in _before_text(root, weights):
        if weights.links(element) > 1 and weights.linked(element) >= _LINKED * weights.text(element):
            removal.remove(element, "navigation")
    for link in list(root.iter("a")):
        row = link.getparent() if link.get("hreflang") else None
        if row is not None and row is not root and weights.linked(row) >= _LINKED * weights.text(row):
            removal.remove(row, "navigation")


def _before_text(root: Element, weights: Weights) -> list[Element]:
    """Return the outermost elements before a region's first heading or sentence; none where neither comes."""
    found: list[Element] = []
    stack = [root]
    while stack:
        element = stack.pop()
        if element.tag in HEADINGS or (element.tag == "p" and weights.unlinked(element) > _PHRASE):
            return found
        if element is root or _holds_text(element, weights):
            stack.extend(reversed(list(element)))
        else:
            found.append(element)
    return []


def _holds_text(element: Element, weights: Weights) -> bool:
    return weights.unlinked(element) > _PHRASE or weights.has_heading(element)


def remove_frame(root: Element, removal: Removal) -> None:
    """Remove what frames the text of a region: navigation, and headers, footers and asides that consist of links.

    A class name by itself removes nothing, since `menu`, `header` or `related` are words of content as well: what bears
    it must consist mostly of links too. Nothing is removed inside a heading or a link, and never half of the region.
    """
    weights = Weights(root)
    frame = _Frame(root, weights)
    stack = [root]
    while stack:
        for element in stack.pop():
            if frame.holds(element):
                removal.remove(element, "navigation")
            elif not (isinstance(element.tag, str) and (element.tag in HEADINGS or element.tag == "a")):
                stack.append(element)
            else:
                _remove_anchors(element, removal)


def _remove_anchors(element: Element, removal: Removal) -> None:
    for child in [child for child in element.iterdescendants() if _is_always_dropped(child)]:
        removal.remove(child, "navigation")


class _Frame:
    """Tells what frames a region from what stands in it."""

    def __init__(self, root: Element, weights: Weights) -> None:
        self._root, self._weights = root, weights

    def holds(self, element: Element) -> bool:
        """Return whether an element frames the text."""
        if _is_always_dropped(element):
            return True
        kind = _kind(element)
        if kind is None or self._is_the_page(element):
            return False
        if kind == "navigation":
            return self._is_navigation(element)
        return self._is_page_frame(element)

    def _is_the_page(self, element: Element) -> bool:
        """Return whether a page is little beside an element: the list of contents, whatever its name."""
        beside = self._weights.unlinked(self._root) - self._weights.unlinked(element)
        return self._weights.text(element) * 2 >= self._weights.text(self._root) > 0 and beside < _PROSE

    def _is_navigation(self, element: Element) -> bool:
        text, linked = self._weights.text(element), self._weights.linked(element)
        if linked * 2 >= text:
            return True
        is_declared = element.tag == "nav" or element.get("role") in _NAVIGATION_ROLES
        return (is_declared or linked > 0) and text - linked < _PROSE and not _has_block(element)

    def _is_page_frame(self, element: Element) -> bool:
        """Return whether a header, a footer or an aside is the page's, not a section's or a card's, and has no text."""
        text, linked = self._weights.text(element), self._weights.linked(element)
        if next(element.iter("h1"), None) is not None:
            return False
        if linked >= _LINKED * text and text - linked <= _PHRASE and (text == 0 or self._weights.links(element) > 1):
            return True
        is_landmark = element.tag == "footer" or element.get("role") == "contentinfo"
        if not (is_landmark or "footer" in _names(element)) or not _is_outermost(element, self._root):
            return False
        if text - linked >= _PROSE * 2:
            return False
        said = "".join(element.itertext())
        return _COPYRIGHT.search(said) is not None or (is_landmark and _CONTACT.search(_unlinked(element)) is None)


def _kind(element: Element) -> str | None:
    """Return what an element is by its tag, role and names: `navigation`, `frame` or None."""
    tag, role = element.tag, element.get("role")
    if tag in HEADINGS or tag in ("body", "main", "html") or role == "main":
        return None
    if tag == "nav" or role in _NAVIGATION_ROLES:
        return "navigation"
    names = _names(element)
    if any(_NAVIGATION_NAME.search(name) for name in names):
        return "navigation"
    if tag in ("header", "footer", "aside") or role in _FRAME_ROLES or any(_FRAME_NAME.search(n) for n in names):
        return "frame"
    return None


def _has_block(element: Element) -> bool:
    return next(element.iter("p", "pre", "dl", "h1", "h2", "h3", "h4", "h5", "h6"), None) is not None


def _unlinked(element: Element) -> str:
    texts = [element.text]
    for part in element.iterdescendants():
        texts += [None if part.tag == "a" else part.text, part.tail]
    return " ".join(text for text in texts if text)


def _is_outermost(element: Element, root: Element) -> bool:
    for ancestor in element.iterancestors():
        if ancestor is root:
            return True
        if ancestor.tag in _SECTIONING:
            return False
    return True


def _is_always_dropped(element: Element) -> bool:
    """Return whether a class name means navigation or decoration on every site that uses it."""
    return element.get("class") is not None and not _ALWAYS_DROPPED.isdisjoint(element.get("class").lower().split())


def _names(element: Element) -> set[str]:
    """Return the names in an element's class and id."""
    names = set((element.get("class") or "")[:1000].lower().split())
    if element.get("id"):
        names.add(element.get("id")[:100].lower())
    return names
