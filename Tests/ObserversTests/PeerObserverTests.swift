import Base
import Consul
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// Whether other members have a cluster: what an agent does not answer is unknown, never no.
@Suite(.timeLimit(.minutes(5))) struct PeerObserverTests {
  private var flow = Flow()

  private func query(_ ips: [String]) async -> [IPv4Address: PeerAnswer] {
    await PeerObserver(context: flow.context.context, httpPort: 8500).query(ips.map(address))
  }

  @Test func `each answer is kept by its address`() async {
    let transport = flow.context.transport
    flow.agent("10.0.1.1", leader: "10.0.1.1:8300", peers: ["10.0.1.1:8300", "10.0.1.2:8300"])
    flow.agent("10.0.1.2")
    transport.fail("http://10.0.1.3:8500/", .unreachable)
    transport.answer("http://10.0.1.4:8500/", status: 403, "Permission denied")
    transport.answer("http://10.0.1.5:8500/", "{}")
    transport.answer("http://10.0.1.6:8500/", "{}", after: .seconds(30))
    transport.silence("http://10.0.1.7:8500/")
    #expect(
      await query((1...7).map { "10.0.1.\($0)" }) == [
        address("10.0.1.1"): .status(
          ClusterStatus(leader: "10.0.1.1:8300", peers: ["10.0.1.1:8300", "10.0.1.2:8300"])),
        address("10.0.1.2"): .status(ClusterStatus(leader: nil, peers: [])),
        address("10.0.1.3"): .unknown(reason: "host unreachable"),
        address("10.0.1.4"): .unknown(reason: "HTTP 403: Permission denied"),
        address("10.0.1.5"): .unknown(reason: "malformed answer: the leader is not a string"),
        address("10.0.1.6"): .unknown(reason: "no answer in time"),
        address("10.0.1.7"): .unknown(reason: "no connection in time"),
      ])
    // All at once, and at most a second.
    #expect(flow.elapsed == .seconds(1))
  }

  @Test func `the port is the configured one, and no token is sent`() async {
    flow.context.transport.fail("http://10.0.1.1:18500/", .refused)
    _ = await PeerObserver(context: flow.context.context, httpPort: 18500).query([address("10.0.1.1")])
    let requests = flow.context.transport.requests
    #expect(requests.map(\.url) == ["http://10.0.1.1:18500/v1/status/leader"])
    #expect(requests.allSatisfy { $0.headers.isEmpty && !$0.allowsProxy })
  }

  @Test func `without peers nothing is queried`() async { #expect(await query([]).isEmpty) }

  /// 64 connections at a time bound the sockets: 200 silent peers take four rounds, not one and not 200.
  @Test func `many peers are queried 64 at a time`() async {
    flow.context.transport.silence("http://10.0.9.")
    let answers = await query((1...200).map { "10.0.9.\($0)" })
    #expect(answers.count == 200)
    #expect(Set(answers.values.map { "\($0)" }) == [#"unknown(reason: "no connection in time")"#])
    #expect(flow.elapsed == .seconds(4))
  }

  @Test func `a cancelled query is unknown`() async throws {
    let gate = flow.context.transport.hold("http://10.0.1.9:8500/")
    let flow = flow
    let task = Task {
      await PeerObserver(context: flow.context.context, httpPort: 8500).query([address("10.0.1.9")])
    }
    try await gate.arrivals()
    task.cancel()
    #expect(await task.value == [address("10.0.1.9"): .unknown(reason: "the query was cancelled")])
  }
}
