"""Secrets of tenants: what `${NAME}` in their KB files stands for, encrypted with keys that are not in the database.

The keys are the operator's: KB_SECRET_KEYS or KB_SECRET_KEYS_FILE, else a file of the home that is made when the first
secret is set. What is encrypted says whose it is and under which name: a row copied to another tenant is of no use.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Secret
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.tenants import get_tenant, list_tenants
from kb_pipeline.errors import InvalidSetting, SecretUnreadable, UnknownSecret, UsageError
from kb_pipeline.model import Record
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import fsync_path

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE = "secret-keys"
"""In the home, unless the operator keeps the keys elsewhere."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LONGEST_VALUE = 4096
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""What no header, address or database can be sent."""


@dataclass(frozen=True, slots=True)
class SecretRecord(Record):
    """That a tenant has a secret of that name; never its value."""

    name: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class Rotation(Record):
    """The result of encrypting every secret with the newest key."""

    rotated: int
    lost: tuple[str, ...]
    """`tenant NAME` of what could not be decrypted, and stays as it is."""


def set_secret(settings: Settings, db: Database, tenant: str, name: str, value: str, actor: str) -> None:
    """Store a value under a name, in place of the one it had.

    Raises:
        UsageError: the name or the value is none.
        UnknownTenant: there is none such.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a secret: 1 to 64 letters, digits and _, not starting with a digit")
    if not 0 < len(value) <= _LONGEST_VALUE or _UNUSABLE.search(value):
        allowed = f"1 to {_LONGEST_VALUE} characters of Unicode, none of them NUL or half of a surrogate pair"
        raise UsageError(f"the value of {name} must have {allowed}")
    get_tenant(db, tenant)
    token = _cipher(settings, make=True).encrypt(json.dumps([tenant, name, value]).encode()).decode()
    with db.write(tenant) as session:
        row = session.get(Secret, (tenant, name))
        before = None if row is None else {"updated_at": row.updated_at.isoformat(), "updated_by": row.updated_by}
        if row is None:
            row = Secret(tenant=tenant, name=name)
            session.add(row)
        row.token, row.updated_at, row.updated_by = token, datetime.now(UTC), actor
        after = {"updated_at": row.updated_at.isoformat(), "updated_by": actor}
        audit.record(session, tenant, actor, "secret.set", name, before, after)


def list_secrets(db: Database, tenant: str) -> Iterator[SecretRecord]:
    """Yield a tenant's secrets by name."""
    with db.read(tenant) as session:
        for row in session.scalars(select(Secret).order_by(Secret.name)):
            yield SecretRecord(row.name, row.updated_at, row.updated_by)


def delete_secret(db: Database, tenant: str, name: str, actor: str) -> None:
    """Forget a secret; raises UnknownSecret."""
    with db.write(tenant) as session:
        row = session.get(Secret, (tenant, name))
        if row is None:
            raise UnknownSecret(tenant, name)
        before = {"updated_at": row.updated_at.isoformat(), "updated_by": row.updated_by}
        session.delete(row)
        audit.record(session, tenant, actor, "secret.delete", name, before, None)


def variables_of(settings: Settings, db: Database, tenant: str, names: Collection[str]) -> dict[str, str]:
    """Those of the names that have a value: the tenant's secrets, then what the operator opened of the environment.

    Raises:
        SecretUnreadable: one was encrypted with a key that is not here.
    """
    opened = {name: value for name, value in settings.file_variables.items() if name in names}
    with db.read(tenant) as session:
        rows = session.scalars(select(Secret).where(Secret.name.in_(names))).all()
    return opened | {row.name: _decrypted(settings, row) for row in rows}


def rotate_secrets(settings: Settings, db: Database, actor: str) -> Rotation:
    """Encrypt every tenant's secrets with the newest key; what cannot be decrypted does not stop the others."""
    rotated, lost = 0, []
    for tenant in [record.tenant for record in list_tenants(db)]:
        done, not_done = _rotate_tenant(settings, db, tenant, actor)
        rotated += done
        lost += [f"{tenant} {name}" for name in not_done]
    return Rotation(rotated, tuple(lost))


def new_key() -> str:
    """Another Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _rotate_tenant(settings: Settings, db: Database, tenant: str, actor: str) -> tuple[int, list[str]]:
    lost, done = [], 0
    with db.write(tenant) as session:
        # Locked: what is set meanwhile must not be overwritten with what it was.
        for row in session.scalars(select(Secret).order_by(Secret.name).with_for_update()):
            try:
                _decrypted(settings, row)
            except SecretUnreadable:
                lost.append(row.name)
                continue
            row.token = _cipher(settings).rotate(row.token.encode()).decode()
            done += 1
        if done or lost:
            audit.record(session, tenant, actor, "secret.rotate", tenant, None, {"rotated": done, "lost": lost})
    return done, lost


def _decrypted(settings: Settings, row: Secret) -> str:
    """Return the decrypted value of a row; raise SecretUnreadable."""
    from cryptography.fernet import InvalidToken

    try:
        tenant, name, value = json.loads(_cipher(settings).decrypt(row.token.encode()))
    except (InvalidToken, FileNotFoundError):
        raise SecretUnreadable(row.tenant, row.name) from None
    if (tenant, name) != (row.tenant, row.name):
        raise SecretUnreadable(row.tenant, row.name)
    return str(value)


def _cipher(settings: Settings, *, make: bool = False) -> MultiFernet:
    """Encrypts with the newest key, decrypts with any; raises InvalidSetting, or FileNotFoundError where none is."""
    from cryptography.fernet import Fernet, MultiFernet

    keys = settings.secret_keys or _read_keys(settings, make=make)
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:  # which says of the key what it likes
        allowed = "must hold Fernet keys, newest first, separated by commas or lines; make one with: kb secret key"
        where = "KB_SECRET_KEYS" if settings.secret_keys else str(settings.secret_keys_file or settings.home / KEY_FILE)
        raise InvalidSetting(where, allowed) from None


def _read_keys(settings: Settings, *, make: bool) -> list[str]:
    if settings.secret_keys_file is not None:
        try:
            return settings.secret_keys_file.read_text("utf-8").replace(",", " ").split()
        except (OSError, UnicodeDecodeError):
            raise InvalidSetting("KB_SECRET_KEYS_FILE", "must name a readable file of Fernet keys") from None
    path = settings.home / KEY_FILE
    if make and not path.exists():
        _make_key_file(path)
    if path.stat().st_mode & 0o077:
        raise InvalidSetting(str(path), "others may read it: take that away with chmod 600, and rotate the keys")
    return path.read_text("utf-8").replace(",", " ").split()


def _make_key_file(path: Path) -> None:
    """Whole or not at all, and whoever is first wins: a key that was used must not be replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{new_key()}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            return
        fsync_path(path.parent)
    finally:
        beside.unlink()
