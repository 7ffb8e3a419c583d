"""The prompt that has a model answer from a KB, with citations."""

from __future__ import annotations

from collections.abc import Mapping

from mcp.types import GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent

from kb_pipeline.errors import UsageError
from kb_pipeline.installation import Installation
from kb_pipeline.service.mcp.quoting import IS_DATA
from kb_pipeline.service.mcp.tools import kb_named
from kb_pipeline.service.names import kb_id

_MAX_QUESTION_CHARS = 4000
ANSWER = Prompt(
    name="answer_from_kb",
    title="Answer from a knowledge base",
    description="Answer a question from one knowledge base only, with a citation for every statement.",
    arguments=[
        PromptArgument(name="kb", description="The knowledge base's id, tenant.kb.", required=True),
        PromptArgument(name="question", description="What is to be answered.", required=True),
    ],
)
_TEXT = """Answer the question at the end from the knowledge base {kb} only.

1. Call search_kb with kb={kb} and the question. Where a passage is not enough, call read_document with its document \
and from=its start; where nothing fits, search once more in other words.
2. State only what the passages say, and end each statement with its citation, [n], as the passages are numbered.
3. List under the answer, for each [n]: title, url, document, version, and the characters start-end.
4. If the passages do not answer the question, say so instead of answering from elsewhere.

{data}

The question: {question}"""


def get_prompt(home: Installation, name: str, arguments: Mapping[str, str]) -> GetPromptResult:
    """Return the prompt, filled in.

    Raises:
        UsageError: there is no such prompt, or an argument is missing or too long.
        UnknownKb: there is no such KB, or it is another tenant's.
    """
    if name != ANSWER.name:
        raise UsageError(f"there is no such prompt; there is {ANSWER.name}")
    kb, question = (arguments.get(each, "") for each in ("kb", "question"))
    if not kb or not question.strip() or len(kb) > 127 or len(question) > _MAX_QUESTION_CHARS:
        raise UsageError(f"{ANSWER.name} takes kb and question, of at most {_MAX_QUESTION_CHARS} characters")
    named = kb_id(kb_named(home, kb).key)
    text = _TEXT.format(kb=named, question=question.strip(), data=IS_DATA)
    content = TextContent(type="text", text=text)
    return GetPromptResult(description=ANSWER.description, messages=[PromptMessage(role="user", content=content)])
