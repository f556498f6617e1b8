"""Creates an API key in the database at DATABASE_URL and prints it: `make api-key ARGS='--name ci --role viewer'`."""

from __future__ import annotations

import argparse
import datetime as dt
import sys

import sqlalchemy as sa

from sendledger.access import api_keys
from sendledger.core import database
from sendledger.core.errors import InvalidInput, SettingsError
from sendledger.core.settings import DatabaseSettings
from sendledger.core.vocabulary import Role


def main() -> int:
    parser = argparse.ArgumentParser(prog="make api-key", description=__doc__)
    parser.add_argument("--name", default="first key", help="what the key is for (default: %(default)s)")
    parser.add_argument("--role", default=Role.ADMIN, choices=list(Role), help="default: %(default)s")
    parser.add_argument("--days", type=int, help="days that it is valid for; without it, until it is revoked")
    options = parser.parse_args()
    expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(days=options.days) if options.days else None
    try:
        engine = database.engine(DatabaseSettings.read())
        try:
            with engine.begin() as connection:
                created = api_keys.create(connection, options.name, options.role, expires_at)
        finally:
            engine.dispose()
    except InvalidInput as error:
        print("; ".join(f"{wrong.field} {wrong.message}" for wrong in error.errors), file=sys.stderr)
        return 1
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except sa.exc.DBAPIError as error:
        print(f"The database does not answer as it should; is it migrated? {error.orig}", file=sys.stderr)
        return 1
    print(created.key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
