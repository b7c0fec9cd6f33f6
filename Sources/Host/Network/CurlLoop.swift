internal import Base
internal import CCurl
internal import Glibc

/// The thread's side of `CurlTransport`: everything in it belongs to that one thread.
final class CurlLoop {
  private let multi: UnsafeMutableRawPointer
  private let caBundle: String?
  private let wake: Descriptor
  private var transfers: [Int: CurlTransfer] = [:]
  /// Unused handles. Each has a resolver of its own, whose creation reads files: worth keeping.
  private var idle: [UnsafeMutableRawPointer] = []
  private static let maximumIdle = 64

  private init(_ multi: UnsafeMutableRawPointer, caBundle: String?, wake: Descriptor) {
    self.multi = multi
    self.caBundle = caBundle
    self.wake = wake
    // Kept for reuse: the few AWS endpoints and the metadata service; peers are contacted once in a while. A limit that
    // libcurl does not accept leaves its own, which is four connections for each transfer.
    _ = cb_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 16)
  }

  deinit {
    for easy in idle { curl_easy_cleanup(easy) }
    // Fails for handles that are no multi handles only.
    curl_multi_cleanup(multi)
  }

  /// Carries out commands until libcurl itself fails.
  /// - Returns: why; every transfer has ended with the same error.
  static func run(caBundle: String?, wake: Descriptor, takeCommands: () -> [CurlCommand]) -> TransportError {
    let result = cb_curl_global_init()
    guard result == CURLE_OK else {
      return .other("libcurl does not start: \(String(cString: curl_easy_strerror(result)))")
    }
    guard let multi = curl_multi_init() else { return .other("libcurl does not start: out of memory") }
    let loop = CurlLoop(multi, caBundle: caBundle, wake: wake)
    while true {
      do throws(TransportError) {
        try loop.step(takeCommands())
      } catch {
        for transfer in loop.transfers.values {
          curl_multi_remove_handle(multi, transfer.easy)
          transfer.fail(error)
          loop.recycle(transfer)
        }
        loop.transfers = [:]
        return error
      }
    }
  }

  /// Carries out the commands, moves every transfer on and waits until there is more to do.
  private func step(_ commands: [CurlCommand]) throws(TransportError) {
    for command in commands {
      switch command {
      case .start(let number, let request, let continuation): start(number, request, continuation)
      case .cancel(let number): end(number) { $0.fail(CancellationError()) }
      }
    }
    var running: Int32 = 0
    try check(curl_multi_perform(multi, &running))
    finishTransfers()
    var event = curl_waitfd(fd: wake.number, events: Int16(CURL_WAIT_POLLIN), revents: 0)
    // Without transfers only the pipe wakes the thread; with transfers, libcurl shortens the wait to its next time-out.
    try check(curl_multi_poll(multi, &event, 1, transfers.isEmpty ? 3_600_000 : 1000, nil))
    var drained = [UInt8](repeating: 0, count: 256)
    while read(wake.number, &drained, drained.count) > 0 {}
  }

  private func check(_ result: CURLMcode) throws(TransportError) {
    guard result == CURLM_OK else { throw .other("libcurl fails: \(String(cString: curl_multi_strerror(result)))") }
  }

  private func start(
    _ number: Int, _ request: HTTPRequest, _ continuation: CheckedContinuation<HTTPResponse, any Error>
  ) {
    guard let easy = idle.popLast() ?? curl_easy_init() else {
      let reason = "cannot create a transfer: out of memory or file descriptors"
      return continuation.resume(throwing: TransportError.other(reason))
    }
    let transfer = CurlTransfer(number: number, easy: easy, request, continuation, caBundle: caBundle)
    transfers[number] = transfer
    do throws(TransportError) {
      if let error = transfer.setupError { throw error }
      try check(curl_multi_add_handle(multi, easy))
    } catch {
      end(number) { $0.fail(error) }
    }
  }

  /// Does nothing for a transfer that has ended already.
  private func end(_ number: Int, _ resume: (CurlTransfer) -> Void) {
    guard let transfer = transfers.removeValue(forKey: number) else { return }
    // Fails for a handle that was not added only.
    curl_multi_remove_handle(multi, transfer.easy)
    resume(transfer)
    recycle(transfer)
  }

  private func finishTransfers() {
    var remaining: Int32 = 0
    while let message = curl_multi_info_read(multi, &remaining) {
      guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
      // The message ends with the removal of the handle.
      let result = cb_curl_message_result(message)
      guard let number = transfers.first(where: { $0.value.easy == easy })?.key else { continue }
      end(number) { $0.finish(result) }
    }
  }

  private func recycle(_ transfer: CurlTransfer) {
    curl_easy_reset(transfer.easy)
    transfer.releaseHeaders()
    if idle.count < Self.maximumIdle { idle.append(transfer.easy) } else { curl_easy_cleanup(transfer.easy) }
  }
}
