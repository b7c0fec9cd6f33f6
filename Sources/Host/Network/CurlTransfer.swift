internal import Base
internal import CCurl
internal import Glibc

/// One request and its response.
final class CurlTransfer {
  let number: Int
  let easy: UnsafeMutableRawPointer
  private let continuation: CheckedContinuation<HTTPResponse, any Error>
  private let limit: Int
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private var headers: [String: String] = [:]
  private let requestBody: [UInt8]
  /// Bytes of it that libcurl has taken.
  private var sentBytes = 0
  private var body: [UInt8] = []
  private var exceedsLimit = false
  /// The first option that libcurl does not accept.
  private var setupResult = CURLE_OK
  private let errorText = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

  /// - Parameter easy: new or reset; it belongs to the loop.
  init(
    number: Int, easy: UnsafeMutableRawPointer, _ request: HTTPRequest,
    _ continuation: CheckedContinuation<HTTPResponse, any Error>, caBundle: String?
  ) {
    self.number = number
    self.easy = easy
    self.continuation = continuation
    limit = request.maximumBodyBytes
    requestBody = request.body
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))

    set(cb_curl_set_string(easy, CURLOPT_URL, request.url))
    set(cb_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https"))
    set(cb_curl_set_long(easy, CURLOPT_NOSIGNAL, 1))
    set(cb_curl_set_long(easy, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1)))
    set(cb_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, Self.limit(request.connectTimeout)))
    set(cb_curl_set_long(easy, CURLOPT_TIMEOUT_MS, Self.limit(request.timeout)))
    if let caBundle { set(cb_curl_set_string(easy, CURLOPT_CAINFO, caBundle)) }
    if !request.allowsProxy { set(cb_curl_set_string(easy, CURLOPT_PROXY, "")) }
    if request.method != "GET" {
      set(cb_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method))
      set(cb_curl_set_long(easy, CURLOPT_POST, 1))
      set(cb_curl_set_long(easy, CURLOPT_POSTFIELDSIZE, request.body.count))
    }
    // No 100-continue: it costs a round trip. The list cannot grow only if there is no memory left.
    headerList = curl_slist_append(nil, "Expect:")
    if request.method != "GET", !request.headers.contains(where: { $0.name.lowercased() == "content-type" }) {
      headerList = curl_slist_append(headerList, "Content-Type:")
    }
    for header in request.headers { headerList = curl_slist_append(headerList, "\(header.name): \(header.value)") }
    set(cb_curl_set_list(easy, CURLOPT_HTTPHEADER, headerList))

    let context = Unmanaged.passUnretained(self).toOpaque()
    set(cb_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText))
    set(cb_curl_set_pointer(easy, CURLOPT_WRITEDATA, context))
    set(cb_curl_set_pointer(easy, CURLOPT_HEADERDATA, context))
    // libcurl reads the body in place: its own copy of a batch of logs would be another megabyte.
    set(cb_curl_set_pointer(easy, CURLOPT_READDATA, context))
    set(cb_curl_set_pointer(easy, CURLOPT_SEEKDATA, context))
    // `size` is 1 in all of them (CURLOPT_WRITEFUNCTION(3)).
    set(
      cb_curl_set_write(easy, CURLOPT_READFUNCTION) { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().send(bytes, size * count)
      })
    set(
      cb_curl_set_seek(easy, CURLOPT_SEEKFUNCTION) { context, offset, origin in
        guard let context, origin == SEEK_SET else { return CURL_SEEKFUNC_FAIL }
        Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().rewind(to: Int(clamping: offset))
        return CURL_SEEKFUNC_OK
      })
    set(
      cb_curl_set_write(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().receive(bytes, size * count)
      })
    set(
      cb_curl_set_write(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().receiveHeader(bytes, size * count)
      })
  }

  deinit { errorText.deallocate() }

  private func set(_ result: CURLcode) { if setupResult == CURLE_OK { setupResult = result } }

  /// In milliseconds. To libcurl, 0 means no limit, and a number outside an `int` is an error.
  private static func limit(_ time: Duration) -> Int { Int(max(1, Int32(clamping: time.wholeMilliseconds))) }

  /// Why libcurl cannot carry out the request; nil if it can.
  var setupError: TransportError? {
    guard setupResult != CURLE_OK else { return nil }
    return .other("cannot prepare the request: \(String(cString: curl_easy_strerror(setupResult)))")
  }

  /// Call it once the handle no longer refers to them.
  func releaseHeaders() {
    curl_slist_free_all(headerList)
    headerList = nil
  }

  func fail(_ error: any Error) { continuation.resume(throwing: error) }

  func finish(_ result: CURLcode) {
    guard result == CURLE_OK else { return continuation.resume(throwing: error(result)) }
    let status = information(CURLINFO_RESPONSE_CODE)
    continuation.resume(returning: HTTPResponse(status: status, headers: headers, body: body))
  }

  /// 0 where libcurl does not know it.
  private func information(_ name: CURLINFO) -> Int {
    var value = 0
    return cb_curl_get_long(easy, name, &value) == CURLE_OK ? value : 0
  }

  /// libcurl sends the body again on a new connection when a kept one turns out to be closed.
  private func rewind(to offset: Int) { sentBytes = max(0, offset) }

  private func send(_ bytes: UnsafeMutablePointer<CChar>, _ room: Int) -> Int {
    let piece = requestBody[min(sentBytes, requestBody.count)...].prefix(room)
    piece.withUnsafeBytes {
      if let base = $0.baseAddress { UnsafeMutableRawPointer(bytes).copyMemory(from: base, byteCount: $0.count) }
    }
    sentBytes += piece.count
    return piece.count
  }

  private func receive(_ bytes: UnsafeMutablePointer<CChar>, _ count: Int) -> Int {
    guard count <= limit - body.count else {
      exceedsLimit = true
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
      // White space around a value is not part of it (RFC 9110, section 5.5): `Retry-After: 7 ` would not be a number.
      var value = line[line.index(after: colon)...].drop(while: \.isWhitespace)
      while value.last?.isWhitespace == true { value.removeLast() }
      headers[line[..<colon].lowercased()] = String(value)
    } else if line.hasPrefix("HTTP/") {
      headers = [:]  // the final response after an informational one
    }
    return count
  }

  private func error(_ result: CURLcode) -> TransportError {
    if exceedsLimit { return .bodyTooLarge(limit: limit) }
    let words = errorText[0] != 0 ? String(cString: errorText) : String(cString: curl_easy_strerror(result))
    switch result {
    case CURLE_OPERATION_TIMEDOUT:
      return .timedOut(whileConnecting: information(CURLINFO_REQUEST_SIZE) == 0)
    case CURLE_COULDNT_CONNECT:
      switch Int32(truncatingIfNeeded: information(CURLINFO_OS_ERRNO)) {
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
