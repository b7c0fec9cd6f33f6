import Base
import Consul
import Testing

@testable import Decisions

/// Five servers, 10.0.1.1 to 10.0.1.5, and others.
@Suite struct RecoveryDecisionTests {
  private static let five = (1...5).map { "10.0.1.\($0):8300" }

  private func server(_ number: Int, _ standing: OutageServer.Standing) -> OutageServer {
    OutageServer(instance: "i-\(number)", address: address("10.0.1.\(number)"), standing: standing)
  }

  private func gone(_ numbers: Int...) -> [OutageServer] { numbers.map { server($0, .gone(evidence: "terminated")) } }

  private func unknown(_ number: Int) -> OutageServer { server(number, .unknown(reason: "EC2 reports it as stopped")) }

  private func survivor(
    _ number: Int, term: UInt64 = 2, index: UInt64 = 90, peers: [String] = five, leader: String? = nil
  ) -> OutageServer {
    server(
      number,
      .answers(ClusterStatus(leader: leader, peers: peers, lastLog: LogPosition(term: term, index: index))))
  }

  private func empty(_ number: Int) -> OutageServer {
    server(number, .answers(ClusterStatus(leader: nil, peers: [], lastLog: LogPosition(term: 0, index: 0))))
  }

  /// Number of the server that recovers; nil if none does.
  private func actor(_ servers: [OutageServer]) -> Int? {
    guard case .recover(let best, _) = RecoveryDecision(servers) else { return nil }
    return best.instance.flatMap { Int($0.dropFirst(2)) }
  }

  private func missing(_ servers: [OutageServer]) -> [String]? {
    guard case .wait(_, let missing) = RecoveryDecision(servers) else { return nil }
    return missing
  }

  @Test func `the survivor of five recovers, beside empty servers that wait`() {
    #expect(actor([survivor(1)] + gone(2, 3, 4, 5)) == 1)
    #expect(actor([survivor(1)] + gone(2, 3, 4, 5) + [empty(6), empty(7)]) == 1)
  }

  @Test func `a server that knows a leader ends it`() {
    #expect(
      RecoveryDecision([survivor(1), survivor(2, leader: "10.0.1.9:8300")] + gone(3, 4, 5))
        == .noOutage(leader: "10.0.1.9:8300"))
  }

  /// Measured: where the poorer of two survivors leads, the other keeps entries that the cluster does not have.
  @Test func `the longest log recovers, in every order`() {
    for servers in [
      [survivor(1, index: 37), survivor(2, index: 85)], [survivor(2, index: 85), survivor(1, index: 37)],
    ] {
      #expect(actor(servers + gone(3, 4, 5)) == 2)
    }
    #expect(actor([survivor(1, term: 3, index: 10), survivor(2, term: 2, index: 85)] + gone(3, 4, 5)) == 1)
    #expect(actor([survivor(2), survivor(1)] + gone(3, 4, 5)) == 1)
  }

  @Test(arguments: [3, 4, 5])
  func `a quorum that is not gone may elect: nothing is recovered`(_ left: Int) {
    let servers = (1...5).map { number in
      number == 1 ? survivor(1) : number <= left ? unknown(number) : gone(number)[0]
    }
    #expect(missing(servers)?.count == left - 1)
  }

  @Test func `a voter that may come back with data is waited for`() {
    #expect(missing([survivor(1), unknown(2)] + gone(3, 4, 5)) == ["i-2 (10.0.1.2): EC2 reports it as stopped"])
  }

  /// The survivor was cut off while all others were replaced: their cluster lives, and only the group shows it.
  @Test func `a running server that does not answer is waited for, whatever the raft configuration says`() {
    #expect(missing([survivor(1)] + gone(2, 3, 4, 5) + [unknown(6)])?.count == 1)
  }

  @Test func `a newer configuration of another survivor counts`() {
    let newer = (2...6).map { "10.0.1.\($0):8300" }
    let servers = [survivor(1), survivor(2, index: 95, peers: newer)] + gone(3, 4, 5)
    #expect(missing(servers) == ["10.0.1.6:8300"])
    #expect(missing(servers + [unknown(6)])?.count == 1)
    #expect(actor(servers + gone(6)) == 2)
    // 2 and 6 are no quorum of its configuration; with 3 they are.
    #expect(actor([survivor(1), survivor(2, index: 95, peers: newer), empty(6)] + gone(3, 4, 5)) == 2)
    #expect(
      missing([survivor(1), survivor(2, index: 95, peers: newer), empty(6), unknown(3)] + gone(4, 5))?.count == 2)
  }

  /// An empty server at a voter's address gives its vote: raft asks addresses.
  @Test func `a replacement with the address of a dead voter may vote`() {
    let replacements = [2, 3].map { number in
      OutageServer(
        instance: "i-new-\(number)", address: address("10.0.1.\(number)"),
        standing: .answers(ClusterStatus(leader: nil, peers: [])))
    }
    #expect(missing([survivor(1)] + gone(2, 3, 4, 5) + replacements)?.count == 2)
  }

  @Test func `without any data it is a total loss, once all are gone`() {
    #expect(RecoveryDecision(gone(1, 2, 3) + [empty(4)]) == .totalLoss(gone: gone(1, 2, 3)))
    #expect(missing(gone(1, 2) + [unknown(3), empty(4)])?.count == 1)
  }

  @Test func `one that names a peer by an address that is none is waited for`() {
    #expect(missing([survivor(1, peers: Self.five + ["[fd00::1]:8300"])] + gone(2, 3, 4, 5)) == ["[fd00::1]:8300"])
  }

  /// Every arrangement of five voters: it recovers only if fewer than a quorum are left, and none is unknown.
  @Test func `of every five only those that are safe recover`() {
    for code in 0..<(3 * 3 * 3 * 3) {
      let others = (0..<4).map { place in [0, 1, 2][code / [1, 3, 9, 27][place] % 3] }
      let servers =
        [survivor(1)]
        + others.enumerated().map { place, kind in
          let number = place + 2
          return kind == 0 ? gone(number)[0] : kind == 1 ? unknown(number) : survivor(number)
        }
      let left = 1 + others.count { $0 != 0 }
      #expect((actor(servers) != nil) == (left < 3 && !others.contains(1)), "\(others)")
    }
  }
}
