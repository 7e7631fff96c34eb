"""Files that are whole or absent: atomic writes, checksummed archives, locks, safe names."""
