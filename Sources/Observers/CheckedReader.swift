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

  /// The text of a file, invalid UTF-8 replaced. A file larger than the limit is unreadable.
  func content(_ path: String, limit: Int = 1 << 20) -> FileContent {
    do {
      guard let bytes = try files.readIfPresent(path, limit: limit) else { return .absent }
      return .text(String(decoding: bytes, as: UTF8.self))
    } catch {
      remember(error, path)
      return .unreadable(reason: error.explained)
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
