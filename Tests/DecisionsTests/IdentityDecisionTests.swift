import Consul
import Testing

@testable import Decisions

@Suite struct IdentityDecisionTests {
  private static let x = ClusterIdentity(cluster: "x", epoch: 1), y = ClusterIdentity(cluster: "y", epoch: 1)

  private func decide(
    _ own: ClusterIdentity?, _ file: ClusterIdentity?, applied: UInt64? = 10, last: UInt64? = 10
  ) -> IdentityDecision {
    IdentityDecision(cluster: Self.y, own: own, file: file, applied: applied, leaderLast: last)
  }

  @Test func `data of the cluster is the same, also in a later epoch, and while it lags behind`() {
    for own in [Self.y, nil, ClusterIdentity(cluster: "y", epoch: 2)] {
      for file in [Self.y, nil] { #expect(decide(own, file) == .same) }
    }
    #expect(decide(Self.y, Self.y, applied: nil) == .same && decide(Self.y, Self.y, last: nil) == .same)
    #expect(decide(Self.y, Self.y, applied: 9) == .same)
  }

  /// raft takes a server with foreign data as a voter.
  @Test func `foreign data is noticed by its name, by the file, and by its length`() {
    #expect(decide(Self.x, Self.y) == .diverged(reason: "its own data is of cluster x, the leader's is of y"))
    #expect(decide(Self.y, Self.x) == .diverged(reason: "it held the data of cluster x, the leader's is of y"))
    #expect(
      decide(Self.y, Self.y, applied: 11)
        == .diverged(reason: "it has applied entries up to 11, the leader has none after 10"))
  }

  @Test(arguments: [
    (["2", "3"], true), (["1", "2", "3"], true), (["2"], false), (["1", "2"], false), ([], false),
  ])
  func `the others keep the quorum if a majority of all voters lives without this one`(alive: [String], keeps: Bool) {
    let voters = ["1", "2", "3"].map {
      RaftServer(id: $0, node: $0, address: $0, isLeader: $0 == "2", isVoter: true)
    }
    let other = RaftServer(id: "4", node: "4", address: "4", isLeader: false, isVoter: false)
    #expect(keepsQuorum(voters + [other], without: ["1"], alive: Set(alive + ["4"])) == keeps)
  }
}
