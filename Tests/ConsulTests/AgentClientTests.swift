import Synchronization
import Testing

@testable import Base
@testable import Consul

/// An agent that answers each path with one text, and one that is not set with 404.
private final class TextAgent: HTTPTransport {
  let texts: [String: String]
  let requests = Mutex<[HTTPRequest]>([])

  init(_ texts: [String: String]) { self.texts = texts }

  func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    requests.withLock { $0.append(request) }
    guard let text = texts[String(request.url.dropFirst("http://10.0.1.5:8500".count))] else {
      return HTTPResponse(status: 404, body: Array("no handler".utf8))
    }
    return HTTPResponse(status: 200, body: Array(text.utf8))
  }
}

@Suite(.timeLimit(.minutes(5))) struct AgentClientTests {
  private func client(_ agent: TextAgent) -> AgentClient {
    AgentClient(address: "10.0.1.5:8500", token: Secret("the-token"), transport: agent, timeout: .seconds(1))
  }

  private func client(_ path: String, _ text: String) -> AgentClient { client(TextAgent([path: text])) }

  @Test func `a cluster is read, with and without a leader`() async throws {
    let full = TextAgent(["/v1/status/leader": #""10.0.1.5:8300""#, "/v1/status/peers": #"["10.0.1.5:8300"]"#])
    #expect(
      try await client(full).clusterStatus() == ClusterStatus(leader: "10.0.1.5:8300", peers: ["10.0.1.5:8300"]))
    let new = TextAgent(["/v1/status/leader": #""""#, "/v1/status/peers": "[]"])
    #expect(try await client(new).clusterStatus() == ClusterStatus(leader: nil, peers: []))
    // Peers are not trusted: a longer answer is refused.
    #expect(new.requests.withLock { $0.allSatisfy { $0.maximumBodyBytes == 16 << 10 } })
  }

  /// A peer's address that cannot be read was left out: a cluster of three looked like one of two.
  @Test(arguments: [
    (#""""#, #"["10.0.1.5:8300", 7]"#, "a peer is not an address"),
    (#""""#, #"[""]"#, "a peer is not an address"), (#""""#, "{}", "the peers are not a list"),
    ("null", "[]", "the leader is not a string"), ("[", "[]", "not JSON: The given data was not valid JSON."),
    (#""""#, String(repeating: "[", count: 500), "not JSON: nested deeper than 64 levels"),
  ])
  func `a status that is malformed is refused, with the reason`(
    _ leader: String, _ peers: String, _ reason: String
  ) async {
    let agent = TextAgent(["/v1/status/leader": leader, "/v1/status/peers": peers])
    await #expect(throws: AgentError.malformed(reason)) { try await client(agent).clusterStatus() }
  }

  static let server = #""ID":"a","Node":"n","Address":"10.0.1.5:8300","Leader":true,"Voter":true"#

  @Test func `servers of the raft configuration are read whole`() async throws {
    let servers = try await client("/v1/operator/raft/configuration", #"{"Servers":[{\#(Self.server)}]}"#)
      .raftConfiguration()
    #expect(servers == [RaftServer(id: "a", node: "n", address: "10.0.1.5:8300", isLeader: true, isVoter: true)])
  }

  /// A server without `Voter` was no voter, one without an address had the empty one.
  @Test(arguments: ["ID", "Node", "Address", "Leader", "Voter"])
  func `a server that lacks something is malformed`(_ key: String) async {
    let text = #"{"Servers":[{\#(Self.server.replacing("\"\(key)\"", with: "\"Other\""))}]}"#
    await #expect(throws: AgentError.malformed("\(key) is missing or of another type")) {
      try await client("/v1/operator/raft/configuration", text).raftConfiguration()
    }
  }

  @Test func `members are read; one without a role is no server, one with an IPv6 address has none for us`()
    async throws
  {
    let text = """
      [{"Name":"a","Addr":"10.0.1.5","Status":1,"Tags":{"role":"consul"}},
       {"Name":"b","Addr":"fd00::1","Status":4,"Tags":{"role":"node"}}, {"Name":"c","Addr":"10.0.1.7","Status":1}]
      """
    #expect(
      try await client("/v1/agent/members", text).members(wan: false) == [
        SerfMember(name: "a", address: IPv4Address("10.0.1.5"), status: .alive, isServer: true),
        SerfMember(name: "b", address: nil, status: .failed, isServer: false),
        SerfMember(name: "c", address: IPv4Address("10.0.1.7"), status: .alive, isServer: false),
      ])
  }

  /// A member without a status was a dead one: evidence of a lost quorum that is not there.
  @Test(arguments: [
    (#"{"Addr":"10.0.1.5","Status":1}"#, "Name"), (#"{"Name":"a","Status":1}"#, "Addr"),
    (#"{"Name":"a","Addr":"10.0.1.5"}"#, "Status"), (#"{"Name":"a","Addr":"10.0.1.5","Status":"alive"}"#, "Status"),
    (#"{"Name":"a","Addr":"10.0.1.5","Status":9223372036854775808}"#, "Status"), ("7", "Name"),
  ])
  func `a member that lacks something is malformed`(_ member: String, _ key: String) async {
    await #expect(throws: AgentError.malformed("\(key) is missing or of another type")) {
      try await client("/v1/agent/members?wan=1", "[\(member)]").members(wan: true)
    }
  }

  @Test func `a node's own name is required`() async throws {
    #expect(try await client("/v1/agent/self", #"{"Config":{"NodeName":"n"}}"#).nodeName() == "n")
    for text in ["{}", #"{"Config":{"NodeName":""}}"#] {
      await #expect(throws: AgentError.malformed("NodeName is missing or of another type")) {
        try await client("/v1/agent/self", text).nodeName()
      }
    }
  }

  @Test func `an error names the agent's answer, and nothing prints the token`() async {
    let agent = TextAgent([:])
    await #expect(throws: AgentError.refused(status: 404, message: "no handler")) { try await client(agent).reload() }
    #expect(agent.requests.withLock { $0[0].headers.map(\.value) } == ["the-token"])
    var text = ""
    dump(client(TextAgent([:])), to: &text)
    #expect(!text.contains("the-token"))
    #expect(AgentError.malformed("x").explanation == "malformed answer: x")
  }
}
