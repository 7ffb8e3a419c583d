"""What is no document of its own on sites of common software, and what stays although it looks like that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kb_pipeline.operations.key_fates import list_left_out
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline_tests.clean.software import SOFTWARE
from kb_pipeline_tests.clean.stored_site import ORIGIN, StoredSite, link, listing, page, prose, title


@pytest.fixture
def site(tmp_path: Path) -> StoredSite:
    return StoredSite(tmp_path)


PRODUCTS = {f"/product/{n}": n for n in range(40)}
COLOURS = ("red", "green", "blue", "grey")


def shop() -> tuple[dict[str, str], dict[str, str]]:
    """A shop: products that stay, with their listing; and the listing by page, order and facet, a log-in and a cart."""

    def card(n: int) -> str:
        return f"<div>{link(f'/product/{n}', title(n))}<p>{n * 7}.{n:02} EUR</p><p>Ships in {n % 5 + 1} days</p></div>"

    def shelf(numbers: list[int], more: str = "") -> str:
        facets = "".join(link(f"/shop?colour={c}", c) for c in COLOURS) + link("/shop?sort=price", "Cheapest first")
        return page("Shop", f"<p>Showing {len(numbers)} of 40{more}</p>", facets, "".join(map(card, numbers)))

    products = {
        path: page(title(n), f"<p>{n * 7}.{n:02} EUR</p>", prose(path), link(f"/login?next={path}", "Log in to rate"))
        for path, n in PRODUCTS.items()
    }
    pages = {f"/shop?page={p + 1}": shelf(list(range(p * 10, p * 10 + 10))) for p in range(1, 4)}
    views = {f"/shop?colour={c}": shelf([n for n in range(40) if n % 4 == k]) for k, c in enumerate(COLOURS)}
    views |= {f"/shop?colour={c}&sort=price": shelf(list(range(36, -1, -4))) for c in COLOURS[:1]}
    views |= {f"/shop?sort={s}": shelf(list(range(9, -1, -1)), f", by {s}") for s in ("price", "name")}
    views |= {f"/login?next={path}": LOGIN for path in products}
    views["/cart"] = page("Your cart", "<p>Your cart is empty.</p>")
    return {"/shop": shelf(list(range(10)))} | products | pages, views


LOGIN = page("Log in", "<form><input name=user><input type=password name=p></form><p>Enter name and password.</p>")


def test_facets_and_orders_of_a_shop_are_no_documents_but_products_and_price_lists_are(site: StoredSite) -> None:
    wanted, views = shop()
    site.put(wanted | views)
    report = site.refresh()
    assert site.documents() == set(wanted)
    assert Counter(site.left_out().values()) == {"listing_view": 7, "form": 1}
    assert report.rejected["login_page"] == 40
    assert report.reconciles
    assert report.rejected["listing_view"] == 7
    assert report.passed == len(wanted)


def test_a_left_out_view_names_what_it_is_a_view_of_and_comes_back_when_that_goes(site: StoredSite) -> None:
    items = listing(link(f"/item/{n}", title(n)) for n in range(5))
    items_by_name = listing(link(f"/item/{n}", title(n)) for n in reversed(range(5)))
    intro = prose("intro")
    site.put({f"/item/{n}": page(title(n), prose(n)) for n in range(5)})
    site.put({"/items": page("Items", intro, items), "/items?sort=name": page("Items", intro, items_by_name)})
    site.refresh()
    (row,) = list_left_out(site.store.tables.open(PAGES), site.store.tables.open(DOCUMENTS))
    assert (row.source, row.key, row.reason) == ("site", f"{ORIGIN}/items?sort=name", "listing_view")
    assert row.message.endswith(f": {ORIGIN}/items")
    site.remove(["/items"])
    site.refresh()
    assert not site.left_out()
    assert "/items?sort=name" in site.documents()


def test_views_stay_documents_where_the_kb_file_keeps_them_and_go_when_it_no_longer_does(site: StoredSite) -> None:
    site.put({"/a": page("Apples", prose("a")), "/a?print=1": page("Apples", prose("a"), "<p>Printed by us</p>")})
    assert site.refresh(keep_views=True).passed == 2
    assert site.refresh().rejected["print_view"] == 1
    assert site.refresh(keep_views=True).passed == 2


def test_a_start_url_stays_whatever_it_is(site: StoredSite) -> None:
    site.put({"/a": page("Apples", prose("a"), prose("b"))})
    site.put({"/a?sort=name": page("Apples", prose("b"), prose("a"))}, depth=0)
    site.refresh()
    assert site.documents() == {"/a", "/a?sort=name"}


def forum() -> tuple[dict[str, str], dict[str, str]]:
    """A forum like phpBB: boards, threads of two pages, and orders, replies, quotes, profiles behind a log-in."""
    wanted: dict[str, str] = {}
    views: dict[str, str] = {}
    for f in range(2):

        def board(start: int, f: int = f) -> str:
            rows = (
                link(f"/viewtopic.php?f={f}&t={f * 100 + t}", title(f * 100 + t)) + f"Replies: {t % 13}"
                for t in range(start, start + 10)
            )
            return page(title(f"board {f}"), listing(rows), link(f"/viewforum.php?f={f}&start=10", 2))

        wanted[f"/viewforum.php?f={f}"] = board(0)
        views[f"/viewforum.php?f={f}&start=10"] = board(10)
        views[f"/viewforum.php?f={f}&sk=a&sd=d"] = board(0)
        for t in range(f * 100, f * 100 + 20):
            address = f"/viewtopic.php?f={f}&t={t}"
            wanted[address] = page(title(t), prose((t, 1)), prose((t, 2)))
            wanted[f"{address}&start=10"] = page(title(t), "<p>Thanks, that was it!</p>" + prose((t, 3), 6))
            views[f"{address}&sd=d"] = page(title(t), prose((t, 2)), prose((t, 1)))
            views[f"{address}&view=print"] = page(title(t), prose((t, 1)), prose((t, 2)), "<p>Page 1 of 1</p>")
            for mode in ("reply", "quote"):
                asks = f"<p>The board requires you to be registered and logged in to {mode}.</p>"
                views[f"/posting.php?mode={mode}&f={f}&t={t}"] = page("Login", asks)
    return wanted, views


def test_replies_quotes_orders_and_prints_of_a_forum_are_no_documents_but_second_pages_are(site: StoredSite) -> None:
    wanted, views = forum()
    site.put(wanted | views)
    site.refresh()
    assert wanted.keys() - site.documents() == set()
    assert site.documents() - wanted.keys() == set()


def wiki() -> tuple[dict[str, str], dict[str, str]]:
    """A MediaWiki: articles; and their histories, edit forms, differences, old texts and lists of links."""
    wanted: dict[str, str] = {}
    views: dict[str, str] = {}
    names = {n: title(n).replace(" ", "_") for n in range(20)}
    for n, name in names.items():
        others = "".join(link(f"/wiki/{names[(n + k) % 20]}", title((n + k) % 20)) for k in range(1, 5))
        wanted[f"/wiki/{name}"] = page(title(n), prose(n), others)
        script = f"/w/index.php?title={name}"
        revisions = listing(link(f"{script}&oldid={n * 9 + k}", f"{k + 1} March 2019") + "user 3" for k in range(4))
        views[f"{script}&action=history"] = page(f"History of {title(n)}", revisions)
        views[f"{script}&action=edit"] = page(f"Editing {title(n)}", "<p>You have no permission to edit. Log in.</p>")
        views[f"{script}&oldid={n * 9}"] = page(title(n), "<p>This is an old revision.</p>", prose(("old", n)))
        views[f"{script}&diff=3&oldid={n * 9}"] = page(f"Difference of {title(n)}", prose(("diff", n)))
        views[f"/wiki/Special:WhatLinksHere/{name}"] = page("Pages that link here", others)
    return wanted, views


def test_histories_edit_forms_and_old_texts_of_a_wiki_are_no_documents(site: StoredSite) -> None:
    wanted, views = wiki()
    site.put(wanted | views)
    site.refresh()
    assert site.documents() == set(wanted)
    assert Counter(site.left_out().values()) == {"revision": 60, "form": 20, "listing_view": 20}


def blog() -> tuple[dict[str, str], dict[str, str]]:
    """A WordPress blog: posts, tags, a page of teasers; and replies, shares, searches and a calendar."""
    posts = {f"/2019/0{n % 9 + 1}/{title(n).replace(' ', '-').lower()}/": n for n in range(20)}
    wanted: dict[str, str] = {}
    views: dict[str, str] = {}
    reply = "<h3>Leave a Reply</h3><form><textarea></textarea></form>"
    for path, n in posts.items():
        wanted[path] = page(title(n), prose(n), "<h2>Comments</h2>", prose(("comment", n), 12), reply)
        to = f"<h3>Leave a Reply to Ann {n}</h3><p>Cancel reply</p>"
        views[f"{path}?replytocom={n}"] = page(title(n), prose(n), "<h2>Comments</h2>", prose(("comment", n), 12), to)
        views[f"{path}?share=twitter"] = wanted[path]
    teasers = [
        f"<article><h2>{link(path, title(n))}</h2>{prose(('teaser', n), 9)}</article>" for path, n in posts.items()
    ]
    wanted["/"] = page("Blog", *teasers[:10])
    wanted["/page/2/"] = page("Blog", *teasers[10:])
    wanted["/tag/apple/"] = page("apple", *teasers[3:9])
    for word in ("pear", "plum"):
        views[f"/?s={word}"] = page(f"Search Results for: {word}", *teasers[:4])
    views["/?s=nothing"] = page("Nothing Found", "<p>Sorry, but nothing matched your search terms.</p>")
    for month in range(1, 7):
        days = "".join(f"<td>{day}</td>" for day in range(1, 31))
        views[f"/calendar/?month=2031-{month}"] = page(f"Calendar {month}", f"<table><tr>{days}</tr></table>No events")
    return wanted, views


def test_replies_shares_searches_and_calendars_of_a_blog_are_no_documents(site: StoredSite) -> None:
    wanted, views = blog()
    site.put(wanted | views)
    site.refresh()
    assert site.documents() == set(wanted)
    assert Counter(site.left_out().values()) == {"form": 20, "search_results": 3, "calendar": 6}


def test_printed_pages_of_a_manual_are_no_documents(site: StoredSite) -> None:
    manual = {f"/manual/{n}.html": page(title(n), prose(n), prose(-n)) for n in range(1, 10)}
    printed = {f"/manual/{n}-print.html": page(title(n), prose(n), prose(-n), "<p>Printed</p>") for n in range(1, 10)}
    elsewhere = {f"/print.php?id={n}": page(title(n), prose(n), prose(-n), "<p>Back</p>") for n in range(1, 10)}
    site.put(manual | printed | elsewhere | {"/print/": page("Print shop", prose("print shop"))})
    site.refresh()
    assert site.documents() == {*manual, "/print/"}
    assert set(site.left_out().values()) == {"print_view"}


def test_error_pages_that_quote_their_address_are_no_documents(site: StoredSite) -> None:
    def missing(path: str) -> str:
        return page("Page not found", f"<p>We are sorry, but the page {path} was not found. Try the search.</p>")

    paths = [f"/a/{n}/more/info.html" for n in range(4)] + ["/a/1/more/more/info.html", "/x", "/old/news?id=4"]
    site.put({path: missing(path) for path in paths} | {"/a/1": page("Not found: a novel", prose("novel", 200))})
    report = site.refresh()
    assert site.documents() == {"/a/1"}
    assert report.rejected == {"error_page": len(paths)}


@pytest.mark.parametrize("software", SOFTWARE)
def test_of_common_software_the_documents_stay_and_nothing_else(site: StoredSite, software: str) -> None:
    made = SOFTWARE[software]()
    site.put(made.documents | made.others)
    report = site.refresh()
    assert site.documents() == set(made.documents)
    assert report.reconciles


def numbered() -> dict[str, str]:
    """Articles of one title and one set of words, which differ in their numbers."""
    return {
        f"/article.php?id={n}": page("Article", f"<p>Price {n * 31 % 97}.50, weight {n * 7} g</p>") for n in range(30)
    }


def attributes() -> dict[str, str]:
    """Parts of one title, each a choice of attributes that others have as well."""
    back = link("/part.php", "All parts")
    return {
        f"/part.php?id={n}": page("Part", back, f"<p>Colour {COLOURS[n % 4]}</p><p>Size {n % 7}</p>") for n in range(28)
    }


def prices() -> dict[str, str]:
    """A price list in parts, and its articles by number."""

    def row(n: int) -> str:
        return f"<p>{link(f'/article/{n}', n)} {n * 3 / 7:.2f} EUR</p>"

    parts = {f"/list?page={k}": page("Prices", *map(row, range(k * 25, k * 25 + 25))) for k in range(4)}
    return parts | {f"/article/{n}": page(f"Article {n}", f"<p>Weighs {n * 11} g</p>") for n in range(100)}


def boards() -> dict[str, str]:
    """Boards that list their threads, named by a parameter of the page that lists the boards."""
    listed = {f: listing(link(f"/t/{f * 10 + t}", title(f * 10 + t)) for t in range(10)) for f in range(5)}
    found = {f"/forum.php?f={f}": page(title(f), threads) for f, threads in listed.items()}
    threads = {f"/t/{t}": page(title(t), prose(t)) for t in range(50)}
    return found | threads | {"/forum.php": page("Forum", listing(["Welcome"]))}


def letters() -> dict[str, str]:
    """A glossary: a list for each letter, and a page for each word."""
    terms = {letter: [f"{letter}{n}" for n in range(5)] for letter in "abc"}
    lists = {
        f"/letter/{letter}": page("Glossary", listing(link(f"/term/{term}", term) for term in listed))
        for letter, listed in terms.items()
    }
    return lists | {f"/term/{term}": page(term, prose(term, 8)) for listed in terms.values() for term in listed}


def forms_explained() -> dict[str, str]:
    """Pages about forms, errors and states, at addresses like theirs."""
    numbers = "".join(f"<td>{n * 37 % 31}</td>" for n in range(40))
    cart = "<p>Returns the cart, or an error when the cart is empty or unknown to us.</p>"
    return {
        "/docs/login": page("Log in", prose("login", 30)),
        "/docs/edit": page("Edit", prose("edit", 20)),
        "/docs/cart": page("cart", cart, prose("cart", 30)),
        "/docs/history": page("History", prose("history")),
        "/docs/search": page("Search", prose("search")),
        "/api/users/edit": page("users edit", "<p>Edits one of the users.</p>"),
        "/api/posts/edit": page("posts edit", "<p>Edits one of the posts.</p>"),
        "/api/login": page("login", "<p>To log in, send a POST with user and password; returns a token.</p>"),
        "/events?year=2019": page("Results", f"<table><tr>{numbers}</tr></table>"),
        "/errors/403": page("403 Forbidden", "<p>Sent when the key may not read.</p>"),
        "/errors/404": page("404 Not Found", "<p>Sent when there is no such item.</p>"),
    }


def little_known() -> dict[str, str]:
    """Things of which little more is said than that they are there, or not to be had now."""
    lamps = {f"/lamp/{n}": page(title(n), "<p>This lamp is currently unavailable.</p>") for n in range(4)}
    reports = {f"/report/view.php?id={n}": page(f"Report {n}", "<p>To be read in our library.</p>") for n in range(4)}
    slots = {f"/slot.php?id={n}": page(f"Slot {n}", f"<p>Slot {n} is empty.</p>") for n in range(4)}
    drafts = {f"/draft?rev={n}": page(f"Draft {n}", f"<p>Draft {n} was withdrawn.</p>") for n in range(4)}
    return lamps | reports | slots | drafts | {"/slot.php": page("Slots", prose("slots"))}


def old_drupal() -> dict[str, str]:
    """Pages whose path is in a parameter that elsewhere holds the words of a search."""
    nodes = {f"/index.php?q=node/{n}": page(title(n), prose(n)) for n in range(5)}
    return nodes | {"/index.php": page("Home", prose("home"))}


def short_posts() -> dict[str, str]:
    """The parts of a thread in Chinese, whose posts are short and have no spaces."""
    posts = enumerate(("谢谢你的回答很有帮助", "我也遇到同样的问题了", "请问怎么解决"), start=1)
    first = {"/t.php?t=5": page("主题", "<p>" + "如何设置服务器的时间" * 4 + "</p>")}
    return first | {f"/t.php?t=5&start={n}0": page("主题", f"<p>{post}</p>") for n, post in posts}


STAYING = {
    each.__name__: each
    for each in (numbered, attributes, prices, boards, letters, forms_explained, little_known, old_drupal, short_posts)
}


@pytest.mark.parametrize("kind", STAYING)
def test_pages_with_text_or_numbers_of_their_own_stay(site: StoredSite, kind: str) -> None:
    pages = STAYING[kind]()
    site.put(pages)
    report = site.refresh()
    assert site.left_out() == {}
    assert site.documents() == set(pages)
    assert report.passed == len(pages)


def test_the_choice_does_not_depend_on_the_order_of_fetching(tmp_path: Path) -> None:
    wanted, views = shop()
    bodies = wanted | views
    left_out = []
    for number, paths in enumerate((list(bodies), list(reversed(bodies)))):
        site = StoredSite(tmp_path / str(number))
        half = len(paths) // 2
        for part in (paths[:half], paths[half:]):
            site.put({path: bodies[path] for path in part})
            site.refresh()
        left_out.append(site.left_out())
    assert left_out[0] == left_out[1]


def test_a_refresh_that_changes_nothing_writes_nothing(site: StoredSite) -> None:
    wanted, views = blog()
    site.put(wanted | views)
    site.refresh()
    version = site.store.tables.open("documents").version
    site.refresh()
    assert site.store.tables.open("documents").version == version
