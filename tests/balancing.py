"""What stands before several web hosts: balancers as Debian has them, as docs/upgrading.md sets them up."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provocative.addresses import Address, answers
from tests.conftest import until

NGINX = """
daemon off; {user} error_log {folder}/error.log; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream webs {{ {servers} }}
    server {{
        listen 127.0.0.1:{port}; client_max_body_size 101m;
        location / {{
            proxy_pass http://webs; proxy_set_header Host $http_host;
        }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 60s
    timeout check 5s
frontend all
    bind 127.0.0.1:{port}
    default_backend webs
backend webs
    balance roundrobin
    retries 0
    option httpchk GET /readyz
    http-check send hdr Host localhost
    default-server check inter 500ms fall 1 rise 1
    {servers}
"""


@contextmanager
def nginx(folder: Path, port: int, webs: list[int]) -> Iterator[None]:
    """Asks nobody whether they are well: it goes to the next when a connection is refused, and leaves that one out for a
    second. Were that longer than until the next one goes, none would be left."""
    servers = " ".join(f"server 127.0.0.1:{web} max_fails=1 fail_timeout=1s;" for web in webs)
    user = "" if os.geteuid() else "user root;"  # whose folder it is: bodies are kept there
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, servers=servers, user=user))
    yield from _running([shutil.which("nginx") or "nginx", "-c", str(folder / "nginx.conf")], port)


@contextmanager
def haproxy(folder: Path, port: int, webs: list[int]) -> Iterator[None]:
    """Asks /readyz; retries nothing."""
    servers = "\n    ".join(f"server web{web} 127.0.0.1:{web}" for web in webs)
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, servers=servers))
    yield from _running([shutil.which("haproxy") or "haproxy", "-f", str(folder / "haproxy.cfg")], port)


def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(Address("127.0.0.1", port), "/healthz"))
        yield
    finally:
        process.terminate()
        process.wait(10)


BALANCERS = {"nginx": nginx, "haproxy": haproxy}
