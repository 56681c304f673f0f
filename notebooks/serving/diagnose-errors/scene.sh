# What the cells of diagnose-errors.ipynb share: each error is made, and told by its words. They come
# from PLACE, where the programs are, and leave what was said in SAID, a file for each. MODEL and FRONT are
# where the model server and nginx are.
# shellcheck shell=bash
# shellcheck disable=SC2153

errors() { "$KB_PYTHON" "$KB_HERE/diagnose-errors/errors.py" "$@"; }
quietly() { curl --silent --noproxy '*' "$@"; }

calls=http://127.0.0.1:8193/inference.GRPCInferenceService
started=()

ended() {
    kill "${started[@]}" 2>/dev/null || true
    wait "${started[@]}" 2>/dev/null || true
    started=()
}
trap ended EXIT

# until_so COMMAND...: waits for it to succeed, for a minute at most.
until_so() {
    local deadline=$((SECONDS + 60))
    until "$@"; do
        ((SECONDS < deadline))
        sleep 0.1
    done
}

# tell KIND NAME: what was said of it, in SAID/NAME, means this.
tell() {
    echo "== $2"
    errors told "$SAID/$2" --expect "$1"
}

# servers: both ends of what goes wrong; address WAY is where one of them is.
servers() {
    : >"$SAID/.servers" # an earlier cell's had other addresses, and said that they are ready
    "$PLACE/answers/answers" serve >"$SAID/.servers" &
    started+=("$!")
    until_so grep --quiet ^ready "$SAID/.servers"
}
address() { sed -n "s/^$1 //p" "$SAID/.servers"; }

# asked KIND WAY [ADDRESS]: what a Go program says of it.
asked() {
    "$PLACE/answers/answers" ask "$2" "${3:-$(address "$2")}" >"$SAID/$2"
    tell "$1" "$2"
}

# inferd OPTION...: serves a model on its usual ports plus 112.
inferd() {
    HOME=$SAID "$PLACE/inferd/bin/inferd" -runtime "$PLACE/onnx/runtime/libonnxruntime.so" \
        -model "magika=$PLACE/onnx/magika/model.onnx" -listen 127.0.0.1:8192 -listen-grpc 127.0.0.1:8193 \
        -listen-private 127.0.0.1:8194 "$@" >"$SAID/.inferd" 2>&1 &
    server=$!
    started+=("$server")
    until_so quietly --fail --output /dev/null "$MODEL/v2/health/ready"
    "$KB_PYTHON" - "$SAID" <<'END'
import json, pathlib, struct, sys

said = pathlib.Path(sys.argv[1])
tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
for name, change in {"good": {}, "wrong": {"shape": [2048]}, "late": {}}.items():
    question = {"inputs": [tensor | change]} | ({"parameters": {"timeout": 100000}} if name == "late" else {})
    (said / f".{name}.json").write_text(json.dumps(question))


def field(number, content):  # of a protobuf message
    size = bytes([len(content) & 127 | 128, len(content) >> 7]) if len(content) > 127 else bytes([len(content)])
    return bytes([number << 3 | 2]) + size + content


inputs = field(5, field(1, b"bytes") + field(2, b"INT32") + field(3, b"\1\x80\x10"))
whole = field(1, b"magika") + inputs + field(7, struct.pack("<2048i", *[32] * 2048))
limit = field(4, field(1, b"timeout") + field(2, b"\x10\xa0\x8d\x06"))  # 100 000 microseconds
messages = {"late": whole + limit, "stranger": field(1, b"x"), "empty": field(1, b"magika"), "large": bytes(1 << 15)}
for name, message in messages.items():
    (said / f".{name}.grpc").write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
END
}

# rest KIND NAME PATH OPTION...: what the server says to curl.
rest() {
    quietly --include "$MODEL$3" "${@:4}" >"$SAID/$2"
    tell "$1" "$2"
}

# grpc KIND METHOD MESSAGE OPTION...: the same of a call. The server may end the stream at once, which curl
# calls an error after it has printed the answer.
grpc() {
    quietly --include --http2-prior-knowledge --header 'Content-Type: application/grpc' --header 'TE: trailers' \
        --data-binary "@$SAID/.$3.grpc" "$calls/$2" "${@:4}" >"$SAID/$1" || [ -s "$SAID/$1" ]
    tell "$1" "$1"
}

# crowd: so many ask at once, of a server with room for one, until one is refused.
crowd() {
    quietly --parallel --parallel-immediate --parallel-max 64 --include --data-binary "@$SAID/.good.json" \
        "$MODEL/v2/models/magika/infer?[1-64]" 2>/dev/null | tr --delete '\r' >"$SAID/.crowd"
    sed -n '/^HTTP.* 429/,/queue is full/p' "$SAID/.crowd" | sed '/queue is full/q' >"$SAID/429"
    [ -s "$SAID/429" ]
}

# drained: the server is told to end while a connection is open, and asked on that.
drained() {
    "$KB_PYTHON" - "$server" >"$SAID/503" <<'END'
import http.client, os, signal, sys

connection = http.client.HTTPConnection("127.0.0.1", 8192)
for asked in range(10000):
    connection.request("GET", "/v2/health/ready")
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status == 503:
        break
    if asked == 0:
        os.kill(int(sys.argv[1]), signal.SIGTERM)
print(f"HTTP/1.1 {answer.status} {answer.reason}\n\n{text}")
END
}

# nginx: the front, before the servers that fail and before inferd.
nginx() {
    mkdir --parents "$SAID/.nginx"
    sed "s|PLACE|$SAID/.nginx|; s|PANICS|$(address panics)|; s|RESET|$(address reset)|; s|SILENT|$(address silent)|" \
        "$KB_HERE/diagnose-errors/nginx.conf" >"$SAID/.nginx/nginx.conf"
    "$PLACE/front/debian/usr/sbin/nginx" -e "$SAID/.nginx/error.log" -p "$SAID/.nginx" -c nginx.conf &
    started+=("$!")
    until_so quietly --output /dev/null "$FRONT/nothing"
}

# through KIND CODE PATH OPTION...: the front answers with that, and its log says why.
through() {
    : >"$SAID/.nginx/error.log"
    local got
    got=$(quietly --output /dev/null --write-out '%{http_code}' "$FRONT$3" "${@:4}")
    echo "-- $3: $got"
    [ "$got" = "$2" ]
    cp "$SAID/.nginx/error.log" "$SAID/$1"
    tell "$1" "$1"
}

# logged KIND PATTERN: the front's other log says it.
logged() {
    until_so grep --quiet "$2" "$SAID/.nginx/access.log"
    grep "$2" "$SAID/.nginx/access.log" >"$SAID/$1"
    tell "$1" "$1"
}
