import Base
import Consul
import Decisions
import Testing

@Suite struct SuspectTests {
  private static func member(
    _ name: String, _ ip: String, _ status: SerfMember.Status = .alive, isServer: Bool = true, id: String? = nil
  ) -> SerfMember {
    SerfMember(name: name, address: IPv4Address(ip), status: status, isServer: isServer, nodeID: id ?? "id-\(name)")
  }

  private static func server(_ name: String, _ address: String, id: String? = nil) -> RaftServer {
    RaftServer(id: id ?? "id-\(name)", node: name, address: address, isLeader: false, isVoter: true)
  }

  private static func node(_ name: String, _ instance: String?, id: String? = nil) -> CatalogNode {
    CatalogNode(id: id ?? "id-\(name)", name: name, address: nil, meta: instance.map { ["instance_id": $0] } ?? [:])
  }

  private func suspects(_ members: [SerfMember], _ servers: [RaftServer]) -> [String] {
    [Suspect](members, servers).map { "\($0.node)\($0.isRaftPeer ? " raft" : "")\($0.isMember ? " member" : "")" }
  }

  @Test func `failed members and raft peers that gossip does not know are suspects`() {
    let servers = [
      Self.server("s1", "10.0.1.1:8300"), Self.server("s2", "10.0.1.2:8300"),
      Self.server("(unknown)", "10.0.1.3:8300", id: "x"), Self.server("s4", "10.0.1.4:8300"),
    ]
    let members = [
      Self.member("s1", "10.0.1.1"), Self.member("s2", "10.0.1.2", .failed), Self.member("s4", "10.0.1.4", .left),
      Self.member("c1", "10.0.2.1", .failed, isServer: false), Self.member("c2", "10.0.2.2", isServer: false),
      Self.member("c3", "10.0.2.3", .left, isServer: false),
    ]
    #expect(suspects(members, servers) == ["s2 raft member", "c1 member", "(unknown) raft", "s4 raft"])
  }

  /// A leave takes some seconds.
  @Test func `a server that leaves is no suspect`() {
    #expect(suspects([Self.member("s1", "10.0.1.1", .leaving)], [Self.server("s1", "10.0.1.1:8300")]).isEmpty)
  }

  /// Raft names a server by the address from before until it has joined from the new one.
  @Test func `a server under a new address is no suspect, nor is its old address`() {
    #expect(suspects([Self.member("s1", "10.0.1.9")], [Self.server("s1", "10.0.1.1:8300")]).isEmpty)
    // Its data was lost: another ID, the same machine.
    #expect(suspects([Self.member("s1", "10.0.1.1", id: "new")], [Self.server("s1", "10.0.1.1:8300")]).isEmpty)
  }

  @Test func `the instance is that of the node with the same ID and name`() {
    let suspect = Suspect(
      node: "s2", address: IPv4Address("10.0.1.2"), nodeID: "id-s2", isRaftPeer: true, isMember: true)
    #expect(suspect.instanceID([Self.node("s1", "i-1"), Self.node("s2", "i-2")]) == "i-2")
    #expect(suspect.instanceID([Self.node("s2", "i-2", id: "older")]) == nil)
    #expect(suspect.instanceID([Self.node("renamed", "i-2", id: "id-s2")]) == nil)
    #expect(suspect.instanceID([Self.node("s2", "i-2"), Self.node("copy", "i-3", id: "id-s2")]) == nil)
    #expect(suspect.instanceID([Self.node("s2", nil)]) == nil)
    let peer = Suspect(
      node: "(unknown)", address: IPv4Address("10.0.1.2"), nodeID: "id-s2", isRaftPeer: true, isMember: false)
    #expect(peer.instanceID([Self.node("s2", "i-2")]) == "i-2")
    let old = Suspect(node: "s2", address: nil, nodeID: nil, isRaftPeer: false, isMember: true)
    #expect(old.instanceID([Self.node("s2", "i-2", id: "any")]) == "i-2" && old.key == "s2" && peer.key == "id-s2")
  }

  @Test func `living twins have the address or the instance, and are alive`() {
    let suspect = Suspect(
      node: "s2", address: IPv4Address("10.0.1.2"), nodeID: "id-s2", isRaftPeer: true, isMember: true)
    let catalog = [Self.node("s2", "i-2"), Self.node("s5", "i-2"), Self.node("s6", "i-6"), Self.node("s7", "i-2")]
    let members = [
      Self.member("s2", "10.0.1.2", .failed), Self.member("s4", "10.0.1.2"), Self.member("s5", "10.0.1.5"),
      Self.member("s6", "10.0.1.6"), Self.member("s7", "10.0.1.7", .failed),
    ]
    #expect(suspect.livingTwins(members, catalog) == ["s4", "s5"])
    let nameless = Suspect(node: "x", address: nil, nodeID: nil, isRaftPeer: false, isMember: true)
    #expect(nameless.livingTwins([SerfMember(name: "y", address: nil, status: .alive, isServer: false)], []) == [])
  }
}
