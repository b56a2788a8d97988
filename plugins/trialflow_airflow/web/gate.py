"""What stands before every route: no body is read of whoever has not logged in, nor more of it than its route takes.

A browser sends Airflow's cookie along with whatever another site makes it send, a form for example. So a request that
acts by the cookie alone must have what no form can send.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from trialflow.settings import get_settings
from trialflow_airflow.airflow_internals import find_user

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An experiment file of the largest size, written as JSON that escapes every second character.
MOST_BODY_BYTES = 2 << 20
# What an archive needs besides the files in it.
_MOST_ARCHIVE_EXTRA_BYTES = 16 << 20
UPLOADS_PATH = "/uploads"
_READS = ("GET", "HEAD", "OPTIONS")
# A header that scripts may send to their own site only.
_OWN_HEADER = "X-Requested-With"
_FORGED = (
    f"a request that changes something by the cookie of a browser needs a header {_OWN_HEADER}, or JSON as its "
    "Content-Type; programs send Authorization: Bearer TOKEN"
)


class Gate:
    """Refuses a request that acts before its body is read: without a login, with too large a body, or from elsewhere.

    A request that only reads has no body, and its route asks for the login.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        most = _most_bytes(request)
        try:
            await find_user(request)
            _require_own_site(request)
            _require_size(request, most)
        except HTTPException as refusal:
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, headers=refusal.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, _limited(receive, most), send)


def _require_own_site(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Whatever else stands there, a password for a proxy for example, a browser may send by itself.
    has_token = request.headers.get("authorization", "").lower().startswith("bearer ")
    if not has_token and _OWN_HEADER not in request.headers and kind != "application/json":
        raise HTTPException(HTTPStatus.FORBIDDEN, _FORGED)


def _require_size(request: Request, most: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the header Content-Length must be a number of bytes")
    if len(length) > len(str(most)) or int(length) > most:
        raise _too_large(most)


def _limited(receive: Receive, most: int) -> Receive:
    """Ends a request of which more comes than its route takes, whatever it says of its length."""
    brought = 0

    async def receive_within_limit() -> Message:
        nonlocal brought
        message = await receive()
        brought += len(message.get("body", b""))
        if brought > most:
            raise _too_large(most)
        return message

    return receive_within_limit


def _too_large(most: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may bring {most} bytes at most; send less, or in several parts"
    )


def _most_bytes(request: Request) -> int:
    if request.scope["path"].removeprefix(request.scope.get("root_path", "")) == UPLOADS_PATH:
        return get_settings().max_code_bytes + _MOST_ARCHIVE_EXTRA_BYTES
    return MOST_BODY_BYTES
