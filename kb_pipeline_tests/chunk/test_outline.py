"""Where the blocks of a Markdown text start."""

from __future__ import annotations

from kb_pipeline.chunk.outline import read_outline


def test_fence_inside_a_list_item_is_code() -> None:
    markdown = (
        "1. ```\n   # no heading\n\n   | no table |\n   ```\n\n2. Then:\n\n   - b\n\n"
        "     ```sh\n     # neither\n     ```\n\n# End\n"
    )
    outline = read_outline(markdown)
    assert outline.paths == [("End",)]
    code = [markdown[slice(*span)] for start in outline.starts if (span := outline.unsplittable_at(start))]
    assert [block.split("\n")[0].strip() for block in code] == ["1. ```", "```sh"]
