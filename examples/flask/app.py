# SPDX-License-Identifier: Apache-2.0

"""An application that leaves signing in to the gate in front of it."""

from flask import Flask, Response, abort, render_template_string, request


class RemoteUser:
    """Puts the user where WSGI applications look for one, from the gate's header.

    The gate removes what a client sends under this name, in every spelling. Nothing
    does so for who reaches this application past it.
    """

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        environ.pop("REMOTE_USER", None)
        user = environ.get("HTTP_REMOTE_USER")
        if user:
            environ["REMOTE_USER"] = user
        return self.application(environ, start_response)


app = Flask(__name__)
app.wsgi_app = RemoteUser(app.wsgi_app)


def header(name):
    """A header as text: it is UTF-8, and WSGI takes headers for Latin-1."""
    return request.headers.get(name, "").encode("latin-1").decode("utf-8", "replace")


def groups():
    return [group for group in header("Remote-Groups").split(",") if group]


@app.before_request
def nobody_past_the_gate():
    if not request.remote_user:
        abort(Response("This application is behind a gate, and you are not.\n", 401))


PAGE = """<!doctype html>
<title>Flask behind the gate</title>
<h1>Hello, {{ name or user }}</h1>
<dl>
<dt>REMOTE_USER<dd id="user">{{ user }}
<dt>Name<dd id="name">{{ name }}
<dt>E-mail<dd id="email">{{ email }}
<dt>Groups<dd id="groups">{{ groups|join(" ") }}
</dl>
{% if "admins" in groups %}<p><a href="/admin">Administration</a>{% endif %}
<p><a href="/authentiq/sign-out?return_to=/">Sign out</a>
"""


@app.get("/")
def index():
    return render_template_string(
        PAGE,
        user=request.remote_user,
        name=header("Remote-Name"),
        email=header("Remote-Email"),
        groups=groups(),
    )


@app.get("/admin")
def admin():
    if "admins" not in groups():
        abort(403)
    return "Only admins read this.\n"
