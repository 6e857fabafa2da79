"""Sphinx extension: the command and YAML references, written from the code at every build.

`command_reference` reads the typer commands, `yaml_reference` and `active_reference` the pydantic schemas; they
return Markdown.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["active_reference", "command_reference", "setup", "yaml_reference"]


def _cell(text: object) -> str:
    """`text` fit for one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _default(parameter: Any) -> str:
    default = parameter.default
    if (
        parameter.required
        or callable(default)
        or default in (None, False, (), [])
        or "entinel" in repr(default)
    ):
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _metavar(parameter: Any) -> str:
    return (parameter.metavar or parameter.name).upper().strip("[]").removesuffix("...")


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return ", ".join(f"`{name}{value}`" for name in [*parameter.opts, *parameter.secondary_opts])


def command_reference() -> str:
    """Markdown with one section per command: usage, explanation, table of arguments and options."""
    from nnpkit.cli.main import COMMANDS, load_command

    lines = [
        "# Commands",
        "",
        "`nnpkit COMMAND --help` prints the same text. An error that the input causes is one line on stderr",
        "and exit code 1, wrong usage is exit code 2; `NNPKIT_DEBUG=1` shows the traceback. A MODEL may be a",
        "`model.pt`, a run folder of `nnpkit train`, or a RuNNer potential folder.",
        "",
    ]
    for name in COMMANDS:
        command = load_command(name)
        lines += _command(name, command, "##")
        for sub, part in getattr(command, "commands", {}).items():
            lines += _command(f"{name} {sub}", part, "###")
    return "\n".join(lines)


def _command(name: str, command: Any, heading: str) -> list[str]:
    """Heading, usage, explanation and options of one command."""
    lines = [f"{heading} nnpkit {name}", "", "```text", _usage(name, command), "```", ""]
    lines += [inspect.cleandoc(command.help or ""), ""]
    if command.params:
        lines += ["| | default | |", "|---|---|---|"]
        lines += [f"| {_names(p)} | {_default(p)} | {_cell(p.help or '')} |" for p in command.params]
        lines.append("")
    return lines


def _usage(name: str, command: Any) -> str:
    words = ["nnpkit", name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            word = _metavar(parameter) + ("..." if parameter.nargs == -1 else "")
            words.append(word if parameter.required else f"[{word}]")
    return " ".join([*words, "[OPTIONS]"])


def _resolve(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref`; what stands beside the reference wins, the section's own prose is kept as "about"."""
    if schema is True:  # additionalProperties of anything
        return {}
    while "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {"about": target.get("description", ""), **target, **beside}
    return schema


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [_resolve(option, definitions) for option in options]


_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false"}


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type of a setting in words."""
    words = []
    for option in _alternatives(_resolve(schema, definitions), definitions):
        kind = option.get("type", "anything")
        if "const" in option:
            words.append(f"`{option['const']}`")
        elif "enum" in option:
            words += [f"`{value}`" for value in option["enum"]]
        elif kind == "array":
            words.append(f"list of ({_type(option.get('items', {}), definitions)})")
        elif kind == "object" and "properties" not in option:
            values = option.get("additionalProperties")
            words.append(f"mapping of names to ({_type(values, definitions)})" if values else "mapping")
        elif kind == "object":
            words.append("section")
        else:
            words.append(_WORDS.get(kind, "`null`" if kind == "null" else kind) + _bounds(option))
    text = ", ".join(dict.fromkeys(words))
    return re.sub(r"\(([^(),]*)\)", r"\1", text)  # no brackets around a single type


def _bounds(option: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {option[key]:g}" for key, sign in signs.items() if abs(option.get(key, 1e99)) < 1e12]
    return " " + " and ".join(found) if found else ""


def _subsections(schema: dict[str, Any], definitions: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Sections inside a setting, also as items of a list or values of a mapping; with the path's suffix."""
    found = []
    for option in _alternatives(schema, definitions):
        items, values = option.get("items"), option.get("additionalProperties")
        for suffix, inner in (("", option), ("[ ]", items), (".NAME", values)):
            if isinstance(inner, dict):
                candidates = _alternatives(_resolve(inner, definitions), definitions)
                found += [(suffix, candidate) for candidate in candidates if "properties" in candidate]
    return found


def _section(
    path: str, schema: dict[str, Any], definitions: dict[str, Any], level: int, within: str = ""
) -> list[str]:
    """Markdown of the section at `path` and of those below it; `within` names the kind of the section above."""
    kind = schema["properties"].get("kind", {}).get("const")
    about = f" with `kind: {kind}`" if kind else f" of `kind: {within}`" if within else ""
    heading = f"`{path}`{about}" if path else "Top level"
    lines = [f"{'#' * level} {heading}", "", schema.get("about") or schema.get("description", ""), ""]
    below: list[str] = []
    for key, raw in schema["properties"].items():
        setting = _resolve(raw, definitions)
        subsections = _subsections(setting, definitions)
        required = ", required" if key in schema.get("required", []) else ""
        lines += [f"`{key}` — *{_type(setting, definitions)}*{required}{_default_of(setting, subsections)}"]
        lines += [f": {' '.join(setting['description'].split())}", ""]
        for suffix, subsection in subsections:
            deeper = f"{path}.{key}{suffix}".lstrip(".")
            below += _section(deeper, subsection, definitions, min(level + 1, 4), kind or within)
    return lines + below


def _default_of(setting: dict[str, Any], subsections: list[tuple[str, dict[str, Any]]]) -> str:
    """The default of a setting; of a section only its kind, where there are several."""
    if "default" not in setting:
        return ""
    default = setting["default"]
    if subsections and default is not None and all(suffix == "" for suffix, _ in subsections):
        return f", default `kind: {default['kind']}`" if len(subsections) > 1 else ""
    return f", default `{json.dumps(default)}`"


def yaml_reference() -> str:
    """Markdown with one section per section of the training YAML, from the schema's own prose."""
    from nnpkit.config.schema import Config

    head = [
        "# The training YAML",
        "",
        "Every setting of `nnpkit train`. On the command line `key=value` overrides any of them, for example",
        "`training.epochs=50`. An unknown key is an error that names the nearest valid one.",
        "`nnpkit schema` prints all this as JSON schema for editors.",
        "",
    ]
    schema = Config.model_json_schema()
    return "\n".join(head + _section("", schema, schema.get("$defs", {}), 2))


def active_reference() -> str:
    """Markdown with one section per section of the YAML of active learning."""
    from nnpkit.config.schema_active import ActiveConfig

    head = [
        "# The active learning YAML",
        "",
        "Every setting of `nnpkit active`; [what they are for](../active.md). On the command line `key=value`",
        "overrides any of them, for example `stop.rounds=3`. `nnpkit schema --active` prints all this as JSON schema.",
        "",
    ]
    schema = ActiveConfig.model_json_schema()
    return "\n".join(head + _section("", schema, schema.get("$defs", {}), 2))


def _write(app: Any) -> None:
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    references = (("commands", command_reference), ("yaml", yaml_reference), ("active", active_reference))
    for name, text in ((f"{name}.md", write()) for name, write in references):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Entry point of the Sphinx extension."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
