"""`nnpkit schema`: the JSON schema of the YAML files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nnpkit.cli.output import refuse

__all__ = ["schema"]


def schema(
    context: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="Of the YAML of active learning instead.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Of the JSON of validation reports instead.")
    ] = False,
) -> None:
    """Print the JSON schema of the training YAML, for editors.

    Save it and name it in the first line of a YAML file to get completion and checks while typing:
    `# yaml-language-server: $schema=nnpkit.schema.json`.
    """
    from nnpkit.analysis.report.report_schema import ReportData
    from nnpkit.config.schema import Config
    from nnpkit.config.schema_active import ActiveConfig

    if report:
        refuse(context, "--report prints another schema", "active")
    kind = ReportData if report else ActiveConfig if active else Config
    print(json.dumps(kind.model_json_schema(), indent=2))
