"""A made-up benchmark: real video files of drawn actions, for demos and tests."""
