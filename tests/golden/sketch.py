"""Summarise arrays in 1,024 numbers by a count sketch, which keeps relative distances of arrays to a few percent.

Every element goes to one bucket with a sign, both drawn from the array's name; the sketch is linear, so the distance
of two sketches estimates the distance of the arrays without bias (Charikar, Chen, Farach-Colton 2002).
"""

from __future__ import annotations

import zlib

import numpy as np

BUCKETS = 1024


def sketch(values: np.ndarray, name: str) -> np.ndarray:
    """Return 1,024 sums of signed elements in float64."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    bucket = generator.randint(0, BUCKETS, flat.size)
    sign = generator.randint(0, 2, flat.size) * 2 - 1
    return np.bincount(bucket, weights=sign * flat, minlength=BUCKETS)
