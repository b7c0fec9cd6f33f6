package import Base
internal import CCurl
internal import Glibc
internal import Synchronization

/// HTTP by libcurl's multi interface: one thread runs every transfer, connections are kept and reused, certificates are
/// always verified.
package final class CurlTransport: HTTPTransport {
  private struct State {
    var commands: [CurlCommand] = []
    var nextNumber = 0
    var isRunning = false
  }

  private let state = Mutex(State())
  private let caBundle: String?
  /// A byte written here wakes the thread.
  private let wake: (read: Int32, write: Int32)

  /// - Parameter caBundle: a PEM file of the certificate authorities; nil if the machine has none, which fails HTTPS.
  package init(caBundle: String?) {
    self.caBundle = caBundle
    wake = makePipe(nonBlocking: true)
  }

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
    try Task.checkCancellation()
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        submit(.start(number: number, request, continuation))
      }
    } onCancel: {
      submit(.cancel(number: number))
    }
  }

  private func submit(_ command: CurlCommand) {
    let mustStart = state.withLock { state in
      state.commands.append(command)
      defer { state.isRunning = true }
      return !state.isRunning
    }
    if mustStart {
      let caBundle = caBundle, wake = wake
      // The thread lives as long as the process: there is one transport, made at the composition root.
      startThread { [self] in
        CurlLoop(caBundle: caBundle, wakeDescriptor: wake.read).run {
          self.state.withLock { state in
            defer { state.commands = [] }
            return state.commands
          }
        }
      }
    }
    var byte: UInt8 = 0
    // A full pipe means that the thread is already about to wake.
    _ = write(wake.write, &byte, 1)
  }
}

/// What the thread is asked to do.
private enum CurlCommand: Sendable {
  case start(number: Int, HTTPRequest, CheckedContinuation<HTTPResponse, any Error>)
  case cancel(number: Int)
}

/// The thread's side: everything in it belongs to that one thread.
private final class CurlLoop {
  private let multi: UnsafeMutableRawPointer
  private let caBundle: String?
  private let wakeDescriptor: Int32
  private var transfers: [Int: CurlTransfer] = [:]
  /// Handles at rest. Each has a resolver of its own, whose making reads files: worth keeping.
  private var idle: [UnsafeMutableRawPointer] = []
  private static let maximumIdle = 64

  init(caBundle: String?, wakeDescriptor: Int32) {
    _ = cb_curl_global_init()
    multi = curl_multi_init()
    self.caBundle = caBundle
    self.wakeDescriptor = wakeDescriptor
    // Kept for reuse: the handful of AWS endpoints and the metadata service; peers are asked once in a while.
    _ = cb_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 16)
  }

  func run(takeCommands: () -> [CurlCommand]) -> Never {
    while true {
      for command in takeCommands() {
        switch command {
        case .start(let number, let request, let continuation):
          let transfer = CurlTransfer(
            number: number, easy: idle.popLast() ?? curl_easy_init(), request, continuation, caBundle: caBundle)
          transfers[number] = transfer
          curl_multi_add_handle(multi, transfer.easy)
        case .cancel(let number):
          guard let transfer = transfers.removeValue(forKey: number) else { continue }
          curl_multi_remove_handle(multi, transfer.easy)
          transfer.cancel()
          recycle(transfer)
        }
      }
      var running: Int32 = 0
      curl_multi_perform(multi, &running)
      finishTransfers()
      var wake = curl_waitfd(fd: wakeDescriptor, events: Int16(CURL_WAIT_POLLIN), revents: 0)
      // Idle, only the pipe wakes us; with transfers, libcurl shortens the wait to its own next time-out.
      curl_multi_poll(multi, &wake, 1, transfers.isEmpty ? 3_600_000 : 1000, nil)
      var drained = [UInt8](repeating: 0, count: 256)
      while read(wakeDescriptor, &drained, drained.count) > 0 {}
    }
  }

  private func finishTransfers() {
    var remaining: Int32 = 0
    while let message = curl_multi_info_read(multi, &remaining) {
      guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
      let result = cb_curl_message_result(message)
      var context: UnsafeMutableRawPointer?
      _ = cb_curl_get_pointer(easy, CURLINFO_PRIVATE, &context)
      curl_multi_remove_handle(multi, easy)
      guard let context else { continue }
      let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
      transfers[transfer.number] = nil
      transfer.finish(result)
      recycle(transfer)
    }
  }

  private func recycle(_ transfer: CurlTransfer) {
    curl_easy_reset(transfer.easy)
    transfer.releaseHeaders()
    if idle.count < Self.maximumIdle { idle.append(transfer.easy) } else { curl_easy_cleanup(transfer.easy) }
  }
}

/// One exchange.
private final class CurlTransfer {
  let number: Int
  let easy: UnsafeMutableRawPointer
  private let continuation: CheckedContinuation<HTTPResponse, any Error>
  private let limit: Int
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private var headers: [String: String] = [:]
  private let question: [UInt8]
  /// Bytes of it that libcurl has taken.
  private var given = 0
  private var body: [UInt8] = []
  private var exceededLimit = false
  private let errorText = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

  /// - Parameter easy: new or reset; its owner is the loop.
  init(
    number: Int, easy: UnsafeMutableRawPointer, _ request: HTTPRequest,
    _ continuation: CheckedContinuation<HTTPResponse, any Error>,
    caBundle: String?
  ) {
    self.number = number
    self.easy = easy
    self.continuation = continuation
    limit = request.maximumBodyBytes
    question = request.body
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))

    _ = cb_curl_set_string(easy, CURLOPT_URL, request.url)
    _ = cb_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
    _ = cb_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
    _ = cb_curl_set_long(easy, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
    _ = cb_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, Int(request.connectTimeout.wholeMilliseconds))
    _ = cb_curl_set_long(easy, CURLOPT_TIMEOUT_MS, Int(request.timeout.wholeMilliseconds))
    if let caBundle { _ = cb_curl_set_string(easy, CURLOPT_CAINFO, caBundle) }
    if !request.allowsProxy { _ = cb_curl_set_string(easy, CURLOPT_PROXY, "") }
    if request.method != "GET" {
      _ = cb_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method)
      _ = cb_curl_set_long(easy, CURLOPT_POST, 1)
      _ = cb_curl_set_long(easy, CURLOPT_POSTFIELDSIZE, request.body.count)
    }
    // No 100-continue: it costs a round trip.
    headerList = curl_slist_append(nil, "Expect:")
    if request.method != "GET", !request.headers.contains(where: { $0.name.lowercased() == "content-type" }) {
      headerList = curl_slist_append(headerList, "Content-Type:")
    }
    for header in request.headers { headerList = curl_slist_append(headerList, "\(header.name): \(header.value)") }
    _ = cb_curl_set_list(easy, CURLOPT_HTTPHEADER, headerList)

    let context = Unmanaged.passUnretained(self).toOpaque()
    _ = cb_curl_set_pointer(easy, CURLOPT_PRIVATE, context)
    _ = cb_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText)
    _ = cb_curl_set_pointer(easy, CURLOPT_WRITEDATA, context)
    _ = cb_curl_set_pointer(easy, CURLOPT_HEADERDATA, context)
    // The body is read where it is: libcurl's own copy of a batch of logs would be another megabyte.
    _ = cb_curl_set_pointer(easy, CURLOPT_READDATA, context)
    _ = cb_curl_set_pointer(easy, CURLOPT_SEEKDATA, context)
    _ = cb_curl_set_write(easy, CURLOPT_READFUNCTION) { bytes, size, count, context in
      guard let bytes, let context else { return 0 }
      return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().give(bytes, size * count)
    }
    _ = cb_curl_set_seek(easy, CURLOPT_SEEKFUNCTION) { context, offset, origin in
      guard let context, origin == SEEK_SET else { return CURL_SEEKFUNC_FAIL }
      Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().rewind(to: Int(offset))
      return CURL_SEEKFUNC_OK
    }
    _ = cb_curl_set_write(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
      guard let bytes, let context else { return 0 }
      return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().receive(bytes, size * count)
    }
    _ = cb_curl_set_write(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, context in
      guard let bytes, let context else { return 0 }
      return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().receiveHeader(bytes, size * count)
    }
  }

  deinit { errorText.deallocate() }

  /// Once the handle no longer refers to them.
  func releaseHeaders() {
    curl_slist_free_all(headerList)
    headerList = nil
  }

  func cancel() { continuation.resume(throwing: CancellationError()) }

  func finish(_ result: CURLcode) {
    guard result == CURLE_OK else { return continuation.resume(throwing: error(result)) }
    var status = 0
    _ = cb_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
    continuation.resume(returning: HTTPResponse(status: status, headers: headers, body: body))
  }

  /// Where a connection that was kept turns out to be closed.
  private func rewind(to offset: Int) { given = max(0, offset) }

  private func give(_ bytes: UnsafeMutablePointer<CChar>, _ room: Int) -> Int {
    let piece = question[min(given, question.count)...].prefix(room)
    piece.withUnsafeBytes {
      if let base = $0.baseAddress { UnsafeMutableRawPointer(bytes).copyMemory(from: base, byteCount: $0.count) }
    }
    given += piece.count
    return piece.count
  }

  private func receive(_ bytes: UnsafeMutablePointer<CChar>, _ count: Int) -> Int {
    guard body.count + count <= limit else {
      exceededLimit = true
      return 0
    }
    bytes.withMemoryRebound(to: UInt8.self, capacity: count) {
      body.append(contentsOf: UnsafeBufferPointer(start: $0, count: count))
    }
    return count
  }

  private func receiveHeader(_ bytes: UnsafeMutablePointer<CChar>, _ count: Int) -> Int {
    // More headers than any service sends; libcurl bounds their total size itself.
    guard headers.count < 200 else { return 0 }
    let line = bytes.withMemoryRebound(to: UInt8.self, capacity: count) {
      String(decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self)
    }
    if let colon = line.firstIndex(of: ":") {
      let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      headers[line[..<colon].lowercased()] = String(value.prefix { !$0.isNewline })
    } else if line.hasPrefix("HTTP/") {
      headers = [:]  // a final answer after an informational one
    }
    return count
  }

  private func error(_ result: CURLcode) -> TransportError {
    if exceededLimit { return .bodyTooLarge(limit: limit) }
    let words = errorText[0] != 0 ? String(cString: errorText) : String(cString: curl_easy_strerror(result))
    switch result {
    case CURLE_OPERATION_TIMEDOUT:
      var requestSize = 0
      _ = cb_curl_get_long(easy, CURLINFO_REQUEST_SIZE, &requestSize)
      return .timedOut(whileConnecting: requestSize == 0)
    case CURLE_COULDNT_CONNECT:
      var number = 0
      _ = cb_curl_get_long(easy, CURLINFO_OS_ERRNO, &number)
      switch Int32(truncatingIfNeeded: number) {
      case ECONNREFUSED: return .refused
      case EHOSTUNREACH, ENETUNREACH: return .unreachable
      default: return .other(words)
      }
    case CURLE_COULDNT_RESOLVE_HOST: return .nameNotFound
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM:
      return .tls(words)
    case CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_RECV_ERROR: return .truncated
    default: return .other(words)
    }
  }
}
