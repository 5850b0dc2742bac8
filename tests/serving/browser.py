"""A headless Chromium, driven over its debugging pipe (two file descriptors, JSON ended by NUL)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --remote-debugging-pipe"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The program, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page.

    Attributes:
      asked: addresses that it requested.
    """

    def __init__(self, folder):
        """Starts it with an empty profile in `folder`."""
        program = find()
        assert program is not None
        theirs, self._out = os.pipe()
        self._in, gives = os.pipe()
        # The pipe is its descriptors 3 and 4.
        shell = f'exec 3<&{theirs} 4>&{gives}; exec "$0" "$@"'
        command = ["bash", "-c", shell, program, *FLAGS.split(), f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(theirs, gives),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(gives)
        self._rest, self._count, self._session = b"", 0, None
        self.asked: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        told = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = told["sessionId"]
        for name in ("Page.enable", "Network.enable", "Runtime.enable"):
            self.send(name)

    def send(self, method, **params):
        """A command's result."""
        self._count += 1
        said = {"id": self._count, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._out, json.dumps(said).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("method") == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            if told.get("id") == self._count:
                assert "error" not in told, told
                return told["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser is gone"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def size(self, width, height=900):
        """Of the screen, in CSS pixels."""
        phone = {"mobile": width < 600, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, **phone)

    def run(self, script):
        """The value of an expression; a promise is waited for."""
        told = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, script, seconds=60):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.1)

    def shot(self, path):
        """The screen as a picture."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        """Ends it."""
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
