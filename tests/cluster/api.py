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
    """An API server, as one user."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        context = ssl.create_default_context(cafile=authority)
        # A test cluster is on this machine: a proxy of the environment is not asked.
        self._http = httpx.Client(
            base_url=url,
            verify=context,
            trust_env=False,
            timeout=30,
            headers={"Authorization": f"Bearer {token}"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def answers(self, path: str) -> bool:
        """Whether a GET succeeds."""
        try:
            return self._http.get(path).is_success
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> Any:
        """The decoded answer of a GET; ``None`` when there is no such thing, or nobody to ask."""
        try:
            response = self._http.get(path)
        except httpx.HTTPError:
            return None
        return response.json() if response.is_success else None

    def create(self, document: dict[str, Any]) -> None:
        """Create an object; one that exists stays as it is."""
        path = _PATHS[document["kind"]].format(namespace=document["metadata"].get("namespace", ""))
        response = self._http.post(path, json=document)
        if response.status_code != httpx.codes.CONFLICT:
            response.raise_for_status()
