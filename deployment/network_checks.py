"""Whether AWS's services can be reached from where the functions will run, and whether a database finds its place."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deployment.aws import Aws, code_of
from deployment.findings import Finding
from deployment.parameters import Template, list_of

FREE_ADDRESSES = 8
OWN_NETWORKS = {"create", "dual-stack"}
"""These two can be exchanged for each other."""
SERVICES = {"email": "SES", "secretsmanager": "Secrets Manager"}
"""Without these nothing is sent. They are named as their endpoints are."""


def check_network(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    given = template.in_effect(given, aws.parameters())
    network = template.value(given, "Network")
    is_wrong = False
    if network in OWN_NETWORKS:
        for finding in _check_own(aws, given, template):
            is_wrong = True
            yield finding
    if is_wrong:
        return
    if network == "create":
        yield from _check_endpoints(aws, given, template)
    elif network == "dual-stack":
        yield _check_ipv6(aws.dual_stack_host("sesv2"))
    elif network == "existing":
        yield from _check_subnets(aws, given, template)
    else:
        yield Finding("ok", "The functions run outside a VPC and reach AWS's services by the internet.")


def _check_own(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    try:
        ipaddress.IPv4Network(template.value(given, "VpcCidr"))
    except ValueError as error:
        yield Finding("error", f"VpcCidr: {error}.")
    if chosen := list_of(template.value(given, "AvailabilityZones")):
        zones = zones_of(aws)
        if len(chosen) != 2 or len(set(chosen) & set(zones)) != 2:
            yield Finding("error", f"AvailabilityZones must be two of {', '.join(zones)}.")


def _check_ipv6(host: str) -> Finding:
    try:
        socket.getaddrinfo(host, 443, socket.AF_INET6)
    except OSError:
        return Finding("warning", f"{host} has no IPv6 address, as seen from here; look whether SES has one there.")
    return Finding("ok", f"{host} has an IPv6 address.")


def _check_subnets(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """What is missing in the account is an error of AWS, which `checks.findings` shows."""
    ec2 = aws.client("ec2")
    subnet_ids, group_ids = (list_of(template.value(given, f"Vpc{kind}Ids")) for kind in ("Subnet", "SecurityGroup"))
    if not subnet_ids or not group_ids:
        yield Finding("error", "Network=existing needs VpcSubnetIds and VpcSecurityGroupIds.")
        return
    subnets = ec2.describe_subnets(SubnetIds=subnet_ids)["Subnets"]
    groups = ec2.describe_security_groups(GroupIds=group_ids)
    for subnet in subnets:
        free = subnet["AvailableIpAddressCount"]
        text = f"The subnet {subnet['SubnetId']} has {free} free addresses, of {FREE_ADDRESSES} needed."
        yield Finding("ok" if free >= FREE_ADDRESSES else "error", text)
    networks = {each["VpcId"] for each in (*subnets, *groups["SecurityGroups"])}
    creates_database = template.value(given, "Database") == "create"
    if creates_database:
        networks.add(template.value(given, "VpcId"))
    if len(networks) > 1:
        names = "VpcId, VpcSubnetIds and" if creates_database else "VpcSubnetIds and"
        yield Finding("error", f"{names} VpcSecurityGroupIds are of different VPCs: {', '.join(sorted(networks))}.")
    zones = {each["AvailabilityZone"] for each in subnets}
    if creates_database and len(zones) < 2:
        yield Finding("error", f"VpcSubnetIds: RDS wants subnets in two zones, and all are in {', '.join(zones)}.")
    if len(networks) == 1:
        yield from _check_ways_out(aws, networks.pop(), subnet_ids, template.value(given, "VpcIpv6") == "true")


def _check_ways_out(aws: Aws, vpc: str, subnet_ids: list[str], has_ipv6: bool) -> Iterator[Finding]:
    """Only warnings: there are more ways through a network than are looked for here."""
    ec2 = aws.client("ec2")
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    endpoints = ec2.describe_vpc_endpoints(Filters=of_vpc)["VpcEndpoints"]
    # The reference writes Available, and EC2 answers available.
    usable = [each for each in endpoints if each.get("State", "").lower() == "available"]
    found = {each.get("ServiceName", "").rpartition(".")[2] for each in usable}
    missing = [name for service, name in SERVICES.items() if service not in found]
    if not missing:
        return
    main: list[dict[str, Any]] = []
    routes: dict[str, list[dict[str, Any]]] = {}
    for table in ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]:
        for association in table.get("Associations", []):
            if association.get("Main"):
                main = table.get("Routes", [])
            elif "SubnetId" in association:
                routes[association["SubnetId"]] = table.get("Routes", [])
    for subnet in subnet_ids:
        if not any(_leads_out(route, has_ipv6) for route in routes.get(subnet, main)):
            text = f"VpcSubnetIds: {subnet} seems to have no way to {' and '.join(missing)}, neither endpoint nor NAT"
            yield Finding("warning", f"{text}. An internet gateway is none: functions have no public addresses.")


def _leads_out(route: Mapping[str, Any], has_ipv6: bool) -> bool:
    if route.get("State") == "blackhole":
        return False  # what it leads to was deleted
    if route.get("DestinationIpv6CidrBlock") == "::/0":
        return has_ipv6
    return route.get("DestinationCidrBlock") == "0.0.0.0/0" and not route.get("GatewayId", "").startswith("igw-")


def zones_of(aws: Aws) -> list[str]:
    """The region's availability zones. Local zones have neither these endpoints nor what RDS needs."""
    only = [{"Name": "zone-type", "Values": ["availability-zone"]}]
    found: list[dict[str, Any]] = aws.client("ec2").describe_availability_zones(Filters=only)["AvailabilityZones"]
    return [each["ZoneName"] for each in found]


def zones_with_endpoints(aws: Aws, given: Mapping[str, str], template: Template) -> list[str]:
    """The region's zones in which each endpoint that the network needs can be made."""
    services = ["email", "secretsmanager", *(["lambda"] if template.value(given, "SenderConcurrency") != "1" else [])]
    ec2 = aws.client("ec2")
    zones = zones_of(aws)
    for service in services:
        name = f"com.amazonaws.{aws.region}.{service}"
        try:
            details = ec2.describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"]
        except ClientError as error:
            if code_of(error) != "InvalidServiceName":
                raise
            return []
        offered = {zone for each in details for zone in each["AvailabilityZones"]}
        zones = [zone for zone in zones if zone in offered]
    return zones


def _check_endpoints(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    zones, all_zones = zones_with_endpoints(aws, given, template), zones_of(aws)
    chosen = list_of(template.value(given, "AvailabilityZones")) or all_zones[:2]
    needed = chosen if template.value(given, "HighAvailability") == "true" else chosen[:1]
    if not zones:
        yield Finding("error", f"{aws.region} has no endpoints of SES and Secrets Manager: choose Network=dual-stack.")
    elif wrong := [zone for zone in needed if zone not in zones]:
        text = (
            f"AvailabilityZones: {wrong[0]} lacks an endpoint that is needed; those that have all: {', '.join(zones)}."
        )
        yield Finding("error", text)
    else:
        yield Finding("ok", f"The endpoints can be made in {' and '.join(needed)}.")
