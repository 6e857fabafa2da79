"""`nnpkit schema`: the JSON schema of the training YAML."""

from __future__ import annotations

import json

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON schema of the training YAML, for editors.

    Save it and name it in the first line of a YAML file to get completion and checks while typing:
    `# yaml-language-server: $schema=nnpkit.schema.json`.
    """
    from nnpkit.config.schema import Config

    print(json.dumps(Config.model_json_schema(), indent=2))
