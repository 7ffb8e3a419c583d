"""Plans, quotas and usage by the command line."""

from __future__ import annotations

import csv
import io

from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site

PLAN = """
plan: small
limits: {pages_per_day: 3, storage: 1 GB, models: [all-MiniLM-L6-v2]}
prices: {all-MiniLM-L6-v2: 2.5}
"""


def test_a_tenant_builds_within_its_plan_and_is_snoozed_beyond_it(kb: Kb, site: Site) -> None:
    (kb.folder / "small.yaml").write_text(PLAN)
    assert kb("tenant", "create", "acme", "--plan", "small").status == 2  # no such plan yet
    assert kb("plan", "apply", "small.yaml", "--json").json == [{"plan": "small", "action": "created"}]
    assert kb("tenant", "create", "acme", "--plan", "small").status == 0
    assert kb("plan", "show", "small", "--json").json["limits"]["storage"] == 10**9
    assert [row["plan"] for row in kb("plan", "list", "--json").json] == ["default", "small"]

    refused = kb.apply(site, embedding={"model": "multilingual-e5-small"})
    assert refused.status == 1
    assert "models is 'multilingual-e5-small', allowed is all-MiniLM-L6-v2" in refused.err
    assert kb.apply(site).status == 0
    built = kb.build()
    assert (built.status, built.json["status"]) == (0, "ready_with_warnings")
    assert "2 pages were not asked for" in built.err
    snoozed = kb.build()
    assert (snoozed.status, snoozed.json["status"], snoozed.json["version"]) == (4, "snoozed", None)
    assert "pages_per_day is 3, allowed is 3; it renews at" in snoozed.err
    assert kb("status", "acme/docs", "--json").json["live_version"] == 1

    quota = {row["limit"]: row for row in kb("quota", "acme", "--json").json}
    assert (quota["pages_per_day"]["left"], quota["documents"]["used"], quota["documents"]["left"]) == (0, 3, None)
    assert quota["pages_per_day"]["renews_at"] > quota["pages_per_day"]["renews_at"][:10]
    assert 0 < quota["storage"]["used"] < quota["storage"]["allowed"]
    assert "unlimited" in kb("quota", "acme").out

    by_operation = {row["operation"]: row for row in kb("usage", "acme", "--by", "operation", "--json").lines}
    assert by_operation["fetch"]["pages"] == 3
    tokens = by_operation["embed"]["tokens"]
    assert by_operation["embed"]["cost"] == round(tokens * 2.5) / 1_000_000
    rows = list(csv.DictReader(io.StringIO(kb("usage", "--kb", "docs", "--csv").out)))
    assert sum(int(row["tokens"]) for row in rows) == tokens
    assert {row["model"] for row in rows if int(row["tokens"])} == {"all-MiniLM-L6-v2"}
    assert kb("usage", "nobody").status == 2
    assert kb("usage", "acme", "--from", "soon").status == 2
    lines = [line.split("\t") for line in kb("usage", "acme").out.splitlines()]
    assert {line[3] for line in lines} >= {"fetch", "embed"}
