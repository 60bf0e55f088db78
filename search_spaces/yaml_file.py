"""YAML files that a user writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> Any:
    """What the file holds, None if it is empty.

    Raises:
        ValueError: with the reason in one line, if it is not YAML or has a key twice, of which YAML keeps the last.
        OSError: if it cannot be read.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _OfEachKeyOne)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


class _OfEachKeyOne(yaml.SafeLoader):
    """Makes plain values alone, as every `SafeLoader`, and refuses a key that its mapping has already."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
