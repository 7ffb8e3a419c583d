"""JSON Web Tokens: what a good one says of its holder; none of the many that are not good is accepted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kb_pipeline.access_settings import AccessSettings
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy import tenants
from kb_pipeline.errors import InvalidSetting, InvalidSpec, IssuerAway, KeyRefused, TenantInactive
from kb_pipeline.operations.json_web_tokens import TokenReader
from kb_pipeline_tests.operations.tokens import AUDIENCE, SECRET, Issuer, claims, invalid_tokens, serve_issuer, signed

ROLES = """roles:
  support: {scopes: [read], kbs: [faq, docs]}
  publisher: {scopes: [build, manage], kbs: [docs, faq]}
  reader: {scopes: [read, build]}
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """With two tenants."""
    database = Database(f"sqlite:///{tmp_path}/control.db")
    for tenant in ("acme", "globex"):
        tenants.create_tenant(database, tenant, "default", "tester")
    yield database
    database.dispose()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serve_issuer() as serving:
        yield serving


@pytest.fixture
def access(issuer: Issuer) -> AccessSettings:
    return AccessSettings(jwt_secret=SECRET, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)


@pytest.fixture
def reader(access: AccessSettings, db: Database) -> TokenReader:
    return TokenReader(access, db)


def test_a_token_with_a_tenant_and_an_end_is_enough(reader: TokenReader) -> None:
    until = time.time() + 60.5
    holder = reader.authenticate(signed({"tenant_id": "acme", "exp": until}))
    assert (holder.tenant, holder.scopes, holder.kbs) == ("acme", frozenset({"read"}), None)
    assert holder.expires_at == datetime.fromtimestamp(until, UTC)
    assert holder.actor == "token of nobody named"


def test_roles_and_scopes_say_what_may_be_done_and_kbs_where(reader: TokenReader) -> None:
    for given, scopes in (
        ({"roles": ["editor"]}, {"read", "build"}),
        ({"roles": "admin"}, {"read", "build", "manage", "admin"}),
        ({"roles": ["reader", "manager"]}, {"read", "build", "manage"}),
        ({"scopes": ["build"]}, {"build"}),
        ({"scope": "openid build profile"}, {"build"}),
        ({"roles": ["reader"], "scopes": ["manage"]}, {"read", "manage"}),
    ):
        assert reader.authenticate(signed(claims(**given))).scopes == scopes
    holder = reader.authenticate(signed(claims(kbs=["docs", "faq"], nbf=int(time.time()), iat=time.time())))
    assert holder.kbs == frozenset({"docs", "faq"})
    assert holder.actor == "token alice"
    assert reader.authenticate(signed(claims(kbs=[]))).kbs == frozenset()


def test_the_operator_says_what_roles_may_do(access: AccessSettings, db: Database, tmp_path: Path) -> None:
    (tmp_path / "roles.yaml").write_text(ROLES)
    reader = TokenReader(replace(access, roles_file=tmp_path / "roles.yaml", default_role="support"), db)
    both = reader.authenticate(signed(claims(roles=["support", "publisher"])))
    assert (both.scopes, both.kbs) == (frozenset({"read", "build", "manage"}), frozenset({"docs", "faq"}))
    assert reader.authenticate(signed()).kbs == frozenset({"docs", "faq"})
    assert reader.authenticate(signed(claims(roles=["reader"]))).scopes == frozenset({"read", "build"})
    assert reader.authenticate(signed(claims(roles=["support"], kbs=["docs", "hr"]))).kbs == frozenset({"docs"})
    with pytest.raises(KeyRefused, match="cannot be combined"):
        reader.authenticate(signed(claims(roles=["support", "manager"])))
    with pytest.raises(InvalidSetting, match="KB_DEFAULT_ROLE"):
        TokenReader(replace(access, default_role="root"), db)
    (tmp_path / "roles.yaml").write_text("roles: {support: {scopes: [root]}}")
    with pytest.raises(InvalidSpec, match="not a valid roles file"):
        TokenReader(replace(access, roles_file=tmp_path / "roles.yaml"), db)


def test_without_a_default_role_a_token_must_say_what_it_may(access: AccessSettings, db: Database) -> None:
    reader = TokenReader(replace(access, default_role=""), db)
    with pytest.raises(KeyRefused, match="neither a role nor a scope"):
        reader.authenticate(signed())


def test_claims_may_have_other_names(access: AccessSettings, db: Database) -> None:
    reader = TokenReader(replace(access, tenant_claim="https://kb.example/tenant", roles_claim="realm.roles"), db)
    holder = reader.authenticate(
        signed(claims(**{"tenant_id": None, "https://kb.example/tenant": "globex", "realm": {"roles": ["editor"]}}))
    )
    assert (holder.tenant, holder.scopes) == ("globex", frozenset({"read", "build"}))


def test_every_kind_of_invalid_token_is_refused(reader: TokenReader, issuer: Issuer) -> None:
    assert reader.authenticate(signed()).tenant == reader.authenticate(issuer.token()).tenant == "acme"
    accepted = []
    for name, token in invalid_tokens(issuer).items():
        try:
            reader.authenticate(token)
        except KeyRefused:
            continue
        accepted.append(name)
    assert accepted == []


def test_only_who_has_a_good_signature_is_told_what_is_wrong(reader: TokenReader) -> None:
    expired = claims(exp=int(time.time()) - 60)
    with pytest.raises(KeyRefused, match="the token has expired"):
        reader.authenticate(signed(expired))
    for forged in (signed(expired, secret="x" * 40), signed(claims(tenant_id="nobody"), secret="x" * 40)):
        with pytest.raises(KeyRefused, match="the token is not valid"):
            reader.authenticate(forged)


def test_a_suspended_tenants_token_is_refused_with_the_reason(reader: TokenReader, db: Database) -> None:
    tenants.set_status(db, "acme", "suspended", "unpaid", "tester")
    with pytest.raises(TenantInactive, match="unpaid"):
        reader.authenticate(signed())


def test_audience_and_issuer_are_required_where_they_are_configured(access: AccessSettings, db: Database) -> None:
    reader = TokenReader(replace(access, jwt_audience="kb", jwt_issuer="https://app.example"), db)
    assert reader.authenticate(signed(claims(aud=["x", "kb"], iss="https://app.example"))).id == "alice"
    for wrong in ({"aud": "kb"}, {"iss": "https://app.example"}, {"aud": "kb", "iss": "https://app.example/"}):
        with pytest.raises(KeyRefused):
            reader.authenticate(signed(claims(**wrong)))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_tokens_of_an_issuer_are_verified_by_its_key_set(reader: TokenReader, issuer: Issuer, algorithm: str) -> None:
    issuer.add("new", algorithm)
    holder = reader.authenticate(issuer.token("new", algorithm, roles=["editor"]))
    assert (holder.tenant, holder.id, holder.scopes) == ("acme", "alice", frozenset({"read", "build"}))


def test_an_issuer_that_is_away_is_no_reason_to_refuse_or_accept(reader: TokenReader, issuer: Issuer) -> None:
    issuer.fails = True
    with pytest.raises(IssuerAway) as caught:
        reader.authenticate(issuer.token())
    assert caught.value.transient
    assert reader.authenticate(signed()).id == "alice"


def test_each_kind_of_token_is_accepted_only_where_it_is_configured(db: Database, issuer: Issuer) -> None:
    only_theirs = TokenReader(AccessSettings(oidc_issuer=issuer.url, oidc_audience=AUDIENCE), db)
    only_ours = TokenReader(AccessSettings(jwt_secret=SECRET), db)
    assert only_theirs.authenticate(issuer.token()).id == only_ours.authenticate(signed()).id
    for reader, token in ((only_theirs, signed()), (only_ours, issuer.token())):
        with pytest.raises(KeyRefused):
            reader.authenticate(token)
