from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hcl.clips.batches import draw_key
from hcl.models.dropout import kept
from hcl.models.encoder import Encoder, EncoderLayer, make_positions
from tests.hcl.matching.test_similarity import assert_same, noise

FRAMES, ROWS, COLUMNS = 2, 3, 5


def places():
    """Return (frame, row, column) of every token in order."""
    return [(t, y, x) for t in range(FRAMES) for y in range(ROWS) for x in range(COLUMNS)]


@pytest.mark.parametrize(("d_model", "widths"), [(12, (4, 4, 4)), (11, (5, 3, 3)), (10, (4, 3, 3))])
def test_3d_positions_are_frame_column_and_row_side_by_side(d_model, widths):
    positions = make_positions("3d_learned", d_model, 7)
    assert [table.weight.shape[1] for table in (positions.temporal, positions.column, positions.row)] == list(widths)
    rows = [
        torch.cat([positions.temporal.weight[t], positions.column.weight[x], positions.row.weight[y]])
        for t, y, x in places()
    ]
    assert torch.equal(positions(FRAMES, ROWS, COLUMNS), torch.stack(rows))


def test_2d_learned_positions_are_column_and_row_and_repeat_over_time():
    positions = make_positions("2d_learned", 8, 7)
    rows = [torch.cat([positions.column.weight[x], positions.row.weight[y]]) for _, y, x in places()]
    assert torch.equal(positions(FRAMES, ROWS, COLUMNS), torch.stack(rows))


def test_2d_sine_positions_against_the_formula():
    d_half = 4
    ours = make_positions("2d_sine", 2 * d_half, 7).double()(FRAMES, ROWS, COLUMNS)

    def wave(place: int, length: int) -> list[float]:
        angle = (place + 1) / (length + 1e-6) * 2 * math.pi
        powers = [10000 ** (2 * (channel // 2) / d_half) for channel in range(d_half)]
        return [(math.cos if channel % 2 else math.sin)(angle / power) for channel, power in enumerate(powers)]

    expected = torch.tensor([wave(y, ROWS) + wave(x, COLUMNS) for _, y, x in places()], dtype=torch.float64)
    torch.testing.assert_close(ours, expected)
    assert not list(make_positions("2d_sine", 8, 7).state_dict())  # it has no parameters


def test_position_tables_begin_between_0_and_1():
    torch.manual_seed(0)
    for table in make_positions("3d_learned", 48, 10).children():
        assert 0 <= table.weight.min() < 0.1 and 0.9 < table.weight.max() < 1


@pytest.mark.parametrize("grid", [(6, 2, 2), (2, 6, 2), (2, 2, 6)])
def test_a_table_with_too_few_rows_is_named(grid):
    message = f"{grid[0]} frames of {grid[1]} x {grid[2]} patches need max_positions >= 6, the tables have 5"
    with pytest.raises(ValueError, match=message):
        make_positions("3d_learned", 12, 5)(*grid)
    assert make_positions("3d_learned", 12, 6)(*grid).shape == (24, 12)


# --- one layer, token by token --------------------------------------------------------------------------------------

TOKENS, DIM, HEADS, WIDTH = 5, 6, 3, 7


def naive_attention(layer: EncoderLayer, x: Tensor, positions: Tensor) -> Tensor:
    """Compute attention of one clip (token, dim), with positions added to queries and keys but not to values."""
    w, b = layer.attention.in_proj_weight.split(DIM), layer.attention.in_proj_bias.split(DIM)
    q = [w[0] @ (x[i] + positions[i]) + b[0] for i in range(TOKENS)]
    k = [w[1] @ (x[i] + positions[i]) + b[1] for i in range(TOKENS)]
    v = [w[2] @ x[i] + b[2] for i in range(TOKENS)]
    width, rows = DIM // HEADS, []
    for i in range(TOKENS):
        joined = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            powers = [torch.exp(q[i][part] @ k[j][part] / math.sqrt(width)) for j in range(TOKENS)]
            joined.append(sum(power * v[j][part] for j, power in enumerate(powers)) / sum(powers))
        rows.append(layer.attention.out_proj.weight @ torch.cat(joined) + layer.attention.out_proj.bias)
    return torch.stack(rows)


def naive_feed_forward(layer: EncoderLayer, x: Tensor) -> Tensor:
    hidden = x @ layer.linear1.weight.T + layer.linear1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ layer.linear2.weight.T + layer.linear2.bias


def naive_norm(norm: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    rows = [(row - row.mean()) / torch.sqrt(row.var(unbiased=False) + 1e-5) * norm.weight + norm.bias for row in x]
    return torch.stack(rows)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_and_its_gradients_against_a_loop(pre_norm):
    torch.manual_seed(0)
    layer = EncoderLayer(DIM, HEADS, WIDTH, 0.0, pre_norm=pre_norm).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, positions = noise(2, TOKENS, DIM).requires_grad_(), noise(TOKENS, DIM, seed=1).requires_grad_()
    clips = []
    for clip in x:
        if pre_norm:
            clip = clip + naive_attention(layer, naive_norm(layer.norm1, clip), positions)
            clips.append(clip + naive_feed_forward(layer, naive_norm(layer.norm2, clip)))
        else:
            clip = naive_norm(layer.norm1, clip + naive_attention(layer, clip, positions))
            clips.append(naive_norm(layer.norm2, clip + naive_feed_forward(layer, clip)))
    assert_same(layer(x, positions), torch.stack(clips), [x, positions, *layer.parameters()])


# --- the encoder ----------------------------------------------------------------------------------------------------


def encoder(**settings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(4, **({"d_model": 12, "n_heads": 2, "n_layers": 1} | settings)).double().eval()


def grids(clips: int = 3) -> Tensor:
    return noise(clips, FRAMES, 4, ROWS, COLUMNS)


def test_tokens_stand_in_the_order_frame_row_column():
    model = encoder(n_layers=0)  # the projection alone
    tokens = model(grids())
    assert tokens.shape == (3, FRAMES, ROWS * COLUMNS, 12)
    for t, y, x in places():
        expected = functional.linear(grids()[:, t, :, y, x], model.input_proj.weight, model.input_proj.bias)
        torch.testing.assert_close(tokens[:, t, y * COLUMNS + x], expected)


def test_layers_follow_each_other_over_all_frames_and_patches():
    model = encoder(n_layers=2)
    x = model.input_proj(grids().permute(0, 1, 3, 4, 2).flatten(1, 3))
    positions = model.positions(FRAMES, ROWS, COLUMNS)
    expected = model.layers[1](model.layers[0](x, positions), positions)
    torch.testing.assert_close(model(grids()).flatten(1, 2), expected)


def test_pre_norm_ends_with_a_layer_norm_and_post_norm_has_none():
    pre, post = encoder(pre_norm=True), encoder()
    assert "norm.weight" in pre.state_dict() and "norm.weight" not in post.state_dict()
    with torch.no_grad():
        pre.norm.weight.zero_()
        pre.norm.bias.fill_(3.0)
    assert (pre(grids()) == 3).all()


def test_clips_do_not_see_each_other_and_every_frame_sees_all_frames():
    model, clips = encoder(), grids()
    together = model(clips)
    torch.testing.assert_close(model(clips[1:2])[0], together[1])
    changed = clips.clone()
    changed[1, 1] += 1
    assert not torch.isclose(model(changed)[1, 0], together[1, 0]).all()
    assert torch.equal(model(changed)[0], together[0])


def test_the_feed_forward_width_is_the_backbones_unless_given():
    assert encoder().layers[0].linear1.out_features == 4
    assert encoder(dim_feedforward=9).layers[0].linear1.out_features == 9


DRAWS = torch.tensor([draw_key(clip) for clip in range(3)])


def test_dropout_acts_in_training_only_and_follows_from_the_draws():
    model = encoder(dropout=0.5)
    whole = model(grids())
    assert torch.equal(model(grids(), DRAWS), whole)
    model.train()
    first = model(grids(), DRAWS)
    torch.manual_seed(5)
    assert torch.equal(model(grids(), DRAWS), first) and not torch.isclose(first, whole).all()
    other = model(grids(), DRAWS + 1)
    assert all(not torch.isclose(ours, theirs).all() for ours, theirs in zip(first, other, strict=True))


def test_dropout_that_nobody_draws_for_is_told():
    with pytest.raises(ValueError, match=r"dropout of 0\.5 in training needs the draws of each clip"):
        encoder(dropout=0.5).train()(grids())
    encoder(dropout=0.0).train()(grids())
    encoder(dropout=0.5, n_layers=0).train()(grids())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_what_drops_out_of_a_clip_does_not_depend_on_the_clips_beside_it(pre_norm):
    model = encoder(dropout=0.3, n_layers=2, pre_norm=pre_norm).train()
    together = model(grids(), DRAWS)
    for order in ([2], [1, 0], [2, 0, 1]):
        torch.testing.assert_close(model(grids()[order], DRAWS[order]), together[order])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_with_dropout_against_its_formula(pre_norm):
    """Check that attention weights, attention output, hidden units and output each drop different values."""
    torch.manual_seed(0)
    layer = EncoderLayer(DIM, HEADS, WIDTH, 0.4, pre_norm=pre_norm, number=2).double().train()
    x, positions = noise(3, TOKENS, DIM).requires_grad_(), noise(TOKENS, DIM, seed=1).requires_grad_()
    shapes = [(HEADS, TOKENS, TOKENS), (TOKENS, DIM), (TOKENS, WIDTH), (TOKENS, DIM)]
    stay = 1 - round(0.4 * 65536) / 65536
    masks = [kept(DRAWS, 8 + place, math.prod(shape), 0.4).view(3, *shape) / stay for place, shape in enumerate(shapes)]
    clips = []
    for clip, *of_clip in zip(x, *masks, strict=True):

        def attend(x: Tensor, of_clip: list[Tensor] = of_clip) -> Tensor:
            w, b = layer.attention.in_proj_weight.split(DIM), layer.attention.in_proj_bias.split(DIM)
            q, k, v = (
                (part @ w[i].T + b[i]).unflatten(-1, (HEADS, DIM // HEADS)).transpose(0, 1)
                for i, part in enumerate((x + positions, x + positions, x))
            )
            weights = (q @ k.transpose(1, 2) / math.sqrt(DIM // HEADS)).softmax(dim=-1) * of_clip[0]
            return layer.attention.out_proj((weights @ v).transpose(0, 1).flatten(1)) * of_clip[1]

        def feed(x: Tensor, of_clip: list[Tensor] = of_clip) -> Tensor:
            return layer.linear2(functional.gelu(layer.linear1(x)) * of_clip[2]) * of_clip[3]

        if pre_norm:
            clip = clip + attend(layer.norm1(clip))
            clips.append(clip + feed(layer.norm2(clip)))
        else:
            clip = layer.norm1(clip + attend(clip))
            clips.append(layer.norm2(clip + feed(clip)))
    assert_same(layer(x, positions, DRAWS), torch.stack(clips), [x, positions, *layer.parameters()])


def test_each_layer_drops_out_values_of_its_own():
    model = encoder(dropout=0.4, n_layers=2).train()
    model.layers[1].load_state_dict(model.layers[0].state_dict())
    x, positions = noise(3, FRAMES * ROWS * COLUMNS, 12), model.positions(FRAMES, ROWS, COLUMNS)
    assert not torch.isclose(model.layers[0](x, positions, DRAWS), model.layers[1](x, positions, DRAWS)).all()


def test_layers_computed_a_second_time_drop_out_the_same():
    model = encoder(dropout=0.4).train()
    gradients = []
    for forward in (model, partial(checkpoint, model, use_reentrant=False, preserve_rng_state=False)):
        model.zero_grad()
        forward(grids(), DRAWS).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["3d_learned", "2d_learned", "2d_sine"])
def test_every_kind_of_positions_makes_a_place_count(kind):
    model = encoder(position_embedding=kind)
    same = torch.ones(1, FRAMES, 4, ROWS, COLUMNS, dtype=torch.float64)
    same[..., 0, 0] = 2.0
    moved = same.flip(-1)  # moves the different patch, whose token would not change without positions
    assert not torch.isclose(model(same)[0, :, 0], model(moved)[0, :, COLUMNS - 1], rtol=1e-3).all()


def test_without_layers_tokens_are_the_projected_patches_and_nothing_is_left_unused():
    encoder = Encoder(5, d_model=8, n_layers=0).double()
    grids = noise(2, FRAMES, 5, ROWS, COLUMNS)
    tokens = encoder(grids)
    for (t, y, x), token in zip(places(), tokens[1].flatten(0, 1), strict=True):
        torch.testing.assert_close(token, encoder.input_proj(grids[1, t, :, y, x]))
    assert {name.split(".")[0] for name, _ in encoder.named_parameters()} == {"input_proj"}
