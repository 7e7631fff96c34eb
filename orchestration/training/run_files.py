"""Name the files in the folder of a training run.

This module imports nothing: commands that only look at a run start without torch.
"""

LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
PREVIOUS = "checkpoints/previous.pt"
"""The last checkpoint but one. A run resumes from it where the last one is damaged or missing."""
NEXT_BEST = "checkpoints/next_best.pt"
"""The best weights, until the last checkpoint, too, is that of their epoch."""
METRICS = "metrics.parquet"
WRITER = "checkpoints/.writer"
"""The lock of the process that writes a run's checkpoints."""
PROGRESS = "progress.json"
LOG, ERROR_LOG, HUNG_LOG = "log.txt", "error.log", "hung.log"
"""The run's log; of a trial, also the traceback of its failure, and of where it was when its time was over."""
FAILED = "failed.json"
NON_FINITE = "non_finite.json"
FUSION = "fusion.yaml"
"""The weights of the levels that were chosen on val, as `hcl evaluate RUN --fused` reads them."""
FUSED_WEIGHTS = "weights"
"""The key in that file, beside the settings, of the digest of the checkpoint that they were chosen with."""
IMPORTED = "imported.json"
"""The mark of a folder of imported weights, into which nothing trains."""
