"""Embed class names with a model of the package transformers (the extra `semantic`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from hcl.errors import BackboneError

Pooling = Literal["pooler", "cls", "mean"]
PUBLISHED_MODEL = "bert-base-cased"
PUBLISHED_POOLING: Pooling = "pooler"
"""Model and pooling of the released embeddings: their values are in -1 to 1, like those of BERT's pooler (tanh)."""

_BATCH = 64


def encode_names(
    names: Sequence[str], *, model: str = PUBLISHED_MODEL, pooling: Pooling = PUBLISHED_POOLING
) -> tuple[Float32[np.ndarray, "name dim"], str]:
    """Return a vector for each name, and the identity of its origin: model, pooling, digest of the weights.

    Args:
        model: a local folder in the format of transformers, or a name on its hub.
        pooling: `pooler` uses the model's pooler output, as released; `cls` the first token; `mean` averages the
            tokens, for which sentence models are trained.

    Raises:
        BackboneError: transformers is not installed, the model is not available, or it has no trained pooler.
    """
    tokenizer, encoder = _load(model, pooling)
    vectors = []
    with torch.no_grad():
        for start in range(0, len(names), _BATCH):
            tokens = tokenizer(list(names[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt")
            vectors.append(_pooled(encoder(**tokens), tokens["attention_mask"], pooling))
    name = Path(model).resolve().name if Path(model).is_dir() else model
    return torch.cat(vectors).float().numpy(), f"{name}, {pooling}, weights {_digest(encoder)}"


def _load(model: str, pooling: Pooling) -> tuple[Any, torch.nn.Module]:
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise BackboneError(
            "class names are embedded with the package transformers, which is not installed",
            where="hcl data embed",
            remedy="pip install 'hcl-orchestrator[semantic]'",
        ) from error
    logging.disable_progress_bar()
    try:
        # Code that comes with a model never runs, and torch loads nothing but tensors.
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        encoder, report = AutoModel.from_pretrained(
            model, trust_remote_code=False, weights_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers and its dependencies raise many types
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackboneError(
            f"cannot be loaded: {reason}",
            where=f"--model {model}",
            remedy="name a folder with config.json, a tokenizer and weights, or connect to the model hub once",
        ) from error
    untrained = sorted(report["missing_keys"])
    is_pooled = getattr(encoder, "pooler", None) is not None and not any("pooler" in key for key in untrained)
    if pooling == "pooler" and not is_pooled:
        raise BackboneError(
            "has no trained pooler", where=f"--model {model}", remedy="choose another pooling: --pooling mean"
        )
    if others := [key for key in untrained if "pooler" not in key]:
        raise BackboneError(
            f"lacks {len(others)} of its weights, such as {others[0]}", where=f"--model {model}", remedy="get it again"
        )
    return tokenizer, encoder.eval()


def _pooled(output: Any, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool the model's output for a batch to (name, dim)."""
    if pooling == "pooler":
        return output.pooler_output
    tokens = output.last_hidden_state
    if pooling == "cls":
        return tokens[:, 0]
    weights = mask[..., None].to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1)


def _digest(encoder: torch.nn.Module) -> str:
    """Return twelve hexadecimal digits that identify the weights, independent of their files."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
