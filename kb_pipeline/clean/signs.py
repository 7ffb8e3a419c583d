"""Finds signs that a page is no document: an error, a log-in, a form, an empty list, a calendar."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from kb_pipeline.clean.address import words_of

Element = Any

ERROR, ASKS_LOGIN, EMPTY, SEARCH, CALENDAR = "error", "asks_login", "empty", "search", "calendar"
PASSWORD, TEXTAREA, LOGIN_FIELD, WALL_SCRIPT = "password", "textarea", "login_field", "wall_script"
_LOGIN_FIELD = re.compile(
    r"(?:j_)?user(?:[_-]?(?:name|id|login))?|login(?:[_-]?(?:name|id|user|email))?|log|loginfmt|identifier",
    re.IGNORECASE,
)
_WALL_SCRIPT = re.compile(
    r"/cdn-cgi/challenge-platform|_cf_chl|cf-chl|cf-browser-verification|_Incapsula_Resource|captcha-delivery\.com|px-captcha"
    r"|_pxAppId|sucuri_cloudproxy|bm-verify|sec-if-cpt|awswaf|AwsWafIntegration|ddos-guard|kpsdk|/cmd/anubis|vercel/security",
    re.IGNORECASE,
)
"""What guards against robots put into their walls; some put it into pages as well."""
_MOST_WALL_SCRIPTS = 100
_MOST_SCRIPT_CHARS = 20_000
_MOST_ERROR_WORDS = 120
_MOST_NOTICE_WORDS = 60
_ERROR_START = 25
"""Words within which a page that is not titled by its error names it."""
_LEAST_DAYS = 28
_MOST_CALENDAR_WORDS = 20
"""Words beside the numbers of days: month, weekdays, `next`, `no events`; with more there are events."""


def phrases(text: str) -> re.Pattern[str]:
    """Compile phrases, one a line; those of scripts with spaces must stand as words."""
    lines = [" ".join(words_of(line)) for line in text.strip().splitlines()]
    return re.compile("|".join(rf"(?<!\w){re.escape(line)}(?!\w)" if line[-1] < "\u0e00" else re.escape(line)
                               for line in lines))  # fmt: skip


_ERROR = phrases("""
    not found
    does not exist
    doesn t exist
    no longer exists
    no longer available
    could not be found
    couldn t be found
    can t be found
    cannot be found
    couldn t find
    can t find the page
    page you requested
    page you are looking for
    page you re looking for
    page unavailable
    nothing here
    nicht gefunden
    existiert nicht
    nicht mehr verfügbar
    introuvable
    n existe pas
    n existe plus
    pas été trouvée
    no encontrada
    no encontrado
    no se encuentra
    no se ha encontrado
    no existe
    não encontrada
    não encontrado
    não existe
    non trovata
    non trovato
    non esiste
    niet gevonden
    bestaat niet
    nie znaleziono
    nie została znaleziona
    nie istnieje
    не найдена
    не найден
    не найдено
    не существует
    не знайдено
    не існує
    nenalezena
    nebyla nalezena
    neexistuje
    hittades inte
    finns inte
    blev ikke fundet
    ikke fundet
    ikke funnet
    findes ikke
    finnes ikke
    ei löytynyt
    ei löydy
    bulunamadı
    nem található
    nu a fost găsită
    nu a fost gasita
    δεν βρέθηκε
    không tìm thấy
    tidak ditemukan
    غير موجودة
    غير موجود
    לא נמצא
    یافت نشد
    नहीं मिला
    页面不存在
    頁面不存在
    找不到
    未找到
    见つかりません
    見つかりません
    存在しません
    찾을 수 없
    존재하지 않
    ไม่พบหน้า
    access denied
    access is denied
    access to this page has been denied
    permission denied
    forbidden
    not authorized
    unauthorized
    zugriff verweigert
    zugriff nicht gestattet
    keine berechtigung
    accès refusé
    accès interdit
    acceso denegado
    acceso prohibido
    acesso negado
    accesso negato
    accesso vietato
    toegang geweigerd
    geen toegang
    brak dostępu
    odmowa dostępu
    доступ запрещен
    доступ запрещён
    в доступе отказано
    åtkomst nekad
    adgang nægtet
    pääsy estetty
    erişim engellendi
    truy cập bị từ chối
    akses ditolak
    访问被拒绝
    拒绝访问
    禁止访问
    アクセスが拒否
    アクセスできません
    접근이 거부
    접근 권한
    under maintenance
    down for maintenance
    undergoing maintenance
    scheduled maintenance
    maintenance mode
    maintenance in progress
    temporarily unavailable
    temporarily down
    temporarily offline
    currently unavailable
    currently offline
    service unavailable
    site is down
    be back soon
    back shortly
    wartungsarbeiten
    wartungsmodus
    wegen wartung
    vorübergehend nicht
    en maintenance
    maintenance en cours
    temporairement indisponible
    momentanément indisponible
    en mantenimiento
    temporalmente no disponible
    temporalmente fuera de servicio
    em manutenção
    temporariamente indisponível
    in manutenzione
    temporaneamente non disponibile
    in onderhoud
    tijdelijk niet beschikbaar
    prace konserwacyjne
    przerwa techniczna
    chwilowo niedostępn
    технические работы
    техническое обслуживание
    временно недоступен
    временно недоступна
    bakım çalışması
    bakımdayız
    bảo trì
    sedang dalam pemeliharaan
    维护中
    系统维护
    正在维护
    暂时无法访问
    メンテナンス中
    점검 중
    점검중
    internal server error
    internal error
    server error
    bad gateway
    gateway timeout
    gateway time out
    request timed out
    database error
    error establishing a database connection
    could not connect to the database
    fatal error
    application error
    uncaught exception
    an error occurred
    an error has occurred
    error occurred
    something went wrong
    unexpected error
    too many requests
    rate limit exceeded
    interner serverfehler
    interner fehler
    fehler ist aufgetreten
    erreur interne
    erreur est survenue
    erreur s est produite
    error interno
    ha ocurrido un error
    se ha producido un error
    erro interno
    ocorreu um erro
    errore interno
    verificato un errore
    er is een fout opgetreden
    interne serverfout
    wystąpił błąd
    błąd serwera
    внутренняя ошибка
    произошла ошибка
    ошибка сервера
    ett fel uppstod
    ett fel har inträffat
    der opstod en fejl
    tapahtui virhe
    bir hata oluştu
    đã xảy ra lỗi
    terjadi kesalahan
    服务器错误
    内部错误
    发生错误
    サーバーエラー
    エラーが発生
    서버 오류
    오류가 발생
    checking your browser
    verify you are human
    are you a robot
    unusual traffic
    attention required
""")
_STATUS = re.compile(
    r"(?:(?:error|http|status|fehler|erreur|ошибка) )+(?:40[0-9]|410|50[0-9])\b|404\b|(?:40[0-9]|410|50[0-9])$"
)
_ASKS_LOGIN = phrases("""
    log in
    logged in
    login
    sign in
    signed in
    sign up
    register
    einloggen
    anmelden
    angemeldet
    connecter
    connecté
    connexion
    iniciar sesión
    inicie sesión
    identificarse
    entrar
    fazer login
    accedi
    inloggen
    aanmelden
    zaloguj
    zalogować
    войти
    войдите
    авторизоваться
    logga in
    log ind
    logg inn
    kirjaudu
    giriş yap
    đăng nhập
    masuk
    登录
    登陆
    登入
    ログイン
    로그인
    تسجيل الدخول
    permission to
    not allowed to
    keine berechtigung
""")
_EMPTY = phrases("""
    no results
    0 results
    no result
    no matches
    no match
    no suitable matches
    nothing found
    nothing matched
    no items
    no products
    no posts
    no entries
    did not match
    your search returned
    is empty
    keine ergebnisse
    keine treffer
    nichts gefunden
    ist leer
    aucun résultat
    est vide
    sin resultados
    no se encontraron
    está vacío
    está vacía
    nenhum resultado
    está vazio
    nessun risultato
    è vuoto
    geen resultaten
    is leeg
    brak wyników
    jest pusty
    ничего не найдено
    нет результатов
    пуста
    inga resultat
    inga träffar
    ingen resultater
    ei tuloksia
    sonuç bulunamadı
    没有找到
    无结果
    為空
    为空
    見つかりませんでした
    검색 결과가 없
    비어
""")
_SEARCH = phrases("""
    search results
    results for
    search for
    results of your search
    suchergebnisse
    suchergebnis
    suche nach
    résultats de recherche
    résultats pour
    resultados de la búsqueda
    resultados de búsqueda
    resultados para
    resultados da pesquisa
    resultados da busca
    risultati della ricerca
    risultati per
    zoekresultaten
    wyniki wyszukiwania
    результаты поиска
    sökresultat
    søgeresultater
    søkeresultater
    hakutulokset
    arama sonuçları
    搜索结果
    検索結果
    검색 결과
""")


def signs_of(title: str, text: str, controls: Collection[str] = ()) -> tuple[str, ...]:
    """Return the signs in a document.

    Args:
        title: of the document.
        text: its Markdown without the targets of links.
        controls: signs in the controls of the page's forms, see `controls_of`.
    """
    words = words_of(text)
    headings = [
        " ".join(words_of(line)) for line in [title, *text.splitlines()[:40]] if line is title or line[:1] == "#"
    ]
    found = {
        ERROR: is_error_page(title, text),
        ASKS_LOGIN: len(words) <= _MOST_NOTICE_WORDS and _ASKS_LOGIN.search(" ".join(words)) is not None,
        EMPTY: len(words) <= _MOST_ERROR_WORDS and _EMPTY.search(" ".join(words)) is not None,
        SEARCH: any(_SEARCH.search(heading) for heading in headings),
        CALENDAR: _is_calendar(words),
    }
    return (*(sign for sign, is_there in found.items() if is_there), *controls)


def is_error_page(title: str, text: str) -> bool:
    """Return whether a text is a short notice that the page is not there, not allowed, or cannot be made now.

    Reference pages say in passing that a key was not found: the notice must be a heading, or stand at the beginning of
    little text.
    """
    words = words_of(text)
    if len(words) > _MOST_ERROR_WORDS:
        return False
    headings = [title, *(line for line in text.splitlines() if line.startswith("#"))]
    if any(names_error(heading) for heading in headings):
        return True
    is_little = len(words) <= 2 * _ERROR_START
    return is_little and _ERROR.search(" ".join(words[:_ERROR_START])) is not None


def _is_calendar(words: Sequence[str]) -> bool:
    """Return whether a text is the days of a month, one after the other, and little else."""
    day = 1
    for word in words:
        day += word == str(day) or word == f"{day:02}"
    return day > _LEAST_DAYS and sum(not word.isdigit() for word in words) <= _MOST_CALENDAR_WORDS


def names_error(heading: str) -> bool:
    """Return whether a title or heading is the name of an error."""
    words = " ".join(words_of(heading))
    return _ERROR.search(words) is not None or _STATUS.match(words) is not None


def is_named_error(words: str) -> bool:
    """Return whether words in lower case are the name of an error and nothing else."""
    return _ERROR.fullmatch(words) is not None


def controls_of(tree: Element) -> tuple[str, ...]:
    """Return the signs in the controls and scripts of a page.

    They are a field for a password, one for the name of a user, one for a text of several lines, and what guards
    against robots put there.
    """
    fields = [(field.get("type") or "text", field.get("name") or "") for field in tree.iter("input")]
    found = {
        PASSWORD: any(kind.strip().lower() == "password" for kind, _ in fields),
        LOGIN_FIELD: any(_LOGIN_FIELD.fullmatch(name) for kind, name in fields if kind.lower() in ("text", "email")),
        TEXTAREA: next(tree.iter("textarea"), None) is not None,
        WALL_SCRIPT: any(_WALL_SCRIPT.search(script) for script in islice(_scripts(tree), _MOST_WALL_SCRIPTS)),
    }
    return tuple(sign for sign, is_there in found.items() if is_there)


def _scripts(tree: Element) -> Iterator[str]:
    for element in tree.iter("script", "iframe", "form", "div"):
        if element.tag == "script":
            yield (element.get("src") or "") + " " + (element.text or "")[:_MOST_SCRIPT_CHARS]
        elif name := element.get("src") or element.get("action") or element.get("id") or element.get("class"):
            yield name
