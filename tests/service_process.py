"""A service in a process of its own, for tests."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2

from service_parts import photograph

PROGRAM = """
import os, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from service_parts import Mean
from tinydefects.serve.running import run_service
from tinydefects.serve.service_settings import ServeSettings

class Sleepy(Mean):
    def decide(self, image):
        print("begun", file=sys.stderr, flush=True)
        time.sleep({seconds})
        return super().decide(image)

settings = ServeSettings(port=0, scratch=Path(sys.argv[1]), {more})
tell = lambda address: print(address, file=sys.stderr, flush=True)
served = run_service(lambda: {{"m": Sleepy()}}, settings, {key!r}, ready=tell)
print(served, flush=True)
os._exit(7 if served.is_stuck else 0)
"""
POST = "/models/m/image"


def program_of(scratch, seconds=0.0, more="", key=None):
    """The command of a service whose model takes so long; `more` are further settings."""
    tests = str(Path(__file__).parent)
    return [sys.executable, "-c", PROGRAM.format(tests=tests, seconds=seconds, more=more, key=key), str(scratch)]


def head_of(n_bytes):
    told = f"POST {POST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {n_bytes}\r\n\r\n"
    return told.encode()


class Running:
    """A process that serves, from the line that says where."""

    def __init__(self, *command, **environment):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self.lines = []
        self.address = self.line_with("http://").split(": ")[0].strip()
        self.client = httpx2.Client(base_url=self.address, timeout=60)

    def line_with(self, part):
        for line in self.process.stderr:
            self.lines.append(line)
            if part in line:
                return line
        raise AssertionError("".join(self.lines))

    def begin(self):
        """Send a photograph, and return once it is being decided."""
        connection = self.connect()
        content = photograph()
        connection.sendall(head_of(len(content)) + content)
        self.line_with("begun")
        return connection

    def connect(self):
        return socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), timeout=60)

    def end(self, number=signal.SIGTERM):
        """Tell it to stop; exit code and what it printed."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out

    def close(self):
        self.client.close()
        self.process.kill()
        self.process.communicate()
