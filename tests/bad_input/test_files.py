"""Files that a user writes: a configuration, a search space, recipes to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.refusing import Refused, as_said

STRATEGY = "strategy: {choice: [fd]}\n"
# What is in study.yaml, and what is said.
YAML = [
    ("search: {trials: 3", "study.yaml: cannot be read as YAML: line 1, column 19: expected ',' or '}', but got the end"),
    ("search:\n\ttrials: 3\n", "study.yaml: cannot be read as YAML: line 2, column 1: a tab: YAML is indented by spaces"),
    ("seed: 1\nsearch: {trials: 3}\nseed: 2\n", "study.yaml: cannot be read as YAML: line 3, column 1: the key seed is there already, in line 1"),
    ("search:\n  trials: 3\n  trials: 4\n", "study.yaml: cannot be read as YAML: line 3, column 3: the key trials is there already, in line 2"),
    ("name: my: study\n", "study.yaml: cannot be read as YAML: line 1, column 9: a second colon: put the value in quotes, or indent the line as its neighbours are"),
    ("search:\n  trials: 3\n space: full\n", "study.yaml: cannot be read as YAML: line 3, column 2: not indented as the lines before it, or a list and keys side by side"),
    ("- name\n- seed\n", "study.yaml: a configuration is a mapping of keys to values (KEY: VALUE), not a list"),
    ("name\n", "study.yaml: a configuration is a mapping of keys to values (KEY: VALUE), not text"),
    ("name: 'mine\n", "study.yaml: cannot be read as YAML: line 2, column 1: a quotation mark that is never closed"),
    ("? [a, b]\n: 1\n", "study.yaml: cannot be read as YAML: line 1, column 3: a key is a word, not a list or a mapping"),
    ("data: *own\n", "study.yaml: cannot be read as YAML: line 1, column 7: a reference (*) to what no anchor (&) above it names"),
    (b'\xff\xfe\x00', "study.yaml: cannot be read as YAML: it is not text in UTF-8, from byte 0 on"),
    (b'name: a\x00b\n', "study.yaml: cannot be read as YAML: character 8 is one that YAML may not hold"),
    ("1: 2\n", "study.yaml: unknown key 1: there are name, seed, storage, data, teacher, cache, student, training, search, resources, tracking"),
    ("'': 2\n", "study.yaml: unknown key '': there are name, seed, ..."),
    ("search:\n", "study.yaml: search: should be a section of keys and values, not empty"),
    ("trials=40\n", "study.yaml: a configuration is a mapping of keys to values (KEY: VALUE), not text"),
    ("data: {languages: [en, no]}\n", "study.yaml: data.languages.1: should be text (YAML reads no, yes, on and off as false and true: put such a word in quotes), not False"),
    ("name: 12\n", "study.yaml: name: should be text (put it in quotes), not 12"),
    ("name: 2026-11-28\n", "study.yaml: name: should be text (put it in quotes), not 2026-11-28"),
    ("teacher: {fit: {learning_rate: 1e-3}}\n", "study.yaml: teacher.fit.learning_rate: should be a number (to YAML 1e-3 is text: write it with a point, as 1.0e-3), not '1e-3'"),
    ("training: {max_gradient_norm: '1,5'}\n", "study.yaml: training.max_gradient_norm: should be a number, not '1,5'"),
    ("Search: {trials: 3}\n", "study.yaml: unknown key Search: did you mean search?"),
    ("search: {trials: 24 # of them}\n", "study.yaml: cannot be read as YAML: line 2, column 1: expected ',' or '}', but got the end"),
    ("data: &d {train: *d}\n", "study.yaml: cannot be read as YAML: line 1, column 7: a reference (*) inside what its own anchor (&) names"),
    ("!!python/object:os.system {}\n", "study.yaml: cannot be read as YAML: line 1, column 1: a tag (!), where there are plain values alone"),
    ("search: {trials: 1_000.5}\n", "study.yaml: search.trials: should be a whole number, not 1000.5"),
    ("---\nname: a\n---\nname: b\n", "study.yaml: cannot be read as YAML: line 3, column 1: a second document (---), where there is one"),
]  # fmt: skip
# What is in space.yaml, and what is said after its name.
SPACES = [
    ("strategey: {choice: [fd]}", "strategey: a recipe has no such field: did you mean strategy?"),
    (STRATEGY + "replication.queue: {int: [1, 9]}", "replication.queue: a recipe has no such field: did you mean replication.queue_size?"),
    (STRATEGY + "learning_rate.low: {int: [1, 9]}", "learning_rate.low: learning_rate has no parts"),
    (STRATEGY + "strategy.x: {choice: [fd]}", "strategy.x: strategy has no parts"),
    (STRATEGY + "image_mapping.layers.1: {int: [1, 2]}", "image_mapping.layers.1: image_mapping.layers has no parts"),
    ("strategy: {choice: [fd, xd]}", "strategy: should be 'fd', 'ed', 'sd', 'mcl', 'dr' or 'mix', not 'xd'"),
    (STRATEGY + "strategy_weights.xd: {float: [0, 1]}", "strategy_weights.xd: should be 'fd', 'ed', 'sd', 'mcl' or 'dr', not 'xd'"),
    (STRATEGY + "image_mapping.kind: {choice: [upside]}", "image_mapping.kind: should be 'none', 'uniform', 'last', 'first' or 'monotone', not 'upside'"),
    (STRATEGY + "learning_rate: {float: [0, 1]}", "learning_rate: should be more than 0, not 0.0"),
    (STRATEGY + "language_weighting.gamma: {float: [-3, 0]}", "language_weighting.gamma: should be at least -2, not -3.0"),
    (STRATEGY + "replication.queue_size: {choice: [1.5]}", "replication.queue_size: should be a whole number, not 1.5"),
    (STRATEGY + "layer_weight: {layers: image}", "layer_weight: should be a number, not layers of a tower"),
    (STRATEGY + "layer_weight: {languages: [0, 1]}", "layer_weight: should be a number, not logits of languages"),
    ("learning_rate: {float: [0.001, 0.01]}", "strategy: is required"),
    ("strategy: {choice: [mix]}", "a mix needs a positive weight for at least one strategy"),
    ("strategy: {choice: [fd, dr]}\nstrategy_weights.fd: {float: [0.1, 1]}", "strategy dr takes no strategy_weights: only mix does"),
    (STRATEGY + "image_mapping.kind: {choice: [monotone]}", "image_mapping: a mapping of kind monotone needs layers"),
    (STRATEGY + "image_mapping.kind: {choice: [last]}\nimage_mapping.layers: {layers: image}", "image_mapping: a mapping of kind last takes no layers"),
    (STRATEGY + "text_mapping.kind: {choice: [monotone]}\ntext_mapping.layers: {layers: image}", "text_mapping: a map of 2 student layers into 4 teacher layers cannot be [3, 5]"),
    (STRATEGY + "language_weighting.kind: {choice: [free]}", "language_weighting: free weights need a logit for each language; none for en, es, ja, ko, pt, it, fr, de, fa, id, zh, ru, tr, ar"),
    ("strategy: {choise: [fd]}", "strategy: needs exactly one of choice, float, int, layers, languages (did you mean choice?), not {'choise': ['fd']}"),
    ("strategy: fd", "strategy: needs exactly one of choice, float, int, layers, languages, not 'fd'"),
    (STRATEGY + "learning_rate: {float: [0.01, 0.001]}", "learning_rate: [0.01, 0.001] is no range"),
    (STRATEGY + "learning_rate: {float: [0, 0.1], log: true}", "learning_rate: [0.0, 0.1] is no range on a logarithmic scale"),
    (STRATEGY + "learning_rate: {float: 0.1}", "learning_rate: float: should be a list, as [en, de] or [10, 20], not 0.1"),
    (STRATEGY + "learning_rate: {float: [0.001, 0.01], lgo: true}", "learning_rate: unknown key lgo: there are when, float, log"),
    ("strategy: {choice: []}", "strategy: choice: should have at least 1, not []"),
    (STRATEGY + "text_mapping.layers: {layers: txt}", "text_mapping.layers: layers: should be 'image' or 'text', not 'txt'"),
    (STRATEGY + "task_weight: {float: [0, 1], when: {strategies: [fd]}}", "task_weight: when: 'strategies' is not a choice that stands above it"),
    (STRATEGY + "task_weight: {float: [0, 1], when: {strategy: [dr]}}", "task_weight: when: strategy is never 'dr': it is one of ['fd']"),
    (STRATEGY + "task_weight: {float: [0, 1], when: {strategy: dr}}", "task_weight: when.strategy: should be a list, not 'dr'"),
    ("", "a space is a mapping of fields of a recipe to what they may be, as in learning_rate: {float: [0.001, 0.01]}"),
    ("[a, b]", "a space is a mapping of fields of a recipe to what they may be, as in learning_rate: {float: [0.001, 0.01]}"),
    ("strategy: [", "cannot be read as YAML: line 1, column 12: a value that is not there, or a bracket that is never closed"),
    ("strategy: {choice: [fd]}\nstrategy: {choice: [dr]}", "cannot be read as YAML: line 2, column 1: the key strategy is there already, in line 1"),
    (STRATEGY + "language_weighting.logits: {languages: [0, 1], groups: none}", "language_weighting.logits: groups: should be a whole number, not 'none'"),
]  # fmt: skip
# What is in mine.yaml, and what is said after its name.
RECIPES = [
    ("a: {strategy: dr, learning_rat: 0.1}", ": a: unknown key learning_rat: did you mean learning_rate?"),
    ("a: {strategy: dr, learning_rate: fast}", ": a: learning_rate: should be a number, not 'fast'"),
    ("a: {strategy: drr}", ": a: strategy: should be 'fd', 'ed', 'sd', 'mcl', 'dr' or 'mix' (did you mean dr?), not 'drr'"),
    ("a: {learning_rate: 0.1}", ": a: strategy: is required"),
    ("a: {strategy: dr}\nb: {strategy: mix}", ": b: a mix needs a positive weight for at least one strategy"),
    ("a: {strategy: dr, replication: {queue: 9}}", ": a: unknown key replication.queue: did you mean replication.queue_size?"),
    ("strategy: dr\n", ": strategy: a recipe is a mapping of fields to values, as in NAME: {strategy: dr, learning_rate: 0.003}, not 'dr'"),
    ("", " has no recipes: it maps names to recipes"),
    ("[a, b]", ": a file of recipes is a mapping of keys to values (KEY: VALUE), not a list"),
    ("a: [", ": cannot be read as YAML: line 1, column 5: a value that is not there, or a bracket that is never closed"),
    ("a: {strategy: dr}\na: {strategy: ed}", ": cannot be read as YAML: line 2, column 1: the key a is there already, in line 1"),
    ("a: {strategy: fd, strategy_weights: {fd: 1}}", ": a: strategy fd takes no strategy_weights: only mix does"),
    ("a: {strategy: fd, image_mapping: {kind: monotone, layers: [3, 2]}}", ": a: image_mapping: layers [3, 2] are not strictly increasing"),
    ("a: {strategy: fd, learning_rate: 1e-3}", ": a: learning_rate: should be a number (to YAML 1e-3 is text: write it with a point, as 1.0e-3), not '1e-3'"),
]  # fmt: skip


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def ids(table: list[tuple[str | bytes, str]] | list[tuple[str, str]]) -> list[str]:
    return [str(content) for content, _ in table]


@pytest.mark.parametrize(("content", "said"), YAML, ids=ids(YAML))
def test_a_configuration(refused: Refused, content: str | bytes, said: str) -> None:
    write("study.yaml", content)
    line = refused("study.run", "study.yaml")
    assert as_said(line, said), line


@pytest.mark.parametrize(("content", "said"), SPACES, ids=ids(SPACES))
def test_a_search_space(refused: Refused, content: str, said: str) -> None:
    write("space.yaml", content)
    line = refused("study.run", "--set", "search.space=space.yaml")
    assert as_said(line, f"search.space: space.yaml: {said}"), line


@pytest.mark.parametrize(("content", "said"), RECIPES, ids=ids(RECIPES))
def test_recipes_to_start_from(refused: Refused, content: str, said: str) -> None:
    write("mine.yaml", content)
    line = refused("study.run", "--set", "search.start_from=[known, mine.yaml]")
    assert as_said(line, f"search.start_from: mine.yaml{said}"), line
