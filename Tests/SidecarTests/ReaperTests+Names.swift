import Base
import TestSupport
import Testing

@testable import Sidecar

/// A name, or an ID, that another node or account has.
extension ReaperTests {
  /// Consul removes by name, and the removals of a fleet take minutes. A replacement may have failed, too.
  @Test(arguments: [1, 4]) func `a replacement that has the name of a dead one stays`(_ status: Int64) async throws {
    let names = ["c20", "c21", "c22", "c23"]
    for (index, name) in names.enumerated().dropFirst() {
      fixture.agent.set { state in
        state.members.append(.init(name, "10.0.1.\(20 + index)", isServer: false))
        state.catalog[name] = "i-0ddd\(index)"
      }
      fixture.context.ports.set("10.0.1.\(20 + index)", .tcp, port: 8301, to: .refused)
    }
    fixture.aws.setInstances(
      [FakeInstance("i-0aaa", ip: "10.0.1.10")]
        + ["i-0ddd", "i-0ddd1", "i-0ddd2", "i-0ddd3"].map {
          FakeInstance($0, ip: "10.0.1.20", group: nil, state: "terminated")
        })
    fixture.agent.set { state in
      // Those that are removed at the same time as the first may be gone already.
      state.onRemoval = { state in
        state.onRemoval = nil
        for index in state.members.indices where state.members[index].status == 4 {
          (state.members[index].status, state.members[index].ip) = (status, "10.0.2.\(index)")
        }
      }
    }
    try await whileLeading {
      for name in names { fail(name) }
      _ = try await fixture.agent.removed()
      try await time(5)
    }
    #expect(fixture.agent.removals.count <= 2, "\(fixture.agent.removals)")
  }

  @Test func `a server that has returned under its name after its removal from raft stays`() async throws {
    fixture.agent.set { state in
      state.onRemoval = { state in state.members[2] = .init("s12", "10.0.1.30") }
    }
    try await whileLeading {
      fail("s12")
      terminate("i-0ccc")
      _ = try await fixture.agent.removed()
      try await time(60)
    }
    #expect(fixture.agent.removals == ["raft s12"])
  }

  /// Its answers are of this account and region: a node of another one is never in them, also while it is only cut off.
  @Test func `a node of another account stays, one that EC2 has forgotten does not`() async throws {
    fixture.aws.change("i-0ddd") { $0.isInEC2 = false }
    fail("s12")
    fail("c20")
    fixture.aws.change("i-0ccc") { ($0.state, $0.group) = ("stopped", nil) }
    try await whileLeading {
      try await time(60)
      fixture.aws.change("i-0ccc") { $0.isInEC2 = false }
      // A change of the leader does not lose what EC2 has said.
      fixture.agent.set { $0.leader = "10.0.1.11:8300" }
      try await time(20)
      fixture.agent.set { $0.leader = "10.0.1.10:8300" }
      try await time(9000)
    }
    #expect(fixture.agent.removals == ["raft s12", "prune s12"])
  }
}
