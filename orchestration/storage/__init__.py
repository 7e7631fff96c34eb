"""Storage: folders and buckets, locks and claims, what --restart removes."""
