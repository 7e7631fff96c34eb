"""Name the matchers of `hcl.evaluation.frame_matchers`, without their imports."""

FRAME_MATCHERS = {
    "otam": "OTAM: soft-minimum alignment of the frames in order, both ways; nothing to train",
    "bimhm": "Bi-MHM: each frame to its best in the other clip, both ways; nothing to train",
    "chamfer": "Chamfer distance of the sets of frames; nothing to train",
    "frames-protonet": "ProtoNet on the run's frames: squared distance of the mean frame to the mean of a class",
    "frames-cosine": "the cosine of mean frames, averaged over shots",
    "frames-matching": "MatchingNet on the run's frames: an LSTM of random weights reads the support in order",
}
"""Descriptions of the methods by name."""
