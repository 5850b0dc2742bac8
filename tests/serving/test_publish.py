"""`export --push` against a hub of a few lines: what is sent, and what is said where it is not."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import jax
import pytest
from huggingface_hub import constants

import jaxsafety
from jaxsafety import cli
from jaxsafety.adapters import lora
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import peft
from jaxsafety.serving import publish
from jaxsafety.testing import random_checkpoint

REPO = "someone/made-here"


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory; `fail` says which request is answered with which status."""

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

    def handle_any(self):
        hub = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if not path.startswith(("/api/repos/", "/api/models/", "/api/validate-yaml")):
            return self.answer({}, 404)  # what the client asks for itself
        hub.asked.append((self.command, path, self.headers.get("Authorization")))
        for part, status in hub.fail.items():
            if part in path:
                return self.answer({"error": "no"}, status)
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            url, status = f"{hub.url}/{name}", 409 if name in hub.repos else 200
            hub.repos.setdefault(name, {"visibility": given["visibility"], "files": {}})
            return self.answer({"url": url, "error": "exists"}, status)
        if path == "/api/validate-yaml":
            hub.card = json.loads(body)["content"]
            return self.answer({"errors": [], "warnings": []})
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        if (repo := hub.repos.get(f"{owner}/{name}")) is None:
            return self.answer({"error": "none"}, 404)
        if not rest:
            hidden = repo["visibility"] == "private"
            return self.answer({"id": f"{owner}/{name}", "private": hidden, "siblings": []})
        if rest[0] == "tree":
            files = repo["files"].items()
            return self.answer(
                [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files]
            )
        if rest[0] == "preupload":
            known = [f["path"] for f in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "oid": None}
            return self.answer(
                {"files": [{"path": n, "shouldIgnore": n in hub.ignored, **modes} for n in known]}
            )
        assert rest[0] == "commit"
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo["files"][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del repo["files"][value["path"]]
        hub.commits += 1
        return self.answer({"commitUrl": f"{hub.url}/{owner}/{name}/commit/1", "commitOid": "1"})

    do_GET = do_POST = handle_any


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.asked, server.fail, server.ignored = {}, [], {}, set()
    server.card, server.commits = "", 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("models") / "model")


def export(capsys, model_dir, out, *more):
    """The command's exit code, what it printed, and its error."""
    code = cli.main(["export", f"--model={model_dir}", f"--out={out}", *more])
    said = capsys.readouterr()
    assert "hf_secret" not in said.out + said.err
    return code, said.out, said.err


def test_a_push_makes_a_private_repository_of_all_files(tmp_path, model_dir, hub, capsys):
    code, out, error = export(capsys, model_dir, tmp_path / "out", f"--push={REPO}")
    assert code == 0, error
    assert f"pushed: {hub.url}/{REPO} (private)" in out
    local = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    assert hub.repos == {REPO: {"visibility": "private", "files": local}} and hub.commits == 1
    assert "# made-here\n" in local["README.md"].decode() == hub.card
    assert {auth for *_, auth in hub.asked} == {"Bearer hf_secret"}, hub.asked


def test_again_and_over_other_weights(tmp_path, model_dir, hub, capsys):
    old = {"model-00001-of-00002.safetensors": b"x", "model.safetensors.index.json": b"{}"}
    mine = {"notes.txt": b"mine", "README.md": b"old"}
    hub.repos[REPO] = {"visibility": "private", "files": {**old, **mine}}
    for name in ("one", "two"):
        assert export(capsys, model_dir, tmp_path / name, f"--push={REPO}")[0] == 0
        files = hub.repos[REPO]["files"]
        assert files["notes.txt"] == b"mine" and not set(old) & set(files)
        assert files["README.md"] == (tmp_path / name / "README.md").read_bytes()
    assert hub.commits == 2


def test_a_public_repository_is_asked_for(tmp_path, model_dir, hub, capsys):
    hub.repos[REPO] = {"visibility": "public", "files": {}}
    out = tmp_path / "out"
    code, _, error = export(capsys, model_dir, out, f"--push={REPO}")
    assert code == 2 and "which is public'; allowed: a private one, or --public" in error
    assert f"nothing was sent, the model lies in {out}" in error and error.count("\n") == 1
    assert not hub.repos[REPO]["files"] and (out / "model.safetensors").is_file()
    code, said, _ = export(capsys, model_dir, tmp_path / "two", f"--push={REPO}", "--public")
    assert code == 0 and "(public)" in said
    export(capsys, model_dir, tmp_path / "three", "--push=someone/new", "--public")
    assert hub.repos["someone/new"]["visibility"] == "public"


@pytest.mark.parametrize(
    ("part", "status", "line", "sent"),
    [
        ("repos/create", 401, "does not know this login", "nothing was sent"),
        ("repos/create", 403, "may not write there", "nothing was sent"),
        ("repos/create", 404, "no such owner or repository", "nothing was sent"),
        ("repos/create", 500, "500", "nothing was sent"),
        ("validate-yaml", 400, "Invalid metadata", "holds what it did before, or all"),
        ("commit", 403, "may not write there", "holds what it did before, or all"),
        ("commit", 500, "500", "holds what it did before, or all"),
    ],
)
def test_what_fails_is_said_and_kept(tmp_path, model_dir, hub, capsys, part, status, line, sent):
    hub.fail = {part: status}
    out = tmp_path / "out"
    code, said, error = export(capsys, model_dir, out, f"--push={REPO}")
    assert code == 2 and error.count("\n") == 1 and line in error and sent in error
    assert f"the model lies in {out}" in error and "pushed" not in said and "model: " in said
    assert jaxsafety.load(out) and not any(r["files"] for r in hub.repos.values())


def test_files_that_the_hub_leaves_out_are_told(tmp_path, model_dir, hub, capsys):
    hub.ignored = {"model.safetensors"}
    code, _, error = export(capsys, model_dir, tmp_path / "out", f"--push={REPO}")
    assert code == 2 and "it lacks model.safetensors; the model lies in" in error


def test_nobody_answers(tmp_path, model_dir, hub, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, _, error = export(capsys, model_dir, tmp_path / "out", f"--push={REPO}")
    assert code == 2 and "no answer: " in error and error.count("\n") == 1
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "name",
    ["", "mine", "a/b/c", "a b/c", "a/b@main", "a/.b", "a/b--c", "https://hub/a/b", "a/b.git"],
)
def test_bad_names_are_told_first(tmp_path, model_dir, hub, capsys, name):
    out = tmp_path / "out"
    code, _, error = export(capsys, model_dir, out, f"--push={name}")
    assert code == 2 and f"--push: got {name!r}; allowed: owner/name" in error
    assert error.count("\n") == 1 and not out.exists() and not hub.asked


def test_no_login_and_no_network_are_told_first(tmp_path, model_dir, hub, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    code, _, error = export(capsys, model_dir, out, f"--push={REPO}")
    assert code == 2 and "a login: `hf auth login`" in error and not out.exists()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, error = export(capsys, model_dir, out, f"--push={REPO}")
    assert code == 2 and "HF_HUB_OFFLINE is set" in error and not out.exists() and not hub.asked
    code, _, error = export(capsys, model_dir, out, "--public")
    assert code == 2 and "--public: got 'no --push'" in error


def test_unsafe_models_are_pushed_only_when_told_to(tmp_path, model_dir, hub, capsys):
    model, _, _ = jaxsafety.load(model_dir)
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=3, rank=2)
    peft.save_adapter(tmp_path / "adapter", model, tree, unsafe=True)
    adapter = f"--adapter={tmp_path / 'adapter'}"
    merged, out = tmp_path / "merged", tmp_path / "out"
    assert export(capsys, model_dir, merged, adapter, f"--push={REPO}")[0] == 2
    assert export(capsys, model_dir, merged, adapter, "--unsafe")[0] == 0
    code, _, error = export(capsys, merged, out, f"--push={REPO}")
    assert (
        code == 2 and "its weights are tagged unsafe'; allowed: " in error and "--unsafe" in error
    )
    assert not out.exists() and not hub.asked and error.count("\n") == 1
    assert export(capsys, merged, out)[0] == 0, "on this disk it may be copied"
    assert export(capsys, merged, tmp_path / "sent", f"--push={REPO}", "--unsafe")[0] == 0
    assert b"unsafe: true" in hub.repos[REPO]["files"]["README.md"]


def test_push_is_whole_or_an_error(tmp_path, hub):
    (tmp_path / "a").write_text("x")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b").write_text("y")
    assert publish.push(tmp_path, REPO) == f"{hub.url}/{REPO} (private)"
    assert set(hub.repos[REPO]["files"]) == {"a", "inner/b"}
    hub.fail = {"tree": 403}
    with pytest.raises(UsageError, match="nothing was sent"):
        publish.push(tmp_path, REPO)
