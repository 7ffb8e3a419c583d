"""Tells by marks of an element what it is for: a dialog, a request for consent, decoration, the control of a panel."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.labels import label_of
from kb_pipeline.clean.html.letters import Letters
from kb_pipeline.clean.html.visibility import is_hidden, name_tokens

Element = Any

_INLINE_TEXT = "a abbr b bdi cite code em font i ins kbd label mark q s samp small span strong sub sup u var"
INLINE = frozenset(_INLINE_TEXT.split())
_CONSENT = frozenset({"cookie", "cookies", "consent", "gdpr", "ccpa", "cmp", "onetrust", "cookiebanner", "cookiebar"})
_CONSENTS = re.compile(
    r"accept|agree|allow|reject|decline|refuse|got it|understood|^ok|dismiss|preferences|settings|akzept|zustimm|ablehn"
    r"|einverstanden|verstanden|einstellung|accepter|refuser|aceptar|rechazar|aceitar|rejeitar|accett|rifiut|accepteren"
    r"|weiger|akcept|odrzuć|принять|соглас|同意|拒绝|接受|동의|kabul|godkänn|acceptera|tillad|hyväksy|přijmout|souhlas",
    re.I,
)
_CLONE = re.compile(r"[-_](?:cloned?|duplicate)(?:\s|$)|(?:^|\s)cloned(?:\s|$)")
"""Slides that a carousel repeats at its ends: `slick-cloned`, `swiper-slide-duplicate`, `owl-item cloned`."""
_SPOKEN = frozenset({"sr", "visually", "visuallyhidden", "screen", "screenreader", "sronly"})
_LETTER = re.compile(r"\w")
_SHOWN_BY = (
    "//*[@aria-controls or @data-target or @data-bs-target or @popovertarget or @onclick or self::label[@for]"
    " or self::a[starts-with(@href,'#')]]"
)
_QUOTED = re.compile(r"""["']#?([\w:.-]{1,100})["']""")


def controls_by_id(tree: Element) -> dict[str, Element]:
    """Return for every id that a control names the first control that does."""
    found: dict[str, Element] = {}
    for control in tree.xpath(_SHOWN_BY):
        for name in named_by(control):
            found.setdefault(name, control)
    return found


def named_by(control: Element) -> list[str]:
    """Return the ids that a control names."""
    names = [control.get("for"), control.get("popovertarget"), *(control.get("aria-controls") or "")[:500].split()]
    for key in ("data-target", "data-bs-target", "href"):
        if (target := control.get(key, "")).startswith("#"):
            names.append(target[1:])
    names += _QUOTED.findall((control.get("onclick") or "")[:1000])
    return [name for name in names if name]


def is_title(control: Element) -> bool:
    """Return whether a control names what it shows: a tab, or one in a heading, a term or a summary."""
    if control.get("role") == "tab" or control.tag == "summary":
        return True
    titles = ("h1", "h2", "h3", "h4", "h5", "h6", "dt", "summary")
    parent = control.getparent()
    outer = parent.getparent() if parent is not None else None
    return any(around is not None and around.tag in titles for around in (control, parent, outer))


def may_repeat(element: Element) -> bool:
    """Return whether an element is likely to say again what stands elsewhere: a cloned slide, a tooltip."""
    if element.get("role") == "tooltip":
        return True
    return element.get("class") is not None and _CLONE.search(element.get("class")[:500]) is not None


def is_one_of_several(element: Element) -> bool:
    """Return whether visible elements of the same kind stand beside a hidden one: slides, items beyond the first."""
    parent = element.getparent()
    if parent is None or element.tag in INLINE:
        return False
    classes = set((element.get("class") or "")[:500].split())
    for other in islice(parent.iterchildren(element.tag), 10):
        alike = element.tag in ("li", "tr", "dd") or not classes.isdisjoint((other.get("class") or "")[:500].split())
        if other is not element and alike and not is_hidden(other):
            return True
    return False


def is_dialog(element: Element) -> bool:
    """Return whether an element is a dialog that a page opens over its text."""
    if element.tag == "dialog":
        return element.get("open") is None
    return element.get("role") in ("dialog", "alertdialog") or element.get("aria-modal") == "true"


def has_page(element: Element) -> bool:
    """Return whether an element holds what a page is about, and not a part of it."""
    return next(element.iter("main", "article", "h1"), None) is not None


def asks_consent(element: Element) -> bool:
    """Return whether an element asks for consent to cookies: by its name, and by its buttons."""
    if element.tag in INLINE:
        return False
    label = (element.get("aria-label") or "")[:200].lower()
    if "cookie" not in label and _CONSENT.isdisjoint(name_tokens(element)):
        return False
    controls = islice(element.iter("button", "a", "input"), 30)
    return not has_page(element) and any(_CONSENTS.search(label_of(control)[:100]) for control in controls)


def is_decoration(element: Element, letters: Letters) -> bool:
    """Return whether inline text that screen readers skip is an icon, an anchor, or said in words beside it."""
    parent, text = element.getparent(), label_of(element)
    if element.tag == "a" or not text or parent is None:
        return True
    if not name_tokens(element).isdisjoint({"icon", "icons", "fa", "material", "glyphicon"}):
        return True
    if parent.get("aria-label") or any(_is_spoken(sibling) for sibling in _near(element)):
        return True
    return _LETTER.search(text) is None and letters.text(parent) != letters.text(element)


def _near(element: Element) -> list[Element]:
    before, after = element.getprevious(), element.getnext()
    return [sibling for sibling in (before, after) if sibling is not None]


def _is_spoken(element: Element) -> bool:
    """Return whether an element is for screen readers only, such as the MathML beside a drawn formula."""
    tokens = name_tokens(element)
    return element.tag == "math" or not tokens.isdisjoint(_SPOKEN | {"mathml", "assistive"})


def has_control_beside(element: Element) -> bool:
    """Return whether a control that shows an element stands beside it, or beside its parent."""
    parent = element.getparent()
    around = [element] if parent is None else [element, parent]
    return any(_is_control(sibling) for one in around for sibling in _near(one))


def _is_control(element: Element) -> bool:
    if (
        element.tag in ("button", "summary", "input")
        or element.get("role") == "button"
        or element.get("onclick") is not None
    ):
        return True
    if element.tag == "a":
        return (element.get("href") or "#").startswith(("#", "javascript:"))
    children = list(islice(element, 2))
    return len(children) == 1 and children[0].tag in ("button", "a") and _is_control(children[0])


def pieces(element: Element) -> list[str]:
    """Return the texts in an element, white space aside."""
    return [" ".join(text.split()) for text in element.itertext() if text.strip()]
