"""The tokenizers of the bundled models, and documents of several kinds."""

from __future__ import annotations

import pytest

from kb_pipeline.chunk.split import Tokenizer
from kb_pipeline.embed.tokenizer import open_tokenizer

SENTENCES = (
    "The crawler asks each host for its rules before anything else. It waits as long as the host wishes. "
    "Pages that did not change are skipped by their hash; nothing is embedded twice! Was that so before? "
    "Der Vertrag verlängert sich um zwölf Monate. 検索結果には出典が表示されます。変更は公開されます。 "
)


@pytest.fixture(scope="session", params=["all-MiniLM-L6-v2", "multilingual-e5-small"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return open_tokenizer(request.param)


@pytest.fixture(scope="session")
def minilm() -> Tokenizer:
    return open_tokenizer("all-MiniLM-L6-v2")


@pytest.fixture
def guide() -> str:
    """Return a document like those of a crawl: sections, lists, code, a table."""
    code = "".join(f"    value_{n} = compute({n})  # step {n}\n" for n in range(12))
    table = "| limit | value |\n|---|---|\n" + "".join(f"| pages {n} | {n * 1000} |\n" for n in range(10))
    return (
        f"# Guide\n\n{SENTENCES}\n\n## Install\n\n{SENTENCES * 4}\n\n"
        f"```python\n# not a heading\n{code}```\n\n{SENTENCES}\n\n"
        f"### On Linux\n\n- {SENTENCES}\n- {SENTENCES}\n\n## Limits ##\n\n{SENTENCES}\n\n{table}\n{SENTENCES * 6}\n"
    )
