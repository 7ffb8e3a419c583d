"""What people decide by the command line: approve, roll back, force, retry, erase."""

from __future__ import annotations

from typing import Any

from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published


def statuses(kb: Kb) -> dict[int, str]:
    return {row["version"]: row["status"] for row in kb("versions", "acme/docs", "--json").json}


def live(kb: Kb) -> Any:
    return kb("status", "acme/docs", "--json").json["live_version"]


def test_a_held_version_is_approved_rolled_back_and_forced_through_again(published: Published) -> None:
    kb, site = published.kb, published.site
    site.put("/", "Orchard", "The handbook of our orchard.")
    for path in ("/apples", "/pears", "/plums"):
        del site.pages[path]
    held = kb.build()
    assert (held.status, held.json["status"], held.json["version"]) == (3, "held", 2)
    assert "3 of 5 documents vanished (60%); allowed are 20%" in held.err
    assert "Let it through with: kb approve acme/docs 2" in held.err
    assert kb("diff", "acme/docs", "1", "2", "--json").json["documents"]["removed"] == 3
    assert kb("approve", "acme/docs", "1").status == 2

    approved = kb("approve", "acme/docs", "2", "--json")
    assert (approved.status, approved.json["status"], live(kb)) == (0, "published", 2)
    assert kb("approve", "acme/docs", "2").status == 2

    back = kb("rollback", "acme/docs", "1", "--json")
    assert (back.status, back.json["from"], live(kb)) == (0, 2, 1)
    assert statuses(kb) == {1: "published", 2: "rolled_back"}
    hits = kb("search", "acme/docs", "plums", "--json").json
    assert (hits["version"], len(hits["hits"])) == (1, 5)
    assert kb("rollback", "acme/docs", "1").status == 2
    assert kb("rollback", "acme/docs", "9").status == 2

    again = kb.build()
    assert (again.status, again.json["status"], again.json["version"]) == (3, "held", 3)
    assert "would bring back" in again.err
    assert "version 2, which was rolled back" in again.err
    assert live(kb) == 1

    site.status["/quinces"] = 403
    forced = kb("build", "acme/docs", "--force", "--json")
    assert (forced.status, forced.json["status"]) == (0, "ready_with_warnings"), forced.err
    assert live(kb) == forced.json["version"] == 4
    assert statuses(kb) == {1: "published", 2: "rolled_back", 3: "superseded", 4: "published"}

    (failure,) = (row for row in kb("failures", "acme/docs", "--json").json if row["reason"] == "http_403")
    assert kb("retry", "acme/docs", "no-such-id").status == 2
    site.status.clear()
    retried = kb("retry", "acme/docs", failure["id"], "--json")
    assert (retried.status, retried.json) == (0, [])

    erased = kb("erase", "acme/docs", f"{site.url}/quinces", "--yes", "--json")
    assert (erased.status, erased.json["status"], erased.json["versions"]) == (0, "erased", [1, 2, 4])
    assert kb("page", "acme/docs", f"{site.url}/quinces").status == 2
    assert kb("page", "acme/docs", f"{site.url}/quinces", "--as-of", "1").status == 2
    assert kb("erase", "acme/docs", f"{site.url}/nothing", "--yes").status == 2
