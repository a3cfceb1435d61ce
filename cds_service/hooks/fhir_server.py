"""Reading from the EHR's FHIR server what was not prefetched.

In parallel, over pooled connections, within one deadline for everything, with the token of the
request and for that request only. ``next`` links are followed only below the address of the server;
redirects are not followed. What could not be read in time is a ``KeyResult`` that says so.

A search with a long address is sent as a form (FHIR R4, "search", POST), and so is one that the
server refused for its length; if the server takes no form, by GET. A server that is busy is asked
once more.
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
from urllib.parse import quote, urljoin

import orjson

from ..access import tracing
from ..access.outgoing import Outgoing, OutgoingError, Reply
from ..engine.decoder import decode
from ..fhir.chart import KeyResult, State, read_page
from ..fhir.references import is_below, normal_base, read_address
from ..limits.bounds import NONE, Bounds, TooMuchError, weight_of
from ..limits.concurrency import ConcurrencyLimit, TooBusyError

MOST_PAGES = 50
MOST_BYTES = 32 * 1024 * 1024
AT_ONCE = 6  # requests
THREADS = 16  # of one request, which has as many keys
LONGEST_ADDRESS = 1800  # characters; many servers and proxies refuse over 2,000
TOO_LONG, TOO_BUSY, NO_POST = 414, (429, 503), (405, 501)  # HTTP status
AGAIN_AFTER = 0.1  # seconds, where a busy server does not say when
FORM = "application/x-www-form-urlencoded"
ACCEPT = "application/fhir+json, application/json;q=0.9"


Hold = Callable[[int], None]


class FhirReader:
    """Reads for all requests of this process, over ``outgoing``.

    Threads wait while a slow server is read. So at most ``most`` requests read at once, and with
    ``each`` no caller takes all places. Each request has ``THREADS`` of its own, and keeps its
    place until the last of them is done: no request waits for the server of another caller.
    """

    def __init__(
        self, outgoing: Outgoing | None = None, most: int = AT_ONCE, each: bool = False
    ) -> None:
        self._outgoing = outgoing or Outgoing()
        self._room = ConcurrencyLimit(most, each)
        self._threads = ThreadPoolExecutor(most * THREADS, thread_name_prefix="fhir")

    def read(
        self,
        server: str,
        token: str | None,
        wanted: dict[str, str],
        seconds: float,
        caller: str | None = None,
        bounds: Bounds = NONE,
    ) -> dict[str, KeyResult]:
        """Read each of ``wanted`` (prefetch key to relative search, or absolute ``next`` link).

        Gives a ``KeyResult`` for every key within ``seconds``. A key that was not read by then has
        failed, and so has one that takes more memory than ``bounds`` allow. Raises ``TooBusyError``
        if no place is free for ``caller``.
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
                    except IndexError:  # another thread was quicker
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
        except RuntimeError:  # the system gives no more threads
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
        # What is wanted may be the next page of a search, and such a link is followed by GET.
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
        # A server may give the cached result of the same search.
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
        """Search by GET, or by POST if the address is long. Raises ``OutgoingError``."""
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
        """Ask, and once more if the server is busy and the deadline allows it."""
        call = partial(self._outgoing.call, method, url, headers, deadline, MOST_BYTES, form, hold)
        reply = call()
        if reply.status in TOO_BUSY:
            written = (reply.retry_after or "").strip()
            pause = AGAIN_AFTER  # also if it is a date
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
