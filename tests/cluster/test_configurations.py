"""The files for `ray up`: valid, without typos that Ray passes over, and safe."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray
import yaml
from botocore.session import Session
from moto import mock_aws
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_LAUNCH_CONFIG, TAG_RAY_NODE_KIND

ROOT = Path(__file__).parents[2]
FILES = {
    "aws": ROOT / "cluster.yaml",
    "gcp": ROOT / "cluster" / "gcp.yaml",
    "local": ROOT / "cluster" / "on_premise.yaml",
}
# Fields of an instance in Google's compute API that these files use.
GCP_FIELDS = {
    "": {"machineType", "disks", "networkInterfaces", "scheduling"},
    "disks": {"boot", "autoDelete", "type", "initializeParams"},
    "networkInterfaces": {"subnetwork", "accessConfigs"},
    "scheduling": {"provisioningModel", "instanceTerminationAction", "onHostMaintenance"},
}


def read(kind: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILES[kind].read_text(encoding="utf-8"))
    return content


def keys_read(owner: str, *folders: str) -> set[str]:
    """The keys that Ray's launcher and the providers in these folders take from an expression that ends with ``owner``."""
    private = Path(ray.__file__).parent / "autoscaler" / "_private"
    paths = [*private.glob("*.py"), *(path for folder in folders for path in (private / folder).glob("*.py"))]
    found = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Subscript):
            of, key = node.value, node.slice
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            of, key = node.func.value, node.args[0]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            of, key = node.comparators[0], node.left
        else:
            continue
        if isinstance(key, ast.Constant) and re.search(owner, ast.unparse(of)):
            found.add(key.value)
    return found


@pytest.mark.parametrize("kind", FILES)
def test_ray_finds_every_file_valid_and_reads_every_key_of_it(kind: str) -> None:
    content = read(kind)
    validate_config(prepare_config(content))
    assert content["provider"]["type"] == kind
    providers = keys_read(r"(provider_config|\['provider'\])$", kind)
    assert {"type", {"local": "head_ip"}.get(kind, "region")} <= providers
    assert set(content["provider"]) - {"type"} <= providers
    assert set(content["auth"]) <= keys_read(r"(auth_config|\['auth'\])$", kind)
    assert set(content["provider"].get("security_group", {})) <= keys_read(r"get\('security_group', \{\}\)$", kind)
    for typo in ("regoin", "security_groups", "head_pi"):
        assert typo not in providers


def test_nodes_of_gcp_have_fields_of_its_api() -> None:
    for node_type in read("gcp")["available_node_types"].values():
        for name, fields in GCP_FIELDS.items():
            part = node_type["node_config"].get(name, {}) if name else node_type["node_config"]
            for one in part if isinstance(part, list) else [part]:
                assert set(one) <= fields


@pytest.mark.parametrize("kind", ["aws", "gcp"])
def test_in_a_cloud_drivers_live_on_a_head_without_cores_and_spot_workers_come_when_they_are_needed(kind: str) -> None:
    content = read(kind)
    types = content["available_node_types"]
    head, worker = types[content["head_node_type"]], types["worker"]
    assert (head["resources"]["CPU"], head["resources"]["GPU"]) == (0, 0)
    assert head["resources"]["trial"] >= worker["max_workers"] * worker["resources"]["GPU"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, content["max_workers"])
    assert worker["resources"]["GPU"] > 0
    assert 0 < content["idle_timeout_minutes"] <= 15
    market = worker["node_config"].get("InstanceMarketOptions", worker["node_config"].get("scheduling"))
    assert "spot" in str(market).lower()
    assert content["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("kind", FILES)
def test_ray_asks_for_a_token_and_shows_its_dashboard_to_the_head_alone(kind: str) -> None:
    content = read(kind)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (command for command in content[key] if "ray start" in command)
        assert re.search(r"\bRAY_AUTH_MODE=token ray start ", start)
    (start,) = (command for command in content["head_start_ray_commands"] if "ray start" in command)
    assert re.findall(r"--dashboard-host\S*", start) == ["--dashboard-host=127.0.0.1"]
    assert "--autoscaling-config" in start
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert content["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"
    text = FILES[kind].read_text(encoding="utf-8")
    assert "0.0.0.0" not in text
    assert not re.search(r"AKIA|PRIVATE KEY|auth_token=", text)


@pytest.mark.parametrize("kind", FILES)
def test_what_is_installed_is_this_code_with_exactly_the_tested_versions(kind: str) -> None:
    content = read(kind)
    (install,) = (command for command in content["setup_commands"] if "--constraint" in command)
    assert "--constraint ~/polydistill/constraints.txt ~/polydistill" in install
    mounted = {remote: local for remote, local in content["file_mounts"].items() if remote.startswith("~/polydistill/")}
    assert all((ROOT / local).exists() and remote == f"~/polydistill/{local}" for remote, local in mounted.items())
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages | {"pyproject.toml", "constraints.txt"} <= set(mounted.values())
    # Nothing else is fetched, but for what brings Python itself, in one version.
    others = [
        line for line in content["setup_commands"] if line != install and re.search(r"pip install|curl|wget", line)
    ]
    assert all(re.search(r"install -q 'uv==[\d.]+'", line) for line in others)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What `ray up` makes of cluster.yaml in an account that is empty but for its default network."""
    monkeypatch.setenv("HOME", str(tmp_path))  # the key pair's private half goes there
    with mock_aws(config={"core": {"mock_credentials": True}, "iam": {"load_aws_managed_policies": True}}):
        from ray.autoscaler._private.aws import config, node_provider, utils

        monkeypatch.setattr(config.time, "sleep", lambda seconds: None)  # AWS needs a while to know a new role
        monkeypatch.setattr(node_provider, "TAG_BATCH_DELAY", 0)
        content = read("aws")
        filled = node_provider.AWSNodeProvider.fillout_available_node_types_resources(prepare_config(content))
        yield node_provider.AWSNodeProvider.bootstrap_config(filled)
        for cached in (utils.resource_cache, utils.client_cache, config._get_subnets_or_die):
            cached.cache_clear()


def test_on_aws_ssh_alone_is_open_and_machines_are_as_the_file_says(aws: dict[str, Any]) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    ec2 = boto3.resource("ec2", region_name=aws["provider"]["region"])
    groups = {
        group for node in aws["available_node_types"].values() for group in node["node_config"]["SecurityGroupIds"]
    }
    (group,) = (ec2.SecurityGroup(group) for group in groups)
    assert group.group_name == "polydistill"
    (inside,) = (rule for rule in group.ip_permissions if rule["UserIdGroupPairs"])
    assert [pair["GroupId"] for pair in inside["UserIdGroupPairs"]] == [group.id]
    assert not inside["IpRanges"]
    (outside,) = (rule for rule in group.ip_permissions if rule is not inside)
    assert (outside["IpProtocol"], outside["FromPort"], outside["ToPort"]) == ("tcp", 22, 22)

    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    provider = AWSNodeProvider(aws["provider"], aws["cluster_name"])
    for name, node_type in aws["available_node_types"].items():
        written = read("aws")["available_node_types"][name]["node_config"]
        assert set(written) <= set(shape.members)
        tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_LAUNCH_CONFIG: name}
        (made,) = provider.create_node(node_type["node_config"], tags, 1).values()
        assert made.instance_type == written["InstanceType"]
        assert made.instance_lifecycle == ("spot" if name == "worker" else None)
        assert made.metadata_options["HttpTokens"] == "required"
        provider.non_terminated_nodes({})
        provider.terminate_node(made.id)
    assert provider.non_terminated_nodes({}) == []


def test_lower_bounds_are_above_known_holes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    for package, hole in (
        ("ray", "2.51.99"),  # CVE-2023-48022, CVE-2025-62593: before token authentication, anybody could run a job
        ("torch", "2.5.1"),  # CVE-2025-32434: `weights_only` did not keep code out
        ("pyarrow", "14.0.0"),  # CVE-2023-47248: files named code to unpickle
    ):
        assert not wanted[package].specifier.contains(hole), wanted[package]
        assert wanted[package].specifier.contains(version(package))
