"""Describe clusters, and submit commands to them."""

from cluster.errors import DescriptionError, JobError, PackageError, PlaceError

__all__ = ["DescriptionError", "JobError", "PackageError", "PlaceError"]
