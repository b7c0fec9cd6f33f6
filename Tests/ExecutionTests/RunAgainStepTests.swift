import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Execution

/// Steps of a run beside an agent, and a cluster, that exist already.
@Suite(.timeLimit(.minutes(5))) struct RunAgainStepTests {
  private let test = TestContext()

  private func change() throws -> Step {
    var settings = Settings()
    settings.cleanupDeadServers = false
    settings.lastContactThreshold = .seconds(90)
    return .setAutopilot(
      try #require(AutopilotChange(settings, agentAddress: "127.0.0.1:8500", token: Secret("operator"))))
  }

  // MARK: Autopilot

  @Test func `what differs is set, the rest stays, and a repetition changes nothing`() async throws {
    let agent = FakeConsulAgent(test) { $0.requiredToken = "operator" }
    agent.set {
      $0.autopilot = ["CleanupDeadServers": true, "LastContactThreshold": "1m30s", "MaxTrailingLogs": 250]
    }
    #expect(try await test.perform(change()) == .done)
    #expect(
      agent.autopilot == ["CleanupDeadServers": false, "LastContactThreshold": "1m30s", "MaxTrailingLogs": 250])
    #expect(try await test.perform(change()) == .alreadyDone)
    #expect(agent.autopilotWrites == 1)
    let record = try await test.sink.record(containing: "set autopilot's CleanupDeadServers of the cluster")
    #expect(record.attributes.contains { $0.key == "option" && $0.value == "--cleanup-dead-servers" })
  }

  /// Without the check, the other program's change would be lost.
  @Test func `a change by another program meanwhile is read, and kept`() async throws {
    let agent = FakeConsulAgent(test)
    agent.set {
      $0.autopilot = ["CleanupDeadServers": true, "LastContactThreshold": "1m30s", "MaxTrailingLogs": 250]
      $0.autopilotConflicts = 2
    }
    #expect(try await test.perform(change()) == .done)
    #expect(agent.autopilot["CleanupDeadServers"] == false)
    agent.set {
      $0.autopilot["CleanupDeadServers"] = true
      $0.autopilotConflicts = 3
    }
    #expect(
      try await test.failure(of: change())?.details == [
        "another program changed autopilot's configuration 3 times meanwhile"
      ])
  }

  @Test func `a refusal names the options and the permission`() async throws {
    _ = FakeConsulAgent(test) { $0.requiredToken = "another" }
    let failure = try await test.failure(of: change())
    #expect(failure?.message == "cannot apply --cleanup-dead-servers, --last-contact-threshold")
    #expect(failure?.details == ["HTTP 403: Permission denied"])
    #expect(failure?.hint?.contains("operator:write") == true)
  }

  // MARK: The supervisor

  private let supervision = Supervision(pid: 4711, lockPath: "/s/supervisor.lock")

  private func hold(by pid: Int32) throws {
    test.files.put("/s/supervisor.lock", "4711\n")
    let inode = try #require(try test.files.open("/s/supervisor.lock")).identity.inode
    test.files.put("/proc/locks", "1: FLOCK  ADVISORY  WRITE \(pid) fe:00:\(inode) 0 EOF\n")
  }

  @Test func `the process that holds the supervisor's lock gets SIGHUP`() async throws {
    try hold(by: 4711)
    #expect(try await test.perform(.reloadSupervisor(supervision, restartKeys: [])) == .done)
    #expect(test.system.signals == ["1 4711"])
  }

  /// Its process ID may have become another program's, which SIGHUP would end.
  @Test func `no other process gets it`() async throws {
    try hold(by: 4712)
    let failure = try await test.failure(of: .reloadSupervisor(supervision, restartKeys: []))
    #expect(failure?.message == "the process that supervised the agent has ended")
    test.files.put("/proc/locks", "")
    #expect(try await test.failure(of: .reloadSupervisor(supervision, restartKeys: [])) != nil)
    #expect(test.system.signals.isEmpty)
  }

  @Test func `options are recorded for root alone to read and write`() async throws {
    test.files.makeDirectory("/s")
    let step = Step.recordOptions(path: "/s/options.json", text: "{}\n")
    #expect(try await test.perform(step) == .done)
    #expect(try test.files.status("/s/options.json")?.mode == 0o640)
    #expect(try await test.perform(step) == .alreadyDone)
  }
}
