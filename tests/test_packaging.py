"""What a user gets: the wheel's metadata and files, and documents that agree with it."""

from __future__ import annotations

import ast
import email
import email.message
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import napari_alnct

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_alnct"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
QT_NAMES = {"pyqt5", "pyqt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Give the wheel of this tree, built by hatchling without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    """Give the METADATA of the wheel."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def requirements(metadata: email.message.Message, *, extra: str = "") -> set[str]:
    """Give the lower-case names that the base install, or an extra, requires."""
    lines = metadata.get_all("Requires-Dist", [])
    chosen = (line for line in lines if (f"extra == '{extra}'" in line if extra else "extra ==" not in line))
    return {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in chosen}


def test_base_install_brings_no_viewer(metadata: email.message.Message) -> None:
    """The base install names neither napari nor a Qt binding; [all] brings napari."""
    assert requirements(metadata) & (QT_NAMES | {"napari"}) == set()
    assert "napari" in requirements(metadata, extra="all")


def third_party_imports(folder: Path) -> set[str]:
    """Give the distributions that the modules of a folder import, also inside functions."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    distributions = {"skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    return {distributions.get(name, name).lower() for name in found - sys.stdlib_module_names - {"napari_alnct"}}


def test_base_install_serves_every_command(metadata: email.message.Message) -> None:
    """Whatever the package imports is required by the base install; only the plugin may count on napari's packages."""
    base = requirements(metadata)
    optional = requirements(metadata, extra="cluster") | requirements(metadata, extra="report")
    folders = [folder for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "plugin"]
    assert set().union(*map(third_party_imports, folders)) - base - optional == set()
    assert third_party_imports(PACKAGE / "plugin") - base <= {"napari", "superqt", "vispy"}


def test_licence_and_python(metadata: email.message.Message) -> None:
    """The wheel says Apache-2.0, carries the licence text, and asks for Python 3.11 or newer."""
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: napari" in metadata.get_all("Classifier", [])


def test_description_is_the_readme(metadata: email.message.Message) -> None:
    """The wheel's description is the README, and its pictures have absolute addresses (napari hub, PyPI)."""
    text = str(metadata.get_payload())
    assert "Not a medical device" in text
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)|<img[^>]+src=\"([^\"]+)\"", text)
    assert [address for pair in pictures for address in pair if address and not address.startswith("https://")] == []


def test_entry_points(wheel: zipfile.ZipFile) -> None:
    """The wheel gives the command and the manifest to pip and napari."""
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    lines = wheel.read(name).decode().split()
    assert "".join(lines).count("napari-alnct-train=napari_alnct.cli.app:run") == 1
    assert "[napari.manifest]napari-alnct=napari_alnct:napari.yaml" in "".join(lines)


def test_wheel_holds_what_runs_need(wheel: zipfile.ZipFile) -> None:
    """Manifest, type marker, every module and every bundled model file are inside; tests are not."""
    inside = set(wheel.namelist())
    needed = [p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missing = [p.name for p in needed if f"napari_alnct/{p.relative_to(PACKAGE).as_posix()}" not in inside]
    assert missing == []
    assert {"napari_alnct/napari.yaml", "napari_alnct/py.typed"} <= inside
    assert [name for name in inside if name.startswith("tests/")] == []


def test_top_level_manifest_is_that_of_the_package() -> None:
    """napari.yaml beside pyproject.toml is the manifest of the package, or a link to it."""
    top = (ROOT / "napari.yaml").read_text(encoding="utf-8").strip()
    manifest = PACKAGE / "napari.yaml"
    assert top in (manifest.read_text(encoding="utf-8").strip(), "src/napari_alnct/napari.yaml")


def test_versions_agree() -> None:
    """Package, citation and changelog name the same version."""
    version = re.escape(napari_alnct.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_direct_dependency_is_described() -> None:
    """docs/dependencies.md has each direct dependency, of the base install and of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in lines} - {"napari-alnct"}
    assert [name for name in sorted(names) if name not in listed] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    """Every relative link of a document names a file of the repository."""
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    relative = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in relative if not (path.parent / target).exists()] == []
