"""What a study shows in Ray's dashboard and to Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.study.tiny import UNCONFIRMED

if TYPE_CHECKING:
    from tests.study.tiny import Run, Study

ROOT = Path(__file__).parents[2]


def fetched(url: str, token: str) -> str:
    request = Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def eventually(run: Run, look: Callable[[], Any]) -> Any:
    """What ``look`` finds, which may fail as long as Ray starts."""

    def found() -> Any:
        try:
            return look()
        except OSError:
            return None

    return run.until(found)


@pytest.mark.long
def test_trials_are_named_runs_in_rays_dashboard_and_the_studys_numbers_reach_prometheus(study: Study) -> None:
    run = study.start("resources.workers_per_trial=1", "search.trials=4", UNCONFIRMED)
    address = run.until(lambda: re.search(r"^Ray dashboard: (http://127\.0\.0\.1:\d+)$", run.said(), re.MULTILINE))[1]
    token_file = Path.home() / ".ray" / "auth_token"
    token = token_file.read_text(encoding="utf-8").strip() if token_file.exists() else ""

    def train_runs() -> list[Any]:
        return list(json.loads(fetched(f"{address}/api/train/v2/runs/v1", token))["train_runs"])

    names = {found["name"] for found in eventually(run, train_runs)}
    assert names <= {f"trial-{number:05d}" for number in range(4)}

    def numbers() -> str | None:
        services = json.loads(fetched(f"{address}/api/prometheus/sd", token))
        targets = [target for service in services for target in service["targets"]]
        said = "\n".join(fetched(f"http://{target}/metrics", token) for target in targets)
        return said if "ray_polydistill_best{" in said else None

    said = eventually(run, numbers)
    run.end()
    assert re.search(r'^ray_polydistill_trials\{.*state="complete".*study="tiny".*\} \d\.0$', said, re.MULTILINE), said
    panels = json.loads((ROOT / "cluster" / "grafana.json").read_text(encoding="utf-8"))["panels"]
    drawn = {name for panel in panels for of in panel["targets"] for name in re.findall(r"ray_\w+", of["expr"])}
    there = set(re.findall(r"^(ray_\w+)", said, re.MULTILINE))
    assert drawn - there <= {"ray_node_gpus_utilization"}  # of which there is none
