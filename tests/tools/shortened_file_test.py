"""A model file that another program shortens while `heddle` reads it: one error line and exit code 1, no crash. A
library loaded in front of libc shortens each model file as soon as it is mapped. HEDDLE names the executable."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build" / "heddle"))
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void* map(const char* real, void* at, size_t size, int protection, int flags, int fd, off_t offset) {
  void* (*next)(void*, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, real);
  void* mapped = next(at, size, protection, flags, fd, offset);
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = fd < 0 ? -1 : readlink(link, path, sizeof path - 1);
  if (n < 0) return mapped;
  path[n] = 0;
  if (strstr(path, "/model.") && truncate(path, SIZE)) return MAP_FAILED;
  return mapped;
}
void* mmap(void* a, size_t s, int p, int f, int fd, off_t o) { return map("mmap", a, s, p, f, fd, o); }
void* mmap64(void* a, size_t s, int p, int f, int fd, off_t o) { return map("mmap64", a, s, p, f, fd, o); }
"""


def tiny(folder, form):
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", "llama", "--format", form,
                    "--seed", "3", "--out", folder], check=True, capture_output=True)
    for path in folder.glob("*.gguf"):
        path.rename(folder / "model.gguf")
    return folder


class ShortenedFile(unittest.TestCase):
    def run_on(self, form, size):
        with tempfile.TemporaryDirectory() as name:
            model = tiny(pathlib.Path(name), form)
            shim = model / "shim.so"
            subprocess.run(["cc", "-shared", "-fPIC", f"-DSIZE={size}", "-x", "c", "-", "-o", shim, "-ldl"],
                           input=SHIM.encode(), check=True)
            p = subprocess.run([HEDDLE, "generate", model, "-p", "x", "--max-tokens", "1"], capture_output=True,
                               timeout=120, env={**os.environ, "LD_PRELOAD": str(shim)})
            file = next(model.glob("model.*"))
            self.assertEqual(p.stderr.decode(),
                             f"error: {file}: was shortened or replaced while it was being read\n")
            self.assertEqual(p.returncode, 1)

    def test_gguf_without_its_header(self):
        self.run_on("gguf", 0)

    def test_gguf_without_its_weights(self):
        self.run_on("gguf", 65536)

    def test_safetensors_without_their_header(self):
        self.run_on("safetensors", 0)

    def test_safetensors_without_their_weights(self):
        self.run_on("safetensors", 65536)


if __name__ == "__main__":
    if os.environ.get("TEST_SANITIZE") or not shutil.which("cc"):
        print("skipped: needs a C compiler and a program without sanitizers")
        sys.exit(77)
    unittest.main(verbosity=2)
