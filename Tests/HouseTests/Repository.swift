import Foundation

/// The files of the repository that people write.
enum Repository {
  struct File {
    /// From the repository's root.
    let path: String
    let lines: [Substring]

    var name: String { String(path.split(separator: "/").last ?? "") }
    /// The target, or the directory for what is no target: `Sources/AWS`, `Tests/Sandbox`, `.ci`.
    var home: String {
      let parts = path.split(separator: "/").dropLast()
      return parts.prefix(parts.first == "Sources" || parts.first == "Tests" ? 2 : 1).joined(separator: "/")
    }
  }

  static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardizedFileURL

  /// Everything below these directories and these files, but what a tool has generated.
  static func files(_ paths: [String], where isWanted: (String) -> Bool) throws -> [File] {
    var found: [File] = []
    for path in paths {
      let url = root.appending(path: path)
      let below = FileManager.default.enumerator(atPath: url.path)?.compactMap { $0 as? String }.map { "\(path)/\($0)" }
      for path in (below?.isEmpty ?? true ? [path] : below ?? []).sorted() {
        guard !path.contains("__pycache__"), isWanted(path) else { continue }
        let text = try String(contentsOf: root.appending(path: path), encoding: .utf8)
        found.append(File(path: path, lines: text.split(separator: "\n", omittingEmptySubsequences: false)))
      }
    }
    return found
  }

  /// The Swift files of Sources.
  static func sources() throws -> [File] { try files(["Sources"]) { $0.hasSuffix(".swift") } }
}

extension Repository.File {
  /// The lines that are code, numbered from 1: without comments, which end a line or fill it.
  var code: [(number: Int, text: String)] {
    lines.enumerated().compactMap { offset, line in
      let text = line.firstRange(of: "//").map { start in
        // Not the `//` of a URL in a text.
        line[..<start.lowerBound].hasSuffix(":") ? line : line[..<start.lowerBound]
      }
      let code = (text ?? line).trimmingCharacters(in: .whitespaces)
      return code.isEmpty ? nil : (offset + 1, code)
    }
  }
}

/// One line of code that a rule forbids elsewhere, with the reason.
struct Exception {
  let file: String
  /// A part of the line.
  let code: String
  let reason: String

  init(_ file: String, _ code: String, _ reason: String) {
    (self.file, self.code, self.reason) = (file, code, reason)
  }
}

/// Applies a rule to the code of Sources.
/// - Returns: a sentence for each line that breaks the rule, and for each exception that excuses none.
func violations(
  in files: [Repository.File], exceptions: [Exception], _ isForbidden: (_ code: String) -> Bool
) -> [String] {
  var used = Set<Int>(), found: [String] = []
  for file in files {
    for line in file.code where isForbidden(line.text) {
      let excuse = exceptions.indices.first {
        !used.contains($0) && exceptions[$0].file == file.name && line.text.contains(exceptions[$0].code)
      }
      if let excuse { used.insert(excuse) } else { found.append("\(file.path):\(line.number): \(line.text)") }
    }
  }
  return found
    + exceptions.indices.filter { !used.contains($0) }
    .map { "the exception for \(exceptions[$0].file), \(exceptions[$0].code), excuses nothing" }
}
