"""Image pull secrets, from the docker ``config.json`` that a role names."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.training.kubeflow.names import experiment_labels, secret_name
from trialflow.trial_files import read_user_file

if TYPE_CHECKING:
    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.section import Role

_MAX_BYTES = 1 << 20


def read_registry_login(path: str) -> bytes:
    """The content of a docker ``config.json``.

    Raises:
        ValueError: It cannot be read, or is none; the message says why, without its content.
    """
    try:
        content = read_user_file(Path(path), _MAX_BYTES)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    try:
        logins = json.loads(content).get("auths")
    except (ValueError, AttributeError):
        raise ValueError("is not a docker config.json") from None
    if not isinstance(logins, dict) or not logins:
        raise ValueError("has no login: its key 'auths' is missing or empty")
    return content


def make_pull_secret(experiment_id: str, namespace: str, role: Role) -> JsonObject:
    """The manifest of a role's image pull secret.

    Raises:
        ValueError: The role's file cannot be used.
    """
    assert role.registry_auth_path is not None
    content = base64.b64encode(read_registry_login(role.registry_auth_path)).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(experiment_id, role.name),
            "namespace": namespace,
            "labels": experiment_labels(experiment_id),
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": content},
    }
