-- For wrk: sends the file of $QUESTION, and prints what wrk knows at the end as one line of JSON.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = assert(io.open(os.getenv("QUESTION"), "rb"))
wrk.body = file:read("*a")
file:close()
-- With $JSON_BYTES, so much of it is JSON, and the rest is tensors as bytes.
if os.getenv("JSON_BYTES") then
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_BYTES")
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "seconds": %.3f, "p50": %d, "p99": %d, "failed": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        e.status + e.connect + e.read + e.write + e.timeout))
end
