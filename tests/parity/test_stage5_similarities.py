import pytest
import torch

from hcl.evaluation.scores import fused, score_episode
from hcl.models.hcl import MatchingHeads
from tests.parity.recorded import CASES, check, check_predictions, load, names, published_name, tensor, tokens_of

STAGE = "stage 5, test similarities"


@pytest.mark.parametrize("name", names("s5_shot"))
def test_levels_scores_and_predictions(name):
    case, recorded = CASES[name], load(name)
    inputs = load(case["inputs"].removesuffix(".npz"))
    heads = MatchingHeads(
        case["d_model"],
        tuple_sizes=case["temp_set"],
        embedding_dim=768 if case["use_semantic"] else None,
        multi_scale=case["use_spa_mscale"],
        reproject_per_size=True,
        mix_scales=True,
    )
    with torch.no_grad():
        for key, parameter in heads.named_parameters():
            released = f"w_{published_name('heads.' + key)}"
            if released in inputs:  # the projections are not used at test
                parameter.copy_(tensor(inputs[released]))
        features = heads(
            tokens_of(inputs["hs"]),
            rows=7,
            project=False,
            embeddings=tensor(inputs["bert768"]) if case["use_semantic"] else None,
        )
    levels = score_episode(
        features,
        way=5,
        shot=case["shot"],
        metric="auto",
        tuple_sizes=case["temp_set"],
        swap_axes=True,
        misplaced_semantics=True,
        chunk_size=7,
    )
    for ours, released in zip(levels, ("global_sim", "temp_sims", "spa_sims"), strict=True):
        check(STAGE, "values", ours, recorded, released)
    sigmas = {ours: case[f"sigma_{released}"] for ours, released in RELEASED_SIGMAS.items()}
    scores = fused(levels, sigmas)
    check(STAGE, "values", scores, recorded, "sims")
    check_predictions(scores, recorded)


RELEASED_SIGMAS = {"global": "global", "temporal": "temp", "spatial": "spa"}
