"""Test that functions that can run code from data are not called, except where a reason is given."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hcl", "orchestration", "search_spaces", "cluster", "results")
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules that can read pickles."""
CALLS = {"read_pickle", "unsafe_load", "full_load", "load_module", "get_pickled_error"}
BUILTINS = {"eval", "exec"}
RESTORING = ("Tuner.restore", "Trainer.restore", "hub.load", "jit.load")
SAFE_WITH = {"torch.load": ("weights_only", True)} | {
    f"{numpy}.load": ("allow_pickle", False) for numpy in ("np", "numpy")
}
CLASSES = {
    "CmaEsSampler": "stores its optimiser as a pickle",
    "JournalRedisBackend": "keeps snapshots of a study as pickles",
    "UnsafeLoader": "makes any object",
    "FullLoader": "makes any object",
}
ALLOWED = {
    "hcl/config/extension_code.py: calls exec": "the file of the user's own that an experiment names as its code",
    "hcl/datasets/published_embeddings.py: imports pickle": "a reader of its own, which makes arrays and nothing else",
    "hcl/models/backbone.py: imports pickle": "the error that torch raises where it refuses",
}


def faults(source: str) -> list[str]:
    """List a module's uses of functions that could run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                parts = {part for one in names for part in one.name.split(".")}
                found += [f"imports {part}" for part in sorted(parts & MODULES)]
            case ast.ImportFrom(module=str(module), names=names):
                parts = {*module.split("."), *(one.name for one in names)}
                found += [f"imports {one}" for one in sorted(parts & (MODULES | set(CLASSES)))]
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in CLASSES:
                found.append(f"uses {name}")
            case ast.Call(func=function):
                found += _of_a_call(function, {one.arg: one.value for one in node.keywords})
    return found


def _of_a_call(function: ast.expr, given: dict[str | None, ast.expr]) -> list[str]:
    text = ast.unparse(function)
    name = text.rpartition(".")[2]
    if (name in CALLS and name != text) or text in BUILTINS or text.endswith(RESTORING):
        return [f"calls {text}"]
    for argument in ("allow_pickle", "trust_remote_code"):
        if argument in given and not _says(given, argument, False):
            return [f"calls {text} with {argument}"]
    if text in SAFE_WITH and not _says(given, *SAFE_WITH[text]):
        return [f"calls {text} without {SAFE_WITH[text][0]}={SAFE_WITH[text][1]}"]
    if name in ("from_pretrained", "get_state_dict", "load_state_dict_from_url") and "Tokenizer" not in text:
        return [] if _says(given, "weights_only", True) else [f"calls {text} without weights_only=True"]
    if text in ("yaml.load", "yaml.load_all") and "Loader" not in given:
        return [f"calls {text} without a Loader"]
    return []


def _says(given: dict[str | None, ast.expr], name: str, value: bool) -> bool:
    answer = given.get(name)
    return isinstance(answer, ast.Constant) and answer.value is value


def test_nothing_that_is_read_can_run_code() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {fault}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for fault in faults(path.read_text())
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle",
        "from optuna.samplers import CmaEsSampler",
        "optuna.samplers.CmaEsSampler(seed=1)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "eval(text)",
        "AutoModel.from_pretrained(name)",
        "tune.Tuner.restore(path, trainable)",
        "trial.get_pickled_error()",
    ],
)
def test_the_rule_can_fail(line: str) -> None:
    assert faults(line)


@pytest.mark.parametrize(
    "line", ["model.eval()", "torch.load(path, weights_only=True)", "np.load(path, mmap_mode='r', allow_pickle=False)"]
)
def test_the_rule_leaves_others_alone(line: str) -> None:
    assert not faults(line)
