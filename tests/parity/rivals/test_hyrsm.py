"""Compare HyRSM and HyRSM++ with the recorded cases, and their inner features with the recorded sketches."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from hcl.rivals.heads import divided, joined
from hcl.rivals.hyrsm import Hyrsm, HyrsmSettings
from tests.parity.recorded import relative_error
from tests.parity.rivals.recorded import CASES, arrays, compare, run

NAMES = [name for name, case in CASES.items() if case["head"].startswith("hyrsm")]
DROPOUT = ("position_dropout", "frame_dropout", "attention_dropout", "episode_dropout")


def head(case: str, **changes) -> Hyrsm:
    given = dict(CASES[case]["settings"])
    n_classes = given.pop("classes")
    given = {name: value if name == "window" else float(value) for name, value in given.items()}
    given |= {"average_shots": CASES[case]["head"].endswith("5shot"), **dict.fromkeys(DROPOUT, 0.0), **changes}
    return Hyrsm(CASES[case]["episode"]["dim"], n_classes, HyrsmSettings(**given))


def test_all_cases_are_here():
    assert len(NAMES) == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", NAMES)
def test_values_and_gradients(case, dtype):
    compare(head(case), case, dtype)


@pytest.mark.parametrize("case", [name for name in NAMES if "1shot" in name])
def test_the_two_heads_are_equal_for_one_shot(case):
    compare(head(case, average_shots=True), case, torch.float32)


@pytest.mark.parametrize("case", NAMES)
def test_inner_features(case):
    hyrsm = head(case)
    given, _, _ = run(hyrsm, case, torch.float64)
    support, query = divided(hyrsm.encode(joined(given.support, given.query)), given.support, given.query)
    items, frames = hyrsm.adapted(support, query)
    inner = {
        "frame_relation_support": support[0].flatten(0, 1),
        "frame_relation_query": query[0],
        "adapted_support": rearrange(items[0], "q n t c -> (q n) c t"),
        "adapted_query": rearrange(frames[0], "q t c -> q c t"),
    }
    for name, ours in inner.items():
        assert relative_error(ours, arrays(case), f"inner_{name}") < 1e-5, name
