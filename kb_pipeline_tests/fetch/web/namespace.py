"""A network of its own with honeypots on private addresses, a public site, and a name server that changes its mind.

Run as root: `unshare --net --mount --propagation private python -m kb_pipeline_tests.fetch.web.namespace FOLDER`. It
crawls the public site, which leads to the honeypots in every way there is, and prints as JSON who was reached.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dnslib import AAAA, QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from kb_pipeline.errors import BrowserMissing
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.fetch.web.crawl.journal import read_outcomes
from kb_pipeline.fetch.web.crawl.process import crawl
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline_tests.fetch.web.certificates import Authority
from kb_pipeline_tests.fetch.web.conftest import files_at, known_file, rules_for

DOMAIN = "site-test.com"
PUBLIC = "93.184.215.14"
PRIVATE = ["10.0.0.5", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1"]
PRIVATE_6 = ["fd00::5", "fec0::5"]
REBINDINGS = 20
"""Of each scheme."""
_SIOCSIFADDR, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8914, 0x1


def set_up_network(folder: Path) -> None:
    """Bring loopback up, with all the addresses on it, and have names looked up here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _IFF_UP, b""))
        for number, address in enumerate([PUBLIC, *PRIVATE], start=1):
            name = f"lo:{number}".encode()
            place = struct.pack("HH4s8s", socket.AF_INET, 0, socket.inet_aton(address), b"")
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s", name, place))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for address in PRIVATE_6:
            place = socket.inet_pton(socket.AF_INET6, address)
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", place, 128, socket.if_nametoindex("lo")))
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)


class Names(BaseResolver):  # type: ignore[misc]
    """Hosts of the test domain; those called rebind* are public when they are first looked up, and private after."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Return the response to one DNS query."""
        reply = request.reply()
        name, kind = str(request.q.qname).rstrip(".").lower(), QTYPE[request.q.qtype]
        host = name.removesuffix(f".{DOMAIN}")
        if host == name:
            return reply
        if kind == "A":
            self.asked[host] += 1
            for address in self._addresses(host):
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=0))
        elif kind == "AAAA":
            for address in {"six": PRIVATE_6, "mapped": ["::ffff:a00:5"], "nat64": ["64:ff9b::a00:5"]}.get(host, []):
                reply.add_answer(RR(request.q.qname, QTYPE.AAAA, rdata=AAAA(address), ttl=0))
        return reply

    def _addresses(self, host: str) -> list[str]:
        if host.startswith("rebind"):
            return [PUBLIC] if self.asked[host] == 1 else [PRIVATE[0]]
        if host.startswith("trap"):
            return [PRIVATE[int(host.removeprefix("trap") or 0) % len(PRIVATE)]]
        return {"mixed": [PRIVATE[0], PUBLIC], "www": [PUBLIC]}.get(host, [])


class Honeypots:
    """Ports 80 and 443 of every private address, and of loopback, with a note of who connects."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        places = [(address, socket.AF_INET) for address in [*PRIVATE, "127.0.0.1"]]
        places += [(address, socket.AF_INET6) for address in [*PRIVATE_6, "::1"]]
        for address, family in places:
            for port in (80, 443):
                listener = socket.create_server((address, port), family=family)
                threading.Thread(target=self._listen, args=(listener, f"{address}:{port}"), daemon=True).start()

    def _listen(self, listener: socket.socket, name: str) -> None:
        while True:
            connection, _ = listener.accept()
            self.hits.append(name)
            connection.close()


def serve_public(pages: dict[str, tuple[str, dict[str, str]]], authority: Authority) -> Counter[str]:
    """Serve the public site on both ports; return the counts of requests to it, by host and path."""
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host = (self.headers["Host"] or "").removesuffix(f".{DOMAIN}")
            asked[f"{host}{self.path}"] += 1
            body, headers = pages.get(f"{host}{self.path}") or pages.get(self.path) or ("", {":status": "404"})
            self.send_response(int(headers.get(":status", "200")))
            for name, value in ({"Content-Type": "text/html"} | headers).items():
                if not name.startswith(":"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    for port in (80, 443):
        server = ThreadingHTTPServer((PUBLIC, port), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if port == 443:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate(f"*.{DOMAIN}"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return asked


def detours() -> dict[str, tuple[str, dict[str, str]]]:
    """Pages of the public site, each of which leads to a honeypot in another way."""
    trap = f"http://trap.{DOMAIN}"
    xml = {"Content-Type": "text/xml"}
    statuses = (301, 302, 303, 307, 308)
    others = ("trap1", "trap2", "trap3", "trap4", "trap5", "six", "mapped", "nat64", "mixed")
    links = [f"/redirect-{status}" for status in statuses] + ["/refresh", "/canonical", "/frames", "/shell", trap]
    links += [f"http://{name}.{DOMAIN}/" for name in others] + [f"http://{address}/" for address in PRIVATE]
    anchors = "".join(f'<a href="{link}">x</a>' for link in links)
    return {
        "/robots.txt": (f"User-agent: *\nSitemap: {trap}/robots.xml\nSitemap: /index.xml\n", {}),
        "/index.xml": (
            f"<sitemapindex><sitemap><loc>{trap}/nested.xml</loc></sitemap>"
            "<sitemap><loc>/pages.xml</loc></sitemap></sitemapindex>", xml,
        ),
        "/pages.xml": (f"<urlset><url><loc>{trap}/named</loc></url></urlset>", xml),
        "/": (f"<link rel=alternate type=application/rss+xml href={trap}/feed><p>Home</p>{anchors}", {}),
        "/refresh": (f'<meta http-equiv=refresh content="0; url={trap}/refreshed"><p>gone', {}),
        "/canonical": (f"<link rel=canonical href={trap}/canonical><p>A page with a wrong idea of itself", {}),
        "/frames": (f"<p>Framed</p><iframe src={trap}/iframe></iframe><img src={trap}/image>", {}),
        "/shell": (
            f"<div id=root></div><script src={trap}/app.js></script><iframe src={trap}/rendered></iframe><script>"
            f"fetch('{trap}/fetch').catch(() => 0); fetch('/to-trap').catch(() => 0);"
            "root.textContent = 'rendered'</script>", {},
        ),
        "/to-trap": ("", {":status": "302", "Location": f"{trap}/from-script"}),
        **{f"/redirect-{s}": ("", {":status": str(s), "Location": f"{trap}/redirected-{s}"}) for s in statuses},
    }  # fmt: skip


def rebinding_pages() -> dict[str, tuple[str, dict[str, str]]]:
    """Return the pages that every host serves before its name is rebound."""
    return {"/known": ('<p>Known before</p><a href="/new">new</a>', {})}


def run(rules: CrawlRules, folder: Path, known: list[str]) -> dict[str, str]:
    """Crawl twice, with each engine; outcome by URL."""
    found: dict[str, str] = {}
    for name, keys in (("new", []), ("known", known)):
        journal = folder / name
        page = known_file(folder / f"{name}.parquet", *({"key": key} for key in keys)) if keys else None
        crawl(rules, files_at(journal, page), lambda done, total: None, LocalHostScheduler())
        rows = read_outcomes(journal).select(["key", "outcome", "reason"]).to_pylist()
        found |= {row["key"]: f"{row['outcome']} {row['reason'] or ''}".strip() for row in rows}
        if not known:
            break
    return found


def main() -> dict[str, Any]:
    """Set the network up, crawl, and say what happened."""
    folder = Path(sys.argv[1])
    set_up_network(folder)
    authority = Authority(folder)
    os.environ["SSL_CERT_FILE"] = str(authority.pem)
    names, honeypots = Names(), Honeypots()
    DNSServer(names, address="127.0.0.1", port=53, logger=DNSLogger(logf=lambda line: None)).start_thread()
    asked = serve_public(detours() | rebinding_pages(), authority)
    try:
        render: dict[str, Any] = {"render": "auto", "browser": find_browser("")}
    except BrowserMissing:
        render = {}
    common: dict[str, Any] = {"allowed_networks": (), "retries": 0, "timeout_s": 3.0}
    site = f"http://www.{DOMAIN}/"
    starts = [site, f"http://trap.{DOMAIN}/start", *(f"http://{address}/start" for address in PRIVATE)]
    rules = rules_for(*starts, sitemap="auto", scope="domain", **common, **render)
    led = run(rules, folder / "detours", [site, f"{site}refresh", f"{site}redirect-302"])
    hosts = [f"{scheme}://rebind-{scheme}-{n}.{DOMAIN}" for scheme in ("http", "https") for n in range(REBINDINGS)]
    known = known_file(folder / "rebound.parquet", *({"key": f"{host}/known"} for host in hosts))
    rules = rules_for(*(f"{host}/known" for host in hosts), **common)
    crawl(rules, files_at(folder / "rebound", known), lambda done, total: None, LocalHostScheduler())
    rows = read_outcomes(folder / "rebound").select(["key", "outcome", "reason"]).to_pylist()
    hits = list(honeypots.hits)
    opened = rules_for(f"http://trap.{DOMAIN}/", allowed_networks=("10.0.0.0/8",), retries=0)
    crawl(opened, files_at(folder / "opened"), lambda done, total: None, LocalHostScheduler())
    return {
        "hits": hits,
        "hits_once_opened": honeypots.hits[len(hits) :],
        "led": led,
        "asked": dict(asked),
        "rendered": bool(render),
        "rebound": {row["key"]: f"{row['outcome']} {row['reason'] or ''}".strip() for row in rows},
        "lookups": {host: names.asked[host] for host in names.asked if host.startswith("rebind")},
    }


if __name__ == "__main__":
    print(json.dumps(main()))
