"""Compare TRX with the recorded cases of pairs, triplets and both."""

from __future__ import annotations

import pytest
import torch

from hcl.rivals.heads import divided, joined
from hcl.rivals.trx import Trx, TrxSettings
from tests.parity.recorded import relative_error
from tests.parity.rivals.recorded import CASES, arrays, compare, run

NAMES = [name for name, case in CASES.items() if case["head"] == "trx"]


def head(case: str, **changes) -> Trx:
    settings = CASES[case]["settings"]
    sizes = tuple(settings["tuple_sizes"])
    given = {"tuple_sizes": sizes, "key_dim": settings["key_dim"], "dropout": 0.0, "loss": "mean"}
    return Trx(CASES[case]["episode"]["dim"], TrxSettings(**{**given, **changes}))


def test_all_cases_are_here():
    assert len(NAMES) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", NAMES)
def test_values_and_gradients(case, dtype):
    compare(head(case), case, dtype)


@pytest.mark.parametrize("case", NAMES)
def test_chunks_of_tuples(case):
    compare(head(case, chunk_size=111), case, torch.float32)


@pytest.mark.parametrize("case", NAMES)
def test_the_original_loss_is_the_sum_over_queries(case):
    _, _, terms = run(head(case, loss="sum"), case, torch.float64)
    assert relative_error(terms["match"], arrays(case), "loss_original_summed") < 1e-5


@pytest.mark.parametrize("case", NAMES)
def test_logits_of_each_size(case):
    trx = head(case)
    given, _, _ = run(trx, case, torch.float64)
    encoded = divided(trx.encode(joined(given.support, given.query)), given.support, given.query)
    for size, logits in zip(trx.settings.tuple_sizes, trx.logits_by_size(*encoded), strict=True):
        assert relative_error(logits[0], arrays(case), f"inner_logits_{size}") < 1e-5
