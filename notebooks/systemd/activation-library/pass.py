"""Passes a listening socket to a program as systemd does: pass.py PORT TRACE LISTEN_PID PROGRAM

The program is traced into the file TRACE and finds the socket as descriptor 3. LISTEN_PID is
`own`, for the program's own process, or a number. Prints what the program answers and
what it wrote, and ends it.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request

port, trace, pid, *program = sys.argv[1:]
passed = socket.create_server(("127.0.0.1", int(port)))
if passed.fileno() != 3:
    os.dup2(passed.fileno(), 3)
os.set_inheritable(3, True)
# -D: the tracer is a child, so that the program keeps the process that LISTEN_PID names.
strace = f"strace -D -f -qq -e trace=%network,%desc,%process -o {trace}"
names = f"LISTEN_FDS=1 LISTEN_PID={'$$' if pid == 'own' else pid}"
running = subprocess.Popen(
    ["sh", "-c", f'{names}; export LISTEN_FDS LISTEN_PID; exec {strace} "$@"', "sh", *program],
    close_fds=False,
    stderr=subprocess.PIPE,
    text=True,
)
deadline = time.monotonic() + 120
answer = "nothing"
while running.poll() is None and time.monotonic() < deadline:
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read().decode()
        break
    except OSError:
        continue  # it is not there yet
running.terminate()
print("answer:", answer.strip())
print("wrote:", running.communicate()[1].strip() or "nothing")
