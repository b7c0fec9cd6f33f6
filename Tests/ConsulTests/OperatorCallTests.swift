import Synchronization
import Testing

@testable import Base
@testable import Consul

/// Answers every request with one text.
private final class OneAnswer: HTTPTransport {
  let text: String
  let requests = Mutex<[String]>([])

  init(_ text: String) { self.text = text }

  func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    requests.withLock { $0.append("\(request.method) \(request.url)") }
    return HTTPResponse(status: 200, body: Array(text.utf8))
  }
}

@Suite(.timeLimit(.minutes(5))) struct OperatorCallTests {
  private func client(_ agent: OneAnswer) -> AgentClient {
    AgentClient(address: "a:1", transport: agent, timeout: .seconds(1))
  }

  @Test func `nodes of the catalog are read with their instance`() async throws {
    let agent = OneAnswer(
      """
      [{"ID": "n1", "Node": "s1", "Address": "10.0.1.5", "Meta": {"instance_id": "i-0a", "other": 7}},
       {"ID": "", "Node": "db", "Address": "db.example", "Meta": null}]
      """)
    let nodes = try await client(agent).catalogNodes()
    #expect(
      nodes == [
        CatalogNode(id: "n1", name: "s1", address: IPv4Address("10.0.1.5"), meta: ["instance_id": "i-0a"]),
        CatalogNode(id: nil, name: "db", address: nil, meta: [:]),
      ])
    #expect(nodes.map(\.instanceID) == ["i-0a", nil])
    #expect(agent.requests.withLock { $0 } == ["GET http://a:1/v1/catalog/nodes"])
  }

  /// An image with another instance's configuration must not name a dead instance for a living one.
  @Test(
    arguments: [
      ("i-0a", nil, "i-0a"), ("web", "i-0a", "i-0a"), ("i-0a", "i-0a", "i-0a"), ("i-0a", "i-0b", nil),
      ("web", nil, nil),
      ("web", "", nil), ("web", "i-", nil), ("web", "i-0A*", nil), ("i-0a", "unknown", "i-0a"),
    ] as [(String, String?, String?)])
  func `a node names its instance by its metadata, else by its name`(
    _ name: String, _ meta: String?, _ instance: String?
  ) {
    let node = CatalogNode(id: nil, name: name, address: nil, meta: meta.map { ["instance_id": $0] } ?? [:])
    #expect(node.instanceID == instance)
  }

  @Test(arguments: ["{}", "[7]", #"[{"Address": "10.0.1.5"}]"#, #"[{"Node": ""}]"#])
  func `a catalog that is none is malformed`(_ text: String) async {
    await #expect(throws: AgentError.self) { try await client(OneAnswer(text)).catalogNodes() }
  }

  @Test(
    arguments: [
      (#"{"Stats": {"serf_lan": {"failed": "2"}}}"#, 2), ("{}", nil),
      (#"{"Stats": {"serf_lan": {"failed": "x"}}}"#, nil),
    ] as [(String, Int?)])
  func `the number of failed members is read`(_ text: String, _ count: Int?) async throws {
    #expect(try await client(OneAnswer(text)).failedMembers() == count)
  }

  @Test func `a peer is removed by its ID, a member by its name, pruned from 1.6.2 on`() async throws {
    let agent = OneAnswer("")
    try await client(agent).removeRaftPeer(id: "1111-22")
    try await client(agent).removeRaftPeer(id: "10.0.1.5:8300&x=/")
    try await client(agent).forceLeave("web 1/ä?", ConsulVersion(1, 6, 2))
    try await client(agent).forceLeave("web-1.local_~", ConsulVersion(1, 6, 1))
    #expect(
      agent.requests.withLock { $0 } == [
        "DELETE http://a:1/v1/operator/raft/peer?id=1111-22",
        "DELETE http://a:1/v1/operator/raft/peer?id=10.0.1.5%3A8300%26x%3D%2F",
        "PUT http://a:1/v1/agent/force-leave/web%201%2F%C3%A4%3F?prune=1",
        "PUT http://a:1/v1/agent/force-leave/web-1.local_~",
      ])
  }
}
