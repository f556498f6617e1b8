"""Sendledger: email campaigns on Amazon SES with a ledger that accounts for every email."""
