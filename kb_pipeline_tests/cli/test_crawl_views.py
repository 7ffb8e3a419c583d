"""What the command line shows of a crawl: other names of a document, what it says of its use, failures and retries."""

from __future__ import annotations

from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site


def test_a_document_is_found_under_the_names_that_lead_to_it(kb: Kb, site: Site) -> None:
    site.redirects["/old-pears"] = "/older-pears"
    site.redirects["/older-pears"] = "/pears"
    home = site.pages["/"].replace("<ul>", '<ul><li><a href="/old-pears">pears, long ago</a></li>')
    site.pages["/"] = home
    site.pages["/pears-copy"] = site.pages["/pears"]
    site.pages["/plums"] = site.pages["/plums"].replace("<ul>", '<ul><li><a href="/pears-copy">copy</a></li>')
    head = '<link rel=alternate hreflang=fr href="/fr/pears"><meta name=robots content="noai, noarchive">'
    for path in ("/pears", "/pears-copy"):
        site.pages[path] = site.pages[path].replace("<title>", f"{head}<title>")
    assert kb.apply(site).status == 0
    assert kb.build().json["status"] == "ready"
    listed = {row["key"].removeprefix(site.url): row["aliases"] for row in kb("documents", "acme/docs", "--json").lines}
    aliases = [site.url + path for path in ("/old-pears", "/older-pears", "/pears-copy")]
    assert listed == {"/": [], "/apples": [], "/pears": aliases, "/plums": [], "/quinces": []}
    page = kb("page", "acme/docs", site.url + "/old-pears", "--json").json
    assert page["key"] == site.url + "/pears"
    assert page["translations"] == {"fr": site.url + "/fr/pears"}
    assert page["consent"]["directives"] == ["noai", "noarchive"]
    assert kb("page", "acme/docs", site.url + "/older-pears", "--raw").out == site.pages["/pears"]
    assert kb("page", "acme/docs", site.url + "/no-such-page").status == 2


def test_a_failure_is_listed_with_its_attempts_and_retried(kb: Kb, site: Site) -> None:
    site.status["/pears"] = 500
    assert kb.apply(site).status == 0
    kb.build()
    (failure,) = kb("failures", "acme/docs", "--json").json
    assert (failure["reason"], failure["attempts"], failure["recoverable"]) == ("http_500", 1, True)
    (told,) = kb("failures", "acme/docs").out.splitlines()
    message = "any other status: 401, 403, 429, 5xx, ..."
    assert told.split("\t")[:8] == [
        failure["id"],
        "site",
        "fetch",
        "http_500",
        f"{site.url}/pears",
        message,
        "yes",
        "1",
    ]
    assert failure["first_seen"] <= failure["last_seen"]
    assert kb("failures", "acme/docs", "--reason", "http_404", "--columns", "key").out == ""
    site.status.clear()
    retried = kb("retry", "acme/docs", "--json")
    assert (retried.status, retried.json) == (0, [])
    assert kb("failures", "acme/docs", "--json").json == []


def test_a_page_without_a_document_is_asked_for_at_once_by_its_address(kb: Kb, site: Site) -> None:
    for path in ("/pears", "/plums"):
        site.status[path] = 500
    assert kb.apply(site).status == 0
    kb.build()
    site.status.pop("/pears")
    retried = kb("retry", "acme/docs", f"{site.url}/pears?utm_source=mail#ripe", "--json")
    assert (retried.status, retried.json) == (0, []), retried.err
    (left,) = kb("failures", "acme/docs", "--json").json
    assert left["key"] == f"{site.url}/plums"
    assert kb("retry", "acme/docs", left["id"], "--json").json[0]["id"] == left["id"]
    site.answered.clear()
    never_met = kb("retry", "acme/docs", f"{site.url}/cherries")
    assert never_met.status == 2
    assert "kb explain acme/docs URL" in " ".join(never_met.err.split())
    assert not site.answered
