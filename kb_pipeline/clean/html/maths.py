"""Writes each formula of a page once, as TeX between dollar signs, however the page renders it.

KaTeX, MathJax 2 to 4, MediaWiki and LaTeXML show a formula and carry it a second time for machines; text of both runs
into each other ("E=mc2E = mc^2"). What is taken is the TeX they keep, else the TeX of the MathML.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any
from urllib.parse import unquote

from kb_pipeline.clean.html.mathml import local_name, tex_of

Element = Any

FORMULA = "{urn:kb-pipeline}formula"
"""Marks a `span` whose text is a formula. No attribute of an HTML page has a namespace, so none has this name."""
_MATH_TAGS = ("math", "m:math", "mml:math", "{http://www.w3.org/1998/Math/MathML}math")
_CONTAINERS_TEXT = """
    katex katex-display katex-mathml mathjax mathjax_display mathjax_svg mathjax_svg_display mathjax_chtml
    mathjax_mathml mathjax_preview mjx-chtml mjxc-display mwe-math-element mwe-math-mathml-inline
    mwe-math-mathml-display
"""
_CONTAINERS = frozenset(_CONTAINERS_TEXT.split())
_DISPLAYED_TEXT = """
    katex-display mathjax_display mathjax_svg_display mjxc-display mwe-math-mathml-display
    mwe-math-fallback-image-display
"""
_DISPLAYED = frozenset(_DISPLAYED_TEXT.split())
_MARKED_UP = frozenset({"math", "arithmatex", "tex", "latex"})
_IMAGES_TEXT = """
    tex latex math formula equation mathtex ql-img-inline-formula ql-img-displayed-equation mathjax_image
    mwe-math-fallback-image-inline mwe-math-fallback-image-display
"""
_IMAGES = frozenset(_IMAGES_TEXT.split())
_IMAGE_SOURCE = re.compile(
    r"latex\.codecogs\.com/[a-z.]*(?:latex)?\?(.+)|[?&](?:tex|latex|cht=tx&chl)=([^&]+)|mimetex\.cgi\?(.+)", re.I
)
_LOOKS_LIKE_TEX = re.compile(r"\\[A-Za-z]{2,}|[\^_]\{|\\[{}]")
_ANY_MATHS = re.compile(r"[\\^_=+<>{}]")
_DELIMITED = re.compile(
    r"\s*(?:\\\((?P<inline>.+)\\\)|\\\[(?P<display>.+)\\\]|\$\$(?P<dollars>.+)\$\$|\$(?P<dollar>[^$]+)\$)\s*", re.S
)
_STYLE = re.compile(r"\{\s*\\(?:display|text)style\s+(.*)\}", re.S)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*\n")
_MAX_CLIMB = 8
_MAX_CHARS = 20_000
_MAX_PARTS = 500


def write_formulas(tree: Element) -> None:
    """Replace the formulas of a page, with all they are rendered as, by their TeX."""
    replaced: set[Element] = set()
    for script in list(tree.iter("script")):
        if (script.get("type") or "").lower().startswith("math/tex"):
            _write_script(script)
    for math in list(tree.iter(*_MATH_TAGS)):
        container = _container_of(math)
        if container not in replaced:
            replaced.add(container)
            _replace(container, _tex_in(math), displayed=_is_displayed(math, container))
    for container in list(tree.iter("mjx-container")):
        _write_rendering(container)
    for image in list(tree.iter("img")):
        if tex := _tex_of_image(image):
            _replace(image, tex, displayed="display" in (image.get("class") or ""))
    for element in list(tree.iter("span", "div")):
        if element.get("class") is not None and len(element) == 0:
            _write_delimited(element)


def is_formula(element: Element) -> bool:
    """Return whether an element's text is a formula between dollar signs."""
    return element.get(FORMULA) is not None


def _write_script(script: Element) -> None:
    """Write the TeX source of MathJax 2, and remove its preview and rendering, which stand before it."""
    while (before := script.getprevious()) is not None and not (before.tail or "").strip():
        if _CONTAINERS.isdisjoint(_classes(before)):
            break
        before.drop_tree()
    _replace(script, script.text or "", displayed="display" in script.get("type", ""))


def _container_of(math: Element) -> Element:
    """Return the outermost element around that renders only this formula."""
    found = math
    for _, ancestor in zip(range(_MAX_CLIMB), math.iterancestors(), strict=False):
        if ancestor.tag == "mjx-container" or not _CONTAINERS.isdisjoint(_classes(ancestor)):
            found = ancestor
    return found


def _tex_in(math: Element) -> str:
    for annotation in math.iter("annotation", "{http://www.w3.org/1998/Math/MathML}annotation"):
        if "tex" in (annotation.get("encoding") or "").lower() and (annotation.text or "").strip():
            return str(annotation.text)
    return math.get("alttext") or tex_of(math)


def _is_displayed(math: Element, container: Element) -> bool:
    if math.get("display") == "block" or math.get("mode") == "display" or container.get("display") in ("true", "block"):
        return True
    return not _DISPLAYED.isdisjoint(_classes(container))


def _write_rendering(container: Element) -> None:
    """Write what MathJax rendered without MathML for screen readers: its TeX source, or how it is read out."""
    sources = (part.get("data-latex") for part in islice(container.iter(), _MAX_PARTS) if part.get("data-latex"))
    displayed = container.get("display") == "true"
    if source := next(sources, None):
        _replace(container, source, displayed=displayed)
    elif label := container.get("aria-label"):
        container.text = label


def _tex_of_image(image: Element) -> str:
    declared = image.get("data-tex") or image.get("data-latex")
    alt = (declared or image.get("alt") or "").strip()
    if (source := _IMAGE_SOURCE.search((image.get("src") or "")[:2000])) is not None:
        return alt or unquote(next(filter(None, source.groups())))
    is_named = not _IMAGES.isdisjoint(_classes(image)) and _ANY_MATHS.search(alt)
    return alt if declared or is_named or _LOOKS_LIKE_TEX.search(alt) else ""


def _write_delimited(element: Element) -> None:
    r"""Write a formula that waits to be rendered, as `\(...\)` in an element named so."""
    if _MARKED_UP.isdisjoint(_classes(element)) or is_formula(element):
        return
    found = _DELIMITED.fullmatch((element.text or "")[:_MAX_CHARS])
    if found is not None:
        displayed = found["display"] or found["dollars"]
        _replace(element, displayed or found["inline"] or found["dollar"], displayed=bool(displayed))


def _replace(element: Element, tex: str, *, displayed: bool) -> None:
    """Put a formula in the place of an element; one that is empty removes it."""
    parent = element.getparent()
    if parent is None:
        return
    source = _one_line(tex)
    if not source:
        if local_name(element) == "math":
            element.drop_tree()
        return
    marks = "$$" if displayed else "$"
    formula = element.makeelement("span")
    formula.set(FORMULA, "display" if displayed else "inline")
    formula.text, formula.tail = f"{marks}{source}{marks}", element.tail
    parent.replace(element, formula)


def _one_line(tex: str) -> str:
    """Return TeX on one line, without delimiters, comments, and what would be Markdown or HTML between dollar signs."""
    source = _COMMENT.sub(" ", tex[:_MAX_CHARS]).strip()
    if delimited := _DELIMITED.fullmatch(source):
        source = next(filter(None, delimited.groups()))
    if styled := _STYLE.fullmatch(source.strip()):
        source = styled[1]
    source = " ".join(source.replace("`", "'").split())
    return re.sub(r"\](?=[(\[])|<(?=[A-Za-z/!?])", lambda found: f"{found[0]} ", source).strip("$ ")


def _classes(element: Element) -> set[str]:
    return set((element.get("class") or "")[:1000].lower().split())
