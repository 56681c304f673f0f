-- For wrk: sends the file of $QUESTION, and prints what wrk knows at the end as one line of JSON.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = assert(io.open(os.getenv("QUESTION"), "rb"))
wrk.body = file:read("*a")
file:close()

function done(summary, latency, requests)
    local samples = 0
    for i = 1, #latency do
        local _, count = latency(i)
        samples = samples + count
    end
    io.write(string.format(
        '\n{"requests": %d, "samples": %d, "microseconds": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d}\n',
        summary.requests, samples, summary.duration,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
