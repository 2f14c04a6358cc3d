"""The documents stay true to the tree: links lead somewhere, paths in backticks exist, the README's
folder map is complete, and no document that people write grows past 200 lines."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tools").rglob("README.md"),
        *(ROOT / "configs").rglob("README.md")]
FOLDERS = ["base", "kernels", "models", "scheduler", "engine", "tools", "configs", "tests", "docs", "cmake"]
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
# `kernels/api/foo.h`, not `tests/FOLDER/NAME_test.cpp` or `kernels/*.h`
PATH = re.compile(r"`((?:" + "|".join(FOLDERS) + r")/[a-z0-9_./-]*)`")


class Docs(unittest.TestCase):
    def test_links_lead_somewhere(self):
        for doc in DOCS:
            for target in LINK.findall(doc.read_text()):
                with self.subTest(doc=doc.name, target=target):
                    self.assertTrue((doc.parent / target).exists())

    def test_paths_exist(self):
        seen = 0
        for doc in DOCS:
            if doc.name == "CHANGELOG.md":  # speaks of the past too
                continue
            for path in PATH.findall(doc.read_text()):
                seen += 1
                with self.subTest(doc=doc.name, path=path):
                    # `engine/sampler` stands for the header and the source
                    self.assertTrue((ROOT / path).exists() or (ROOT / (path + ".h")).exists())
        self.assertGreater(seen, 20)

    def test_readme_maps_every_folder(self):
        text = (ROOT / "README.md").read_text()
        for child in ROOT.iterdir():
            if child.is_dir() and not child.name.startswith((".", "build")):
                with self.subTest(folder=child.name):
                    self.assertIn(f"| `{child.name}/` |", text)

    def test_documents_are_short(self):
        for doc in DOCS:
            with self.subTest(doc=doc.name):
                text = doc.read_text()
                if "<!-- Made by " not in text:  # a reference is as long as what it lists
                    self.assertLessEqual(len(text.splitlines()), 200)

    def test_library_example_is_short(self):
        text = (ROOT / "docs" / "library_example.cpp").read_text()
        self.assertLessEqual(len(text.splitlines()), 25)

    def test_every_case_of_the_server_has_its_tests(self):
        sources = {path.name: path.read_text() for kind in ("py", "cpp") for path in (ROOT / "tests").rglob(f"*_test.{kind}")}
        later = {"R4"}  # of what is not there yet
        rows = dict(re.findall(r"^\| ([HSRN][0-9]+) \|.*\| (.*) \|$", (ROOT / "docs/server_tests.md").read_text(), re.M))
        self.assertEqual(set(rows), {f"{kind}{i}" for kind, n in zip("HSRN", (24, 7, 11, 3)) for i in range(1, n + 1)})
        for row, tests in rows.items():
            names = re.findall(r"`([a-z_]+\.(?:py|cpp))::([A-Za-z0-9_.]+)`", tests)
            self.assertEqual(not names, row in later, row)
            for file, name in names:
                with self.subTest(row=row, test=name):
                    head = rf"def {name}\(self" if file.endswith(".py") else r"TEST(?:_F|_P)?\({}, {}\)".format(*name.split("."))
                    self.assertEqual(len(re.findall(head, sources[file])), 1)


if __name__ == "__main__":
    unittest.main()
