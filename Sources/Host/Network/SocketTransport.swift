package import Base
internal import Glibc
internal import Synchronization

/// Exchanges bytes over TCP sockets, with TLS by OpenSSL, each exchange on a thread of its own.
package struct SocketTransport: StreamTransport {
  package init() {}

  package func exchange(_ request: StreamRequest) async throws -> [UInt8] {
    let connection = Connection()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        do throws(ResourceError) {
          try startThread("stream") {
            do throws(StreamError) {
              continuation.resume(returning: try connection.run(request))
            } catch {
              continuation.resume(throwing: connection.isCancelled ? CancellationError() : error)
            }
          }
        } catch {
          continuation.resume(throwing: StreamError.local(error.explanation))
        }
      }
    } onCancel: {
      connection.cancel()
    }
  }
}

/// A connection of the thread that calls `run`; any other may cancel it.
private final class Connection: Sendable {
  private struct State {
    var isCancelled = false
    /// Open as long as it is here.
    var socket: Int32?
  }

  private let state = Mutex(State())

  var isCancelled: Bool { state.withLock { $0.isCancelled } }

  /// Ends what the thread waits for.
  func cancel() {
    state.withLock { state in
      state.isCancelled = true
      if let socket = state.socket { shutdown(socket, Int32(SHUT_RDWR)) }
    }
  }

  /// - Throws: any error once it is cancelled.
  func run(_ request: StreamRequest) throws(StreamError) -> [UInt8] {
    let deadline = Machine.uptime() + request.timeout
    guard let port = UInt16(exactly: request.port), port > 0 else { throw .unreachable(errorText(EINVAL)) }
    let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard number >= 0 else { throw .local(errorText(errno)) }
    let isCancelled = state.withLock { state in
      state.socket = number
      return state.isCancelled
    }
    defer {
      state.withLock { $0.socket = nil }
      close(number)
    }
    if isCancelled { throw .closed(after: 0) }
    // Key material of no use is found before anything is sent.
    let channel = try Channel(socket: number, deadline: deadline, tls: request.tls)
    try channel.connect(request.address, port)
    if !request.announcement.isEmpty { try channel.sendRaw(request.announcement) }
    try channel.shakeHands()
    try channel.send(request.body)
    var answer: [UInt8] = []
    while !request.isWhole(answer) {
      guard let bytes = try channel.receive() else { throw .closed(after: answer.count) }
      answer += bytes
      guard answer.count <= request.maximumBytes else { throw .tooLarge(limit: request.maximumBytes) }
    }
    return answer
  }
}

/// The bytes of a connected socket, decrypted.
private struct Channel: ~Copyable {
  private let socket: Int32
  private let deadline: Duration
  private let tls: TLSSession?

  init(socket: Int32, deadline: Duration, tls: TLSClient?) throws(StreamError) {
    self.socket = socket
    self.deadline = deadline
    self.tls = if let tls { try TLSSession(tls) } else { nil }
  }

  func connect(_ address: IPv4Address, _ port: UInt16) throws(StreamError) {
    var error = withInternetAddress(address, port) { Glibc.connect(socket, $0, $1) == 0 ? 0 : errno }
    if error == EINPROGRESS {
      error = waitUntilReady(socket, POLLOUT, deadline: deadline)
      if error == 0 {
        var size = socklen_t(MemoryLayout<Int32>.size)
        if getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0 { error = errno }
      }
    }
    switch error {
    case 0: break
    case ECONNREFUSED: throw .refused
    case ETIMEDOUT: throw .silent
    default: throw .unreachable(errorText(error))
    }
  }

  func shakeHands() throws(StreamError) {
    guard tls != nil else { return }
    while try !isSecured() {
      guard let bytes = try receiveRaw() else { throw .handshake("connection closed during the handshake") }
      try tls?.receive(bytes)
    }
  }

  /// One step of the handshake. What the session has to send goes out, an alert about the server's certificate, too.
  private func isSecured() throws(StreamError) -> Bool {
    do throws(StreamError) {
      let isOver = try tls?.shakeHands() ?? true
      try flush()
      return isOver
    } catch {
      // The handshake has failed: whether the alert arrives changes nothing.
      do throws(StreamError) { try flush() } catch _ {}
      throw error
    }
  }

  private func flush() throws(StreamError) {
    if let bytes = tls?.bytesToSend(), !bytes.isEmpty { try sendRaw(bytes) }
  }

  func send(_ bytes: [UInt8]) throws(StreamError) {
    guard tls != nil else { return try sendRaw(bytes) }
    try tls?.encrypt(bytes)
    try flush()
  }

  /// Nil at the end.
  func receive() throws(StreamError) -> [UInt8]? {
    guard let raw = try receiveRaw() else { return nil }
    guard tls != nil else { return Array(raw) }
    try tls?.receive(raw)
    let bytes = try tls?.decrypt()
    // With TLS 1.3 the server checks the client's certificate after the client's handshake, and sends tickets.
    try flush()
    return bytes
  }

  func sendRaw(_ bytes: [UInt8]) throws(StreamError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count > 0 { rest = rest.dropFirst(count) } else { try wait(POLLOUT, after: errno) }
    }
  }

  /// Nil at the end, also if the peer has reset the connection.
  private func receiveRaw() throws(StreamError) -> ArraySlice<UInt8>? {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      // Bytes that trickle in do not extend the deadline.
      guard Machine.uptime() < deadline else { throw .noAnswer }
      let count = recv(socket, &buffer, buffer.count, 0)
      if count > 0 { return buffer[..<count] }
      if count == 0 || errno == ECONNRESET { return nil }
      try wait(POLLIN, after: errno)
    }
  }

  private func wait(_ events: Int32, after error: Int32) throws(StreamError) {
    switch error {
    case EINTR: return
    case EAGAIN:
      let result = waitUntilReady(socket, events, deadline: deadline)
      guard result == 0 else { throw result == ETIMEDOUT ? .noAnswer : .local(errorText(result)) }
    case EPIPE, ECONNRESET: throw .closed(after: 0)
    default: throw .unreachable(errorText(error))
    }
  }
}
