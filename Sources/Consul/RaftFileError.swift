internal import Base

/// A file of raft's that does not show whether it holds state. Its state is unknown, never none.
enum RaftFileError: ExplainedError, Equatable {
  case unreadable(FileError)
  /// Not what Consul writes: damaged, cut, of an unknown format, or hostile.
  case invalid(path: String, reason: String)
  /// A running agent wrote to it at the same time.
  case changed(path: String)

  var explanation: String {
    switch self {
    case .unreadable(let error): error.explanation
    case .invalid(let path, let reason): "\(path) \(reason)"
    case .changed(let path): "\(path) changes while it is read"
    }
  }
}
