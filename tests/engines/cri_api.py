"""A client of the Kubernetes CRI, version runtime.v1, no larger than the tests need.

gRPC is python3-grpcio's. The messages are plain dictionaries, put into protobuf's wire format by
the table below, which names each field with its number and type. What a terminal or a pipe has to
be carried through (exec, attach) goes over a WebSocket, as kubectl's does.
"""

import base64
import json
import os
import socket
import struct
import urllib.parse

import grpc

from report import PATIENCE

# message: field=number:type, with * for repeated. A map is a repeated Pair.
TABLE = """
Pair: key=1:string value=2:string
Int64Value: value=1:int
UInt64Value: value=1:int

VersionRequest: version=1:string
VersionResponse: version=1:string runtime_name=2:string runtime_api_version=4:string
StatusRequest: verbose=1:bool
StatusResponse: status=1:RuntimeStatus
RuntimeStatus: conditions=1:*RuntimeCondition
RuntimeCondition: type=1:string status=2:bool reason=3:string message=4:string

ImageSpec: image=1:string
ImageStatusRequest: image=1:ImageSpec
ImageStatusResponse: image=1:Image
Image: id=1:string repo_tags=2:*string
ListImagesRequest:
ListImagesResponse: images=1:*Image

NamespaceOption: network=1:int pid=2:int ipc=3:int target_id=4:string
SecurityProfile: profile_type=1:int localhost_ref=2:string
LinuxSandboxSecurityContext: namespace_options=1:NamespaceOption run_as_user=3:Int64Value \
    readonly_rootfs=4:bool privileged=6:bool run_as_group=8:Int64Value seccomp=9:SecurityProfile
LinuxPodSandboxConfig: cgroup_parent=1:string security_context=2:LinuxSandboxSecurityContext \
    sysctls=3:*Pair
DNSConfig: servers=1:*string searches=2:*string options=3:*string
PodSandboxMetadata: name=1:string uid=2:string namespace=3:string attempt=4:int
PodSandboxConfig: metadata=1:PodSandboxMetadata hostname=2:string log_directory=3:string \
    dns_config=4:DNSConfig labels=6:*Pair annotations=7:*Pair linux=8:LinuxPodSandboxConfig
RunPodSandboxRequest: config=1:PodSandboxConfig runtime_handler=2:string
RunPodSandboxResponse: pod_sandbox_id=1:string
StopPodSandboxRequest: pod_sandbox_id=1:string
StopPodSandboxResponse:
RemovePodSandboxRequest: pod_sandbox_id=1:string
RemovePodSandboxResponse:
PodSandboxStatusRequest: pod_sandbox_id=1:string verbose=2:bool
PodSandboxStatusResponse: status=1:PodSandboxStatus info=2:*Pair
PodSandboxStatus: id=1:string state=3:int network=5:PodSandboxNetworkStatus labels=7:*Pair \
    runtime_handler=9:string
PodSandboxNetworkStatus: ip=1:string
ListPodSandboxRequest:
ListPodSandboxResponse: items=1:*PodSandbox
PodSandbox: id=1:string state=3:int
PodSandboxStatsRequest: pod_sandbox_id=1:string
PodSandboxStatsResponse: stats=1:PodSandboxStats
PodSandboxStats: linux=2:LinuxPodSandboxStats
LinuxPodSandboxStats: cpu=1:CpuUsage memory=2:MemoryUsage process=4:ProcessUsage \
    containers=5:*ContainerStats
ProcessUsage: process_count=2:UInt64Value

HugepageLimit: page_size=1:string limit=2:int
LinuxContainerResources: cpu_period=1:int cpu_quota=2:int cpu_shares=3:int \
    memory_limit_in_bytes=4:int oom_score_adj=5:int cpuset_cpus=6:string cpuset_mems=7:string \
    hugepage_limits=8:*HugepageLimit unified=9:*Pair memory_swap_limit_in_bytes=10:int
Capability: add_capabilities=1:*string drop_capabilities=2:*string
LinuxContainerSecurityContext: capabilities=1:Capability privileged=2:bool \
    namespace_options=3:NamespaceOption run_as_user=5:Int64Value run_as_username=6:string \
    readonly_rootfs=7:bool supplemental_groups=8:*int no_new_privs=11:bool \
    run_as_group=12:Int64Value masked_paths=13:*string readonly_paths=14:*string \
    seccomp=15:SecurityProfile
LinuxContainerConfig: resources=1:LinuxContainerResources \
    security_context=2:LinuxContainerSecurityContext
ContainerMetadata: name=1:string attempt=2:int
Mount: container_path=1:string host_path=2:string readonly=3:bool propagation=5:int
Device: container_path=1:string host_path=2:string permissions=3:string
ContainerConfig: metadata=1:ContainerMetadata image=2:ImageSpec command=3:*string args=4:*string \
    working_dir=5:string envs=6:*Pair mounts=7:*Mount devices=8:*Device labels=9:*Pair \
    annotations=10:*Pair log_path=11:string stdin=12:bool stdin_once=13:bool tty=14:bool \
    linux=15:LinuxContainerConfig
CreateContainerRequest: pod_sandbox_id=1:string config=2:ContainerConfig \
    sandbox_config=3:PodSandboxConfig
CreateContainerResponse: container_id=1:string
StartContainerRequest: container_id=1:string
StartContainerResponse:
StopContainerRequest: container_id=1:string timeout=2:int
StopContainerResponse:
RemoveContainerRequest: container_id=1:string
RemoveContainerResponse:
ContainerFilter: id=1:string pod_sandbox_id=3:string
ListContainersRequest: filter=1:ContainerFilter
ListContainersResponse: containers=1:*Container
Container: id=1:string pod_sandbox_id=2:string state=6:int labels=8:*Pair
ContainerStatusRequest: container_id=1:string verbose=2:bool
ContainerStatusResponse: status=1:ContainerStatus info=2:*Pair
ContainerStatus: id=1:string state=3:int started_at=5:int finished_at=6:int exit_code=7:int \
    reason=10:string message=11:string log_path=15:string
UpdateContainerResourcesRequest: container_id=1:string linux=2:LinuxContainerResources
UpdateContainerResourcesResponse:
ReopenContainerLogRequest: container_id=1:string
ReopenContainerLogResponse:

ExecSyncRequest: container_id=1:string cmd=2:*string timeout=3:int
ExecSyncResponse: stdout=1:bytes stderr=2:bytes exit_code=3:int
ExecRequest: container_id=1:string cmd=2:*string tty=3:bool stdin=4:bool stdout=5:bool stderr=6:bool
ExecResponse: url=1:string
AttachRequest: container_id=1:string stdin=2:bool tty=3:bool stdout=4:bool stderr=5:bool
AttachResponse: url=1:string

ContainerStatsRequest: container_id=1:string
ContainerStatsResponse: stats=1:ContainerStats
ContainerStatsFilter: id=1:string pod_sandbox_id=2:string
ListContainerStatsRequest: filter=1:ContainerStatsFilter
ListContainerStatsResponse: stats=1:*ContainerStats
ContainerAttributes: id=1:string
ContainerStats: attributes=1:ContainerAttributes cpu=2:CpuUsage memory=3:MemoryUsage
CpuUsage: usage_core_nano_seconds=2:UInt64Value
MemoryUsage: working_set_bytes=2:UInt64Value usage_bytes=4:UInt64Value
"""

POD, CONTAINER, NODE, TARGET = range(4)  # whose namespace it is
CREATED, RUNNING, EXITED = range(3)  # a container's state; of a sandbox, 0 is ready
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)  # security profiles
PRIVATE, FROM_HOST, BOTH_WAYS = range(3)  # mount propagation


def read_table():
    messages = {}
    for line in TABLE.replace("\\\n", " ").splitlines():
        if not line:
            continue
        name, fields = line.split(":", 1)
        messages[name] = {}
        for field in fields.split():
            key, rest = field.split("=")
            number, kind = rest.split(":")
            messages[name][key] = (int(number), kind.lstrip("*"), kind.startswith("*"))
    return messages


MESSAGES = read_table()

# ---- protobuf's wire format ----------------------------------------------------------------------


def put_number(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def get_number(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def encode(name, values):
    out = b""
    for key, value in values.items():
        number, kind, is_list = MESSAGES[name][key]
        for item in value if is_list else [value]:
            if kind in ("int", "bool"):
                out += put_number(number << 3) + put_number(int(item))
                continue
            if kind == "string":
                item = item.encode()
            elif kind != "bytes":
                item = encode(kind, item)
            out += put_number(number << 3 | 2) + put_number(len(item)) + item
    return out


def decode(name, data):
    """Fields that did not come have the value that protobuf gives them."""
    nothing = {"int": 0, "bool": False, "string": "", "bytes": b""}
    values, names = {}, {}
    for key, (number, kind, is_list) in MESSAGES[name].items():
        values[key] = [] if is_list else nothing.get(kind)
        names[number] = (key, kind, is_list)
    at = 0
    while at < len(data):
        tag, at = get_number(data, at)
        size = {1: 8, 5: 4}.get(tag & 7)
        if tag & 7 == 0:
            item, at = get_number(data, at)
        else:
            if size is None:
                size, at = get_number(data, at)
            item, at = data[at : at + size], at + size
        if tag >> 3 not in names:
            continue
        key, kind, is_list = names[tag >> 3]
        if kind == "int" and item >> 63:
            item -= 1 << 64
        elif kind == "string":
            item = item.decode()
        elif kind not in nothing:
            item = decode(kind, item)
        if is_list:
            values[key].append(item)
        else:
            values[key] = item
    return values


def pairs(values):
    """A map, in the form of its messages."""
    return [{"key": key, "value": value} for key, value in values.items()]


# ---- calls ---------------------------------------------------------------------------------------


class Refused(Exception):
    """The answer was an error; its text is the server's."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error.code().name}: {error.details()}")
        self.code = error.code().name


class Client:
    def __init__(self, path):
        self.channel = grpc.insecure_channel("unix:" + path)

    def call(self, method, **values):
        service = "ImageService" if "Image" in method else "RuntimeService"
        call = self.channel.unary_unary(f"/runtime.v1.{service}/{method}")
        try:
            message = encode(method + "Request", values)
            answer = call(message, timeout=120 * PATIENCE, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Refused(method, error) from None
        return decode(method + "Response", answer)

    def stream(self, method, **values):
        """Exec or Attach: the answer is an address, where a process's streams can be had."""
        return Stream(self.call(method, **values)["url"])


# Streams of the protocol v4.channel.k8s.io: the first byte of each message is one of these.
STDIN, STDOUT, STDERR, OUTCOME, SIZE = range(5)


class Stream:
    """A WebSocket (RFC 6455) with a process's input and output."""

    def __init__(self, url):
        address = urllib.parse.urlsplit(url)
        place = (address.hostname, address.port)
        self.socket = socket.create_connection(place, timeout=60 * PATIENCE)
        self.buffer = b""
        self.seen = {STDOUT: b"", STDERR: b"", OUTCOME: b""}
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Origin: http://{address.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def fill(self):
        part = self.socket.recv(65536)
        if not part:
            raise EOFError
        self.buffer += part

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        part, self.buffer = self.buffer[:count], self.buffer[count:]
        return part

    def send(self, channel, data):
        data = bytes([channel]) + data
        size = struct.pack(">BB", 0x82, 0x80 | len(data))
        if len(data) > 125:
            size = struct.pack(">BBH", 0x82, 0x80 | 126, len(data))
        mask = os.urandom(4)
        self.socket.sendall(size + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(data)))

    def resize(self, columns, rows):
        self.send(SIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def receive(self):
        """One message more; false at the end."""
        try:
            kind, size = self.take(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.take(8))
            data = self.take(size)
        except (EOFError, ConnectionResetError):
            return False
        if kind & 15 == 8:
            return False
        if data and data[0] in self.seen:
            self.seen[data[0]] += data[1:]
        return True

    def until(self, word):
        """Reads until the word has come on the standard output."""
        while word not in self.seen[STDOUT]:
            assert self.receive(), f"it ended without {word!r}: {self.seen}"

    def end(self):
        """Reads until the process has ended: its output, and its exit status."""
        while not self.seen[OUTCOME]:
            assert self.receive(), f"it ended without an outcome: {self.seen}"
        outcome = json.loads(self.seen[OUTCOME])
        if outcome["status"] == "Success":
            return self.seen[STDOUT], 0
        causes = outcome.get("details", {}).get("causes", [])
        codes = [int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode"]
        assert codes, outcome
        return self.seen[STDOUT], codes[0]

    def close(self):
        self.socket.close()
