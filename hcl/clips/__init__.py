"""Sample and augment clips, draw episodes and batches, and keep blocks of features on disk."""
