internal import Glibc

/// A thread of our own, for calls that block: never in Swift's cooperative pool.
func startThread(_ body: @escaping @Sendable () -> Void) {
  final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var attributes = pthread_attr_t()
  pthread_attr_init(&attributes)
  pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
  // Deep enough for TLS handshakes, small enough that a few threads cost little.
  pthread_attr_setstacksize(&attributes, 512 << 10)
  var thread = pthread_t()
  let box = Unmanaged.passRetained(Box(body))
  let status = pthread_create(
    &thread, &attributes,
    { context in
      Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
      return nil
    }, box.toOpaque())
  pthread_attr_destroy(&attributes)
  precondition(status == 0, "cannot create a thread: \(String(cString: strerror(status)))")
}

/// The C library's words for an error number.
func errorText(_ number: Int32) -> String { String(cString: strerror(number)) }
