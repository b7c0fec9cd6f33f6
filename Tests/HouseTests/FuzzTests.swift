import Foundation
import Testing

/// Each parser of foreign input has a fuzz target, and `make fuzz` runs it.
@Suite struct FuzzTests {
  static let parsers = [
    "Bolt", "CheckpointStore", "ClusterRecord", "ConsulVersion", "HCL", "HTTPDate", "ISO8601", "JSON", "Journal",
    "LineSplitter", "LogTimestamp", "MessagePack", "SharedConfiguration", "WriteAheadLog", "XML",
  ]

  @Test func `make fuzz runs a target for every parser of foreign input`() throws {
    #expect(try run("Tests/Fuzz/run", "--list").split(separator: "\n").map(String.init).sorted() == Self.parsers)
  }

  @Test func `every target has seeds, and every seed a target`() throws {
    let seeds = Repository.root.appending(path: "Tests/Fuzz/seeds")
    let directories = try FileManager.default.contentsOfDirectory(atPath: seeds.path).sorted()
    #expect(directories == Self.parsers)
    for directory in directories {
      #expect(try !FileManager.default.contentsOfDirectory(atPath: seeds.appending(path: directory).path).isEmpty)
    }
  }
}
