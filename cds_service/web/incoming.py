"""Where a request ends, among bytes that become more.

Only that: it is gunicorn that reads the request, once it is here. What is no right HTTP needs
nothing more, so that gunicorn can refuse it; and if the two should not agree on an end, gunicorn
finds no more to read, and the connection ends.
"""

from __future__ import annotations

import re

MOST_HEAD = 64 * 1024  # bytes; the fields of a trailer may have as many
MOST_LINE = 8192  # bytes, of a line that begins a chunk
MOST_CHUNKS = 20_000  # of a body: to look at each costs time in which others wait
READ_AHEAD = 1024  # bytes that gunicorn asks for beyond those that are wanted

_BARE_END = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)", re.I)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*[;\r]")


class HeadTooLongError(Exception):
    """The head of a request has no end where it must have one."""


class Incoming:
    """A request of which ``sent`` is here, with a body of ``most`` bytes, or it is too long."""

    def __init__(self, sent: bytearray, most: int) -> None:
        self._sent, self._most = sent, most
        self._looked = 0  # so far for the end of the head
        self._length: int | None = None  # of head and body; none if the body is in chunks
        self._chunk = 0  # where the next begins
        self._chunks = 0  # how many are before that
        self._in_chunks = 0  # bytes of the body in them
        self.has_head = False
        self.is_too_long = False  # and so no more of it is wanted
        self.expects = False  # the caller waits to be told to continue

    def lacks(self) -> bool:
        """Whether more must come. Raises ``HeadTooLongError``."""
        if not self.has_head:
            end = self._sent.find(b"\r\n\r\n", max(0, self._looked - 3))
            if (end if end >= 0 else len(self._sent)) > MOST_HEAD:
                raise HeadTooLongError
            if end < 0:
                looked, self._looked = self._looked, len(self._sent)
                return not _BARE_END.search(self._sent, looked)
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
