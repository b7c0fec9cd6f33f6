import TestSupport
import Testing

@testable import AWS

@Suite struct XMLDocumentTests {
  private func parse(_ text: String) throws(XMLError) -> XMLElement { try XMLDocument(parsing: Array(text.utf8)).root }

  @Test func `elements, text and lists are found, white space between elements is none`() throws {
    let root = try parse(
      """
      <?xml version="1.0"?>
      <R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <set> <item><id>i-1</id><s><name>running</name></s></item> <item><id>a &amp; b&#x20;</id></item> </set>
        <empty/> <nextToken> t </nextToken>
      </R>
      """)
    #expect(root.name == "R")
    let items = root.list("set")
    #expect(items.map { $0["id"] } == ["i-1", "a & b "])
    #expect(items[0].child("s")?["name"] == "running")
    #expect(root["empty"] == nil)
    #expect(root["nextToken"] == " t ")
    #expect(root.child("set")?.text == "")
    #expect(root["absent"] == nil)
  }

  @Test(arguments: [
    "", "plain", "<a>", "<a></b>", "<a/><b/>", "\u{FFFE}", "<a>&undefined;</a>",
    #"<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>"#,
    "<!DOCTYPE html><html/>", String(repeating: "<a>", count: 100) + String(repeating: "</a>", count: 100),
  ])
  func `what is not acceptable is refused, with the line`(_ text: String) {
    #expect(throws: XMLError.self) { try parse(text) }
  }

  /// Guards against an arena that indexes out of bounds: random cuts and changes of a valid answer never crash.
  @Test func `hostile documents end in an error or a document`() {
    let valid = Array(
      ("<R><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></item>"
        + "</reservationSet></R>").utf8)
    var generator = SeededGenerator.fromEnvironment()
    for _ in 0..<20_000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      if let document = try? XMLDocument(parsing: bytes) {
        _ = document.root.list("reservationSet").flatMap { $0.list("instancesSet") }
      }
    }
  }
}
