import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The sidecar's sign of life, which `status` and `doctor` read.
@Suite(.timeLimit(.minutes(5))) struct SidecarReporterTests {
  private static let path = "/var/lib/consul-bootstrap/sidecar.json"
  private static let bootID = "11111111-aaaa-bbbb-cccc-222222222222"
  private var sidecar = SidecarFixture()

  init() { sidecar.context.files.put("/proc/sys/kernel/random/boot_id", Self.bootID + "\n") }

  private var report: SidecarReport? {
    sidecar.context.files.text(Self.path).flatMap { try? JSONValue(parsing: $0) }.flatMap { SidecarReport(json: $0) }
  }

  @Test(arguments: [(Duration.seconds(300), Duration.seconds(30)), (.seconds(5), .seconds(5))])
  func `it reports at the interval of its polls, and at least every 30 seconds`(
    _ polls: Duration, _ interval: Duration
  ) async throws {
    var sidecar = sidecar
    sidecar.settings.sidecarInterval = polls
    let clock = sidecar.context.clock
    try await sidecar.whileStaying { _ in
      try await clock.sleep(for: .seconds(1))
      #expect(report?.uptime == .zero && report?.interval == interval && report?.bootID == Self.bootID)
      try await clock.sleep(for: interval)
      #expect(report?.uptime == interval && report?.problems == [] && report?.agent == nil)
    }
  }

  /// It may wait for its metadata for ever: that is no dead sidecar.
  @Test func `one that cannot start yet reports, with the reason, until it does`() async throws {
    let consul = SidecarFixture.consul, files = sidecar.context.files, clock = sidecar.context.clock
    files.delete(consul)
    let task = Task { [sidecar] in try await sidecar.sidecar().run {} }
    try await clock.sleep(for: .seconds(40))
    #expect(report?.uptime == .seconds(30))
    #expect(report?.problems.first?.hasPrefix("the sidecar cannot start yet: Consul is not installed") == true)
    files.put(consul, "binary", mode: 0o755)
    try await clock.sleep(for: .seconds(120))
    #expect(report?.problems == [])
    task.cancel()
    try await task.value
  }

  @Test func `a report that cannot be written is logged once`() async throws {
    sidecar.context.files.fail(.write, Self.path, errno: 28)
    try await sidecar.whileStaying { _ in try await sidecar.context.clock.sleep(for: .seconds(100)) }
    #expect(sidecar.log.count { $0.hasPrefix("warning cannot write the sidecar's report") } == 1)
  }
}
