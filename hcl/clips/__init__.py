"""Clips and episodes: sampled frames, augmentation, batches, blocks of features on disk."""
