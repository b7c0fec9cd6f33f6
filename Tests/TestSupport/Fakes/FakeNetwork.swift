package import Base
internal import Synchronization

private func parsed(_ text: String) -> IPv4Address {
  guard let address = IPv4Address(text) else { fatalError("not an address: \(text)") }
  return address
}

/// Name servers in memory. A name that was not set up crashes the test.
package final class FakeResolver: NameResolver {
  package struct Query: Sendable, Equatable {
    package let name: String
    package let server: IPv4Address
    package let port: Int64
  }

  private struct State {
    var answers: [String: Result<[IPv4Address], NameError>] = [:]
    var silent: Set<String> = []
    var queries: [Query] = []
  }

  private let state = Watched(State())
  private let clock: TestClock

  package init(clock: TestClock) { self.clock = clock }

  package var queries: [Query] { state.value.queries }

  /// What a name server answers; without a server, what every one does.
  package func answer(_ name: String, server: String? = nil, _ addresses: [String]) {
    set(name, server, .success(addresses.map(parsed)))
  }

  package func fail(_ name: String, server: String? = nil, _ explanation: String) {
    set(name, server, .failure(NameError(explanation)))
  }

  /// The server does not answer.
  package func silence(server: String) { state.update { _ = $0.silent.insert(server) } }

  private func set(_ name: String, _ server: String?, _ result: Result<[IPv4Address], NameError>) {
    state.update { $0.answers["\(name)@\(server ?? "")"] = result }
  }

  package func addresses(
    of name: String, server: IPv4Address, port: Int64, timeout: Duration
  ) async throws -> [IPv4Address] {
    let (isSilent, answer) = state.update { state in
      state.queries.append(Query(name: name, server: server, port: port))
      return (
        state.silent.contains("\(server)"), state.answers["\(name)@\(server)"] ?? state.answers["\(name)@"]
      )
    }
    if isSilent {
      try await clock.sleep(for: timeout)
      throw NameError("no answer in time")
    }
    guard let answer else { forgotten("an answer for name \(name) of server \(server):\(port)") }
    return try answer.get()
  }
}

/// Ports in memory, of others and of this machine. A port that was not set up crashes the test.
package final class FakePorts: PortProber {
  package enum Kind: Sendable { case tcp, udp }

  private struct State {
    var results: [String: ProbeResult] = [:]
    var listenErrors: [String: String] = [:]
    var mayListen = false
    var probes: [String] = []
  }

  private let state = Watched(State())
  private let clock: TestClock

  package init(clock: TestClock) { self.clock = clock }

  /// `tcp 10.0.1.5:8300`, in order.
  package var probes: [String] { state.value.probes }

  /// - Parameters:
  ///   - kind: nil for both.
  ///   - port: nil for every port of the address.
  package func set(_ address: String, _ kind: Kind? = nil, port: Int64? = nil, to result: ProbeResult) {
    let kinds = kind.map { [$0] } ?? [.tcp, .udp]
    state.update { state in
      for kind in kinds { state.results["\(kind) \(parsed(address)):\(port.map(String.init) ?? "*")"] = result }
    }
  }

  /// Every port of this machine is free, unless `setListenError` says otherwise.
  package func allowListening() { state.update { $0.mayListen = true } }

  package func setListenError(port: Int64, _ kind: Kind, _ reason: String) {
    state.update { $0.listenErrors["\(kind) \(port)"] = reason }
  }

  package func setListenError(_ address: IPv4Address, port: Int64, _ kind: Kind, _ reason: String) {
    state.update { $0.listenErrors["\(kind) \(address):\(port)"] = reason }
  }

  package func connect(_ address: IPv4Address, port: Int64, timeout: Duration) async -> ProbeResult {
    await probe(.tcp, address, port, timeout)
  }

  package func probeDatagram(_ address: IPv4Address, port: Int64, datagram: [UInt8], timeout: Duration) async
    -> ProbeResult
  {
    await probe(.udp, address, port, timeout)
  }

  /// A silent port takes its time.
  private func probe(_ kind: Kind, _ address: IPv4Address, _ port: Int64, _ timeout: Duration) async -> ProbeResult {
    let key = "\(kind) \(address):"
    let result = state.update { state in
      state.probes.append("\(key)\(port)")
      return state.results["\(key)\(port)"] ?? state.results["\(key)*"]
    }
    guard let result else { forgotten("a probe of \(key)\(port)") }
    if result == .silent { try? await clock.sleep(for: timeout) }
    return result
  }

  package func listenError(_ address: IPv4Address, port: Int64, datagrams: Bool) -> String? {
    let kind: Kind = datagrams ? .udp : .tcp
    let state = state.value
    if let reason = state.listenErrors["\(kind) \(port)"] ?? state.listenErrors["\(kind) \(address):\(port)"] {
      return reason
    }
    guard state.mayListen else { forgotten("whether \(kind) port \(port) of this machine is free") }
    return nil
  }
}

/// A text server in memory. An address that was not set up crashes the test.
package final class FakeTextServer: TextServer {
  private struct State {
    var outcomes: [ServedAddress.Key: FileError?] = [:]
    var texts: [ServedAddress.Key: @Sendable () -> String] = [:]
    var served: Set<ServedAddress.Key> = []
  }

  private let state = Watched(State())

  package init() {}

  package func allow(_ address: ServedAddress) { state.update { $0.outcomes[address.key] = .some(nil) } }

  package func fail(_ address: ServedAddress, errno: Int32) {
    let error = FileError("listen at", "\(address.key)", errno: errno, reason: Errno(errno).reason)
    state.update { $0.outcomes[address.key] = error }
  }

  /// What is served now; nil if nothing is.
  package func text(at address: ServedAddress) -> String? { state.value.texts[address.key]?() }

  /// Waits until something is served.
  package func served(at address: ServedAddress) async throws -> String {
    let text = try await state.wait { $0.texts[address.key] }
    return text()
  }

  /// Waits until something has been served, even if it ended since.
  package func hasServed(at address: ServedAddress) async throws {
    try await state.wait { $0.served.contains(address.key) ? () : nil }
  }

  package func serve(at address: ServedAddress, _ text: @escaping @Sendable () -> String) throws(FileError)
    -> any Sendable
  {
    try state.update { state throws(FileError) in
      guard let outcome = state.outcomes[address.key] else { forgotten("a text served at \(address.key)") }
      if let error = outcome { throw error }
      state.texts[address.key] = text
      state.served.insert(address.key)
    }
    return Holder { [state] in state.update { $0.texts[address.key] = nil } }
  }

  /// Ends the service when it is let go.
  private final class Holder: Sendable {
    private let end: @Sendable () -> Void
    init(_ end: @escaping @Sendable () -> Void) { self.end = end }
    deinit { end() }
  }
}

extension ServedAddress {
  fileprivate typealias Key = String

  fileprivate var key: Key {
    switch self {
    case .unix(let path): path
    case .loopback(let port): "127.0.0.1:\(port)"
    }
  }
}
