"""Define the networks: backbones, encoder, the HCL model, baselines; read and write their checkpoints."""
