internal import Base
internal import Model
internal import Synchronization

/// Reads files and distinguishes absent from unreadable: it remembers everything that exists and could not be read.
final class CheckedReader: Sendable {
  private let files: any FileReader
  private let failures = Mutex<[UnreadableFile]>([])

  init(_ files: any FileReader) { self.files = files }

  /// In the order of the failed reads, each path once.
  var unreadable: [UnreadableFile] { failures.withLock { $0 } }

  enum Bytes {
    case absent
    case bytes([UInt8])
    case unreadable(reason: String)
  }

  /// A file larger than the limit is unreadable.
  func bytes(_ path: String, limit: Int = 1 << 20) -> Bytes {
    do {
      return try files.readIfPresent(path, limit: limit).map { .bytes($0) } ?? .absent
    } catch {
      remember(error, path)
      return .unreadable(reason: error.explained)
    }
  }

  /// The text of a file, invalid UTF-8 replaced.
  func content(_ path: String, limit: Int = 1 << 20) -> FileContent {
    switch bytes(path, limit: limit) {
    case .absent: .absent
    case .bytes(let bytes): .text(String(decoding: bytes, as: UTF8.self))
    case .unreadable(let reason): .unreadable(reason: reason)
    }
  }

  /// Nil if the path is absent or unreadable.
  func status(_ path: String) -> FileStatus? {
    do { return try files.status(path) } catch {
      remember(error, path)
      return nil
    }
  }

  /// Names in a directory; empty if it is absent or unreadable.
  func list(_ directory: String) -> [String] {
    do { return try files.list(directory) } catch {
      if !error.isNotFound { remember(error, directory) }
      return []
    }
  }

  /// False also for a path that is unreadable.
  func isLink(_ path: String) -> Bool {
    do { return try files.isLink(path) } catch {
      remember(error, path)
      return false
    }
  }

  /// Nil for a path that is unreadable.
  func resolvedPath(_ path: String) -> String? {
    do { return try files.resolvedPath(path) } catch {
      remember(error, path)
      return nil
    }
  }

  /// Treats a file with invalid content as unreadable.
  func reject(_ path: String, reason: String) {
    remember(UnreadableFile(path: path, reason: reason, isPermissionDenied: false))
  }

  private func remember(_ error: FileError, _ path: String) {
    remember(
      UnreadableFile(path: path, reason: error.explanation, isPermissionDenied: error.isPermissionDenied))
  }

  private func remember(_ file: UnreadableFile) {
    failures.withLock { failures in
      if !failures.contains(where: { $0.path == file.path }) { failures.append(file) }
    }
  }
}
