import pytest
from einops import rearrange

from hcl.models.encoder import Encoder
from tests.parity.recorded import CASES, check, fill, hidden_of, load, names, tensor


@pytest.mark.parametrize("name", names("s2_encoder"))
def test_encoder(name):
    case, recorded = CASES[name], load(name)
    source = tensor(recorded["src"]).requires_grad_()
    encoder = Encoder(
        source.shape[1],
        d_model=case["d_model"],
        n_layers=case["enc_layers"],
        n_heads=case["nheads"],
        dim_feedforward=case["dim_feedforward"],
        pre_norm=case.get("pre_norm", False),
    ).eval()
    fill(encoder, "encoder.", "st_transformer_encoder.")
    hidden = hidden_of(encoder(rearrange(source, "(v t) c y x -> v t c y x", t=case["seq_len"])))
    check("stage 2, encoder", "values", hidden, recorded, "hs")
    (hidden * tensor(recorded["R"])).sum().backward()
    gradients = {
        "grad_input_proj_weight": encoder.input_proj.weight.grad[..., None, None],
        "grad_in_proj_weight": encoder.layers[0].attention.in_proj_weight.grad,
        "grad_temp_embed": encoder.positions.temporal.weight.grad,
        "grad_src_t0": source.grad[: case["seq_len"]],
    }
    for key, gradient in gradients.items():
        check("stage 2, encoder", "gradients", gradient, recorded, key)
