"""Sphinx extension: the command and YAML references, written from the code at every build.

`command_reference` reads the typer commands, `yaml_reference` the pydantic schema; both return Markdown.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

__all__ = ["command_reference", "setup", "yaml_reference"]


def _cell(text: object) -> str:
    """`text` fit for one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _default(parameter: Any) -> str:
    default = parameter.default
    if default is None or callable(default) or parameter.required or "sentinel" in repr(default).lower():
        return ""
    return "" if default in ((), []) else f"`{default}`"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.make_metavar_for_docs()}`" if hasattr(parameter, "make_metavar_for_docs") else (
            f"`{(parameter.metavar or parameter.name).upper()}`"
        )
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def command_reference() -> str:
    """Markdown with one section per command: usage, explanation, table of arguments and options."""
    from nnpkit.cli.main import COMMANDS, load_command

    lines = ["# Commands", "", "`nnpkit COMMAND --help` prints the same. Errors go to stderr as one line and", ""]
    lines[2:] = [
        "`nnpkit COMMAND --help` prints the same text. An error that the input causes is one line on stderr",
        "and exit code 1, wrong usage is exit code 2; `NNPKIT_DEBUG=1` shows the traceback. Wherever a command",
        "takes a MODEL it may be a `model.pt`, a run folder of `nnpkit train`, or a RuNNer potential folder.",
        "",
    ]
    for name in COMMANDS:
        command = load_command(name)
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(
            (f"{_names(p)[1:-1]}" if p.required else f"[{_names(p)[1:-1]}]") + ("..." if p.nargs == -1 else "")
            for p in arguments
        )
        lines += [f"## nnpkit {name}", "", "```text", f"nnpkit {name} [OPTIONS] {usage}".rstrip(), "```", ""]
        lines += [inspect.cleandoc(command.help or ""), ""]
        if command.params:
            lines += ["| | default | |", "|---|---|---|"]
            lines += [f"| {_names(p)} | {_default(p)} | {_cell(p.help or '')} |" for p in command.params]
            lines.append("")
    return "\n".join(lines)


def _resolve(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref`; what stands beside the reference wins."""
    while "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [_resolve(option, definitions) for option in options]


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type of a setting in words."""
    words = []
    for option in _alternatives(schema, definitions):
        if "const" in option:
            words.append(f"`{option['const']}`")
        elif "enum" in option:
            words += [f"`{value}`" for value in option["enum"]]
        elif "prefixItems" in option:
            words.append("[" + ", ".join(_type(item, definitions) for item in option["prefixItems"]) + "]")
        elif option.get("type") == "array":
            words.append(f"list of {_type(_resolve(option.get('items', {}), definitions), definitions)}")
        elif option.get("type") == "object" and "properties" not in option:
            value = option.get("additionalProperties")
            of = _type(_resolve(value, definitions), definitions) if isinstance(value, dict) else "anything"
            words.append(f"mapping to {of}")
        elif option.get("type") == "object":
            words.append("section")
        else:
            words.append(str(option.get("type", "anything")).replace("null", "none"))
    return " or ".join(dict.fromkeys(words))


def _bounds(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [
        f"{sign} {option[key]:g}"
        for option in _alternatives(schema, definitions)
        for key, sign in signs.items()
        if key in option
    ]
    return ", " + ", ".join(found) if found else ""


def _subsections(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects with settings of their own inside a setting, also as items of a list or values of a mapping."""
    found = []
    for option in _alternatives(schema, definitions):
        inner = [option]
        inner += [option[key] for key in ("items", "additionalProperties") if isinstance(option.get(key), dict)]
        for candidate in inner:
            for resolved in _alternatives(_resolve(candidate, definitions), definitions):
                if "properties" in resolved and resolved not in found:
                    found.append(resolved)
    return found


def _section(path: str, schema: dict[str, Any], definitions: dict[str, Any], level: int) -> list[str]:
    lines = [f"{'#' * min(level, 5)} {path}", "", *schema.get("description", "").splitlines(), ""]
    nested: list[tuple[str, dict[str, Any]]] = []
    for key, raw in schema["properties"].items():
        setting = _resolve(raw, definitions)
        default = f", default `{json.dumps(setting['default'])}`" if "default" in setting else ""
        required = ", required" if key in schema.get("required", []) else ""
        subsections = _subsections(setting, definitions)
        kind = _type(setting, definitions) + _bounds(setting, definitions)
        if subsections and kind == "section":
            default = ""
        description = " ".join(setting.get("description", "").split())
        lines += [f"`{key}` — *{kind}*{required}{default}", f": {description or 'See below.'}", ""]
        nested += [(f"{path}.{key}" if "." in path or level > 2 else f"{path}.{key}", s) for s in subsections]
    for name, subsection in nested:
        lines += _section(name.removeprefix("settings."), subsection, definitions, level + 1)
    return lines


def yaml_reference() -> str:
    """Markdown with one section per section of the training YAML, from the schema's own prose."""
    from nnpkit.config.schema import Config

    schema = Config.model_json_schema()
    definitions = schema.get("$defs", {})
    head = [
        "# The training YAML",
        "",
        "Every setting of `nnpkit train`. On the command line `key=value` overrides any of them, for example",
        "`training.epochs=50`. An unknown key is an error that names the nearest valid one.",
        "`nnpkit schema` prints all this as JSON schema for editors.",
        "",
    ]
    return "\n".join(head + _section("settings", schema, definitions, 2))


def _write(app: Any) -> None:
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name, text in (("commands.md", command_reference()), ("yaml.md", yaml_reference())):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Entry point of the Sphinx extension."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
