"""Asking an OpenAI-compatible server, again and again until it answers."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from understudy.errors import UserError

_PASSING = frozenset({408, 409, 425, 429})  # and everything from 500: the server may answer later


class Endpoint:
    """One path of a server, such as ``/chat/completions``."""

    def __init__(self, url: str, path: str, *, model: str = "", timeout: float = 60.0, attempts: int = 5, backoff: float = 1.0, secret: str | None = None):
        """``url`` is the server's, with or without ``/v1``; the model's name may follow it after ``#``.

        ``timeout`` and ``backoff`` (doubled after each of at most ``attempts``) are seconds. ``secret`` is sent as bearer token; without it, the environment's
        UNDERSTUDY_SERVER_KEY. Raises UserError where no model is named.
        """
        address, _, named = url.partition("#")
        self.url = address.rstrip("/").removesuffix(path).removesuffix("/v1") + "/v1" + path
        self.model = model or named
        if not self.model:
            raise UserError(f"the server at {address} may have several models: name one, as in {address}#MODEL.")
        self._timeout, self._attempts, self._backoff = timeout, attempts, backoff
        secret = os.environ.get("UNDERSTUDY_SERVER_KEY") if secret is None else secret
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {secret}"} if secret else {})}

    def post(self, body: Mapping[str, Any]) -> Any:
        """The server's answer to ``body``. Raises UserError where it refuses or keeps failing."""
        request = urllib.request.Request(self.url, json.dumps({"model": self.model, **body}).encode(), self._headers)
        reason: object = ""
        for attempt in range(self._attempts):
            wait = self._backoff * 2**attempt
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.read(300).decode(errors='replace')}"
                if error.code < 500 and error.code not in _PASSING:
                    raise UserError(f"the server at {self.url} refuses: {reason}.") from error
                after = error.headers.get("Retry-After", "")
                wait = max(wait, float(after)) if after.isdigit() else wait
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = error
            if attempt + 1 < self._attempts:
                time.sleep(wait)
        raise UserError(f"the server at {self.url} gave no answer in {self._attempts} attempts: {reason}.")

    def unlike(self, reply: Any) -> UserError:
        """What to raise where ``reply`` lacks what it should have."""
        return UserError(f"the server at {self.url} does not answer as an OpenAI-compatible one does: {str(reply)[:200]}.")
