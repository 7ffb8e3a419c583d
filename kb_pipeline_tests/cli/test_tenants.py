"""Tenants on the command line: made, suspended, resumed; and what one may never see of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import AuditEntry
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site


def test_a_tenant_comes_with_its_first_kb_and_is_listed(kb: Kb, site: Site) -> None:
    kb.apply(site)
    kb("tenant", "create", "globex")
    rows = kb("tenant", "list", "--json").json
    assert [(row["tenant"], row["plan"], row["status"], row["kbs"]) for row in rows] == [
        ("acme", "default", "active", 1),
        ("globex", "default", "active", 0),
    ]
    assert "default" in kb("tenant", "show", "globex").out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["create", "acme"], "there is such a tenant already"),
        (["create", "../etc"], "is not a KB key"),
        (["show", "nobody"], "no such tenant here; create it with: kb tenant create nobody"),
        (["suspend", "nobody"], "no such tenant"),
    ],
)
def test_what_cannot_be_done_with_a_tenant_says_why(kb: Kb, command: list[str], said: str) -> None:
    kb("tenant", "create", "acme")
    refused = kb("tenant", *command)
    assert refused.status == 2
    assert said in refused.err


def test_a_suspended_tenant_is_neither_refreshed_nor_read_until_it_is_resumed(published: Published) -> None:
    kb, site = published.kb, published.site
    assert kb("tenant", "suspend", "acme", "--reason", "invoice 17 is open").status == 0
    reads = (["search", "acme/docs", "apples"], ["documents", "acme/docs"], ["page", "acme/docs", f"{site.url}/apples"])
    for command in (["build", "acme/docs"], *reads, ["export", "acme/docs", "out"]):
        refused = kb(*command)
        assert refused.status == 1
        assert "tenant acme is suspended: invoice 17 is open" in refused.err
    asked = site.asked.total()
    kb("tenant", "resume", "acme")
    assert kb("search", "acme/docs", "apples", "--json").json["hits"]
    assert kb("build", "acme/docs", "--json").json["status"] == "unchanged"
    assert site.asked.total() > asked


def test_what_was_done_is_in_the_audit_log_which_shows_tampering(kb: Kb, site: Site, home: Path) -> None:
    kb.apply(site)
    kb("tenant", "suspend", "acme", "--reason", "a test")
    entries = kb("audit", "list", "acme", "--json").lines
    assert [entry["action"] for entry in entries] == ["tenant.create", "kb.apply", "tenant.suspend"]
    assert "tenant.suspend" in kb("audit", "list", "acme").out
    assert kb("audit", "verify").status == 0
    with Database(load_settings().database_url).write_all() as session:
        session.get_one(AuditEntry, ("acme", 2)).actor = "nobody"
    found = kb("audit", "verify", "--json")
    assert (found.status, found.json[0]["broken_at"]) == (1, 2)
