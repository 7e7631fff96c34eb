"""Manage storage: folders and buckets, locks and claims, and what --restart removes."""
