"""Nothing is sent to a database over a network unless its certificate is from an authority that the settings trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from sendledger.core import database
from sendledger.core.errors import SettingsError
from sendledger.core.settings import DatabaseSettings
from testbed.certificates import Authority
from testbed.tcp_front import TcpFront

TRUSTED = Authority("Trusted Root CA")


def _settings(database_url: str, port: int, bundle: Path | None, host: str = "localhost") -> DatabaseSettings:
    url = f"postgresql://postgres@{host}:{port}/{make_url(database_url).database}"
    return DatabaseSettings.read({"DATABASE_URL": url, "DATABASE_CA_BUNDLE": str(bundle or "")})


def _unix_socket(database_url: str) -> str:
    path = make_url(database_url).query["unix_sock"]
    assert isinstance(path, str)
    return path


@pytest.fixture
def front(database_url: str, tmp_path: Path) -> Iterator[TcpFront]:
    """A database that calls itself localhost, by a certificate of the trusted authority."""
    with TcpFront(
        _unix_socket(database_url), TRUSTED.certificate_of("localhost").write(tmp_path, "localhost")
    ) as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A file as it is for RDS: several authorities, comments between them."""
    file = tmp_path / "bundle.pem"
    file.write_bytes(b"# One\n" + Authority("Another Root CA").pem + b"\n# Two\n" + TRUSTED.pem)
    return file


def test_database_with_a_certificate_of_the_bundle_is_used_over_tls(
    database_url: str, front: TcpFront, bundle: Path
) -> None:
    engine = database.engine(_settings(database_url, front.port, bundle))
    try:
        with engine.connect() as connection:
            # More than fits into one record of TLS, in both directions.
            text = "ä" * 200_000
            assert connection.scalar(sa.text("SELECT CAST(:text AS text)"), {"text": text}) == text
    finally:
        engine.dispose()
    assert front.encrypted == 1


def test_certificate_of_an_unknown_authority_is_refused_naming_the_bundle(
    database_url: str, front: TcpFront, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("Trusted Root CA").pem)  # the same name, another key
    engine = database.engine(_settings(database_url, front.port, other))
    with pytest.raises(SettingsError, match=r"DATABASE_CA_BUNDLE: .*other\.pem has no authority that vouches"):
        engine.connect()


def test_authorities_of_the_operating_system_do_not_vouch_for_it(database_url: str, front: TcpFront) -> None:
    # Its usual names need no TLS, this one is not known to be of this machine.
    engine = database.engine(_settings(database_url, front.port, None, "127.1"))
    with pytest.raises(SettingsError, match="DATABASE_CA_BUNDLE: the operating system has no authority"):
        engine.connect()


def test_certificate_for_another_host_is_refused_naming_the_url(
    database_url: str, tmp_path: Path, bundle: Path
) -> None:
    other = TRUSTED.certificate_of("db.example.com").write(tmp_path, "other")
    with TcpFront(_unix_socket(database_url), other) as front:
        engine = database.engine(_settings(database_url, front.port, bundle))
        with pytest.raises(SettingsError, match=r"DATABASE_URL: .*not valid for 'localhost'"):
            engine.connect()


def test_certificate_for_another_host_is_refused_naming_the_host(
    database_url: str, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    other = TRUSTED.certificate_of("db.example.com").write(tmp_path, "other")
    with TcpFront(_unix_socket(database_url), other) as front:
        settings = DatabaseSettings.read(
            {
                "DATABASE_HOST": "localhost",
                "DATABASE_PORT": str(front.port),
                "DATABASE_IAM_AUTH": "true",
                "DATABASE_CA_BUNDLE": str(bundle),
            }
        )
        with pytest.raises(SettingsError, match=r"DATABASE_HOST: .*not valid for 'localhost'"):
            database.engine(settings).connect()


def test_certificate_that_has_run_out_is_refused(database_url: str, tmp_path: Path) -> None:
    authority = Authority("Old Root CA", days=-1)
    old = tmp_path / "old.pem"
    old.write_bytes(authority.pem)
    with TcpFront(
        _unix_socket(database_url), authority.certificate_of("localhost").write(tmp_path, "localhost")
    ) as front:
        engine = database.engine(_settings(database_url, front.port, old))
        with pytest.raises(SettingsError, match=r"DATABASE_CA_BUNDLE: .*expired"):
            engine.connect()


def test_database_without_tls_is_refused_naming_the_url(database_url: str, bundle: Path) -> None:
    with TcpFront(_unix_socket(database_url)) as plain:
        engine = database.engine(_settings(database_url, plain.port, bundle))
        with pytest.raises(SettingsError, match="DATABASE_URL: the database at localhost offers no TLS"):
            engine.connect()


def test_database_without_tls_is_used_where_the_traffic_stays_on_this_machine(database_url: str) -> None:
    with TcpFront(_unix_socket(database_url)) as plain:
        engine = database.engine(_settings(database_url, plain.port, None))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        engine.dispose()


def test_bundle_that_is_not_there_is_named_before_anything_is_connected_to(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"DATABASE_CA_BUNDLE: there is no .*missing\.pem"):
        database.engine(_settings(database_url, 9, tmp_path / "missing.pem"))


@pytest.mark.parametrize("content", [b"", b"no certificates\n", TRUSTED.certificate_of("localhost").key])
def test_bundle_without_certificates_is_named(database_url: str, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"DATABASE_CA_BUNDLE: .*bundle\.pem is no file of certificates"):
        database.engine(_settings(database_url, 9, file))
