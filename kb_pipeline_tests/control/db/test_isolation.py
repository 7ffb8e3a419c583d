"""A tenant's unit of work reaches that tenant's rows only, whatever is asked of it, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session, aliased

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import SHARED, Base, HostClient, Kb, OfTenant, UtcDateTime, Version
from kb_pipeline.errors import OutOfTenant

TENANTS = ("acme", "globex")
MODELS: list[Any] = [mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, OfTenant)]
OTHERS = [m.class_ for m in Base.registry.mappers if not issubclass(m.class_, (OfTenant, *SHARED))]
_VALUES: dict[type, Any] = {str: "x", int: 1, float: 1.0, bool: False, object: {}}
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def row(model: Any, tenant: str) -> Any:
    """With something in every column."""
    kinds = {name: column.type for name, column in inspect(model).columns.items() if not column.nullable}
    values = {key: _TIME if isinstance(kind, UtcDateTime) else _VALUES[kind.python_type] for key, kind in kinds.items()}
    return model(**values | {"tenant": tenant})


@pytest.fixture
def both(db: Database) -> Database:
    """Return a control plane in which two tenants have a row of everything, under the same ids."""
    with db.write_all() as session:
        session.add_all([row(model, tenant) for model in MODELS for tenant in TENANTS])
    return db


@pytest.fixture
def walls(both: Database) -> Database:
    """Return the same control plane on Postgres, whose row security is the second wall."""
    if both.is_sqlite:
        pytest.skip("SQLite has no row-level security")
    return both


def count(db: Database, model: Any, tenant: str) -> int:
    with db.read_all() as session:
        return session.scalar(select(func.count()).select_from(model).where(model.tenant == tenant)) or 0


def test_every_table_that_names_a_tenant_is_a_tenants() -> None:
    assert len(MODELS) >= 10
    named = {mapper.class_ for mapper in Base.registry.mappers if "tenant" in mapper.columns}
    # Whoever asks a host has to be told apart from the others who do: that is the operator's knowledge.
    assert named - set(MODELS) == {HostClient}


def test_nothing_of_another_tenant_is_read(both: Database) -> None:
    for model in MODELS:
        _assert_unread(both, model)


def _assert_unread(both: Database, model: Any) -> None:
    twin = aliased(model)
    with both.read("acme") as session:
        assert {found.tenant for found in session.scalars(select(model))} == {"acme"}
        assert {found.tenant for found in session.scalars(select(twin))} == {"acme"}
        assert session.scalars(select(model).where(model.tenant == "globex")).all() == []
        assert set(session.execute(select(model.tenant)).scalars()) == {"acme"}
        assert set(session.execute(select(func.count(model.tenant))).scalars()) == {1}
        joined = select(model.tenant, twin.tenant).join(twin, model.tenant != twin.tenant)
        assert session.execute(joined).all() == []
        inner = select(twin.tenant).where(twin.tenant == "globex").scalar_subquery()
        assert session.scalars(select(model).where(model.tenant == inner)).all() == []
        theirs = row(model, "globex")
        key = tuple(getattr(theirs, column.key) for column in inspect(model).primary_key)
        assert session.get(model, key) is None


def test_nothing_of_another_tenant_is_changed_or_removed(both: Database) -> None:
    for model in MODELS:
        _assert_untouched(both, model)


def _assert_untouched(both: Database, model: Any) -> None:
    with suppress(ProgrammingError), both.write("acme") as session:  # Postgres lets nobody change the audit log
        session.execute(update(model).where(model.tenant == "globex").values(tenant="acme"))
        session.execute(delete(model))
    assert count(both, model, "globex") == 1
    with both.read_all() as session:
        (theirs,) = session.scalars(select(model).where(model.tenant == "globex"))
    thefts: list[Callable[[Session], object]] = [
        lambda session: session.merge(theirs),
        lambda session: session.add(row(model, "globex")),
        lambda session: session.delete(theirs),
    ]
    for steal in thefts:
        with pytest.raises((OutOfTenant, DBAPIError)), both.write("acme") as session:
            steal(session)
    assert count(both, model, "globex") == 1


def test_what_belongs_to_no_tenant_is_not_reached(db: Database) -> None:
    for model in OTHERS:
        with pytest.raises(OutOfTenant, match="belongs to no tenant"), db.read("acme") as session:
            session.scalars(select(model)).all()


def test_statements_that_cannot_be_narrowed_are_refused(both: Database) -> None:
    for statement in (text("SELECT * FROM kbs"), select(Kb.__table__), insert(Version)):
        with pytest.raises(OutOfTenant), both.write("acme") as session:
            session.execute(statement)


def test_postgres_itself_shows_a_tenant_nothing_else(walls: Database) -> None:
    for model in MODELS:
        everything = text(f"SELECT DISTINCT tenant FROM {model.__tablename__}")
        with walls.engine.begin() as connection:
            connection.execute(text("SELECT set_config('role', 'kb_tenant', true)"))
            assert connection.scalars(everything).all() == []  # no tenant named: no rows
            connection.execute(text("SELECT set_config('kb.tenant', 'globex', true)"))
            assert connection.scalars(everything).all() == ["globex"]
            forged = f"UPDATE {model.__tablename__} SET tenant = 'acme'"
            with pytest.raises(ProgrammingError, match=r"row-level security|permission denied"):
                connection.execute(text(forged))
    with walls.engine.begin() as connection:
        role = "SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = 'kb_tenant'"
        assert tuple(connection.execute(text(role)).one()) == (False, False, False)
        owned = "SELECT relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner) FROM pg_class"
        tables = {name: rest for name, *rest in connection.execute(text(owned))}
        for model in MODELS:
            enabled, forced, owner = tables[model.__tablename__]
            assert (enabled, forced) == (True, True)
            assert owner != "kb_tenant"


def test_a_tenant_cannot_rewrite_its_audit_log(walls: Database) -> None:
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
        with walls.engine.connect() as connection:
            connection.execute(text("SELECT set_config('role', 'kb_tenant', true)"))
            connection.execute(text("SELECT set_config('kb.tenant', 'acme', true)"))
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(statement))


class _Broken(Exception):
    """Raised amid a transaction."""


def test_alternating_tenants_on_pooled_connections_never_meet_even_after_errors(both: Database) -> None:
    dice, foreign = random.Random(5), 0
    for number in range(500):
        mine = TENANTS[number % 2]
        with suppress(_Broken, DBAPIError), both.write(mine) as session:
            seen = list(session.scalars(select(Kb))) + list(session.scalars(select(Version)))
            foreign += sum(found.tenant != mine for found in seen)
            if dice.random() < 0.2:
                raise _Broken
            if dice.random() < 0.2:
                session.connection().execute(text("SELECT nothing FROM nowhere"))
            session.get_one(Kb, (mine, "x")).spec = f"{mine} {number}"
    assert foreign == 0
    with both.read_all() as session:
        assert all(kb.spec.startswith(kb.tenant) for kb in session.scalars(select(Kb)))
