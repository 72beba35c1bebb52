"""Try the wheel as a user's napari would: `python scripts/wheel_check.py`, on a display.

Builds the wheel, makes a fresh environment that holds ``napari[all]``, installs
the wheel there, and asks that environment (`--inside`): is the plugin in the
installed list of napari's plugin manager, with name, summary and version, and
does every widget open in a real viewer?
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import set_up

ROOT = Path(__file__).resolve().parents[1]
NAME = "napari-alnct"


def build_wheel(folder: Path) -> Path:
    """Give the wheel of this tree, built in `folder`."""
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def prepare_environment(folder: Path, wheel: Path) -> Path:
    """Give the interpreter of a fresh environment: first napari[all], then the wheel."""
    python = Path(set_up.make_venv(str(folder)))
    constraints = ["-c", set_up.CONSTRAINTS]
    for requirement in ("napari[all]", "torch", str(wheel)):
        print(f"[wheel-check] installing {Path(requirement).name}", flush=True)
        if requirement == "torch":
            set_up.install_torch(str(python))
        elif not set_up.pip(str(python), "install", "-qq", requirement, *constraints):
            sys.exit(f"[wheel-check] FAILED: pip could not install {requirement}")
    return python


def check_installed_list() -> None:
    """Find the plugin in the list that napari's plugin manager shows."""
    from napari_plugin_manager.qt_plugin_dialog import QtPluginDialog

    class OfflineDialog(QtPluginDialog):
        """The real dialog, without its download of the plugins that could be installed."""

        def _fetch_available_plugins(self, clear_cache: bool = False) -> None:
            pass

    dialog = OfflineDialog()
    items = [dialog.installed_list.item(row).widget for row in range(dialog.installed_list.count())]
    found = {item.name: (item.version.toolTip(), item.summary.text()) for item in items}
    if not all(found.get(NAME, ("", ""))):
        sys.exit(f"[wheel-check] FAILED: the plugin manager lists {found}")
    version, summary = found[NAME]
    print(f"[wheel-check] plugin manager lists: {NAME} {version} - {summary}")
    dialog.close()


def check_widgets() -> None:
    """Open every widget of the manifest in a real viewer."""
    import napari
    import npe2
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()  # which discovers the plugins
    manifest = npe2.PluginManager.instance().get_manifest(NAME)
    for widget in manifest.contributions.widgets or ():
        dock, _ = viewer.window.add_plugin_dock_widget(NAME, widget.display_name)
        QApplication.processEvents()
        if not dock.isVisible():
            sys.exit(f"[wheel-check] FAILED: {widget.display_name} is not visible")
        print(f"[wheel-check] opens: {widget.display_name}")
    viewer.close()


def check_inside() -> None:
    """Check the environment that runs this."""
    import napari
    from qtpy.QtWidgets import QApplication

    import napari_alnct

    print(f"[wheel-check] napari {napari.__version__}, {NAME} {napari_alnct.__version__} in {napari_alnct.__file__}")
    if ROOT in Path(napari_alnct.__file__).parents and "site-packages" not in napari_alnct.__file__:
        sys.exit("[wheel-check] FAILED: the source tree was imported, not the wheel")
    application = QApplication.instance() or QApplication([])
    check_installed_list()
    check_widgets()
    application.quit()
    print("[wheel-check] passed")


def main() -> None:
    """Build, install, ask."""
    if sys.argv[1:] == ["--inside"]:
        check_inside()
        return
    os.chdir(ROOT)
    folder = Path(tempfile.mkdtemp(prefix="alnct-wheel-"))
    try:
        python = prepare_environment(folder / "venv", build_wheel(folder))
        result = subprocess.run([python, Path(__file__).resolve(), "--inside"], cwd=folder)
        sys.exit(result.returncode)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
