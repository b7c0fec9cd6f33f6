internal import Base
internal import Glibc

/// A resource that the kernel refuses to this process: a thread, a pipe.
package struct ResourceError: ExplainedError, Equatable {
  /// With its article: `a thread`.
  let resource: String
  let number: Int32

  var reason: String { errorText(number) }

  package var explanation: String { "cannot create \(resource): \(reason)" }
}

/// The C library's text for an error number.
func errorText(_ number: Int32) -> String { String(cString: strerror(number)) }
