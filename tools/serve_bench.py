"""How `jaxsafety serve` bears a load: a real server process, asked over HTTP.

    python tools/serve_bench.py [--model=DIR] [--streams=64] [--requests=10000] [--tokens=48]

Prints one JSON line: whether every stream got the text that the model says alone, p50 and p99 of
the first piece and of the whole answer, the time of 16 streams at once against one after the other
(in this one run), and the server's memory before and after many requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import jaxsafety

ASKED = (
    "what is {} plus {} ?",
    "which is larger , {} or {} ?",
    "tell me about {} and {} .",
    "sort {} , {} , 7 .",
)


def start(model: str) -> tuple[subprocess.Popen[str], str]:
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "jaxsafety", "serve", "--port=0", "--queue=1024"]
    if model:
        command += [f"--model={model}", "--name=organism"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    return process, process.stdout.readline().split(" at ")[1].split("/v1")[0]


def memory(pid: int) -> float:
    """Resident MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def stream(url: str, text: str, tokens: int) -> tuple[str, float, float]:
    """What is said, and seconds to the first piece and to the end."""
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "stream": True}
    begun, first, said = time.perf_counter(), 0.0, []
    client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
    headers = {"content-type": "application/json"}
    data = json.dumps({**body, "max_tokens": tokens})
    client.request("POST", "/v1/chat/completions", data, headers)
    told = client.getresponse()
    assert told.status == 200, told.read()
    for line in told:
        if line.startswith(b"data: {"):
            piece = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            if piece and not first:
                first = time.perf_counter() - begun
            said.append(piece)
    client.close()
    return "".join(said), first, time.perf_counter() - begun


def measure(url: str, pid: int, args: argparse.Namespace) -> dict[str, object]:
    """All of it, by as many threads as streams."""
    asked = [
        ASKED[number % len(ASKED)].format(number + 3, number % 7 + 2)
        for number in range(args.streams)
    ]
    with ThreadPoolExecutor(args.streams) as threads:

        def at_once(texts: list[str], tokens: int = args.tokens) -> list[tuple[str, float, float]]:
            return list(threads.map(lambda text: stream(url, text, tokens), texts))

        for _ in range(2):  # compiles, for one and for several
            stream(url, asked[0], args.tokens)
            at_once(asked)
        found = at_once(asked)
        begun = time.perf_counter()
        for text in asked[:16]:
            stream(url, text, args.tokens)
        one = time.perf_counter() - begun
        begun = time.perf_counter()
        at_once(asked[:16])
        together = time.perf_counter() - begun
        sizes, left = [memory(pid)], args.requests
        while left > 0:
            part = min(left, args.streams)
            at_once(asked[:part], 4)
            left -= part
            if left <= args.requests // 2 and len(sizes) == 1:
                sizes.append(memory(pid))
        sizes.append(memory(pid))
    waits, whole = ([row[place] for row in found] for place in (1, 2))
    percent = lambda x: [round(float(np.percentile(x, q)), 4) for q in (50, 99)]  # noqa: E731
    return {
        "streams": args.streams,
        "texts": [row[0] for row in found],
        "asked": asked,
        "first_s": percent(waits),
        "whole_s": percent(whole),
        "one_after_the_other_s": round(one, 3),
        "at_once_s": round(together, 3),
        "ratio": round(one / together, 2),
        "requests": args.requests,
        "mib": [round(x, 1) for x in sizes],
    }


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    for name, usual in (("streams", 64), ("requests", 10_000), ("tokens", 48)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    args = parser.parse_args()
    process, url = start(args.model)
    try:
        found = measure(url, process.pid, args)
    finally:
        process.terminate()
        process.wait(60)
    model, params, tokenizer = jaxsafety.load(args.model) if args.model else jaxsafety.load()
    asked: list[str] = found.pop("asked")  # type: ignore[assignment]
    cfg = jaxsafety.SampleConfig(args.tokens, 0.0, stop=tuple(tokenizer.eos_ids))
    prompts = [
        jaxsafety.encode_prompt(tokenizer, [jaxsafety.Message("user", text)]) for text in asked
    ]
    alone = jaxsafety.generate(model, params, tokenizer, prompts, cfg, seed=0)
    right = [tokenizer.decode(answer[0].ids) for answer in alone]
    texts = found.pop("texts")
    assert isinstance(texts, list)
    found["equal"] = sum(a == b for a, b in zip(texts, right, strict=True))
    print(json.dumps({**found, "load": os.getloadavg()[0], "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
