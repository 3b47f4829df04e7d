"""The house stands as it was planned: what may import what, what starts fast, whether documents are true."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import pneumokeras

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "pneumokeras"
MODULES = sorted(PACKAGE.rglob("*.py"))

HEAVY = {"tensorflow", "keras", "keras_tuner", "matplotlib"}


def run_python(*arguments, cwd=PROJECT, timeout=60):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def broken_contracts(project):
    """Names of the import contracts in a project's pyproject.toml that its package breaks."""
    done = run_python("-c", LINT_IMPORTS, "--no-cache", cwd=project)
    broken = re.findall(r"^(.*) BROKEN$", done.stdout, flags=re.MULTILINE)
    assert (done.returncode == 0) == (not broken), done.stdout + done.stderr
    assert re.search(r"^Contracts: [1-9]", done.stdout, flags=re.MULTILINE), done.stdout + done.stderr
    return broken


def test_imports_keep_their_contracts():
    assert broken_contracts(PROJECT) == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/files.py", "from pneumokeras.data.dataset import RadiographSet", "Rooms import downward only"),
        ("recipes/catalog.py", "import pneumokeras.report.write", "Rooms import downward only"),
        ("data/stray.py", "", "Inside data, imports point downward"),
        (
            "data/splits.py",
            "from pneumokeras.data.from_path import load_splits",
            "Inside data, imports point downward",
        ),
        (
            "training/optimizers.py",
            "from pneumokeras.training.fit import fit",
            "Inside training, imports point downward",
        ),
        (
            "explain/gradcam.py",
            "def late():\n    from pneumokeras.explain import panels",
            "No circles between neighbors, at any depth",
        ),
        (
            "models/parts.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pneumokeras import fit",
            "Only the commands use the package's own namespace",
        ),
        ("evaluation/metrics.py", "import tensorflow", "Numbers and files need no TensorFlow"),
    ],
)
def test_a_planted_violation_breaks_its_contract(file, line, contract, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "pneumokeras", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with (tmp_path / "pneumokeras" / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    assert contract in broken_contracts(tmp_path)


def test_importing_pneumokeras_is_light():
    done = run_python("-c", "import sys, pneumokeras; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert HEAVY.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(("argument", "said"), [("--help", "Usage:"), ("recipes", "customcnn")])
def test_help_of_the_program_and_its_list_of_recipes_are_light(argument, said):
    done = run_python("-X", "importtime", "-m", "pneumokeras", argument)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    loaded = set(re.findall(r"\|\s*([\w.]+)$", done.stderr, flags=re.MULTILINE))
    assert "pneumokeras" in loaded
    assert HEAVY.isdisjoint(loaded)


HELP_OF_EVERY_COMMAND = """
import sys
import click
from click.testing import CliRunner
from pneumokeras.cli import main

def visit(command, words):
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output, (words, result.output)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            visit(child, [*words, name])

visit(main, [])
print(*sys.modules)
"""


def test_help_of_every_command_is_light():
    done = run_python("-c", HELP_OF_EVERY_COMMAND)
    assert done.returncode == 0, done.stderr
    assert HEAVY.isdisjoint(done.stdout.split())


def test_every_public_name_exists_and_says_what_it_is():
    assert len(set(pneumokeras.__all__)) == len(pneumokeras.__all__)
    silent = []
    for name in pneumokeras.__all__:
        docstring = getattr(pneumokeras, name).__doc__
        if not docstring or docstring.startswith(f"{name}("):  # what a dataclass says if nobody does
            silent.append(name)
    assert silent == []


def test_every_public_name_stands_on_the_page_of_names():
    page = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(pneumokeras.__all__) <= set(re.findall(r"`(\w+)`", page))


def public_definitions(body, prefix=""):
    for node in body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name[0] != "_"
            and "overload" not in map(ast.unparse, node.decorator_list)  # it only gives a type
        ):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def test_every_public_class_function_and_method_has_a_docstring():
    silent = [
        f"{path.relative_to(PROJECT)}:{node.lineno} {name}"
        for path in MODULES
        for name, node in public_definitions(ast.parse(path.read_text(encoding="utf-8")).body)
        if not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "is_refused"), [("tune", True), ("load_model", True), ("load_splits", False)]
)
def test_another_backend_of_keras_is_refused_in_one_line_by_what_needs_tensorflow(name, is_refused):
    script = f"import os; os.environ['KERAS_BACKEND'] = 'jax'; import pneumokeras as pk; pk.{name}"
    done = run_python("-c", script)
    assert ("SettingsError: pneumokeras needs Keras on TensorFlow" in done.stderr) == is_refused
    assert done.returncode == int(is_refused)


def test_the_library_does_not_print():
    prints = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path in MODULES
        if PACKAGE / "cli" not in path.parents
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def docstrings_of(tree):
    """The string constants of a module that are docstrings, of attributes too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def messages_with_flags(source):
    """The string constants of a module, its docstrings apart, that name an option of a command."""
    tree = ast.parse(source)
    documented = set(docstrings_of(tree))
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in documented
        and re.search(r"(?<![\w-])--[a-z]", node.value)
    ]


def test_no_message_of_the_library_names_a_flag():
    """It names the parameter, in backticks; a command prints its own flag instead."""
    speaking = {
        str(path.relative_to(PROJECT)): messages
        for path in MODULES
        if PACKAGE / "cli" not in path.parents
        and (messages := messages_with_flags(path.read_text(encoding="utf-8")))
    }
    assert speaking == {}


def test_a_message_that_names_a_flag_is_noticed():
    module = '"""Run with --fast."""\nname = "a--b"\nraise ValueError(f"{name}: choose with --run.")\n'
    assert messages_with_flags(module) == [": choose with --run."]


def required_distributions():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [re.match(r"[\w.-]+", line)[0] for group in (project["dependencies"], *extras) for line in group]


def locked_distributions():
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    return re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE)


@pytest.mark.parametrize("distributions", [required_distributions, locked_distributions])
def test_opencv_is_the_headless_one_and_torch_is_not_needed(distributions):
    names = {name.lower() for name in distributions()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}
    assert names.isdisjoint({"torch", "torchvision", "torchaudio"})


def test_every_required_distribution_is_locked():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    assert {re.match(r"[\w.-]+", line)[0] for line in lines} <= set(locked_distributions())


def code_blocks(page, *languages):
    """The contents of a Markdown page's fenced blocks in these languages."""
    fence = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(fence, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs(request, tmp_path):
    """On phantoms named chest_xray, all blocks one after the other, as a reader would type them."""
    program = "\n".join(code_blocks(PROJECT / "README.md", "python"))
    assert "import pneumokeras" in program
    phantoms = request.getfixturevalue("phantom_folder")
    (tmp_path / "chest_xray").symlink_to(phantoms, target_is_directory=True)
    (tmp_path / "readme.py").write_text(program, encoding="utf-8")
    done = run_python("readme.py", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr


# `pneumokeras.json` is a file.
MODULE_NAME = re.compile(r"\b(?:pneumokeras(?!\.json\b)|pk)(?:\.[A-Za-z]\w*)+")


def resolves(name):
    """Whether a dotted name such as `pneumokeras.training.features` or `pk.Splits.train` exists."""
    found, module = pneumokeras, "pneumokeras"
    for part in name.split(".")[1:]:
        module = f"{module}.{part}"
        if part in getattr(found, "__dataclass_fields__", ()):
            return True
        try:
            found = getattr(found, part) if hasattr(found, part) else importlib.import_module(module)
        except ImportError:
            return False
    return True


def test_the_modules_and_names_in_docs_and_docstrings_exist():
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for path in MODULES:
        docstrings = docstrings_of(ast.parse(path.read_text(encoding="utf-8")))
        texts[path] = "\n".join(str(docstring.value) for docstring in docstrings)
    named = {
        (str(path.relative_to(PROJECT)), name)
        for path, text in texts.items()
        for name in MODULE_NAME.findall(text)
    }
    assert len({name for _, name in named}) > 20
    assert sorted(place for place in named if not resolves(place[1])) == []


def test_a_module_that_does_not_exist_is_noticed():
    assert not resolves("pneumokeras.figures")
    assert not resolves("pk.no_such_verb")
    assert resolves("pneumokeras.evaluation.displays.curves.RocCurveDisplay")


def imported_in_scripts(tree):
    """The names of this package that scripts in a test's strings import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
            for module, names in re.findall(
                r"^from (pneumokeras[.\w]*) import ([\w, ]+)", node.value, re.MULTILINE
            ):
                yield from (f"{module}.{name.strip()}" for name in names.split(","))


def test_the_scripts_that_tests_and_benchmarks_run_import_what_exists():
    files = [file for file in (PROJECT / "tests").rglob("*.py") if file != Path(__file__)]
    named = {
        (str(file.relative_to(PROJECT)), name)
        for file in files
        for name in imported_in_scripts(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert len(named) > 10
    assert sorted(place for place in named if not resolves(place[1])) == []


FILE_NAME = re.compile(r"(?<![\w./~-])(?:docs|notebooks|pneumokeras|tests)/[\w./-]+\.\w+")


def test_the_files_of_this_project_that_a_page_names_exist():
    named = {
        (str(page.relative_to(PROJECT)), file)
        for page in PAGES
        for file in FILE_NAME.findall(page.read_text(encoding="utf-8"))
    }
    assert named
    assert sorted(place for place in named if not (PROJECT / place[1]).exists()) == []


CONSOLE = ("bash", "console", "sh", "shell")
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def typed_lines(page):
    """What a reader types in a page's shell blocks: the lines after `$ `, or all where none has it."""
    for block in code_blocks(page, *CONSOLE):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from prompted or lines


def commands_of(page):
    """Each call of pneumokeras in a page's shell blocks, as words."""
    for line in typed_lines(page):
        if re.match(r"(\S*/)?pneumokeras( |$)", line):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(lexer)
            end = next(
                (place for place, word in enumerate(words) if word in ("|", "&&", ";", ">")), len(words)
            )
            yield words[1:end]


def wrong_words(words):
    """What a call names that the program does not have."""
    from pneumokeras.cli import main

    command, options = main, set()
    context = click.Context(main, **main.context_settings)
    wrong = []
    for word in words:
        options |= {
            name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)
        }
        if word.startswith("-"):
            wrong += [word] if word.partition("=")[0] not in options else []
        elif isinstance(command, click.Group):
            command = command.get_command(context, word)
            if command is None:
                return [word]
            context = click.Context(command, parent=context, **command.context_settings)
            options = set()
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_the_commands_of_a_page_exist_with_their_options(page):
    wrong = {" ".join(words): wrong_words(words) for words in commands_of(page)}
    assert {call: words for call, words in wrong.items() if words} == {}


def test_a_command_that_does_not_exist_is_noticed():
    assert wrong_words(["tune", "--data", "chest_xray", "--no-such-option"]) == ["--no-such-option"]
    assert wrong_words(["data", "no-such-command", "out"]) == ["no-such-command"]
    assert wrong_words(["tune", "--data=chest_xray", "-q"]) == []


def test_the_make_targets_of_a_page_exist():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {
        match[1]
        for page in PAGES
        for line in typed_lines(page)
        if (match := re.match(r"make ([a-z-]+)", line))
    }
    assert {"test", "demo"} <= named <= targets
