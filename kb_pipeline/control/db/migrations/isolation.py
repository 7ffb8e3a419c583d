"""Row-level security on Postgres: how a revision puts a table behind the second wall. On SQLite it does nothing."""

from __future__ import annotations

from alembic import op

ROLE = "kb_tenant"
"""Never owner, never above row-level security; revisions stay as they are, so the name is written here once more."""


def make_role() -> None:
    """Create the role of tenants' transactions and let ours take it.

    Roles belong to the whole server: another installation may have made it, or be making it now.
    """
    if _is_sqlite():
        return
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(f"GRANT {ROLE} TO CURRENT_USER")
    op.execute(f"DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO {ROLE}', current_schema()); END $$")


def isolate(table: str, rights: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Show a tenant's transaction that tenant's rows of a table only; one that names no tenant sees none.

    The owner, whose programs look across tenants, is under a policy of its own, and not exempt.
    """
    if _is_sqlite():
        return
    mine = "tenant = current_setting('kb.tenant', true)"
    op.execute(f"GRANT {rights} ON {table} TO {ROLE}")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO {ROLE} USING ({mine}) WITH CHECK ({mine})")
    op.execute(f"CREATE POLICY operator ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")


def share(table: str) -> None:
    """Let every tenant's transaction read a table."""
    if not _is_sqlite():
        op.execute(f"GRANT SELECT ON {table} TO {ROLE}")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
