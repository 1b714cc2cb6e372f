"""The head and worker groups of a RayJob, each with its path in the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Job = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Pods of one kind: `where` is the path in the file, `content` the mapping there."""

    where: str
    content: Mapping[str, Any]
    is_head: bool = False

    @property
    def pod(self) -> Mapping[str, Any]:
        """The spec of its pods."""
        return self.content.get("template", {}).get("spec", {})

    @property
    def pod_where(self) -> str:
        return f"{self.where}.template.spec"

    @property
    def container(self) -> Mapping[str, Any]:
        """The first container, in which KubeRay starts Ray."""
        found: Mapping[str, Any] = self.pod["containers"][0]
        return found

    @property
    def container_where(self) -> str:
        return f"{self.pod_where}.containers.0"

    @property
    def start_parameters(self) -> Mapping[str, str]:
        """The parameters of `ray start`, without dashes."""
        return self.content.get("rayStartParams", {})

    def limit(self, resource: str) -> Any:
        """The container's limit of a resource, or None."""
        return self.container.get("resources", {}).get("limits", {}).get(resource)


def groups(job: Job) -> Iterator[Group]:
    """All groups, the head first."""
    cluster = job["spec"]["rayClusterSpec"]
    yield Group("spec.rayClusterSpec.headGroupSpec", cluster.get("headGroupSpec", {}), is_head=True)
    for index, content in enumerate(cluster.get("workerGroupSpecs", [])):
        yield Group(f"spec.rayClusterSpec.workerGroupSpecs.{index}", content)


def workers(job: Job) -> Iterator[Group]:
    return (group for group in groups(job) if not group.is_head)
