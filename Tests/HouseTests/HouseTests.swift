import Foundation
import Testing

/// The architecture: which target may import which, and what none may use.
@Suite struct HouseTests {
  /// CONTRIBUTING.md's table. Every target may also use the standard library and `Synchronization`.
  static let floors: [String: Set<String>] = [
    "consul-bootstrap": ["Commands"],
    "Commands": [
      "AWS", "Artifacts", "Base", "Bootstrap", "Consul", "Decisions", "Doctor", "Execution", "Host", "LogForwarding",
      "Model", "Observers", "Sidecar",
    ],
    "Bootstrap": ["AWS", "Base", "Decisions", "Execution", "LogForwarding", "Model", "Observers", "Sidecar"],
    "Sidecar": [
      "AWS", "Artifacts", "Base", "Consul", "Decisions", "Execution", "LogForwarding", "Model", "Observers",
    ],
    "Doctor": ["AWS", "Artifacts", "Base", "Consul", "Decisions", "LogForwarding", "Model", "Observers"],
    "Observers": ["AWS", "Artifacts", "Base", "Consul", "Decisions", "Model"],
    "Execution": ["AWS", "Base", "Consul", "Model"],
    "LogForwarding": ["AWS", "Base"],
    "Decisions": ["Artifacts", "Base", "Consul", "Model"],
    "Artifacts": ["AWS", "Base", "Consul", "Model"],
    "Model": ["AWS", "Base", "Consul"],
    "AWS": ["Base", "COpenSSL", "CExpat", "CDeflate"],
    "Consul": ["Base"],
    "Host": ["Base", "CAres", "CCurl", "CSpawn", "Glibc"],
    "Base": ["FoundationEssentials"],
  ]

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

  @Test(arguments: floors.keys.sorted())
  func `arrows point down only`(_ target: String) throws {
    let files = try Self.swiftFiles(target)
    #expect(!files.isEmpty)
    for file in files {
      for line in file.text.split(separator: "\n")
      where line.contains("import ") && !line.hasPrefix("//") && !line.hasPrefix(" ") {
        let module = String(line.split(separator: " ").last ?? "")
        #expect(
          Self.floors[target]?.contains(module) == true || module == "Synchronization",
          "\(target)/\(file.name): \(line)")
      }
    }
  }

  /// What an error means for a run, and which option helps, is for the floors above to say.
  @Test(arguments: ["AWS", "Consul"])
  func `an adapter knows neither an exit status nor an option`(_ target: String) throws {
    for file in try Self.swiftFiles(target) {
      #expect(!file.text.contains(/\b(Failure|ExitStatus)\b/), "\(target)/\(file.name)")
      // Those of the AWS command line, which hints name, belong to AWS.
      let lines = file.text.split(separator: "\n").filter { $0.contains(/[ "`]--[a-z]/) && !$0.contains("(aws ") }
      #expect(lines.isEmpty, "\(target)/\(file.name): \(lines)")
    }
  }

  /// Full Foundation takes the static binary from 20 MB to 60 MB; `@unchecked` and `try!` hide what is wrong.
  @Test(arguments: floors.keys.sorted())
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
