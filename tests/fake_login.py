"""A stand-in for the Hub's login (OpenID Connect): who is asked logs in at once, under the name that is set."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "ftlab-client"


class FakeLogin:
    """The login on a free port of this machine, until `close`."""

    def __init__(self) -> None:
        self.user = "me"
        self.nonces: dict[str, str] = {}
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.login = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a Space with `hf_oauth: true` is given."""
        return {
            "OAUTH_CLIENT_ID": CLIENT,
            "OAUTH_CLIENT_SECRET": "a secret of the Space",
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": self.url,
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        login: FakeLogin = self.server.login  # type: ignore[attr-defined]
        asked = urlsplit(self.path)
        if asked.path == "/authorize":
            given = {name: values[0] for name, values in parse_qs(asked.query).items()}
            code = f"{login.user}.{len(login.nonces)}"
            login.nonces[code] = given["nonce"]
            self.send_response(302)
            sign = "&" if "?" in given["redirect_uri"] else "?"
            back = urlencode({"code": code, "state": given["state"]})
            self.send_header("Location", f"{given['redirect_uri']}{sign}{back}")
            self.end_headers()
        elif asked.path == "/keys":
            self.answer({"keys": [login.key.as_dict(private=False)]})
        else:
            self.answer(
                {
                    "issuer": login.url,
                    "authorization_endpoint": f"{login.url}/authorize",
                    "token_endpoint": f"{login.url}/token",
                    "jwks_uri": f"{login.url}/keys",
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )

    def do_POST(self) -> None:
        login: FakeLogin = self.server.login  # type: ignore[attr-defined]
        code = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["code"][0]
        name, now = code.split(".")[0], int(time.time())
        claims = {"iss": login.url, "sub": name, "aud": CLIENT, "iat": now, "exp": now + 3600}
        claims |= {"nonce": login.nonces.pop(code), "name": name, "preferred_username": name}
        claims |= {"profile": f"{login.url}/{name}", "picture": ""}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, login.key)
        self.answer({"access_token": "hf_login", "token_type": "bearer", "expires_in": 3600, "id_token": token})

    def answer(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
