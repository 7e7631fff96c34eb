"""Networks: backbones, encoder, the HCL model, checkpoints, precision."""
