"""Where things run: descriptions of clusters, and how a command is submitted to one."""

from cluster.errors import DescriptionError, JobError, PackageError, PlaceError

__all__ = ["DescriptionError", "JobError", "PackageError", "PlaceError"]
