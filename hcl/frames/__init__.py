"""Keep frames on disk: extract them from videos, store them in folders and shards, digest and check them."""
