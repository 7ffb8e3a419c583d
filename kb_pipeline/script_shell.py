"""Judges whether scripts are to fill a page: the same for the crawler, which may render it, and for cleaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntFlag, auto

from kb_pipeline.word_count import count_words

_UNREAD = frozenset({"script", "style", "noscript", "template", "title", "svg", "iframe", "textarea", "select"})
_ENOUGH = 5
"""Words outside links from which a page says something of its own."""
_BESIDE_HEADING = 2
"""Words below a heading that make a page of it: `No usage`."""
_MENU = 20
"""Words of links around an empty mount point that are more than a menu; with a heading above them, half as many."""
_PLACEHOLDER = 2
"""Words at most in a mount point, or in a page that names no mount point, that is still to be filled."""
_MOUNT_IDS_TEXT = """
    root app __next __nuxt __layout q-app gatsby-focus-wrapper ___gatsby svelte application app-root react-root
    react-app reactroot vue-app main-app app-container app-mount approot mount
"""
_MOUNT_IDS = frozenset(_MOUNT_IDS_TEXT.split())
_MOUNT_ATTRIBUTES = ("ng-app", "ng-view", "ui-view", "data-reactroot", "data-ng-app")
_FRAME_TAGS = frozenset({"nav", "header", "footer"})
_FRAME_ROLES = frozenset({"navigation", "banner", "contentinfo"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_TEMPLATE = re.compile(r"\{\{[^{}]{0,300}\}\}|<%[^%]{0,300}%>")
_SCRIPT = re.compile(r"java[\s-]?script", re.I)
_ASKS = re.compile(
    r"enabl|disabl|activ|aktiv|turn(?:ed)? on|switch(?:ed)? on|requir|need|without|allow|support|benötig|erforder"
    r"|einschalt|ausgeschaltet|nécessit|requis|habilit|necesit|precis|requer|richied|abilit|vereist|inschakel|włącz|wymaga"
    r"|включ|требует|увімкн|有効|必要|启用|啟用|开启|需要|사용|활성|필요|etkinle|gerek|bật|تفعيل|تمكين",
    re.I,
)
_MOST_ASKING_WORDS = 40
_WAITS = re.compile(
    r"\W*(?:(?:now )?loading|please wait|initiali[sz]ing|starting|one moment|just a moment|lädt|laden|wird geladen"
    r"|bitte warten|einen moment|chargement|veuillez patienter|cargando|espere|carregando|aguarde|caricamento|attendere"
    r"|even geduld|bezig met laden|ładowanie|proszę czekać|загрузка|подождите|завантаження|načítání|indlæser|laddar"
    r"|laster|ladataan|yükleniyor|đang tải|memuat|读取中|加载中|载入中|正在加载|載入中|読み込み中|ロード中|로딩"
    r"|불러오는|กำลังโหลด|جار)",
    re.I,
)
_MOST_WAITING_WORDS = 8
_COPYRIGHT = re.compile(r"\W*(?:©|\(c\)\s|copyright\b)", re.I)
_MOST_COPYRIGHT_WORDS = 14


class Place(IntFlag):
    """What an element is within."""

    BODY = 0
    FRAME = auto()
    """The page's own header, footer or navigation, which a shell may have as well."""
    LINK = auto()
    HEADING = auto()
    MOUNT = auto()
    """An element that an application fills, by the names that frameworks give it."""


def is_unread(tag: str, attribute: Callable[[str], str | None]) -> bool:
    """Return whether no reader sees the text of an element while scripts run; that of a shadow root is seen."""
    return tag in _UNREAD and not (tag == "template" and attribute("shadowrootmode") is not None)


def place_of(tag: str, attribute: Callable[[str], str | None], outer: Place) -> Place:
    """Return the place of an element's text, given that of the element around it."""
    if tag in _HEADINGS:
        return outer | Place.HEADING
    if tag == "a":
        leads_within = (attribute("href") or "").startswith("#")  # to the content of this page, past its menu
        return outer | Place.LINK | (Place.FRAME if leads_within else Place.BODY)
    if tag in _FRAME_TAGS or (attribute("role") or "") in _FRAME_ROLES:
        return outer | Place.FRAME
    is_mount = (attribute("id") or "").lower() in _MOUNT_IDS or ("-" in tag and outer is Place.BODY)
    if is_mount or any(attribute(name) is not None for name in _MOUNT_ATTRIBUTES):
        return outer | Place.MOUNT
    return outer


def asks_for_scripts(text: str) -> bool:
    """Return whether a text says that the page needs JavaScript."""
    is_short = len(text) < 2_000 and count_words(text) <= _MOST_ASKING_WORDS
    return is_short and _SCRIPT.search(text) is not None and _ASKS.search(text) is not None


def is_shell(pieces: Iterable[tuple[str, Place]], *, asks: bool) -> bool:
    """Return whether a page with scripts shows next to nothing before they run.

    Args:
        pieces: the text nodes of its body that are not unread, with their places, in order, and an empty text for each
            element; read up to where they suffice.
        asks: whether one of its `noscript` elements asks for scripts.
    """
    said = _Said(asks)
    return not any(said.add(text, place) for text, place in pieces) and said.is_next_to_nothing()


class _Said:
    """How much a page has said up to some point."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks
        self.has_mount = False
        self.prose = self.linked = self.titles = self.framed = self.mounted = 0

    def add(self, text: str, place: Place) -> bool:
        """Count a text; return whether there is enough."""
        self.has_mount |= Place.MOUNT in place
        words = self._words(text) if text else 0
        is_linked, is_framed = Place.LINK in place, Place.FRAME in place
        self.mounted += words if Place.MOUNT in place and not is_framed else 0
        if Place.HEADING in place and not is_linked:
            self.titles += words
        elif is_framed:
            self.framed += 0 if is_linked else words
        elif is_linked:
            self.linked += words
        else:
            self.prose += words
        return self.prose >= _ENOUGH or (self.titles > 0 and self.prose >= _BESIDE_HEADING)

    def is_next_to_nothing(self) -> bool:
        """Return whether it was too little, given that nothing follows."""
        beside = self.prose + self.linked
        if self.has_mount and self.mounted <= _PLACEHOLDER:
            return beside < (_MENU // 2 if self.titles else _MENU)
        if self.asks:
            return not self.titles and beside < _PLACEHOLDER
        return beside + self.titles + self.framed <= _PLACEHOLDER

    def _words(self, text: str) -> int:
        """Return the words of a text that says something by itself."""
        text = _TEMPLATE.sub(" ", text).strip()
        words = count_words(text)
        if words <= _MOST_WAITING_WORDS and _WAITS.match(text):
            return 0
        if words <= _MOST_COPYRIGHT_WORDS and _COPYRIGHT.match(text):
            return 0
        if asks_for_scripts(text):
            self.asks = True
            return 0
        return words
