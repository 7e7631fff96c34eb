"""Keep with a study the order by which its trials are chosen and stopped, because later commands must not change it.

study.yaml says whether the study is reproducible, a function of its seed; if so its lag, once that is known; and the
first epoch after which trials may be stopped. Studies of earlier versions have none of these. They took trials as they
came, and are resumed that way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hcl.errors import ConfigError
from orchestration.console import notes
from orchestration.sweeps.sampling.early_stopping import first_rung_of_old

if TYPE_CHECKING:
    from orchestration.sweeps.study import Study

REPRODUCIBLE, LAG, GRACE = "reproducible", "lag", "grace_epochs"
"""Keys of study.yaml."""


def order_of(study: Study) -> dict[str, Any]:
    """Return the entries of study.yaml about the order of a study's trials. A lag of None is not known yet."""
    content: dict[str, Any] = {REPRODUCIBLE: not study.as_they_come}
    if study.has_lag:
        content[LAG] = study.lag
    if study.can_stop:
        content[GRACE] = study.first_rung
    return content


def as_started(study: Study, description: Mapping[str, Any], *, where: str) -> Study:
    """Return a study with the order that its folder describes, whatever the command leaves open.

    Raises:
        ConfigError: if the command asks for another order.
    """
    is_old = REPRODUCIBLE not in description
    as_they_come = is_old or not description[REPRODUCIBLE]
    if is_old:
        _tell_old(where)
    elif study.as_they_come and not as_they_come:
        raise _other("--as-they-come", "was started as a reproducible study", where)
    lag = description.get(LAG)
    if study.lag is not None and as_they_come:
        raise _other(f"--lag {study.lag}", "takes trials as they come", where)
    if None not in (study.lag, lag) and study.lag != lag and study.has_lag:
        raise _other(f"--lag {study.lag}", f"was started with lag {lag}", where)
    grace = description.get(GRACE, first_rung_of_old(study.experiment.train.epochs))
    if study.grace_epochs not in (None, grace) and study.can_stop:
        raise _other(f"--grace-epochs {study.grace_epochs}", f"was started with {grace}", where)
    return replace(
        study,
        as_they_come=as_they_come,
        lag=study.lag if lag is None else lag,
        grace_epochs=grace,
    )


def is_order(description: Mapping[str, Any]) -> bool:
    """Return whether the entries of a study.yaml about its order are well-formed, or missing."""
    reproducible, lag, grace = (description.get(name) for name in (REPRODUCIBLE, LAG, GRACE))
    return (
        ((reproducible is None and REPRODUCIBLE not in description) or isinstance(reproducible, bool))
        and (lag is None or (type(lag) is int and lag >= 0))
        and (GRACE not in description or (type(grace) is int and grace >= 1))
    )


def _tell_old(where: str) -> None:
    notes.print(
        f"{where}: an earlier version started this study, which takes trials as they come: it is resumed that way, and "
        "is not reproducible",
        soft_wrap=True,
        markup=False,
    )


def _other(option: str, started: str, where: str) -> ConfigError:
    return ConfigError(
        f"the study in {where} {started}, which later commands cannot change",
        where=option,
        remedy="leave the option out to resume the study, or give this one another name (--set name=...)",
    )
