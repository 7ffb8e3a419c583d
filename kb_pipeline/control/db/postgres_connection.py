"""A Postgres connection whose statements an interrupt does not cut in half."""

from __future__ import annotations

from typing import Any, TypeVar

from psycopg import Connection
from psycopg.abc import PQGen

from kb_pipeline.interrupts import deferred_interrupts

_Result = TypeVar("_Result")


class WholeStatements(Connection[Any]):
    """Hands every statement's answer over before an interrupt is raised.

    psycopg cancels a statement on KeyboardInterrupt only. Dagster raises an exception of its own, which would leave
    the connection in the midst of the statement; SQLAlchemy's ping then fails on it, and its ProgrammingError takes the
    place of the interrupt: whoever handles such errors goes on with a run that was cancelled.
    """

    def wait(self, gen: PQGen[_Result], *arguments: Any, **options: Any) -> _Result:  # noqa: ANN401 - psycopg's own
        """Consume a generator operating on the connection, as psycopg says."""
        with deferred_interrupts():
            return super().wait(gen, *arguments, **options)
