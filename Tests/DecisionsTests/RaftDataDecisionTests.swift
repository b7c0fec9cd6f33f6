import Base
import Consul
import Testing

@testable import Decisions
@testable import Model

/// A server that was removed while it was off must not campaign with its old data.
struct RaftDataDecisionTests {
  private static let own: Set = ["10.0.1.1:8300", "10.0.1.77:8300"]

  private func decide(_ answers: [String: PeerAnswer]) -> RaftDataDecision {
    RaftDataDecision(
      ownAddresses: Self.own,
      answers: Dictionary(uniqueKeysWithValues: answers.map { (IPv4Address($0.key)!, $0.value) }), port: 8300)
  }

  private func report(_ leader: String?, _ peers: String...) -> PeerAnswer {
    .status(ClusterStatus(leader: leader.map { "\($0):8300" }, peers: peers.map { "\($0):8300" }))
  }

  private func isSetAside(_ decision: RaftDataDecision) -> Bool {
    if case .setAside = decision { true } else { false }
  }

  @Test func `data that the leader's configuration does not name is set aside`() {
    let decision = decide([
      "10.0.1.8": report("10.0.1.8", "10.0.1.8", "10.0.1.9"), "10.0.1.9": report("10.0.1.8", "10.0.1.8", "10.0.1.9"),
    ])
    #expect(
      decision
        == .setAside(
          reason: "the raft configuration that 10.0.1.8 reports does not name this server: "
            + "10.0.1.8:8300, 10.0.1.9:8300"))
  }

  @Test func `the present or the previous address is enough`() {
    for own in ["10.0.1.1", "10.0.1.77"] {
      #expect(!isSetAside(decide(["10.0.1.8": report("10.0.1.8", "10.0.1.8", own)])))
    }
  }

  @Test func `without a leader the data stays`() {
    #expect(!isSetAside(decide([:])))
    #expect(!isSetAside(decide(["10.0.1.8": report(nil, "10.0.1.8", "10.0.1.9"), "10.0.1.9": .refused])))
    #expect(!isSetAside(decide(["10.0.1.8": .unknown(reason: "no answer in time")])))
    #expect(!isSetAside(decide(["10.0.1.8": report("10.0.1.8")])))
  }

  @Test func `a single follower proves nothing, a majority does`() {
    let report = report("10.0.1.8", "10.0.1.8", "10.0.1.9", "10.0.1.10")
    #expect(!isSetAside(decide(["10.0.1.9": report])))
    #expect(isSetAside(decide(["10.0.1.9": report, "10.0.1.10": report])))
    // Those that the configuration does not name have no say.
    #expect(!isSetAside(decide(["10.0.1.9": report, "10.0.1.20": report])))
  }

  /// While a configuration changes, some followers still have the one before.
  @Test func `followers that report different configurations are no majority`() {
    #expect(
      !isSetAside(
        decide([
          "10.0.1.8": report("10.0.1.7", "10.0.1.7", "10.0.1.8", "10.0.1.9"),
          "10.0.1.9": report("10.0.1.7", "10.0.1.7", "10.0.1.8", "10.0.1.9", "10.0.1.10"),
        ])))
  }

  /// A leader that has just been replaced may be behind.
  @Test func `one report that names this server is enough, whatever the others say`() {
    let decision = decide([
      "10.0.1.8": report("10.0.1.8", "10.0.1.8", "10.0.1.9"), "10.0.1.9": report("10.0.1.9", "10.0.1.9", "10.0.1.77"),
    ])
    #expect(decision == .keep(reason: "the raft configuration that 10.0.1.9 reports names this server"))
  }

  // MARK: On this machine

  private func decideHere(
    _ peers: [String: PeerAnswer], bind: String? = nil, _ raft: RaftState = .present(evidence: "raft.db")
  ) -> RaftDataDecision? {
    let data = DataDirectoryObservation(
      content: .init(snapshotNamesThisAddress: nil), raftState: raft, isMount: false)
    let configuration = bind.map {
      CurrentConfiguration(.present(Secret(#"{"bind_addr": "\#($0)"}"#)), at: "/etc/consul.d/00.json", beside: [])
    }
    let seen = observation(
      machine(data: data, recorded: "i-2", configuration: configuration ?? .absent), peers: peers)
    return RaftDataDecision(seen, Settings(), keepsData: true)
  }

  /// Its own agent runs with the old data, and may still report the old configuration.
  @Test func `what this server's own agent reports is no word of the others`() throws {
    let living = report("10.0.1.9", "10.0.1.9", "10.0.2.100")
    let old = report("10.0.1.10", "10.0.1.10", "10.0.1.9")
    #expect(isSetAside(try #require(decideHere(["10.0.1.10": old, "10.0.1.9": living]))))
  }

  /// Under raft protocol 3 a server keeps its vote at another address.
  @Test func `the address of the configuration on disk is this server's`() throws {
    let living = ["10.0.1.9": report("10.0.1.9", "10.0.1.9", "10.0.1.66")]
    #expect(isSetAside(try #require(decideHere(living))))
    #expect(!isSetAside(try #require(decideHere(living, bind: "10.0.1.66"))))
  }

  @Test func `without raft data that the agent will use there is nothing to decide`() {
    #expect(decideHere([:], RaftState.none) == nil)
  }
}
