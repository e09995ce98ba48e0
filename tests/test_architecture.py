"""The house keeps its order: who may import whom, and where things stand."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {name: ROOT / name / "trapline" for name in ("schemas", "common", "services")}
SERVICES = sorted(p.name for p in SOURCES["services"].iterdir() if (p / "__init__.py").exists())
FILES = sorted(path for source in SOURCES.values() for path in source.rglob("*.py"))

# What a pure module may not touch: transports, clocks, databases, loggers.
IMPURE = ("zmq", "asyncpg", "asyncio", "socket", "time", "structlog", "logging", "sqlite3", "subprocess")
RUNTIME = ("trapline.common.runtime", "trapline.common.relay", "trapline.common.channel", "trapline.common.postgres")


def imports(path):
    """Return the modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path):
    return sorted(name for name in imports(path) if name == "trapline" or name.startswith("trapline."))


def within(name, *packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def relative(path):
    return str(path.relative_to(ROOT))


def test_the_three_roots_are_one_namespace():
    for name, source in SOURCES.items():
        assert not (source / "__init__.py").exists(), f"{name}: an __init__.py here hides the other roots"


@pytest.mark.parametrize("path", [p for p in FILES if SOURCES["schemas"] in p.parents], ids=relative)
def test_schemas_import_nothing_of_ours(path):
    assert all(within(name, "trapline.schemas") for name in ours(path))


@pytest.mark.parametrize("path", [p for p in FILES if SOURCES["common"] in p.parents], ids=relative)
def test_common_imports_schemas_only(path):
    allowed = ("trapline.schemas", "trapline.common", "trapline.client", "trapline.cli")
    assert [name for name in ours(path) if name != "trapline" and not within(name, *allowed)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_services_import_themselves_common_and_schemas_only(service):
    allowed = (f"trapline.{service}", "trapline.common", "trapline.schemas")
    for path in (SOURCES["services"] / service).rglob("*.py"):
        assert [name for name in ours(path) if not within(name, *allowed)] == [], relative(path)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_rooms(service):
    names = {p.name for p in (SOURCES["services"] / service).iterdir()}
    assert names >= {"core.py", "service.py", "config.py", "__main__.py", "README.md", "py.typed"}
    assert (ROOT / "tests/services" / service).is_dir()


@pytest.mark.parametrize("service", SERVICES)
def test_the_core_is_pure_and_so_is_what_it_imports(service):
    seen, todo = set(), [f"trapline.{service}.core"]
    while todo:
        name = todo.pop()
        if name in seen or (spec := _spec(name)) is None:
            continue
        seen.add(name)
        for imported in imports(Path(spec.origin)):
            assert not within(imported, *IMPURE), f"{name} imports {imported}"
            if within(imported, "trapline"):
                assert not within(imported, *RUNTIME), f"{name} imports {imported}"
                todo.append(imported)


def _spec(name):
    """Return the spec of a module that is a file; None for names in modules and for packages."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return spec if spec and spec.origin and not spec.submodule_search_locations else None


def test_the_entry_point_of_a_service_is_one_statement():
    for service in SERVICES:
        body = ast.parse((SOURCES["services"] / service / "__main__.py").read_text()).body
        statements = [n for n in body if not isinstance(n, (ast.Import, ast.ImportFrom, ast.Expr))]
        assert len(statements) == 1, service


def test_a_process_that_needs_no_astronomy_does_not_load_it():
    """A mesh has a dozen processes: astropy and scipy in each would cost seconds at every start, and memory."""
    code = (
        "import sys, trapline.common.relay.process, trapline.common.runtime.daemon\n"
        "from trapline.common.config.mesh import load_config\n"
        "load_config()\n"
        "print(*sorted({'astropy', 'scipy', 'sep', 'trapline.client'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    assert run.stdout.split() == []


def test_nothing_is_pickled_or_evaluated():
    for path in FILES:
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert not names & {"eval", "exec"}, relative(path)
        assert not imports(path) & {"pickle", "marshal", "shelve", "dill"}, relative(path)


def test_files_stay_readable():
    long = {relative(p): n for p in FILES if (n := len(p.read_text().splitlines())) > 320}
    assert long == {}


def test_no_address_of_a_package_registry_is_written_down():
    words = ("pypi" + ".org", "files." + "pythonhosted", "registry." + "npmjs", "deb." + "debian.org")
    for path in (p for p in ROOT.rglob("*") if p.is_file() and not {".venv", ".git", "node_modules"} & set(p.parts)):
        if (
            path.suffix in (".py", ".lock", ".toml", ".md", ".sh", ".yml", ".json", "")
            and path.stat().st_size < 5 << 20
        ):
            text = path.read_bytes()
            assert not any(word.encode() in text for word in words), relative(path)
