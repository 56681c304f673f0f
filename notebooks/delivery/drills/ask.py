"""Asks a model server, and counts what comes back: ask.py TIMEOUT COUNT URL...

Each request goes to the first URL, and where that fails to the next one.
"""

import collections
import http.client
import json
import sys
import urllib.parse

TENSOR = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
QUESTION = json.dumps({"inputs": [TENSOR]})


def asked(url: str, timeout: float) -> str:
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=timeout)
    try:
        connection.request("POST", address.path, QUESTION)
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        return "timed out"
    except ConnectionRefusedError:
        return "connection refused"
    except ConnectionResetError:
        return "connection reset"
    except http.client.IncompleteRead:
        return "half an answer"
    except http.client.HTTPException:
        return "no answer"
    finally:
        connection.close()
    return "answered" if answer.status == 200 else f"status {answer.status}"


def main() -> None:
    timeout, count, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    seen: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        for url in urls:
            told = asked(url, timeout)
            if told == "answered":
                break
        seen[told] += 1
    print(f"{count} asked: " + ", ".join(f"{number} {told}" for told, number in seen.items()))


if __name__ == "__main__":
    main()
