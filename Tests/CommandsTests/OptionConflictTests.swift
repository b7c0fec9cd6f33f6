internal import Model
import Base
import TestSupport
import Testing

@testable import Commands
@testable import Decisions

/// Every option against every layout and role: what does not go together, and what does.
@Suite struct OptionConflictTests {
  /// What an option needs beside itself, whatever the layout and role.
  static let companions: [String: [String]] = [
    "agent-token": ["--acl-default-policy", "deny"], "tls-cert": ["--tls-key", "ssm:k", "--tls-ca", "ssm:ca"],
    "tls-key": ["--tls-cert", "ssm:c", "--tls-ca", "ssm:ca"], "verify-outgoing": ["--tls-ca", "ssm:ca"],
    "verify-server-hostname": ["--tls-ca", "ssm:ca"], "tls-auto-encrypt": ["--tls-ca", "ssm:ca"],
    "image": ["--start", "docker"],
    "registrator": ["--start", "docker", "--image", "i"], "log-agent": ["--log", "file:/x"],
    "metrics": ["--log", "file:/x"], "on-total-loss": ["--cluster-record", "ssm:/c"],
  ]
  static let layouts: [(name: String, options: [String])] = [
    ("server", []), ("server per zone", ["--layout", "datacenter-per-az"]), ("client", ["--role", "client"]),
    ("client per zone", ["--role", "client", "--layout", "datacenter-per-az"]),
  ]
  static let serversOnly: Set = [
    "assume-dead", "cluster-record", "on-total-loss", "expect", "join", "leader-wait", "wan-wait", "require-wan",
    "wan-address", "gossip-key-create",
    "raft-multiplier",
    "server-stabilization-time",
    "cleanup-dead-servers", "last-contact-threshold", "min-quorum",
  ]
  static let perZoneOnly: Set = ["wan-wait", "require-wan", "wan-address", "datacenter-from"]

  private func failure(_ arguments: [String]) -> Failure? {
    do {
      _ = try OptionParser(files: OneFile(path: "/m.json", text: "{}"), isPattern: { $0 != "(" }).parse(
        arguments, environment: [:])
      return nil
    } catch { return error as? Failure }
  }

  @Test(arguments: Option.all)
  func `an option goes with exactly the layouts and roles that have a use for it`(_ option: Option) {
    let name = option.name
    for layout in Self.layouts {
      let isClient = layout.name.hasPrefix("client"), isPerZone = layout.name.hasSuffix("zone")
      // The layout's own option is not said twice; servers and clients need to be found somehow.
      guard !layout.options.contains("--\(name)"), !(name == "role" && isClient) else { continue }
      let membership = name == "tag" ? (isClient ? [] : ["--expect", "3"]) : name == "group" ? [] : ["--group", "g"]
      let arguments = ["--\(name)=\(option.example)"] + (Self.companions[name] ?? []) + layout.options + membership
      let refused =
        isClient && Self.serversOnly.contains(name) || !isPerZone && Self.perZoneOnly.contains(name)
        || isPerZone && name == "datacenter"
      let failure = failure(arguments)
      #expect((failure != nil) == refused, "\(layout.name): \(arguments): \(failure?.message ?? "accepted")")
      if let failure {
        #expect(failure.status == .usage && failure.message.contains("--\(name)") && failure.hint != nil)
      }
    }
  }

  @Test(arguments: [
    "/consul/web", "ssm:consul", "ssm:/consul/", "ssm:/consul//web", "ssm:/aws/web", "ssm:/ssm", "ssm:/a b", "ssm:/",
    "ssm:/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
  ])
  func `a record's path is one that Parameter Store accepts, with room for a zone and an entry`(_ value: String) {
    #expect(
      failure(["--cluster-record", value])?.message
        == "--cluster-record: \"\(value)\" must be ssm: and the path of a parameter, "
        + "for example ssm:/consul/web/cluster"
    )
  }

  @Test(arguments: [
    ("--role client", "--role client requires --group or --tag"),
    ("--gossip-key ssm:a --gossip-key-create ssm:b", "--gossip-key and --gossip-key-create are mutually exclusive"),
    (
      "--gossip-key-create secretsmanager:a",
      "--gossip-key-create: the value must be ssm:NAME; only parameters can be created"
    ),
    ("--on-total-loss new", "--on-total-loss requires --cluster-record"),
    ("--tls-cert ssm:a", "--tls-cert and --tls-key require each other"),
    ("--tls-cert ssm:a --tls-key ssm:b", "--tls-cert requires --tls-ca"),
    ("--verify-incoming true --tls-ca ssm:a", "--verify-incoming requires --tls-ca, --tls-cert and --tls-key"),
    ("--verify-outgoing true", "--verify-outgoing, --verify-server-hostname and --tls-auto-encrypt need --tls-ca"),
    ("--tls-auto-encrypt --tls-ca ssm:a", "--tls-auto-encrypt on a server requires --tls-cert and --tls-key"),
    (
      "--role client --group g --tls-auto-encrypt --tls-ca ssm:a --tls-cert ssm:b --tls-key ssm:c",
      "--tls-auto-encrypt on a client cannot be combined with --tls-cert"
    ),
    ("--agent-token ssm:a", "--agent-token requires --acl-default-policy"),
    ("--production", "--production requires --gossip-key or --gossip-key-create"),
    (
      "--production --gossip-key ssm:a",
      "--production requires --tls-ca, and --tls-cert and --tls-key or on clients --tls-auto-encrypt"
    ),
    (
      "--production --gossip-key ssm:a --tls-ca ssm:b --tls-cert ssm:c --tls-key ssm:d --verify-outgoing false",
      "--production conflicts with an option that weakens it"
    ),
    (
      "--production --gossip-key ssm:a --tls-ca ssm:b --tls-cert ssm:c --tls-key ssm:d --acl-default-policy allow",
      "--production conflicts with an option that weakens it"
    ),
    ("--start docker", "--start docker requires --image"),
    ("--image i", "--image and --registrator need --start docker"),
    ("--start docker --image i --consul /c", "--consul cannot be combined with --start docker"),
    ("--dns-reverse", "--dns-reverse requires --dns systemd-resolved or --dns dnsmasq"),
    ("--dns port-53 --dns-reverse", "--dns-reverse requires --dns systemd-resolved or --dns dnsmasq"),
    ("--start none --log consul", "--log consul cannot be combined with --start none"),
    (
      "--log syslog:x",
      #"--log: "syslog:x" must be one of consul, bootstrap, syslog, journal, journal:UNIT, file:/PATH"#
    ),
    (
      "--log file:/x/*/a.log",
      #"--log: "file:/x/*/a.log" must be file:/PATH, with * and ? in its last part only"#
    ),
    ("--log file:/x --log file:/x", #"--log: "file:/x" is a duplicate: a source has one stream"#),
    (
      #"--log {"source":"consul","group":"a:b"}"#,
      #"""
      --log: "{"source":"consul","group":"a:b"}" has a group that must be a name that CloudWatch Logs takes, \#
      with fields of these: {az}, {datacenter}, {group}, {hostname}, {instance_id}, {source}
      """#
    ),
    (
      #"--log {"source":"consul","color":1}"#,
      #"""
      --log: "{"source":"consul","color":1}" has an unknown member color; \#
      known are source, group, stream, retention, multiline-start, timestamp-key
      """#
    ),
    (#"--log {"group":"a"}"#, #"--log: "{"group":"a"}" needs a source, for example "file:/var/log/app.log""#),
    ("--log {x", #"--log: "{x" begins with { but is not a JSON object"#),
    (
      "--multiline-start (",
      #"--multiline-start: "(" must be a POSIX extended regular expression (regex(7)), or indentation"#
    ),
    ("--log-memory 8", #"--log-memory: "8" must be a size such as 8MiB, from 1MiB to 1024MiB"#),
    (
      "--log-retention 31",
      #"""
      --log-retention: "31" must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, \#
      1827, 2192, 2557, 2922, 3288, 3653
      """#
    ),
    (
      "--metrics 0.0.0.0:9107",
      #"--metrics: "0.0.0.0:9107" must be unix:/PATH or 127.0.0.1:PORT; metrics are served on this machine only"#
    ),
    ("--log-agent awslogs", "--log-agent requires --log"),
    ("--log-agent awslogs --log consul", "--log-agent reads files only"),
    ("--log-agent awslogs --log file:/x --log-tag a=b", "--log-agent cannot be combined with --log-tag"),
    ("--metrics 127.0.0.1:1", "--metrics requires --log"),
    ("--start none --dns port-53", "--dns cannot be combined with --start none"),
  ])
  func `what does not go together`(_ line: String, _ message: String) {
    #expect(failure(line.split(separator: " ").map(String.init))?.message == message)
  }

  @Test(arguments: ["gossip-key", "gossip-key-create", "agent-token", "tls-ca", "tls-cert", "tls-key"])
  func `a secret itself is refused wherever it stands, and not repeated`(_ name: String) {
    let secret = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
    let variable = "CONSUL_BOOTSTRAP_" + name.uppercased().replacing("-", with: "_")
    for (arguments, environment, file) in [
      (["--\(name)", secret], [:], nil), ([], [variable: secret], nil), ([], [:], #"{"\#(name)": "\#(secret)"}"#),
    ] as [([String], [String: String], String?)] {
      do {
        _ = try OptionParser(files: OneFile(text: file), isPattern: { $0 != "(" }).parse(
          arguments, environment: environment)
        Issue.record("accepted")
      } catch let failure as Failure {
        #expect(failure.status == .usage && !failure.lines.joined().contains(secret))
        #expect(failure.message.contains("ssm:NAME"))
      } catch { Issue.record("\(error)") }
    }
  }

  @Test func `the sidecar is asked with what the run was asked with, and nothing of the run itself`() throws {
    guard
      case .bootstrap(let options) = try OptionParser(files: OneFile(), isPattern: { $0 != "(" }).parse(
        ["--group", "a", "--group=b", "--expect", "3", "--json", "--log-level", "debug"],
        environment: ["CONSUL_BOOTSTRAP_UI": "true"])
    else {
      Issue.record("no run")
      return
    }
    let text = JSONValue.object(options.settings.givenOptions).compactText
    #expect(text == #"{"expect":"3","group":["a","b"],"log-level":"debug","ui":"true"}"#)
    let path = options.settings.sidecarConfigurationPath
    let file = OneFile(path: path, text: text)
    guard
      case .command(.sidecar, let again) = try OptionParser(files: file, isPattern: { $0 != "(" }).parse(
        ["sidecar", "--config", path], environment: [:])
    else {
      Issue.record("no sidecar")
      return
    }
    #expect(again.settings == options.settings)
  }

  /// It may be changed, and is read again at a reload.
  @Test func `the machine's own configuration file stays where it is, below what the run was given`() throws {
    let files = TwoFiles(
      machine:
        #"""
        {"expect": 3, "log": ["consul", {"source": "file:/var/log/app.log", "retention": 30, \#
        "multiline-start": "indentation"}]}
        """#,
      options: #"{"ui": "true", "expect": "5"}"#)
    guard
      case .bootstrap(let run) = try OptionParser(files: files, isPattern: { $0 != "(" }).parse(
        ["--ui"], environment: [:]),
      case .command(.sidecar, let sidecar) = try OptionParser(files: files, isPattern: { $0 != "(" }).parse(
        ["sidecar", "--config", Settings().sidecarConfigurationPath], environment: [:]),
      case .command(.status, let status) = try OptionParser(files: files, isPattern: { $0 != "(" }).parse(
        ["status"], environment: [:])
    else {
      Issue.record("other requests")
      return
    }
    // The last run was given 5 where the machine's file had 3 already, or has it since.
    #expect(JSONValue.object(run.settings.givenOptions).compactText == #"{"expect":"5","ui":"true"}"#)
    #expect(run.settings.expect == 5 && run.settings.optionsOfLastRun == ["expect"])
    #expect(sidecar.settings.ui && sidecar.settings.expect == 5 && sidecar.settings.logs == run.settings.logs)
    #expect(status.settings.ui && status.settings.expect == 5)
    var app = Settings.LogRequest(source: .file(FilePattern("/var/log/app.log")!))
    app.retention = 30
    app.multilineStart = "^[^[:blank:]]"
    #expect(run.settings.logs == [Settings.LogRequest(source: .consul), app])
  }

  private struct TwoFiles: FileReader {
    let machine: String
    let options: String
    func status(_ path: String) throws(FileError) -> FileStatus? { forgotten("the status of \(path)") }
    func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
      Array((path == "/etc/consul-bootstrap/config.json" ? machine : options).utf8)
    }
    func isLink(_ path: String) -> Bool { forgotten("whether \(path) is a link") }
    func resolvedPath(_ path: String) -> String { forgotten("where \(path) leads") }
    func list(_ directory: String) throws(FileError) -> [String] { forgotten("a list of \(directory)") }
  }
}
