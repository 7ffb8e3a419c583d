"""The tags by which a run is told what it is to do beside the usual."""

from __future__ import annotations

import pytest

from kb_pipeline.defs.partitions import FORCE_TAG, RETRY_TAG, ids_of, option_tags

IDS = ("0" * 32, "f" * 32)


def test_an_option_is_on_or_has_a_value() -> None:
    assert option_tags(["force", "retry"]) == {FORCE_TAG: "true", RETRY_TAG: "true"}
    assert option_tags([f"retry={IDS[0]}"]) == {RETRY_TAG: IDS[0]}


def test_the_ids_of_a_tag_are_read_back() -> None:
    assert ids_of(option_tags([f"retry={','.join(IDS)}"])[RETRY_TAG]) == set(IDS)


@pytest.mark.parametrize("tag", [None, "", "true", "false", "') OR 1=1 --", "f" * 31])
def test_what_is_no_id_names_nothing(tag: str | None) -> None:
    assert ids_of(tag) == frozenset()
