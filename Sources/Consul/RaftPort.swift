package import Base

/// Why a server gave no answer on raft's port that can be used.
package enum RaftPortError: ExplainedError, Sendable, Equatable {
  case stream(StreamError)
  /// The server's own words.
  case server(String)
  /// The answer is not that of Consul's RPC; with what is wrong.
  case malformed(String)

  package var explanation: String {
    switch self {
    case .stream(let error): error.explanation
    case .server(let words): "error from the server: \(words)"
    case .malformed(let reason): "malformed answer: \(reason)"
    }
  }
}

/// A server's RPC on raft's port (8300), by which servers also ask each other before a bootstrap. It answers without
/// HTTP; the status without a token, whatever the rules of ACLs are.
///
/// The wire format is that of Consul's `agent/pool` and `net-rpc-msgpackrpc`: a byte that names the protocol, then for
/// each call a header and a body in MessagePack, answered by a header and a result in the same order.
package struct RaftPort: Sendable {
  private let address: IPv4Address
  private let port: Int64
  private let tls: TLSClient?
  private let transport: any StreamTransport
  private let timeout: Duration

  /// - Parameter tls: nil speaks plain text, which a server with `verify_incoming` closes.
  package init(
    address: IPv4Address, port: Int64, tls: TLSClient?, transport: any StreamTransport, timeout: Duration
  ) {
    self.address = address
    self.port = port
    self.tls = tls
    self.transport = transport
    self.timeout = timeout
  }

  /// `RPCConsul` and `RPCTLS` of Consul's `agent/pool/conn.go`.
  private static let consulProtocol: UInt8 = 0x00, tlsProtocol: UInt8 = 0x03
  /// The answers for a cluster of seven servers have some 400 bytes.
  private static let maximumBytes = 16 << 10
  private static let statusCalls = ["Status.Leader", "Status.Peers", "Status.RaftStats"].map { Call(method: $0) }

  private struct Call {
    let method: String
    var body = MessagePackValue.map([:])
  }

  /// Leader, raft peers and the end of the log, over one connection.
  /// - Throws: `RaftPortError`, or `CancellationError`.
  package func clusterStatus() async throws -> ClusterStatus {
    try await results(of: Self.statusCalls, Self.status)
  }

  /// The cluster's identity as its leader has it, which asks the others whether it still is the leader; nil if there is
  /// none. The server passes the call on to the leader.
  /// - Parameter token: with `key:read` where ACLs are on.
  /// - Throws: `RaftPortError`, or `CancellationError`.
  package func clusterIdentity(datacenter: String, token: Secret?) async throws -> ClusterIdentity? {
    let request: [String: MessagePackValue] = [
      "Datacenter": .text(datacenter), "Key": .text(ClusterIdentity.key), "Token": .text(token?.value ?? ""),
      "RequireConsistent": .bool(true),
    ]
    return try await results(of: [Call(method: "KVS.Get", body: .map(request))], Self.identity)
  }

  private func results<Result>(
    of calls: [Call], _ read: ([MessagePackValue]) throws(RaftPortError) -> Result
  ) async throws -> Result {
    let methods = calls.map(\.method)
    var request = StreamRequest(address, port: port) { Self.isWhole($0, methods) }
    request.timeout = timeout
    request.maximumBytes = Self.maximumBytes
    request.tls = tls
    if tls != nil { request.announcement = [Self.tlsProtocol] }
    request.body = Self.encoded(calls)
    let answer: [UInt8]
    do {
      answer = try await transport.exchange(request)
    } catch let error as StreamError {
      throw RaftPortError.stream(error)
    }
    do {
      return try read(try Self.results(in: answer, methods))
    } catch let error as MessagePackError {
      throw RaftPortError.malformed(error.explanation)
    }
  }

  /// The calls in a row: the server answers them in order.
  private static func encoded(_ calls: [Call]) -> [UInt8] {
    calls.enumerated().reduce([consulProtocol]) { bytes, call in
      let header = MessagePackValue.map([
        "ServiceMethod": .text(call.element.method), "Seq": .unsigned(UInt64(call.offset + 1)),
      ])
      return bytes + header.encoded + call.element.body.encoded
    }
  }

  /// An error, of the server or of the format, ends the reading, too.
  private static func isWhole(_ bytes: [UInt8], _ methods: [String]) -> Bool {
    do {
      _ = try results(in: bytes, methods)
      return true
    } catch MessagePackError.incomplete {
      return false
    } catch {
      return true
    }
  }

  /// The result of each call.
  private static func results(in answer: [UInt8], _ methods: [String]) throws -> [MessagePackValue] {
    var rest = answer[...]
    return try methods.enumerated().map { index, method in
      let header = try MessagePackValue(decoding: &rest)
      guard let fields = header.map, fields["Seq"]?.unsigned == UInt64(index + 1), let error = fields["Error"]?.text
      else { throw RaftPortError.malformed("the header of the answer to \(method) is not one of Consul's RPC") }
      guard error.isEmpty else { throw RaftPortError.server(String(error.prefix(200))) }
      return try MessagePackValue(decoding: &rest)
    }
  }

  private static func identity(in results: [MessagePackValue]) throws(RaftPortError) -> ClusterIdentity? {
    guard let entries = results[0].map?["Entries"]?.list else { throw .malformed("the entries are missing") }
    guard let entry = entries.first else { return nil }
    guard case .bytes(let value)? = entry.map?["Value"] else { throw .malformed("the entry has no value") }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: value)
    } catch {
      throw .malformed("\(ClusterIdentity.key) is not JSON: \(error.explained)")
    }
    guard let identity = ClusterIdentity(json: json) else {
      throw .malformed("\(ClusterIdentity.key) is not a cluster's identity")
    }
    return identity
  }

  private static func status(in results: [MessagePackValue]) throws(RaftPortError) -> ClusterStatus {
    guard let leader = results[0].text else { throw .malformed("the leader is not text") }
    guard let peers = results[1].list else { throw .malformed("the peers are not a list") }
    guard let term = results[2].map?["LastTerm"]?.unsigned, let index = results[2].map?["LastIndex"]?.unsigned else {
      throw .malformed("the end of the log is missing")
    }
    return ClusterStatus(
      leader: leader.isEmpty ? nil : leader,
      peers: try peers.map { peer throws(RaftPortError) in
        guard let address = peer.text, !address.isEmpty else { throw .malformed("a peer is not an address") }
        return address
      },
      lastLog: LogPosition(term: term, index: index))
  }
}
