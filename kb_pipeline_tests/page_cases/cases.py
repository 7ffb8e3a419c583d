"""Reads the cases: `NAME.expect.md` says for people and, in one block of JSON, for the tests what must hold."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent / "pages"
_STOCK_TEXT = """
    harbour valley engine garden meadow lantern bridge carpet window kettle orchard saddle timber needle marble
    copper velvet pepper basket ladder
"""
_STOCK = _STOCK_TEXT.split()
_VERBS = ("carries", "measures", "repairs", "collects", "describes", "replaces", "protects", "compares")


@dataclass(frozen=True)
class Case:
    """One page, or one small site, and what must hold of it."""

    name: str
    kind: str
    checks: Any
    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    path: str = ""
    routes: Mapping[str, Any] | None = None
    start: Sequence[str] = ("/",)
    source: Mapping[str, Any] | None = None
    host2_docs: Sequence[str] = ()

    def __str__(self) -> str:
        return self.name


def read_cases() -> list[Case]:
    """Return all cases by name."""
    return [_read(path) for path in sorted(PAGES.glob("*.expect.md"))]


def _read(path: Path) -> Case:
    name = path.name.removesuffix(".expect.md")
    block = re.search(r"(?ms)^```json\n(.*?)^```", path.read_text("utf-8"))
    assert block is not None, path
    spec = json.loads(block[1])
    if "routes" in spec:
        start, source = spec.get("start", ("/",)), spec.get("source")
        return Case(name, spec["kind"], spec["checks"], routes=spec["routes"], start=start, source=source,
                    host2_docs=spec.get("host2_docs", ()))  # fmt: skip
    http = spec.get("http", {})
    assert set(http) <= {"type", "path"}, f"{name}: nobody serves {http}"
    content_type = http.get("type", "text/html; charset=utf-8") or ""
    body = generated(*spec["gen"]) if "gen" in spec else (PAGES / spec["file"]).read_bytes()
    return Case(name, spec["kind"], spec["checks"], body, content_type, http.get("path", f"/c/{name}"))


def generated(kind: str, *arguments: Any) -> bytes:
    """Return a page too large to be a file."""
    head, body = _GENERATORS[kind](*arguments)
    page = f"<!doctype html><html lang=en><head><title>{head}</title></head><body><main><h1>{head}</h1>{body}</main>"
    return page.encode()


def sentences(seed: str, count: int) -> str:
    """Return plain sentences that no other case has."""
    return " ".join(_sentence(seed, number) for number in range(count))


def _sentence(seed: str, number: int) -> str:
    k = 31 * number + sum(map(ord, seed))
    return (
        f"The {_STOCK[k % 20]} near the {_STOCK[(k // 7) % 20]} {_VERBS[(k // 3) % 8]} the {_STOCK[(k // 11) % 20]} "
        f"of lot {seed}-{number}, and everyone in the workshop agrees that it does so rather well."
    )


def _deep(depth: int, tag: str) -> tuple[str, str]:
    inner = (
        "<p>The innermost sentence names the pelican.</p><pre>if deep:\n    keep_indent()\nelse:\n    fail()</pre>"
        "<table><tr><th>Part</th><th>Price</th></tr><tr><td>Bolt</td><td>4.20</td></tr></table>"
    )
    nested = f"<{tag}>" * depth + inner + f"</{tag}>" * depth
    return "Deep nesting", f"<p>{sentences('deep', 6)}</p>{nested}<p>{sentences('deep-end', 3)}</p>"


def _big_page(megabytes: int) -> tuple[str, str]:
    parts: list[str] = []
    size = 0
    while size < megabytes * 1_000_000:
        parts.append(f"<h2>Part {len(parts)}</h2><p>{sentences(f'big{len(parts)}', 12)}</p>")
        size += len(parts[-1])
    end = "<h2>Last part</h2><p>The final sentence of the very large page mentions the ocelot.</p>"
    return "Very large page", "".join([*parts, end])


def _big_table(count: int) -> tuple[str, str]:
    rows = "".join(
        f"<tr><td>RX-{i:05d}</td><td>{i * 3 % 97}.{i % 10}</td><td>{i * 7 % 31} weeks</td><td>hall {i % 9}</td></tr>"
        for i in range(count)
    )
    names = ("Article number", "Unit price in euro", "Delivery time", "Storage hall")
    head = "".join(f"<th>{name}</th>" for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return "Spare parts list", f"<p>{sentences('table', 4)}</p>{table}"


def _big_code(count: int) -> tuple[str, str]:
    line = "    register('handler_{0}', lambda event: process_{0}(event, retries={1}))"
    lines = "\n".join(line.format(i, i % 7) for i in range(count))
    code = f"<pre><code class=language-python>def setup():\n{lines}\n</code></pre>"
    return "Long listing", f"<p>{sentences('code', 4)}</p>{code}<p>{sentences('code-end', 3)}</p>"


def _long_line(count: int) -> tuple[str, str]:
    end = "<p>The sentence after the long line mentions the walrus.</p>"
    return "One long line", f"<p>{sentences('line', 5)}</p><pre>{'var a=0;' * count}</pre>{end}"


def _base64(size: int) -> tuple[str, str]:
    blob = base64.b64encode(bytes(range(256)) * (size // 256)).decode()
    image = f"<p><img alt='Wiring diagram of the pump' src='data:image/png;base64,{blob}'></p>"
    end = "<p>The sentence after the picture mentions the badger.</p>"
    return "Inline pictures", f"<p>{sentences('b64', 5)}</p>{image}{end}"


_GENERATORS: dict[str, Callable[..., tuple[str, str]]] = {
    "deep": _deep,
    "bigpage": _big_page,
    "bigtable": _big_table,
    "bigcode": _big_code,
    "longline": _long_line,
    "base64": _base64,
}
