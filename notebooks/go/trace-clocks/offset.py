"""The offset of CLOCK_REALTIME to CLOCK_MONOTONIC in ns: now, later, and after the time was set."""

import time


def offset() -> int:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    real = time.clock_gettime_ns(time.CLOCK_REALTIME)
    return real - (before + time.clock_gettime_ns(time.CLOCK_MONOTONIC)) // 2


print("at first", offset())
time.sleep(1)
print("a second later", offset())
time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + 90 * 10**9)
print("set by 90 s", offset())
