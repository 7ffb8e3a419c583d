"""A home backed up and restored by the command line alone, Dagster beginning anew."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.databases import ON_POSTGRES, control_url
from kb_pipeline_tests.published import Published


def test_a_restored_home_answers_and_is_refreshed(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = published.kb
    made = kb("backup", "saved", "--json")
    assert (made.status, made.json["versions"]) == (0, 1), made.err
    before = kb("search", "acme/docs", "ripe pears", "--json").json
    assert kb("restore", "saved").status == 2, "this home is not empty"
    (kb.folder / "copy").mkdir()
    (kb.folder / "copy/models").symlink_to((kb.folder / "home/models").resolve())  # converting takes seconds
    if ON_POSTGRES:
        refused = kb("restore", "saved", "--into", "copy")
        assert (refused.status, "KB_DATABASE_URL" in refused.err) == (2, True), "it is the first home's database"
        monkeypatch.setenv("KB_DATABASE_URL", control_url(kb.folder / "copy"))
    restored = kb("restore", "saved", "--into", "copy", "--json")
    assert (restored.status, restored.json["live_versions"]) == (0, ["acme/docs 1"]), restored.err
    monkeypatch.setenv("KB_HOME", str(kb.folder / "copy"))
    assert kb("search", "acme/docs", "ripe pears", "--json").json == before
    assert kb.build().json["status"] == "unchanged"
