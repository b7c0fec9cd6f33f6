internal import CSpawn
internal import Glibc

/// Runs a call that blocks on a thread of its own, never in Swift's cooperative pool.
///
/// - Parameters:
///   - name: shown by `top -H` and `ps -L`; at most 15 bytes.
///   - stackSize: deep enough for TLS handshakes, small enough that a few threads cost little.
/// - Throws: `ResourceError`; the body is not called then.
func startThread(
  _ name: StaticString, stackSize: Int = 512 << 10, _ body: @escaping @Sendable () -> Void
) throws(ResourceError) {
  final class Box: Sendable {
    let name: StaticString
    let body: @Sendable () -> Void
    init(_ name: StaticString, _ body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
  var attributes = pthread_attr_t()
  var status = pthread_attr_init(&attributes)
  guard status == 0 else { throw ResourceError(resource: "a thread", number: status) }
  defer { pthread_attr_destroy(&attributes) }
  // Cannot fail: the value is a valid one.
  pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
  status = pthread_attr_setstacksize(&attributes, stackSize)
  guard status == 0 else { throw ResourceError(resource: "a thread", number: status) }
  var thread = pthread_t()
  let box = Unmanaged.passRetained(Box(name, body))
  status = pthread_create(
    &thread, &attributes,
    { context in
      guard let context else { return nil }
      let box = Unmanaged<Box>.fromOpaque(context).takeRetainedValue()
      box.name.withUTF8Buffer { name in
        name.withMemoryRebound(to: CChar.self) { if let start = $0.baseAddress { cb_name_thread(start) } }
      }
      box.body()
      return nil
    }, box.toOpaque())
  guard status == 0 else {
    box.release()
    throw ResourceError(resource: "a thread", number: status)
  }
}
