"""Each parameter of the template says what it is, and refuses at least some wrong values."""

from __future__ import annotations

from deployment.parameters import Template

LIMITS = {"AllowedPattern", "AllowedValues", "MinLength", "MaxLength", "MinValue", "MaxValue"}

WITHOUT_LIMIT = {
    "DatabaseCaBundle": "a path in the functions; they name it if there is no such file",
    "JwtAudience": "any text can be an audience",
    "AvailabilityZones": "CloudFormation refuses an unknown zone",
    "VpcSubnetIds": "CloudFormation refuses an unknown subnet",
    "VpcSecurityGroupIds": "CloudFormation refuses an unknown group",
}


def test_each_parameter_has_a_description_and_a_limit() -> None:
    parameters = Template().document["Parameters"]
    assert [name for name, parameter in parameters.items() if not parameter.get("Description")] == []
    assert {name for name, parameter in parameters.items() if not LIMITS & parameter.keys()} == set(WITHOUT_LIMIT)


def test_each_pattern_is_explained() -> None:
    parameters = Template().document["Parameters"]
    assert [
        name
        for name, parameter in parameters.items()
        if "AllowedPattern" in parameter and "ConstraintDescription" not in parameter
    ] == []
