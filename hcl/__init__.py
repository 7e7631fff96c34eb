"""HCL: few-shot action recognition with hierarchical matching and contrastive learning. The method, without Ray."""
