"""CSV files of leads for tests and benchmarks, as large as wanted, with duplicates and every kind of broken row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HEADER = "Email,First Name,Last Name,Company,City,Opt Out,Plan\n"
ROWS_PER_BLOCK = 20

_BROKEN = {
    "invalid_email": "nobody,No,Body,Acme,Berlin,,Pro\n",
    "missing_email": ",No,Body,Acme,Berlin,,Pro\n",
    "opted_out": "out{n}@example.com,Ann,Lee,Acme,Berlin,yes,Pro\n",
    "too_many_fields": "many{n}@example.com,Ann,Lee,Acme,Berlin,,Pro,and,more\n",
}
_BROKEN_QUOTES = {
    "broken_quote": 'quote{n}@example.com,"Ann"e,Lee,Acme,Berlin,,Pro\n',
    "unclosed_quote": 'open{n}@example.com,"Ann,Lee,Acme,Berlin,,Pro\n',
}


def lines(rows: int) -> Iterator[str]:
    """The header and `rows` rows. Of each block of twenty, one is broken and two are duplicates, of near and far."""
    yield HEADER
    kinds = list(_BROKEN)
    for n in range(rows):
        place = n % ROWS_PER_BLOCK
        if place == 7:
            yield _BROKEN[kinds[n // ROWS_PER_BLOCK % len(kinds)]].format(n=n)
        elif place == 11:
            yield f"LEAD{n - 1}@Example.com,Again,Near,Acme,Berlin,,Pro\n"
        elif place == 13:
            yield "lead0@example.com,Again,Far,Acme,Berlin,,Pro\n"
        elif n % 10_000 == 5_001:
            yield _BROKEN_QUOTES["broken_quote"].format(n=n)
        elif n % 10_000 == 5_002:
            # Reading goes on in its second line, after the next quotation mark was found odd.
            yield _BROKEN_QUOTES["unclosed_quote"].format(n=n)
        elif n % 10_000 == 5_003:
            yield f'lead{n}@example.com,"Zo\u00eb, ""Z""",Lee,"Acme, Inc\n2nd floor",K\u00f6ln,,\n'
        else:
            yield f"lead{n}@example.com,Ann{n},Lee,Company {n},Berlin,no,Pro\n"


def write(path: Path, rows: int) -> Counter[str]:
    """Write such a file; returns how many rows are imported, duplicates and errors."""
    expected: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        for n, line in enumerate(lines(rows), -1):
            file.write(line)
            if n >= 0:
                place, rare = n % ROWS_PER_BLOCK, n % 10_000
                kind = "errors" if place == 7 or rare in (5_001, 5_002) else "imported"
                expected["duplicates" if place in (11, 13) else kind] += 1
    return expected
