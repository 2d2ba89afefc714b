"""Every command and every line of Python in the README and docs/, run as it stands there.

What would take long or needs a network is made small or brought along: the songs, the archives,
the hyperparameters, the number of epochs. Setting up an environment and running the tests is for
.ci/run.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import download
import generate
import midinet
import preprocess
import train
from midinet.report import __main__ as report
from tests.downloads.archive_makers import make_zip
from tests.model.test_released import released_weights, write_checkpoint

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")
SCRIPTS = {
    "download.py": download.main,
    "preprocess.py": preprocess.main,
    "train.py": train.main,
    "generate.py": generate.main,
}
SET_UP = (
    *("python3 -m venv", ". .venv/bin/activate", "pip install", "python -m pytest"),
    *("py -m venv", ".venv\\Scripts\\Activate.ps1"),
)
TINY = midinet.Parameters(
    embedding_size=8,
    sequence_length=512,  # the README shows the model so many tokens
    num_blocks=1,
    num_heads=2,
    feed_forward_dim=8,
    batch_size=8,
)


def blocks(language: str) -> list[str]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    return [block for text in texts for block in pattern.findall(text)]


def commands(language: str) -> list[str]:
    lines = [line for block in blocks(language) for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split("&&|;", line)]
    return [part for part in parts if not part.startswith(SET_UP)]


@pytest.fixture
def clone(tmp_path, midi_folder, monkeypatch):
    """A folder such as a user works in, with songs, and everything small."""
    shutil.copytree(midi_folder, tmp_path / "raw")
    song = next(midi_folder.rglob("*.mid"))
    for name in ("mine.mid", "song.mid"):
        shutil.copy(song, tmp_path / name)
    for name in ("parameters.json", "parameters_small.json"):
        (tmp_path / name).write_text(json.dumps(TINY.to_dict()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def archive_of(dataset: str, clone: Path) -> Path:
    """What the host of a data set would send."""
    path = clone / "archive.zip"
    if dataset == "released_model":
        write_checkpoint(clone / "made" / "variables" / "variables", released_weights())
        files = [p for p in (clone / "made").rglob("*") if p.is_file()]
        members = [(f"model/{p.relative_to(clone / 'made')}", p.read_bytes()) for p in files]
        members.append(("model/saved_model.pb", b""))
    else:
        songs = sorted((clone / "raw").rglob("*.mid"))
        members = [(song.name, song.read_bytes()) for song in songs]
    path.write_bytes(make_zip(*members))
    return path


def run(command: str, clone: Path) -> None:
    words = shlex.split(command)
    if words[0].startswith("TF_CONFIG="):
        # The cluster is not there; that it is described well, can be seen.
        config = json.loads(words.pop(0).removeprefix("TF_CONFIG="))
        assert config["task"]["index"] < len(config["cluster"]["worker"])
    program, script, *arguments = words
    if program == "pip":
        assert words[1:3] == ["download", "--no-deps"]
        name, version = words[3].split("==")
        shutil.copy(archive_of("freedoom", clone), clone / f"{name}-{version}-any.whl")
    elif program == "tensorboard":
        assert script == "--logdir"
        assert list(Path(arguments[0]).rglob("events*"))
    elif command.startswith("python -m midinet.report"):
        assert report.main(arguments[1:]) == 0
        assert Path("report.png").exists()
    elif program == "python":
        if script == "train.py":
            arguments[arguments.index("-e") + 1] = "1"
        if script == "download.py" and "--archive" not in arguments:
            dataset = arguments[arguments.index("-d") + 1]
            arguments += ["--archive", str(archive_of(dataset, clone))]
            # Who downloads songs has none yet.
            shutil.rmtree(arguments[arguments.index("-o") + 1], ignore_errors=True)
        wildcards = [sorted(clone.glob(word)) if "*" in word else [word] for word in arguments]
        assert SCRIPTS[script]([str(word) for words in wildcards for word in words]) == 0, command
    else:
        pytest.fail(f"the test does not know how to run: {command}")


def test_every_command(clone):
    assert len(commands("sh")) > 20
    for command in commands("sh"):
        run(command, clone)
    assert len(list((clone / "output").glob("*.mid"))) == 1 + 1 + 1 + 4 + 1 + 1 + 1
    for model in ("midinet_model", "large_model", "shared_model"):
        assert (clone / model / "model.weights.h5").exists()


def test_the_commands_for_windows_are_among_them():
    assert commands("powershell")
    assert set(commands("powershell")) <= set(commands("sh"))


def test_the_python(clone):
    (code,) = blocks("python")
    exec(code, {})
    assert (clone / "again.mid").exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_it_links_to_is_there(document):
    text = document.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]
    assert targets
    for target in targets:
        assert (document.parent / target.split("#")[0]).exists(), target
    for script in set(re.findall(r"`python (benchmarks/\w+\.py)", text)):
        assert (REPOSITORY / script).exists(), script


def test_the_table_of_rooms_is_whole():
    package = REPOSITORY / "midinet"
    rows = re.findall(r"^\| `(\w+)/` \| ", README.split("rooms of `midinet/`")[1], re.MULTILINE)
    assert set(rows) == {path.parent.name for path in package.glob("*/__init__.py")} | {"demo"}
