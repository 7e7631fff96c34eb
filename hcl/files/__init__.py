"""Read and write files safely: atomic writes, checksummed archives, locks, safe names."""
