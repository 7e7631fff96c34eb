"""Recognise actions from a few examples by hierarchical matching and contrastive learning (HCL), without Ray."""
