"""An installation of what kb_pipeline itself requires, made of links to the packages of this one."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kb_pipeline
from kb_pipeline_tests.kb import Done


def required(*extras: str) -> set[str]:
    """The names of all packages that kb_pipeline with those extras requires, and that these require."""
    seen, waiting = set[tuple[str, str]](), [("kb-pipeline", extra) for extra in ("", *extras)]
    while waiting:
        package = name, extra = waiting.pop()
        if package in seen:
            continue
        seen.add(package)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for other machines than this one
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return {name for name, _ in seen}


class LightInstallation:
    """A virtual environment without extras, whose `kb` runs in any folder.

    Args:
        folder: where it is made.
        checkout: whose code it has, by default that of the tests.
    """

    def __init__(self, folder: Path, checkout: Path = Path(kb_pipeline.__file__).parents[1]) -> None:
        venv.create(folder, symlinks=True)
        self._python = folder / "bin" / "python"
        here = Path(sysconfig.get_path("purelib"))
        there = folder / Path(sysconfig.get_path("purelib")).relative_to(sysconfig.get_path("data"))
        for name in _top_names(required() - {"kb-pipeline"}):
            (there / name).symlink_to(here / name)
        (there / "kb_pipeline.pth").write_text(f"{checkout}\n")
        program = folder / "bin" / "kb"
        program.write_text(f"#!{self._python}\nfrom kb_pipeline.__main__ import main\nmain()\n")
        program.chmod(0o755)

    def kb(self, folder: Path, *arguments: str) -> Done:
        """Run `kb` to its end."""
        command = [str(self._python), "-m", "kb_pipeline", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)


def _top_names(packages: set[str]) -> set[str]:
    """What lies in `site-packages` of those that are installed."""
    names = set()
    for package in packages:
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            continue
        names |= {file.parts[0] for file in files}
    return names - {"..", "__pycache__"}
