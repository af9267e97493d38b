# SPDX-License-Identifier: Apache-2.0

"""An application that answers with what it reads: name and base64 of the value."""

import base64
import json


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    report = {
        # Texts of environ are bytes in disguise (PEP 3333).
        "server": [
            [name, base64.b64encode(value.encode("latin-1")).decode()]
            for name, value in environ.items()
            if isinstance(value, str) and (name.startswith("HTTP_") or name == "REMOTE_USER")
        ],
        "body": base64.b64encode(body).decode(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(report).encode()]
