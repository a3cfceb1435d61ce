"""Reads data that was not prefetched from the EHR's FHIR server.

Keys are read in parallel, over pooled connections, with one deadline for all. The token of a
request is used only for that request. ``next`` links are followed only below the address of the
server; redirects are not followed. For a key that could not be read in time, the ``KeyResult`` says
so.

A search with a long URL is sent as a form (FHIR R4, "search", POST), and so is one that the server
refused because of its length. If the server accepts no form, GET is used. A request that a busy
server refused is sent once more.
"""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Self
from urllib.parse import quote, urljoin

import orjson

from ..access import tracing
from ..access.outgoing import Outgoing, OutgoingError, Reply
from ..engine.decoder import decode
from ..fhir.chart import KeyResult, State, read_page
from ..fhir.references import is_below, normal_base, read_address
from ..limits.bounds import UNBOUNDED, Bounds, TooMuchError, weight_of
from ..limits.concurrency import ConcurrencyLimit, TooBusyError
from ..settings import READING_AT_ONCE, Settings

MOST_PAGES = 50
MOST_BYTES = 32 * 1024 * 1024
THREADS = 16  # per request, one for each key
LONGEST_ADDRESS = 1800  # characters; many servers and proxies refuse over 2,000
TOO_LONG, TOO_BUSY, NO_POST = 414, (429, 503), (405, 501)  # HTTP status codes
AGAIN_AFTER = 0.1  # seconds, if a busy server does not send Retry-After
FORM = "application/x-www-form-urlencoded"
ACCEPT = "application/fhir+json, application/json;q=0.9"


Hold = Callable[[int], None]


class FhirReader:
    """Reads FHIR servers for all requests of this process, over ``outgoing``.

    Threads wait for slow servers. So at most ``most`` requests read at the same time, and with
    ``each`` no single caller can take all places. Each request has ``THREADS`` threads of its own,
    and keeps its place until the last of them has ended. So no request waits for another caller's
    server.
    """

    def __init__(
        self, outgoing: Outgoing | None = None, most: int = READING_AT_ONCE, each: bool = False
    ) -> None:
        self._outgoing = outgoing or Outgoing()
        self._room = ConcurrencyLimit(most, each)
        self._threads = ThreadPoolExecutor(most * THREADS, thread_name_prefix="fhir")

    @classmethod
    def of(cls, settings: Settings, outgoing: Outgoing | None = None, each: bool = False) -> Self:
        """A reader with the limits of the settings, and over their calls if none are given."""
        return cls(outgoing or Outgoing.of(settings), settings.reading_at_once, each)

    def read(
        self,
        server: str,
        token: str | None,
        wanted: dict[str, str],
        seconds: float,
        caller: str | None = None,
        bounds: Bounds = UNBOUNDED,
    ) -> dict[str, KeyResult]:
        """Read each of ``wanted``: by prefetch key, a relative search or an absolute ``next`` link.

        ``server`` is the base URL of the FHIR server. Returns a ``KeyResult`` for every key within
        ``seconds``. A key has failed if it was not read by then, or needs more memory than
        ``bounds`` allow. Raises ``TooBusyError`` if no place is free for ``caller``.
        """
        if not wanted:
            return {}
        deadline = time.monotonic() + seconds
        base, around = f"{normal_base(server)}/", tracing.here()
        left, results = deque(wanted.items()), dict[str, KeyResult]()
        place, threads = ExitStack(), min(len(wanted), THREADS)
        place.enter_context(self._room.slot_for(caller))
        back = count(1)

        def come_back() -> None:
            if next(back) == threads:
                place.close()

        def read_keys() -> None:
            try:
                while left:
                    try:
                        key, search = left.popleft()
                    except IndexError:  # another thread has taken the last key
                        return
                    with tracing.reading(key, around) as span:
                        result = self._read_all(base, token, search, deadline, bounds)
                        span.set_attribute("cds.state", result.state.value)
                        span.set_attribute("cds.resources", len(result.resources))
                        results[key] = result
            finally:
                come_back()

        try:
            readers = [self._threads.submit(read_keys) for _ in range(threads)]
        except RuntimeError:  # the system cannot start more threads
            left.clear()
            place.close()
            raise
        done, late = wait(readers, timeout=seconds)
        left.clear()
        for reader in late:
            if reader.cancel():
                come_back()
        for reader in done:
            reader.result()
        return {
            key: results.get(key) or _failed("the record system was too slow") for key in wanted
        }

    def _read_all(
        self, base: str, token: str | None, search: str, deadline: float, bounds: Bounds
    ) -> KeyResult:
        url, link = base, search
        whole = KeyResult(State.EMPTY)
        seen: set[str] = set()
        # A ``next`` link is followed by GET; only a search may be sent as a form.
        first = (
            None if search.lower().startswith(("http://", "https://")) else urljoin(base, search)
        )
        while link:
            try:
                url = urljoin(url, link)
            except ValueError:
                url = ""
            if read_address(url) is None:
                return _cut_short(whole, "its next page is at no address")
            if not is_below(url, base):
                return _cut_short(whole, "its next page is on another server")
            if url in seen or len(seen) >= MOST_PAGES:
                return _cut_short(whole, "it has too many pages")
            seen.add(url)
            page = self._read_page(url, token, deadline, bounds, is_search=url == first)
            whole.resources += page.resources
            whole.by_url |= page.by_url
            whole.matches += page.matches
            whole.total = max(whole.total, page.total)
            if page.state is State.FAILED or (page.state is State.PARTIAL and not page.next_url):
                return _cut_short(whole, page.reason)
            link = page.next_url or ""
            if page.state is State.COMPLETE or whole.resources:
                whole.state = State.COMPLETE
        return whole

    def _read_page(
        self, url: str, token: str | None, deadline: float, bounds: Bounds, *, is_search: bool
    ) -> KeyResult:
        # Without this header, a server may return a cached result of the same search.
        headers = {"Accept": ACCEPT, "Cache-Control": "no-cache"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        tracing.pass_on(headers)
        try:
            hold = partial(_hold, bounds)
            ask = self._search if is_search else partial(self._ask_twice, "GET")
            reply = ask(url, headers, deadline, hold)
            if reply.status != 200:
                return _failed(f"the record system answered {reply.status}")
            hold(weight_of(reply.body) - len(reply.body))
            return read_page(decode(reply.body.removeprefix(codecs.BOM_UTF8)))
        except OutgoingError as error:
            return _failed(f"the record system {error}")
        except orjson.JSONDecodeError:
            return _failed("the record system did not answer with FHIR JSON")

    def _search(self, url: str, headers: dict[str, str], deadline: float, hold: Hold) -> Reply:
        """Search by GET, or by POST if the URL is long. Raises ``OutgoingError``."""
        address, _, query = url.partition("?")
        length = len(quote(url, safe="/?&=:%"))
        if length <= LONGEST_ADDRESS:
            reply = self._ask_twice("GET", url, headers, deadline, hold)
            if reply.status != TOO_LONG or not query:
                return reply
        form = quote(query, safe="&=%")
        posted = self._ask_twice(
            "POST", f"{address}/_search", {**headers, "Content-Type": FORM}, deadline, hold, form
        )
        if posted.status in NO_POST and length > LONGEST_ADDRESS:
            return self._ask_twice("GET", url, headers, deadline, hold)
        return posted

    def _ask_twice(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        deadline: float,
        hold: Hold,
        form: str | None = None,
    ) -> Reply:
        """Send a request, and once more if the server is busy and the deadline allows it."""
        call = partial(self._outgoing.call, method, url, headers, deadline, MOST_BYTES, form, hold)
        reply = call()
        if reply.status in TOO_BUSY:
            written = (reply.retry_after or "").strip()
            pause = AGAIN_AFTER  # also if Retry-After is a date
            if written.isascii() and written.isdigit():
                pause = max(AGAIN_AFTER, float(written[:9]))
            if time.monotonic() + pause < deadline:
                time.sleep(pause)
                return call()
        return reply


def _hold(bounds: Bounds, more: int) -> None:
    """Reserve memory for more bytes. Raises ``OutgoingError`` if that is too much."""
    try:
        bounds.hold(more)
    except (TooMuchError, TooBusyError):
        raise OutgoingError("sent too much") from None


def _failed(reason: str) -> KeyResult:
    return KeyResult(State.FAILED, reason=reason)


def _cut_short(whole: KeyResult, reason: str) -> KeyResult:
    whole.state = State.PARTIAL if whole.resources else State.FAILED
    whole.reason = reason
    return whole
