"""--session FILE on generate and chat: what is skipped, what is refused and when, and that nothing but a whole session
ever takes the file's name. HEDDLE names the executable; exit status 77: skipped."""
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import session_parts  # noqa: E402
from command_line import HEDDLE, Cli, as_json, environment, good, heddle, run_with_tiny_models  # noqa: E402

FOLDER = None  # of this run
LLAMA = HYBRID = ""
TEXT = " ".join(f"word{i} and pear" for i in range(24))
CHAT = ["--temp", 0, "-n", 6]


def setUpModule():
    global FOLDER, LLAMA, HYBRID
    FOLDER = tempfile.TemporaryDirectory()
    LLAMA, HYBRID = tiny("llama"), tiny("minicpm_sala")


def tearDownModule():
    FOLDER.cleanup()


def tiny(family):
    out = pathlib.Path(FOLDER.name) / family
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", family, "--format",
                    "safetensors", "--seed", "17", "--out", out], check=True, capture_output=True)
    return str(out)


def flip_a_byte_of(model, name):
    """The lowest bit of a value that is not among the 64 bytes of 16 KiB, nor the last 64, that the numerics id sees."""
    file = pathlib.Path(model) / "model.safetensors"
    data = bytearray(file.read_bytes())
    header = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:8 + header])[name]["data_offsets"]
    at = (end - begin) // 8 * 4 + 64
    assert at % 16384 >= 64 and at < end - begin - 64, at
    data[8 + header + begin + at] ^= 1
    file.write_bytes(data)


def generate(model, text, *flags):
    return as_json("generate", model, "-p", text, "-n", 8, "--temp", 0, "--raw", "--ignore-eos", *flags)


def all_but_one(log):
    """Of each answer of a chat -v: were all tokens of its prompt there but the last?"""
    return [int(a) == int(b) - 1 for a, b in re.findall(r"reused (\d+) of (\d+) prompt tokens", log)]


class Session(Cli):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = self.folder.name + "/s.heddle"

    def bytes(self):
        return pathlib.Path(self.file).read_bytes()

    def files(self):
        return sorted(os.listdir(self.folder.name))

    def assertSessionRefused(self, args, *parts, **kw):
        self.assertRefused([*args, "--session", self.file], self.file, "session", *parts, **kw)

    def test_generate_begins_behind_it_and_says_the_same(self):
        for model in (LLAMA, HYBRID):
            for block in (16, 64):
                with self.subTest(model=model, block=block):
                    pathlib.Path(self.file).unlink(missing_ok=True)
                    first = generate(model, TEXT, "--session", self.file)
                    self.assertEqual(first["session"], {"file": self.file, "restored_tokens": 0, "restored_snapshots": 0})
                    self.assertEqual(self.files(), ["s.heddle"])
                    self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
                    cold = generate(model, TEXT + " Then")
                    warm = generate(model, TEXT + " Then", "--session", self.file, "--block-tokens", block)
                    self.assertEqual(warm["tokens"], cold["tokens"])
                    self.assertNotIn("session", cold)
                    # All of the prompt but its end; and the answer but its last token was there too.
                    self.assertGreater(warm["cached_tokens"], 0.8 * warm["prompt_tokens"])
                    self.assertEqual(warm["session"]["restored_tokens"], first["prompt_tokens"] + 7)
                    # What was saved last is what was computed last.
                    again = generate(model, TEXT + " Then", "--session", self.file)
                    # A state serves from the last multiple of 16 on.
                    self.assertGreater(again["cached_tokens"], again["prompt_tokens"] - 17)
                    self.assertEqual(again["tokens"], cold["tokens"])

    def test_says_what_it_restored_and_what_that_saved(self):
        generate(LLAMA, TEXT, "--session", self.file)
        rc, out, err = heddle("generate", LLAMA, "-p", TEXT, "-n", 4, "--raw", "-v", "--session", self.file)
        self.assertEqual(rc, 0, err)
        self.assertRegex(err, r"s\.heddle: session: restored \d+ tokens and \d+ snapshots")
        self.assertRegex(err, r"reused \d+ of \d+ prompt tokens")
        self.assertRegex(err, r"s\.heddle: session: saved \d+ tokens and \d+ snapshots, ")

    def test_says_without_v_how_many_tokens_it_skipped(self):
        line = r"(?m)^session: (\d+) of (\d+) prompt tokens skipped$"
        run = ["generate", LLAMA, "-p", TEXT, "-n", 4, "--raw", "--session", self.file]
        _, _, err = heddle(*run)
        self.assertEqual(err, "", "there was no session")
        rc, out, err = heddle(*run, "--json")
        self.assertRegex(err, line)
        self.assertEqual(err.count("\n"), 1)
        skipped, prompt = map(int, re.search(line, err).groups())
        self.assertEqual((skipped, prompt), (json.loads(out)["cached_tokens"], json.loads(out)["prompt_tokens"]))
        self.assertEqual(skipped, prompt - 1)
        # chat: of the first answer, which begins behind the file.
        lines = f"{TEXT}\nand a pear\n".encode()
        pathlib.Path(self.file).unlink()
        self.assertNotIn("skipped", heddle("chat", LLAMA, *CHAT, "--session", self.file, stdin=lines)[2])
        _, _, err = heddle("chat", LLAMA, *CHAT, "--session", self.file, stdin=lines)
        self.assertEqual(len(re.findall(line, err)), 1, err)

    def test_says_that_a_file_is_new(self):
        run = ["generate", LLAMA, "-p", TEXT, "-n", 4, "--raw", "--session", self.file, "-v"]
        self.assertIn("s.heddle: session: the file is new\n", heddle(*run)[2])
        self.assertNotIn("is new\n", heddle(*run)[2])

    def test_warns_when_most_of_what_was_there_is_gone(self):
        first = generate(LLAMA, TEXT, "--session", self.file)
        n = first["prompt_tokens"] + 7
        run = ["generate", LLAMA, "--raw", "-n", 4, "--temp", 0, "--session", self.file, "-p"]
        for text in (TEXT + " Then", TEXT[:-20]):
            self.assertNotIn("warning", heddle(*run, text)[2])
        generate(LLAMA, TEXT, "--session", self.file)
        rc, _, err = heddle(*run, "pear")
        self.assertEqual(rc, 0, err)
        warning = re.search(r"warning: .*s\.heddle: session: of the (\d+) tokens that were in the file (\d+) are kept", err)
        self.assertEqual(int(warning[1]), n)
        self.assertLess(int(warning[2]), n / 2)
        self.assertNotIn("warning", heddle(*run, "pear")[2], "that is what it holds now")
        self.assertIn("are kept", heddle("chat", LLAMA, *CHAT, "--session", self.file, stdin=TEXT.encode())[2])

    def test_chat_says_that_the_conversation_begins_anew(self):
        run = ["chat", LLAMA, *CHAT, "-v", "--session", self.file]
        for begins_anew in (False, True):
            _, _, err = heddle(*run, stdin=b"a pear\n/exit\n")
            self.assertEqual("the conversation begins anew" in err, begins_anew, err)

    def test_the_prompts_speed_is_that_of_the_computed_tokens(self):
        cold = generate(LLAMA, TEXT, "--session", self.file)
        warm = generate(LLAMA, TEXT, "--session", self.file)
        self.assertEqual((cold["cached_tokens"], warm["cached_tokens"]), (0, cold["prompt_tokens"] - 1))
        for x in (cold, warm):
            computed = x["prompt_tokens"] - x["cached_tokens"]
            self.assertAlmostEqual(x["timings"]["prefill_tok_s"] * x["timings"]["prefill_s"], computed, delta=1e-6 * computed)
        _, _, err = heddle("generate", LLAMA, "-p", TEXT, "-n", 4, "--raw", "-v", "--session", self.file)
        n, cached, seconds, rate = re.search(
            r"prompt (\d+) tokens, (\d+) of them cached, in ([\d.]+) s \(([\d.]+) tok/s\)", err).groups()
        self.assertEqual(int(n) - int(cached), 1)
        self.assertAlmostEqual(float(rate) * float(seconds), 1, delta=0.02)
        self.assertRegex(seconds, r"^0\.0*[1-9]\d\d$|^\d+\.\d\d$")

    def test_says_what_found_no_room(self):
        generate(LLAMA, TEXT, "--session", self.file)
        rc, out, err = heddle("generate", LLAMA, "-p", "pear", "-n", 4, "--raw", "--ctx", 64, "--session", self.file)
        self.assertEqual(rc, 0, err)
        self.assertRegex(err, r"warning: .*s\.heddle: session: restored 64 tokens .*; the last \d+ tokens found no room")

    def test_a_damaged_one_is_refused_and_left(self):
        generate(LLAMA, TEXT, "--session", self.file)
        whole = self.bytes()
        for at in (0, 9, 13, 20, 41, 190, 207, 210, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 255
            for data in (bytes(damaged), whole[:at]):
                pathlib.Path(self.file).write_bytes(data)
                with self.subTest(at=at, size=len(data)):
                    self.assertSessionRefused(["generate", LLAMA, "-p", "x"])
                    self.assertEqual(self.bytes(), data)
        self.assertSessionRefused(["chat", LLAMA], stdin=b"hello\n")
        self.assertEqual(self.files(), ["s.heddle"])

    def test_another_models_one_is_refused_with_both_ids(self):
        generate(LLAMA, TEXT, "--session", self.file)
        whole = self.bytes()
        own = whole[16:32].decode()
        for args in ([HYBRID], [LLAMA, "--kv-dtype", "f32"], [LLAMA, "--attention", "sliding:32"]):
            with self.subTest(args=args):
                self.assertSessionRefused(["generate", *args, "-p", "x"], "numerics id", own)
                self.assertEqual(self.bytes(), whole)

    def test_other_weights_are_refused_wherever_they_differ(self):
        # A fine-tune of a few values: one byte, inside a tensor. Scales of MXFP4 are tensors of their own in the file.
        for family, tensor in (("llama", "model.layers.1.mlp.down_proj.weight"), ("minicpm_sala", "model.norm.weight"),
                               ("gpt_oss", "model.layers.0.mlp.experts.down_proj_scales")):
            with self.subTest(family=family):
                pathlib.Path(self.file).unlink(missing_ok=True)
                model = tiny(family)
                generate(model, TEXT, "--session", self.file)
                whole = self.bytes()
                flip_a_byte_of(model, tensor)
                for command in ("generate", "chat"):
                    self.assertSessionRefused([command, model, *(["-p", "x"] if command == "generate" else [])],
                                              "made with other weights", stdin=b"x\n")
                self.assertEqual(self.bytes(), whole)
                flip_a_byte_of(model, tensor)
                self.assertGreater(generate(model, TEXT, "--session", self.file)["cached_tokens"], 40)

    def test_places_are_refused_before_the_model_is_opened(self):
        # A model that is not there would be the next error.
        for place, part in ((self.folder.name, "is a directory"), (self.folder.name + "/no/s", "no such folder"),
                            ("/dev/null", "not a regular file"), (self.folder.name + "/s/", "no file name"),
                            ("/proc/s", "no file can be made in /proc: the folder takes no files")):
            with self.subTest(place=place):
                self.file = place
                self.assertSessionRefused(["generate", "/no/model.gguf", "-p", "x"], part)
                self.assertSessionRefused(["chat", "/no/model.gguf"], part)
        self.assertEqual(self.files(), [])

    def test_places_without_permission(self):
        # Root may write anywhere: as somebody else then.
        user = {"user": 65534} if os.geteuid() == 0 else {}
        run = {"capture_output": True, "text": True, "env": environment(), **user}
        try:
            subprocess.run([HEDDLE, "version"], check=True, **run)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("nobody else can run the executable")
        if user:
            os.chown(self.folder.name, 65534, 65534)

        def refused(part):
            p = subprocess.run([HEDDLE, "generate", "/no/model.gguf", "-p", "x", "--session", self.file], **run)
            self.assertEqual(p.returncode, 2)
            self.assertIn(part, p.stderr)
            self.assertIn(self.file, p.stderr)
            self.assertIn("session: ", p.stderr)

        pathlib.Path(self.file).write_bytes(b"x")
        if user:
            os.chown(self.file, 65534, 65534)
        os.chmod(self.file, 0o444)
        refused("cannot be written: Permission denied")
        os.chmod(self.file, 0o200)
        refused("cannot open: Permission denied")
        os.unlink(self.file)
        os.chmod(self.folder.name, 0o500)
        self.addCleanup(os.chmod, self.folder.name, 0o700)
        refused(f"no file can be made in {self.folder.name}: Permission denied")

    def test_flags_that_do_not_go_together(self):
        self.assertRefused(["generate", LLAMA, "-p", "x", "--session", self.file, "--no-prefix-cache"],
                           "--session", "--no-prefix-cache")
        self.assertRefused(["chat", LLAMA, "--session", self.file, "--no-prefix-cache"], "--no-prefix-cache")
        prompts = pathlib.Path(self.folder.name) / "p"
        prompts.write_text('{"prompt": "x"}\n')
        self.assertRefused(["generate", LLAMA, "--prompts", prompts, "--session", self.file], "--session", "--prompts")
        self.assertRefused(["generate", LLAMA, "-p", "x", "--session", ""], "--session")
        self.assertRefused(["score", LLAMA, "-f", prompts, "--session", self.file], "unknown flag")
        self.assertEqual(self.files(), ["p"])

    def test_a_full_disk_loses_nothing(self):
        generate(LLAMA, TEXT, "--session", self.file)
        whole = self.bytes()
        p = subprocess.run([HEDDLE, "generate", LLAMA, "-p", TEXT + " more", "-n", "8", "--json", "--session", self.file],
                           capture_output=True, text=True, env=environment(),
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)))
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertIn(self.file + ": session: cannot be written", p.stderr)
        self.assertEqual(len(json.loads(p.stdout)["tokens"]), 8)  # the answer is not lost
        self.assertEqual(self.bytes(), whole)
        self.assertEqual(self.files(), ["s.heddle"])

    def test_what_cannot_be_answered_leaves_it(self):
        generate(LLAMA, TEXT, "--session", self.file)
        whole = self.bytes()
        self.assertRefused(["generate", LLAMA, "-p", TEXT, "--raw", "--ctx", 20, "--session", self.file], "no room")
        self.assertEqual(self.bytes(), whole)

    def test_two_that_save_at_once_leave_a_whole_one(self):
        running = [subprocess.Popen([HEDDLE, "generate", LLAMA, "-p", f"{i} {TEXT}", "-n", "8", "--raw", "--session",
                                     self.file], stdout=subprocess.DEVNULL, env=environment()) for i in range(4)]
        for p in running:
            self.assertEqual(p.wait(timeout=300), 0)
        self.assertEqual(self.files(), ["s.heddle"])
        # One of them was the last: its prompt is there, and no other's.
        data, found = self.bytes(), []
        for i in range(4):
            pathlib.Path(self.file).write_bytes(data)
            found.append(generate(LLAMA, f"{i} {TEXT}", "--session", self.file)["cached_tokens"] > 40)
        self.assertEqual(sum(found), 1, found)

    def test_chat_saves_what_it_computed(self):
        for ending in (b"", b"/exit\n"):
            for model in (LLAMA, HYBRID):
                with self.subTest(ending=ending, model=model):
                    pathlib.Path(self.file).unlink(missing_ok=True)
                    lines = f"{TEXT}\nand a pear\n".encode()
                    out = good("chat", model, *CHAT, "--session", self.file, stdin=lines + ending)
                    self.assertEqual(self.files(), ["s.heddle"])
                    rc, warm, err = heddle("chat", model, *CHAT, "-v", "--session", self.file, stdin=lines)
                    self.assertEqual((rc, warm), (0, out), err)
                    self.assertRegex(err, r"restored [1-9]\d+ tokens")
                    self.assertEqual(all_but_one(err), [True, True], err)

    def test_what_verify_cache_finds_wrong_is_not_saved(self):
        lines = f"{TEXT}\n".encode()
        for command, flags in (("generate", ["-p", TEXT, "--raw", "-n", 8, "--temp", 0]), ("chat", CHAT)):
            with self.subTest(command=command):
                pathlib.Path(self.file).unlink(missing_ok=True)
                run = [command, LLAMA, *flags, "--session", self.file]
                out = good(*run, stdin=lines)
                clean = self.bytes()
                rc, again, err = heddle(*run, "--verify-cache", 1, "-v", stdin=lines)
                self.assertEqual((rc, again), (0, out), err)
                self.assertIn("verify-cache: 1 hits computed again", err)
                self.assertRegex(err, r"session: saved \d+ tokens[^\n]+\n$", "verified first")
                wrong = session_parts.with_other_keys(clean)
                pathlib.Path(self.file).write_bytes(wrong)
                rc, _, err = heddle(*run, "--verify-cache", 1, stdin=lines)
                self.assertEqual(rc, 1, err)
                self.assertRegex(err, r"\nerror: --verify-cache: 1 of 1 answers behind a cached prefix [^\n]+\n$")
                self.assertEqual(self.bytes(), wrong, "the older one stays")
                self.assertEqual(self.files(), ["s.heddle"])

    def test_chat_without_an_answer_writes_nothing(self):
        for lines in (b"", b"/exit\n", b"hello\n/clear\n"):
            good("chat", LLAMA, *CHAT, "--session", self.file, stdin=lines)
            self.assertEqual(self.files(), [])
        generate(LLAMA, TEXT, "--session", self.file)
        whole = self.bytes()
        good("chat", LLAMA, *CHAT, "--session", self.file, stdin=b"/help\n")
        self.assertEqual(self.bytes(), whole)

    def test_chat_is_saved_when_interrupted(self):
        p = subprocess.Popen([HEDDLE, "chat", LLAMA, *map(str, CHAT), "--session", self.file], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self.addCleanup(p.kill)
        p.stdin.write(b"a pear\n")
        p.stdin.flush()
        self.assertTrue(p.stdout.readline())  # the answer's end: it waits for the next line
        time.sleep(0.3)
        self.assertEqual(self.files(), [])
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 130, err)
        self.assertTrue(err.endswith(b"error: interrupted\n"), err)
        self.assertEqual(self.files(), ["s.heddle"])
        rc, out, err = heddle("chat", LLAMA, *CHAT, "-v", "--session", self.file, stdin=b"a pear\n")
        self.assertEqual(all_but_one(err), [True], err)


if __name__ == "__main__":
    run_with_tiny_models()
