"""Compute statistics: means, confidence intervals, effects of classes and videos, and the rule of significance."""
