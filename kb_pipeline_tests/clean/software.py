"""Pages as common software makes them: those that are documents, and the views, forms and states beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kb_pipeline_tests.clean.stored_site import ORIGIN, link, listing, page, prose, title

PASSWORD, TEXTAREA = "<form><input type=password></form>", "<form><textarea></textarea></form>"


@dataclass
class Made:
    """Bodies by path."""

    documents: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def _post(seed: int) -> str:
    return f"<div><b>user{seed % 4}</b> <span>03-05-2019, 12:{seed % 60:02}</span>{prose(('post', seed), 25)}</div>"


def vbulletin() -> Made:
    made = Made()
    refusal = page(
        "Forum",
        "<p>You are not logged in or you do not have permission to access this page. You may not be logged in. Fill in "
        f"the form at the bottom of this page and try again.</p>{PASSWORD}",
    )

    def row(t: int) -> str:
        by = link(f"/member.php?u={t % 5}", f"user{t % 5}")
        cells = link(f"/showthread.php?t={t}", title(t)), f"03-05-2019 12:{t:02} PM by {by}", t * 31
        return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    def board(threads: Iterable[int]) -> str:
        head = "<tr><th>Thread</th><th>Last Post</th><th>Views</th></tr>"
        return page("General talk", f"<table>{head}{''.join(map(row, threads))}</table>", "<p>Page 1 of 2</p>")

    made.documents["/forumdisplay.php?f=2"] = board(range(12))
    made.others["/forumdisplay.php?f=2&page=2"] = board(range(12, 24))
    made.others["/forumdisplay.php?f=2&sort=title&order=asc"] = board(range(11, -1, -1))
    for t in range(24):
        posts = [_post(t * 10 + k) for k in range(4)]
        made.documents[f"/showthread.php?t={t}"] = page(title(t), *posts[:3])
        made.documents[f"/showthread.php?t={t}&page=2"] = page(f"{title(t)} - Page 2", posts[3])
        made.others[f"/printthread.php?t={t}"] = page(title(t), *posts[:3], "<p>Powered by vBulletin</p>")
        made.others[f"/showthread.php?p={t * 10 + 1}"] = page(title(t), *posts[:3])
        made.others[f"/newreply.php?do=newreply&p={t}"] = refusal
        made.others[f"/report.php?p={t}"] = refusal
    return made


def smf() -> Made:
    made = Made()
    made.documents["/index.php"] = page("Forum", listing(link(f"/index.php?topic={t}.0", title(t)) for t in range(20)))
    denied = "<p>You are not allowed to view profiles.</p><p>Please login below or register an account.</p>"
    for t in range(20):
        posts = [_post(t * 10 + k) for k in range(4)]
        made.documents[f"/index.php?topic={t}.0"] = page(title(t), *posts[:3])
        made.documents[f"/index.php?topic={t}.15"] = page(title(t), posts[3])
        made.others[f"/index.php?action=printpage;topic={t}.0"] = page(f"Print Page - {title(t)}", *posts)
        made.others[f"/index.php?action=login;topic={t}"] = page("Login", PASSWORD, "<p>Username Password</p>")
        made.others[f"/index.php?action=profile;u={t}"] = page("An Error Has Occurred!", denied)
    return made


def dokuwiki() -> Made:
    made = Made()
    for n in range(12):
        path, name = f"/doku.php?id=page{n}", f"page{n} [Wiki]"
        others = listing(link(f"/doku.php?id=page{(n + k) % 12}", f"page{(n + k) % 12}") for k in range(1, 4))
        made.documents[path] = page(name, prose(n), prose(-n - 1))
        made.others |= {
            f"{path}&do=edit": page(name, "<p>This page is read only. You can view the source.</p>", TEXTAREA),
            f"{path}&do=revisions": page(name, "<h2>Old Revisions</h2><p>2019/05/03 12:00 created by user3</p>"),
            f"{path}&do=backlink": page(name, "<h2>Backlinks</h2><p>These pages seem to link back.</p>", others),
            f"{path}&do=login": page(name, "<h2>Login</h2><p>You are not logged in!</p>", PASSWORD),
            f"{path}&rev=1557000001": page(name, "<p>This is an old revision!</p>", prose(("old", n))),
        }
    return made


def drupal() -> Made:
    made = Made()
    for n in range(12):
        made.documents[f"/node/{n}"] = page(title(n), prose(n), prose(n + 500))
        source = f"<p>Source URL: {ORIGIN}/node/{n}</p>"
        made.others |= {
            f"/comment/reply/{n}": page("Add new comment", prose(n), TEXTAREA),
            f"/user/login?destination=node/{n}": page("User account", "<p>Enter your username.</p>", PASSWORD),
            f"/user/register?destination=node/{n}": page("User account", "<p>A valid e-mail address.</p>"),
            f"/print/{n}": page(title(n), prose(n), prose(n + 500), source),
            f"/node/{n}/edit": page("Access denied", "<p>You are not authorized to access this page.</p>"),
            f"/forward?path=node/{n}": page("Email this", "<p>Your name. Send to.</p>", TEXTAREA),
        }
    return made


def magento() -> Made:
    made = Made()
    items = list(range(36))

    def card(n: int) -> str:
        buy = link(f"/checkout/cart/add/product/{n}/", "Add to Cart")
        return f"{link(f'/item-{n}.html', title(n))} ${n * 3}.{n:02} {buy}"

    def shelf(numbers: list[int]) -> str:
        return page("Hats", f"<p>Items 1 to {len(numbers)} of 36 total</p>", listing(map(card, numbers)))

    made.documents |= {"/hats.html": shelf(items[:12]), "/hats.html?p=2": shelf(items[12:24])}
    made.documents["/hats.html?p=3"] = shelf(items[24:])
    for direction in ("asc", "desc"):
        by_name = sorted(items, key=title, reverse=direction == "desc")
        made.others[f"/hats.html?dir={direction}&order=name"] = shelf(by_name[:12])
        made.others[f"/hats.html?dir={direction}&order=name&p=2"] = shelf(by_name[12:24])
    made.others |= {"/hats.html?limit=36": shelf(items), "/hats.html?mode=list": shelf(items[:12])}
    made.others |= {f"/hats.html?color={n}": shelf(items[n::7]) for n in range(5)}
    made.others["/hats.html?color=9"] = page("Hats", "<p>There are no products matching the selection.</p>")
    made.others["/catalogsearch/result/?q=hat"] = page("Search results for: 'hat'", shelf(items[:12]))
    for n in items:
        made.documents[f"/item-{n}.html"] = page(title(n), f"<p>${n * 3}.{n:02}</p>", prose(n))
        empty = "<p>You have no items in your shopping cart. Click here to continue shopping.</p>"
        made.others |= {
            f"/sendfriend/product/send/id/{n}/": page("Email to a Friend", TEXTAREA, "<p>Sender Name Email</p>"),
            f"/catalog/product_compare/add/product/{n}/": page("Compare", "<p>You have no items to compare.</p>"),
            f"/wishlist/index/add/product/{n}/": page("Customer Login", "<p>Please log in.</p>", PASSWORD),
            f"/checkout/cart/add/product/{n}/": page("Shopping Cart is Empty", empty),
        }
    return made


def apache() -> Made:
    made = Made()
    rows = [f"<tr><td>{link(f'/pub/f{k}.html', f'f{k}.html')}</td><td>2019-03-05 12:00</td></tr>" for k in range(9)]

    def index(order: int) -> str:
        return page("Index of /pub", f"<table><tr><th>Name</th><th>Modified</th></tr>{''.join(rows[::order])}</table>")

    made.documents |= {"/pub/": index(1)} | {f"/pub/f{k}.html": page(title(k), prose(k)) for k in range(9)}
    made.others |= {f"/pub/?C={column};O={'DA'[o]}": index(2 * o - 1) for column in "NMSD" for o in (0, 1)}
    return made


SOFTWARE = {made.__name__: made for made in (vbulletin, smf, dokuwiki, drupal, magento, apache)}
