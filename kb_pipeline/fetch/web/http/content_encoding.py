"""Decompresses response bodies within a limit, the same way for every transport."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import brotli
from backports import zstd

from kb_pipeline.fetch.web.http.client import FetchError

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
_MAX_LAYERS = 3
_BROKEN = (zlib.error, brotli.error, zstd.ZstdError, EOFError)
_Decompressor = Callable[[bytes, int], tuple[bytes, bool]]
"""Gives at most so many bytes of a compressed body, and whether the body came to its proper end."""


def decoded(body: bytes, content_encoding: str, limit: int, *, cut: bool = False) -> bytes:
    """The body as it was before the server encoded it; a megabyte of gzip can hold a gigabyte, which is never made.

    Args:
        body: as it was sent; empty stays empty.
        content_encoding: the header's value.
        limit: most bytes of the result.
        cut: give what fits, also of a body that ends too soon, instead of refusing it.

    Raises:
        FetchError: `too_large`, or `decoding` when it is broken or in an encoding nobody asked for.
    """
    layers = [name for name in (part.strip().lower() for part in content_encoding.split(",")) if name]
    if len(layers) > _MAX_LAYERS:
        raise FetchError("decoding", f"{len(layers)} content encodings on top of each other")
    for name in reversed(layers):
        if body and name != "identity":
            body = _unpacked(body, name, limit, cut)
    return body


def _unpacked(body: bytes, name: str, limit: int, cut: bool) -> bytes:
    decompress = _DECOMPRESSORS.get(name)
    if decompress is None:
        raise FetchError("decoding", f"content encoding {name!r} is not understood")
    try:
        plain, is_whole = decompress(body, limit + 1)
    except _BROKEN as error:
        raise FetchError("decoding", f"broken {name}: {error}") from error
    if cut:
        return plain[:limit]
    if len(plain) > limit:
        raise FetchError("too_large", f"more than {limit} bytes when decompressed")
    if not is_whole:
        raise FetchError("decoding", f"the {name} body ends too soon")
    return plain


def _members(open_member: Callable[[], Any], magic: bytes) -> _Decompressor:
    """Decompress one member after the other; what follows them and is none is padding."""

    def decompress(body: bytes, most: int) -> tuple[bytes, bool]:
        plain = b""
        while True:
            member = open_member()
            plain += member.decompress(body, most - len(plain))
            body = member.unused_data
            if not member.eof or len(plain) >= most or not body.startswith(magic):
                return plain, member.eof

    return decompress


def _inflate(body: bytes, most: int) -> tuple[bytes, bool]:
    # "deflate" means zlib's format (RFC 9110, 8.4.1.2), yet some servers send the bare stream.
    for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        stream = zlib.decompressobj(wbits)
        try:
            return stream.decompress(body, most), stream.eof
        except zlib.error as error:
            broken = error
    raise broken


def _unbrotli(body: bytes, most: int) -> tuple[bytes, bool]:
    stream = brotli.Decompressor()
    plain = piece = stream.process(body, output_buffer_limit=most)
    while piece and len(plain) < most and not stream.is_finished():
        piece = stream.process(b"", output_buffer_limit=most - len(plain))
        plain += piece
    return plain, stream.is_finished()


_GZIP = _members(lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), b"\x1f\x8b")
_DECOMPRESSORS: dict[str, _Decompressor] = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _members(zstd.ZstdDecompressor, b"\x28\xb5\x2f\xfd"),
}
