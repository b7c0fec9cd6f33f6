import Base
import Consul
import Testing

@testable import Decisions
@testable import Model

/// The draft of a first boot covers the configuration of the new cluster, and of nothing else.
@Suite struct ConfigurationDraftTests {
  private func file(_ observation: Observation, _ settings: Settings) throws -> ConfigurationFile {
    try Plan(observation, settings).sidecarSteps.configuration
  }

  /// The observation before AWS and the other servers are asked.
  private func first(_ observation: Observation) -> Observation {
    var first = observation
    first.group = nil
    first.peers = [:]
    return first
  }

  @Test(arguments: [nil, 3])
  func `a new cluster is covered, whatever the number of its servers`(_ expect: Int?) throws {
    var settings = Settings()
    settings.expect = expect
    let seen = observation(machine())
    let draft = try #require(Plan.draft(first(seen), settings))
    let final = try file(seen, settings)
    #expect(final.text != draft.text && final.isCovered(by: draft))
  }

  @Test func `a server that joins is not covered`() throws {
    var seen = observation(machine())
    seen.peers[address("10.0.1.9")] = status("10.0.1.9:8300", ["10.0.1.9:8300"])
    let draft = try #require(Plan.draft(first(seen), Settings()))
    #expect(try !file(seen, Settings()).isCovered(by: draft))
  }

  @Test func `other settings are not covered`() throws {
    let seen = observation(machine())
    let draft = try #require(Plan.draft(first(seen), Settings()))
    var settings = Settings()
    settings.ui.toggle()
    #expect(try !file(seen, settings).isCovered(by: draft))
    settings = Settings()
    settings.configDirectory = "/srv/consul.d"
    #expect(try !file(seen, settings).isCovered(by: draft))
  }

  @Test func `there is none for clients, for Consul in an image, or for a machine that has run before`() throws {
    var settings = Settings()
    settings.role = .client
    #expect(Plan.draft(first(observation(machine())), settings) == nil)
    settings = Settings()
    settings.image = "consul:1.20"
    #expect(Plan.draft(first(observation(machine())), settings) == nil)
    for change in [
      { (machine: inout MachineObservation) in machine.agentIsRunning = true },
      { $0.dataDirectory = .init(content: nil, raftState: .present(evidence: "raft.db"), isMount: false) },
      { $0.configuration = CurrentConfiguration(.present(Secret("{}"))) },
    ] {
      var machine = machine()
      change(&machine)
      #expect(Plan.draft(first(observation(machine)), Settings()) == nil)
    }
  }
}
