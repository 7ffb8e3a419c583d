"""JSON Web Tokens for tests: an issuer with real keys and a key set on loopback, and every way to get a token wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "thirty-two bytes at least, and some more of them"
AUDIENCE = "kb-pipeline"


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token of tenant acme; a change to None leaves one out."""
    good = {"tenant_id": "acme", "exp": int(time.time()) + 600, "sub": "alice"} | changes
    return {name: value for name, value in good.items() if value is not None}


def signed(given: dict[str, Any] | None = None, secret: str = SECRET, **headers: Any) -> str:
    """Return a token signed by HS256."""
    return spelled({"alg": "HS256", "typ": "JWT"} | headers, claims() if given is None else given, secret)


def spelled(
    header: dict[str, Any] | bytes, payload: object, secret: str | bytes = SECRET, digest: str = "sha256"
) -> str:
    """Return a token of these very bytes, with the HMAC that would be right for them."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    message = ".".join(_base64(part) for part in parts)
    key = secret if isinstance(secret, bytes) else secret.encode()
    return f"{message}.{_base64(hmac.digest(key, message.encode(), digest))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens, and serves its configuration and key set on loopback."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.private: dict[str, Any] = {}
        self.requests: list[str] = []
        self.fails = False
        self.body: bytes | None = None
        """What the key set answers instead."""
        self.url = ""
        self.add("rsa-1", "RS256")

    def add(self, key_id: str, algorithm: str) -> None:
        """Make another key and publish it."""
        makers: dict[str, Any] = {
            "RS256": (lambda: generate_rsa_key(65537, 2048), RSAAlgorithm),
            "ES256": (lambda: generate_private_key(SECP256R1()), ECAlgorithm),
            "EdDSA": (Ed25519PrivateKey.generate, OKPAlgorithm),
        }
        make, kind = makers[algorithm]
        self.private[key_id] = key = make()
        public = json.loads(kind.to_jwk(key.public_key()))
        self.keys[key_id] = public | {"kid": key_id, "use": "sig", "alg": algorithm, "key_ops": ["verify"]}

    def remove(self, key_id: str) -> None:
        """Take a key out of the set; it can still sign."""
        del self.keys[key_id]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token of this issuer."""
        return claims(**({"iss": self.url, "aud": AUDIENCE} | changes))

    def token(self, key_id: str = "rsa-1", algorithm: str = "RS256", headers: Any = None, **changes: Any) -> str:
        """Return a token signed with one of the keys."""
        named = {"kid": key_id} | (headers or {})
        return jwt.encode(
            self.claims(**changes), self.private[key_id], algorithm, {n: v for n, v in named.items() if v}
        )

    def pem(self, key_id: str = "rsa-1") -> bytes:
        """Return a public key as everybody has it."""
        key: RSAPrivateKey = self.private[key_id]
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def answer(self, path: str) -> bytes | None:
        """Return what is served at a path."""
        self.requests.append(path)
        if self.fails:
            return None
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/keys":
            return self.body if self.body is not None else json.dumps({"keys": list(self.keys.values())}).encode()
        return None


@contextmanager
def serve_issuer() -> Iterator[Issuer]:
    """Serve an issuer on a free port of loopback."""
    issuer = Issuer()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = issuer.answer(self.path)
            self.send_response(200 if body is not None else 503)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield issuer
        finally:
            server.shutdown()


def invalid_tokens(issuer: Issuer) -> dict[str, str]:
    """Return tokens, none of which may be accepted, by what is wrong with each; the kinds are Project Wycheproof's."""
    now, good, theirs = int(time.time()), signed(), issuer.token()
    head, body, signature = good.split(".")
    their_head, their_body, their_signature = theirs.split(".")
    none = {
        f"alg {alg!r}, {how}": f"{_base64(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{body}.{end}"
        for alg in ("none", "None", "NONE", "nOnE", "", None, 1, ["HS256"])
        for how, end in (("no signature", ""), ("a signature", signature))
    }
    confused = {
        f"{alg} with the public key{how}": spelled({"alg": alg, "kid": "rsa-1"}, issuer.claims(), pem, digest)
        for alg, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"), ("RS256", "sha256"))
        for how, pem in (("", issuer.pem()), (", stripped", issuer.pem().strip()))
    }
    headers: dict[str, dict[str, Any]] = {
        "crit": {"crit": ["exp"]},
        "crit empty": {"crit": []},
        "b64 false": {"b64": False, "crit": ["b64"]},
        "b64": {"b64": True},
        "typ of another kind": {"typ": "JWE"},
        "typ no text": {"typ": 1},
        "kid a number": {"kid": 1},
        "kid huge": {"kid": "k" * 4000},
        "kid a list": {"kid": ["rsa-1"]},
    }
    unknown_keys = {
        f"kid {kid[:20]!r}": issuer.token(headers={"kid": kid})
        for kid in (
            "none-such",
            "../../../../etc/passwd",
            "/dev/null",
            "' OR '1'='1",
            "rsa-1\0",
            "rsa-1 ",
            "http://127.0.0.1/keys",
        )
    }
    other = Issuer()
    own_key = other.keys["rsa-1"]
    foreign = jwt.encode(issuer.claims(), other.private["rsa-1"], "RS256", {"kid": "rsa-1"})
    brought = {
        f"{name} header": jwt.encode(issuer.claims(), other.private["rsa-1"], "RS256", {"kid": "rsa-1", name: value})
        for name, value in (
            ("jwk", own_key),
            ("jku", "http://127.0.0.1:9/keys"),
            ("x5u", "http://127.0.0.1:9/x"),
            ("x5c", ["MIIB"]),
        )
    }
    times: dict[str, dict[str, Any]] = {
        "no exp": {"exp": None},
        "expired": {"exp": now - 1},
        "expired by a fraction": {"exp": time.time() - 0.5},
        "exp text": {"exp": str(now + 600)},
        "exp true": {"exp": True},
        "exp negative": {"exp": -1},
        "exp 0": {"exp": 0},
        "exp huge": {"exp": 10**40},
        "exp of the year 10000": {"exp": 253_402_300_800},
        "exp a list": {"exp": [now]},
        "exp 1e300": {"exp": 1e300},
        "nbf to come": {"nbf": now + 300},
        "nbf text": {"nbf": "0"},
        "iat to come": {"iat": now + 300},
        "iat text": {"iat": "now"},
        "exp an object": {"exp": {}},
    }
    meanings: dict[str, dict[str, Any]] = {
        "no tenant": {"tenant_id": None},
        "tenant unknown": {"tenant_id": "nobody"},
        "tenant a number": {"tenant_id": 1},
        "tenant a list": {"tenant_id": ["acme"]},
        "tenant empty": {"tenant_id": ""},
        "tenant a path": {"tenant_id": "../acme"},
        "tenant with a NUL": {"tenant_id": "acme\0"},
        "tenant in capitals": {"tenant_id": "ACME"},
        "role unknown": {"roles": ["root"]},
        "role among unknown": {"roles": ["reader", "root"]},
        "roles an object": {"roles": {}},
        "scope unknown": {"scopes": ["root"]},
        "scopes text": {"scopes": "read"},
        "scope a list": {"scope": ["read"]},
        "no scope of ours": {"scope": "openid profile"},
        "no role": {"roles": []},
        "kbs text": {"kbs": "docs"},
        "kbs no name": {"kbs": ["../docs"]},
        "kbs of another kind": {"kbs": [1]},
        "sub a number": {"sub": 1},
        "sub of two lines": {"sub": "a\nb"},
        "sub long": {"sub": "a" * 101},
        "sub empty": {"sub": ""},
        "aud of somebody else": {"aud": "other"},
    }
    twice = json.dumps(claims(tenant_id="globex"))[:-1] + ', "tenant_id": "acme"}'
    payloads = {
        "a name twice": twice.encode(),
        "NaN": b'{"tenant_id": "acme", "exp": NaN}',
        "a list": b"[]",
        "text": b'"acme"',
        "Infinity": b'{"tenant_id": "acme", "exp": Infinity}',
        "a number": b"1",
        "null": b"null",
        "no JSON": b"{",
        "not UTF-8": b'{"a": "\xff"}',
        "empty": b"",
        "1e999": b'{"tenant_id": "acme", "exp": 1e999}',
        "deep": b"[" * 3000,
        "a BOM": b"\xef\xbb\xbf" + json.dumps(claims()).encode(),
    }
    changed = _base64(json.dumps(issuer.claims(tenant_id="globex")).encode())
    forms = {
        "no signature": f"{head}.{body}.",
        "no dots": f"{head}{body}{signature}",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts, as a JWE": f"{head}.{body}.{signature}.{body}.{signature}",
        "padding": f"{head}=.{body}.{signature}",
        "padded signature": f"{good}=",
        "white space": f"{head} .{body}.{signature}",
        "a line more": f"{head}.{body}\n.{signature}",
        "other alphabet": f"{head}.{body}.{signature[:-1]}+",
        "signature cut": good[:-1],
        "signature longer": f"{good}AA",
        "signature of zeros": f"{head}.{body}.{'A' * 43}",
        "signature spelled otherwise": good[:-1] + _sibling(good[-1]),
        "signature of another": f"{head}.{body}.{signed(claims(sub='bob')).split('.')[2]}",
        "payload changed": f"{head}.{_base64(json.dumps(claims(tenant_id='globex')).encode())}.{signature}",
        "huge": f"{head}.{'A' * 100_000}.{signature}",
        "only dots": "..",
        "a dot": ".",
        "empty parts": f".{body}.",
        "not ASCII": f"é.{body}.{signature}",
        "theirs without a signature": f"{their_head}.{their_body}.",
        "theirs with ours": f"{their_head}.{their_body}.{signature}",
        "theirs changed": f"{their_head}.{changed}.{their_signature}",
        "HS256 with another secret": signed(secret="another secret of at least 32 bytes."),
        "HS256 without a secret": signed(secret=""),
        "HS512 with the secret": spelled({"alg": "HS512"}, claims(), SECRET, "sha512"),
        "HS256, but called RS256": spelled({"alg": "RS256"}, claims()),
        "SHA-1": spelled({"alg": "HS256"}, claims(), SECRET, "sha1"),
        "a digest and no HMAC": f"{head}.{body}.{_base64(hashlib.sha256(f'{head}.{body}'.encode()).digest())}",
    }
    issued = {
        "theirs for somebody else": issuer.token(aud="other"),
        "theirs for nobody": issuer.token(aud=None),
        "theirs of another issuer": issuer.token(iss="https://elsewhere.example"),
        "theirs of no issuer": issuer.token(iss=None),
        "theirs, expired": issuer.token(exp=now - 1),
        "theirs signed by others": foreign,
    }
    return {
        **none,
        **confused,
        **unknown_keys,
        **brought,
        **forms,
        **issued,
        **{f"header: {name}": signed(**more) for name, more in headers.items()},
        **{name: signed(claims(**more)) for name, more in (times | meanings).items()},
        **{f"payload: {name}": spelled({"alg": "HS256"}, raw) for name, raw in payloads.items()},
        "header a name twice": spelled(b'{"alg": "none", "alg": "HS256"}', claims()),
        "header a list": spelled(b"[]", claims()),
    }


def _sibling(last: str) -> str:
    """Return another last character of base64 that decodes to the same 32 bytes: two of its bits count for nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) ^ 1]
