"""Compute statistics: means, confidence intervals, paired tests, resampling of classes and videos."""
