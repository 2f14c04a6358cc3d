"""tools/new_mixer.py on a copy of the tree: the skeleton compiles, and leaves alone what a mixer has no business in."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
import layering_test  # noqa: E402
import mixer_skeleton  # noqa: E402

NAME = "gated_trace"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FOLDERS = ("base", "kernels", "models", "scheduler", "engine", "tools", "tests")
# All but what CUDA's headers are needed for.
COMPILED = ("models/mixers/gated_trace.cpp", "models/mixers/mixer.cpp", "models/spec_hash.cpp",
            "models/families/native_mixers.cpp", "models/model_config.cpp", "kernels/cpu/gated_trace.cpp",
            "kernels/cpu/cpu_ops.cpp", "tests/kernels/gated_trace_test.cpp", "tests/models/gated_trace_test.cpp")
EDITED = {"models/layer_spec.h", "models/checkpoint.h", "models/mixers/mixer.h", "models/mixers/mixer.cpp",
          "models/spec_hash.cpp", "models/families/native_mixers.cpp", "kernels/ops.h", "kernels/cpu/cpu_tables.h",
          "kernels/cpu/cpu_ops.h", "kernels/cpu/cpu_ops.cpp", "kernels/cuda/cuda_ops.h", "kernels/cuda/cuda_ops.cpp",
          "kernels/cuda/cuda_tables.h", "kernels/cuda/missing_ops.cpp"}


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class NewMixer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.pristine, cls.made = (pathlib.Path(cls.folder.name) / name for name in ("pristine", "made"))
        ignore = shutil.ignore_patterns("golden", "corpus", "__pycache__", "*_fuzz")
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, cls.pristine / folder, ignore=ignore)
        shutil.copy(ROOT / ".clang-format", cls.pristine)
        shutil.copytree(cls.pristine, cls.made)
        cls.run_of_made = cls.run_tool(cls.made, NAME)

    @staticmethod
    def run_tool(root, *args):
        return subprocess.run([sys.executable, "-B", root / "tools/new_mixer.py", *args], capture_output=True, text=True)

    def refused(self, root, *args):
        before = contents(root)
        p = self.run_tool(root, *args)
        self.assertEqual(p.returncode, 2, p.stdout + p.stderr)
        self.assertEqual(contents(root), before)
        return p.stderr.splitlines()[-1]

    def test_changes_what_it_says_and_nothing_else(self):
        self.assertEqual(self.run_of_made.returncode, 0, self.run_of_made.stderr)
        before, after = contents(self.pristine), contents(self.made)
        new = {path.replace("@NAME@", NAME) for path in mixer_skeleton.FILES}
        self.assertEqual(set(after) - set(before), new)
        edited = {path for path in before if after.get(path) != before[path]}
        self.assertEqual(edited, EDITED)
        for path in new | edited:
            self.assertFalse(path.startswith(("scheduler/", "engine/", "tools/")), path)
            self.assertIn(path, self.run_of_made.stdout)
            self.assertNotIn(b"@", after[path], path)
            self.assertEqual(layering_test.violations(path, after[path].decode()), [])

    @unittest.skipUnless(COMPILER, "no C++ compiler")
    def test_the_skeleton_compiles_without_a_warning(self):
        for path in COMPILED:
            with self.subTest(path=path):
                p = subprocess.run([COMPILER, "-std=c++20", "-I.", "-Wall", "-Wextra", "-Wshadow", "-Werror",
                                    "-fsyntax-only", path], cwd=self.made, capture_output=True, text=True)
                self.assertEqual(p.returncode, 0, p.stderr[-2000:])

    @unittest.skipUnless(shutil.which("clang-format-14"), "no clang-format 14")
    def test_the_skeleton_is_formatted(self):
        paths = [path for path in contents(self.made) if path in EDITED or NAME in path]
        p = subprocess.run(["clang-format-14", "--dry-run", "--Werror", *paths], cwd=self.made, capture_output=True,
                           text=True)
        self.assertEqual(p.returncode, 0, p.stderr[-2000:])

    def test_every_part_that_would_give_a_result_refuses_by_name(self):
        mixer = (self.made / f"models/mixers/{NAME}.cpp").read_text()
        for part in ("bind", "cache_need", "workspace_bytes", "forward"):
            self.assertEqual(mixer.count(f'unwritten("{part}");'), 1, part)
        self.assertIn(f"mixer '{NAME}': ", mixer)
        self.assertIn(f"op '{NAME}': ref is not written yet", (self.made / f"kernels/cpu/{NAME}.cpp").read_text())
        self.assertIn(f'missing<GatedTraceArgs>("{NAME}");', (self.made / "kernels/cuda/missing_ops.cpp").read_text())

    def test_a_second_run_is_refused(self):
        self.assertIn(f"'{NAME}' is taken: models/mixers/{NAME}.h exists", self.refused(self.made, NAME))

    def test_a_second_mixer_may_follow(self):
        p = self.run_tool(self.made, "--dry-run", "other_trace")
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn('+    {"other_trace", read_other_trace},', p.stdout)

    def test_names_that_are_none_or_taken_are_refused(self):
        for name, why in (("Gated", "no name"), ("a__b", "no name"), ("2d", "no name"), ("a" * 41, "no name"),
                          ("../x", "no name"), ("double", "word of C++"), ("rope", "exists"), ("softmax", "taken"),
                          ("linear_attention", "exists"), ("decoder", "taken"), ("head_router", "taken")):
            with self.subTest(name=name):
                self.assertIn(why, self.refused(self.pristine, name))
        self.assertIn("stands for no other mixer", self.refused(self.pristine, NAME, "--letter", "L"))

    def test_dry_run_writes_nothing(self):
        before = contents(self.pristine)
        p = self.run_tool(self.pristine, "--dry-run", NAME)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn("+using MixerSpec = std::variant<SoftmaxAttentionSpec, LinearAttentionSpec, GatedTraceSpec>;", p.stdout)
        self.assertEqual(contents(self.pristine), before)

    def test_nothing_is_written_where_a_place_is_not_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "tree"
            shutil.copytree(self.pristine, root)
            last = root / "kernels/cuda/missing_ops.cpp"  # to be edited
            last.write_text(last.read_text().replace("}  // namespace heddle::cuda", "}  // namespace"))
            self.assertIn("kernels/cuda/missing_ops.cpp: 0 lines begin with", self.refused(root, NAME))


if __name__ == "__main__":
    unittest.main()
