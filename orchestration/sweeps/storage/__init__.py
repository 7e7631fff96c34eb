"""Store a study's ledger on disk or in a database, with claims and ownership."""
