"""What a reader sees on each page of the cases is in its document and its chunks, and nothing else."""

from __future__ import annotations

import pytest

from kb_pipeline.chunk.context import context_line
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.split import Tokenizer, chunk_document
from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.model import Document
from kb_pipeline_tests.clean.pages import raw
from kb_pipeline_tests.page_cases.cases import Case, read_cases
from kb_pipeline_tests.page_cases.checks import Chunk, Outcome, problems

CASES = [case for case in read_cases() if case.routes is None]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(ChunkingRules().tokenizer)


def test_all_cases_are_here() -> None:
    assert len(CASES) >= 164


@pytest.mark.parametrize("case", CASES, ids=str)
def test_document_says_what_the_page_shows(case: Case, tokenizer: Tokenizer) -> None:
    page = raw(case.body, case.content_type, f"http://127.77.0.1{case.path}")
    result = read_html(page, CleaningRules())
    if not isinstance(result, Document):
        outcome = Outcome(reason=result.reason)
    else:
        rules = ChunkingRules()
        chunks = [
            Chunk(chunk.text, tuple(chunk.headings), context_line(result.title, chunk.headings, chunk.text))
            for chunk in chunk_document(result.markdown, result.title, rules, tokenizer)
        ]
        outcome = Outcome(result.markdown, result.title, result.language, chunks)
    found = problems(case.checks, outcome)
    assert not found, f"{found}\n{outcome.markdown}"
