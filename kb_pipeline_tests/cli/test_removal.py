"""Deleting a tenant or a KB by the command line: everything of it goes, nothing of anybody else."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline_tests.databases import ON_POSTGRES, control_url, rows_of
from kb_pipeline_tests.kb import Done, Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site, serve_site

CANARY = "zanzibarite"


def files_with(home: Path, *words: str) -> dict[str, str]:
    """Return the files below a folder that contain a word, whatever their format."""
    found: dict[str, str] = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and "models" not in path.parts:
            body = path.read_bytes()
            found |= {str(path.relative_to(home)): word for word in words if word.encode() in body}
    return found


def rows_with(home: Path, word: str) -> set[str]:
    """Return the tables of the control plane with a row that contains the word; on Postgres also Dagster's."""
    return {table for table, row in rows_of(control_url(home)) if word in row}


def delete(kb: Kb, *what: str) -> Done:
    done = kb(*what, "--yes", "--json")
    assert done.status == 0, done.err
    return done


def test_a_deleted_tenant_is_found_nowhere_but_in_its_receipts_and_the_other_one_stays(published: Published) -> None:
    kb, home = published.kb, published.kb.folder / "home"
    with serve_site() as secret:
        secret.put("/", "Mine", f"The {CANARY} is a mineral that only we know how to find.")
        kb.apply(secret, kb="wiki", tenant="globex")
        assert kb("build", "globex/wiki", "--json").status == 0
    before = kb("search", "acme/docs", "ripe pears", "--json").json
    assert files_with(home, CANARY)
    receipt = delete(kb, "tenant", "delete", "globex", "--now").json
    assert receipt["status"] == "removed"
    assert {check["found"] for check in receipt["checks"]} == {0}
    removed = {place["place"]: place["removed"] for place in receipt["places"]}
    assert removed["data/globex"] > 10
    assert removed["Dagster runs"] == removed["Dagster partitions"] == 1
    assert files_with(home, CANARY) == {}
    assert set(files_with(home, "globex")) == (set() if ON_POSTGRES else {"control.db"})
    assert rows_with(home, CANARY) == set()
    assert rows_with(home, "globex") == {"retired_keys", "audit"}
    assert kb("search", "acme/docs", "ripe pears", "--json").json == before
    assert kb.build().json["status"] == "unchanged"
    assert kb("audit", "verify").status == 0
    assert delete(kb, "tenant", "delete", "globex", "--now").json == receipt
    assert kb("search", "globex/wiki", CANARY).status == 2


def test_a_deletion_can_be_taken_back_before_its_time(kb: Kb) -> None:
    assert kb("tenant", "create", "globex").status == 0
    shown = kb("tenant", "delete", "globex", "--grace", "12h", "--json").json
    assert (shown["status"], shown["delete_at"] > shown["created_at"]) == ("deleting", True)
    assert kb("tenant", "delete", "globex", "--grace", "soon").status == 2
    assert kb("tenant", "delete", "globex", "--now").status == 2, "nobody is there to be asked"
    assert kb("tenant", "resume", "globex", "--json").json["status"] == "active"


def test_the_key_of_a_deleted_kb_is_taken_knowingly_only(kb: Kb, site: Site) -> None:
    kb.apply(site)
    assert kb("delete", "acme/docs").status == 2, "nobody is there to be asked"
    planned = kb("delete", "acme/docs", "--dry-run", "--json").json
    assert (planned["documents"], planned["versions"]) == (0, [])
    assert {"table kbs"} <= {place["place"] for place in planned["places"]}
    assert kb("delete", "acme/docs", "--dry-run").out.startswith("nothing was removed; kb delete would remove:")
    assert delete(kb, "delete", "acme/docs").json["status"] == "removed"
    refused = kb.apply(site)
    assert (refused.status, "--reuse-key" in refused.err) == (2, True)
    assert kb("apply", "docs.yaml", "--reuse-key", "--json").json == [{"kb": "acme/docs", "action": "created"}]
    assert kb.apply(site).json == [{"kb": "acme/docs", "action": "unchanged"}]
    assert kb("versions", "acme/docs", "--json").json == []
