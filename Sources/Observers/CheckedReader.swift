internal import Base
internal import Model
internal import Synchronization

/// Reads files and tells absent from unreadable: whatever exists and could not be read is remembered.
final class CheckedReader: Sendable {
  private let files: any FileReader
  private let failures = Mutex<[UnreadableFile]>([])

  init(_ files: any FileReader) { self.files = files }

  /// In the order in which they were met.
  var unreadable: [UnreadableFile] { failures.withLock { $0 } }

  func content(_ path: String, limit: Int = 1 << 20) -> FileContent {
    do {
      guard let bytes = try files.readIfPresent(path, limit: limit) else { return .absent }
      return .text(String(decoding: bytes, as: UTF8.self))
    } catch {
      remember(error, path)
      return .unreadable(reason: error.explained)
    }
  }

  /// Nil if there is nothing at the path.
  func status(_ path: String) -> FileStatus? {
    do { return try files.status(path) } catch {
      remember(error, path)
      return nil
    }
  }

  /// Empty if there is no such directory.
  func list(_ directory: String) -> [String] {
    do { return try files.list(directory) } catch let error as FileError where error.isNotFound {
      return []
    } catch {
      remember(error, directory)
      return []
    }
  }

  /// Counts a file with impossible content as unreadable.
  func reject(_ path: String, reason: String) {
    failures.withLock { $0.append(UnreadableFile(path: path, reason: reason, isPermissionDenied: false)) }
  }

  private func remember(_ error: any Error, _ path: String) {
    let isDenied = (error as? FileError)?.isPermissionDenied ?? false
    failures.withLock { failures in
      guard !failures.contains(where: { $0.path == path }) else { return }
      failures.append(UnreadableFile(path: path, reason: error.explained, isPermissionDenied: isDenied))
    }
  }
}
