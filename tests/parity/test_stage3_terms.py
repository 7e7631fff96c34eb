import pytest
import torch

from hcl.models.hcl import MatchingHeads
from hcl.models.tuples import multi_scale_patches
from hcl.training.losses import contrastive_terms, neighbouring_pairs
from tests.parity.recorded import CASES, check, hidden_of, load, names, published_name, tensor, tokens_of

STAGE = "stage 3, training terms"
ORDER = ("global", "temporal", "temporal_cycle", "spatial", "spatial_cycle")


def heads_of(case: dict, inputs: dict) -> MatchingHeads:
    heads = MatchingHeads(
        case["d_model"],
        tuple_sizes=case["temp_set"],
        embedding_dim=case["emb_dim"] if case["use_semantic"] else None,
        temporal_projection=not case["no_temp_linear"],
        multi_scale=case["use_spa_mscale"],
        reproject_per_size=True,
        mix_scales=True,
    )
    state = {}
    for key in heads.state_dict():
        name = published_name("heads." + key)
        narrow = name.startswith("emb_fc") and case["emb_dim"] == case["d_model"]
        state[key] = tensor(inputs[f"w{case['d_model'] if narrow else ''}_{name}"])
    heads.load_state_dict(state)
    return heads


@pytest.mark.parametrize("name", names("s3_B3"))
def test_training_terms_and_gradients(name):
    case, recorded, inputs = CASES[name], load(name), load("s3_inputs_B3_d48")
    heads = heads_of(case, inputs)
    tokens = tokens_of(inputs["hs"])
    embeddings = tensor(inputs[f"bert{case['emb_dim']}"]) if case["use_semantic"] else None
    features = heads(tokens, rows=7, embeddings=embeddings)
    terms = contrastive_terms(
        features,
        features,
        neighbouring_pairs(0, len(features)),
        tuple_sizes=tuple(case["temp_set"]),
        keep_anchor=True,
        misplaced_semantics=True,
        spatial_cycle=case["use_spa_cycle"],
        temperature=case["temp"],
        chunk_size=4,
    )
    values = torch.stack([terms.get(term, torch.zeros(())) for term in ORDER])
    check(STAGE, "values", values, recorded, "terms")
    values.sum().backward()
    check(STAGE, "gradients", hidden_of(tokens.grad), recorded, "grad_hs")
    compared = 0
    for key, parameter in heads.named_parameters():
        released = f"grad_{published_name('heads.' + key)}"
        if parameter.grad is not None and (released in recorded or f"sketch:{released}" in recorded):
            if released.startswith(("grad_emb_fc.bias", "grad_norm_emb")):
                continue  # 1e-7 of the other gradients, below the accuracy of float32 sums in another order
            check(STAGE, "gradients", parameter.grad, recorded, released)
            compared += 1
    assert compared >= 6


def test_multi_scale_patches_mix_clips_as_released():
    recorded = load("s3_multiscale")
    ours = multi_scale_patches(tensor(recorded["in"]), rows=7, mix_clips=True)
    check(STAGE, "values", ours, recorded, "out")
