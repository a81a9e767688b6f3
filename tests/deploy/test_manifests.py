"""What the deployment files name must exist: schemas, settings, commands, images, secrets."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from api.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def documents() -> list[dict[str, Any]]:
    return [
        document
        for path in KUBERNETES
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] != "Kustomization"
    ]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] == kind]


def nested(node: Any, key: str) -> Iterator[Any]:
    """Every value under a key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from nested(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from nested(value, key)


def pod_templates() -> list[dict[str, Any]]:
    return [template for document in documents() for template in nested(document, "template")]


@pytest.mark.parametrize(
    "document",
    [d for d in documents() if d["kind"] != "RayCluster"],
    ids=lambda d: f"{d['kind']}-{d['metadata']['name']}",
)
def test_resources_follow_the_schema_of_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_a_wrong_field_would_be_found() -> None:
    wrong = of_kind("Deployment")[0] | {"spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_pods_of_the_ray_cluster_follow_the_schema_of_kubernetes() -> None:
    (cluster,) = of_kind("RayCluster")
    assert cluster["apiVersion"] == "ray.io/v1"
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"]["name"] = "ray"
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_kustomization_lists_every_manifest() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in KUBERNETES if p.name != "kustomization.yaml")


def test_volumes_claims_and_selectors_refer_to_something() -> None:
    claims = {document["metadata"]["name"] for document in of_kind("PersistentVolumeClaim")}
    labels = [template["metadata"].get("labels", {}) for template in pod_templates()]
    for template in pod_templates():
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        templated = {"database"}  # a claim template of the database's own
        mounts = {mount["name"] for mounts in nested(template, "volumeMounts") for mount in mounts}
        assert mounts <= volumes | templated
        assert set(nested(template, "claimName")) <= claims
    for service in of_kind("Service"):
        assert service["spec"]["selector"] in labels


def test_one_version_everywhere() -> None:
    constraints = (DEPLOY / "constraints.txt").read_text()
    (cluster,) = of_kind("RayCluster")
    assert f"\nray=={cluster['spec']['rayVersion']}\n" in constraints
    assert f"nichemerge:{VERSION}" in (DEPLOY / "Dockerfile").read_text()
    images = {service["image"] for service in COMPOSE["services"].values()}
    assert images == {f"nichemerge:{VERSION}", "postgres:15-bookworm"}


@pytest.mark.parametrize(
    "path", [DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", *KUBERNETES], ids=lambda p: p.name
)
def test_every_variable_is_a_setting(path: Path) -> None:
    used = set(re.findall(r"NICHEMERGE_([A-Z_]+)", path.read_text()))
    assert used <= {name.upper() for name in Settings.model_fields}


def test_compose_depends_on_services_that_report_their_health() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert "test" in services[name]["healthcheck"]


def test_volumes_of_compose_are_declared() -> None:
    for service in COMPOSE["services"].values():
        names = {volume.rpartition(":")[0].split(":")[0] for volume in service["volumes"]}
        named = {name for name in names if re.fullmatch(r"[a-z]+", name)}
        assert named <= set(COMPOSE["volumes"])


def test_image_contains_every_package_and_runs_without_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for package in ("search", "evals", "workers", "api"):
        assert f"COPY {package} {package}" in dockerfile
        assert f"!{package}" in ignored
    assert re.search(r"^USER nichemerge$", dockerfile, re.M)
