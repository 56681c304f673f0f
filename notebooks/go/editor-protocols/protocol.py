"""What an editor says to gopls and to Delve, without an editor and without a screen.

Both protocols send JSON after a Content-Length header: the language server protocol over standard
input and output, the debug adapter protocol here over TCP.
"""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

DEADLINE = 60  # seconds that one answer may take

Message = dict[str, Any]


class Channel:
    """Messages both ways over two binary streams."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._writer = writer
        self._arrived: queue.Queue[Message] = queue.Queue()
        self.log: list[Message] = []  # everything that arrived
        threading.Thread(target=self._read, args=(reader,), daemon=True).start()

    def _read(self, reader: IO[bytes]) -> None:
        while header := reader.readline():
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
                while reader.readline().strip():
                    pass  # the headers that follow
                self._arrived.put(json.loads(reader.read(length)))

    def send(self, message: Message) -> None:
        """Send one message."""
        body = json.dumps(message).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._writer.flush()

    def wait(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The first message that is wanted; TimeoutError says which did not come."""
        for message in self.log:
            if wanted(message):
                return message
        end = time.monotonic() + DEADLINE
        while (left := end - time.monotonic()) > 0:
            try:
                message = self._arrived.get(timeout=left)
            except queue.Empty:
                break
            self.log.append(message)
            if wanted(message):
                return message
        raise TimeoutError(f"no {what} within {DEADLINE} s")


class LanguageServer:
    """gopls, spoken to over standard input and output. A context manager."""

    def __init__(self, program: str, root: Path, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [program, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env=env,
        )
        assert self._process.stdout
        assert self._process.stdin
        self.channel = Channel(self._process.stdout, self._process.stdin)
        self._last = 0
        folder = {"uri": root.as_uri(), "name": root.name}
        self.capabilities: Message = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": root.as_uri(),
                "capabilities": {},
                "workspaceFolders": [folder],
            },
        )["result"]["capabilities"]
        self.notify("initialized", {})

    def request(self, method: str, params: Message) -> Message:
        """Ask, and return the whole answer: a result, or an error with its code."""
        self._last += 1
        number = self._last
        self.channel.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return self.channel.wait(
            lambda m: m.get("id") == number and "method" not in m, f"answer to {method}"
        )

    def notify(self, method: str, params: Message) -> None:
        """Tell, without an answer."""
        self.channel.send({"jsonrpc": "2.0", "method": method, "params": params})

    def open(self, file: Path, uri: str = "") -> Message:
        """Open a file, as a person's editor does; returns how further messages name it."""
        document = {"uri": uri or file.as_uri()}
        text = {"languageId": "go", "version": 1, "text": file.read_text()}
        self.notify("textDocument/didOpen", {"textDocument": document | text})
        return document

    def definition(self, file: Path, word: str, uri: str = "") -> str:
        """Where the last ``word`` of the file is defined: a URI, or the error's message."""
        document = self.open(file, uri)
        before, _, _ = file.read_text().rpartition(word)
        position = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
        answer = self.request(
            "textDocument/definition", {"textDocument": document, "position": position}
        )
        if "error" in answer:
            return str(answer["error"]["message"])
        return str(answer["result"][0]["uri"]) if answer["result"] else "nothing"

    def __enter__(self) -> LanguageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Debugger:
    """``dlv dap``, spoken to over TCP on loopback. A context manager."""

    def __init__(self, program: str, directory: Path, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [program, "dap", "--listen=127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=env,
            text=True,
        )
        assert self._process.stdout
        first = self._process.stdout.readline()
        address = re.search(r"(127\.0\.0\.1):(\d+)", first)
        if not address:
            raise RuntimeError(f"{program} does not listen: {first.strip()}")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self._socket = socket.create_connection((address[1], int(address[2])))
        self.channel = Channel(self._socket.makefile("rb"), self._socket.makefile("wb"))
        self._last = 0
        self.capabilities: Message = self.request("initialize", {"adapterID": "go"})["body"]

    def ask(self, command: str, arguments: Message | None = None) -> int:
        """Send a request and do not wait; returns its number."""
        self._last += 1
        message = {"seq": self._last, "type": "request", "command": command}
        self.channel.send(message | {"arguments": arguments or {}})
        return self._last

    def request(self, command: str, arguments: Message | None = None) -> Message:
        """Ask, and return the whole answer, with ``success`` True or False."""
        number = self.ask(command, arguments)
        return self.channel.wait(lambda m: m.get("request_seq") == number, f"answer to {command}")

    def event(self, name: str) -> Message:
        """The first event of that name; each is handed out once."""
        found = self.channel.wait(lambda m: m.get("event") == name, f"event {name}")
        self.channel.log.remove(found)
        return found

    def launch(self, program: Path, env: dict[str, str] | None = None) -> None:
        """Start a compiled program and stop before its first line; breakpoints can be set then."""
        asked = {"mode": "exec", "program": str(program), "env": env or {}}
        number = self.ask("launch", asked)
        came = self.channel.wait(
            lambda m: m.get("event") == "initialized" or m.get("request_seq") == number,
            "answer to launch",
        )
        if came.get("success") is False:
            raise RuntimeError(came["body"]["error"]["format"])

    def breakpoints(self, file: Path | str, *lines: int) -> list[Message]:
        """Set the breakpoints of a file; returns what became of each."""
        asked = {"source": {"path": str(file)}, "breakpoints": [{"line": n} for n in lines]}
        answer = self.request("setBreakpoints", asked)
        return list(answer["body"]["breakpoints"])

    def run_to_stop(self) -> tuple[str, int]:
        """Let the program run; returns the reason of the stop, and the line."""
        self.request("configurationDone")
        stopped = self.event("stopped")["body"]
        frames = self.request("stackTrace", {"threadId": stopped["threadId"], "levels": 1})
        return stopped["reason"], frames["body"]["stackFrames"][0]["line"]

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.request("disconnect", {"terminateDebuggee": True})
        finally:
            self._socket.close()
            self._process.kill()
            self._process.wait()
