"""Similarities of query and support clips: global, temporal, spatial, and rivals."""
