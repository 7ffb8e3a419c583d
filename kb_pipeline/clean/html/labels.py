"""Reads the labels of controls: which say what they show, and which only command the page to do something."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

Element = Any

_MAX_TITLE = 300
_PIECES = 50
_ACTIONS = re.compile(
    r"\W*(?:(?:toggle|open|close|show|hide|expand|collapse|copy|share|print|edit|search|view|read|see|load|learn|back"
    r"|go|skip|jump|next|previous)(?:\W+(?:all|more|less|full|the|this|to|on|for|menu|nav|navigation|sidebar|details?"
    r"|content|main|section|panel|answer|solution|code|snippet|link|url|clipboard|page|source|site|top|slide|text"
    r"|dropdown|table|contents)){0,4}|menu|more|less|submit|subscribe|sign (?:in|up)|log ?(?:in|out)|send|ok|cancel"
    r"|delete|download|filter|sort|play|pause|copied|mehr|weniger|mehr anzeigen|anzeigen|ausblenden|einblenden"
    r"|schließen|kopieren|teilen|drucken|menü|suchen?|weiterlesen|plus|moins|afficher|masquer|fermer|copier"
    r"|lire la suite|mostrar|ocultar|cerrar|copiar|menú|leer más|apri|chiudi|mostra|nascondi"
    r"|もっと見る|閉じる|コピー|复制|关闭|更多|展开|收起|더보기|닫기)\W*",
    re.I,
)
_SKIPS = re.compile(
    r"(?:skip|jump) (?:to|over)\b.{0,40}|(?:direkt )?zum (?:haupt)?inhalt\b.{0,20}"
    r"|(?:aller|passer) au contenu\b.{0,20}|(?:saltar|ir) al contenido\b.{0,20}|(?:pular|ir) para o conteúdo\b.{0,20}"
    r"|(?:vai|salta) al contenuto\b.{0,20}|ga naar (?:de )?inhoud|przejdź do treści|перейти к содержимому"
    r"|跳[到至转]主?要?内容|コンテンツへスキップ|본문 바로가기",
    re.I,
)
_LETTER = re.compile(r"\w")


def label_of(element: Element) -> str:
    """Return the text of a control on one line, up to its first pieces: it is to be compared and matched only."""
    return " ".join("".join(islice(element.itertext(), _PIECES)).split())


def is_action(label: str) -> bool:
    """Return whether a label is that of a command, such as `Copy` or `Show more`, or no title for its length."""
    return len(label) > _MAX_TITLE or _ACTIONS.fullmatch(label) is not None or _LETTER.search(label) is None


def is_skip(label: str) -> bool:
    """Return whether a label is that of a link past the menu of a page."""
    return _SKIPS.fullmatch(label[:_MAX_TITLE]) is not None
