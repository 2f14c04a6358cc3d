"""`heddle serve` where the machine fails it, and where a model computes no numbers: cases H9, S7, R1 to R9 and N1 to N3
of docs/server_tests.md. A library loaded in front of libc makes the faults that nothing else makes. HEDDLE names the
executable; exit status 77: skipped."""
import concurrent.futures
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, environment, run_with_tiny_models  # noqa: E402
from server import Server, statuses, tiny_model  # noqa: E402

FOLDER = None
MODEL = SHIM = ""
TEXT = {"prompt": "pear and word", "max_tokens": 6, "temperature": 0}
ENDLESS = {**TEXT, "max_tokens": 90000, "ignore_eos": True}
CONTEXT = ("--ctx", 100000, "--kv-tokens", 120000)  # ENDLESS has not ended before a test has
SMALL = ("--ctx", 2048, "--kv-tokens", 8192)
FAULTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

// FAULT_THREAD=N: the Nth thread and all that follow are not there.
int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x) {
  static int n = 0;
  int (*next)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = dlsym(RTLD_NEXT, "pthread_create");
  const char* first = getenv("FAULT_THREAD");
  return first && __atomic_add_fetch(&n, 1, __ATOMIC_SEQ_CST) >= atoi(first) ? EAGAIN : next(t, a, f, x);
}

// FAULT_MAP: files of models cannot be mapped.
static int fails(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = fd < 0 || !getenv("FAULT_MAP") ? -1 : readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return strstr(path, "/model.") != 0;
}
#define MAP(name) void* name(void* at, size_t size, int protection, int flags, int fd, off_t offset) { \
  void* (*next)(void*, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, #name); \
  if (fails(fd)) return errno = ENOMEM, MAP_FAILED; \
  return next(at, size, protection, flags, fd, offset); }
MAP(mmap)
MAP(mmap64)

// FAULT_CLOCK: each look at the time of day is two years from the last.
static time_t jump(void) {
  static int n = 0;
  if (!getenv("FAULT_CLOCK")) return 0;
  return (__atomic_add_fetch(&n, 1, __ATOMIC_SEQ_CST) & 1 ? 1 : -1) * 31536000;
}
int clock_gettime(clockid_t id, struct timespec* t) {
  int (*next)(clockid_t, struct timespec*) = dlsym(RTLD_NEXT, "clock_gettime");
  int error = next(id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += jump();
  return error;
}
time_t time(time_t* at) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return at ? (*at = t.tv_sec) : t.tv_sec;
}
int gettimeofday(struct timeval* t, void* zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

// FAULT_SYNC: a disk that does not answer until somebody writes to this FIFO.
int fsync(int fd) {
  int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
  const char* fifo = getenv("FAULT_SYNC");
  if (fifo) {
    char byte;
    static int held = -1;  // stays open: what was written for later calls is for them
    if (held < 0) held = open(fifo, O_RDONLY);
    while (held >= 0 && read(held, &byte, 1) < 0) {}
  }
  return next(fd);
}
"""


def setUpModule():
    global FOLDER, MODEL, SHIM
    FOLDER = tempfile.TemporaryDirectory()
    MODEL = tiny_model(FOLDER.name)
    config = pathlib.Path(MODEL) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 100000}))
    if os.environ.get("TEST_SANITIZE") or not shutil.which("cc"):
        return
    SHIM = FOLDER.name + "/faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", SHIM, "-ldl"], input=FAULTS.encode(), check=True)


def tearDownModule():
    FOLDER.cleanup()


def fault(**names):
    if not SHIM:
        raise unittest.SkipTest("needs a C compiler and a program without sanitizers")
    return {"LD_PRELOAD": SHIM, **{"FAULT_" + k: str(v) for k, v in names.items()}}


@contextlib.contextmanager
def running(*flags, model=None, env=None, code=0):
    """A server that ends with this exit code."""
    server = Server(model or MODEL, *(() if "--ctx" in flags else SMALL), *flags, env=env)
    try:
        yield server
    except BaseException:
        server.process.kill()
        print("".join(server.log), server.stop(sig=None)[1], file=sys.stderr)
        raise
    got, log = server.stop()
    assert got == code, (got, log)


class Stream:
    """One that has begun and goes on."""

    def __init__(self, server, body=ENDLESS):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), {"content-type": "application/json"})
        self.reply = self.connection.getresponse()
        assert self.reply.status == 200, self.reply.read()
        self.goes_on()

    def goes_on(self):
        for line in self.reply:
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["text"]:
                return
        raise AssertionError("the stream has ended")

    def rest(self):
        """The data of what is left of its events."""
        return [line[6:].strip().decode() for line in self.reply if line.startswith(b"data: ")]

    def close(self):
        self.reply.close()
        self.connection.close()


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def error_of(answer):
    status, headers, data = answer
    error = json.loads(data)["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    return status, error["code"]


def refusal(*flags, model=None, env=None, **kw):
    """(exit code, its one error line, CPU seconds) of a server that does not start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    p = subprocess.run([HEDDLE, "serve", model or MODEL, *map(str, flags)], capture_output=True, text=True, timeout=120,
                       env=environment(**(env or {})), **kw)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = p.stderr.splitlines()
    assert p.stdout == "" and lines and lines[-1].startswith("error: "), p
    assert sum(line.startswith("error: ") for line in lines) == 1, p.stderr
    return p.returncode, lines[-1], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def listening_port(process):
    """Where a process listens that cannot say so."""
    found = []

    def look():
        if process.poll() is not None:
            raise AssertionError(f"the server has ended: {process.returncode}")
        inodes = set()
        for fd in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(fd)))
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(int(fields[1].split(":")[1], 16))
        return bool(found)

    until(look, "it does not listen")
    return found[0]


class Connections(unittest.TestCase):
    # H9
    def test_five_thousand_connections_leave_streams_alone(self):
        most, hard = 5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and hard < most + 200:
            most = hard - 200
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most + 200), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        cap = most * 4 // 5
        with running(*CONTEXT, "--max-connections", cap) as server, contextlib.ExitStack() as stack:
            stream = Stream(server)
            sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(most)]
            over = [s.recv(65536) for s in sockets[cap - 1:]]  # the stream has the first place
            for answer in over:
                self.assertEqual(statuses(answer), [503])
                self.assertIn(b"\r\nretry-after: ", answer)
                self.assertIn(b"\r\nconnection: close\r\n", answer)
                self.assertEqual(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"], "server_is_overloaded")
            stream.goes_on()
            for s in (sockets[0], sockets[cap - 2]):
                s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertEqual(statuses(s.recv(65536)), [200])
            stack.close()
            until(lambda: statuses(server.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) == [200], "it stays full")
            self.assertGreaterEqual(server.metric("heddle:http_turned_away_total"), most - cap)
            stream.goes_on()
            stream.close()

    # H9: the answer arrives though the request that it does not read was sent
    def test_a_request_over_the_cap_is_told_so(self):
        with running("--max-connections", 1) as server, socket.create_connection(("127.0.0.1", server.port)) as first:
            first.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(statuses(first.recv(65536)), [200])
            for size in (10, 100000):
                answer = server.request("POST", "/v1/completions", {**TEXT, "prompt": "a" * size})
                self.assertEqual(error_of(answer), (503, "server_is_overloaded"))
                self.assertGreaterEqual(int(answer[1]["retry-after"]), 1)

    # R8: no descriptors
    @unittest.skipIf(os.environ.get("TEST_SANITIZE"), "the sanitizer itself needs descriptors to look at memory")
    def test_without_descriptors_it_says_so_and_recovers(self):
        with running(*CONTEXT) as server:
            stream = Stream(server)
            _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            few = max(int(fd.name) for fd in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()) + 8
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, hard))
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(40)]
                answers = []
                for s in sockets:
                    with contextlib.suppress(OSError):  # refused, and closed by now
                        s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                    answers.append(s.recv(65536))
                codes = [statuses(a) for a in answers]
                self.assertLessEqual({c[0] for c in codes}, {200, 503})
                self.assertGreaterEqual(codes.count([200]), 4)
                self.assertGreaterEqual(codes.count([503]), 30)
                for answer in answers:
                    if statuses(answer) == [503]:
                        self.assertIn(b"\r\nretry-after: ", answer)
                        self.assertEqual(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"], "server_is_overloaded")
                stream.goes_on()
            until(lambda: statuses(server.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) == [200], "it does not recover")
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)
            stream.goes_on()
            stream.close()

    # R8: it takes what it may, so that its own cap is the one that holds
    def test_the_soft_limit_of_descriptors_is_raised(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        p = subprocess.Popen([HEDDLE, "serve", MODEL, "--port", "0", "--max-connections", "200", *map(str, SMALL)], stderr=subprocess.DEVNULL, env=environment(),
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)))
        try:
            listening_port(p)
            self.assertGreater(resource.prlimit(p.pid, resource.RLIMIT_NOFILE)[0], 200)
        finally:
            p.terminate()
            self.assertEqual(p.wait(60), 0)


class Queue(unittest.TestCase):
    # S7
    def test_who_waits_too_long_is_told_before_it_begins(self):
        with running(*CONTEXT, "--parallel", 1, "--queue-seconds", 0.2) as server:
            stream = Stream(server)
            answer = server.request("POST", "/v1/completions", TEXT)
            self.assertEqual(error_of(answer), (503, "queue_timeout"))
            self.assertGreaterEqual(int(answer[1]["retry-after"]), 1)
            events = list(server.events("/v1/completions", TEXT))  # its headers were sent at once
            self.assertEqual(json.loads(events[-1])["error"]["code"], "queue_timeout")
            self.assertEqual([e for e in events[:-1] if json.loads(e)["choices"][0].get("text")], [])
            stream.goes_on()
            stream.close()
            self.assertTrue(server.wait_idle())
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)

    # S7: the client's own deadline; H8: gone while queued
    def test_who_waits_no_longer_leaves_the_queue(self):
        with running(*CONTEXT, "--parallel", 1) as server:
            stream = Stream(server)
            # The numbers are those of the last step that was told.
            until(lambda: server.metric("vllm:num_requests_running") == 1 and server.metric("vllm:num_requests_waiting") == 0, "it does not run")
            before = server.metric("heddle:disconnected_total")
            body = json.dumps(TEXT).encode()
            with socket.create_connection(("127.0.0.1", server.port)) as s:
                s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                until(lambda: server.metric("vllm:num_requests_waiting") == 1, "it does not wait")
            until(lambda: server.metric("heddle:disconnected_total") == before + 1, "it is still there")
            until(lambda: server.metric("vllm:num_requests_waiting") == 0, "it still waits")
            stream.goes_on()
            stream.close()


    # S1, H14
    def test_what_can_never_fit_is_refused(self):
        with running("--ctx", 2048, "--kv-tokens", 512) as server:
            for body in ({"prompt": [5] * 600, "max_tokens": 4}, {"prompt": [5] * 100, "max_tokens": 500}):
                for stream in (False, True):
                    answer = server.request("POST", "/v1/completions", {**TEXT, **body, "stream": stream})
                    self.assertEqual(error_of(answer), (400, "context_length_exceeded"))
                    self.assertIn(b"512", answer[2])
            self.assertEqual(server.post("/v1/completions", {**TEXT, "prompt": [5] * 500})[0], 200)

    # H19
    def test_hard_schemas_do_not_hold_streams(self):
        hard = [{"type": "string", "pattern": "(a+)+(b?){500}c"}, {"enum": [f"value {i}" for i in range(4000)]},
                {"type": "array", "items": {"type": "integer"}, "maxItems": 100000}, {"$ref": "#"}]
        with running(*CONTEXT) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
            stream = Stream(server)
            ask = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
            answers = [pool.submit(server.post, "/v1/chat/completions", {**ask, "response_format": {
                "type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}) for schema in hard]
            while not all(a.done() for a in answers):
                stream.goes_on()
            for answer in answers:
                self.assertIn(answer.result()[0], (200, 400))
            stream.goes_on()
            stream.close()


class Signals(unittest.TestCase):
    # R1: the second signal
    def test_a_second_signal_ends_it_now(self):
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
            with self.subTest(first):
                server = Server(MODEL, *CONTEXT, "--drain-seconds", 3600)
                stream = Stream(server)
                server.process.send_signal(first)
                until(lambda: server.request("GET", "/health")[0] == 503, "it does not drain")
                stream.goes_on()
                self.assertEqual(server.stop(sig=second)[0], 128 + second)
                stream.close()

    # R7: SIGPIPE
    def test_a_broken_pipe_is_no_signal(self):
        with running() as server:
            server.process.send_signal(signal.SIGPIPE)
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)


class Start(unittest.TestCase):
    # R9
    def test_what_is_wrong_is_told_at_once_and_before_the_model_is_looked_at(self):
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            config = pathlib.Path(FOLDER.name) / "flags.json"
            config.write_text('{"no-such-flag": 1}')
            for flag, flags in [("--port", ["--port", busy.getsockname()[1]]), ("--port", ["--port", 65536]), ("--port", ["--port", "x"]),
                                ("--no-such-flag", ["--no-such-flag"]), ("--tls-key", ["--tls-cert", "a"]), ("--api-key", ["--api-key", ""]),
                                ("--tls-cert", ["--tls-cert", "/nothing", "--tls-key", "/nothing"]), ("--session-dir", ["--session-dir", "/nothing"]),
                                ("--session-dir: no file can be made in /proc", ["--session-dir", "/proc"]),
                                ("--max-connections", ["--max-connections", 0]), ("--log-level", ["--log-level", "loud"]),
                                ("no-such-flag", ["--config", config])]:
                with self.subTest(flags):
                    code, line, seconds = refusal(*flags, model="/no/such/model.gguf")
                    self.assertEqual(code, 2, line)
                    self.assertIn(flag, line)
                    self.assertNotIn("model.gguf", line)
                    self.assertLess(seconds, 1)

    # R2: memory that is not there at the start
    def test_memory_that_is_not_there_is_exit_code_3(self):
        code, line, _ = refusal("--port", 0, "--memory-limit", 1)
        self.assertEqual(code, 3, line)

    # R8: address space
    def test_address_space_that_is_not_there_is_exit_code_3(self):
        fault()
        code, line, _ = refusal("--port", 0, "--ctx", 100000, "--kv-tokens", 4000000, "-t", 1,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20)))
        self.assertEqual((code, "memory" in line), (3, True), line)

    # R8: mmap
    def test_a_model_that_cannot_be_mapped_is_exit_code_3(self):
        code, line, _ = refusal("--port", 0, env=fault(MAP=1))
        self.assertEqual(code, 3, line)
        self.assertIn("model.safetensors", line)
        self.assertIn("Cannot allocate memory", line)

    # R8: threads. RLIMIT_NPROC does not bind root: the Nth thread fails instead, for every N.
    def test_threads_that_are_not_there_are_exit_code_3(self):
        for n in range(1, 40):
            p = subprocess.Popen([HEDDLE, "serve", MODEL, "--port", "0", "-t", "2", *map(str, SMALL)], stderr=subprocess.PIPE, env=environment(**fault(THREAD=n)))
            last = b""
            for line in p.stderr:
                last = line
                if b"(ready in" in line:  # it needs no more than n - 1
                    p.terminate()
                    p.stderr.close()
                    self.assertEqual(p.wait(60), 0)
                    self.assertGreater(n, 5)
                    return
            p.stderr.close()
            with self.subTest(n):
                self.assertEqual(p.wait(60), 3, last)
                self.assertTrue(last.startswith(b"error: ") and b"thread" in last, last)
        self.fail("it never starts")

    # R8: fork cannot fail where nothing forks
    def test_nothing_forks(self):
        for folder in ("base", "kernels", "scheduler", "engine", "tools/serve"):
            for path in (ROOT / folder).rglob("*.cpp"):
                self.assertIsNone(re.search(r"\b(fork|vfork|system|popen|posix_spawn\w*|exec[lv]p?e?)\(", path.read_text()), path)


class Logs(unittest.TestCase):
    def serves(self, server):
        for _ in range(3):
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)

    def silent(self, *, stderr=None, stdout=subprocess.DEVNULL, shell=None, **env):
        """A server that cannot say where it is."""
        command = [HEDDLE, "serve", MODEL, *map(str, SMALL), "--port", "0", "--log-level", "info"]
        if shell:
            command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
        server = Server.__new__(Server)
        server.process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(**env))
        server.port = listening_port(server.process)
        return server

    def ends(self, server):
        server.process.terminate()
        self.assertEqual(server.process.wait(60), 0)

    # R7: disk full
    def test_a_log_on_a_full_disk_is_dropped_and_counted(self):
        with open("/dev/full", "wb") as full:
            server = self.silent(stderr=full, stdout=full)
        self.serves(server)
        self.assertGreaterEqual(server.metric("heddle:log_lines_dropped_total"), 3)
        self.ends(server)

    # R7: stderr closed, stdout closed
    def test_closed_streams_are_nothing(self):
        server = self.silent(shell=">&- 2>&- <&-", HEDDLE_HOME="/proc")
        self.serves(server)
        self.ends(server)

    # R7: log pipe closed
    def test_a_log_whose_reader_has_gone_is_dropped_and_counted(self):
        server = Server(MODEL, *SMALL, "--log-level", "info")
        server.process.stderr.close()
        self.serves(server)
        self.assertGreaterEqual(server.metric("heddle:log_lines_dropped_total"), 3)
        self.ends(server)

    # R7: a log pipe that nobody empties
    def test_a_log_that_nobody_reads_holds_nobody(self):
        server = Server(MODEL, *SMALL, "--log-level", "info")
        fcntl.fcntl(server.process.stderr, 1031, 8192)  # F_SETPIPE_SZ
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(lambda i: server.post("/v1/completions", {**TEXT, "max_tokens": 1})[0], range(80)))
        self.assertEqual(codes, [200] * 80)
        self.assertGreater(server.metric("heddle:log_lines_dropped_total"), 0)
        code, log = server.stop()
        self.assertEqual(code, 0)
        lines = [x for x in log.splitlines() if " completions " in x]
        self.assertGreater(len(lines), 10)
        for line in lines:
            self.assertRegex(line, r"^[0-9:.]+ info: \S+ completions 200: .* s$")  # whole

    # R7: disk full, read-only folder
    def test_sessions_that_cannot_be_written_are_500_and_the_rest_goes_on(self):
        with tempfile.TemporaryDirectory() as folder, running("--session-dir", folder) as server:
            self.assertEqual(server.post("/v1/completions", {**TEXT, "prompt": "word " * 150, "session_id": "a"})[0], 200)
            pid, (_, hard) = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
            answer = server.request("POST", "/v1/sessions/a/save", {})
            self.assertEqual(error_of(answer), (500, "session_error"))
            self.assertNotIn(folder.encode(), answer[2])
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            self.assertEqual(server.post("/v1/sessions/a/save", {})[0], 200)
            shutil.rmtree(folder)  # as root: a folder that takes no files
            self.assertEqual(error_of(server.request("POST", "/v1/sessions/a/save", {})), (500, "session_error"))
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)
            os.mkdir(folder)


class Time(unittest.TestCase):
    # R8: clock steps
    def test_only_the_monotonic_clock_ends_anything(self):
        server = Server(MODEL, *CONTEXT, "--parallel", 1, "--queue-seconds", 0.5, "--drain-seconds", 0.05, "--stall-seconds", 30,
                        env=fault(CLOCK=1))
        years = set()
        for _ in range(8):
            status, headers, _ = server.request("GET", "/health")
            self.assertEqual(status, 200)
            years.add(headers["date"].split()[3])
        self.assertGreater(len(years), 1, "the clock does not jump")
        for _ in range(4):
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)
        stream = Stream(server)
        self.assertEqual(error_of(server.request("POST", "/v1/completions", TEXT)), (503, "queue_timeout"))
        stream.goes_on()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(json.loads(stream.rest()[-1])["error"]["code"], "draining")
        self.assertEqual(server.stop(sig=None)[0], 0)

    # R6: the engine's thread hangs in a call to a disk
    def test_an_engine_that_hangs_is_told_until_it_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = FOLDER.name + "/disk"
            os.mkfifo(fifo)
            flags = ("--session-dir", folder, "--stall-seconds", 0.3)
            with running(*flags, env=fault(SYNC=fifo)) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
                self.assertEqual(server.post("/v1/completions", {**TEXT, "prompt": "word " * 150, "session_id": "a"})[0], 200)
                saved = pool.submit(server.post, "/v1/sessions/a/save", {})
                held = open(fifo, "wb", buffering=0)  # it hangs now
                until(lambda: server.request("GET", "/health")[0] == 503, "nobody sees it")
                self.assertEqual(error_of(server.request("GET", "/health")), (503, "engine_stalled"))
                self.assertEqual(server.request("GET", "/v1/models")[0], 200)
                waits = pool.submit(server.post, "/v1/completions", TEXT)
                self.assertIn("has not ended its step", server.process.stderr.readline().decode())
                states = iter(server.process.stderr.readline, b"")  # of all threads
                self.assertTrue(any(re.search(rb" error: thread \d+ heddle-engine: [A-Z], [0-9.]+ s of CPU$", line.strip()) for line in states))
                held.write(b"x" * 64)  # for all that is synchronised from now on
                self.assertEqual(saved.result()[0], 200)
                held.close()
                self.assertEqual(waits.result()[0], 200)
                self.assertEqual(server.request("GET", "/health")[0], 200)


class Numbers(unittest.TestCase):
    """A model with a row of weights that are no numbers: whoever uses that token meets them, and nobody else."""

    @classmethod
    def setUpClass(cls):
        cls.model = pathlib.Path(tiny_model(FOLDER.name + "/nan", "llama", "--untied"))
        file = next(cls.model.glob("model*.safetensors"))
        data = bytearray(file.read_bytes())
        size = int.from_bytes(data[:8], "little")
        entry = json.loads(data[8:8 + size])["model.embed_tokens.weight"]
        vocab, width = entry["shape"]
        begin, end = entry["data_offsets"]
        row = (end - begin) // vocab
        cls.token = vocab - 7
        nan = {"F32": struct.pack("<f", float("nan")), "BF16": b"\xc0\x7f", "F16": b"\x00\x7e"}[entry["dtype"]]
        at = 8 + size + begin + cls.token * row
        data[at:at + len(nan)] = nan
        file.write_bytes(data)

    # N1
    def test_weights_that_are_no_numbers_are_refused(self):
        code, line, _ = refusal("--port", 0, model=self.model)
        self.assertEqual(code, 2, line)
        self.assertIn("not finite", line)

    # N1, N2, N3
    def test_only_who_meets_them_fails_and_nothing_of_it_is_kept(self):
        good = [5 + i % 50 for i in range(100)]
        ask = {"temperature": 0, "max_tokens": 8, "ignore_eos": True, "logprobs": 3, "return_token_ids": True}
        # So few blocks that those of the failed requests are used again at once.
        with running("--allow-nonfinite", "--ctx", 512, "--kv-tokens", 1024, "--parallel", 4, model=self.model) as server:
            def complete(prompt, **more):
                return server.request("POST", "/v1/completions", {**ask, "prompt": prompt, **more})

            def text(answer):
                self.assertEqual(answer[0], 200, answer[2])
                self.assertNotRegex(answer[2].decode(), r"\bNaN\b|nan|Infinity|:-?inf\b")
                return json.loads(answer[2])["choices"][0]["token_ids"]

            want = {salt: text(complete(good, cache_salt=salt)) for salt in ("a", "b")}
            bad = [*good[:90], self.token, *good[90:]]
            answer = complete(bad, cache_salt="c")
            self.assertEqual(error_of(answer), (500, "numeric_error"))
            self.assertEqual(answer[1]["x-should-retry"], "false")
            # Nothing of it is in the prefix cache: the numbers before the bad token neither.
            usage = json.loads(complete(good[:90], cache_salt="c")[2])["usage"]
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
            usage = json.loads(complete(good[:90], cache_salt="c")[2])["usage"]
            self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 0)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda i: complete(bad if i % 2 else good, cache_salt=f"s{i}"), range(24)))
            for i, answer in enumerate(answers):
                if i % 2:
                    self.assertEqual(error_of(answer), (500, "numeric_error"))
                else:
                    self.assertEqual(text(answer), want["a"])
            self.assertEqual(want["a"], want["b"])
            events = list(server.events("/v1/completions", {**ask, "prompt": bad}))
            self.assertEqual(json.loads(events[-1])["error"]["code"], "numeric_error")
            for fields in ({"echo": True, "max_tokens": 0}, {"echo": True, "n": 2, "seed": 1}, {"prompt_logprobs": 2}):  # no token is drawn from them
                self.assertEqual(error_of(complete(bad, **fields)), (500, "numeric_error"))
            self.assertTrue(server.wait_idle())
            self.assertEqual(server.request("GET", "/health")[0], 200)


if __name__ == "__main__":
    run_with_tiny_models()
