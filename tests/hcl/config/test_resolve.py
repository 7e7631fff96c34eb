from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hcl.assembly.experiment_files import load_resolved, to_yaml
from hcl.config import PUBLISHED, Experiment
from hcl.config.resolve import (
    MAX_BASES,
    all_settings,
    changes,
    check_value,
    expected,
    override,
    resolve,
    rows,
    setting_of,
    shipped_experiments,
)
from hcl.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(source: Any, overrides: Any = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(source, overrides)
    return str(caught.value)


# Order and origins


def test_nothing_given_is_the_default() -> None:
    resolved = resolve(None)
    assert resolved.experiment == Experiment()
    assert set(resolved.origins) == set(all_settings())
    assert set(resolved.origins.values()) == {"default"}


def test_later_parts_win_and_every_value_knows_its_origin(tmp_path: Path) -> None:
    grand = write(tmp_path, "grand.yaml", "seed: 1\nloss: {sigma_ce: 0.1, sigma_global: 0.1, sigma_spatial: 0.1}")
    base = write(tmp_path, "deep/base.yaml", "base: ../grand.yaml\nloss: {sigma_global: 0.2, sigma_spatial: 0.2}")
    leaf = write(tmp_path, "leaf.yaml", "base: deep/base.yaml\nmode: published\nloss: {sigma_spatial: 0.3}")
    resolved = resolve(leaf, ["loss.sigma_temporal=0.4"])
    loss, origins = resolved.experiment.loss, resolved.origins
    assert (loss.sigma_ce, loss.sigma_global, loss.sigma_spatial, loss.sigma_temporal) == (0.1, 0.2, 0.3, 0.4)
    assert (origins["loss.sigma_ce"], origins["seed"]) == (str(grand), str(grand))
    assert origins["loss.sigma_global"] == str(base)
    assert origins["loss.sigma_spatial"] == str(leaf)
    assert origins["loss.sigma_temporal"] == "--set"
    assert origins["loss.keep_anchor"] == "mode: published"
    assert origins["loss.temperature"] == "default"


def test_the_preset_lies_beneath_files_and_follows_the_final_mode(tmp_path: Path) -> None:
    path = write(tmp_path, "e.yaml", "mode: published\nclips: {resize: crop}")
    published = resolve(path).experiment
    assert published.clips.resize == "crop"
    assert published.clips.flip is True
    corrected = resolve(path, ["mode=corrected"])
    assert corrected.experiment.clips.flip is False
    assert "mode: published" not in corrected.origins.values()
    preset = resolve(None, ["mode=published"])
    assert {path for path, origin in preset.origins.items() if origin == "mode: published"} == set(PUBLISHED)


def test_a_base_may_be_a_shipped_experiment(tmp_path: Path) -> None:
    resolved = resolve(write(tmp_path, "e.yaml", "base: published\nname: mine"))
    assert resolved.experiment.train.batches_per_epoch == 1000
    assert resolved.origins["loss.sigma_spatial_cycle"] == "hcl/experiments/published.yaml"


def test_texts_and_mappings_override_alike() -> None:
    texts = ["loss.sigma_temporal=0.25", "evaluation.shots=[1,5]", "optim.lr=1e-4", "clips.flip=yes"]
    values = {"loss.sigma_temporal": 0.25, "evaluation.shots": [1, 5], "optim.lr": 1e-4, "clips.flip": True}
    assert resolve("hcl", texts) == resolve("hcl", values)
    assert override(resolve("hcl").experiment, values) == resolve("hcl", texts).experiment
    assert resolve(None, ["loss={sigma_ce: 3, sigma_global: 2}"]).experiment.loss.sigma_global == 2
    assert resolve(None, ["seed=1", "seed=2"]).experiment.seed == 2


def test_texts_stay_texts_and_empty_is_none() -> None:
    experiment = resolve(None, ["name=007", "data.dataset='1e4'", "model.weights=a=b: c", "model.dim_feedforward="])
    assert experiment.experiment.name == "007"
    assert experiment.experiment.data.dataset == "1e4"
    assert experiment.experiment.model.weights == "a=b: c"
    assert experiment.experiment.model.dim_feedforward is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("'1e-4'", 1e-4), (".5e1", 5.0), ("0.001", 0.001), ("3", 3.0), ("+2.", 2.0)],
)
def test_numbers_are_read_as_one_would(tmp_path: Path, text: str, value: float) -> None:
    assert resolve(write(tmp_path, "e.yaml", f"optim: {{lr: {text}}}")).experiment.optim.lr == value


def test_leading_zeros_dates_and_times_are_what_they_look_like(tmp_path: Path) -> None:
    experiment = resolve(write(tmp_path, "e.yaml", "name: 2024-01-01\nseed: 010\ndata: {dataset: 12:30}")).experiment
    assert (experiment.name, experiment.seed, experiment.data.dataset) == ("2024-01-01", 10, "12:30")


# Shipped experiments


@pytest.mark.parametrize("name", shipped_experiments())
def test_shipped_experiments_resolve_and_carry_their_name(name: str) -> None:
    assert resolve(name).experiment.name == name


def test_the_published_run_is_the_one_that_was_reported() -> None:
    experiment = resolve("published").experiment
    loss = experiment.loss
    sigmas = [loss.sigma_ce, loss.sigma_global, loss.sigma_temporal, loss.sigma_temporal_cycle, loss.sigma_spatial]
    off = 0.0  # the published command disables the spatial cycle
    assert [*sigmas, loss.sigma_spatial_cycle] == [1, 1, 0.5, 0.25, 0.5, off]
    assert (experiment.optim.lr, experiment.optim.backbone_lr_factor, experiment.optim.clip_norm) == (1e-4, 0.1, 0.1)
    assert (experiment.data.train_partitions, experiment.data.selection_partition) == (("train", "val"), "test")
    assert all(experiment.model_dump()[path.split(".")[0]][path.split(".")[1]] == v for path, v in PUBLISHED.items())


def test_flips_are_off_where_left_and_right_are_classes() -> None:
    flips = {name: resolve(name).experiment.clips.flip for name in ("ssv2_100", "ssv2_100_otam", "hmdb51", "ucf101")}
    assert flips == {"ssv2_100": False, "ssv2_100_otam": False, "hmdb51": True, "ucf101": True}


# Round trip


def test_yaml_round_trip(tmp_path: Path) -> None:
    for name in shipped_experiments():
        experiment = resolve(name).experiment
        path = write(tmp_path, "experiment.yaml", to_yaml(experiment))
        assert load_resolved(path) == experiment
        assert load_resolved(path).digest() == experiment.digest()


@example(lr=1.0, weights="\x85", shots=[1])  # unescaped it would be a line break in YAML
@given(
    lr=st.floats(min_value=1e-300, max_value=1e30),
    weights=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    shots=st.lists(st.integers(1, 10**9), min_size=1),
)
def test_yaml_round_trip_of_any_value(tmp_path_factory: pytest.TempPathFactory, lr, weights, shots) -> None:
    experiment = override(Experiment(), {"optim.lr": lr, "model.weights": weights, "evaluation.shots": shots})
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(to_yaml(experiment).encode())
    assert load_resolved(path) == experiment


def test_rows_show_every_setting() -> None:
    table = {row.path: row for row in rows(resolve("hcl", {"clips.n_frames": 4}))}
    assert list(table) == list(all_settings())
    assert table["clips.n_frames"] == ("clips.n_frames", 4, "--set", "frames", "frames of a clip")
    assert table["data.dataset"].origin == "hcl/experiments/hcl.yaml"


# Settings, for search spaces


def test_settings_say_what_they_accept() -> None:
    assert expected("clips.n_frames") == "a whole number, at least 2, at most 64 (frames)"
    assert expected("optim.lr") == "a number, above 0, at most 1e+30"
    assert expected("model.dim_feedforward") == "a whole number or empty, at least 1"
    assert expected("evaluation.shots") == "a list, each entry a whole number, at least 1; entries: at least 1"
    assert expected("clips.crop_scale") == "a list of 2: a number, a number"
    assert setting_of("loss.temperature").default == 0.07
    assert check_value("evaluation.shots", [1, 5], "space") == (1, 5)
    for path in ("loss", "loss.sigma_x", "", "seed.x"):
        with pytest.raises(ConfigError):
            setting_of(path)


# Wrong use: every message has the place, the field and the remedy


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "loss: {sigma_temporl: 1}",
            ["unknown setting `loss.sigma_temporl`", "did you mean `sigma_temporal`", "sigma_ce"],
        ),
        ("los: {}", ["unknown setting `los`", "did you mean `loss`", "an experiment holds: name, mode"]),
        ("lr: 1", ["unknown setting `lr`", "did you mean `optim.lr`"]),
        ("1: 2", ["unknown setting `1`"]),
        ("loss: 3", ["`loss` is a section, got a int", "settings of loss: sigma_ce"]),
        ("loss: [1]", ["`loss` is a section, got a list"]),
        ("clips: {n_frames: many}", ["clips.n_frames: got 'many'", "a whole number, at least 2, at most 64 (frames)"]),
        ("clips: {n_frames: 1}", ["got 1, expected a whole number, at least 2", "frames of a clip (default: 8)"]),
        ("clips: {n_frames: 8.5}", ["got 8.5"]),
        ("clips: {n_frames: true}", ["got True, expected a whole number"]),
        ("clips: {n_frames: {a: 1}}", ["got {'a': 1}, expected a whole number"]),
        ("evaluation: {shots: 5}", ["got 5, expected a list, each entry a whole number"]),
        ("evaluation: {shots: [yes]}", ["got [True], expected a list"]),
        ("evaluation: {shots: []}", ["got [], expected a list", "entries: at least 1"]),
        ("optim: {lr: .inf}", ["optim.lr: got inf, expected a number"]),
        ("optim: {lr: inf}", ["optim.lr: got 'inf', expected a number"]),
        ("optim: {weight_decay: nan}", ["optim.weight_decay: got 'nan'"]),
        ("model: {backbone: resnet5}", ["expected one of resnet18", "did you mean `resnet50`"]),
        ("name: ../up", ["name: got '../up'", "matching"]),
        ("seed: 1\nseed: 2", ["the key `seed` is given twice", "line 2"]),
        ("loss:\n  sigma_ce: 1\n  sigma_ce: 2", ["the key `sigma_ce` is given twice", "line 3"]),
        ("loss: {sigma_ce: 1}\nloss.sigma_ce: 2", ["`loss.sigma_ce` is given twice"]),
        ("a: [", ["not valid YAML at line 1"]),
        ("- 1", ["holds a list, expected a mapping"]),
        ("3", ["holds a int, expected a mapping"]),
        ("# nothing yet", ["is empty, expected a mapping"]),
        ("seed: !!python/object/apply:os.getcwd []", ["not valid YAML", "python/object"]),
        ("seed: !!bool maybe", ["not valid YAML"]),
        ("seed: !!int x", ["not valid YAML"]),
        ("seed: !!timestamp x", ["not valid YAML"]),
        (f"seed: {'9' * 5000}", ["not valid YAML"]),
        ("[" * 5000, ["not valid YAML"]),
        ("base: 3", ["base", "expected a YAML file or a shipped experiment, got 3"]),
        ("base: hcll", ["base", "no shipped experiment `hcll`, did you mean `hcl`", "published"]),
        ("base: gone.yaml", ["gone.yaml: no such file"]),
        ('base: "a\\0.yaml"', ["cannot be read"]),
        ("data: {selection_partition: test}", ["data.protocol=published", "data.selection_partition (from"]),
        ("model: {n_heads: 7}", ["model: n_heads=7 does not divide d_model=1152", "model.d_model (from default)"]),
    ],
)
def test_a_wrong_file_is_named_with_field_and_remedy(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = write(tmp_path, "wrong.yaml", text)
    message = refusal(path)
    for part in parts:
        assert part in message
    assert len(message) < 1500
    if not text.startswith("base: gone"):
        assert "wrong.yaml" in message or "\0" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed", ["--set: `seed` is not PATH=VALUE", "--set loss.sigma_temporal=0.25"]),
        ("=3", ["is not PATH=VALUE"]),
        ("seed.x=3", ["`seed` is a setting and has no parts"]),
        ("loss.sigma_ce.x=3", ["`loss.sigma_ce` is a setting and has no parts"]),
        ("loss=3", ["--set: `loss` is a section"]),
        ("los.sigma_ce=3", ["unknown setting `los.sigma_ce`, did you mean `loss`"]),
        ("loss.sigma_c=3", ["did you mean `sigma_ce`"]),
        ("seed=[", ["--set seed: not valid YAML"]),
        ("seed=x", ["--set: seed: got 'x'", "a whole number, at least 0"]),
        (".=3", ["unknown setting `.`"]),
        ("base=hcl", ["unknown setting `base`"]),
        ("train.workers=5", ["workers=5", "train.workers (from --set)"]),
        ("mode=publshed", ["--set: mode: got 'publshed'", "did you mean `published`"]),
    ],
)
def test_a_wrong_override_is_named(text: str, parts: list[str]) -> None:
    message = refusal("hcl", [text])
    for part in parts:
        assert part in message


def test_unknown_and_unreadable_sources(tmp_path: Path) -> None:
    assert "did you mean `published`" in refusal("publshed")
    assert "hmdb51, hyrsm_hmdb51" in refusal("nothing_like_it")
    assert "no such file" in refusal(str(tmp_path / "gone.yaml"))
    assert "cannot be read" in refusal(tmp_path)
    assert "expected a YAML file" in refusal("")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: caf\xe9")
    assert "latin.yaml: not UTF-8" in refusal(path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bytes:  # chmod has no effect for root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "secret.yaml")


def test_circles_are_refused_by_name(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "base: b.yaml")
    b = write(tmp_path, "b.yaml", "base: ./a.yaml")
    assert f"{a} -> {b} -> {a}" in refusal(a)


def test_bases_nest_only_so_deep(tmp_path: Path) -> None:
    write(tmp_path, "0.yaml", "seed: 7")
    for number in range(1, MAX_BASES + 2):
        write(tmp_path, f"{number}.yaml", f"base: {number - 1}.yaml\ntrain: {{epochs: {number}}}")
    assert resolve(tmp_path / f"{MAX_BASES}.yaml").experiment.seed == 7
    assert f"more than {MAX_BASES} bases" in refusal(tmp_path / f"{MAX_BASES + 1}.yaml")


def test_the_mode_of_a_resolved_experiment_stays() -> None:
    experiment = resolve("hcl").experiment
    with pytest.raises(ConfigError, match="cannot become published"):
        override(experiment, {"mode": "published"})
    assert override(experiment, {"mode": "corrected", "seed": 3}).seed == 3


def test_changes_are_the_overrides_from_one_experiment_to_another() -> None:
    wanted = {"evaluation.shots": [1, 3], "optim.lr": 1e-5, "data.dataset": "007", "name": "x", "train.workers": 2}
    old = resolve(None, {"model.batch_norm": "frozen"}).experiment
    new = override(old, wanted)
    texts = changes(old, new)
    assert sorted(text.partition("=")[0] for text in texts) == ["data.dataset", "evaluation.shots", "optim.lr"]
    assert override(old, texts).digest() == new.digest() != old.digest()
    assert changes(new, new) == []
