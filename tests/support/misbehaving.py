"""A proxy before a tracking server that misbehaves instead of being away: a share of the answers is wrong, in the usual ways."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from tests.support.servers import MlflowServer, differences
from tuning.launch import Journal
from tuning.launch.events import TrialEnd
from tuning.tracking.champion import ALIAS
from tuning.tracking.translation import ARTIFACT_FOLDERS, ARTIFACTS

HTML = b"<html><body><h1>Sign in</h1></body></html>"
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "server", "date")

Answer = tuple[int, list[tuple[str, str]], bytes]


class MisbehavingProxy:
    """Passes requests to `server`, and gives for the share `p` of them one of the wrong answers of `KINDS`, by `seed`.

    Of every `1/p` requests in a row one is answered wrongly, and each kind comes before one comes again: how many, and
    of how many kinds, does not hang on luck. Where in the row, and in which order, does.

    `watch` is called with method, path and number of each request once the server has done it, before it is answered.
    """

    def __init__(
        self,
        server: MlflowServer,
        *,
        p: float,
        seed: int = 0,
        delays_s: tuple[float, ...] = (1.0,),
        kinds: tuple[str, ...] = (),
        watch: Callable[[str, str, int], None] = lambda method, path, number: None,
    ) -> None:
        self._server = server
        self._draws = random.Random(seed)
        self._treatments = self._deal(round(1 / p), kinds or tuple(KINDS))
        self._lock = threading.Lock()
        self._watch = watch
        self._delays_s = delays_s
        self.seen: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def draw(self) -> str:
        """How the next request is treated; empty: well."""
        with self._lock:
            kind = next(self._treatments)
            self.given[kind or "well"] += 1
            return kind

    def _deal(self, in_a_row: int, kinds: tuple[str, ...]) -> Iterator[str]:
        while True:
            for kind in self._draws.sample(kinds, len(kinds)):
                row = [kind] + [""] * (in_a_row - 1)
                self._draws.shuffle(row)
                yield from row

    def draw_delay_s(self) -> float:
        with self._lock:
            return self._draws.choice(self._delays_s)

    def pass_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            headers = {key: value for key, value in handler.headers.items() if key.lower() != "connection"}
            connection.request(handler.command, handler.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            kept = [(key, value) for key, value in answer.getheaders() if key.lower() not in HOP_BY_HOP]
            with self._lock:
                path = handler.path.partition("?")[0]
                self.seen[f"{handler.command} {path}"] += 1
                number = self.seen.total()
            self._watch(handler.command, path, number)
            return answer.status, kept, content
        finally:
            connection.close()


def _handler(proxy: MisbehavingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._body()
            kind = proxy.draw()
            try:
                if kind:
                    KINDS[kind](proxy, self, body)
                else:
                    send(self, *proxy.pass_on(self, body))
            except OSError:
                self.close_connection = True

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # whatever the method
                return self._serve
            raise AttributeError(name)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


def send(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes, *, size: int = -1) -> None:
    """`size`: of the content, as the header says; as it is unless given."""
    handler.send_response(status)
    for key, value in headers:
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(content) if size < 0 else size))
    handler.end_headers()
    handler.wfile.write(content)


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def _failed(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 500, [], b"Internal Server Error")


def _limited(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 429, [("Retry-After", "1"), ("Content-Type", "text/plain")], b"slow down")


def _truncated(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    status, headers, content = proxy.pass_on(handler, body)
    send(handler, status, headers, content[: len(content) // 2], size=len(content))
    _cut(handler)


def _shortened(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Truncated by something that counts again what it passes on."""
    status, headers, content = proxy.pass_on(handler, body)
    send(handler, status, headers, content[: len(content) // 2])


def _emptied(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    status, headers, _ = proxy.pass_on(handler, body)
    send(handler, status, headers, b"")


def _delayed(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Done, and answered late, or later than anybody waits."""
    answer = proxy.pass_on(handler, body)
    time.sleep(proxy.draw_delay_s())
    send(handler, *answer)


def _page(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, [("Content-Type", "text/html")], HTML)


def _denied(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    proxy.pass_on(handler, body)
    send(handler, 500, [("Content-Type", "application/json")], b'{"error_code": "INTERNAL_ERROR", "message": "lost"}')


def _severed(proxy: MisbehavingProxy, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    proxy.pass_on(handler, body)
    _cut(handler)


KINDS: dict[str, Callable[[MisbehavingProxy, BaseHTTPRequestHandler, bytes], None]] = {
    "500": _failed,
    "429": _limited,
    "truncated": _truncated,
    "shortened": _shortened,
    "emptied": _emptied,
    "delayed": _delayed,
    "200 with HTML": _page,
    "done but answered 500": _denied,
    "done and then cut": _severed,
}


def not_once(client: MlflowClient, launch: Path) -> list[str]:
    """What a server has not, or more than once, of the finished launch whose records are in `launch`; its study has its name."""
    wrong = differences(client, launch)
    experiment = client.get_experiment_by_name(launch.name).experiment_id
    ends = {event.number: event for event in Journal(launch).events() if isinstance(event, TrialEnd)}
    for run in client.search_runs([experiment], max_results=1000):
        number = run.data.tags.get("number")
        expected = {"study.yaml"} if number is None else _files(Path(ends[int(number)].checkpoint or ""))
        found = _artifacts(client, run.info.run_id)
        if found != expected:
            wrong.append(f"{run.info.run_name}: artifacts {sorted(found)} instead of {sorted(expected)}")
        inputs = sorted(item.dataset.name for item in run.inputs.dataset_inputs)
        if inputs != ["digits", "probe-set"]:
            wrong.append(f"{run.info.run_name}: inputs {inputs}")
    return wrong + registered_not_once(client, launch.name)


def _files(checkpoint: Path) -> set[str]:
    names = [name for name in ARTIFACTS["last_and_best"] if (checkpoint / name).exists()]
    return {f"{ARTIFACT_FOLDERS[name]}/{name}" if name in ARTIFACT_FOLDERS else name for name in names}


def _artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run_id, path):
        found |= _artifacts(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def registered_not_once(client: MlflowClient, name: str) -> list[str]:
    """The same of its champion, and of what it is registered by."""
    models = client.search_logged_models([client.get_experiment_by_name(name).experiment_id])
    versions = client.search_model_versions(f"name = '{name}'")
    aliases = {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()} if versions else {}
    wrong = [f"{len(models)} logged models"] if len(models) != 1 else []
    wrong += [f"logged model {model.model_id} is {model.status}" for model in models if model.status != LoggedModelStatus.READY]
    wrong += [f"versions {[version.version for version in versions]}"] if len(versions) != 1 else []
    wrong += [f"aliases {aliases}"] if aliases != {ALIAS: 1} else []
    if wrong:
        return wrong
    outputs = client.get_run(versions[0].run_id).outputs
    named = [output.model_id for output in outputs.model_outputs] if outputs is not None else []
    wrong += [f"its run names the models {named}"] if named != [models[0].model_id] else []
    files = {item.path for item in client.list_logged_model_artifacts(models[0].model_id)}
    return wrong if "MLmodel" in files else [*wrong, f"the model's files are {sorted(files)}"]


@contextmanager
def misbehaving(server: MlflowServer, **options: Any) -> Iterator[MisbehavingProxy]:
    """A running proxy before `server`, which must run."""
    proxy = MisbehavingProxy(server, **options)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
