from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from hcl import build
from hcl.config import Experiment
from hcl.episodes import sample_episodes
from hcl.losses import TERMS, contrastive_terms, neighbouring_pairs
from hcl.resolve import resolve
from hcl.scores import fused, score_episode, score_pairs
from hcl.splits import Partition, Video
from tests.hcl.test_clips import FakeFrames

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


# --- the model ------------------------------------------------------------------------------------------------------


def test_initial_weights_depend_on_the_experiments_seed_alone():
    torch.manual_seed(1)
    one = build.make_model(experiment(seed=3), 5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    other = build.make_model(experiment(seed=3), 5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    another = build.make_model(experiment(seed=4), 5).state_dict()
    assert not torch.equal(another["heads.spatial_linear.weight"], one["heads.spatial_linear.weight"])
    assert not torch.equal(another["backbone.body.0.weight"], one["backbone.body.0.weight"])


def test_every_setting_of_the_model_reaches_it():
    model = build.make_model(
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
    assert (layer.attention.num_heads, layer.linear1.out_features, layer.dropout.p) == (3, 40, 0.25)
    assert layer.pre_norm and model.encoder.positions.row.num_embeddings == 9
    assert model.classifier.out_features == 7
    assert model.frozen_stages == 5 and model.batch_norm == "frozen"
    assert model.heads.tuple_sizes == (2, 3)
    assert model.heads.multi_scale and model.heads.reproject_per_size and model.heads.mix_scales
    flat = build.make_model(experiment(model__position_embedding="2d_learned"), 7)
    assert flat.encoder.positions.temporal is None


def test_random_weights_leave_the_pretrained_ones_out():
    missing = experiment(model__weights="/nowhere/resnet18.pth")
    build.make_model(missing, 3, random_weights=True)
    with pytest.raises(Exception, match="no such file"):
        build.make_model(missing, 3)


def test_channels_last_changes_no_number():
    one, other = (build.make_model(experiment(train__channels_last=last), 3).eval() for last in (False, True))
    assert other.backbone.body[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(one(clips())[1], other(clips())[1], rtol=1e-4, atol=1e-5)


def test_names_learn_only_where_a_term_has_a_gradient_for_them():
    """Otherwise data parallelism would wait for gradients that never come."""
    for sigma, learns in ((0.25, True), (0.0, False)):
        settings = experiment(
            matching__semantic=True, matching__tuple_sizes=[2], model__embedding_dim=6, loss__sigma_spatial_cycle=sigma
        )
        model = build.make_model(settings, 3)
        assert model.heads.semantic_linear.in_features == 6
        features, logits = model(clips(), torch.ones(4, 6))
        terms = contrastive_terms(features, features, neighbouring_pairs(0, 4), **build.training_matching(settings))
        (sum(terms.values()) + logits.sum()).backward()
        assert [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
        assert (model.heads.semantic_linear.weight.grad is not None) == learns


def test_embeddings_are_those_of_the_data_set(tmp_path):
    partition = Partition(
        "toy", "val", ("eel", "fox"), tuple(Video(c, f"{c}{i}") for c in ("eel", "fox") for i in "ab")
    )
    settings = experiment(matching__semantic=True, matching__tuple_sizes=[2], model__embedding_dim=2)
    assert build.clip_embeddings(experiment(), tmp_path, partition) is None
    assert build.embeddings_identity(experiment(), tmp_path, "toy") == ""
    (tmp_path / "embeddings").mkdir()
    np.savez(tmp_path / "embeddings/toy.npz", classes=np.array(["fox", "eel"]), vectors=np.eye(2, dtype=np.float32))
    assert build.clip_embeddings(settings, tmp_path, partition).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    assert len(build.embeddings_identity(settings, tmp_path, "toy")) == 12


def test_compiling_and_recomputing_leave_the_names_of_the_weights(monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append(self))
    settings = experiment(train__compile=True, train__recompute_backbone=True)
    model = build.make_model(settings, 3)
    names = list(model.state_dict())
    build.prepare_training(settings, model, compile_parts=False)
    assert compiled == []
    build.prepare_training(settings, model)
    assert compiled == [*model.backbone.body, model.encoder]
    assert list(model.state_dict()) == names


# --- keyword arguments ----------------------------------------------------------------------------------------------


def test_training_arguments_are_those_of_the_terms():
    settings = experiment(
        matching__top_tuples=3,
        matching__top_patches=5,
        matching__zoom_ranks_train=2,
        matching__chunk_size=3,
        matching__renormalise=True,
        matching__misplaced_training_semantics=True,
        loss__temperature=0.1,
        loss__cycle_temperature=0.5,
        loss__keep_anchor=True,
        loss__sigma_spatial_cycle=0.25,
    )
    arguments = build.training_matching(settings)
    assert arguments.keys() == inspect.signature(contrastive_terms).parameters.keys() - {
        "anchors",
        "everyone",
        "pairs",
    }
    assert arguments == {
        "tuple_sizes": (2, 3),
        "top_tuples": 3,
        "top_patches": 5,
        "zoom_ranks": 2,
        "temperature": 0.1,
        "cycle_temperature": 0.5,
        "keep_anchor": True,
        "renormalise": True,
        "misplaced_semantics": True,
        "spatial": True,
        "spatial_cycle": True,
        "chunk_size": 3,
    }
    features, _ = build.make_model(settings, 3).eval()(clips())
    terms = contrastive_terms(features, features, neighbouring_pairs(0, 4), **arguments)
    assert set(terms) == set(TERMS[1:])


def test_terms_of_weight_0_are_not_computed():
    arguments = build.training_matching(experiment(loss__sigma_spatial=0))
    assert not arguments["spatial"] and not arguments["spatial_cycle"]


def test_test_arguments_are_those_of_the_scores():
    settings = experiment(matching__zoom_ranks_test=4, matching__zoom_ranks_train=2, matching__top_tuples=3)
    arguments = build.test_matching(settings)
    assert arguments.keys() <= inspect.signature(score_pairs).parameters.keys()
    assert (arguments["zoom_ranks"], arguments["top_tuples"], arguments["tuple_sizes"]) == (4, 3, (2, 3))
    features, _ = build.make_model(settings, 3).eval()(clips())
    levels = score_episode(features, way=2, shot=1, metric=settings.matching.metric, **arguments)
    scores = fused(levels, build.sigmas_of_fusion(settings))
    assert scores.shape == (2, 2) and np.isfinite(scores).all()


def test_sigmas_go_by_name():
    settings = experiment(loss__sigma_ce=2, loss__sigma_temporal_cycle=3, fusion__sigma_spatial=5)
    assert build.sigmas_of_loss(settings).keys() == set(TERMS)
    assert build.sigmas_of_loss(settings)["ce"] == 2 and build.sigmas_of_loss(settings)["temporal_cycle"] == 3
    assert build.sigmas_of_fusion(settings) == {"sigma_global": 1.0, "sigma_temporal": 0.5, "sigma_spatial": 5.0}


def test_defects_act_only_where_they_can():
    assert build.defects(experiment()) == (False, False, False)
    assert build.defects(experiment(mode="published")) == (False, True, False)
    assert build.defects(experiment(mode="published", matching__multi_scale=True)) == (True, True, False)


# --- data -----------------------------------------------------------------------------------------------------------


def partition() -> Partition:
    names = ("a", "b", "c")
    return Partition(
        "toy", "val", names, tuple(Video(name, f"{name}{number}") for name in names for number in range(6))
    )


def test_validation_episodes_are_the_same_whatever_the_seeds():
    one, other = (
        build.val_episodes(
            experiment(evaluation__way=3, evaluation__queries=2, train__val_episodes=7, **seeds), partition()
        )
        for seeds in ({"seed": 1, "evaluation__seed": 1}, {"seed": 2, "evaluation__seed": 2})
    )
    assert one.digest() == other.digest()
    assert (len(one), one.way, one.shot, one.query.shape[2]) == (7, 3, 1, 2)


def test_validation_does_not_ask_what_the_evaluation_asks():
    settings = experiment(evaluation__way=3, evaluation__queries=2, train__val_episodes=7)
    of_evaluation = sample_episodes(
        partition().labels, way=3, shot=1, queries=2, episodes=7, seed=settings.evaluation.seed
    )
    assert build.val_episodes(settings, partition()).digest() != of_evaluation.digest()


def test_training_clips_are_augmented_and_test_clips_are_not():
    settings = experiment(clips__train_sampling="random", clips__per_frame=True, clips__flip=True)
    training = build.make_dataset(settings, FakeFrames(), partition(), training=True)
    test = build.make_dataset(settings, FakeFrames(), partition(), training=False)
    assert training.random and training.per_frame and training.sampling == "random"
    assert not test.random and not test.per_frame and test.sampling == "segments"
    assert training.clip_length == test.clip_length == 4 and len(test) == 18
    kinds = [type(step).__name__ for step in training.transform.transforms]
    assert kinds == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale"]
    assert "Random" not in repr(test.transform)


def test_reduced_decoding_keeps_the_pixels_that_the_view_needs():
    def min_side(reduced: bool, training: bool) -> int:
        settings = experiment(clips__reduced_decoding=reduced, clips__size=64, clips__crop_scale=(0.75, 1.0))
        frames = SizedFrames()
        build.make_dataset(settings, frames, partition(), training=training)[0]
        return frames.min_side

    assert [min_side(False, False), min_side(False, True)] == [0, 0]
    assert [min_side(True, False), min_side(True, True)] == [64, 86]


class SizedFrames:
    min_side = 0

    def n_frames(self, video):
        return 9

    def read(self, video, indices, *, min_side=0):
        self.min_side = min_side
        return np.zeros((len(indices), 100, 120, 3), np.uint8)
