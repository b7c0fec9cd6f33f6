package import Base
internal import CAres
internal import Glibc

/// Names by c-ares, each question on a thread of its own.
package struct AresResolver: NameResolver {
  package init() {}

  package func addresses(of name: String, server: IPv4Address, port: Int64, timeout: Duration) async throws
    -> [IPv4Address]
  {
    let milliseconds = Int32(clamping: timeout.wholeMilliseconds)
    let result: Result<[IPv4Address], NameError> = await withCheckedContinuation { continuation in
      startThread {
        var answer = cb_ares_answer()
        cb_ares_lookup("\(server):\(port)", name, milliseconds, &answer)
        guard answer.status == 0 else {
          let words = ares_strerror(answer.status).map { String(cString: $0) } ?? "error \(answer.status)"
          continuation.resume(returning: .failure(NameError(words)))
          return
        }
        let count = Int(answer.count)
        let found = withUnsafeBytes(of: &answer.addresses) { bytes in
          (0..<count).map { IPv4Address(value: UInt32(bigEndian: bytes.load(fromByteOffset: $0 * 4, as: UInt32.self))) }
        }
        continuation.resume(returning: .success(found))
      }
    }
    return try result.get()
  }
}
