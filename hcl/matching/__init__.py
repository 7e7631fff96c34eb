"""Compute similarities of query and support clips: HCL's global, temporal and spatial ones, and other matchers."""
