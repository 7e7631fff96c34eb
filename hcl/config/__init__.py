"""Define the settings of an experiment: type, bounds, unit and meaning of each.

`hcl.config.resolve` builds an `Experiment` from YAML files and overrides; no function below the edge of the
program takes a configuration object, only plain named arguments.
"""

from hcl.config.data import Clips, Data
from hcl.config.evaluation import Evaluation, Fusion
from hcl.config.experiment import Experiment, settings_digest
from hcl.config.model import Matching, Model
from hcl.config.presets import ADDED, MACHINE_SETTINGS, PUBLISHED, PUBLISHED_EVALUATION
from hcl.config.regimes import REGIMES
from hcl.config.section import Section, setting
from hcl.config.training import Loss, Optim, Train

__all__ = [
    "ADDED",
    "MACHINE_SETTINGS",
    "PUBLISHED",
    "PUBLISHED_EVALUATION",
    "REGIMES",
    "Clips",
    "Data",
    "Evaluation",
    "Experiment",
    "Fusion",
    "Loss",
    "Matching",
    "Model",
    "Optim",
    "Section",
    "Train",
    "setting",
    "settings_digest",
]
