"""Engines for PostgreSQL: verified TLS, no Nagle delay, bounded waits, UTC.

pg8000's own TLS falls back to plaintext when the server declines it, and verifies nothing without a context. So the
socket is opened, wrapped and checked here, and pg8000 gets it ready for use.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pg8000
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from sendledger.core import postgres_values, stored_secrets
from sendledger.core.errors import SettingsError
from sendledger.core.server_connection import ServerConnection
from sendledger.core.settings import DatabaseSettings

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for the TCP connection and the TLS handshake."""

LONGEST_STATEMENT = 50.0
"""Seconds after which the server ends a statement."""

IDLE_SESSION = 90.0
"""Seconds after which the server ends an idle session. Lambda freezes an idle environment with its connections open,
for an unknown time. The limit is longer than the minute between two ticks, so that the sender keeps its connections."""

LONGEST_PAUSE = 10.0
"""Seconds after which the server ends an idle transaction. Its client is gone, and its locks block others."""

SOCKET_MARGIN = 10.0
"""Seconds added to the statement timeout: without a byte from the server for that long, a connection counts as lost. A
network that drops packets gives no error. The addition lets the server's own timeout come first."""

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST"""


def engine(
    settings: DatabaseSettings,
    pool_size: int = 3,
    longest_statement: float = LONGEST_STATEMENT,
    *,
    read_only: bool = False,
) -> sa.Engine:
    """An engine for these settings. A lost connection is detected when it is taken from the pool.

    `longest_statement` is in seconds.

    Raises:
        SettingsError: the URL is not a PostgreSQL URL, or the certificate authorities cannot be read. Connecting raises
            it too, if the database offers no TLS or its certificate is not the right one.
    """
    url = _url(settings)
    tls = _tls(url, settings)
    created = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,  # they are lead data, and errors are logged
        json_serializer=functools.partial(json.dumps, separators=(",", ":")),
        json_deserializer=postgres_values.read_json,
    )
    password = _password_source(settings)

    timeout = longest_statement + SOCKET_MARGIN

    def connect(dialect: sa.Dialect, record: Any, args: Any, options: dict[str, Any]) -> ServerConnection:
        options["startup_params"] = _startup_parameters(longest_statement, read_only=read_only)
        options["application_name"] = "sendledger"
        if password is not None:
            options.update(password())
        options.pop("sslmode", None)  # read by _tls
        try:
            if "unix_sock" in options:
                return ServerConnection(ssl_context=False, timeout=timeout, **options)
            # The socket is already wrapped in TLS, or local.
            sock = _open_socket(options["host"], options.get("port") or 5432, tls, timeout)
            try:
                return ServerConnection(ssl_context=False, sock=sock, **options)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise pg8000.InterfaceError(f"The database could not be reached: {error}") from error

    sa.event.listen(created, "do_connect", connect)
    sa.event.listen(created, "checkout", _replace_if_lost)
    sa.event.listen(created, "handle_error", _give_up_if_unusable)
    return created


def _startup_parameters(longest_statement: float, *, read_only: bool) -> dict[str, str]:
    return {
        "TimeZone": "UTC",
        # In which texts times and intervals are read, whatever the operator has set for the database.
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "statement_timeout": str(int(longest_statement * 1000)),
        "idle_in_transaction_session_timeout": str(int(LONGEST_PAUSE * 1000)),
        "idle_session_timeout": str(int(IDLE_SESSION * 1000)),
        # If a crash of the server lost a fence after SES was called, the email would be sent twice.
        "synchronous_commit": "on",
        # The database lets no version without this claim from campaigns with several revisions of their workflow.
        "sendledger.knows_revisions": "on",
        # Otherwise as the database says: its operator may have frozen it.
        **({"default_transaction_read_only": "on"} if read_only else {}),
    }


def _replace_if_lost(connection: ServerConnection, record: object, proxy: object) -> None:
    """Ask the server whether a connection from the pool still works, unless it was used a moment ago: asking for each
    short transaction would be a third of its waiting."""
    if not connection.is_surely_alive:
        try:
            connection.execute_simple("SELECT 1")
        except pg8000.Error as error:
            raise sa.exc.DisconnectionError from error


def _give_up_if_unusable(context: sa.ExceptionContext) -> None:
    """Whether a connection is no longer usable, which SQLAlchemy does not see from pg8000's errors. A statement that
    failed halfway, for example at a value that cannot be encoded, leaves its answer unread: the next statement would
    read it. A session that the server has ended, for example after its idle timeout, does not answer."""
    error = context.original_exception
    if not isinstance(error, pg8000.Error) or _said(error).get("C", "") in _SESSION_ENDED:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


_SESSION_ENDED = ("25P03", "57P01", "57P02", "57P05")
"""Idle in a transaction, ended by an administrator, crash of the server, idle outside of a transaction."""


def _url(settings: DatabaseSettings) -> URL:
    if not settings.database_url:
        return URL.create(
            "postgresql+pg8000",
            settings.database_user,
            host=settings.database_host,
            port=settings.database_port,
            database=settings.database_name,
        )
    try:
        url = make_url(settings.database_url)
    except sa.exc.ArgumentError:
        raise SettingsError("DATABASE_URL: is not a URL such as postgresql://user:password@host/name") from None
    if url.get_backend_name() != "postgresql":
        raise SettingsError("DATABASE_URL: is not a postgresql:// URL")
    url = url.set(drivername="postgresql+pg8000")
    # libpq's spelling of a Unix socket is the folder as the host.
    folder = url.query.get("host")
    if isinstance(folder, str):
        url = url.difference_update_query(["host"]).update_query_dict({"unix_sock": f"{folder}/.s.PGSQL.5432"})
    return url


class _Tls(NamedTuple):
    """How to verify the database, and which settings to name if that fails."""

    context: ssl.SSLContext
    bundle: str | None
    where: str

    def wrap(self, connection: socket.socket, host: str) -> socket.socket:
        """Ask the server for TLS, and see whose certificate it has."""
        connection.sendall(_SSL_REQUEST)
        answer = connection.recv(1)
        if answer == b"N":
            raise SettingsError(f"{self.where}: the database at {host} offers no TLS, and nothing is sent without.")
        if answer != b"S":
            raise ConnectionError(f"The database at {host} has ended the connection.")
        try:
            return self.context.wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _OTHER_NAME:
                raise SettingsError(f"{self.where}: {error.verify_message}; nothing is sent to it.") from None
            raise SettingsError(
                f"DATABASE_CA_BUNDLE: {self.bundle or 'the operating system'} has no authority that vouches for {host} "
                f"({error.verify_message}); nothing is sent to it."
            ) from None


_OTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/"""


def _tls(url: URL, settings: DatabaseSettings) -> _Tls | None:
    """None where the traffic stays on this machine or the URL says sslmode=disable."""
    bundle = settings.database_ca_bundle
    if "unix_sock" in url.query or url.query.get("sslmode") == "disable" or (_is_loopback(url.host) and not bundle):
        return None
    where = "DATABASE_URL" if settings.database_url else "DATABASE_HOST"
    try:
        # Read once: Amazon's authorities for RDS are many.
        return _Tls(ssl.create_default_context(cafile=bundle), bundle, where)
    except FileNotFoundError:
        raise SettingsError(
            f"DATABASE_CA_BUNDLE: there is no {bundle}, and nothing is sent to a database that cannot be verified. "
            "The layer has Amazon's for RDS at /opt/rds-global-bundle.pem."
        ) from None
    except OSError:
        raise SettingsError(f"DATABASE_CA_BUNDLE: {bundle} is no file of certificates.") from None


def _is_loopback(host: str | None) -> bool:
    try:
        return host in (None, "localhost") or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _open_socket(host: str, port: int, tls: _Tls | None, timeout: float) -> socket.socket:
    connection = socket.create_connection((host, port), CONNECT_TIMEOUT)
    try:
        # A statement and its parameters are several small writes. Nagle's algorithm would delay them by 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is not None:
            connection = tls.wrap(connection, host)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _password_source(settings: DatabaseSettings) -> Callable[[], dict[str, str]] | None:
    """How each new connection gets its credentials; None where the URL has them."""
    if settings.database_url:
        return None
    if settings.database_iam_auth:
        import boto3  # for cold starts

        rds = boto3.client("rds")

        def iam_token() -> dict[str, str]:
            # Signed on this machine, valid for 15 minutes, so each connection gets its own.
            token = rds.generate_db_auth_token(
                DBHostname=settings.database_host, Port=settings.database_port, DBUsername=settings.database_user
            )
            return {"user": settings.database_user, "password": token}

        return iam_token

    # Read for each new connection, which is rare, so that a rotated password is picked up.
    return functools.partial(read_secret, settings.database_secret_arn or "")


def read_secret(arn: str) -> dict[str, str]:
    """The `user` and `password` in a secret of Secrets Manager."""
    found = json.loads(stored_secrets.read_secret(arn))
    return {"user": found["username"], "password": found["password"]}


_TRANSIENT_STATES = ("08", "25P02", "25P03", "40", "53", "55P03", "57")
"""SQLSTATE classes of temporary errors: connection lost, ended for being idle, deadlock or serialization, no resources,
lock or shutdown. https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Whether the same transaction may succeed if it is retried: the connection or the server failed, not the
    statement."""
    return (
        error.connection_invalidated
        or isinstance(error, sa.exc.InterfaceError)
        or sqlstate(error).startswith(_TRANSIENT_STATES)
    )


def sqlstate(error: sa.exc.DBAPIError) -> str:
    """The server's code for the error; empty if the error is not the server's."""
    return _said(error.orig).get("C", "")


def constraint(error: sa.exc.DBAPIError) -> str | None:
    """The constraint that the server names as broken."""
    return _said(error.orig).get("n")


def server_message(error: sa.exc.DBAPIError) -> str:
    """The server's own words."""
    return _said(error.orig).get("M", str(error.orig))


def server_detail(error: sa.exc.DBAPIError) -> str:
    """What the server adds to its message, such as the objects that depend on a table. It may hold values of rows."""
    return _said(error.orig).get("D", "")


def _said(error: BaseException | None) -> dict[str, str]:
    """The fields of the server's message. pg8000 raises one class for all of its errors, with a dictionary in it."""
    fields = error.args[0] if error is not None and error.args else None
    return fields if isinstance(fields, dict) else {}
