"""``key=value`` words of the command line, put into a spec's tree before it is checked.

Pure. ``spec_loader`` calls it. The right side is what one would write in YAML behind the colon, on
one line; commas outside brackets and quotes make a list, as Hydra's sweeps have it::

    learning_rate=1e-5,3e-5          a parameter's values
    optimizer=adamw                  a constant
    optim.wd={min: 0.0, max: 0.1}    a nested parameter's domain
    learning_rate.max=1e-3           one key of a domain
    run_cap=10  resources.gpus=2     keys of the spec

An override replaces what stands in the file, except that a parameter keeps its ``when``. It never
adds a parameter. A word that names both a parameter and a key of the spec is refused:
``parameters.name=...`` means the parameter, ``spec.name=...`` the key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from orchestrator.contract.errors import SpecError
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import COMMAND_LINE, Node, fail, nearest, show
from orchestrator.domain.yaml_composer import parse_tree
from orchestrator.domain.yaml_scalars import resolve_scalar, text_problem

# Keys whose text may hold commas, colons and brackets: taken as it is unless quoted or bracketed.
_TEXT_KEYS = frozenset({"name", "description", "program", "workdir", "where"})
_EXPRESSION_KEYS = frozenset({"derived", "resources"})


@dataclass(frozen=True)
class _Target:
    """What a key names."""

    path: tuple[str, ...]
    """Keys that lead to it from the top of the tree."""
    is_parameter: bool
    """Whether it is a whole parameter, and not a key of one or of the spec."""


def apply_overrides(tree: Node, overrides: Sequence[str], spec_keys: Collection[str]) -> Node:
    """Return the tree with the overrides put in.

    Args:
        tree: A mapping.
        overrides: ``key=value`` words.
        spec_keys: The keys that a spec may have at its top.

    Raises:
        SpecError: Not ``key=value``, an unknown or ambiguous key, a key given twice, or a value
            that is not YAML.
    """
    seen: set[str] = set()
    for word in overrides:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SpecError(
                f"{show(word)} is no override; write key=value, such as learning_rate=1e-5,3e-5",
                file=COMMAND_LINE,
            )
        if key in seen:
            raise _error(key, "is given twice; give it once, with commas between several values")
        seen.add(key)
        target = _resolve(tree, key, spec_keys)
        node = _read_value(key, text.strip(), target)
        if target.is_parameter:
            node = _keep_when(_get(tree, target.path), node)
        tree = _put(tree, target.path, node, key)
    return tree


def parameter_paths(tree: Node) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Find the parameters of an unchecked tree.

    Returns:
        The path of each parameter by its dotted name, and the dotted names of the groups.
    """
    paths: dict[str, tuple[str, ...]] = {}
    groups: set[str] = set()

    def walk(node: Node | None, prefix: str, path: tuple[str, ...]) -> None:
        if node is None or not isinstance(node.value, dict):
            return
        for key, item in node.value.items():
            name = prefix + key
            if isinstance(item.value, dict) and "parameters" in item.value:
                groups.add(name)
                inner = item.value["parameters"]
                walk(inner, name + ".", (*path, key, "parameters"))
            else:
                paths.setdefault(name, (*path, key))

    top = tree.value.get("parameters") if isinstance(tree.value, dict) else None
    walk(top, "", ("parameters",))
    return paths, groups


def _error(key: str, message: str) -> SpecError:
    return SpecError(message, file=COMMAND_LINE, key=one_line(key, 120))


def _resolve(tree: Node, key: str, spec_keys: Collection[str]) -> _Target:
    paths, groups = parameter_paths(tree)
    if key.startswith("parameters."):
        name = key.removeprefix("parameters.")
        target = _parameter(name, paths)
        if target is None:
            raise _unknown(key, name, paths, groups, ())
        return target
    if key.startswith("spec."):
        name = key.removeprefix("spec.")
        if name.split(".")[0] not in spec_keys:
            raise _unknown(key, name, {}, set(), spec_keys)
        return _Target(tuple(name.split(".")), False)
    parameter = _parameter(key, paths)
    first = key.split(".")[0]
    is_spec_key = first in spec_keys and first != "parameters"
    if parameter is not None and is_spec_key:
        raise _error(
            key,
            "is a parameter and a key of the spec; "
            f"write parameters.{key}=... or spec.{key}=... to say which",
        )
    if parameter is not None:
        return parameter
    if is_spec_key:
        return _Target(tuple(key.split(".")), False)
    raise _unknown(key, key, paths, groups, spec_keys)


def _parameter(name: str, paths: dict[str, tuple[str, ...]]) -> _Target | None:
    if name in paths:
        return _Target(paths[name], True)
    head, dot, tail = name.rpartition(".")
    if dot and head in paths:
        return _Target((*paths[head], tail), False)
    return None


def _unknown(
    key: str,
    name: str,
    paths: Collection[str],
    groups: Collection[str],
    spec_keys: Collection[str],
) -> SpecError:
    if name in groups:
        inner = [path for path in paths if path.startswith(name + ".")]
        return _error(key, f"is a group; name one of its parameters: {', '.join(inner)}")
    known = [*paths, *spec_keys]
    what = "parameter or key of the spec" if spec_keys and paths else "parameter"
    listed = ", ".join(list(paths or spec_keys)[:20])
    return _error(key, f"no such {what}; {nearest(name, known)}known: {listed or 'none'}")


def _read_value(key: str, text: str, target: _Target) -> Node:
    if not text:
        raise _error(key, "nothing stands behind the =; write a value, or null")
    if "\n" in text:
        raise _error(key, 'a line break is not allowed; quote the text: "a\\nb"')
    top = target.path[0]
    is_bracketed = text[0] in "\"'[{"
    if top in _TEXT_KEYS | _EXPRESSION_KEYS and not is_bracketed:
        if problem := text_problem(text):
            raise _error(key, problem)
        try:
            value = text if top in _TEXT_KEYS else resolve_scalar(text)
        except ValueError as error:
            raise _error(key, str(error)) from None
        return Node(value, COMMAND_LINE, None, text)
    try:
        node = parse_tree(f"[{text} ]", file=COMMAND_LINE, has_lines=False)
    except SpecError as error:
        raise _error(key, error.message) from None
    items = node.value if node is not None else None
    if not isinstance(items, list) or not items:
        raise _error(key, f"{show(text)} is no value; quote it if it is text")
    return items[0] if len(items) == 1 else Node(items, COMMAND_LINE)


def _keep_when(old: Node, new: Node) -> Node:
    if not isinstance(old.value, dict) or "when" not in old.value:
        return new
    if isinstance(new.value, dict):
        return replace(new, value={"when": old.value["when"], **new.value})
    key = "values" if isinstance(new.value, list) else "value"
    return replace(new, value={key: new, "when": old.value["when"]})


def _get(tree: Node, path: tuple[str, ...]) -> Node:
    node = tree
    for key in path:
        assert isinstance(node.value, dict)
        node = node.value[key]
    return node


def _put(tree: Node, path: tuple[str, ...], new: Node, key: str) -> Node:
    """Return the tree with ``new`` at ``path``; nothing shared with an alias is changed."""
    if not path:
        return new
    if not isinstance(tree.value, dict):
        raise fail(replace(new, file=COMMAND_LINE), key, f"{show(tree)} has no keys; replace it")
    inner = tree.value.get(path[0], Node({}, COMMAND_LINE))
    return replace(tree, value={**tree.value, path[0]: _put(inner, path[1:], new, key)})
