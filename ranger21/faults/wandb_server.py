"""A stand-in for W&B's server that keeps the data sent by wandb in memory and can fail on request."""

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN_FIELDS = ("displayName", "groupName", "tags", "config", "notes", "jobType", "sweep")


@dataclass
class Received:
    """The data received of one run."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    exit_code: int | None = None
    lines: int = 0  # number of lines of history received, including replaced ones

    def to_resume(self) -> dict[str, Any]:
        """Return what W&B tells a client that resumes the run."""
        config = self.fields.get("config", "{}")
        known = {"config": config, "wandbConfig": json.dumps(json.loads(config).get("_wandb", {}).get("value", {}))}
        known |= {"summaryMetrics": json.dumps(self.summary), "tags": self.fields.get("tags", [])}
        known |= {"historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]), "eventsTail": "[]"}
        return known | {"historyLineCount": len(self.history), "eventsLineCount": 0, "logLineCount": 0}


class Server(ThreadingHTTPServer):
    """Server for wandb with WANDB_BASE_URL=server.url, used as a context manager.

    Attributes:
        url: the server's address.
        runs: received data by run id.
        failing: requests that fail: "", "upsert", "stream" or "all"; with "all" the server closes every connection.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, Received] = {}
        self.failing = ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *args: Any) -> None:
        self.shutdown()
        super().__exit__(*args)

    def handle_error(self, *args: object) -> None:
        """Ignore clients that disconnect."""

    def run(self, run_id: str) -> Received:
        return self.runs.setdefault(run_id, Received())

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
        if operation == "RunResumeStatus":
            run = self.runs.get(variables["name"])
            bucket = run and {"id": "b", "name": variables["name"], **run.to_resume()}
            return {"model": project | {"bucket": bucket}}
        if operation == "UpsertBucket":
            known = {name: variables[name] for name in RUN_FIELDS if variables.get(name) is not None}
            self.run(variables["name"]).fields |= known
            bucket = {"id": "b", "name": variables["name"], "displayName": "n", "project": project}
            return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}
        if operation == "CreateRunFiles":
            urls = [{"name": name, "uploadUrl": f"{self.url}/storage/{name}"} for name in variables["files"]]
            self.run(variables["run"]).files += variables["files"]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": urls}}
        if operation == "NotifyScriptableRunAlert":
            self.run(variables["runName"]).alerts.append(variables["text"])
            return {"notifyScriptableRunAlert": {"success": True}}
        return {}

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Store lines of files from an offset on, replacing existing ones, as in W&B's protocol."""
        run = self.run(run_id)
        for name, part in body.get("files", {}).items():
            content = [json.loads(line) for line in part["content"]]
            if name == "wandb-history.jsonl":
                run.history[part["offset"] : part["offset"] + len(content)] = content
                run.lines += len(content)
            elif name == "wandb-summary.json":
                run.summary = content[-1]
        run.exit_code = body.get("exitcode", run.exit_code)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.failing == "all":
            self.close_connection = True
            return
        code, answer = 200, {}
        if self.path == "/graphql":
            query = json.loads(body)
            code = 403 if self.server.failing == "upsert" else 200
            answer = {"data": self.server.graphql(query.get("operationName", ""), query["variables"])}
        elif self.path.endswith("/file_stream"):
            code = 400 if self.server.failing == "stream" else 200
            if code == 200:
                self.server.stream(self.path.split("/")[-2], json.loads(body))
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, *args: object) -> None:
        pass
