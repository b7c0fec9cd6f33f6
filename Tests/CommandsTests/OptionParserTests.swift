internal import Model
import Base
import TestSupport
import Testing

@testable import Commands
@testable import Decisions

struct OneFile: FileReader {
  var path = "/etc/consul-bootstrap/config.json"
  var text: String?
  /// Of an error that reading it gives.
  var errno: Int32?

  func status(_ path: String) throws(FileError) -> FileStatus? { forgotten("the status of \(path)") }
  func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    if let errno, path == self.path { throw FileError("read", path, errno: errno, reason: "error \(errno)") }
    guard path == self.path, let text else {
      throw FileError("read", path, errno: 2, reason: "No such file or directory")
    }
    return Array(text.utf8)
  }
  func isLink(_ path: String) -> Bool { forgotten("whether \(path) is a link") }
  func resolvedPath(_ path: String) -> String { forgotten("where \(path) leads") }
  func list(_ directory: String) throws(FileError) -> [String] { forgotten("a list of \(directory)") }
}

@Suite struct OptionParserTests {
  private func parse(_ arguments: [String], _ environment: [String: String] = [:], file: OneFile = OneFile()) throws
    -> Options
  {
    guard
      case .bootstrap(let options) = try OptionParser(files: file, isPattern: { $0 != "(" }).parse(
        arguments, environment: environment)
    else {
      throw Failure(.usage, "help or version")
    }
    return options
  }

  private func failure(_ arguments: [String], _ environment: [String: String] = [:], file: OneFile = OneFile())
    -> Failure?
  {
    do {
      _ = try parse(arguments, environment, file: file)
      return nil
    } catch { return error as? Failure }
  }

  @Test func `the command line wins over the environment, which wins over the file`() throws {
    let file = OneFile(text: #"{"expect": 3, "datacenter": "from-file", "group": ["x"], "ui": true}"#)
    let options = try parse(
      ["--expect=7", "--group", "a", "--group=b"],
      [
        "CONSUL_BOOTSTRAP_EXPECT": "5", "CONSUL_BOOTSTRAP_DATACENTER": "from-environment",
        "CONSUL_BOOTSTRAP_GROUP": "c,d",
      ],
      file: file)
    #expect(options.settings.expect == 7)
    #expect(options.settings.datacenter == "from-environment")
    #expect(options.settings.membership == .groups(["a", "b"]))
    #expect(options.settings.ui)
  }

  @Test(arguments: [
    (["--exepct", "5"], "unknown option --exepct", "did you mean --expect?"),
    (["--expect"], "--expect needs a value", "consul-bootstrap --help explains --expect"),
    (
      ["--expect", "0"], #"--expect: "0" must be a number from 1 to 1000"#, "consul-bootstrap --help explains --expect"
    ),
    (["--expect", "3", "--expect", "5"], "--expect is set twice", "set it once"),
    (
      ["--wait-timeout", "10"], #"--wait-timeout: "10" must be a duration such as 90s, 10m or 1h30m, from 1ms to 24h"#,
      "consul-bootstrap --help explains --wait-timeout"
    ),
    (["--join", "some"], #"--join: "some" must be all, leader"#, "consul-bootstrap --help explains --join"),
    (["--tag", "Name"], #"--tag: "Name" must be KEY=VALUE"#, "consul-bootstrap --help explains --tag"),
    (["--tag", "Name=consul"], "--tag requires --expect", "set the number of servers, for example --expect 5"),
    (
      ["--group", "a", "--tag", "a=b"], "--group and --tag are mutually exclusive",
      "discover the servers by group or by tag, not both"
    ),
    (
      ["--data-dir", "opt/consul"], #"--data-dir: "opt/consul" must be an absolute path"#,
      "consul-bootstrap --help explains --data-dir"
    ),
    (
      ["--datacenter", "not_a_label"],
      #"--datacenter: "not_a_label" must be a DNS label: letters, digits and hyphens, at most 63"#,
      "consul-bootstrap --help explains --datacenter"
    ),
    (
      ["--sidecar-interval", "999ms"],
      #"--sidecar-interval: "999ms" must be a duration such as 90s, 10m or 1h30m, from 1s to 24h"#,
      "consul-bootstrap --help explains --sidecar-interval"
    ),
    (
      ["--log", "syslog", "--log-agent", "awslogs", "--log-agent-patience", "1ms"],
      #"--log-agent-patience: "1ms" must be a duration such as 90s, 10m or 1h30m, from 1s to 24h"#,
      "consul-bootstrap --help explains --log-agent-patience"
    ),
    (["--set", "bootstrap_expect=1"], "--set bootstrap_expect sets bootstrap_expect", "use --expect"),
    (["--set", "Bootstrap_Expect=1"], "--set Bootstrap_Expect sets bootstrap_expect", "use --expect"),
    (
      ["--set", #"acl.tokens.agent="k""#], "--set acl.tokens.agent is a secret",
      "write it into a file that only root can read, and merge it with --merge FILE"
    ),
    (
      ["bootstrap"], "unknown command bootstrap",
      """
      the commands are sidecar, before-start, leave, recover, status, doctor, iam-policy, install, uninstall, \
      completion, man; see consul-bootstrap --help
      """
    ),
    (
      ["sidecar", "--dry-run"], "--dry-run cannot be combined with sidecar",
      "consul-bootstrap --dry-run shows what a run would do, its sidecar included"
    ),
    (["--config", "/nowhere"], "there is no configuration file /nowhere", "correct --config"),
  ])
  func `an error names its cause and a hint`(_ arguments: [String], _ message: String, _ hint: String) {
    let failure = failure(arguments)
    #expect(failure?.status == .usage)
    #expect(failure?.message == message)
    #expect(failure?.hint == hint)
  }

  @Test func `unknown variables and keys are refused with the nearest known one`() {
    #expect(failure([], ["CONSUL_BOOTSTRAP_EXPCT": "5"])?.hint == "did you mean CONSUL_BOOTSTRAP_EXPECT?")
    #expect(failure([], file: OneFile(text: #"{"exspect": 5}"#))?.hint == "did you mean expect?")
  }

  /// An error without a hint left the user with its cause alone.
  @Test(arguments: [
    ("{", "is not JSON", #"write one JSON object, for example {"expect": 5}"#),
    ("[]", "is not a JSON object", #"write one JSON object, for example {"expect": 5}"#),
    (#"{"expect": [5]}"#, ": expect takes one value, not a list", "write the value without brackets"),
    (#"{"ui": null}"#, ": ui must be a string, a number or a boolean", #"write "ui": "true", for example"#),
    (#"{"group": [{}]}"#, ": group must be a string, a number or a boolean", #"write "group": ["n"], for example"#),
  ])
  func `a configuration file that is not valid is named with a hint`(_ text: String, _ message: String, _ hint: String)
  {
    let path = "/etc/consul-bootstrap/config.json", failure = failure([], file: OneFile(text: text))
    #expect(failure?.status == .usage && failure?.hint == hint)
    #expect(failure?.message == path + (message.hasPrefix(":") ? message : " \(message)"))
  }

  @Test func `files that cannot be read are named with a hint`() {
    let path = "/etc/consul-bootstrap/config.json"
    let unreadable = { (errno: Int32, hint: String) in
      Failure(
        .usage, "cannot read the configuration file", details: ["read \(path): error \(errno)"], hint: hint)
    }
    #expect(
      failure([], file: OneFile(errno: 13)) == unreadable(13, "run as root, or make \(path) readable"))
    #expect(failure([], file: OneFile(errno: 5)) == unreadable(5, "repair \(path) or its file system"))
    #expect(
      failure(["--merge", "/m.json"])
        == Failure(
          .usage, "cannot read the file of --merge", details: ["read /m.json: No such file or directory"],
          hint: "correct --merge, or the permissions of /m.json"))
    #expect(
      failure(["--merge", "/m.json"], file: OneFile(path: "/m.json", text: "[]"))?.hint
        == #"write one JSON object, for example {"ports": {"dns": 53}}"#)
  }

  @Test func `a value that may be a secret is not repeated`() {
    let message = failure(["--set", "encrypt=not-json-secret"])?.message ?? ""
    #expect(message.contains("encrypt") && !message.contains("not-json-secret"))
  }

  @Test func `durations add up, sets nest, lists in variables take JSON`() throws {
    let options = try parse(
      ["--wait-timeout", "1h1m1s", "--set", "a.b.c=[1]"],
      ["CONSUL_BOOTSTRAP_TAG": #"["a=1,2","b="]"#, "CONSUL_BOOTSTRAP_EXPECT": "3"])
    #expect(options.settings.waitTimeout == .seconds(3661))
    #expect(options.settings.overlays.map(\.value.value) == [["a": ["b": ["c": [1]]]]])
    #expect(options.settings.membership == .tags([.init(key: "a", value: "1,2"), .init(key: "b", value: "")]))
  }

  @Test func `help names every option, its default and every exit status`() {
    for option in Option.all {
      #expect(Help.text(width: 80).contains("--\(option.name)"))
    }
    for status in ExitStatus.allCases { #expect(Help.text(width: 120).contains(status.meaning)) }
    for width in [60, 80, 120] {
      // What has no blank cannot be broken, and stands by itself.
      let long = Help.text(width: width).split(separator: "\n").filter {
        $0.count > width && !$0.hasPrefix("  -") && !$0.hasPrefix("       consul")
      }
      #expect(long.allSatisfy { $0.split(separator: " ").count == 1 }, "\(long)")
    }
  }

  /// Guards against help that promises another default than the settings have.
  @Test(arguments: Option.all)
  func `a default in help is the setting's own`(_ option: Option) throws {
    guard case .value(let text)? = option.defaultValue else { return }
    var options = Options()
    try option.apply(text, &options)
    #expect(options == Options(), "--\(option.name) \(text)")
  }

  @Test(arguments: Option.all)
  func `an example is a valid value that changes something, unless it is the default`(_ option: Option) throws {
    var options = Options()
    try option.apply(option.example, &options)
    if case .value(option.example)? = option.defaultValue { return }
    if option.shape == .flag, option.example == "false" { return }
    #expect(options != Options(), "--\(option.name) \(option.example)")
  }
}
