"""Decompresses response bodies within a limit, the same way for every transport."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import brotli
from backports import zstd

from kb_pipeline.charset import is_binary
from kb_pipeline.fetch.web.http.client import FetchError

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
_MAX_LAYERS = 3
_BROKEN = (zlib.error, brotli.error, zstd.ZstdError, EOFError)
_Decompressor = Callable[[bytes, int], tuple[bytes, bool]]
"""Takes a compressed body and a limit; returns at most so many bytes, and whether the body was complete."""


def decode_body(body: bytes, content_encoding: str, limit: int, *, truncate: bool = False) -> bytes:
    """Return the body without its content encodings; never decompress more than the limit, however small the body is.

    Args:
        body: the body as it was sent; an empty one stays empty.
        content_encoding: the value of the header.
        limit: the maximum size of the result, in bytes.
        truncate: return what fits, also of an incomplete body, instead of raising.

    Raises:
        FetchError: `too_large`, or `decoding` when the body is broken or in an encoding that was not requested.
    """
    names = (part.strip().strip("\"'").lower() for part in content_encoding.split(","))
    layers = [name for name in names if name and name != "identity"]
    if len(layers) > _MAX_LAYERS:
        raise FetchError("decoding", f"{len(layers)} content encodings on top of each other")
    for name in reversed(layers):
        if body:
            body = _decode_layer(body, name, limit, truncate)
    return body


def _decode_layer(body: bytes, name: str, limit: int, truncate: bool) -> bytes:
    decompress = _DECOMPRESSORS.get(name)
    if decompress is None:
        # Browsers ignore a name that they do not know, such as UTF-8 or none, and show the body as it was sent.
        if is_binary(body):
            raise FetchError("decoding", f"content encoding {name!r} is not understood")
        return body
    try:
        plain, is_complete = decompress(body, limit + 1)
    except _BROKEN as error:
        raise FetchError("decoding", f"broken {name}: {error}") from error
    if truncate:
        return plain[:limit]
    if len(plain) > limit:
        raise FetchError("too_large", f"more than {limit} bytes when decompressed")
    if not is_complete:
        raise FetchError("decoding", f"the {name} body ends too soon")
    return plain


def _multi_member(open_member: Callable[[], Any], magic: bytes) -> _Decompressor:
    """Return a decompressor of concatenated members; bytes after them that begin no member are padding."""

    def decompress(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
        plain = b""
        while True:
            member = open_member()
            plain += member.decompress(body, max_bytes - len(plain))
            body = member.unused_data
            if not member.eof or len(plain) >= max_bytes or not body.startswith(magic):
                return plain, member.eof

    return decompress


def _inflate(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    # "deflate" means zlib's format (RFC 9110, 8.4.1.2), yet some servers send the bare stream.
    for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        stream = zlib.decompressobj(wbits)
        try:
            return stream.decompress(body, max_bytes), stream.eof
        except zlib.error as error:
            broken = error
    raise broken


def _unbrotli(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    stream = brotli.Decompressor()
    plain = piece = stream.process(body, output_buffer_limit=max_bytes)
    while piece and len(plain) < max_bytes and not stream.is_finished():
        piece = stream.process(b"", output_buffer_limit=max_bytes - len(plain))
        plain += piece
    return plain, stream.is_finished()


_GZIP = _multi_member(lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), b"\x1f\x8b")
_DECOMPRESSORS: dict[str, _Decompressor] = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _multi_member(zstd.ZstdDecompressor, b"\x28\xb5\x2f\xfd"),
}
