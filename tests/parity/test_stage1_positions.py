import pytest

from hcl.models.encoder import make_positions
from tests.parity.recorded import CASES, check, load, names, tensor

TABLES = {"row": "row_embed", "column": "col_embed", "temporal": "temp_embed"}


@pytest.mark.parametrize("name", names("s1_pos"))
def test_position_embedding(name):
    case, recorded = CASES[name], load(name)
    positions = make_positions(case["position_embedding"], case["d_model"], max_positions=10)
    state = {key: tensor(recorded[f"w_{TABLES[key.split('.')[0]]}.weight"]) for key in positions.state_dict()}
    positions.load_state_dict(state)
    shape = recorded["pos"][0].shape  # dim, (frame,) row, column
    frames = shape[1] if len(shape) == 4 else 1
    ours = positions(frames, *shape[-2:]).T.reshape(1, *shape)
    check("stage 1, positions", "values", ours, recorded, "pos")
