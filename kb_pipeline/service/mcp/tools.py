"""What a tool is: its name, what it takes and returns, who may call it, and whether it changes anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from mcp.types import Tool as ToolShown
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from kb_pipeline.errors import NotAllowed, UsageError
from kb_pipeline.index.documents import StoredDocument
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.model import JsonObject
from kb_pipeline.service.mcp.budget import DEFAULT_TOKENS, LEAST_TOKENS, MOST_TOKENS
from kb_pipeline.service.mcp.results import Result
from kb_pipeline.service.names import open_kb

KbName = Annotated[str, Field(max_length=127, description="The knowledge base's id, tenant.kb, as list_kbs gives it.")]
VersionNumber = Annotated[
    int | None, Field(ge=1, le=2**31 - 1, description="Number of the version to read; the live one by default.")
]
_NAME_CHARS, _PLACE_CHARS = 60, 200
_BRANCHES = ("comparison", "compound")
"""Of a filter: what validation names beside its fields."""
_DOCUMENT_ID = re.compile(r"[0-9a-f]{32}")


class Arguments(BaseModel):
    """Base of what tools take."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Bounded(Arguments):
    """Base of what tools take whose results may be long."""

    max_tokens: int = Field(
        DEFAULT_TOKENS,
        ge=LEAST_TOKENS,
        le=MOST_TOKENS,
        description="The result takes no more (cl100k tokens); it says what it leaves out and how to go on.",
    )


class Paged(Bounded):
    """Base of what tools take whose results go on with a cursor."""

    cursor: str | None = Field(
        None, max_length=400, description="Of the result before, which was asked for with the same arguments."
    )


_Arguments = TypeVar("_Arguments", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Tool(Generic[_Arguments]):
    """A tool, of which nothing is made from what pages say."""

    name: str
    title: str
    description: str
    operation: str
    """By which the caller's rights are decided; who may not do it does not see the tool."""
    arguments: type[_Arguments]
    result: type[Result]
    call: Callable[[Installation, _Arguments], Result]
    """Answers one call; it blocks."""
    changes: bool = False
    """Whether it does more than read."""

    def is_allowed(self, home: Installation) -> bool:
        """Return whether the caller may do what the tool does."""
        try:
            home.caller.require(self.operation)
        except NotAllowed:
            return False
        return True

    def run(self, home: Installation, given: dict[str, Any]) -> Result:
        """Check the arguments and answer.

        Raises:
            UsageError: arguments are not allowed; it names each, and what is, and repeats no value.
            KbError: what was asked for cannot be done.
        """
        try:
            arguments = self.arguments.model_validate(given)
        except ValidationError as error:
            raise UsageError(f"{self.name}: {'; '.join(_told(error, self.arguments))}") from None
        return self.call(home, arguments)

    def shown(self) -> ToolShown:
        """Return how it is listed."""
        return ToolShown(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=_schema(self.arguments, "validation"),
            output_schema=_schema(self.result, "serialization"),
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=not self.changes,
                destructive_hint=False,
                idempotent_hint=not self.changes,  # asked for again once it has begun, a refresh is another one
                open_world_hint=self.changes,  # it fetches what is at the sources
            ),
        )


def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> JsonObject:
    """Return the schema of a model, without what the tool itself says already."""
    schema = model.model_json_schema(mode=mode, schema_generator=_Untitled)
    return {name: value for name, value in schema.items() if name not in {"title", "description"}}


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that only repeat the names of fields: hosts put schemas before their model."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - as Pydantic declares it
        return False


def kb_named(home: Installation, name: str) -> Kb:
    """Return the KB of that id, also written as `tenant/kb`; raises UnknownKb."""
    return open_kb(home, name.replace("/", ".", 1))


def find_document(kb: Kb, name: str, version: int | None) -> StoredDocument:
    """Return the document of that id or key; raises UnknownDocument."""
    read = kb.document_by_id if _DOCUMENT_ID.fullmatch(name) else kb.document
    return read(name, as_of=version)


def _told(error: ValidationError, arguments: type[Arguments]) -> list[str]:
    known = [field.alias or name for name, field in arguments.model_fields.items()]
    told = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in each["loc"] if part not in _BRANCHES)
        if each["type"] == "extra_forbidden" and len(each["loc"]) == 1:
            told.append(f"{place[:_NAME_CHARS]}: there is no such argument; there are {', '.join(known)}")
        else:
            told.append(f"{place[:_PLACE_CHARS]}: {each['msg']}")
    return list(dict.fromkeys(told))
