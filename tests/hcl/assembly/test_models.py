from __future__ import annotations

import pytest
import torch

from hcl.assembly import arguments, models
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.training.losses import contrastive_terms, neighbouring_pairs

SMALL = {
    "clips.size": 32,
    "clips.n_frames": 4,
    "model.backbone": "resnet18",
    "model.weights": "none",
    "model.d_model": 24,
    "matching.tuple_sizes": [2, 3],
}


def experiment(**changes) -> Experiment:
    settings = SMALL | {path.replace("__", "."): value for path, value in changes.items()}
    return resolve(None, settings).experiment


def clips(n: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (n, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_initial_weights_depend_on_the_experiments_seed_alone():
    torch.manual_seed(1)
    one = models.make_model(experiment(seed=3), 5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    other = models.make_model(experiment(seed=3), 5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    another = models.make_model(experiment(seed=4), 5).state_dict()
    assert not torch.equal(another["heads.spatial_linear.weight"], one["heads.spatial_linear.weight"])
    assert not torch.equal(another["backbone.body.0.weight"], one["backbone.body.0.weight"])


def test_every_setting_of_the_model_reaches_it():
    model = models.make_model(
        experiment(
            model__n_layers=2,
            model__n_heads=3,
            model__dim_feedforward=40,
            model__dropout=0.25,
            model__pre_norm=True,
            model__max_positions=9,
            model__train_backbone=False,
            model__batch_norm="frozen",
            matching__multi_scale=True,
            matching__reproject_per_size=True,
            matching__mix_scales=True,
        ),
        7,
    )
    assert len(model.encoder.layers) == 2
    layer = model.encoder.layers[0]
    assert (layer.attention.num_heads, layer.linear1.out_features, layer.rate) == (3, 40, 0.25)
    assert layer.pre_norm and model.encoder.positions.row.num_embeddings == 9
    assert model.classifier.out_features == 7
    assert model.frozen_stages == 5 and model.batch_norm == "frozen"
    assert model.heads.tuple_sizes == (2, 3)
    assert model.heads.multi_scale and model.heads.reproject_per_size and model.heads.mix_scales
    flat = models.make_model(experiment(model__position_embedding="2d_learned"), 7)
    assert flat.encoder.positions.temporal is None


def test_random_weights_leave_the_pretrained_ones_out():
    missing = experiment(model__weights="/nowhere/resnet18.pth")
    models.make_model(missing, 3, random_weights=True)
    with pytest.raises(Exception, match="no such file"):
        models.make_model(missing, 3)


def test_channels_last_changes_no_number():
    one, other = (models.make_model(experiment(train__channels_last=last), 3).eval() for last in (False, True))
    assert other.backbone.body[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(one(clips())[1], other(clips())[1], rtol=1e-4, atol=1e-5)


def test_names_learn_only_where_a_term_has_a_gradient_for_them():
    """Check this because DDP would wait for missing gradients."""
    for sigma, learns in ((0.25, True), (0.0, False)):
        settings = experiment(
            matching__semantic=True, matching__tuple_sizes=[2], model__embedding_dim=6, loss__sigma_spatial_cycle=sigma
        )
        model = models.make_model(settings, 3)
        assert model.heads.semantic_linear.in_features == 6
        features, logits = model(clips(), torch.ones(4, 6), torch.arange(4))
        terms = contrastive_terms(features, features, neighbouring_pairs(0, 4), **arguments.training_matching(settings))
        (sum(terms.values()) + logits.sum()).backward()
        assert [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
        assert (model.heads.semantic_linear.weight.grad is not None) == learns


def test_compiling_and_recomputing_leave_the_names_of_the_weights(monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append(self))
    settings = experiment(train__compile=True, train__recompute_backbone=True)
    model = models.make_model(settings, 3)
    names = list(model.state_dict())
    models.prepare_training(settings, model, compile_parts=False)
    assert compiled == []
    models.prepare_training(settings, model)
    assert compiled == [*model.backbone.body, model.encoder]
    assert list(model.state_dict()) == names
