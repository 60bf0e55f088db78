"""What a study may not go on as: another configuration, another search space, or a folder that is none of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from search_spaces.space import SearchSpace
from study.config import StudyConfig, dump_config
from study.errors import UserError
from study.ledger import read_field
from study.mistakes import read_mapping
from trainables.artifacts import write_json

# What may change between two runs of one study; everything else would mix trials that do not compare.
_MAY_CHANGE = (
    "storage",
    "search.trials",
    "search.hours",
    "search.patience",
    "search.confirm",
    "resources",
    "tracking",
)


def refuse_changes(config: StudyConfig, folder: Path, has_begun: bool) -> None:
    """Hold the configuration against the one that the study in ``folder`` has; before its first trial any will do.

    What was made for the other one then goes, so that it is made anew.

    Raises:
        UserError: naming every key that differs and may not.
    """
    import yaml

    path = folder / "config.yaml"
    if not path.exists():
        return
    try:
        before = _flat(_completed(read_mapping(path, "a configuration")))
    except UserError as error:
        raise UserError(f"{error}; restore it from a copy, or give --fresh to set the study aside") from None
    now = _flat(yaml.safe_load(dump_config(config)))
    changed = [
        f"{key} was {_shown(before.get(key))} and is {_shown(now.get(key))}"
        for key in [*now, *(key for key in before if key not in now)]
        if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE)
    ]
    if changed and not has_begun:
        for name in ("study.json", "study.db", "teacher.json"):
            (folder / name).unlink(missing_ok=True)
    elif changed:
        raise UserError(
            f"the study in {folder} cannot go on with another configuration: {'; '.join(changed)}; give the new study "
            "another --name, or --fresh to set the earlier one aside"
        )


def refuse_another_space(space: SearchSpace, folder: Path, has_begun: bool) -> None:
    """Hold the entries of the search space against those that the study in ``folder`` began with, which it keeps there.

    Raises:
        UserError: naming every entry that differs.
    """
    path, now = folder / "space.json", space.as_plain()
    if not has_begun or not path.exists():  # one that began with an earlier version of this code has none
        write_json(path, now)
        return
    before = read_field(path, of=dict)
    changed = [
        f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"search.space: {space.source} is not what it was when the study in {folder} began: {'; '.join(changed)}; put it "
            "back, or give the changed space a file of its own and the new study another --name"
        )


def refuse_foreign(folder: Path) -> None:
    """Whether a folder that is to hold a study holds something else by now, which the study would overwrite.

    Raises:
        UserError: naming the file that is not a study's.
    """
    path = folder / "config.yaml"
    if not path.exists() or (folder / "trials").is_dir():
        return
    try:
        strange = read_mapping(path, "a configuration").keys() - StudyConfig.model_fields.keys()
    except UserError:
        strange = {""}
    if strange:
        raise UserError(
            f"storage.path: {path} is not a study's, and would be overwritten: give the study another --name, or another "
            "--set storage.path="
        )


def refuse_kept_elsewhere(source: str, config: StudyConfig, folder: Path) -> None:
    """Whether a configuration is the one that a study in another place than ``folder`` keeps: of one that was moved, say.

    Raises:
        UserError: saying how that study goes on, and how another one begins.
    """
    kept = Path(source).expanduser().absolute()
    other = kept.parent
    if kept.name != "config.yaml" or not (other / "trials").is_dir() or other.resolve() == folder.resolve():
        return
    renamed = "" if other.name == config.name else f"rename its folder to {config.name} and "
    raise UserError(
        f"{source}: the study in {other} keeps this configuration, which would begin another one in {folder}: to go on with "
        f"that one, {renamed}add --set storage.path={shlex.quote(str(other.parent))}; to begin another, give it a --name"
    )


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _completed(content: Any) -> Any:
    """A study's configuration with the defaults of keys that there were not yet when it began."""
    import yaml
    from pydantic import ValidationError

    try:
        return yaml.safe_load(dump_config(StudyConfig.model_validate(content)))
    except ValidationError:  # of a key that has gone, say: it is shown as it was
        return content


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, branch in tree.items() for key, value in _flat(branch, f"{prefix}{name}.").items()}
