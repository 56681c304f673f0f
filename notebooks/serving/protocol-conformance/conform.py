"""Puts the cases of a table to a server of the Open Inference Protocol, version 2.

usage: conform.py TABLE HOST:PORT [HOST:PORT]    REST, and gRPC if there is a second address

Writes one line of JSON for each case: what was demanded by which clause, what the server did, and
`meets`: true, false, or null where the text demands nothing of this server. REST needs Python
alone; gRPC needs the package tritonclient[grpc], whose messages are the protocol's.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import struct
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 60
NOTHING = "no answer"
MOST = 2000  # characters of an answer that are kept
MODEL = "/v2/models/sums"
HEADER = "Inference-Header-Content-Length"
TYPED = {"INT32": ("i", "int_contents"), "FP32": ("f", "fp32_contents")}
DATATYPES = {"BOOL", "BYTES", "FP16", "FP32", "FP64"} | {
    f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}


@dataclass
class Answer:
    """What a server said: a status or code, and what else can be compared."""

    status: str
    told: Any = None  # the JSON, or the message in protobuf's JSON form; None if there is none
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    tail: bytes = b""  # the binary data behind the JSON

    @property
    def refused(self) -> bool:
        """Whether it says that the request failed, by HTTP's status or by gRPC's."""
        return self.status not in {"OK", NOTHING} and not self.status.startswith(("1", "2", "3"))

    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs by name, with their values in a flat list, wherever they stood."""
        found, tail = {}, self.tail
        raw = [base64.b64decode(text) for text in self.told.get("raw_output_contents", [])]
        for index, output in enumerate(self.told["outputs"]):
            form, member = TYPED[output["datatype"]]
            size = (output.get("parameters") or {}).get("binary_data_size")
            inside = size is None and not raw
            if inside:
                data = output["data"] if "data" in output else output["contents"][member]
            else:
                content = raw[index] if raw else tail[:size]
                tail = tail[len(content) :]
                data = list(struct.unpack(f"<{len(content) // 4}{form}", content))
            shape = [int(size) for size in output["shape"]]
            found[output["name"]] = {
                "datatype": output["datatype"],
                "shape": shape,
                "data": flat(data),
                "binary": not inside,
            }
        return found


def flat(data: Any) -> list[Any]:
    """The elements of an array, however it is nested."""
    return [item for part in data for item in flat(part)] if isinstance(data, list) else [data]


# What the members of an answer can be asked to be.
KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "strings": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "tensors": lambda value: isinstance(value, list) and bool(value) and all(map(is_tensor, value)),
}


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor's metadata: a name, a datatype that there is, a shape."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and value.get("datatype") in DATATYPES
        and isinstance(value.get("shape"), list)
        and all(str(size).lstrip("-").isdigit() for size in value["shape"])
    )


class Server:
    """A server at its addresses, and what the cases need to know of it."""

    def __init__(self, rest: str, grpc: str = "") -> None:
        self.rest = rest
        self.extensions = self._told("/v2", "extensions")
        self.versions = self._told(MODEL, "versions")
        self.call = caller(grpc) if grpc else uncalled

    def _told(self, path: str, member: str) -> list[str]:
        told = self.ask("GET", path).told
        return (told.get(member) or []) if isinstance(told, dict) else []

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection(self.rest, timeout=TIMEOUT)
        try:
            connection.request(method, path, body or None, headers or {})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            return Answer(NOTHING, text=type(error).__name__)
        finally:
            connection.close()
        given = {name.lower(): value for name, value in response.getheaders()}
        length = int(given.get(HEADER.lower(), len(content)))
        text = content[:length].decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        return Answer(str(response.status), told, text, given, content[length:])


def uncalled(method: str, _: str) -> Answer:
    """Stands for gRPC where no address of it was given: there no case calls it."""
    raise ValueError(f"{method} needs an address for gRPC")


def caller(address: str) -> Callable[[str, str], Answer]:
    """What calls a method with a message in JSON."""
    import grpc  # noqa: PLC0415 - REST alone does without
    from google.protobuf import json_format  # noqa: PLC0415
    from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: PLC0415

    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))

    def call(method: str, message: str) -> Answer:
        request = json_format.Parse(message, getattr(service_pb2, f"{method}Request")())
        try:
            response = getattr(stub, method)(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return Answer(error.code().name, text=error.details())
        # A member that is false or empty is there, under the name that REST has for it, too.
        told = json_format.MessageToDict(
            response, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
        )
        return Answer("OK", told)

    return call


def expand(text: str, names: dict[str, str]) -> str:
    """Put the table's texts in the place of their names."""
    return re.sub(r"@(\w+)", lambda found: names[found[1]], text)


def run_rest(server: Server, case: dict[str, Any], table: dict[str, Any]) -> Answer:
    """Ask what the case asks."""
    if path := case.get("get"):
        return server.ask("GET", path)
    text = expand(case["infer"], table["text"]).encode()
    headers = {"Content-Type": "application/json"}
    behind = bytes.fromhex(case.get("bytes", ""))
    if behind:
        headers["Content-Type"] = "application/octet-stream"
        if not case.get("headless"):
            headers[HEADER] = str(len(text))
    path = f"/v2/models/{case.get('model', 'sums')}"
    if case.get("at_version"):
        path += f"/versions/{server.versions[0]}"
    return server.ask("POST", f"{path}/infer", text + behind, headers)


def misses(
    server: Server, want: dict[str, Any], answer: Answer, table: dict[str, Any]
) -> Iterator[str]:
    """What of the demands the answer lacks, each in a few words."""
    rest = answer.status.isdigit()
    told = answer.told if isinstance(answer.told, dict) else {}
    if want.get("error"):
        if not answer.refused:
            yield NOTHING if answer.status == NOTHING else "accepted"
        elif rest and not isinstance(told.get("error"), str):
            yield "no error member"
        return
    if answer.status != str(want["status"]):
        yield f"not {want['status']}"
        return
    if rest and not told:
        yield "no JSON object"
        return
    for names, kind in want.get("fields", {}).items():
        if not any(KINDS[kind](told.get(name)) for name in names.split("|")):
            yield f"no {names.replace('|', ' or ')}"
    for name, value in want.get("same", {}).items():
        if told.get(name) != value:
            yield f"{name} is {json.dumps(told.get(name))}"
    if "outputs" in want:
        yield from wrong_outputs(want, answer, table["answers"])
    kind = answer.headers.get("content-type", "")
    if "type" in want and not kind.startswith(want["type"]):
        yield f"Content-Type is {kind or 'not there'}"
    if "versions" in want:
        for version in server.versions:
            status = server.ask("GET", want["versions"].format(version)).status
            if status != "200":
                yield f"{status} at version {version}"
    if want.get("extensions") and set(told.get("extensions", [])) != set(server.extensions):
        yield f"{len(told.get('extensions', []))} of {len(server.extensions)}"


def wrong_outputs(want: dict[str, Any], answer: Answer, answers: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the outputs."""
    wanted = {name.removesuffix("_rows"): answers[name] for name in want["outputs"]}
    try:
        outputs = answer.outputs()
    except (KeyError, TypeError, ValueError, struct.error) as error:
        yield f"outputs cannot be read: {type(error).__name__}"
        return
    if set(outputs) != set(wanted):
        yield f"outputs are {', '.join(sorted(outputs)) or 'none'}"
        return
    for name, output in outputs.items():
        if "binary" in want and output["binary"] != (name in want["binary"]):
            yield f"{name} in {'bytes' if output['binary'] else 'JSON'}"
        for member, value in wanted[name].items():
            if output[member] != value:
                yield f"{name}.{member} is {json.dumps(output[member])}"


def did(answer: Answer) -> str:
    """The answer in a few words."""
    if not answer.status.isdigit():
        return answer.status
    if not answer.text:
        return f"{answer.status}, no body"
    if answer.told is None:
        return f"{answer.status}, no JSON"
    if answer.refused and isinstance(answer.told, dict) and "error" not in answer.told:
        return f"{answer.status}, {{{', '.join(sorted(answer.told))}}}"
    return answer.status


def judge(server: Server, case: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Put one case to the server."""
    said = {
        "case": case["case"],
        "protocol": "gRPC" if "call" in case else "REST",
        "clause": case.get("clause", ""),
        "extension": case.get("extension", ""),
        "fault": case.get("fault", False),
    }
    if (case.get("at_version") or "versions" in case.get("want", {})) and not server.versions:
        return said | {"status": "", "did": "lists none", "says": "", "misses": [], "meets": None}
    if "call" in case:
        answer = server.call(case["call"], expand(case.get("message", "{}"), table["text"]))
    else:
        answer = run_rest(server, case, table)
    # The text is silent on some, and an extension binds only who announces it.
    extended = "extension" not in case or case["extension"] in server.extensions
    judged = "want" in case and extended
    lacks = list(misses(server, case["want"], answer, table)) if judged else []
    return said | {
        "status": answer.status,
        "did": did(answer),
        "says": answer.text[:MOST],
        "misses": lacks,
        "meets": not lacks if judged else None,
    }


def main() -> int:
    """The table, case by case."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    table = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    server = Server(*sys.argv[2:])
    for case in table["rest"] + (table["grpc"] if len(sys.argv) > 3 else []):
        print(json.dumps(judge(server, case, table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
