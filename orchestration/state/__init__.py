"""Tell the state of runs and studies from their files, and watch it."""
