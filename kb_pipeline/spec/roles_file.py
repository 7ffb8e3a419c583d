"""The roles file: what each role that a token names may do, and in which KBs, validated once at the border."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field

from kb_pipeline.spec.yaml_file import FileKind, Slug, Strict, read_file


class RoleSpec(Strict):
    """What the holder of a role may do."""

    scopes: Annotated[list[Literal["read", "build", "manage", "admin"]], Field(min_length=1)]
    """Of a tenant's own things: none includes another."""
    kbs: Annotated[list[Slug], Field(min_length=1, max_length=1000)] | None = None
    """The only KBs that may be seen, by their names within the tenant; without it all of them."""


class RolesSpec(Strict):
    """The roles of an installation; those that it does not name keep what they are without a file."""

    roles: dict[Annotated[str, Field(min_length=1, max_length=200)], RoleSpec]


_ROLES = FileKind("roles", RolesSpec, ("roles",))
BUILT_IN: dict[str, RoleSpec] = {
    "reader": RoleSpec(scopes=["read"]),
    "editor": RoleSpec(scopes=["read", "build"]),
    "manager": RoleSpec(scopes=["read", "build", "manage"]),
    "admin": RoleSpec(scopes=["read", "build", "manage", "admin"]),
}
"""What roles may do that no file names."""


def load_roles(path: Path | None) -> dict[str, RoleSpec]:
    """Return every role by name, those of the file before those that are built in; raise InvalidSpec."""
    written = cast("RolesSpec", read_file(path, _ROLES).validate()).roles if path else {}
    return BUILT_IN | written
