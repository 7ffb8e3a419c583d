"""Pages that are made by scripts, in a real browser: their text is found, and nothing gets around the rules."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.errors import BrowserMissing
from kb_pipeline.fetch.web.crawl import find_browser as browsers
from kb_pipeline.fetch.web.crawl.browser import Renderer
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache, StoredRobots
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request, Response
from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped, HostThrottles
from kb_pipeline.host_scheduler import Permit, Report
from kb_pipeline_tests.fetch.web.conftest import Crawled, Crawler, known_file, rules_for
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site

try:
    BROWSER = find_browser("")
except BrowserMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

JS = {"Content-Type": "text/javascript"}
SHELL = (
    b"<!doctype html><title>Shop</title><link rel=stylesheet href=/app.css>"
    b'<div id="root"></div><script src="/app.js"></script>'
)
APP = b"""
const root = document.getElementById('root');
const data = await_data('/api' + location.pathname + '.json');
async function await_data(url) {
  const item = await (await fetch(url)).json();
  await new Promise(resolve => setTimeout(resolve, 300));
  root.innerHTML = `<h1>${item.name}</h1><p>${item.text}</p><img src=/picture.png>` +
    item.links.map(link => `<a href="${link}">${link}</a>`).join(' ');
}
"""


@pytest.fixture
def shop(site: Site) -> Site:
    """Serve a site of a script and its data, beside static pages."""
    site.link("/", "/item/1", "/static")
    site.link("/static", headers={"Content-Type": "text/html"})
    site.pages["/static"] = Page(b"<title>Static</title><p>A short text.</p><script>document.title = 'x'</script>")
    for number in (1, 2, 3):
        site.pages[f"/item/{number}"] = Page(SHELL)
        links = [f"/item/{number + 1}"] if number < 3 else []
        item = {"name": f"Saw number {number}", "text": "It cuts along the grain.", "links": links}
        site.pages[f"/api/item/{number}.json"] = Page(json.dumps(item).encode(), headers={"Content-Type": "text/json"})
    site.pages["/app.js"] = Page(APP, headers=JS)
    return site


def _crawl(crawled: Crawler, *starts: str, render: str = "auto", **changes: Any) -> Crawled:
    return crawled(*starts, render=render, browser=BROWSER, **changes)


def _text(found: Crawled, url: str) -> str:
    return str(found.rows[url]["body"].decode())


def test_auto_finds_the_text_of_scripts_and_renders_no_static_page(shop: Site, crawled: Crawler) -> None:
    found = _crawl(crawled, shop.url + "/")
    assert found.summary.outcomes == {"fetched": 5}
    for number in (1, 2, 3):
        url = f"{shop.url}/item/{number}"
        assert f"<h1>Saw number {number}</h1><p>It cuts along the grain.</p>" in _text(found, url)
        assert found.rows[url]["rendered"]
    assert found.summary.rendered == 3
    assert not found.rows[shop.url + "/static"]["rendered"]
    assert b"<title>Static" in found.rows[shop.url + "/static"]["body"]
    assert {hit.headers["User-Agent"] for hit in shop.hits} == {"kb-test/1.0 (+mailto:test@example.com)"}
    assert [shop.count(path) for path in ("/app.js", "/app.css", "/picture.png", "/favicon.ico")] == [1, 0, 0, 0]
    assert [shop.count(f"/item/{number}") for number in (1, 2, 3)] == [1, 1, 1]


def test_never_keeps_what_the_server_sent_and_always_renders_everything(shop: Site, crawled: Crawler) -> None:
    assert _crawl(crawled, shop.url + "/", render="never").rows[shop.url + "/item/1"]["body"] == SHELL
    crawled.forget()
    found = _crawl(crawled, shop.url + "/", render="always")
    assert found.summary.rendered == 5
    assert "<title>x</title>" in _text(found, shop.url + "/static")


def test_requests_of_a_page_are_throttled_and_obey_robots_txt(shop: Site, crawled: Crawler) -> None:
    shop.pages["/robots.txt"] = Page(b"User-agent: *\nDisallow: /api/item/2", headers={"Content-Type": "text/plain"})
    found = _crawl(crawled, shop.url + "/item/1", delay_s=0.2)
    times = sorted(hit.at for hit in shop.hits)
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.19
    assert "Saw number 1" in _text(found, shop.url + "/item/1")
    assert "Saw number 2" not in _text(found, shop.url + "/item/2")
    assert shop.count("/api/item/2.json") == 0


def test_nothing_in_a_page_reaches_an_address_that_is_not_opened(site: Site, crawled: Crawler) -> None:
    with running_site("127.0.0.2") as honeypot, _listener("127.0.0.3") as (listener, knocks):
        trap, other = honeypot.url, f"127.0.0.3:{listener.getsockname()[1]}"
        site.redirect("/to-trap.js", trap + "/redirected.js")
        html = f"""<!doctype html><div id=root></div><link rel=preconnect href={trap}><link rel=prefetch href={trap}/p>
            <script src={trap}/script.js></script><script src=/to-trap.js></script><iframe src={trap}/frame></iframe>
            <img src={trap}/image><script>
            fetch('{trap}/fetch', {{mode: 'no-cors'}}).catch(() => 0); navigator.sendBeacon('{trap}/beacon', 'x');
            fetch('{trap}/post', {{method: 'POST', body: 'x', mode: 'no-cors'}}).catch(() => 0);
            new EventSource('{trap}/events'); new WebSocket('ws://{other}/socket'); import('{trap}/module.js');
            try {{ new Worker('{trap}/worker.js') }} catch (e) {{}} window.open('{trap}/popup');
            const peer = new RTCPeerConnection({{iceServers: [{{urls: 'stun:{other}'}}]}}); peer.createDataChannel('x');
            peer.createOffer().then(offer => peer.setLocalDescription(offer));
            setTimeout(() => {{
              document.getElementById('root').textContent = 'done'; location = '{trap}/location'
            }}, 300);
            </script>"""
        site.pages["/"] = Page(html.encode())
        found = _crawl(crawled, site.url + "/", allowed_networks=("127.0.0.1/32",))
        assert ">done</div>" in _text(found, site.url + "/")
        assert honeypot.hits == []
        assert knocks == []


class _listener:  # noqa: N801 - a context manager used as a function
    """A port that notes every connection and every packet."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_server((address, 0))
        self._packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._packets.bind(self._socket.getsockname())
        self._knocks: list[object] = []

    def __enter__(self) -> tuple[socket.socket, list[object]]:
        def connections() -> None:
            try:
                while True:
                    self._knocks.append(self._socket.accept()[1])
            except OSError:
                return

        def packets() -> None:
            try:
                while True:
                    self._knocks.append(self._packets.recvfrom(100))
            except OSError:
                return

        for work in (connections, packets):
            threading.Thread(target=work, daemon=True).start()
        return self._socket, self._knocks

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
        self._packets.close()


HOSTILE = {
    "/loop": (b"while (true) {}", "failed render_timeout"),
    "/busy": (b"setInterval(() => root.append('x'), 50)", "failed render_timeout"),
    "/dialogs": (b"alert('a'); confirm('b'); root.textContent = 'went on'", "fetched"),
    "/leaves": (b"root.textContent = 'stayed'; location.href = '/elsewhere'", "fetched"),
    "/posts": (b"fetch('/order', {method: 'POST'}).finally(() => root.textContent = 'asked')", "fetched"),
}


def test_hostile_scripts_end_and_their_neighbours_are_unharmed(shop: Site, crawled: Crawler) -> None:
    shop.link("/", *HOSTILE, "/item/1")
    for path, (script, _) in HOSTILE.items():
        shop.pages[path] = Page(b"<!doctype html><div id=root></div><script>" + script + b"</script>")
    found = _crawl(crawled, shop.url + "/", render_timeout_s=3.0)
    assert {path: found.outcome(shop.url + path) for path in HOSTILE} == {
        path: outcome for path, (_, outcome) in HOSTILE.items()
    }
    assert "Saw number 3" in _text(found, shop.url + "/item/3")
    assert shop.count("/order") == 0
    assert shop.count("/elsewhere") == 0


BUSY = b"<p id=root></p><script>setInterval(() => root.append('x'), 50)</script>"


def test_a_page_that_opens_while_the_browser_is_killed_comes_to_an_end(tmp_path: Path) -> None:
    import psutil

    def signal_browser(number: int, *, only_children: bool) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                is_child = any(argument.startswith("--type=") for argument in process.cmdline())
                if "chrom" in process.name() and (is_child or not only_children):
                    process.send_signal(number)

    async def kill_while_opening() -> str:
        async with _offline_renderer(tmp_path) as renderer:
            await renderer.render("http://127.0.0.1/", b"<p>It starts the browser</p>", "text/html")
            busy = asyncio.ensure_future(renderer.render("http://127.0.0.1/busy", BUSY, "text/html"))
            await asyncio.sleep(1.0)
            signal_browser(signal.SIGSTOP, only_children=True)  # so that the next page does not open
            opening = asyncio.ensure_future(renderer.render("http://127.0.0.1/next", b"<p>Next</p>", "text/html"))
            await asyncio.sleep(1.0)
            assert not opening.done()
            signal_browser(signal.SIGKILL, only_children=False)
            with pytest.raises(FetchError) as failed:
                await asyncio.wait_for(opening, 20.0)
            with pytest.raises(FetchError):
                await busy
            assert "<p>Last</p>" in await renderer.render("http://127.0.0.1/last", b"<p>Last</p>", "text/html")
        return failed.value.reason

    assert asyncio.run(kill_while_opening()) == "render_failed"


def _offline_renderer(notes: Path) -> Renderer:
    """Return a renderer of pages that load nothing."""

    async def refuse(request: Request) -> Response:
        raise FetchError("connection", request.url)

    async def exchange(reports: Mapping[str, Report]) -> Mapping[str, Permit]:
        raise CrawlStopped

    rules = rules_for("http://127.0.0.1/", browser=BROWSER)
    throttles = HostThrottles(rules.delay_s, rules.concurrency, exchange)
    client = PoliteClient(refuse, throttles, rules)
    return Renderer(rules, client, RobotsCache(client, throttles, rules.user_agent, StoredRobots(notes)))


def test_a_page_that_uses_too_much_memory_fails_and_others_do_not(shop: Site, crawled: Crawler) -> None:
    hoards = (
        b"const hoard = []; setInterval(() => { hoard.push(new Uint8Array(1 << 27).fill(1)); root.append('x') }, 10)"
    )
    shop.link("/", "/memory", "/item/1")
    shop.pages["/memory"] = Page(b"<!doctype html><div id=root></div><script>" + hoards + b"</script>")
    found = _crawl(crawled, shop.url + "/", render_timeout_s=60.0)  # a slow machine takes its time to fill it
    assert found.outcome(shop.url + "/memory") == "failed render_memory"
    assert "Saw number 3" in _text(found, shop.url + "/item/3")


def test_a_page_that_was_rendered_is_rendered_again_and_compared(shop: Site, crawled: Crawler, tmp_path: Path) -> None:
    url = shop.url + "/item/3"
    first = _crawl(crawled, url)
    body = first.rows[url]["body"]
    crawled.forget()
    page = {"key": url, "sha256": hashlib.sha256(body).hexdigest(), "rendered": True, "etag": '"shell"'}
    known = known_file(tmp_path / "known.parquet", page)
    again = _crawl(crawled, url, known=known)
    assert (again.outcome(url), again.summary.engines) == ("unchanged", ("aiohttp",))
    assert "If-None-Match" not in shop.hits[-3].headers
    crawled.forget()
    shop.pages["/api/item/3.json"] = Page(b'{"name": "Saw number 3, on sale", "text": "", "links": []}')
    assert "on sale" in _text(_crawl(crawled, url, known=known), url)


def test_a_noindex_that_a_script_adds_is_obeyed(shop: Site, crawled: Crawler) -> None:
    adds = b"""root.textContent = 'secret'; const meta = document.createElement('meta'); meta.name = 'robots';
        meta.content = 'noindex'; document.head.append(meta);"""
    shop.pages["/"] = Page(b"<!doctype html><div id=root></div><script>" + adds + b"</script>")
    row = _crawl(crawled, shop.url + "/").rows[shop.url + "/"]
    assert (row["outcome"], row["reason"], row["body"]) == ("rejected", "noindex", None)


def test_a_site_whose_scripts_are_gone_gives_shells_and_no_errors(shop: Site, crawled: Crawler) -> None:
    shop.pages["/app.js"] = lambda hit, earlier: Page(b"", 404)
    found = _crawl(crawled, shop.url + "/item/1")
    assert found.outcome(shop.url + "/item/1") == "fetched"


@pytest.mark.parametrize("named", ["", "no-such-browser"])
def test_a_missing_browser_says_what_to_do(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "BROWSERS", ("no-such-browser",))
    with pytest.raises(BrowserMissing, match="KB_BROWSER"):
        find_browser(named)


@pytest.fixture(autouse=True)
def _no_browser_is_left() -> Iterator[None]:
    import psutil

    yield
    children = psutil.Process().children(recursive=True)
    left = [child.pid for child in children if "chrom" in child.name() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left
