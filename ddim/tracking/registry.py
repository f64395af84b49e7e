"""Trained models in MLflow's registry, the best one by val_kid named.

Several hosts may register at once: each looks again at what it has made.
"""

import json
from typing import Any

from ddim.tracking import logged_model, store
from ddim.tracking.candidate import Candidate
from ddim.tracking.matching import CHECKPOINT_TAG

ALIAS = "best"
VAL_KID = "val_kid"
CONDITIONS_TAG = "conditions"
"""Tag of a registered model: the conditions under which its val_kid compares."""
ATTEMPTS = 6
"""MLflow numbers versions by the highest there is; it gives up after three collisions.
"""


def register(client: Any, run: Any, candidate: Candidate) -> str:
    """Log the model, register it and, if its val_kid is the lowest, name it `best`.

    Whatever an earlier attempt has done is not done again. `run` is the model's run.
    Returns a line that says where the model is.
    """
    name = _registered_name(client, candidate)
    version = _version(client, name, candidate)
    if version is None:
        model = logged_model.find(client, run, candidate) or logged_model.log(
            client, run, candidate
        )
        version = store.again(
            lambda: (
                _version(client, name, candidate)
                or _create_version(client, run, model, candidate, name)
            ),
            ATTEMPTS,
        )
    best = store.again(lambda: _move_alias(client, name, version), ATTEMPTS)
    best_is = "this model" if best == str(version.version) else f"version {best}"
    return (
        f"MLflow: this model is models:/{name}/{version.version}; "
        f"models:/{name}@{ALIAS} is {best_is}"
    )


def _versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, oldest first."""
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def _version(client: Any, name: str, candidate: Candidate) -> Any:
    """The version with the candidate's weights, if there is one."""
    for version in _versions(client, name):
        if version.tags.get(CHECKPOINT_TAG) == candidate.digest:
            return version
    return None


def _registered_name(client: Any, candidate: Candidate) -> str:
    """The registered model for these conditions, which is made if there is none.

    Its name ends in a digest where other conditions have the plain name.
    """
    found = store.look_or_make(
        lambda: _known_name(client, candidate),
        lambda: _make_name(client, candidate),
    )
    # Another host may just have taken the plain name for other conditions.
    return found or store.look_or_make(
        lambda: _known_name(client, candidate),
        lambda: _make_name(client, candidate),
    )


def _names(client: Any, candidate: Candidate) -> dict[str, str | None]:
    """Registered models that begin with the candidate's name, and their conditions."""
    found = client.search_registered_models(f"name LIKE '{candidate.name}%'")
    return {model.name: model.tags.get(CONDITIONS_TAG) for model in found}


def _known_name(client: Any, candidate: Candidate) -> str | None:
    known, (plain, longer) = _names(client, candidate), candidate.names
    return next((n for n in (plain, longer) if known.get(n) == candidate.text), None)


def _make_name(client: Any, candidate: Candidate) -> None:
    plain, longer = candidate.names
    taken = _names(client, candidate).get(plain, candidate.text) != candidate.text
    name = longer if taken else plain
    client.create_registered_model(
        name, {CONDITIONS_TAG: candidate.text}, _description(name, candidate)
    )


def _description(name: str, candidate: Candidate) -> str:
    """What the registered model's page says."""
    conditions = candidate.conditions.items()
    return (
        f"Models whose val_kid compares; `models:/{name}@{ALIAS}` has the lowest.\n\n"
        "Conditions of val_kid:\n\n"
        + "\n".join(f"- {key}: {value}" for key, value in conditions)
    )


def _create_version(
    client: Any, run: Any, model: Any, candidate: Candidate, name: str
) -> Any:
    version = client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=f"val_kid {candidate.val_kid:.6g}, of the run {run.info.run_name}",
        tags={
            CHECKPOINT_TAG: candidate.digest,
            VAL_KID: repr(candidate.val_kid),
            "run_name": run.info.run_name,
        },
    )
    shown = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})
    return version


def _move_alias(client: Any, name: str, mine: Any) -> str:
    """Give the alias to the best version, if `mine` is better than the holder.

    The oldest of equal ones is the best. A holder chosen by hand stays until a better
    version comes. Other hosts may do the same at this moment, so what was given is
    looked at again until it is right. Returns the holder's number.
    """
    given = {str(mine.version)}
    while True:
        holder = str(client.get_registered_model(name).aliases.get(ALIAS))
        versions = {str(each.version): each for each in _versions(client, name)}
        best = min(versions, key=lambda number: _val_kid(versions[number]))
        stays = holder in versions and holder not in given
        if holder == best or (stays and _val_kid(versions[holder]) <= _val_kid(mine)):
            return holder
        client.set_registered_model_alias(name, ALIAS, best)
        given.add(best)


def _val_kid(version: Any) -> float:
    return float(version.tags.get(VAL_KID, "inf"))
