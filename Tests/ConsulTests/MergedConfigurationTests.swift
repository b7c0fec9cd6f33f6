import Foundation
import Testing

@testable import Base
@testable import Consul

/// Configuration files, and what Consul reads in them. `Tests/Sandbox/test_configuration.py` checks the same table with
/// the real agent.
@Suite struct ConfigurationFileTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let files: [String: String]
    /// By path of the key; nil if Consul refuses the files.
    let reads: [String: JSONValue]?

    var testDescription: String { name }
  }

  static let cases: [Case] = {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../Sandbox/configuration_files.json")
    guard let data = try? Data(contentsOf: path), let table = try? JSONValue(parsing: Array(data)).array else {
      return []
    }
    return table.map { row in
      Case(
        name: row["name"]?.string ?? "", files: row["files"]?.object?.compactMapValues(\.string) ?? [:],
        reads: row["reads"]?.object)
    }
  }()

  /// Files that Consul refuses for their types or keys, not for their syntax.
  static let readable: Set = [
    "repeated blocks are no map", "labels", "two spellings of a key", "a quoted number", "a quoted boolean",
    "a number for a boolean", "a dot in a key", "a scalar for an object", "an unknown key",
  ]

  private func merged(_ files: [String: String]) throws -> MergedConfiguration {
    MergedConfiguration(
      try files.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }.compactMap { name, text in
        try ConfigurationSyntax(path: name).map {
          .init(path: name, SecretDocument(try $0.parse(Array(text.utf8))))
        }
      })
  }

  @Test func `the table is there`() { #expect(Self.cases.count > 50) }

  @Test(arguments: cases)
  func `files are read as Consul reads them`(_ row: Case) throws {
    guard let reads = row.reads else {
      if Self.readable.contains(row.name) {
        _ = try self.merged(row.files)
      } else {
        #expect(throws: ConfigurationSyntaxError.self) { try self.merged(row.files) }
      }
      return
    }
    let merged = try self.merged(row.files)
    for (path, expected) in reads {
      var value = path.split(separator: ".").reduce(merged.document.value) { $0?[String($1)] }
      // Consul itself converts these.
      switch path {
      case "datacenter": value = value?.string.map { .string($0.lowercased()) }
      case "bootstrap_expect": value = value?.wholeNumber.map { .integer($0) }
      case "client_addr": value = value?.string.map { .strings($0.split(separator: " ").map(String.init)) }
      default: break
      }
      #expect(value == expected, "\(path)")
    }
  }

  @Test(arguments: [
    ("a.hcl", "server = true\nx", "line 2: = or { after x expected"),
    // Consul reads 3.
    (
      "a.hcl", #"{"bootstrap_expect": 3, "retry_join": [["a"]], "bootstrap_expect": 0}"#,
      "line 1: a list in a list"
    ),
    ("a.hcl", "a = [1,\n2\n3]", "line 3: a comma or ] expected"),
    ("a.hcl", "a = \"x\ny\"", "line 1: the string is not terminated"),
    ("a.hcl", "a b = 1", "line 1: = or { after a b expected"), ("a.hcl", "a =", "line 1: a value expected"),
    ("a.hcl", "a = 99999999999999999999", "line 1: invalid number"), ("a.hcl", "= 1", "line 1: a key expected"),
    ("a.hcl", "a = 1\na = [1]", "line 2: a is given twice with different types"),
    ("a.hcl", "a = \"\u{0}\"", "line 1: not a text in UTF-8"),
    ("a.json", "{\"a\": 1\n\"b\": 2}", "line 2: a comma or } expected"),
    ("a.json", "{\"a\": tru}", "line 1: a value expected"), ("a.json", "{\"a\": 1e999}", "line 1: invalid number"),
    ("a.json", "{\"a\": \"\\ud8\"}", "line 1: invalid escape sequence"),
    ("a.json", "{a: 1}", "line 1: a key in quotes expected"),
    ("a.json", "{\"a\": \"\t\"}", "line 1: invalid character in a string"),
  ])
  func `an error names the line and no value`(_ name: String, _ text: String, _ reason: String) throws {
    let syntax = try #require(ConfigurationSyntax(path: name))
    let error = #expect(throws: ConfigurationSyntaxError.self) { try syntax.parse(Array(text.utf8)) }
    #expect(error?.explanation == reason)
  }

  // A file of brackets used up the stack.
  @Test(arguments: ["a.hcl", "a.json"])
  func `the depth is bounded`(_ name: String) throws {
    let syntax = try #require(ConfigurationSyntax(path: name)), count = 100_000
    let texts =
      name == "a.json"
      ? [String(repeating: "{\"a\":", count: count), "{\"a\":" + String(repeating: "[", count: count)]
      : [
        String(repeating: "a {", count: count), "a = " + String(repeating: "[", count: count),
        "a = " + String(repeating: "[{a=", count: count), String(repeating: "a ", count: count) + "{}",
      ]
    for text in texts {
      let error = #expect(throws: ConfigurationSyntaxError.self) { try syntax.parse(Array(text.utf8)) }
      #expect(error?.reason == "nested deeper than 64 levels")
    }
    let open = name == "a.json" ? "{\"a\":" : "a {"
    // The root of HCL has no braces.
    let levels = name == "a.json" ? 64 : 63
    let fits =
      String(repeating: open, count: levels) + (name == "a.json" ? "1" : "b = 1")
      + String(repeating: "}", count: levels)
    let value = try syntax.parse(Array(fits.utf8))
    #expect(try ConfigurationSyntax.json.parse(Array(value.compactText.utf8)) == value)
    #expect(try JSONValue(parsing: value.compactText) == value)
  }

  /// Every cut of a document is read as its beginning, or is an error; none is a trap.
  @Test func `no cut and no changed byte is a trap`() throws {
    for row in Self.cases {
      for (name, text) in row.files {
        guard let syntax = ConfigurationSyntax(path: name) else { continue }
        let bytes = Array(text.utf8)
        for index in bytes.indices {
          _ = try? syntax.parse(Array(bytes[..<index]))
          for replacement in [UInt8(0), 0x22, 0x5c, 0x7b, 0x7d, 0xff] {
            var changed = bytes
            changed[index] = replacement
            _ = try? syntax.parse(changed)
          }
        }
      }
    }
  }
}

@Suite struct MergedConfigurationTests {
  private let merged = MergedConfiguration([
    .init(path: "/d/a.json", SecretDocument(["Ports": ["HTTP": 8501, "dns": -1], "encrypt": "secret"])),
    .init(path: "/d/b.hcl", SecretDocument(["ports": ["http": .number(8502)], "retry_join": ["a"]])),
  ])

  @Test func `a key names its files in Consul's order`() {
    let settings = merged.settings(of: ["ports", "http"])
    #expect(settings.map(\.path) == ["/d/a.json", "/d/b.hcl"])
    #expect(settings.map(\.value) == [8501, .number(8502)])
    #expect(merged.settings(of: ["ports", "grpc"]).isEmpty)
  }

  @Test func `ports are numbers however they are written`() {
    #expect(merged.port("http", otherwise: 8500) == 8502)
    #expect(merged.port("dns", otherwise: 8600) == -1)
    #expect(merged.port("server", otherwise: 8300) == 8300)
  }

  @Test func `nothing that prints it prints a secret`() {
    var text = ""
    dump(merged, to: &text)
    #expect(!text.contains("secret") && !"\(merged)".contains("secret"))
  }
}
