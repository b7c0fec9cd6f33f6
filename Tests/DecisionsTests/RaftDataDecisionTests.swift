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
}
