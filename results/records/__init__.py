"""Records: what a run, an evaluation and a study leave on disk, and how it is read."""
