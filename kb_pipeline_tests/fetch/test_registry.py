"""Every type of source has a page in the docs, whose example is valid, names its fields and does what the page says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from kb_pipeline.fetch import journal
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.fetch.source import FetchJob, Known, Unlimited
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.spec.sources import SourceType

DOCS = Path(__file__).parents[2] / "docs/sources"


def _example(source_type: str) -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / f"{source_type}.md").read_text("utf-8"), re.DOTALL)
    return str(block)


def test_each_type_is_registered_specified_and_told_of() -> None:
    assert set(SOURCE_TYPES) == set(get_args(SourceType)) == {path.stem for path in DOCS.glob("*.md")} - {"README"}
    listed = re.findall(r"\[(\w+)\]\(\w+\.md\)", (DOCS / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(SOURCE_TYPES)


@pytest.mark.parametrize("source_type", get_args(SourceType))
def test_the_example_is_valid_and_names_every_field(source_type: str) -> None:
    (source,) = parse_spec(_example(source_type), f"{source_type}.md").sources
    assert source.type == source_type
    fields = yaml.safe_load(_example(source_type))["sources"][0]
    assert set(fields) | {"limits"} >= set(type(source).model_fields)


def test_the_example_of_files_reads_what_the_page_says(tmp_path: Path, home: Path) -> None:
    del home
    for key in ("manuals/a.md", "manuals/x/b.md", "manuals/drafts/c.md", "notes/d.txt", "notes/e/f.txt", "g.html"):
        path = tmp_path / "docs" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
        os.utime(path, (0, 0))
    (given,) = parse_spec(_example("files").replace("/srv/docs", str(tmp_path / "docs")), "files.md").sources
    source = SOURCE_TYPES["files"].open_source(given, load_settings(), (), is_operator=True)
    job = FetchJob(
        Known(None), tmp_path / "journal", tmp_path, lambda done, total: None, Unlimited(), LocalHostScheduler()
    )  # fmt: skip
    assert source.fetch(job).complete
    found = journal.read_outcomes(job.journal, SOURCE_TYPES["files"].ROWS.schema())
    assert found.column("key").to_pylist() == ["g.html", "manuals/a.md", "manuals/x/b.md", "notes/d.txt"]
