"""Generate a synthetic benchmark: real video files of drawn actions, for demos and tests."""
