"""The monitor's server: requests as a browser makes them, and as an attacker would."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from paintover.v1 import job_pb2
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_engine.service.server import LINGER_SECONDS

from tests.conftest import make_small_shot

CHANGE = {"X-Paintover": "1", "Content-Type": "application/json"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Browser:
    """Sends requests to one server, with the cookie that it got."""

    port: int
    cookie: str = ""

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Host": f"127.0.0.1:{self.port}", **({"Cookie": self.cookie} if self.cookie else {}), **headers}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with connect(tmp_path_factory.mktemp("monitor") / "data", ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@pytest.fixture
def own(data_dir: Path) -> Iterator[Client]:
    """A client of a daemon that one test alone uses."""
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@pytest.fixture
def link(client: Client) -> str:
    return client.open_monitor()


@pytest.fixture
def stranger(link: str) -> Browser:
    port = urlsplit(link).port
    assert port
    return Browser(port)


def open_link(link: str) -> Browser:
    """A browser with the cookie that opening the link gave it."""
    parts = urlsplit(link)
    assert parts.port
    answer = Browser(parts.port).ask(f"{parts.path}?{parts.query}")
    assert answer.status == 303
    return Browser(parts.port, answer.headers["set-cookie"].partition(";")[0])


@pytest.fixture
def browser(link: str) -> Browser:
    return open_link(link)


@pytest.fixture(scope="module")
def job(client: Client, tmp_path_factory: pytest.TempPathFactory) -> job_pb2.Job:
    small_shot = make_small_shot(tmp_path_factory.mktemp("shot"))
    shot = client.create_shot(small_shot.source).name
    client.put_keyframe(shot, small_shot.key, small_shot.keyframe)
    made = client.create_job(shot)
    assert client.wait_until_finished(made.name, 60)
    return client.get_job(made.name)


def test_link_works_once_and_sets_a_safe_cookie(link: str, stranger: Browser) -> None:
    parts = urlsplit(link)
    first = stranger.ask(f"{parts.path}?{parts.query}")
    assert first.status == 303 and first.headers["location"] == "/"
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=Strict" in first.headers["set-cookie"]
    again = stranger.ask(f"{parts.path}?{parts.query}")
    assert again.status == 401
    assert b"paintover monitor" in again.body


@pytest.mark.parametrize("path", ["/", "/app.js", "/events", "/jobs/1", "/jobs/1/support", "/jobs/1/plate/0?side=160"])
@pytest.mark.parametrize("cookie", ["", "{name}=x.y", "{name}=", "{name}=\xff.\xff", "other=1"])
def test_requests_without_the_cookie_are_refused(stranger: Browser, path: str, cookie: str) -> None:
    stranger.cookie = cookie.format(name=f"paintover-{stranger.port}")
    answer = stranger.ask(path)
    assert answer.status in (400, 401)
    assert b"<html" not in answer.body


ASK = """
import os, socket, sys
port, path, cookie, user = sys.argv[1:]
os.setuid(int(user))
connection = socket.socket()
connection.connect((b"127.0.0.1", int(port)))
connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\nCookie: {cookie}\\r\\n\\r\\n".encode())
print(connection.recv(100).split()[1].decode())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("path", ["/", "/open?link=x"])
def test_a_stolen_cookie_is_worth_nothing_to_another_user(browser: Browser, path: str) -> None:
    def ask(user: int) -> str:
        command = [sys.executable, "-c", ASK, str(browser.port), path, browser.cookie, str(user)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert ask(0) == ("200\n" if path == "/" else "401\n")
    assert ask(54321) == "403\n"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil:{port}"]
)
def test_foreign_host_header_is_refused(browser: Browser, host: str) -> None:
    assert browser.ask("/", Host=host.format(port=browser.port)).status in (400, 421)


def test_localhost_host_header_is_accepted(browser: Browser) -> None:
    assert browser.ask("/", Host=f"localhost:{browser.port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", **CHANGE},
        {"Origin": "null", **CHANGE},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {},
    ],
)
def test_forged_request_is_refused(browser: Browser, client: Client, job: job_pb2.Job, headers: dict[str, str]) -> None:
    assert browser.ask("/jobs/1/remove", "POST", b"{}", **headers).status == 403
    assert client.get_job(job.name).state == job_pb2.JOB_STATE_DONE


@pytest.mark.parametrize(
    "path",
    [
        "/../access.py", "/%2e%2e/access.py", "/..%2faccess.py", "//etc/passwd", "/page/../../app.py", "/app.py",
        "/jobs/1/plate/../../support", "/jobs/1/plate/%2e%2e?side=160", "/jobs/99999999999999999999", "/index.html%00",
        "/jobs/1/plate/0?side=100000", "/jobs/1/plate/0", "/jobs/1/plate/99?side=160", "/jobs/77",
        "/jobs/1/plate/0?side=%C2%B2", "/jobs/1/plate/%C2%B2?side=160", "/jobs/%C2%B2",
    ],
)  # fmt: skip
def test_path_traversal_finds_nothing(browser: Browser, job: job_pb2.Job, path: str) -> None:
    answer = browser.ask(path)
    assert answer.status in (400, 404)
    assert b"import" not in answer.body and b"root:" not in answer.body


def test_oversized_request_is_refused(browser: Browser, job: job_pb2.Job) -> None:
    assert browser.ask("/jobs/1/priority", "POST", b" " * 10_000, **CHANGE).status == 413
    assert browser.ask("/" + "x" * 20_000).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"{", b'{"priority": "high"}', b'{"priority": true}', b'{"priority": 1e99}', b"{}",
        b'{"priority": "\xff"}',
        b"[" * 4000, b'{"a":' * 600 + b"1" + b"}" * 600,
    ],
)  # fmt: skip
def test_malformed_body_is_one_sentence(browser: Browser, job: job_pb2.Job, body: bytes) -> None:
    answer = browser.ask("/jobs/1/priority", "POST", body, **CHANGE)
    assert answer.status == 400
    assert json.loads(answer.body)["message"].endswith(".")


@pytest.mark.parametrize(
    ("what", "body", "words"),
    [
        ("8/drag", b"[[1, 2, 3]]", "A point of a drag is four numbers"),
        ("8/drag", b'[["1", 2, 3, 4]]', "A point of a drag is four numbers"),
        ("8/drag", b"{", "A drag is a list of up to 64 points"),
        ("8/drag", b"[[1, 2, 300, 4]]", "leaves the picture; its pixels are 0,0 to 95,63"),
        ("4/drag", b"[[1, 2, 3, 4]]", "Frame 4 is a keyframe"),
        ("8/holdout", b"no picture", "cannot be read"),
        ("99/holdout", b"", "frame 99 does not exist"),
    ],
)
def test_unusable_correction_is_one_sentence(
    browser: Browser, client: Client, job: job_pb2.Job, what: str, body: bytes, words: str
) -> None:
    jobs = len(client.list_jobs())
    answer = browser.ask(f"/{job.name}/correct/{what}", "POST", body, **CHANGE)
    assert (answer.status, words in json.loads(answer.body)["message"]) == (400, True), answer.body
    assert len(client.list_jobs()) == jobs


def test_content_policy_on_every_response(browser: Browser) -> None:
    for path in ("/", "/app.js", "/style.css", "/nothing.js"):
        policy = browser.ask(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy


def test_page_has_no_address_or_inline_script() -> None:
    page = Path(__file__).parents[3] / "engine/paintover_engine/service/monitor/page"
    for path in page.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path
        assert "innerHTML" not in text and "eval(" not in text, path
    index = (page / "index.html").read_text("utf-8")
    assert index.count("<script") == index.count('<script type="module" src=') == 1
    assert "style=" not in index and "onclick" not in index


def test_pictures_are_webp_and_cached(browser: Browser, client: Client, job: job_pb2.Job) -> None:
    seen = set()
    for view in ("plate", "result", "matte"):
        answer = browser.ask(f"/jobs/1/{view}/4?side=160")
        assert answer.status == 200 and answer.headers["content-type"] == "image/webp"
        assert answer.body[8:12] == b"WEBP"
        seen.add(answer.body)
        tag = answer.headers["etag"]
        assert browser.ask(f"/jobs/1/{view}/4?side=160", **{"If-None-Match": tag}).status == 304
    assert len(seen) == 3
    assert client.get_cache().views_bytes == sum(map(len, seen))


def test_job_lists_frames_and_suggested_keyframes(browser: Browser, job: job_pb2.Job) -> None:
    told = json.loads(browser.ask("/jobs/1").body)
    assert [frame for frame, _ in told["frames"]] == list(range(12))
    assert told["keyframes"] == [4]
    assert told["suggested"] == list(job.suggested_keyframes)


def events(browser: Browser, last: str = "") -> Iterator[tuple[str, str, dict[str, object]]]:
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=20)
    headers = {"Cookie": browser.cookie, **({"Last-Event-ID": last} if last else {})}
    connection.request("GET", "/events", headers=headers)
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    fields: dict[str, str] = {}
    try:
        while line := response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
            if name == "data":
                yield fields["event"], fields.get("id", ""), json.loads(value)
                fields = {}
                response.readline()
    finally:
        connection.close()


def test_events_resume_after_the_last_id(browser: Browser, client: Client, job: job_pb2.Job) -> None:
    following = events(browser)
    name, last, told = next(following)
    assert name == "start" and told["fresh"] and [one["id"] for one in told["jobs"]] == [1]  # type: ignore[index, attr-defined]
    client.update_job(job.name, priority=7)
    while True:
        name, _, told = next(following)
        if name == "job":
            break
    assert told["priority"] == 7
    following.close()
    name, _, told = next(events(browser, last))
    assert name == "start" and not told["fresh"]
    assert [one["priority"] for one in told["jobs"]] == [7]  # type: ignore[index, attr-defined]


def test_page_survives_a_daemon_restart(own: Client) -> None:
    browser, pid = open_link(own.open_monitor()), own.endpoint.pid
    os.kill(pid, signal.SIGKILL)
    assert own.get_engine().pid != pid  # the client starts the next one
    end = time.monotonic() + 20
    while True:
        try:
            assert browser.ask("/").status == 200
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_http_library_is_loaded_on_first_use(own: Client) -> None:
    maps = Path(f"/proc/{own.endpoint.pid}/maps")
    if not maps.exists():
        pytest.skip("reads /proc")
    assert "aiohttp" not in maps.read_text()
    own.open_monitor()
    assert "aiohttp" in maps.read_text()


def test_metrics_need_the_token(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_ENGINE", f"{sys.executable} -m paintover_engine.service --metrics")
    with connect(data_dir, ephemeral=False) as client:
        port = urlsplit(client.open_monitor()).port
        assert port
        token = (data_dir / "token").read_text().strip()
        assert Browser(port).ask("/metrics").status == 401
        text = Browser(port).ask("/metrics", Authorization=f"Bearer {token}").body.decode()
        client.stop_engine(when_idle=False)
    assert 'paintover_jobs{state="queued"} 0' in text
    assert "paintover_disk_free_bytes " in text


def test_open_page_keeps_an_ephemeral_engine(data_dir: Path) -> None:
    with connect(data_dir, ephemeral=True) as client:
        browser, endpoint = open_link(client.open_monitor()), client.endpoint
    following = events(browser)
    next(following)
    time.sleep(LINGER_SECONDS + 2)
    assert daemon.find(data_dir) == endpoint
    following.close()
    assert daemon.wait_until_gone(endpoint, 30)
