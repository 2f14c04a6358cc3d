"""lm-eval through local-completions on a small task gives the log probabilities of `heddle score`, and through
local-chat-completions the answers of `heddle generate`. LM_EVAL names the program, else it is looked for beside this
Python. Exit status 77: it is not there, as in tests/requirements.txt: it brings torch, transformers and datasets, some
GB that no other test needs. docs/benchmarks/server.md has the result of a run with it."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import as_json, run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

TASK = ROOT / "tests/tools/lm_eval"
PROGRAM = os.environ.get("LM_EVAL") or shutil.which("lm_eval", path=str(pathlib.Path(sys.executable).parent))


@unittest.skipUnless(PROGRAM, "lm-eval is not installed")
class LmEval(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.model = tiny_model(self.folder)
        self.server = Server(self.model)
        self.addCleanup(self.server.stop)

    def run_task(self, task, data, kind, path, *flags):
        """Samples in the order of the task's documents."""
        text = (TASK / f"{task}.yaml").read_text().replace("DATA", str(TASK / data))
        (self.folder / "task").mkdir()
        (self.folder / "task" / f"{task}.yaml").write_text(text)
        args = f"model=llama,base_url=http://127.0.0.1:{self.server.port}{path},num_concurrent=2,max_retries=1,tokenizer={self.model}"
        run = subprocess.run([PROGRAM, "--model", kind, "--model_args", args, "--tasks", task, "--include_path", str(self.folder / "task"),
                              "--output_path", str(self.folder / "out"), "--log_samples", *flags], capture_output=True, text=True, timeout=600,
                             env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(self.folder / "cache"), "OPENAI_API_KEY": "x"})
        self.assertEqual(run.returncode, 0, run.stderr[-3000:])
        sys.stdout.write(run.stdout)
        samples = next((self.folder / "out").rglob("samples_*.jsonl"))
        return sorted((json.loads(x) for x in samples.read_text().splitlines()), key=lambda s: s["doc_id"])

    def score(self, text):
        file = self.folder / "text"
        file.write_text(text)
        as_json("score", self.model, "-f", file, "--logprobs", self.folder / "scores")
        return [json.loads(x) for x in (self.folder / "scores").read_text().splitlines()]

    def test_local_completions(self):
        n = 0
        for sample in self.run_task("heddle_words", "words.jsonl", "local-completions", "/v1/completions"):
            context = sample["doc"]["text"]
            n_context = len(self.score(context))
            for choice, answer in zip(sample["doc"]["choices"], sample["filtered_resps"]):
                tokens = self.score(f"{context} {choice}")[n_context:]
                self.assertAlmostEqual(float(answer[0]), sum(t["logprob"] for t in tokens), delta=1e-3)
                n += 1
        self.assertEqual(n, 12)

    def test_local_chat_completions(self):
        samples = self.run_task("heddle_chat", "chat.jsonl", "local-chat-completions", "/v1/chat/completions", "--apply_chat_template")
        self.assertEqual(len(samples), 6)
        for sample in samples:
            want = as_json("generate", self.model, "-p", sample["doc"]["text"], "-n", 12, "--temp", 0)["text"]
            self.assertEqual(sample["filtered_resps"][0], want)
        self.assertGreater(len({s["filtered_resps"][0] for s in samples}), 3)


if __name__ == "__main__":
    run_with_tiny_models()
