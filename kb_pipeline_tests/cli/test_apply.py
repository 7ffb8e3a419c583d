"""`kb apply`, `kb show` and `kb schema`: KB files by path, by folder and on standard input, and what they would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kb_pipeline.cli.app import app
from kb_pipeline.errors import InvalidSpec, UsageError
from kb_pipeline.spec.json_schema import kb_schema
from kb_pipeline_tests.published import Published

YAML = """\
tenant: acme
kb: {kb}
# written by hand
sources:
  - {{name: site, type: web, start_urls: ["https://docs.example.com/"]}}
"""


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs, beside a home without KBs."""
    del home
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kb(*arguments: str, given: str = "") -> str:
    result = CliRunner().invoke(app, list(arguments), input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_stands_for_its_kb_files(folder: Path) -> None:
    kbs = folder / "kbs"
    (kbs / "deeper").mkdir(parents=True)
    for name in ("b", "a"):
        (kbs / f"{name}.yaml").write_text(YAML.format(kb=name))
    for name in (".hidden.yaml", "notes.txt", "deeper/c.yaml"):
        (kbs / name).write_text(YAML.format(kb="c"))
    (kbs / "golden.yml").write_text("- {query: how to start, text: make demo}\n")
    (kbs / "gold.yaml").write_text("plan: gold\n")
    assert kb("apply", "kbs").splitlines() == ["acme/a: created", "acme/b: created"]
    assert json.loads(kb("apply", "kbs", "--json")) == [{"kb": f"acme/{name}", "action": "unchanged"} for name in "ab"]


def test_a_wrong_file_of_a_folder_stops_all(folder: Path) -> None:
    (folder / "a.yaml").write_text(YAML.format(kb="a"))
    (folder / "b.yaml").write_text("tenant: [")
    with pytest.raises(InvalidSpec, match=r"b\.yaml:1:10: "):
        kb("apply", ".")
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="no KB files"):
        kb("apply", "empty")
    assert json.loads(kb("apply", "a.yaml", "--json"))[0]["action"] == "created"


def test_standard_input_is_a_file_too(folder: Path) -> None:
    del folder
    assert kb("apply", "-", given=YAML.format(kb="a")) == "acme/a: created\n"
    with pytest.raises(InvalidSpec, match=r"standard input:3:1: max_pages: got an unknown field"):
        kb("apply", "-", given=YAML.format(kb="a").replace("# written by hand", "max_pages: 3"))


def test_a_dry_run_changes_nothing_and_says_what_would_change(folder: Path) -> None:
    (folder / "a.yaml").write_text(YAML.format(kb="a"))
    assert kb("apply", "a.yaml", "--dry-run").splitlines()[0] == "acme/a: would create"
    assert kb("apply", "a.yaml") == "acme/a: created\n"
    (folder / "a.yaml").write_text(YAML.format(kb="a") + "retention: {versions: 2}\n")
    assert kb("apply", "a.yaml", "--dry-run").splitlines() == [
        "acme/a: would update",
        "  retention.versions: not given -> 2",
    ]
    (planned,) = json.loads(kb("apply", "a.yaml", "--dry-run", "--json"))
    assert planned == {
        "kb": "acme/a",
        "action": "updated",
        "dry_run": True,
        "changes": [{"field": "retention.versions", "before": None, "after": 2}],
        "effects": [],
    }
    assert json.loads(kb("show", "acme/a", "--json"))["revision"] == 1


def test_a_dry_run_on_a_published_kb_says_what_it_costs(published: Published) -> None:
    file = published.kb.folder / "docs.yaml"
    spec = json.loads(file.read_text())
    file.write_text(
        json.dumps({**spec, "chunking": {"max_tokens": 64}, "embedding": {"model": "multilingual-e5-small"}})
    )
    told = published.kb("apply", "docs.yaml", "--dry-run").out
    assert 'embedding.model: "all-MiniLM-L6-v2" -> "multilingual-e5-small"' in told
    assert "chunks are embedded again with multilingual-e5-small" in told
    assert "documents are chunked again" in told
    assert published.kb("apply", "docs.yaml", "--json").json == [{"kb": "acme/docs", "action": "updated"}]


def test_the_file_in_force_is_shown_as_it_was_applied(folder: Path) -> None:
    (folder / "golden.yaml").write_text("- {query: how to start, text: make demo}\n")
    (folder / "a.yaml").write_text(YAML.format(kb="a") + "publish: {queries: golden.yaml}\n")
    kb("apply", "a.yaml")
    shown = kb("show", "acme/a")
    assert kb("apply", "-", given=shown) == "acme/a: unchanged\n"
    assert "text: make demo" in shown
    fields = json.loads(kb("show", "acme/a", "--json"))
    assert (fields["revision"], fields["yaml"].rstrip("\n")) == (1, shown.rstrip("\n"))
    assert fields["applied_by"]


def test_the_schema_is_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_HOME", str(folder / "none"))
    assert json.loads(kb("schema")) == kb_schema()
    assert not (folder / "none").exists()
