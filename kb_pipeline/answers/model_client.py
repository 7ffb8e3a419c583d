"""Asks a model behind an OpenAI-compatible endpoint, and yields its text as it comes; the only owner of httpx2.

The endpoint is named by a tenant, so it is treated as hostile: it is connected to only at addresses that the operator
allows, whatever its name resolves to later, follows no redirect, and gets so much time and may send so many bytes. A
request runs on an event loop of a thread of its own, which cancelling ends at once, whatever it waits for.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kb_pipeline.errors import AnswerCancelled, KbError, ModelUnavailable

_ATTEMPTS = 3
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 10.0
_CONNECT_S = 10.0
_POLL_S = 0.1
"""How soon a cancelled answer is noticed."""
_MAX_LINE_BYTES = 1 << 20
_MAX_STREAM_BYTES = 8 << 20
"""Of one answer as it is sent: each token comes in some 200 bytes of JSON."""
_CHARS_PER_TOKEN = 8
"""The most that are taken as one token of the budget: an endpoint that goes on beyond it is ended."""
_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
_FAILURES_TO_OPEN, _OPEN_S = 5, 30.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is, and what an answer of it may take."""

    url: str
    """Of the API, as in `https://api.example.com/v1`."""
    model: str
    api_key: str = field(default="", repr=False)
    max_tokens: int = 800
    """Of the answer."""
    timeout_s: float = 60.0
    """For the whole answer, retries included."""


@dataclass(slots=True)
class Spent:
    """What an answer took, as far as the endpoint has told it."""

    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = True
    finish: str = ""
    """`stop` or `length`, as the endpoint says; empty while it has said nothing: then the answer was cut off."""


class CircuitBreaker:
    """Spares an endpoint that keeps failing, and whoever waits for it: half a minute without requests, then one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures, self._open_until = 0, 0.0

    def admit(self, model: str) -> None:
        """Raise ModelUnavailable while no request is to be made."""
        with self._lock:
            now = self._clock()
            if self._failures >= _FAILURES_TO_OPEN:
                if now < self._open_until:
                    raise ModelUnavailable(
                        model,
                        f"it failed {self._failures} times in a row; asked again in {self._open_until - now:.0f} s",
                    )
                self._open_until = now + _OPEN_S  # this one request is the trial; others wait for how it ends

    def succeeded(self) -> None:
        """Close again."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Count a failure."""
        with self._lock:
            self._failures += 1
            if self._failures >= _FAILURES_TO_OPEN:
                self._open_until = self._clock() + _OPEN_S


def stream_text(
    endpoint: Endpoint,
    messages: list[dict[str, str]],
    refusal: Callable[[str], str | None],
    cancelled: threading.Event,
    spent: Spent,
) -> Iterator[str]:
    """Yield the text of a model's answer, piece by piece, as it comes.

    Args:
        endpoint: whom to ask.
        messages: of the chat.
        refusal: returns why an address may not be connected to, or None.
        cancelled: ends the request when it is set.
        spent: is filled in on the way.

    Raises:
        ModelUnavailable: it cannot be reached, refuses, takes too long or does not end.
        AnswerCancelled: it was cancelled.
    """
    told: queue.SimpleQueue[str | KbError | None] = queue.SimpleQueue()  # bounded by the limits of a stream
    worker = _Worker(endpoint, messages, refusal, told, spent)
    worker.start()
    try:
        while True:
            try:
                item = told.get(timeout=_POLL_S)
            except queue.Empty:
                if cancelled.is_set():
                    raise AnswerCancelled() from None
                continue
            if item is None:
                return
            if isinstance(item, KbError):
                raise item
            if cancelled.is_set():
                raise AnswerCancelled()
            yield item
    finally:
        worker.stop()


class _Worker(threading.Thread):
    """One request, on an event loop of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        messages: list[dict[str, str]],
        refusal: Callable[[str], str | None],
        told: queue.SimpleQueue[str | KbError | None],
        spent: Spent,
    ) -> None:
        super().__init__(name="kb-answer", daemon=True)
        self._endpoint, self._messages, self._refusal = endpoint, messages, refusal
        self._told, self._spent = told, spent
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._begun = threading.Event()

    def run(self) -> None:
        """Ask, and tell how it goes."""
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._ask())
        self._begun.set()
        try:
            self._loop.run_until_complete(self._task)
            self._told.put(None)
        except asyncio.CancelledError:
            self._told.put(AnswerCancelled())
        except KbError as error:
            self._told.put(error)
        finally:
            self._loop.close()

    def stop(self) -> None:
        """End the request, if it still runs, and its connection."""
        self._begun.wait()
        if self.is_alive() and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return  # it has just ended
            self.join(1)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                await self._try_until_answered()
        except TimeoutError:
            raise self._unavailable(f"it took more than {self._endpoint.timeout_s:g} s") from None

    async def _try_until_answered(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with _opened(self._endpoint, self._messages, self._refusal) as response:
                    if response.status_code == 200:
                        await self._read(response)
                        return
                    problem = f"it answered {response.status_code}"
                    wait_s = _retry_after_s(response.headers)
                    if response.status_code not in _RETRIED:
                        raise self._unavailable(f"{problem}; check answers.url, answers.model and answers.api_key")
            except _transport_errors() as error:
                if self._spent.output_tokens:
                    return  # it broke off: what came is read, and told to be cut off
                problem, wait_s = f"{type(error).__name__} {error}".strip(), None
            if attempt == _ATTEMPTS:
                raise self._unavailable(f"{problem}, {_ATTEMPTS} times")
            pause_s = _BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - spreads retries
            await asyncio.sleep(max(pause_s, wait_s or 0.0))

    async def _read(self, response: Any) -> None:  # noqa: ANN401 - of a library that is imported lazily
        left, sent = self._endpoint.max_tokens * _CHARS_PER_TOKEN, 0
        async for line in _lines(response):
            sent += len(line)
            if not line.startswith(b"data:"):
                continue
            body = line[5:].strip()
            if body == b"[DONE]":
                self._spent.finish = self._spent.finish or "stop"
                return
            text = self._take(body)
            left -= len(text)
            if text:
                self._told.put(text)
            if left < 0 or sent > _MAX_STREAM_BYTES:
                self._spent.finish = "too_long"
                return

    def _take(self, body: bytes) -> str:
        """Return the text of one event, and note what it says of the answer."""
        try:
            event = json.loads(body)
        except ValueError:
            raise self._unavailable("what it sends is no JSON") from None
        if not isinstance(event, dict):
            return ""
        if event.get("error"):
            raise self._unavailable("it failed in the middle of the answer")
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._spent.input_tokens = _count(usage.get("prompt_tokens"))
            self._spent.output_tokens = _count(usage.get("completion_tokens"))
            self._spent.is_estimated = False
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._spent.finish = str(choice.get("finish_reason") or self._spent.finish)
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        text = content if isinstance(content, str) else ""
        if self._spent.is_estimated:
            self._spent.output_tokens += bool(text)  # endpoints send a token an event
        return text

    def _unavailable(self, problem: str) -> ModelUnavailable:
        return ModelUnavailable(self._endpoint.model, problem)


@asynccontextmanager
async def _opened(
    endpoint: Endpoint, messages: list[dict[str, str]], refusal: Callable[[str], str | None]
) -> AsyncIterator[Any]:
    """Send a request to an address that was checked, and yield the response before its body is read."""
    import httpx2

    url = urlsplit(endpoint.url.rstrip("/") + "/chat/completions")
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    address = await _allowed_address(host, port, endpoint.model, refusal)
    # To the address itself, so that a name that resolves to another one next time leads nowhere; the certificate is
    # still checked against the name.
    literal = f"[{address}]" if ":" in address else address
    target = urlunsplit((url.scheme, f"{literal}:{port}", url.path, url.query, ""))
    headers = {"Host": url.netloc, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    body = {
        "model": endpoint.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": endpoint.max_tokens, "temperature": 0,
    }  # fmt: skip
    timeout = httpx2.Timeout(endpoint.timeout_s, connect=_CONNECT_S)
    async with (
        httpx2.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", target, json=body, headers=headers, extensions={"sni_hostname": host}) as response,
    ):
        yield response


async def _allowed_address(host: str, port: int, model: str, refusal: Callable[[str], str | None]) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refusals = []
    for *_, place in found:
        address = str(place[0])
        if (why := refusal(address)) is None:
            return address
        refusals.append(why)
    raise ModelUnavailable(model, f"{host}: {refusals[0] if refusals else 'it has no address'}")


async def _lines(response: Any) -> AsyncIterator[bytes]:  # noqa: ANN401
    """Yield the lines of a response, of bounded length."""
    rest = b""
    async for piece in response.aiter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
        if len(rest) > _MAX_LINE_BYTES:
            return
    # What comes after the last line end is cut off.


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        return min(_MAX_RETRY_AFTER_S, max(0.0, float(headers.get("Retry-After", ""))))
    except ValueError:
        return None  # a date, or nothing


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0


def _transport_errors() -> tuple[type[Exception], ...]:
    import httpx2

    return httpx2.TransportError, httpx2.InvalidURL, OSError
