"""Which pages scripts are to fill: the crawler and cleaning must judge alike, though each has a parser of its own."""

from __future__ import annotations

import pytest

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.fetch.web.parse.html_links import parse_page
from kb_pipeline.model import Rejected
from kb_pipeline_tests.clean.pages import raw

CONTENT_TYPE = "text/html; charset=utf-8"
SCRIPT = "<script src=/main.js></script>"
ENABLE = "<noscript>You need to enable JavaScript to run this app.</noscript>"

SHELLS = {
    "create-react-app": f"{ENABLE}<div id=root></div>",
    "vue": "<noscript><strong>We're sorry but this doesn't work without JavaScript enabled.</strong></noscript>"
    "<div id=app></div>",
    "angular": "<app-root>Loading...</app-root>",
    "custom element with a splash": "<my-app><h1>Acme Portal</h1><p>Loading, please wait…</p></my-app>",
    "next": "<div id=__next><div role=status><span>Loading...</span></div></div>"
    '<script id=__NEXT_DATA__ type=application/json>{"props": {"text": "not yet a text of the page at all"}}</script>',
    "nuxt": "<div id=__nuxt><style>.a{}</style><div id=nuxt-loading><div>Loading...</div></div></div>",
    "unfilled template": "<div ng-app=shop><h1>{{ page.title }}</h1><p>{{ page.body }}</p></div>",
    "frame around nothing": "<header><h1><a href=/>Acme</a></h1><nav><a href=/a>Home</a><a href=/b>Products</a></nav>"
    "</header><div id=root></div><footer><p>© 2024 Acme Inc. All rights reserved.</p></footer>",
    "frame around an unknown mount": "<a href=#main>Skip to the content of this page</a><nav><a href=/a>Home page</a>"
    "<a href=/b>Our products</a></nav><main></main>",
    "plea outside noscript": "<div id=root><p>This application requires JavaScript. Turn it on and reload.</p></div>",
    "german": "<noscript>Bitte aktivieren Sie JavaScript.</noscript><div id=app>Wird geladen …</div>",
    "japanese": "<div id=app>読み込み中...</div>",
    "chinese": "<noscript>请启用 JavaScript</noscript><div id=app>正在加载，请稍候</div>",
}
PAGES = {
    "prose beside an empty widget": "<p>The office is closed until 2 January.</p><div id=app></div>",
    "few words below a heading": "<h1>Hours</h1><p>Mon-Fri 9-17</p><div id=root></div>",
    "javadoc without uses": "<noscript><div>JavaScript is disabled on your browser.</div></noscript><header><nav>"
    "<a href=/>Package</a></nav></header><main><h1>Uses of Class Fig</h1>No usage of Fig</main>",
    "javadoc without entries": "<noscript><div>JavaScript is disabled on your browser.</div></noscript>"
    "<main><h1>Deprecated API</h1><h2>Contents</h2></main>",
    "links only": "<h1>Downloads</h1><ul><li><a href=/1>gate 2.4 tar gz</a></li><li><a href=/2>gate 2.4 zip</a></li>"
    "<li><a href=/3>gate setup for Windows</a></li></ul><div id=app></div>",
    "rendered on the server": "<div id=__next><h1>Site map</h1><a href=/1>Lamps</a> <a href=/2>Chairs</a></div>",
    "japanese prose": f"{ENABLE}<p>本日は臨時休業いたします。</p><div id=app></div>",
    "thai prose": f"{ENABLE}<p>ร้านปิดวันอาทิตย์และวันหยุดนักขัตฤกษ์</p>",
    "noscript for a counter": '<noscript><img src="/count?javascript=off" alt=""></noscript><p>We have moved.</p>',
    "declarative shadow root": "<my-card><template shadowrootmode=open><p>Goods may be returned within 45 days.</p>"
    "</template></my-card>",
    "about JavaScript": "<h1>How do I enable JavaScript?</h1><p>Open the settings and tick the second box.</p>",
}


def _judged(body: str) -> tuple[bool, bool]:
    """Return what the crawler and what cleaning say of a page."""
    html = f"<!doctype html><html><head><title>T</title>{SCRIPT}</head><body>{body}</body></html>"
    cleaned = read_html(raw(html, CONTENT_TYPE), CleaningRules())
    is_rejected = isinstance(cleaned, Rejected) and cleaned.reason == "needs_javascript"
    return parse_page(html.encode(), CONTENT_TYPE, "https://site.test/", 100).is_shell, is_rejected


@pytest.mark.parametrize("body", SHELLS.values(), ids=SHELLS)
def test_crawler_and_cleaning_take_it_for_a_shell(body: str) -> None:
    assert _judged(body) == (True, True)


@pytest.mark.parametrize("body", PAGES.values(), ids=PAGES)
def test_crawler_and_cleaning_take_it_for_a_page(body: str) -> None:
    assert _judged(body) == (False, False)


def test_a_page_without_scripts_is_never_a_shell() -> None:
    body = b"<body><div id=root></div></body>"
    assert not parse_page(body, CONTENT_TYPE, "https://site.test/", 100).is_shell
