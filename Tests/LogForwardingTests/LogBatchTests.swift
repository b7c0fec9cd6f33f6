import Base
import Foundation
import Host
import TestSupport
import Testing

@testable import LogForwarding

@Suite struct LogBatchTests {
  /// Random events: every batch is inside every limit, and together they are all of them in order.
  @Test func `batches keep every limit and lose nothing`() throws {
    var generator = SeededGenerator.fromEnvironment()
    let alphabet = Array("ab \"\\\t\u{1}\u{7f}é€😀")
    for _ in 0..<20 {
      var limits = LogBatch.Limits()
      limits.bytes = Int.random(in: 300...3000, using: &generator)
      limits.events = Int.random(in: 1...40, using: &generator)
      limits.span = Int64.random(in: 1...2000, using: &generator)
      var time: Int64 = 1_000_000
      let events = (0..<100).map { index in
        time += Int64.random(in: -50...120, using: &generator)
        let text = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
          String(alphabet.randomElement(using: &generator)!)
        }.joined()
        return Event(timestamp: time, message: "\(index) " + text)
      }
      var batches = [LogBatch(limits: limits)]
      for event in events where !batches[batches.count - 1].append(Array(event.message.utf8)[...], at: event.timestamp)
      {
        batches.append(LogBatch(limits: limits))
        let fits = batches[batches.count - 1].append(Array(event.message.utf8)[...], at: event.timestamp)
        #expect(fits)
      }
      #expect(
        batches.flatMap { batch in batch.events.map { Event(timestamp: $0.timestamp, message: batch.message($0)) } }
          == events)
      for batch in batches {
        // What goes over the wire, read by another's parser.
        let sent = try JSONDecoder().decode([Event].self, from: Data(Self.json(batch)))
        #expect(
          sent.reduce(0) { $0 + $1.message.utf8.count + 26 } == batch.size && batch.size <= limits.bytes
            && sent.count <= limits.events)
        #expect(sent.last!.timestamp - sent[0].timestamp < limits.span || sent.count == 1)
        #expect(
          zip(sent, sent.dropFirst()).allSatisfy {
            $0.timestamp < $1.timestamp || $0.timestamp == $1.timestamp && $0.number < $1.number
          })
      }
    }
  }

  private static func json(_ batch: LogBatch) -> [UInt8] {
    var json: [UInt8] = []
    batch.append(batch.chronological, to: &json)
    #expect(json.count <= batch.jsonSize)
    return json
  }

  private struct Event: Codable, Equatable {
    let timestamp: Int64
    let message: String
    var number: Int { Int(message.prefix { $0.isNumber })! }
  }

  /// Times of any number: a span that overflows is too long.
  @Test func `times at the ends of the range do not share a batch, and do not trap`() {
    var batch = LogBatch()
    #expect(batch.append([65], at: .min) && batch.append([66], at: .min + 1))
    #expect(!batch.append([67], at: .max) && !batch.append([67], at: 0))
    batch.removeAll()
    #expect(batch.append([65], at: .max) && !batch.append([66], at: .min) && !batch.append([66], at: -1))
    #expect(Self.json(batch).elementsEqual(#"[{"message":"A","timestamp":9223372036854775807}]"#.utf8))
  }

  @Test func `an empty line is a blank, since the service takes no empty message`() {
    var batch = LogBatch()
    let fits = batch.append([], at: 5)
    #expect(fits)
    #expect(batch.size == 27 && Self.json(batch).elementsEqual(#"[{"message":" ","timestamp":5}]"#.utf8))
  }
}
