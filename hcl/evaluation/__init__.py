"""Classify the queries of episodes: score tables, fusion of the levels, and other methods on the same clips."""
