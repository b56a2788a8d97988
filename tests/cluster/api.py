"""The few REST calls that set the cluster up, without the weight of a client library."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

# kind → path of its collection; {namespace} is the object's own
_PATHS = {
    "Namespace": "api/v1/namespaces",
    "Secret": "api/v1/namespaces/{namespace}/secrets",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingWebhookConfiguration": "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}


class Api:
    """An API server, as one user; connections last for one request, as the server may be killed between two."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._options: dict[str, Any] = {
            "base_url": url,
            "verify": ssl.create_default_context(cafile=authority),
            "headers": {"Authorization": f"Bearer {token}"},
            "timeout": 30,
            # A test cluster is on this machine: a proxy of the environment is not asked.
            "trust_env": False,
        }

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with httpx.Client(**self._options) as client:
            return client.request(method, path, **arguments)

    def answers(self, path: str) -> bool:
        """Whether a GET succeeds."""
        return self.get(path) is not None

    def get(self, path: str) -> bytes | None:
        """The answer to a GET; ``None`` when there is no such thing, or nobody to ask."""
        try:
            response = self._request("GET", path)
        except httpx.HTTPError:
            return None
        return response.content if response.is_success else None

    def patch(self, path: str, operations: list[dict[str, str]]) -> None:
        """Change an object by a JSON patch."""
        headers = {"Content-Type": "application/json-patch+json"}
        self._request("PATCH", path, json=operations, headers=headers).raise_for_status()

    def create(self, document: dict[str, Any]) -> None:
        """Create an object; one that exists stays as it is."""
        path = _PATHS[document["kind"]].format(namespace=document["metadata"].get("namespace", ""))
        response = self._request("POST", path, json=document)
        if response.status_code != httpx.codes.CONFLICT:
            response.raise_for_status()
