import Consul
import Testing

@testable import Base
@testable import Artifacts
@testable import Decisions
@testable import Model

func address(_ text: String) -> IPv4Address { IPv4Address(text)! }

/// A member as a healthy group has it; tests change what they are about.
func instance(
  _ id: String, _ ip: String? = nil, lifecycle: String? = "InService", state: String? = "running",
  vpc: String? = "vpc-1", group: String? = "g",
  zone: String = "eu-west-1a", publicIP: String? = nil, weight: Int? = nil, isListed: Bool = true
) -> Instance {
  Instance(
    instanceID: id, group: group, availabilityZone: zone, lifecycleState: lifecycle, instanceState: state,
    privateIP: ip.map(address), publicIP: publicIP.map(address), vpcID: vpc,
    weight: weight, isListed: isListed)
}

let me = Identity(
  instanceID: "i-2", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: address("10.0.1.10"),
  vpcID: "vpc-1")

/// Three members whose addresses sort otherwise as text.
let three = [instance("i-1", "10.0.1.9"), instance("i-2", "10.0.1.10"), instance("i-3", "10.0.2.100")]

func machine(
  data: DataDirectoryObservation = .init(content: nil, raftState: .none, isMount: false), recorded: String? = nil,
  running: Bool = false,
  systemd: Bool = false, unit: FileContent = .absent, configuration: CurrentConfiguration = .absent,
  version: ConsulVersion = ConsulVersion(1, 8, 7),
  others: [OtherConfigurationFile] = []
) -> MachineObservation {
  MachineObservation(
    consulPath: "/usr/bin/consul", consulVersion: version, isBootedBySystemd: systemd, hostName: "ip-10-0-1-10",
    agentOwner: FileOwner(user: 8500, group: 8500, userName: "consul", groupName: "consul"), dataDirectory: data,
    recordedInstanceID: recorded,
    configuration: configuration, unit: unit, agentIsRunning: running, otherConfigurationFiles: others)
}

/// Another file of the configuration directory, with this text.
func otherFile(_ name: String, _ text: String) -> OtherConfigurationFile {
  let path = "/etc/consul.d/\(name)"
  do {
    let syntax = ConfigurationSyntax(path: path) ?? .json
    return OtherConfigurationFile(path: path, .document(SecretDocument(try syntax.parse(Array(text.utf8)))))
  } catch {
    return OtherConfigurationFile(path: path, .notUnderstood(reason: "\(path), \(error.explanation)"))
  }
}

func observation(
  _ machine: MachineObservation = machine(), members: [Instance] = three, desired: Int? = 3,
  peers: [String: PeerAnswer] = [:], over: Bool = false
) -> Observation {
  Observation(
    identity: me, machine: machine,
    group: GroupObservation(
      instances: members,
      scalingGroups: desired.map {
        [.init(name: "g", desiredCapacity: $0, zones: ["eu-west-1a", "eu-west-1b"])]
      } ?? []),
    peers: Dictionary(uniqueKeysWithValues: peers.map { (address($0.key), $0.value) }), leaderWaitIsOver: over,
    time: Timestamp(iso8601: "2026-01-02T03:04:05Z")!)
}

func status(_ leader: String?, _ peers: [String]) -> PeerAnswer { .status(ClusterStatus(leader: leader, peers: peers)) }
