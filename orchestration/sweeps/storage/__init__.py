"""A study's ledger on disk or in a database: files, claims, ownership."""
