"""Arguments of every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input.refusing import COMMANDS, Refused, as_said

ROOT = Path(__file__).parents[2]
# What is typed after `python -m`, and what is said.
CASES = [
    ("study.run --bogus", "unknown option --bogus: there are --address, --fresh, --help, --json, --name, --profile, --set, --version"),
    ("study.describe --bogus", "unknown option --bogus: there are --help, --json, --name, --set, --version"),
    ("study.dashboard --bogus", "unknown option --bogus: did you mean --host?"),
    ("trainables.data --bogus", "unknown option --bogus: there are --help, --json, --name, --set, --to, --version"),
    ("analysis.compare --bogus", "unknown option --bogus: there are --group, --help, --json, --to, --version"),
    ("study.run emoji_clop", "no preset or file 'emoji_clop': did you mean emoji_clip? presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("study.run search.trials=3", "PRESET or FILE: 'search.trials=3' is none: to set a key, write --set search.trials=3"),
    ("study.run emoji_clip search.trials=3", "unknown argument search.trials=3: one too many, or one that belongs before the options; to set a key, write --set search.trials=3"),
    ("study.run --search.trials=3", "unknown option --search.trials: did you mean --set search.trials=3?"),
    ("study.run --search.trials 3", "unknown option --search.trials: did you mean --set search.trials=VALUE?"),
    ("study.run --set search.trials 3", "--set search.trials: write it as KEY=VALUE, for example --set search.trials=40"),
    ("study.run --set", "--set: a value is missing: write --set KEY=VALUE"),
    ("study.run --set =3", "--set =3: write it as KEY=VALUE, for example --set search.trials=40"),
    ("study.run --set search.trials=[", "--set search.trials=[: the value '[' is not YAML: line 1, column 2: a value that is not there, or a bracket that is never closed"),
    ("study.run --set search.trials.most=3", "--set search.trials.most=3: trials is a value, not a section"),
    ("study.run --set search={trials:3,trials:4}", "--set: unknown key search.trials:3: did you mean search.trials?"),
    ("study.run --trials 3", "unknown option --trials: there are --address, --fresh, --help, --json, --name, --profile, --set, --version"),
    ("study.run --nam x", "unknown option --nam: did you mean --name?"),
    ("study.run --fresh=yes", "--fresh: takes no value, not 'yes'"),
    ("study.run emoji_clip emoji_siglip2", "unknown argument emoji_siglip2: one too many, or one that belongs before the options; to set a key, write --set KEY=VALUE"),
    ("study.run runs/emoji-clip", "runs/emoji-clip is a study's folder: to go on with it, name its configuration, runs/emoji-clip/config.yaml"),
    ("study.run runs", "no preset or file 'runs': presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("study.run my_stduy.yaml", "no preset or file 'my_stduy.yaml': did you mean my_study.yaml? presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("study.run -n x", "unknown option -n: there are --address, --fresh, --help, --json, --name, --profile, --set, --version"),
    ("study.run --name ../elsewhere", "--name: name: should be letters, digits, '.', '_' and '-', beginning with one of the first two, not '../elsewhere'"),
    ("study.run --address 127.0.0.1:9", "--address 127.0.0.1:9: nothing answers there (Connection refused); is the cluster up, and is this its head's port?"),
    ("study.run --address head", "--address head: write auto, or the host and port of the cluster's head, as 10.0.0.1:6379"),
    ("study.run --address=", "--address : write auto, or the host and port of the cluster's head, as 10.0.0.1:6379"),
    ("study.run --name=", "--name: name: should be letters, digits, '.', '_' and '-', beginning with one of the first two, not ''"),
    ("study.describe emoji_clop", "no preset or file 'emoji_clop': did you mean emoji_clip? presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("study.describe my_stduy.yaml", "no preset or file 'my_stduy.yaml': did you mean my_study.yaml? presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("study.dashboard emoji_clop", "no study 'emoji_clop': did you mean emoji_clip? name a study's folder, a YAML file or a preset (clip_paper, emoji_clip, emoji_siglip2, siglip2_paper)"),
    ("study.dashboard runs", "no study in runs: a study's folder holds config.yaml"),
    ("study.dashboard runs/emoji-clip", "no study in runs/emoji-clip: there is no study.json; python -m study.run begins one"),
    ("study.dashboard --port http", "--port: should be a whole number, not 'http'"),
    ("study.dashboard --host 0.0.0.0", "--host 0.0.0.0: the dashboard has no password, so that it listens on 127.0.0.1, ::1 or localhost only; from another machine, use a tunnel: ssh -L 8080:127.0.0.1:8080 HOST"),
    ("study.dashboard --host example.org", "--host example.org: the dashboard has no password, so that it listens on 127.0.0.1, ::1 or localhost only; from another machine, use a tunnel: ssh -L 8080:127.0.0.1:8080 HOST"),
    ("study.dashboard s3x://a/b", "storage.path: s3x://a/b cannot be used: Protocol not known: s3x"),
    ("trainables.data emoji_clop", "no preset or file 'emoji_clop': did you mean emoji_clip? presets are clip_paper, emoji_clip, emoji_siglip2, siglip2_paper, anything else is the path of a YAML file"),
    ("trainables.data --to my_study.yaml/x", "my_study.yaml/x: cannot be made: Not a directory; name another folder with --to"),
    ("trainables.data --set data.trains=x", "--set: unknown key data.trains: did you mean data.train?"),
    ("trainables.data --to my_study.yaml", "my_study.yaml: cannot be made: File exists; name another folder with --to"),
    ("study.run --set .=3", "--set .=3: write it as KEY=VALUE, for example --set search.trials=40"),
    ("analysis.trial runs/torn 1", "runs/torn/config.yaml: it is no YAML from line 2 on"),
    ("analysis.notebook runs/list", "runs/list/config.yaml: it is no study's configuration"),
    ("trainables.export runs/torn best", "no trial best in runs/torn: none is complete"),
    ("analysis.notebook", "missing RUN: write python -m analysis.notebook RUN"),
    ("analysis.notebook runs/emoji-clop", "no study in runs/emoji-clop: did you mean runs/emoji-clip? a study's folder holds config.yaml"),
    ("analysis.notebook runs/emoji-clip --exec", "unknown option --exec: did you mean --no-execute?"),
    ("analysis.trial", "missing RUN and TRIAL: write python -m analysis.trial RUN TRIAL"),
    ("analysis.trial runs/emoji-clip", "missing TRIAL: write python -m analysis.trial RUN TRIAL"),
    ("analysis.trial runs/emoji-clip 1", "runs/emoji-clip/config.yaml: it has no data"),
    ("analysis.trial my_study.yaml 1", "no study in my_study.yaml: a study's folder holds config.yaml"),
    ("analysis.trial runs/emoji-clip 1 2", "unknown argument 2: one too many, or one that belongs before the options"),
    ("analysis.compare", "name the folders of one or more studies, for example runs/emoji-clip"),
    ("analysis.compare --group", "--group: a value is missing: write --group NAME RUN"),
    ("analysis.compare --group a", "--group a: name the folders of its runs after it"),
    ("analysis.compare nowhere", "no study in nowhere: a study's folder holds config.yaml"),
    ("analysis.compare nowhere://x/y", "nowhere://x/y cannot be read: ValueError: Protocol not known: nowhere"),
    ("analysis.compare runs/emoji-clip runs/../runs/emoji-clip", "runs/emoji-clip is named more than once"),
    ("trainables.export", "missing RUN and TRIAL: write python -m trainables.export RUN TRIAL"),
    ("trainables.export runs/emoji-clip", "missing TRIAL: write python -m trainables.export RUN TRIAL"),
    ("trainables.export runs/emoji-clip best", "no trial best in runs/emoji-clip: none is complete"),
    ("trainables.export runs/emoji-clop 1", "no study in runs/emoji-clop: did you mean runs/emoji-clip? a study's folder holds config.yaml"),
    ("trainables.export s3://b/c 1", "s3://b/c is a URL: name a folder to write to with --to"),
    ("trainables.export runs/emoji-clip 1 --to", "--to: a value is missing: write --to FOLDER"),
    ("trainables.export runs/emoji-clip 1 --bogus", "unknown option --bogus: there are --help, --json, --to, --version"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "said"), CASES, ids=[typed for typed, _ in CASES])
def test_a_mistake_in_arguments(refused: Refused, typed: str, said: str) -> None:
    Path("my_study.yaml").write_text("seed: 1\n", encoding="utf-8")
    Path("runs/emoji-clip").mkdir(parents=True)
    Path("runs/emoji-clip/config.yaml").write_text("name: x\n", encoding="utf-8")
    for name, content in (("torn", "name: [x\n"), ("list", "- x\n")):
        Path("runs", name).mkdir()
        Path("runs", name, "config.yaml").write_text(content, encoding="utf-8")
    line = refused(*typed.split())
    assert as_said(line, said), line


@pytest.mark.parametrize("module", COMMANDS)
def test_a_process_ends_with_2_and_has_imported_nothing_slow(module: str, tmp_path: Path) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "slow = {'ray', 'torch', 'transformers', 'open_clip', 'datasets', 'pandas', 'optuna'}\n"
        "atexit.register(lambda: print('imported:', *sorted(slow & set(sys.modules))))\n"
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
    )
    given = ["nowhere", "7"][: 1 + (module in ("analysis.trial", "trainables.export"))]
    ran = subprocess.run(
        [sys.executable, "-c", program, module, *given], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (2, "imported:\n"), ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"{module}: no ")
