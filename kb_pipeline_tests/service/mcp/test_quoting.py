"""What pages say cannot leave its fence."""

from __future__ import annotations

import pytest

from kb_pipeline.service.mcp.quoting import quoted


@pytest.mark.parametrize("text", ["plain", "```", "a ``` b", "`````\nmore", "```text\n```", "~~~", "` `` ```` `"])
def test_no_text_closes_its_fence(text: str) -> None:
    first, *inner, last = quoted(["a title"], text).split("\n")
    assert first == f"{last}text"
    assert set(last) == {"`"}
    assert len(last) >= 3
    assert last not in "\n".join(inner)
    assert "\n".join(inner) == f"a title\n\n{text}"


def test_titles_and_addresses_take_one_line_each() -> None:
    assert quoted(["a\nb\r\n c", "d"]).split("\n")[1:-1] == ["a b c", "d"]
