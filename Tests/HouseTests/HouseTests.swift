import Foundation
import Testing

/// The architecture: which target may import which, and what none may use.
@Suite struct HouseTests {
  /// Every directory of Sources with Swift files.
  static let targets = Set(((try? Repository.sources()) ?? []).map { String($0.home.dropFirst("Sources/".count)) })
    .sorted()

  /// CONTRIBUTING.md's table, from the top: each target with the modules that it may import. Every target may also
  /// import the standard library and `Synchronization`.
  static func table() throws -> [(target: String, imports: Set<String>)] {
    let lines = try #require(try Repository.files(["CONTRIBUTING.md"]) { _ in true }.first).lines
    let head = try #require(lines.firstIndex { $0.hasPrefix("| Target | Imports |") })
    let rows = lines[(head + 2)...].prefix { $0.hasPrefix("|") }.map { $0.split(separator: "|") }
    let names = { (cell: Substring) in cell.matches(of: /`([^`]+)`/).map { String($0.1) } }
    let targets = rows.flatMap { names($0[0]) }
    return rows.enumerated().map { index, cells in
      let below = Set(targets[(index + 1)...])
      let imports = cells[1].contains("all below") ? below : Set(names(cells[1])).union(below.intersection(["Base"]))
      return (targets[index], imports)
    }
  }

  static let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Sources")
    .standardizedFileURL

  static func swiftFiles(_ target: String) throws -> [(name: String, text: String)] {
    let directory = sources.appending(path: target)
    let files = FileManager.default.enumerator(at: directory, includingPropertiesForKeys: nil)?.compactMap {
      $0 as? URL
    }
    return try (files ?? []).filter { $0.pathExtension == "swift" }
      .map { ($0.lastPathComponent, try String(contentsOf: $0, encoding: .utf8)) }
  }

  @Test func `the table has every target, and its arrows point down only`() throws {
    let table = try Self.table()
    #expect(table.map(\.target).sorted() == Self.targets && Self.targets.count > 10)
    for (index, row) in table.enumerated() {
      let above = Set(table[...index].map(\.target))
      #expect(row.imports.isDisjoint(with: above), "\(row.target)")
    }
  }

  @Test(arguments: targets)
  func `a target imports what the table lists`(_ target: String) throws {
    let imports = try #require(try Self.table().first { $0.target == target }).imports
    let files = try Self.swiftFiles(target)
    #expect(!files.isEmpty)
    for file in files {
      for line in file.text.split(separator: "\n")
      where line.contains("import ") && !line.hasPrefix("//") && !line.hasPrefix(" ") {
        let module = String(line.split(separator: " ").last ?? "")
        #expect(
          imports.contains(module) || module == "Synchronization",
          "\(target)/\(file.name): \(line)")
      }
    }
  }

  /// Everything else takes the machine as seams.
  @Test func `only Composition imports Host`() throws {
    let files = try Repository.sources().filter { file in file.lines.contains { $0.hasSuffix("import Host") } }
    #expect(!files.isEmpty)
    for file in files { #expect(file.path.hasPrefix("Sources/Commands/Composition/"), "\(file.path)") }
  }

  /// What an error means for a run, and which option helps, is for the targets above to say.
  @Test(arguments: ["AWS", "Consul", "Host"])
  func `an adapter knows neither an exit status nor an option`(_ target: String) throws {
    for file in try Self.swiftFiles(target) {
      #expect(!file.text.contains(/\b(Failure|ExitStatus)\b/), "\(target)/\(file.name)")
      // Those of the AWS command line, which hints name, belong to AWS.
      let lines = file.text.split(separator: "\n").filter { $0.contains(/[ "`]--[a-z]/) && !$0.contains("(aws ") }
      #expect(lines.isEmpty, "\(target)/\(file.name): \(lines)")
    }
  }

  /// Full Foundation takes the static binary from 20 MB to 60 MB; `@unchecked` and `try!` hide what is wrong.
  @Test(arguments: targets)
  func `no file escapes the checks of the compiler`(_ target: String) throws {
    for file in try Self.swiftFiles(target) {
      for escape in [
        "import Foundation\n", "@unchecked", "try!", "getaddrinfo", "getpwnam", "getgrnam", "dlopen",
      ] {
        #expect(!file.text.contains(escape), "\(target)/\(file.name) has \(escape)")
      }
      let publicLines = file.text.split(separator: "\n").filter { $0.drop { $0 == " " }.hasPrefix("public ") }
      #expect(publicLines.isEmpty, "\(target)/\(file.name)")
    }
  }
}
