import Base
import Execution
import Model
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct ResolverConfiguratorTests {
  private let test = TestContext()
  private static let path = "/etc/dnsmasq.d/consul-bootstrap.conf"
  private static let names = ["consul.service.consul", "ec2.eu-west-1.amazonaws.com"]
  private static let restart = Command("/bin/systemctl", ["restart", "dnsmasq.service"])
  private static let server = "127.0.0.1"
  private static let undone =
    "error names do not resolve through the agent; reverted the change of /etc/dnsmasq.d/consul-bootstrap.conf "
  private static let hint =
    #" hint="check that this machine uses the resolver (/etc/resolv.conf), and query the agent: "#
    + #"dig @127.0.0.1 consul.service.consul""#

  private func step(originalText: String? = nil, restart: Command? = restart) throws -> Step {
    .resolveThroughAgent(
      ResolverConfiguration(
        path: Self.path, text: "server=/consul/127.0.0.1#8600\n", originalText: originalText, restart: restart,
        server: try #require(IPv4Address(Self.server)), names: Self.names))
  }

  private func answerAll() { for name in Self.names { test.resolver.answer(name, ["10.0.1.10"]) } }

  @Test func `names that resolve keep the change`() async throws {
    test.launcher.run("/bin/systemctl")
    answerAll()
    #expect(try await test.perform(step()) == .done)
    #expect(
      test.files.changes == [
        .createDirectory("/etc/dnsmasq.d", mode: 0o755, owner: nil), .write(Self.path, mode: 0o644, owner: nil),
      ])
    #expect(test.launcher.launches == [.init(kind: .run, command: Self.restart, timeout: .seconds(30))])
    #expect(test.resolver.queries.map(\.name) == Self.names)
    #expect(Set(test.resolver.queries.map { "\($0.server):\($0.port)" }) == ["127.0.0.1:53"])
    #expect(
      test.sink.lines.first == "info names resolve through the agent "
        + #"names=["consul.service.consul","ec2.eu-west-1.amazonaws.com"]"#)
  }

  @Test func `an unchanged file is tested without a restart`() async throws {
    test.launcher.run("/bin/systemctl")
    answerAll()
    try await test.perform(step())
    #expect(try await test.perform(step()) == .alreadyDone)
    #expect(test.launcher.launches.count == 1 && test.resolver.queries.count == 4)
  }

  @Test func `a resolver that reads its file at each query is not restarted`() async throws {
    answerAll()
    #expect(try await test.perform(step(restart: nil)) == .done)
    #expect(test.launcher.launches.isEmpty)
  }

  /// The agent serves `consul.service.consul` some seconds after an election.
  @Test func `a name that comes late is waited for, and one that resolves is not queried again`() async throws {
    test.launcher.run("/bin/systemctl")
    test.resolver.fail(Self.names[0], "no such name")
    test.resolver.answer(Self.names[1], ["52.0.0.1"])
    async let outcome = test.perform(step())
    try await test.clock.sleep(for: .milliseconds(3100))
    test.resolver.answer(Self.names[0], ["10.0.1.10"])
    #expect(try await outcome == .done)
    #expect(test.clock.uptime() == .milliseconds(3250))
    #expect(test.resolver.queries.count { $0.name == Self.names[0] } == 14)
    #expect(test.resolver.queries.count { $0.name == Self.names[1] } == 1)
  }

  @Test func `names that never resolve undo the change after 15 seconds`() async throws {
    test.launcher.run("/bin/systemctl")
    test.resolver.fail(Self.names[0], "no such name")
    test.resolver.answer(Self.names[1], [])
    #expect(try await test.perform(step()) == .alreadyDone)
    #expect(test.clock.uptime() == .seconds(15))
    #expect(!test.files.exists(Self.path))
    #expect(test.launcher.commands == Array(repeating: "/bin/systemctl restart dnsmasq.service", count: 2))
    #expect(
      test.sink.lines.first == Self.undone
        + #"reasons=["consul.service.consul: no such name","ec2.eu-west-1.amazonaws.com: no address"]"# + Self.hint)
  }

  @Test func `the file of the machine is restored, not removed`() async throws {
    test.files.put(Self.path, "nameserver 10.0.0.2\n")
    test.resolver.silence(server: Self.server)
    #expect(try await test.perform(step(originalText: "nameserver 10.0.0.2\n", restart: nil)) == .alreadyDone)
    #expect(test.files.text(Self.path) == "nameserver 10.0.0.2\n")
    #expect(test.clock.uptime() >= .seconds(15) && test.clock.uptime() <= .seconds(18))
  }

  /// A machine without names is worse off than one without Consul's.
  @Test func `a resolver that does not restart is undone without a query`() async throws {
    test.launcher.run("/bin/systemctl")
    test.launcher.run("/bin/systemctl", end: .exited(1), output: "warning\nbad option in line 3\n", times: 1)
    #expect(try await test.perform(step()) == .alreadyDone)
    #expect(!test.files.exists(Self.path) && test.resolver.queries.isEmpty)
    #expect(
      test.sink.lines.first == Self.undone
        + #"reasons=["`/bin/systemctl restart dnsmasq.service`: exit status 1: bad option in line 3"]"# + Self.hint)
  }

  /// It once left the change in place, untested.
  @Test func `a restart that cannot be run is undone, too, and reported twice`() async throws {
    test.launcher.fail("/bin/systemctl")
    #expect(try await test.perform(step()) == .alreadyDone)
    #expect(!test.files.exists(Self.path))
    let reason = "`/bin/systemctl restart dnsmasq.service`: execute /bin/systemctl: No such file or directory"
    #expect(
      test.sink.lines.prefix(2) == [
        "\(Self.undone)reasons=[\"\(reason)\"]\(Self.hint)",
        "error cannot restart the resolver after the undo reason=\"\(reason)\"",
      ])
  }

  @Test(arguments: [
    (Int32(30), "Read-only file system", "remount the file system of \(path) read-write, or choose another directory"),
    (28, "No space left on device", "free space on the file system of \(path)"),
  ])
  func `a file that cannot be written is named with the cause`(_ errno: Int32, _ reason: String, _ hint: String)
    async throws
  {
    test.files.fail(.write, Self.path, errno: errno)
    #expect(
      try await test.failure(of: step())
        == Failure(
          .configurationRejected,
          "cannot write \(Self.path) and resolve consul.service.consul, ec2.eu-west-1.amazonaws.com; "
            + "revert it if that fails", details: ["write \(Self.path): \(reason)"], hint: hint))
    #expect(test.launcher.launches.isEmpty)
  }
}
