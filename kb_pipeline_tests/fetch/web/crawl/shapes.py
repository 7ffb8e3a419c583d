"""Small sites of the shapes that teams crawl, and generators of pages without end, for tests of what a crawl visits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kb_pipeline.urls import path_of
from kb_pipeline_tests.fetch.web.scripted import Answer, Script, redirect

Query = dict[str, str]
Shape = Callable[[str, Query], str | Answer | None]
"""HTML or another answer by path and parameters; None where there is no page."""

_ADJECTIVES = (
    "quiet", "amber", "narrow", "modern", "coastal", "wooden", "patient", "brittle", "hollow", "remote", "gentle",
    "robust", "fragile", "early", "rural", "steady", "golden", "silent", "shallow", "formal",
)  # fmt: skip
_NOUNS = (
    "harbour", "ledger", "valve", "orchard", "tenant", "bridge", "turbine", "archive", "parcel", "furnace", "garden",
    "station", "sailor", "museum", "textile", "compass", "battery", "glacier", "library", "theatre",
)  # fmt: skip
_VERBS = ("supports", "replaces", "measures", "delays", "protects", "carries", "follows", "improves")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def sentence(seed: str) -> str:
    """Return a sentence that belongs to the seed."""
    chance = random.Random(seed)
    chosen = [chance.choice(words) for words in (_ADJECTIVES, _NOUNS, _VERBS, _ADJECTIVES, _NOUNS, _NOUNS)]
    return "The {} {} {} the {} {} of every {} near the {} {}.".format(
        *chosen, chance.choice(_ADJECTIVES), chance.choice(_NOUNS)
    )


def text(seed: str, sentences: int = 5) -> str:
    """Return a paragraph that belongs to the seed."""
    return f"<p>{' '.join(sentence(f'{seed}/{number}') for number in range(sentences))}</p>"


def title(seed: str) -> str:
    """Return a heading that belongs to the seed."""
    chance = random.Random(f"title {seed}")
    return " ".join(chance.choice(words) for words in (_ADJECTIVES, _NOUNS, _VERBS, _NOUNS)).capitalize()


def links(*pairs: tuple[str, object]) -> str:
    """Return a list of links, each with its text."""
    return "".join(f'<li><a href="{target}">{label}</a></li>' for target, label in pairs)


def html(*parts: str) -> str:
    """Return a page of these parts."""
    return f"<html><body>{''.join(parts)}</body></html>"


@dataclass
class ShapedSite:
    """Answers by a shape, for a ScriptedSite."""

    shape: Shape
    answers: dict[str, Script] = field(default_factory=dict)

    def get(self, url: str, default: Script) -> Script:
        path, _, query = path_of(url).partition("?")
        pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
        found = None if path == "/robots.txt" else self.shape(path, pairs)
        return default if found is None else Answer(found.encode()) if isinstance(found, str) else found


# -- real sites: each with the paths that a careful person wants


def register(path: str, query: Query) -> str | None:
    """A start page that lists cases by number, each with a text of its own."""
    if path == "/":
        return html("<h1>Register</h1>", links(*((f"/case/{n}", n) for n in range(200))))
    return html(text(path)) if path.startswith("/case/") else None


REGISTER = [f"/case/{n}" for n in range(200)]


def glossary(path: str, query: Query) -> str | None:
    """Pages by letter that list terms, which are the words of their addresses; a sentence a term."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    if path == "/":
        return html("<p>The words of the trade</p>", links(*((f"/letter/{x}", x) for x in letters)))
    kind, _, name = path[1:].partition("/")
    if kind == "letter":
        return html("<p>The words of the trade</p>", links(*((f"/term/{name}{_term(name, n)}",) * 2 for n in range(6))))
    return html(f"<h1>{name}</h1><p>{sentence(name)}</p>") if kind == "term" else None


def _term(letter: str, number: int) -> str:
    return "".join(random.Random(f"{letter}{number}").choices(("ba", "co", "di", "fu", "ge"), k=4)) + "xyzuvw"[number]


GLOSSARY = [f"/term/{x}{_term(x, n)}" for x in "abcdefghijklmnopqrstuvwxyz" for n in range(6)]


def api_reference(path: str, query: Query) -> str | None:
    """Folders whose index lists functions by the names in their addresses, more folders than a pattern has credit."""
    parts = path.strip("/").split("/")
    if path == "/":
        return html("<p>Reference of the library</p>", links(*((f"/api/{m}/index.html", m) for m in _MODULES)))
    if parts[-1] == "index.html":
        names = (f"{verb}_{n}.html" for n, verb in enumerate(_VERBS))
        return html("<h2>Functions</h2>", links(*((f"/api/{parts[1]}/{name}", name[:-5]) for name in names)))
    return html(f"<p>{sentence(path)}</p><pre>call(value, *, strict=False)</pre>") if len(parts) == 3 else None


_MODULES = [f"{adjective}{noun}" for adjective in _ADJECTIVES[:10] for noun in _NOUNS[:4]]
API_REFERENCE = [f"/api/{m}/{verb}_{n}.html" for m in _MODULES for n, verb in enumerate(_VERBS)]


def mega_menu(path: str, query: Query) -> str | None:
    """A shop whose pages all begin with a menu of 1,500 words."""
    menu = "".join(f"<p>{title(f'menu {n}')}</p>" for n in range(375))
    if path in ("/", "/shop"):
        page = int(query.get("page", 1))
        following = links((f"/shop?page={page + 1}", "Next")) if page < 15 else ""
        goods = ((f"/p/{n}", title(f"good {n}")) for n in range(10 * page - 10, 10 * page))
        return html(menu, links(*goods), following) if page <= 15 else None
    return html(menu, f"<h1>{title(f'good {path[3:]}')}</h1>", text(path, 2))


MEGA_MENU = [f"/p/{n}" for n in range(150)]


def price_list(path: str, query: Query) -> str | None:
    """Articles that differ in numbers only, listed by number and price."""
    if path == "/":
        page = int(query.get("page", 1))
        rows = ((f"/article/{n}", 10_000 + n) for n in range(25 * page - 25, 25 * page))
        return html("<h1>Prices</h1>", links(*rows), links((f"/?page={page + 1}", "next")) if page < 6 else "")
    chance = random.Random(path)
    cells = {"Article": 10_000 + int(path[9:]), "Price in euro": chance.randrange(99_999) / 100}
    weight = {"Weight in gram": chance.randrange(900), "Pieces in a box": chance.randrange(90)}
    lines = (f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in (cells | weight).items())
    return html(f"<table>{''.join(lines)}</table><p>Delivery within {chance.randrange(20)} working days</p>")


PRICE_LIST = [f"/article/{n}" for n in range(150)]


def versions(path: str, query: Query) -> str | None:
    """Four versions of a manual, most of whose pages are the same; the start page links to their roots only."""
    parts = path.strip("/").split("/")
    if path == "/":
        return html("<p>Choose your version</p>", links(*((f"/v{v}/", f"Version {v}") for v in range(1, 5))))
    if len(parts) == 1:
        return html("<p>Contents</p>", links(*((f"/{parts[0]}/{n}-chapter", title(f"{n}")) for n in range(40))))
    own = f"<p>{sentence(path)}</p>" if parts[1].startswith(("1", "2")) else ""
    return html(f"<h1>{title(parts[1].partition('-')[0])}</h1>", text(parts[1]), own)


VERSIONS = [f"/v{v}/{n}-chapter" for v in range(1, 5) for n in range(40)]


def talks(path: str, query: Query) -> str | None:
    """A programme whose talks differ in a parameter that is called like one of sessions."""
    if path == "/":
        return html("<h1>Programme</h1>", links(*((f"/talk.php?session_id={n}", title(f"{n}")) for n in range(60))))
    return html(text(query["session_id"])) if "session_id" in query else html("<p>No such talk</p>")


TALKS = [f"/talk.php?session_id={n}" for n in range(60)]


def law(path: str, query: Query) -> str | None:
    """A code of law by number of title, chapter and section."""
    parts = [part for part in path.split("/")[2:] if part]
    if path == "/" or len(parts) < 3:
        here = path.rstrip("/") if path != "/" else "/code"
        return html(f"<p>{sentence(path)}</p>", links(*((f"{here}/{n}", n) for n in range(1, 7))))
    return html(text(path, 2)) if len(parts) == 3 else None


LAW = [f"/code/{a}/{b}/{c}" for a in range(1, 7) for b in range(1, 7) for c in range(1, 7)]


def parts_of_products(path: str, query: Query) -> str | None:
    """A folder a product, with a story of its own and a page that is the same for all."""
    parts = path.strip("/").split("/")
    if path == "/":
        return html(links(*((f"/{name}/", name) for name in _PRODUCTS)))
    below = links((f"/{parts[0]}/terms", "Terms"), (f"/{parts[0]}/story", "Story"))
    if len(parts) == 1:
        return html("<p>This product is in stock.</p>", below)
    return html("<p>The terms of sale are the same for all.</p>" if parts[1] == "terms" else text(path, 3))


_PRODUCTS = [f"{adjective}-{noun}" for adjective in _ADJECTIVES[:10] for noun in _NOUNS[:10]]
PARTS_OF_PRODUCTS = [f"/{name}/story" for name in _PRODUCTS]


def tide_tables(path: str, query: Query) -> str | None:
    """A page a station and day, with nothing but times and heights."""
    parts = [part for part in path.split("/")[2:] if part]
    if path == "/":
        return html(links(*((f"/tide/{station}", title(f"tide{station}")) for station in range(8))))
    if len(parts) == 1:
        return html(links(*((f"{path}/2026-11-{day:02}", f"{day} November") for day in range(1, 31))))
    chance = random.Random(path)
    rows = (
        f"<li>{chance.randrange(24):02}:{chance.randrange(60):02}</li><li>{chance.randrange(9)} m</li>" for _ in "1234"
    )
    return html("<h1>High and low water</h1>", *rows)


TIDE_TABLES = [f"/tide/{station}/2026-11-{day:02}" for station in range(8) for day in range(1, 31)]


def shirts(path: str, query: Query) -> str | None:
    """Articles by a parameter that differ in name and price, all else is the same text."""
    if path == "/":
        return html(links(*((f"/item?sku={n}", title(f"shirt{n % 30}")) for n in range(200))))
    number = int(query["sku"])
    price = random.Random(number).randrange(10_000) / 100
    return html(f"<h1>{title(f'shirt{number % 30}')}</h1>", text("shirt", 8), f"<p>Price {price:.2f} EUR</p>")


SHIRTS = [f"/item?sku={n}" for n in range(200)]


def events(path: str, query: Query) -> str | None:
    """A calendar without end, in the first two years of which there are events."""
    if path == "/":
        return html(text("town"), links(("/events/2026/1", "Events")))
    if path.startswith("/event/"):
        return html(text(path, 2))
    year, month, *day = (int(part) for part in path.removeprefix("/events/").split("/"))
    later, earlier = (year + month // 12, month % 12 + 1), (year - (month == 1), (month - 2) % 12 + 1)
    found = [event for event in EVENTS if event.startswith(f"/event/{year}-{month}-") and not day]
    days = [] if day else [(f"{path}/{number}", number) for number in range(1, 29)]
    around = (("/events/{}/{}".format(*later), "next"), ("/events/{}/{}".format(*earlier), "previous"))
    listed = [(event, title(event)) for event in found]
    return html("" if found else "<p>No events.</p>", links(*listed, *days, *around))


EVENTS = [f"/event/{2026 + n // 12}-{n % 12 + 1}-{letter}" for n in range(24) for letter in "abcd"[: 3 + n % 2]]


def manual(path: str, query: Query) -> str | None:
    """A manual whose first page links to all of it on one page, and to pages of pictures under the same menu."""
    menu = "<p>The manual of the machine, small and fast and well tested</p>"
    chapters = [text(f"chapter {n}", 4) for n in range(40)]
    if path == "/":
        shown = (("/print.html", "Print"), *((f"/{n}.html", n) for n in range(40)))
        return html(menu, "<p>Contents</p>", links(*shown, *((f"/figure/{n}.html", n) for n in range(40))))
    if path == "/print.html":
        return html(menu, *chapters)
    if path.startswith("/figure/"):
        return html(menu, "<img src=x.png>")
    return html(menu, chapters[int(path[1:].removesuffix(".html"))])


MANUAL = [f"{folder}/{n}.html" for folder in ("", "/figure") for n in range(40)]


def verses(path: str, query: Query) -> str | None:
    """A book by number of chapter and verse, whose lists of numbers say nothing."""
    parts = [part for part in path.split("/") if part]
    if path == "/":
        return html("<h1>Books</h1>", links(*((f"/b/{name}", name) for name in _NOUNS[:10])))
    if len(parts) == 4:
        return html(f"<p>{sentence(path)}</p>")
    return html("<h1>The book</h1>", links(*((f"{path}/{n}", n) for n in range(1, 7))))


VERSES = [f"/b/{name}/{chapter}/{verse}" for name in _NOUNS[:10] for chapter in range(1, 7) for verse in range(1, 7)]

REAL: dict[str, tuple[Shape, list[str]]] = {
    "register": (register, REGISTER),
    "glossary": (glossary, GLOSSARY),
    "api reference": (api_reference, API_REFERENCE),
    "mega menu": (mega_menu, MEGA_MENU),
    "price list": (price_list, PRICE_LIST),
    "versions": (versions, VERSIONS),
    "talks": (talks, TALKS),
    "law": (law, LAW),
    "manual": (manual, MANUAL),
    "verses": (verses, VERSES),
    "parts of products": (parts_of_products, PARTS_OF_PRODUCTS),
    "tide tables": (tide_tables, TIDE_TABLES),
    "shirts": (shirts, SHIRTS),
    "events in a calendar without end": (events, EVENTS),
}


# -- generators of pages without end, each below the folder of its name


def calendar(path: str, query: Query) -> str:
    """Every month leads to the next one and to its days; its name is a word, its number is in the address."""
    year, month = int(query.get("year", 2026)), int(query.get("month", 1))
    days = ((f"/calendar?year={year}&month={month}&day={day}", day) for day in range(1, 29))
    later = f"/calendar?year={year + month // 12}&month={month % 12 + 1}"
    footer = f"<p>Generated at {random.random():.3f} in {random.randrange(99)} ms</p>"
    return html(f"<h1>{MONTHS[month - 1]} {year}</h1><p>No events.</p>", links(*days, (later, "Next")), footer)


def diary(path: str, query: Query) -> str:
    """A calendar whose address says only how far from today it is."""
    months = int(query.get("from", 24_000))
    names = [f"{MONTHS[(months + step) % 12]} {(months + step) // 12}" for step in (0, 1, -1)]
    following = ((f"/diary?from={months + step}", names[step]) for step in (1, -1))
    return html(f"<h2>{names[0]}</h2>", "".join(f"<td>{day}</td>" for day in range(1, 31)), links(*following))


def pages(path: str, query: Query) -> str:
    """A list that has a next page beyond its end too."""
    page = int(query.get("page", 1))
    listed = f"<p>Items {20 * page - 19} to {20 * page} of 40</p>"
    return html(listed, links((f"/pages?page={page + 1}", "Next"), (f"/pages?page={page + 9}", page + 9)))


def filters(path: str, query: Query) -> str:
    """Every filter of a list can be added to every other."""
    goods = [f"<p>{title(f'filtered {n}')}</p>" for n in range(8)]
    chance = random.Random(str(sorted(query.items())))
    shown = chance.sample(goods, chance.randrange(9))
    given = {"colour": "rgb", "size": "sml", "sort": "pn", "brand": "xyz", "view": "gl"}
    more = ((query | {name: value}, f"{name} {value}") for name, values in given.items() for value in values)
    targets = ((f"/filters?{'&'.join(f'{n}={v}' for n, v in one.items())}", label) for one, label in more)
    return html(f"<p>{len(shown)} found</p>", *shown, links(*targets))


def labels(path: str, query: Query) -> str:
    """Labels in the path that can be combined in any order."""
    chosen = [part for part in path.split("/")[2:] if part]
    left = [name for name in _NOUNS[:10] if name not in chosen]
    said = f"<p>Posts about {', '.join(chosen)}</p><p>No post has all of these labels.</p>"
    return html(said, links(*((f"/labels/{'/'.join([*chosen, name])}/", name) for name in left)))


def lost(path: str, query: Query) -> str:
    """Whatever is asked for is answered, and suggests more."""
    said = f"<p>We could not find {path} for you. Perhaps you look for one of these:</p>"
    return html(said, links(*((f"/lost/7f{random.getrandbits(40):x}", "this one") for _ in range(5))))


def deeper(path: str, query: Query) -> str:
    """A relative link that should be absolute."""
    return html("<p>Help is on its way.</p>", links(("more/info/", "more"), ("../x/info/", "up")))


def visits(path: str, query: Query) -> str | None:
    """Three pages, each link to them with another session."""
    said = {"rules": "Members obey the rules of the club", "board": "The board meets once a year", "": "Welcome here"}
    name = path.split("/")[2] if path.count("/") > 1 else ""
    targets = ((f"/visits/{other}?token=7f{random.getrandbits(64):x}", other or "home") for other in said)
    return html(f"<p>{said[name]}</p>", links(*targets)) if name in said else None


def jumps(path: str, query: Query) -> Answer:
    """Redirects without end."""
    return redirect(f"/jumps?to={int(query.get('to', 0)) + 1}")


def login(path: str, query: Query) -> str:
    """A form that every page leads to, each with its own address."""
    return html("<p>Log in with your name and your password to go on.</p>")


TRAPS: dict[str, Shape] = {
    trap.__name__: trap for trap in (calendar, diary, pages, filters, labels, lost, deeper, visits, jumps, login)
}


def beside_traps(traps: Iterable[str], real: int) -> tuple[Shape, list[str]]:
    """Return a site with pages in a tree, each of which links to these traps, and the paths of its pages."""
    names = list(traps)

    def shape(path: str, query: Query) -> str | Answer | None:
        first = urlsplit(path).path.split("/")[1]
        if first in names:
            return TRAPS[first](path, query)
        if first not in ("", "page"):
            return None
        number = 0 if path == "/" else int(path.removeprefix("/page/"))
        children = ((f"/page/{n}", title(f"{n}")) for n in range(3 * number + 1, 3 * number + 4) if n < real)
        every = (f"/{name}/" if name == "deeper" else f"/{name}?next=/page/{number}" if name == "login" else f"/{name}"
                 for name in names)  # fmt: skip
        return html(text(f"page {number}", 3), links(*children), links(*((target, "see") for target in every)))

    return shape, ["/", *(f"/page/{n}" for n in range(1, real))]
