package import Base
internal import CCurl
internal import Glibc
internal import Synchronization

/// HTTP by libcurl's multi interface: one thread runs every transfer, connections are kept and reused, certificates are
/// always verified.
package final class CurlTransport: HTTPTransport {
  private struct State {
    var nextNumber = 0
    /// Transfers that `send` has numbered and neither started nor cancelled: a task may be cancelled before its start
    /// command is queued.
    var unstarted: Set<Int> = []
    /// What the thread has to do next.
    var commands: [CurlCommand] = []
    /// A byte written here wakes the thread; nil as long as there is no thread.
    var wake: Descriptor?

    func wakeUp() {
      var byte: UInt8 = 0
      // Fails if the pipe is full: then the thread is about to wake anyway.
      if let wake { _ = write(wake.number, &byte, 1) }
    }
  }

  private let state = Mutex(State())
  private let caBundle: String?

  /// - Parameter caBundle: a PEM file of the certificate authorities; nil if the machine has none, which fails HTTPS.
  package init(caBundle: String?) { self.caBundle = caBundle }

  /// Where each distribution keeps its bundle: Debian and Ubuntu, Amazon Linux and RHEL, SUSE, Alpine.
  private static let caBundles = [
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem", "/etc/ssl/cert.pem",
  ]

  /// `AWS_CA_BUNDLE`, or the first bundle that this machine has.
  package static func findCABundle(environment: [String: String]) -> String? {
    if let named = environment["AWS_CA_BUNDLE"], !named.isEmpty { return named }
    return caBundles.first { access($0, R_OK) == 0 }
  }

  package func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    let number = state.withLock { state in
      state.nextNumber += 1
      state.unstarted.insert(state.nextNumber)
      return state.nextNumber
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        if let error = start(number, request, continuation) { continuation.resume(throwing: error) }
      }
    } onCancel: {
      cancel(number)
    }
  }

  /// - Returns: why the transfer does not start; nil if it does, and resumes the continuation at its end.
  private func start(
    _ number: Int, _ request: HTTPRequest, _ continuation: CheckedContinuation<HTTPResponse, any Error>
  ) -> (any Error)? {
    state.withLock { state in
      guard state.unstarted.remove(number) != nil else { return CancellationError() }
      do throws(ResourceError) {
        if state.wake == nil { state.wake = try startLoop() }
        state.commands.append(.start(number: number, request, continuation))
        state.wakeUp()
        return nil
      } catch {
        return TransportError.other(error.explanation)
      }
    }
  }

  private func cancel(_ number: Int) {
    state.withLock { state in
      // Not started yet: `start` finds it missing.
      guard state.unstarted.remove(number) == nil else { return }
      state.commands.append(.cancel(number: number))
      state.wakeUp()
    }
  }

  /// Starts the thread, which stays as long as the process: the composition root creates the only transport.
  private func startLoop() throws(ResourceError) -> Descriptor {
    let pipe = try createPipe(nonBlocking: true)
    let reader = pipe.reader
    try startThread("http") { [self] in
      let error = CurlLoop.run(caBundle: caBundle, wake: reader) {
        state.withLock { state in
          defer { state.commands = [] }
          return state.commands
        }
      }
      stop(error)
    }
    return pipe.writer
  }

  /// After the thread's end: the next request starts another one.
  private func stop(_ error: TransportError) {
    let commands = state.withLock { state in
      defer { state.commands = [] }
      state.wake = nil
      return state.commands
    }
    for case .start(_, _, let continuation) in commands { continuation.resume(throwing: error) }
  }
}

/// What the thread has to do.
enum CurlCommand: Sendable {
  case start(number: Int, HTTPRequest, CheckedContinuation<HTTPResponse, any Error>)
  case cancel(number: Int)
}
