"""Calls from within an instance, without the program: of the AWS APIs, and of other instances."""

import json
import urllib.parse
import xml.etree.ElementTree as tree

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .aws import REGION

VERSIONS = {"ec2": "2016-11-15", "autoscaling": "2011-01-01"}
ASK = """
import json, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[3].encode(), json.loads(sys.argv[2]))
try:
    print(urllib.request.urlopen(request, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""
# Refused is reached: nothing listens there.
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), float(sys.argv[2]))
except ConnectionRefusedError:
    pass
"""


def ask(sandbox, instance, service, action, **parameters):
    """The answer of an API to an instance, as text; signed here, since it has no program that signs."""
    body = urllib.parse.urlencode({"Action": action, "Version": VERSIONS[service], **parameters})
    url = f"https://{service}.{REGION}.amazonaws.com/"
    request = AWSRequest("POST", url, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, body)
    SigV4Auth(Credentials(*sandbox.aws.admin), service, REGION).add_auth(request)
    headers = json.dumps(dict(request.headers.items()))
    return instance.run("/usr/bin/python3", "-c", ASK, url, headers, body, check=True).stdout


def states(sandbox, instance, *ids):
    """What EC2 answers it to a filter by id: the state of each instance. Of every instance, without ids."""
    filters = {f"Filter.1.Value.{n}": id for n, id in enumerate(ids, 1)}
    filters |= {"Filter.1.Name": "instance-id"} if ids else {}
    root = tree.fromstring(ask(sandbox, instance, "ec2", "DescribeInstances", **filters).strip())
    space = root.tag.partition("}")[0] + "}"
    items = [item for items in root.iter(space + "instancesSet") for item in items]
    return {i.findtext(space + "instanceId"): i.findtext(f"{space}instanceState/{space}name") for i in items}


def reaches(one, other, seconds=1):
    """Whether a connection from one instance to another is answered within this time."""
    return one.run("/usr/bin/python3", "-c", REACH, other.address, str(seconds)).returncode == 0
