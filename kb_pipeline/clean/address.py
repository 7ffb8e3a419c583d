"""Reads an address: what it names, in which view, and whether it has the form of a page that is no document.

The names are those of common software (phpBB, vBulletin, Discourse, MediaWiki, DokuWiki, MoinMoin, WordPress, Drupal,
Joomla, Magento, WooCommerce, Trac, Apache's directory listings) and the usual words of common languages. A form alone
decides nothing: what the page says must agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, unquote_plus, urlsplit

# One character of a script without spaces counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


MASK = "\0"
"""Stands for words of a document's own address."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PAGINATION = _names("""
    page p pg paged pagenum pagenumber page_no pageno page_number page_num pagina seite start startat offset skip cursor
    limit per_page perpage pagesize page_size cpage pn st
""")
"""Parameters that name a part of a listing, or its length."""
SORTING = _names("""
    sort sorting order orderby order_by order-by sortby sort_by sort-by sortorder sort_order sortdir sort_dir dir
    direction asc desc sd sk ordering orderdir product_list_order product_list_dir product_list_mode sort_direction
    highlight hilit
""")
"""Parameters that name an order, or words to be marked."""
_PRINT_NAMES = _names(
    "print printable printview print_view printer printerfriendly printer_friendly pfriendly print_page"
)
_PRINT_SEGMENT = re.compile(
    r"(?:^|(?<=/))(?:print|printable|print-?view|printer-?friendly|drucken|druckversion|imprimir|imprimer|stampa)(?=$|/)"
    r"|[-_.](?:print|printable|druck|printer)(?=\.\w{2,5}$|$)"
    r"|(?<=/)(?:print|drucken|imprim|stampa)[a-z_-]*(?=\.\w{2,5}$)",
    re.IGNORECASE,
)
_MODES = _names("action mode do act task op func cmd a")
_OUTPUTS = _MODES | _names("view format output style layout tmpl type")
_FORM_NAMES = _names("""
    replytocom quotecomment share add-to-cart add_to_cart addtocart replyto reply_to quote_post quotepost remove_item
    add_to_wishlist add-to-compare shared_to
""")
_FORM_MODES = _names("""
    reply quote edit post newtopic new_topic newthread newreply compose report share email emailpost tellafriend
    sendtofriend addtocart add_to_cart submit subscribe unsubscribe delete watch unwatch protect move purge
    watchtopic bookmark newattachment attach submit_comment editpost markread vote
""")
_FORM_SEGMENTS = _names("""
    reply quote edit share cart basket warenkorb panier carrito checkout compose newpost newthread newreply newtopic
    posting report tellafriend sendtofriend sendfriend mailto email-friend sendmessage wishlist compare product_compare
    add-to-cart addtocart email-this forward
""")
_LOGIN_SEGMENTS = _names("""
    login signin sign-in sign_in log-in logon logout signout sign-out register registration signup sign-up sign_up
    lostpassword lost-password forgot-password forgotpassword password-reset reset-password wp-login anmelden anmeldung
    einloggen registrieren connexion inscription iniciar-sesion registro entrar accedi special:userlogin
    special:createaccount spezial:anmelden
""")
_LOGIN_MODES = _names("login logout register signin signup sendpassword lostpassword")
_REVISION_NAMES = _names("oldid diff rev revision")
_REVISION_MODES = _names("history diff revisions recall revision compare backlinks raw info credits")
_SEARCH_NAMES = _names("q query search s searchword search_query searchterm search_term keywords keyword suche buscar")
_SEARCH_SEGMENTS = _names("search suche recherche buscar busca pesquisa zoeken szukaj special:search")
_LIST_MODES = _names("backlink backlinks recent index whatlinkshere")
"""What DokuWiki calls lists of pages."""
_DATE = re.compile(r"(?:19|20)\d\d(?:[-/.](?:0?[1-9]|1[0-2])(?:[-/.]\d{1,2})?)|(?:19|20)\d{4}(?:\d\d)?")
_DATE_NAMES = _names("cal calendar month year date day week mon yr ym tribe-bar-date mini_calendar jahr monat tag")
_CALENDAR_SEGMENTS = _names("calendar kalender calendrier calendario events agenda cal month week day")
_SPECIAL = re.compile(
    r"(?:^|/)(?:special|spezial|sp[ée]cial|especial|speciale|speciaal|specjalna|служебная|特別|特殊|특수):", re.I
)
_PAGE_SEGMENT = re.compile(
    r"/(?:page|seite|pagina|strona|pag)[-/_]?\d+(?=/?$)|[-_]page[-_]?\d+(?=\.\w{2,5}$|/?$)", re.I
)
_INDEX = re.compile(r"/(?:index|default)\.\w{2,5}$", re.I)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a key that is a web address, or a path."""

    stem: str
    """Host and path without what names a page of a listing or a printed view: what views of one thing share."""
    path: str
    parameters: frozenset[tuple[str, str]]
    """Names in lower case and values, decoded."""
    words: frozenset[str]
    """The words of path and query."""
    forms: frozenset[str]
    """The kinds of page that are no document whose form it has."""

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        return frozenset(name for name, _ in self.parameters)


@lru_cache(maxsize=16_384)
def read_address(key: str) -> Address:
    """Return the parts of a key."""
    try:
        parts = urlsplit(key)
    except ValueError:
        return Address(key, key, frozenset(), frozenset(words_of(key)), frozenset())
    path = unquote(parts.path)
    pairs = [pair.partition("=") for pair in re.split("[&;]", parts.query) if pair]
    parameters = frozenset((unquote_plus(name).lower(), unquote_plus(value)) for name, _, value in pairs)
    stem = _PRINT_SEGMENT.sub("", _PAGE_SEGMENT.sub("", path))
    stem = re.sub("/{2,}", "/", _INDEX.sub("/", stem)).rstrip("/")
    words = words_of(f"{path} {unquote_plus(parts.query)}")
    return Address(parts.netloc + stem, path, parameters, frozenset(words), frozenset(_forms(path, parameters)))


def _forms(path: str, parameters: frozenset[tuple[str, str]]) -> list[str]:
    names = {name for name, _ in parameters}
    modes = {value.lower() for name, value in parameters if name in _MODES}
    outputs = {value.lower() for name, value in parameters if name in _OUTPUTS}
    segments = [segment.lower().partition(".")[0] for segment in path.split("/") if segment]
    given = frozenset(segments[-2:])
    found = []
    if modes & _LOGIN_MODES or given & _LOGIN_SEGMENTS:
        found.append("login")
    if names & _FORM_NAMES or modes & _FORM_MODES or _FORM_SEGMENTS & set(segments):
        found.append("form")
    if modes & _REVISION_MODES or any(_names_revision(name, value) for name, value in parameters):
        found.append("revision")
    if given & _SEARCH_SEGMENTS or any(_names_search(name, value) for name, value in parameters):
        found.append("search_results")
    if _is_dated(path, parameters, given, names):
        found.append("calendar")
    if names & _PRINT_NAMES or any(output.startswith("print") for output in outputs) or _PRINT_SEGMENT.search(path):
        found.append("print_view")
    if _PAGE_SEGMENT.search(path):
        found.append("page")
    if _SPECIAL.search(path) or any(_SPECIAL.search(value) for _, value in parameters):
        found.append("special")
    if any(name == "do" and value in _LIST_MODES for name, value in parameters):
        found.append("special")
    return found


def _names_revision(name: str, value: str) -> bool:
    """Return whether a parameter names an older text: by number, by DokuWiki's time, or as the one before."""
    return name in _REVISION_NAMES and (value.isdigit() or value in ("prev", "next", "cur"))


def _names_search(name: str, value: str) -> bool:
    """Return whether a parameter has words to search for: a number or a path (Drupal's `q=node/5`) names a page."""
    return name in _SEARCH_NAMES and not value.isdigit() and "/" not in value


def _is_dated(path: str, parameters: frozenset[tuple[str, str]], given: frozenset[str], names: set[str]) -> bool:
    has_date = any(_DATE.fullmatch(value) for _, value in parameters) or bool(names & _DATE_NAMES)
    return has_date or (_DATE.search(path) is not None and bool(given & _CALENDAR_SEGMENTS or "calendar" in path))


def without_address(key: str, text: str) -> str:
    """Return the text with `MASK` for every quotation of the address, whole or from the first slash of its path."""
    parts = urlsplit(key) if "://" in key else None
    if parts is None or len(parts.path) < 2:
        return text
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    spellings = {unquote(spelled) for spelled in (key, path, parts.path)} | {key, path, parts.path}
    quoted = "|".join(re.escape(spelled) for spelled in sorted(spellings, key=len, reverse=True))
    plain = re.sub(r"\\([^\w\s])", r"\1", text)
    stripped, count = re.subn(rf"(?<![\w/])(?:{quoted})(?![\w/])", MASK, plain)
    return stripped if count else text
