"""Finds the end of a request in the bytes that were received so far.

Nothing else is parsed here: gunicorn parses the request once it is complete. A request that is not
valid HTTP counts as complete, so that gunicorn can refuse it. If gunicorn expects more bytes than
were found here, it reads the end of the input, and the connection is closed.
"""

from __future__ import annotations

import re

MOST_HEAD = 64 * 1024  # bytes; also of the trailer
MOST_LINE = 8192  # bytes of a line that begins a chunk
MOST_CHUNKS = 20_000  # of a body: while the chunks are counted, other connections wait
READ_AHEAD = 1024  # bytes that gunicorn reads beyond the end of a body

_BARE_END = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)", re.I)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*[;\r]")


class HeadTooLongError(Exception):
    """The head of a request is longer than ``MOST_HEAD``."""


class Incoming:
    """A request of which the bytes ``sent`` were received. Its body may have ``most`` bytes."""

    def __init__(self, sent: bytearray, most: int) -> None:
        self._sent, self._most = sent, most
        self._searched = 0  # the bytes in which the end of the head was searched for
        self._length: int | None = None  # of head and body; none if the body is in chunks
        self._chunk = 0  # the offset of the next chunk
        self._chunks = 0  # the number of chunks before that offset
        self._in_chunks = 0  # the bytes of the body in these chunks
        self.has_head = False
        self.is_too_long = False  # the body is longer than ``most``: no more of it is read
        self.expects = False  # the caller waits for "100 Continue"

    def lacks(self) -> bool:
        """Whether the request is not complete yet. Raises ``HeadTooLongError``."""
        if not self.has_head:
            end = self._sent.find(b"\r\n\r\n", max(0, self._searched - 3))
            if (end if end >= 0 else len(self._sent)) > MOST_HEAD:
                raise HeadTooLongError
            if end < 0:
                searched, self._searched = self._searched, len(self._sent)
                return not _BARE_END.search(self._sent, searched)
            self._read_head(end)
        if self._length is not None:
            return len(self._sent) < self._length
        return self._lacks_chunks()

    def _read_head(self, end: int) -> None:
        self.has_head = True
        self._chunk = self._length = end + 4
        fields = {m[1].lower(): m[2].strip() for m in _FIELD.finditer(self._sent, 0, end + 2)}
        length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        if coding is not None:
            if length is None and coding.lower().endswith(b"chunked"):
                self._length = None
        elif length and length.isdigit():
            self.is_too_long = len(length) > 15 or int(length) > self._most
            self._length += 0 if self.is_too_long else int(length)
        if fields.get(b"expect", b"").lower() == b"100-continue":
            self.expects = self._sent.find(b" HTTP/1.0\r\n", 0, end + 2) < 0

    def _lacks_chunks(self) -> bool:
        sent, most = self._sent, self._most + READ_AHEAD
        while True:
            end = sent.find(b"\r\n", self._chunk, self._chunk + MOST_LINE)
            if end < 0:
                return len(sent) < self._chunk + MOST_LINE
            match = _CHUNK.match(sent, self._chunk)
            if match is None:
                return False
            size = int(match[1], 16)
            if size == 0:
                return sent.find(b"\r\n\r\n", end) < 0 and len(sent) < end + MOST_HEAD
            if (beyond := self._in_chunks + size - most) > 0:
                self.is_too_long = True
                return len(sent) < end + 2 + size - beyond
            self._chunks += 1
            if self._chunks > MOST_CHUNKS:
                return False
            self._in_chunks += size
            self._chunk = end + 2 + size + 2
