"""Every reason code of the stages stands in the table of causes, and none is there that no stage gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline import clean
from kb_pipeline.clean.html.stubs import SENT_ON
from kb_pipeline.clean.notices import REASONS as NOTICES
from kb_pipeline.clean.views import REASONS as VIEWS
from kb_pipeline.fetch.file_tree import REASONS
from kb_pipeline.fetch.web.reasons import FAILED, REJECTED
from kb_pipeline.maintenance.purge import LIFTED
from kb_pipeline.operations.left_out_reasons import CAUSES, NOT_CLEANED, UNDECIDED, cause_of

_MAKERS = {"_rejected": 1, "_failed": 1, "Rejected": 2}
"""What makes a rejection in the clean stage, and which of its arguments is the reason."""


def reasons_of_cleaning() -> Iterator[str]:
    for path in Path(clean.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _MAKERS:
                reason = node.args[_MAKERS[node.func.id]]
                if isinstance(reason, ast.Constant):
                    yield str(reason.value)


def test_every_reason_of_a_fetch_has_a_cause_and_no_other() -> None:
    assert set(CAUSES["fetch"]) == {*REJECTED, *FAILED, *REASONS, LIFTED, UNDECIDED}


def test_every_reason_of_cleaning_has_a_cause_and_no_other() -> None:
    found = set(reasons_of_cleaning())
    assert {"no_text", "timeout", "too_deep"} <= found
    assert set(CAUSES["clean"]) == {*found, *NOTICES, SENT_ON, *VIEWS, LIFTED, NOT_CLEANED}


@pytest.mark.parametrize(("category", "has_remedy"), [("file", False), ("site", False), ("limits", True)])
def test_only_what_is_nobodys_will_has_a_remedy(category: str, has_remedy: bool) -> None:
    causes = [each for stage in CAUSES.values() for each in stage.values() if each.category == category]
    assert causes
    assert {each.remedy is not None for each in causes} == {has_remedy}


@pytest.mark.parametrize("reason", ["http_503", "http_403", "never_heard_of"])
def test_a_status_and_a_code_that_is_not_known_are_failures(reason: str) -> None:
    assert cause_of("fetch", reason).category == "failed"
