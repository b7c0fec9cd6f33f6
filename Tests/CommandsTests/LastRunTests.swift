import Base
import Model
import TestSupport
import Testing

@testable import Commands

/// Where options come from if the command line does not set them: the last run, and what the agent's configuration
/// shows if that is lost.
@Suite struct LastRunTests {
  private static let recorded = "/var/lib/consul-bootstrap/options.json"
  private static let agent = "/etc/consul.d/00-consul-bootstrap.json"
  private static let machine = "/etc/consul-bootstrap/config.json"

  private func parse(
    _ arguments: [String], _ files: [String: String], environment: [String: String] = [:]
  ) throws -> Settings {
    let store = TestContext().files
    for (path, text) in files { store.put(path, text) }
    switch try OptionParser(files: store, isPattern: { _ in true }).parse(arguments, environment: environment) {
    case .bootstrap(let options), .command(_, let options): return options.settings
    case .help, .version: throw Failure(.usage, "help or version")
    }
  }

  private func failure(_ arguments: [String], _ files: [String: String]) -> Failure? {
    do {
      _ = try parse(arguments, files)
      return nil
    } catch { return error as? Failure }
  }

  // MARK: A run

  @Test func `a run without options uses those of the last run, and records them again`() throws {
    let text = #"{"datacenter":"east","group":["a","b"],"ui":"true"}"#
    let settings = try parse([], [Self.recorded: text])
    #expect(settings.datacenter == "east" && settings.membership == .groups(["a", "b"]) && settings.ui)
    #expect(settings.optionsOfLastRun == ["group", "datacenter", "ui"])
    #expect(JSONValue.object(settings.givenOptions).compactText == text)
  }

  /// A list that is given replaces the last run's.
  @Test func `options that are given are laid over those of the last run`() throws {
    let settings = try parse(
      ["--group", "c"], [Self.recorded: #"{"datacenter":"east","group":["a","b"],"expect":"3"}"#],
      environment: ["CONSUL_BOOTSTRAP_EXPECT": "5"])
    #expect(settings.membership == .groups(["c"]) && settings.expect == 5 && settings.datacenter == "east")
    #expect(settings.optionsOfLastRun == ["datacenter"])
    #expect(
      JSONValue.object(settings.givenOptions).compactText == #"{"datacenter":"east","expect":"5","group":["c"]}"#)
  }

  /// What the last run was given had been stronger than the machine's file, also where that has changed since.
  @Test func `the last run is stronger than the machine's file, and weaker than a file that is named`() throws {
    let files = [
      Self.recorded: #"{"datacenter":"last","consul-log-level":"warn"}"#,
      Self.machine: #"{"datacenter":"machine","ui":true}"#, "/c.json": #"{"datacenter":"named"}"#,
    ]
    let plain = try parse([], files)
    #expect(plain.datacenter == "last" && plain.ui && plain.consulLogLevel == "warn")
    let named = try parse(["--config", "/c.json"], files)
    #expect(named.datacenter == "named" && !named.ui && named.consulLogLevel == "warn")
  }

  @Test(arguments: [["--fresh"], ["--fresh", "--dry-run"]])
  func `a fresh run forgets the last one`(_ arguments: [String]) throws {
    let settings = try parse(arguments, [Self.recorded: #"{"datacenter":"east","ui":"true"}"#])
    #expect(settings == Settings())
    let variable = try parse([], [Self.recorded: #"{"ui":"true"}"#], environment: ["CONSUL_BOOTSTRAP_FRESH": "1"])
    #expect(!variable.ui)
    #expect(failure(["status", "--fresh"], [:])?.message == "--fresh is only for a run")
  }

  @Test func `of two alternatives the last run's gives way`() throws {
    let files = [Self.recorded: #"{"group":["a"],"gossip-key-create":"ssm:k"}"#]
    let tags = try parse(["--tag", "a=b", "--expect", "3", "--gossip-key", "ssm:other"], files)
    #expect(tags.membership == .tags([.init(key: "a", value: "b")]))
    #expect(tags.gossipKey?.description == "ssm:other" && !tags.createsGossipKey)
  }

  @Test func `a conflict with an option of the last run names it, and the way out`() {
    let failure = failure(["--role", "client", "--group", "servers"], [Self.recorded: #"{"expect":"3"}"#])
    #expect(failure?.message.hasPrefix("--expect cannot be combined with --role client") == true)
    #expect(failure?.details == ["the last run set --expect"])
    #expect(failure?.hint == "omit --expect; --fresh forgets the options of the last run")
  }

  /// Such a run would configure a server with defaults.
  @Test(arguments: ["", "{", #"{"exspect": 3}"#, #"{"expect": "x"}"#, "[]"])
  func `a run without options stops at damaged ones of the last run`(_ text: String) throws {
    for arguments in [[], ["--dry-run", "--json"]] {
      let failure = failure(arguments, [Self.recorded: text])
      #expect(failure?.status == .usage && failure?.message == "the options of the last run are damaged")
      #expect(failure?.details.first?.contains(Self.recorded) == true)
      #expect(failure?.hint == "run again with all options of this machine, or with --fresh if it needs none")
    }
    let given = try parse(["--datacenter", "east"], [Self.recorded: text])
    #expect(given.datacenter == "east" && given.lostOptions != nil)
    let fresh = try parse(["--fresh"], [Self.recorded: text])
    #expect(fresh == Settings())
  }

  @Test func `the state directory that is given has the options of its own last run`() throws {
    let settings = try parse(
      ["--state-dir", "/s"], ["/s/options.json": #"{"ui":"true","state-dir":"/s"}"#, Self.recorded: "{"])
    #expect(settings.ui && settings.stateDirectory == "/s")
  }

  // MARK: Recovery

  private static let server = #"{"server":true,"datacenter":"east","data_dir":"/d","ports":{"http":8600}}"#

  /// It once ended with status 2, and systemd started it again every 10 seconds.
  @Test(arguments: [nil, "", "{", #"{"exspect": 3}"#, #"{"expect": "x"}"#])
  func `the sidecar starts without its options, from the agent's configuration`(_ text: String?) throws {
    var files = [Self.agent: Self.server]
    if let text { files[Self.recorded] = text }
    let settings = try parse(["sidecar", "--config", Self.recorded], files)
    #expect(settings.lostOptions?.contains(Self.recorded) == true)
    #expect(settings.role == .server && settings.datacenter == "east" && settings.dataDirectory == "/d")
    #expect(settings.httpPort == 8600 && settings.givenOptions.isEmpty)
  }

  @Test func `a client whose options are lost is a client, although its servers are not known`() throws {
    let settings = try parse(
      ["sidecar", "--config", Self.recorded],
      [Self.agent: #"{"server":false,"datacenter":"not a label"}"#])
    #expect(settings.role == .client && settings.membership == .ownGroup && settings.datacenter == "dc1")
    #expect(settings.lostOptions?.hasSuffix("must be a DNS label: letters, digits and hyphens, at most 63") == true)
  }

  @Test func `a datacenter per zone shows in the WAN peers`() throws {
    let settings = try parse(
      ["sidecar", "--config", Self.recorded, "--config-dir", "/c"],
      ["/c/00-consul-bootstrap.json": #"{"server":true,"datacenter":"eu-west-1a","retry_join_wan":[]}"#])
    #expect(settings.layout == .datacenterPerAZ && settings.configDirectory == "/c")
  }

  @Test(arguments: ["status", "doctor"])
  func `status and doctor go on, and know what is lost`(_ command: String) throws {
    #expect(try parse([command], [Self.agent: Self.server, Self.recorded: "{"]).lostOptions?.contains("JSON") == true)
    #expect(
      try parse([command], [Self.agent: Self.server]).lostOptions
        == "\(Self.recorded) is missing: no run has succeeded, or the state directory was deleted")
    // No run has configured this machine.
    #expect(try parse([command], [:]).lostOptions == nil)
  }

  // MARK: A reload

  private func reread(_ arguments: [String], started: [String], _ files: [String: String]) throws -> Settings {
    let store = TestContext().files
    for (path, text) in files { store.put(path, text) }
    return try OptionParser(files: store, isPattern: { _ in true }).reread(
      arguments, environment: [:], started: try parse(started, [:]))
  }

  /// The supervising process was started with other options than those of the second run.
  @Test func `under supervise a reload takes the options of a run that came later`() throws {
    let arguments = ["--datacenter", "east", "--ui"]
    let own = try reread(arguments, started: arguments, [Self.recorded: #"{"datacenter":"east","ui":"true"}"#])
    #expect(own.ui)
    let other = try reread(arguments, started: arguments, [Self.recorded: #"{"datacenter":"east"}"#])
    #expect(!other.ui && other.datacenter == "east")
  }

  @Test func `a reload with damaged options keeps the present ones`() throws {
    #expect(throws: Failure.self) {
      try reread(["sidecar", "--config", Self.recorded], started: [], [Self.recorded: "{", Self.agent: Self.server])
    }
    #expect(throws: Failure.self) { try reread(["--ui"], started: ["--ui"], [Self.recorded: "{"]) }
  }
}
