"""Frames on disk: extraction from videos, folders and shards, digests, checks."""
