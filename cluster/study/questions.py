"""Studies to begin with, one for each question that people ask: configs/questions has them as they are written."""

from __future__ import annotations

import shlex
from pathlib import Path

from coldfleet.hostsim.spec.errors import UserError, nearest


def questions() -> dict[str, str]:
    """What is asked, by the name of its study: the study's first line."""
    return {name: path.read_text().partition("\n")[0].lstrip("# ") for name, path in _studies().items()}


def study_for(question: str, path: Path) -> str:
    """The text of a study that answers a question, as it is to be written to a file; raises :class:`UserError`."""
    known = _studies()
    if question not in known:
        raise UserError(f"no study is for {question!r:.80} (--list has all){nearest(question[:80], known)}")
    if not path.name:
        raise UserError(f"the file's name is empty: give one, such as {question}.toml")
    if path.suffix != ".toml":
        raise UserError(f"{str(path)!r:.80}: a study's file ends in .toml: give it such a name")
    if not str(path).isprintable():  # its name is in the comments
        raise UserError(f"{str(path)!r:.80}: a name with control characters: give another")
    text = known[question].read_text()
    return text.replace("results/STUDY", f"results/{quoted(path.stem)}").replace("STUDY.toml", quoted(path))


def write_study(question: str, path: Path) -> None:
    """Writes such a study; raises :class:`UserError` if there is a file of that name."""
    text = study_for(question, path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists: give another name") from None


def quoted(path: Path | str) -> str:
    """A file's name for a shell."""
    return shlex.quote(str(path))


def _studies() -> dict[str, Path]:
    from coldfleet import configs

    return {path.stem: path for path in sorted((Path(next(iter(configs.__path__))) / "questions").glob("*.toml"))}
