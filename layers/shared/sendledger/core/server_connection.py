"""A connection to PostgreSQL that waits for the server as seldom as possible.

pg8000 waits three times for each statement and each commit, and once for each BEGIN. Here a statement is one wait, with
the BEGIN before it, and a commit is one. The server reads the messages in their order, and after an error it skips the
rest up to Sync: a statement never runs without its BEGIN.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import pg8000
from pg8000 import converters
from pg8000 import core as protocol

from sendledger.core import postgres_values
from sendledger.core.kept_statements import KEPT, PLAN_FOR_VALUES, PLAN_ONCE, Cursor, KeptStatements
from sendledger.core.sockets import is_readable

SURELY_ALIVE_SECONDS = 1.0
"""How long after an answer of the server a connection is only looked at, and not asked, before it is used again."""

_BEGIN = "begin transaction"
"""As pg8000 says it."""


class ServerConnection(pg8000.Connection):  # type: ignore[misc]
    """pg8000 passes some socket errors through unchanged. SQLAlchemy recognises only pg8000's own as a lost
    connection."""

    _usock: socket.socket | None = None
    _sock: Any = None
    _begins = False
    """Whether the next statement is the first of a transaction that the server does not know yet."""
    _answered_at = 0.0
    _plans_once = False
    """Whether PLAN_ONCE was said last in this transaction."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._kept = KeptStatements()
        try:
            super().__init__(*args, **options)
        except BaseException:
            self._close_stream(self._sock)
            if self._usock is not None:
                self._usock.close()
            raise
        postgres_values.register(self)

    @property
    def is_surely_alive(self) -> bool:
        """Whether the server has answered a moment ago and said nothing since. A server that ends a session says so.

        The clock is the one that goes on while Lambda freezes the process.
        """
        silent_for = time.time() - self._answered_at
        return 0 <= silent_for < SURELY_ALIVE_SECONDS and self._usock is not None and not is_readable(self._usock)

    def close(self) -> None:
        # pg8000 closes only the socket, which stays open as long as its stream is.
        stream = self._sock
        try:
            # Closing sends a last message. It fails after a refused login, as the server is gone; the caller must see
            # the refusal, which is being raised.
            with contextlib.suppress(pg8000.InterfaceError):
                super().close()
        finally:
            self._close_stream(stream)

    @staticmethod
    def _close_stream(stream: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.close()

    def cursor(self) -> Cursor:
        return Cursor(self)

    def rollback(self) -> None:
        self._begins = False
        super().rollback()

    def execute_simple(self, statement: str) -> Any:
        """A statement without parameters. A BEGIN is sent with the statement after it."""
        if statement == _BEGIN:
            self._begins = True
            return protocol.Context(statement)
        begin, self._begins = (f"{_BEGIN}; " if self._begins else ""), False
        return super().execute_simple(begin + statement)

    def execute_unnamed(self, statement: str, vals: Sequence[Any] = (), oids: Any = (), stream: Any = None) -> Any:
        """A statement that has parameters or is kept. They are encoded first: after an error nothing has been sent."""
        if not vals and stream is None and not statement.startswith(KEPT):
            return self.execute_simple(statement)
        values = [
            value if value is None else value.encode(self._client_encoding)
            for value in converters.make_params(self.py_types, vals)
        ]
        written = statement.encode(self._client_encoding)
        name, is_known = self._kept.find(statement, oids) if statement.startswith(KEPT) else (_NO_NAME, False)
        messages = [part for each in self._kept.take_unused() for part in _close(each)]
        if self._begins:
            messages += _run(_BEGIN)
        if (is_kept := name != _NO_NAME) is not self._plans_once and not self.autocommit:
            self._plans_once = is_kept
            messages += _run(PLAN_ONCE if is_kept else PLAN_FOR_VALUES)
        messages += [
            *([] if is_known else _parse(written, oids, name)),
            *_bind(values, name),
            _DESCRIBE,
            protocol.EXECUTE_MSG,
            protocol.SYNC_MSG,
        ]
        self._begins = False
        context = protocol.Context(statement, stream=stream)
        if self._sock is None:
            raise pg8000.InterfaceError("connection is closed")
        protocol._write(self._sock, b"".join(messages))
        protocol._flush(self._sock)
        try:
            self.handle_messages(context)
        except pg8000.Error:
            if name != _NO_NAME:
                self._kept.forget(name)
            raise
        return context

    def handle_READY_FOR_QUERY(self, data: bytes, context: Any) -> None:  # noqa: N802 (a name of pg8000)
        super().handle_READY_FOR_QUERY(data, context)
        self._answered_at = time.time()
        if data == protocol.IDLE:
            self._plans_once = False

    def handle_messages(self, context: Any) -> None:
        try:
            self._read_answer(context)
        except OSError as error:
            # The error keeps the socket alive while it is handled, and so the transaction on the server.
            with contextlib.suppress(OSError):
                if self._usock is not None:
                    self._usock.shutdown(socket.SHUT_RDWR)
            raise pg8000.InterfaceError(f"network error: {error}") from error
        if context.error is not None:
            raise context.error

    def _read_answer(self, context: Any) -> None:
        """As pg8000 reads it, in two thirds of the time for a row."""
        read, encoding, code = self._sock.read, self._client_encoding, b""
        while code != protocol.READY_FOR_QUERY:
            head = read(5)
            code, size = protocol.ci_unpack(head) if len(head) == 5 else (b"", 4)
            data = read(size - 4)
            if not code or len(data) < size - 4:
                raise pg8000.InterfaceError("network error: the server has ended the connection")
            if code == protocol.DATA_ROW:
                context.rows.append(_row(data, context.input_funcs, encoding))
            else:
                self.message_types[code](data, context)


# https://www.postgresql.org/docs/current/protocol-message-formats.html
_NO_NAME = b"\x00"
_DESCRIBE = protocol._create_message(protocol.DESCRIBE, protocol.PORTAL + _NO_NAME)


def _row(data: bytes, readers: Sequence[Callable[[str], Any]], encoding: str) -> list[Any]:
    row, at = list[Any](), 2
    for read in readers:
        begin = at + 4
        at = begin + max(size := protocol.i_unpack(data, at)[0], 0)
        row.append(read(data[begin:at].decode(encoding)) if size >= 0 else None)
    return row


def _run(statement: str) -> list[bytes]:
    return [*_parse(statement.encode()), *_bind([]), protocol.EXECUTE_MSG]


def _close(name: bytes) -> list[bytes]:
    return _message(protocol.CLOSE, [protocol.STATEMENT, name])


def _parse(statement: bytes, oids: Sequence[int] = (), name: bytes = _NO_NAME) -> list[bytes]:
    types = b"".join(protocol.i_pack(max(oid, 0)) for oid in oids)
    return _message(protocol.PARSE, [name, statement, b"\x00", protocol.H_pack(len(oids)), types])


def _bind(values: Sequence[bytes | None], name: bytes = _NO_NAME) -> list[bytes]:
    """All values, and what comes back, are text."""
    parts = [_NO_NAME, name, protocol.H_pack(0), protocol.H_pack(len(values))]
    for value in values:
        parts += [protocol.i_pack(-1)] if value is None else [protocol.i_pack(len(value)), value]
    return _message(protocol.BIND, [*parts, protocol.H_pack(0)])


def _message(code: bytes, parts: Sequence[bytes]) -> list[bytes]:
    return [code, protocol.i_pack(4 + sum(map(len, parts))), *parts]
