"""moto as the AWS APIs, with signatures and policies enforced, missing actions added, and faults on demand.

moto 5.2 has no lifecycle actions, accepts any clock, and lists every instance at once; AWS does not.
"""

import base64
import datetime
import email.utils
import gzip
import json
import pathlib
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from xml.etree import ElementTree

import boto3
from moto import settings as moto_settings
from moto.autoscaling.models import InstanceState, autoscaling_backends
from moto.cloudformation.models import cloudformation_backends
from moto.core.authorization import ActionAuthenticatorMixin
from moto.ec2.models import ec2_backends
from moto.iam.access_control import IAMPolicy, IAMRequestBase
from moto.iam.models import Role
from moto.logs.models import logs_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.secretsmanager.models import secretsmanager_backends
from moto.ssm.models import ssm_backends
from moto.sts.models import sts_backends
from werkzeug.serving import WSGIRequestHandler, make_server

from . import network
from .lies import Lies
from .lifecycle_api import active, lifecycle_actions
from .waiting import TIMEOUT

ACCOUNT = "123456789012"
REGION = "eu-west-1"
ROLE = "consul-server"
# AWS refuses signatures that are more than five minutes off.
TOLERATED_SKEW = 300
# Codes of the states of an instance (API reference).
STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

# What EC2 does not tell of a terminated instance.
OF_THE_LIVING = ("privateIpAddress", "ipAddress", "networkInterfaceSet", "vpcId", "subnetId", "groupSet")

# What an instance's role may do: the table of actions in the documents, which the program's own definitions make.
documents = "".join(path.read_text() for path in (pathlib.Path(__file__).parents[2] / "docs").glob("*.md"))
ACTIONS = sorted(set(re.findall(r"^\| `([a-z0-9]+:[A-Za-z]+)` \| ", documents, re.M)))
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ACTIONS, "Resource": "*"}]}

# moto checks the signature of a compressed body against the decompressed one.
raw = threading.local()
create_aws_request = IAMRequestBase._create_aws_request


def create_aws_request_of_raw_body(self):
    self._body = getattr(raw, "body", None) or self._body
    return create_aws_request(self)


IAMRequestBase._create_aws_request = create_aws_request_of_raw_body


# moto keeps the inline policies of a stack's role as dictionaries, which it cannot read.
put_policy = Role.put_policy
Role.put_policy = lambda self, name, document: put_policy(
    self, name, document if isinstance(document, str) else json.dumps(document)
)


# moto compares every action with the resource `*`. What AWS compares it with follows from what the request names
# (Service Authorization Reference). A request that names a log stream needs its log group, too: stricter than AWS,
# which compares with the one or the other by action.
def resources_of(action, parameters):
    def arn(resource):
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"

    service = action.partition(":")[0]
    match service, parameters:
        case "autoscaling", {"AutoScalingGroupName": group}:
            return [arn(f"autoScalingGroup:11111111-2222-3333-4444-555555555555:autoScalingGroupName/{group}")]
        case "ssm", {"Name": name}:
            return [arn("parameter/" + name.removeprefix("/"))]
        case "ssm", {"Path": path}:
            return [arn("parameter/" + path.removeprefix("/"))]
        case "secretsmanager", {"SecretId": secret}:
            return [arn(f"secret:{secret}-AbCdEf")]
        case "logs", {"logGroupName": group, "logStreamName": stream}:
            return [arn(f"log-group:{group}"), arn(f"log-group:{group}:log-stream:{stream}")]
        case "logs", {"logGroupName": group}:
            return [arn(f"log-group:{group}")]
    return ["*"]


def statement_applies(statement, action, resource):
    def matches(patterns, value):
        patterns = [patterns] if isinstance(patterns, str) else patterns
        # `*` and `?` only: fnmatch would know brackets, too.
        return any(
            re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), value, re.S)
            for pattern in patterns
        )

    return matches(statement["Action"], action) and matches(statement["Resource"], resource)


def check_action_permitted(self, resource):
    """An explicit deny overrides every allow."""
    body = raw.text
    parameters = json.loads(body) if body.startswith("{") else dict(urllib.parse.parse_qsl(body))
    wanted = [self._action]
    # CreateLogGroup with tags needs both (API reference).
    if self._action == "logs:CreateLogGroup" and parameters.get("tags"):
        wanted.append("logs:TagResource")
    statements = []
    for policy in self._access_key.collect_policies():
        document = IAMPolicy(policy)._policy_json
        statements += document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    for action in wanted:
        for named in resources_of(action, parameters):
            effects = {s["Effect"] for s in statements if statement_applies(s, action, named)}
            if effects != {"Allow"}:
                self._raise_access_denied()


IAMRequestBase.check_action_permitted = check_action_permitted


class Fault:
    """A failure of calls of one action (or of all, `*`), a number of times or until it is removed."""

    def __init__(self, kind, action="*", times=None, probability=1.0, source=None, value=None):
        self.kind, self.action, self.times, self.probability = kind, action, times, probability
        self.source, self.value = source, value

    def applies(self, action, source):
        if self.action not in ("*", action) or self.source not in (None, source) or self.times == 0:
            return False
        if random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def broken_limit(body):
    """The limit of PutLogEvents (API reference) that a call exceeds and moto accepts; None if there is none."""
    events = json.loads(body).get("logEvents", [])
    times = [event["timestamp"] for event in events]
    if not 1 <= len(events) <= 10_000:
        return f"{len(events)} events"
    if any(not event["message"] for event in events):
        return "an empty message"
    if any(len(event["message"].encode()) + 26 > 262_144 for event in events):
        return "an event that is too long"
    if sum(len(event["message"].encode()) + 26 for event in events) > 1_048_576:
        return "a batch that is too large"
    if times != sorted(times):
        return "events that are not in chronological order"
    if min(times) < 0:
        return "an event before 1970"
    if max(times) - min(times) > 24 * 3600 * 1000:
        return "events more than 24 hours apart"
    return None


def error(service, code, message, status):
    if service in ("ssm", "secretsmanager", "logs"):
        return (
            f"{status} Fault",
            [("Content-Type", "application/x-amz-json-1.1")],
            json.dumps({"__type": code, "message": message}).encode(),
        )
    if service == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            "<RequestID>11111111-2222-3333-4444-555555555555</RequestID></Response>"
        )
    else:
        body = (
            '<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
            f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            "<RequestId>11111111-2222-3333-4444-555555555555</RequestId></ErrorResponse>"
        )
    return f"{status} Fault", [("Content-Type", "text/xml")], body.encode()


def elsewhere(service, action):
    """The answer of a region that has none of the instances and groups."""
    lists = {
        "DescribeInstances": ("ec2", "2016-11-15", "<reservationSet/>"),
        "DescribeAutoScalingInstances": ("autoscaling", "2011-01-01", "<AutoScalingInstances/>"),
        "DescribeAutoScalingGroups": ("autoscaling", "2011-01-01", "<AutoScalingGroups/>"),
    }
    if action not in lists:
        return error(service, "ValidationError", "AutoScalingGroup name not found - no such group", 400)
    name, version, answer = lists[action]
    if name == "autoscaling":
        answer = f"<{action}Result>{answer}</{action}Result>"
    body = f'<{action}Response xmlns="http://{name}.amazonaws.com/doc/{version}/">{answer}</{action}Response>'
    return "200 OK", [("Content-Type", "text/xml")], body.encode()


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


class Middleware:
    """Between the sockets and moto: the call log, the clock, the faults."""

    def __init__(self, aws, application):
        self.aws, self.application = aws, application

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = __import__("io").BytesIO(body)
        raw.text = (gzip.decompress(body) if environ.get("HTTP_CONTENT_ENCODING") == "gzip" else body).decode(
            "utf-8", "replace"
        )
        raw.body = body if environ.get("HTTP_CONTENT_ENCODING") == "gzip" else None
        action = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"))).get("Action", "")
        action = action or environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        source = environ.get("REMOTE_ADDR")
        raw.source = None if source == "127.0.0.1" else source
        host = environ.get("HTTP_HOST", "")
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
        service = scope[3] if len(scope) > 3 else host.split(".")[0]
        call = {"action": action, "source": source, "service": service, "key": scope[0], "time": time.time()}
        call["status"] = None  # until it is answered
        if source != "127.0.0.1":
            with self.aws.lock:
                self.aws.calls.append(call)

        def respond(status, headers, payload):
            call["status"] = int(status.split()[0])
            headers = [h for h in headers if h[0].lower() != "date"]
            headers.append(("Date", email.utils.formatdate(time.time() + self.aws.clock_offset, usegmt=True)))
            start_response(status, headers)
            return payload if not isinstance(payload, bytes) else [payload]

        if action == "PutLogEvents" and (
            broken := broken_limit(gzip.decompress(body) if environ.get("HTTP_CONTENT_ENCODING") == "gzip" else body)
        ):
            self.aws.broken_limits.append(broken)
        if source != "127.0.0.1" and "HTTP_AUTHORIZATION" not in environ:
            # moto fails with a traceback; AWS answers with this error.
            return respond(*error(service, "MissingAuthenticationToken", "Missing Authentication Token", 403))
        raw.loses_answer = False
        answer = self.fault(service, action, source, environ) if source != "127.0.0.1" else None
        if answer:
            return respond(*answer)
        captured = {}

        def capture(status, headers, exc_info=None):
            captured["status"], captured["headers"] = status, headers

        if action == "PutParameter":
            # AWS creates a parameter once; two threads of moto may both find it missing.
            with self.aws.serial:
                payload = b"".join(self.application(environ, capture))
        else:
            payload = b"".join(self.application(environ, capture))
        if getattr(raw, "loses_answer", False):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if action == "DescribeInstances" and (self.aws.interfaces or b"<name>terminated</name>" in payload):
            payload = without_addresses_of_the_dead(self.with_interfaces(payload.decode())).encode()
            captured["headers"] = [h for h in captured["headers"] if h[0].lower() != "content-length"] + [
                ("Content-Length", str(len(payload)))
            ]
        if action == "PutLogEvents" and b"tooOldLogEventEndIndex" in payload:
            # AWS's is exclusive (API reference, RejectedLogEventsInfo), moto's is not.
            answer = json.loads(payload)
            answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"] += 1
            payload = json.dumps(answer).encode()
            captured["headers"] = [h for h in captured["headers"] if h[0].lower() != "content-length"] + [
                ("Content-Length", str(len(payload)))
            ]
        return respond(captured["status"], captured["headers"], payload)

    def with_interfaces(self, text):
        """Adds interface types and public addresses, which moto does not have."""

        def replace(match):
            instance = re.search("<instanceId>(.*?)</instanceId>", match[0])[1]
            if instance not in self.aws.interfaces:
                return match[0]
            public, items = self.aws.interfaces[instance]
            address = f"<ipAddress>{public}</ipAddress>" if public else ""
            return re.sub(
                "<networkInterfaceSet>.*?</networkInterfaceSet>",
                f"{address}<networkInterfaceSet>{items}</networkInterfaceSet>",
                match[0],
                flags=re.S,
            )

        return re.sub("<instancesSet>.*?</instancesSet>", replace, text, flags=re.S)

    def fault(self, service, action, source, environ):
        key = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")[0]
        if key in self.aws.expired_keys:
            return error(
                service,
                "ExpiredToken" if service != "ec2" else "RequestExpired",
                "The security token included in the request is expired",
                403 if service != "ec2" else 400,
            )
        date = environ.get("HTTP_X_AMZ_DATE")
        if date:
            signed = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
            if abs(signed - (time.time() + self.aws.clock_offset)) > TOLERATED_SKEW:
                return error(
                    service, "SignatureDoesNotMatch" if service != "ec2" else "AuthFailure", "Signature expired", 403
                )
        with self.aws.lock:
            fault = next((f for f in self.aws.faults if f.applies(action, source)), None)
        if not fault:
            return None
        kind, value = fault.kind, fault.value
        if kind == "throttle":
            if service == "ec2":
                return error(service, "RequestLimitExceeded", "Request limit exceeded.", 503)
            return error(
                service, "Throttling" if service == "autoscaling" else "ThrottlingException", "Rate exceeded", 400
            )
        if kind == "5xx":
            return "503 Unavailable", [("Content-Type", "text/plain"), ("Retry-After", "1")], b"service unavailable"
        if kind == "denied":
            code = {"ec2": "UnauthorizedOperation", "autoscaling": "AccessDenied"}.get(service, "AccessDeniedException")
            return error(service, code, f"not authorized to perform: {service}:{action}", 403)
        if kind == "other-region":
            return elsewhere(service, action)
        if kind == "slow":
            time.sleep(value)
            return None
        if kind == "lost-answer":
            # The call is carried out, and the connection is cut.
            raw.loses_answer = True
            return None
        if kind == "hang":
            self.aws.closing.wait(10 * TIMEOUT)
            return None
        xml = [("Content-Type", "text/xml")]
        if kind == "malformed":
            return "200 OK", xml, b"<DescribeInstancesResponse><reservationSet><item></DescribeInstancesResponse>"
        if kind == "html":
            return (
                "200 OK",
                [("Content-Type", "text/html")],
                b"<html><body><h1>Welcome to the guest network</h1></body></html>",
            )
        if kind == "truncated":
            return "200 OK", [*xml, ("Content-Length", "100000")], b"<DescribeInstancesResponse><reservationSet>"
        if kind == "bomb":
            entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
            return (
                "200 OK",
                xml,
                f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "ha">{entities}]><r>&e11;</r>'.encode(),
            )
        if kind == "endless":
            # Bounded here, too: 2 GB.
            return "200 OK", xml, (b"<a>" * 20000 for _ in range(35000))
        raise ValueError(kind)


def without_addresses_of_the_dead(text):
    """A terminated instance has neither addresses nor interfaces, VPC or subnet any more; moto keeps them."""
    if "<name>terminated</name>" not in text:
        return text
    root = ElementTree.fromstring(text)
    namespace = root.tag.partition("}")[0] + "}"
    ElementTree.register_namespace("", namespace[1:-1])
    for instances in root.iter(namespace + "instancesSet"):
        for instance in instances:
            if instance.findtext(f"{namespace}instanceState/{namespace}name") == "terminated":
                for name in OF_THE_LIVING:
                    for child in instance.findall(namespace + name):
                        instance.remove(child)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")


class AWS:
    def __init__(self):
        self.lock = threading.Lock()
        self.serial = threading.Lock()
        self.calls = []
        self.faults = []
        self.expired_keys = set()
        self.clock_offset = 0
        self.has_own_policy = False
        self.hidden = {}
        # Instances that EC2 does not know any more, by the time from which on.
        self.forgotten = {}
        self.interfaces = {}
        self.broken_limits = []
        self.servers = []
        self.closing = threading.Event()
        self.application = Middleware(self, DomainDispatcherApplication(create_backend_app))
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        self.port = self._serve(make_server("127.0.0.1", 0, self.application, threaded=True, request_handler=Handler))
        self._make_world()
        ActionAuthenticatorMixin.request_count = 0
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = 0

    def _serve(self, server):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)
        return server.port

    def listen_in(self, namespace, address, certificate):
        """Plain HTTP on 80 and TLS on 443, inside a namespace."""
        for port in (80, 443):
            sock = network.listen(namespace, address, port)
            context = None
            if port == 443:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*certificate)
            server = make_server(
                address,
                port,
                self.application,
                threaded=True,
                request_handler=Handler,
                fd=sock.fileno(),
                ssl_context=context,
            )
            self._serve(server)
            sock.detach()

    def close(self):
        self.closing.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=self.admin[0],
            aws_secret_access_key=self.admin[1],
        )

    def _make_world(self):
        self.admin = ("admin", "admin")
        iam = self.client("iam")
        iam.create_user(UserName="admin")
        iam.put_user_policy(
            UserName="admin",
            PolicyName="all",
            PolicyDocument=json.dumps(
                {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
            ),
        )
        key = iam.create_access_key(UserName="admin")["AccessKey"]
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}")
        iam.put_role_policy(RoleName=ROLE, PolicyName="bootstrap", PolicyDocument=json.dumps(POLICY))
        ec2 = self.client("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.other_vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = {}
        for zone, block in (("a", "10.0.1.0/24"), ("b", "10.0.2.0/24")):
            self.subnets[REGION + zone] = ec2.create_subnet(
                VpcId=self.vpc, CidrBlock=block, AvailabilityZone=REGION + zone
            )["Subnet"]["SubnetId"]
        self.other_subnet = ec2.create_subnet(
            VpcId=self.other_vpc, CidrBlock="10.0.1.0/24", AvailabilityZone=REGION + "a"
        )["Subnet"]["SubnetId"]
        self.client("ec2").create_launch_template(
            LaunchTemplateName="consul", LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "t3.micro"}
        )
        self.admin = (key["AccessKeyId"], key["SecretAccessKey"])
        self._hide_new_instances()
        self.lies = Lies(self, lambda: getattr(raw, "source", None))

    def _hide_new_instances(self):
        """Eventual consistency: EC2 does not know an instance until its time has come, and forgets it after its end."""
        backend = ec2_backends[ACCOUNT][REGION]
        original = backend.all_reservations

        def all_reservations(filters=None):
            now = time.time()
            reservations = original(filters)
            for reservation in reservations:
                reservation.instances = [
                    i
                    for i in reservation.instances
                    if self.hidden.get(i.id, 0) <= now < self.forgotten.get(i.id, float("inf"))
                ]
            return [reservation for reservation in reservations if reservation.instances]

        backend.all_reservations = all_reservations

    # The world, as an administrator changes it.

    def create_group(self, name, desired=0, zone=None):
        """Over both zones, or in one."""
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=20000,
            DesiredCapacity=0,
            LaunchTemplate={"LaunchTemplateName": "consul", "Version": "$Latest"},
            VPCZoneIdentifier=self.subnets[zone] if zone else ",".join(self.subnets.values()),
        )
        self.set_desired(name, desired)

    @property
    def autoscaling(self):
        return autoscaling_backends[ACCOUNT][REGION]

    @property
    def ec2(self):
        return ec2_backends[ACCOUNT][REGION]

    def group(self, name):
        return autoscaling_backends[ACCOUNT][REGION].autoscaling_groups[name]

    def set_desired(self, name, desired):
        """Without moto launching instances of its own."""
        self.group(name).desired_capacity = desired

    def delete_group(self, name):
        autoscaling_backends[ACCOUNT][REGION].autoscaling_groups.pop(name, None)

    def run_instance(self, zone, address, group=None, tags=None, subnet=None):
        ec2 = self.client("ec2")
        instance = ec2.run_instances(
            ImageId="ami-12345678",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet or self.subnets[zone],
            PrivateIpAddress=address,
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": k, "Value": v} for k, v in (tags or {"Name": "consul"}).items()],
                }
            ],
        )["Instances"][0]["InstanceId"]
        if group:
            desired = self.group(group).desired_capacity
            self.client("autoscaling").attach_instances(AutoScalingGroupName=group, InstanceIds=[instance])
            self.set_desired(group, max(desired, len(self.group(group).instance_states)))
        return instance

    def set_lifecycle(self, instance, state):
        for group in autoscaling_backends[ACCOUNT][REGION].autoscaling_groups.values():
            for member in group.instance_states:
                if member.instance.id == instance:
                    member.lifecycle_state = state

    def set_address(self, instance, address):
        ec2_backends[ACCOUNT][REGION].get_instance(instance).nics[0].private_ip_addresses[0]["PrivateIpAddress"] = (
            address
        )

    def zones_of(self, group):
        return [zone for zone, subnet in self.subnets.items() if subnet in self.group(group).vpc_zone_identifier]

    def attach(self, instance, group, state):
        """Without a change of the desired capacity."""
        found = self.ec2.get_instance(instance)
        self.ec2.create_tags([instance], {"aws:autoscaling:groupName": group})
        member = InstanceState(found, lifecycle_state=state, autoscaling_group=self.group(group))
        self.group(group).instance_states.append(member)
        return member

    def set_state(self, instance, state):
        found = self.ec2.get_instance(instance)
        found._state.name, found._state.code = state, STATES[state]

    def terminate_instance(self, instance):
        for group in autoscaling_backends[ACCOUNT][REGION].autoscaling_groups.values():
            group.instance_states = [m for m in group.instance_states if m.instance.id != instance]
        self.end_instance(instance)

    def end_instance(self, instance):
        """In EC2 alone: a group that lists it does so on."""
        found = self.ec2.get_instance(instance)
        address, subnet = found.private_ip, self.ec2.get_subnet(found.subnet_id)
        found.terminate()
        # AWS gives the address back to the subnet; moto keeps it.
        if address in subnet._subnet_ips:
            subnet.del_subnet_ip(address)

    def clear(self):
        """Groups, instances, faults and records go; network and roles stay."""
        autoscaling_backends[ACCOUNT][REGION].autoscaling_groups.clear()
        ec2_backends[ACCOUNT][REGION].reservations.clear()
        ssm_backends[ACCOUNT][REGION].reset()
        secretsmanager_backends[ACCOUNT][REGION].reset()
        for zone in ec2_backends[ACCOUNT][REGION].subnets.values():
            for subnet in zone.values():
                for address in list(subnet._subnet_ips):
                    subnet.del_subnet_ip(address)
        cloudformation_backends[ACCOUNT][REGION].reset()
        lifecycle_actions.clear()
        active.clear()
        autoscaling_backends[ACCOUNT][REGION].lifecycle_hooks.clear()
        self.faults.clear()
        self.lies.clear()
        self.calls.clear()
        self.expired_keys.clear()
        self.hidden.clear()
        self.forgotten.clear()
        self.interfaces.clear()
        self.broken_limits.clear()
        logs_backends[ACCOUNT][REGION].reset()
        self.clock_offset = 0
        if self.has_own_policy:
            self.set_policy(POLICY)
            self.has_own_policy = False

    def set_policy(self, document, role=ROLE):
        """What the instances' role may do, until the world is cleared."""
        self.has_own_policy = True
        self.client("iam").put_role_policy(RoleName=role, PolicyName="bootstrap", PolicyDocument=json.dumps(document))

    def create_stack(self, name, path, **parameters):
        with open(path) as file:
            body = file.read()
        client = self.client("cloudformation")
        listed = [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()]
        client.create_stack(StackName=name, TemplateBody=body, Parameters=listed, Capabilities=["CAPABILITY_IAM"])
        stack = client.describe_stacks(StackName=name)["Stacks"][0]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        resources = client.describe_stack_resources(StackName=name)["StackResources"]
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in resources
            if "PhysicalResourceId" in resource and "LogicalResourceId" in resource
        }

    def launch_template(self, group):
        """What a group launches: its user data, the role of its profile, its metadata options."""
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])[
            "AutoScalingGroups"
        ][0]["LaunchTemplate"]
        versions = self.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=found["LaunchTemplateId"], Versions=[found["Version"]]
        )
        data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        profile = data["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        role = self.client("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"][0][
            "RoleName"
        ]
        return {"user_data": base64.b64decode(data["UserData"]).decode(), "role": role, "data": data}

    def launched(self, group):
        members = [member.instance for member in self.group(group).instance_states]
        return [(i.id, i.placement.zone, i.private_ip, i.vpc_id) for i in members]

    def policy_of(self, role):
        """The one inline policy of a role."""
        iam = self.client("iam")
        [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        return json.loads(document) if isinstance(document, str) else document

    def role_credentials(self, seconds=3600, role=ROLE):
        """What the metadata service hands out for the instance's role."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        role = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=REGION,
            role_session_name="instance",
            role_arn=arn,
            policy=None,
            duration=seconds,
            external_id=None,
        )
        expiration = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": role.access_key_id,
            "SecretAccessKey": role.secret_access_key,
            "Token": role.session_token,
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def log_group(self, name):
        return logs_backends[ACCOUNT][REGION].groups.get(name)

    def log_events(self, group, stream):
        """Messages in the order in which the service took them."""
        streams = logs_backends[ACCOUNT][REGION].groups.get(group)
        found = streams.streams.get(stream) if streams else None
        return [event.message for event in found.events] if found else []

    def refused_actions(self):
        """Actions of the calls answered with an error; calls under way have no answer yet."""
        with self.lock:
            return {call["action"] for call in self.calls if call["status"] and call["status"] >= 400}

    def calls_from(self, source, since=0):
        with self.lock:
            return [call for call in self.calls if call["source"] == source and call["time"] >= since]
