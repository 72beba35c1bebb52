"""Make .venv and put the project into it: `python3 scripts/set_up.py demo|dev`.

With `system` it only installs the system packages (Debian, Ubuntu; as root).
Needs nothing but Python 3.11 or newer. Run by the Makefile; safe to run again.
It parses on old Pythons, so that they get a sentence and not a SyntaxError.
"""

import os
import platform
import shutil
import subprocess
import sys

OLDEST_PYTHON = (3, 11)
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = {"demo": "all", "dev": "dev"}
CONSTRAINTS = os.path.join(".ci", "constraints.txt")
# What the Qt wheels, OpenGL in software and the virtual display need on a bare Debian or Ubuntu.
DEBIAN_PACKAGES = [
    "xvfb",
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "libglib2.0-0",
    "libdbus-1-3",
    "libfontconfig1",
    "libfreetype6",
    "fonts-dejavu-core",
    "libx11-xcb1",
    "libxkbcommon-x11-0",
    "libxcb-cursor0",
    "libxcb-icccm4",
    "libxcb-image0",
    "libxcb-keysyms1",
    "libxcb-randr0",
    "libxcb-render-util0",
    "libxcb-shape0",
    "libxcb-sync1",
    "libxcb-xfixes0",
    "libxcb-xkb1",
]


def say(text):
    print("[set-up] " + text, flush=True)


def stop(text):
    sys.exit("[set-up] " + text)


def run(*command, quiet=False):
    """Run a command; give True when it succeeded."""
    pipe = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe).returncode == 0


def venv_python(folder):
    return os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")


def pip(python, *arguments, **options):
    return run(python, "-m", "pip", "--disable-pip-version-check", *arguments, **options)


def check_python():
    if sys.version_info < OLDEST_PYTHON:
        needed = "%d.%d" % OLDEST_PYTHON
        stop(
            "Python %s or newer is needed, but %s is Python %s; install one, or name it: make PYTHON=python%s demo"
            % (needed, sys.executable, platform.python_version(), needed)
        )


def is_debian():
    return shutil.which("apt-get") is not None and shutil.which("dpkg-query") is not None


def missing_packages(names):
    """Give those Debian packages that are not installed, also not under their name with a 64-bit time_t."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"] + list(names) + [name + "t64" for name in names],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        universal_newlines=True,
    )
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed and name + "t64" not in installed]


def apt_install(names, purpose):
    """Install Debian packages when root; else print the line to type. Give True when all are there."""
    missing = missing_packages(names)
    if not missing:
        return True
    line = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        say("%s needs system packages; install them with:\n    sudo %s" % (purpose, " ".join(line)))
        return False
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    say("installing system packages for %s: %s" % (purpose, " ".join(missing)))
    if run(*line, quiet=True):
        return True
    if run("apt-get", "update") and run(*line):
        return True
    say("apt-get could not install them; go on without. To try again:\n    " + " ".join(line))
    return False


def make_venv(folder):
    """Make a virtual environment, unless a working one is there; give its interpreter."""
    python = venv_python(folder)
    if os.path.exists(python) and pip(python, "--version", quiet=True):
        return python
    say("making %s with Python %s" % (folder, platform.python_version()))
    make = [sys.executable, "-m", "venv", "--clear", folder]
    if run(*make, quiet=True):
        return python
    package = "python%d.%d-venv" % sys.version_info[:2]
    if is_debian() and apt_install([package], "virtual environments") and run(*make):
        return python
    stop("this Python cannot make virtual environments; on Debian and Ubuntu: sudo apt-get install " + package)


def has_nvidia_gpu():
    return shutil.which("nvidia-smi") is not None and run("nvidia-smi", "-L", quiet=True)


def install_torch(python):
    """Install the pinned torch: on Linux without an NVIDIA GPU the CPU build, which saves gigabytes."""
    if run(python, "-c", "import torch", quiet=True):
        return
    if sys.platform == "linux" and not has_nvidia_gpu():
        cpu_build = TORCH + "+cpu"
        say("no NVIDIA GPU seen: installing " + cpu_build)
        if install_cpu_torch(python, cpu_build):
            return
        say("PyTorch's CPU index cannot be reached: taking the default build of torch (several GB)")
    say("installing " + TORCH)
    if not pip(python, "install", "-qq", TORCH, "-c", CONSTRAINTS):
        say("%s is not to be had here; the package's own requirement decides" % TORCH)


def install_cpu_torch(python, cpu_build):
    """Install the CPU build from wherever pip looks already, else from PyTorch's index; give True on success."""
    install = ["install", "-qq", cpu_build, "-c", CONSTRAINTS]
    if pip(python, *install, quiet=True):
        return True
    wheels = os.path.join(".venv", "wheels")
    source = ["--timeout", "10", "--retries", "1", "--index-url", TORCH_CPU_INDEX]
    fetched = pip(python, "download", "-qq", "--no-deps", "-d", wheels, cpu_build, *source, quiet=True)
    if not (fetched and pip(python, *install, "--find-links", wheels)):
        return False
    shutil.rmtree(wheels)
    return True


def install_project(python, extras):
    say("installing napari-alnct[%s]" % extras)
    install = ["install", "-qq", "-e", ".[%s]" % extras]
    if pip(python, *install, "-c", CONSTRAINTS):
        return
    say("the tested versions (%s) do not fit this machine; taking the newest that fit pyproject.toml" % CONSTRAINTS)
    if not pip(python, *install):
        stop("pip could not install napari-alnct[%s]; its message is above" % extras)


def main():
    purpose = sys.argv[1] if len(sys.argv) == 2 else ""
    if purpose != "system" and purpose not in EXTRAS:
        stop("usage: python3 scripts/set_up.py system|" + "|".join(EXTRAS))
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    check_python()
    if is_debian():
        apt_install(DEBIAN_PACKAGES, "windows and screenshots (Qt, OpenGL, Xvfb)")
    if purpose == "system":
        return
    python = make_venv(".venv")
    install_torch(python)
    install_project(python, EXTRAS[purpose])
    say("ready: " + python)


if __name__ == "__main__":
    main()
