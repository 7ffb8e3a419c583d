"""The JSON Schema of KB files says what they may say: the examples keep to it, wrong files do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kb_pipeline.spec.json_schema import kb_schema
from kb_pipeline_tests.spec.test_problems import VALID, WRONG, YAML

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs/kb-file.schema.json"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
_BEYOND = ("at most half", "absolute http://", "IANA", "a cron", "give either", "a field may be given once")
"""What a schema does not say."""
TELLABLE = [
    (old, new)
    for old, new, _, field, allowed, _ in WRONG
    if field != YAML and not allowed.startswith(_BEYOND) and not new.endswith(".nan")
]


def _check(body: Any) -> None:
    jsonschema.Draft202012Validator(kb_schema()).validate(body)


def test_it_is_a_schema_and_the_committed_one_is_todays() -> None:
    jsonschema.Draft202012Validator.check_schema(kb_schema())
    assert json.loads(COMMITTED.read_text()) == kb_schema(), "run: kb schema > docs/kb-file.schema.json"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_keeps_to_it_and_names_it_for_editors(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    if isinstance(body, dict):
        _check(body)
        assert path.read_text().startswith("# yaml-language-server: $schema=../docs/kb-file.schema.json\n")


def test_what_is_right_keeps_to_it() -> None:
    _check(yaml.safe_load(VALID))
    _check(yaml.safe_load(VALID.replace("1000", "${PAGES}").replace("{max_shrink: 0.2}", "{queries: golden.yaml}")))


@pytest.mark.parametrize(("old", "new"), TELLABLE)
def test_what_is_wrong_does_not(old: str, new: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        _check(yaml.safe_load(VALID.replace(old, new, 1)))
