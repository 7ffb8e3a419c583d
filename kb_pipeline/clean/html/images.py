"""Gives each image its own address and its words: lazy images, emoji, icons, links that hold only an image."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any
from urllib.parse import unquote

from kb_pipeline.clean.html.text_start import text_start

Element = Any

_LAZY_TEXT = """
    data-src data-original data-lazy-src data-lazy data-original-src data-actualsrc data-actual-src data-echo data-cfsrc
    data-hi-res-src data-img-src data-image-src data-image data-full-src data-large-file data-orig-file data-url
    data-src-large data-lazyload data-defer-src data-ll-src data-pin-media
"""
_LAZY = tuple(_LAZY_TEXT.split())
_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set", "srcset")
_PLACEHOLDER = re.compile(
    r"^\s*(?:data:|about:|#|$)|(?:^|[/_-])(?:blank|spacer|placeholder|transparent|pixel|lazy|loading|loader|1x1|grey|empty)\.\w+",
    re.I,
)
_FILE_NAME = re.compile(r"\s*[\w .()%-]{1,100}\.(?:jpe?g|png|gif|svg|webp|avif|bmp)\s*", re.I)
_WORD = re.compile(r"\w")
_EMOJI_NAMES = frozenset({"emoji", "wp-smiley", "emoticon", "smiley", "twemoji", "emojione"})
_MAX_ICON_PX = 32
_MAX_CELL_CHARS = 24
"""An image alone in a cell with so short a text stands for a word; a longer one describes a picture."""


def write_images(tree: Element) -> None:
    """Set address and text of the images of a page; those that stand for a word become it."""
    for image in list(tree.iter("amp-img")):
        image.tag = "img"
    for fallback in list(tree.iter("noscript")):
        _use_fallback(fallback)
    for image in list(tree.iter("img")):
        image.set("src", _address(image))
        alt = _alt(image)
        image.set("alt", alt)
        if alt and not is_decorative(image) and _is_word(image, alt):
            _replace_by_text(image, alt)


def is_decorative(element: Element) -> bool:
    """Return whether an element says that it shows nothing."""
    return element.get("role") in ("presentation", "none")


def only_in_cell(element: Element) -> Element | None:
    """Return the table cell or description that holds this element and no words besides; None if there is none."""
    for ancestor in islice(element.iterancestors(), 5):
        if ancestor.tag in ("td", "th", "dd") or ancestor.get("role") in ("cell", "gridcell", "rowheader"):
            inside, own = text_start(ancestor, 120), text_start(element, 120)
            return ancestor if "".join(inside.split()) == "".join(own.split()) else None
    return None


def _alt(image: Element) -> str:
    alt = image.get("alt")
    if alt is None:
        alt = image.get("aria-label") or image.get("title") or ""
    return "" if _FILE_NAME.fullmatch(alt[:200]) else " ".join(alt.split())


def _address(image: Element) -> str:
    """Return where an image really is, if its `src` only holds the place until it comes into view."""
    lazy = next((value.strip() for name in _LAZY if _is_address(value := image.get(name))), "")
    if lazy:
        return lazy
    source = (image.get("src") or "").strip()
    if source and not _PLACEHOLDER.search(source[:500]):
        return source
    sets = (element.get(name) for element in (image, *_sources(image)) for name in _LAZY_SETS)
    listed = (value.strip().split()[0].rstrip(",") for value in sets if value and _is_address(value))
    return next(listed, source)


def _sources(image: Element) -> list[Element]:
    """Return the sources of the picture around an image; the parser nests them, as it does not know them as empty."""
    found: list[Element] = []
    for ancestor in islice(image.iterancestors(), 5):
        found += islice(ancestor.iterchildren("source"), 5) if ancestor.tag == "picture" else []
        if ancestor.tag != "source":
            break
        found.append(ancestor)
    return found


def _is_address(value: str | None) -> bool:
    start = (value or "")[:500].strip()
    return bool(start) and not _PLACEHOLDER.search(start) and ("/" in start or "." in start) and start[0] not in "{["


def _use_fallback(fallback: Element) -> None:
    """Take the image of a `noscript`: for the words of the one that it stands in for, or itself if there is none."""
    images = list(islice(fallback.iter("img"), 3))
    if not images or _WORD.search(text_start(fallback, 20)):
        return
    twin = _image_beside(fallback)
    if twin is None:
        fallback.tag = "span"
        return
    if not (twin.get("alt") or "").strip() and images[0].get("alt"):
        twin.set("alt", images[0].get("alt"))
    if not any(_is_address(twin.get(name)) for name in _LAZY) and images[0].get("src"):
        twin.set("src", images[0].get("src"))


def _image_beside(fallback: Element) -> Element | None:
    before, after = fallback.getprevious(), fallback.getnext()
    is_apart = before is not None and (before.tail or "").strip()
    for beside in (None if is_apart else before, None if (fallback.tail or "").strip() else after):
        if (
            beside is not None
            and beside.tag != "noscript"
            and (found := next(islice(beside.iter("img", "amp-img"), 1), None)) is not None
        ):
            return found
    return None


def _is_word(image: Element, alt: str) -> bool:
    """Return whether an image stands for a word or a sign: an emoji, an icon, a mark alone in a cell."""
    if not _WORD.search(alt) and len(alt) <= 16:
        return True
    if not _EMOJI_NAMES.isdisjoint((image.get("class") or "").lower().split()):
        return True
    sizes = [int(size) for size in _sizes(image) if size.isdecimal() and len(size) < 6]
    if any(1 < size <= _MAX_ICON_PX for size in sizes):
        return True
    return len(alt) <= _MAX_CELL_CHARS and only_in_cell(image) is not None


def _sizes(image: Element) -> list[str]:
    return [(image.get(name) or "").strip().removesuffix("px") for name in ("width", "height")]


def _replace_by_text(image: Element, text: str) -> None:
    image.text = text
    image.tag = "span"
    for name in ("src", "alt", "class", "style", "aria-hidden"):
        image.attrib.pop(name, None)


def file_name(address: str) -> str:
    """Return the last part of an address, without query."""
    return unquote(re.split(r"[?#]", address)[0].rsplit("/", 1)[-1])
