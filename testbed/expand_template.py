"""Expands a SAM template into CloudFormation's own, as a deployment does; run by the Python of the SAM CLI.

In: the template's path and, if it matters, the name of the archive with the code. Out, on the standard output: the
expanded template as JSON.
"""

import json
import sys
from pathlib import Path

from samtranslator.translator.transform import transform  # type: ignore[import-not-found]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-not-found]

archive = sys.argv[2] if len(sys.argv) > 2 else "function.zip"
template = yaml_parse(Path(sys.argv[1]).read_text())
for resource in template["Resources"].values():
    # Where sam deploy would have put the code.
    for name in ("CodeUri", "ContentUri"):
        if name in resource.get("Properties", {}):
            resource["Properties"][name] = f"s3://code/{archive}"


class NoManagedPolicies:
    """Names and ARNs of managed policies would be asked of IAM; the template has none of its own."""

    def load(self) -> dict[str, str]:
        return {}


json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout)
