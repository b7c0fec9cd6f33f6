import Base
import Consul
import Model
import Testing

@testable import Decisions

/// What a running server does once the others have changed. It is 10.0.1.1.
@Suite struct ReturnDecisionTests {
  private static let own: Set = ["10.0.1.1:8300"]

  private static func status(_ leader: String?, _ peers: String...) -> ClusterStatus {
    ClusterStatus(leader: leader.map { "10.0.1.\($0):8300" }, peers: peers.map { "10.0.1.\($0):8300" })
  }

  private static func address(_ last: String) -> IPv4Address { IPv4Address("10.0.1.\(last)")! }

  private func decide(
    _ status: ClusterStatus, _ answers: [String: ClusterStatus], alive: [String]? = [], silent: [String] = []
  ) -> ReturnDecision {
    var all: [IPv4Address: PeerAnswer] = [:]
    for (last, status) in answers { all[Self.address(last)] = .status(status) }
    for last in silent { all[Self.address(last)] = .unknown(reason: "no connection in time") }
    return ReturnDecision(
      status: status, own: Self.own, answers: all, alive: alive.map { Set($0.map(Self.address)) }, port: 8300)
  }

  private let replaced = ["8": status("8", "8", "9"), "9": status("8", "8", "9")]
  private let present = ["8": status("8", "1", "8", "9"), "9": status("8", "1", "8", "9")]

  /// It campaigned with a higher term, or stayed alone for ever.
  @Test func `data of a server that was replaced is renamed`() {
    #expect(
      decide(Self.status(nil, "1", "2", "3"), replaced, silent: ["2", "3"])
        == .setAside(
          reason: "the raft configuration that 10.0.1.8 reports does not name this server: 10.0.1.8:8300, "
            + "10.0.1.9:8300", servers: [Self.address("8"), Self.address("9")]))
  }

  @Test func `a server that the others still count on joins them with its data`() {
    #expect(
      decide(Self.status(nil, "1", "2", "3"), present) == .join([Self.address("8"), Self.address("9")]))
    #expect(decide(Self.status(nil, "1", "8", "9"), present, alive: ["8"]) == .join([Self.address("9")]))
    #expect(
      decide(Self.status(nil, "1", "8", "9"), present, alive: ["8", "9"])
        == .wait(reason: "the leader has not added this server yet"))
  }

  @Test func `an empty server joins`() {
    #expect(decide(Self.status(nil), replaced) == .join([Self.address("8"), Self.address("9")]))
  }

  /// The leader's gossip had heard that it left: it was added a minute later.
  @Test(arguments: [["8", "9"], ["9"], nil])
  func `an empty server that gossip knows and the leader has not added is announced again`(alive: [String]?) {
    #expect(
      decide(Self.status(nil), replaced, alive: alive)
        == .restartEmpty(
          reason: "the raft configuration that 10.0.1.8 reports does not name this server: 10.0.1.8:8300, "
            + "10.0.1.9:8300"))
  }

  @Test func `an empty server is not restarted once it is named, or while no leader has spoken`() {
    #expect(
      decide(Self.status(nil), present, alive: ["8", "9"])
        == .wait(reason: "the leader has not added this server yet"))
    // A follower alone may be behind.
    #expect(
      decide(Self.status(nil), ["9": Self.status("8", "8", "9")], alive: ["8", "9"])
        == .wait(reason: "the leader has not added this server yet"))
    #expect(
      decide(Self.status(nil), ["8": Self.status(nil, "8", "9")], alive: ["8"])
        == .wait(reason: "no other server knows a leader"))
  }

  /// Unknown is never no: the data stays while no leader has spoken.
  @Test(arguments: [
    [:], ["8": status(nil, "8", "9")], ["8": status("7", "8", "9")], ["8": status("7")],
  ])
  func `without the word of a leader the data stays`(answers: [String: ClusterStatus]) {
    guard case .wait = decide(Self.status(nil, "1", "2", "3"), answers, silent: ["2", "3"]) else {
      Issue.record("not a wait")
      return
    }
  }

  @Test func `a member of a living cluster never renames its data`() {
    #expect(decide(Self.status("2", "1", "2", "3"), ["2": Self.status("2", "1", "2", "3")], alive: ["2"]) == .stay)
    // The others form another cluster: the check of the identity is for that.
    #expect(decide(Self.status("1", "1", "2", "3"), replaced) == .stay)
  }

  @Test func `a member joins servers of its cluster that gossip has lost`() {
    #expect(
      decide(Self.status("8", "1", "8", "9"), present, alive: ["8"]) == .join([Self.address("9")]))
  }

  @Test func `two clusters are joined by nothing`() {
    let two = ["8": Self.status("8", "8", "9"), "5": Self.status("5", "5", "6")]
    for status in [Self.status(nil), Self.status(nil, "1", "2", "3"), Self.status("1", "1")] {
      #expect(decide(status, two) == .wait(reason: "10.0.1.5 and 10.0.1.8 report two clusters"))
    }
  }
}
