#!/bin/bash
# What somebody brings to a bare host: a build of inferd, ONNX Runtime, a model, and a question to it whose
# answer is known. And the next release of both: the program and the model with another version in them.
set -Eeuo pipefail
brought=/opt/brought
mkdir -p "$brought"
install --mode=755 "$KB_FIXTURES/inferd/bin/inferd" "$brought/inferd"
install --mode=644 "$KB_FIXTURES/onnx/runtime/libonnxruntime.so" "$KB_FIXTURES/onnx/magika/model.onnx" "$brought"
install --mode=755 "$KB_FIXTURES/inferd/bin/inferd-next" "$brought/inferd-next"
{ cat "$brought/model.onnx" && printf '\x1a\x04next'; } >"$brought/next.onnx" # its producer's version
expect=$(python3 - "$KB_FIXTURES/onnx/magika/config.json" "$brought/question.json" <<'END'
import json
import sys

config = json.load(open(sys.argv[1]))
content = b"""package main

import "fmt"

func main() {
	for i := range 3 {
		fmt.Println("hello", i)
	}
}
"""
size, padding = config["beg_size"], config["padding_token"]
begin, end = list(content.lstrip()), list(content.rstrip())
data = begin + [padding] * (size - len(begin)) + [padding] * (size - len(end)) + end
tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2 * size], "data": data}
with open(sys.argv[2], "w") as file:
    json.dump({"inputs": [tensor]}, file)
print(config["target_labels_space"].index("go"))
END
)
files="\"binary\": \"$brought/inferd\", \"runtime\": \"$brought/libonnxruntime.so\", \"model\": \"$brought/model.onnx\""
next="\"next_binary\": \"$brought/inferd-next\", \"next_model\": \"$brought/next.onnx\""
# An emulated processor takes seconds for an answer: no client is told that its time is over.
echo "{$files, $next, \"model_name\": \"magika\", \"question\": \"$brought/question.json\", \"expect\": $expect, \"upgrades\": 1, \"arguments\": \"-timeout 100s -drain 50s\"}"
