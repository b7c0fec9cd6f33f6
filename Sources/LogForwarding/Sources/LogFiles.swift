package import Base

/// Which names are log files.
package enum LogFiles {
  private static let compressed = [".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".zip"]

  package static func isCompressed(_ name: String) -> Bool { compressed.contains { name.hasSuffix($0) } }

  /// The files that match, sorted; compressed ones only if the pattern names them. Throws `FileError` if the directory
  /// cannot be listed, also if it does not exist.
  package static func matching(_ pattern: FilePattern, _ files: any FileOpener) throws -> [String] {
    let path = pattern.path
    guard pattern.hasWildcards, let slash = path.lastIndex(of: "/") else { return [path] }
    let directory = String(path[..<slash]), last = String(path[path.index(after: slash)...])
    return try files.list(directory.isEmpty ? "/" : directory).filter {
      matches(Array($0.utf8)[...], Array(last.utf8)[...]) && (!isCompressed($0) || isCompressed(last))
    }.map { "\(directory)/\($0)" }
  }

  /// A shell's pattern; only a dot matches a leading dot.
  static func matches(_ name: ArraySlice<UInt8>, _ pattern: ArraySlice<UInt8>) -> Bool {
    if name.first == 46, pattern.first != 46 { return false }
    // Position of the latest star, and of the name's byte after those that the star has matched so far.
    var n = name.startIndex, p = pattern.startIndex
    var star: Int?, afterStar = n
    while n < name.endIndex {
      if p < pattern.endIndex, pattern[p] == 42 {
        star = p
        afterStar = n
        p += 1
      } else if p < pattern.endIndex, pattern[p] == 63 || pattern[p] == name[n] {
        n += 1
        p += 1
      } else if let star {
        p = star + 1
        afterStar += 1
        n = afterStar
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == 42 }
  }
}
