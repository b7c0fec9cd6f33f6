import Testing

@testable import Consul

/// MessagePack from a peer that is not trusted.
@Suite struct MessagePackTests {
  private func decode(_ bytes: [UInt8]) throws(MessagePackError) -> MessagePackValue {
    var rest = bytes[...]
    let value = try MessagePackValue(decoding: &rest)
    #expect(rest.isEmpty)
    return value
  }

  /// From the format's specification; Python's msgpack encodes each of them so.
  @Test(
    arguments: [
      ([0x00], .unsigned(0)), ([0x7F], .unsigned(127)), ([0xCC, 0x80], .unsigned(128)),
      ([0xCD, 0x01, 0x00], .unsigned(256)), ([0xCE, 0x00, 0x01, 0x00, 0x00], .unsigned(65536)),
      ([0xCF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], .unsigned(.max)),
      ([0xE0], .negative(-32)), ([0xFF], .negative(-1)), ([0xD0, 0xDF], .negative(-33)), ([0xD0, 0x05], .unsigned(5)),
      ([0xD1, 0x80, 0x00], .negative(-32768)), ([0xD2, 0x80, 0x00, 0x00, 0x00], .negative(-2_147_483_648)),
      ([0xD3, 0x80, 0, 0, 0, 0, 0, 0, 0], .negative(.min)), ([0xD3, 0, 0, 0, 0, 0, 0, 0, 9], .unsigned(9)),
      ([0xC0], .null), ([0xC2], .bool(false)), ([0xC3], .bool(true)),
      ([0xCA, 0x3F, 0x80, 0x00, 0x00], .double(1)), ([0xCB, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0], .double(1.5)),
      ([0xA0], .bytes([])), ([0xA2, 0x68, 0x69], .text("hi")), ([0xD9, 0x01, 0x61], .text("a")),
      ([0xDA, 0x00, 0x01, 0x61], .text("a")), ([0xDB, 0, 0, 0, 1, 0x61], .text("a")),
      ([0xC4, 0x01, 0xFF], .bytes([255])), ([0xC5, 0, 1, 0xFF], .bytes([255])),
      ([0xC6, 0, 0, 0, 1, 0xFF], .bytes([255])),
      ([0x92, 0x01, 0xC0], .array([.unsigned(1), .null])), ([0xDC, 0x00, 0x01, 0x01], .array([.unsigned(1)])),
      ([0xDD, 0, 0, 0, 1, 0x01], .array([.unsigned(1)])),
      ([0x81, 0xA1, 0x61, 0x01], .map(["a": .unsigned(1)])),
      ([0xDE, 0x00, 0x01, 0xA1, 0x61, 0x01], .map(["a": .unsigned(1)])),
      ([0xDF, 0, 0, 0, 1, 0xA1, 0x61, 0x01], .map(["a": .unsigned(1)])),
      ([0x82, 0xA1, 0x61, 0x01, 0xA1, 0x61, 0x02], .map(["a": .unsigned(2)])),
    ] as [([UInt8], MessagePackValue)])
  func `each type is decoded, and no beginning of it`(_ bytes: [UInt8], _ value: MessagePackValue) throws {
    #expect(try decode(bytes) == value)
    for count in 0..<bytes.count {
      #expect(throws: MessagePackError.incomplete) { try decode(Array(bytes.prefix(count))) }
    }
    #expect(try decode(value.encoded) == value)
  }

  @Test(
    arguments: [
      ([0xC1], "type 193 is not used by Consul"), ([0xC7, 0x00, 0x01], "type 199 is not used by Consul"),
      ([0xD4, 0x01, 0x00], "type 212 is not used by Consul"),
      ([0x81, 0x01, 0x01], "the key of an entry is not text"),
      ([0x81, 0xA1, 0xFF, 0x01], "the key of an entry is not text"),
      ([UInt8](repeating: 0x91, count: 100) + [0x01], "values are nested deeper than 8 levels"),
    ] as [([UInt8], String)])
  func `what Consul does not write is malformed`(_ bytes: [UInt8], _ reason: String) {
    #expect(throws: MessagePackError.malformed(reason)) { try decode(bytes) }
  }

  /// msgpack-c reserves 2 GB for the first of these.
  @Test(
    arguments: [
      [0xDD, 0x05, 0, 0, 0], [0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 0xA1, 0x61], [0xDB, 0xFF, 0xFF, 0xFF, 0xFF, 0x61],
      [0xC6, 0xFF, 0xFF, 0xFF, 0xFF], [0xDC, 0xFF, 0xFF] + [UInt8](repeating: 0x90, count: 1000),
    ] as [[UInt8]])
  func `a count beyond what has arrived reserves nothing`(_ bytes: [UInt8]) {
    #expect(throws: MessagePackError.incomplete) { try decode(bytes) }
  }

  @Test func `the bytes behind a value stay`() throws {
    var rest: ArraySlice<UInt8> = [0x01, 0xA1, 0x61, 0xFF]
    #expect(try MessagePackValue(decoding: &rest) == .unsigned(1))
    #expect(try MessagePackValue(decoding: &rest) == .text("a"))
    #expect(rest == [0xFF])
  }

  @Test func `longer values have longer heads`() throws {
    let text = String(repeating: "a", count: 40)
    let many = MessagePackValue.array([MessagePackValue](repeating: .null, count: 20))
    let wide = MessagePackValue.map(Dictionary(uniqueKeysWithValues: (0..<20).map { ("\($0)", .bool(true)) }))
    for value in [.text(text), many, wide, .unsigned(.max), .negative(-5)] as [MessagePackValue] {
      #expect(try decode(value.encoded) == value)
    }
  }
}
