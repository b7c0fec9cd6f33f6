package import Base

/// What PutLogEvents did not take of a batch (API reference, RejectedLogEventsInfo); indices into the batch.
package struct RejectedLogEvents: Sendable, Equatable {
  /// The first event that is not too new; those from here on were refused. Nil: none was.
  package let tooNewStart: Int?
  /// Events before this index were too old.
  package let tooOldEnd: Int?
  /// Events before this index had expired by the group's retention.
  package let expiredEnd: Int?

  package init(tooNewStart: Int?, tooOldEnd: Int?, expiredEnd: Int?) {
    self.tooNewStart = tooNewStart
    self.tooOldEnd = tooOldEnd
    self.expiredEnd = expiredEnd
  }

  package func contains(_ index: Int) -> Bool {
    index >= tooNewStart ?? .max || index < max(tooOldEnd ?? 0, expiredEnd ?? 0)
  }
}

/// CloudWatch Logs (JSON 1.1, `Logs_20140328`). Throws `AWSError` or `Failure`.
package struct CloudWatchLogs: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The days that PutRetentionPolicy takes (API reference).
  package static let retentionDays: Set = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
  ]

  /// Of a group that is there already nothing is said.
  /// - Parameter tags: need `logs:TagResource`, too.
  package func createLogGroup(_ name: String, tags: [String: String]) async throws {
    var body: [String: JSONValue] = ["logGroupName": .string(name)]
    if !tags.isEmpty { body["tags"] = .object(tags.mapValues(JSONValue.string)) }
    try await tolerating("ResourceAlreadyExistsException") { _ = try await call("CreateLogGroup", .object(body)) }
  }

  /// Of a stream that is there already nothing is said.
  package func createLogStream(group: String, stream: String) async throws {
    try await tolerating("ResourceAlreadyExistsException") {
      _ = try await call("CreateLogStream", ["logGroupName": .string(group), "logStreamName": .string(stream)])
    }
  }

  package func putRetentionPolicy(group: String, days: Int) async throws {
    _ = try await call(
      "PutRetentionPolicy", ["logGroupName": .string(group), "retentionInDays": .integer(Int64(days))])
  }

  /// The body is compressed: the CloudWatch Logs agent's reference documents gzip as content encoding
  /// (`use_gzip_http_content_encoding`, on by default), though the API reference says nothing of it.
  /// - Parameters:
  ///   - size: what `events` appends, at most.
  ///   - events: appends a JSON array of `{"message":…,"timestamp":…}` in chronological order, inside the limits of one call.
  /// - Returns: what was refused of them; nil if all were taken.
  package func putLogEvents(group: String, stream: String, size: Int, _ events: (inout [UInt8]) -> Void) async throws
    -> RejectedLogEvents?
  {
    var body = Array(#"{"logEvents":"#.utf8)
    body.reserveCapacity(size + 1200)
    events(&body)
    body +=
      ",\"logGroupName\":\(JSONValue.string(group).compactText),\"logStreamName\":\(JSONValue.string(stream).compactText)}"
      .utf8
    let answer = try await client.json(.logs, target: Self.target, "PutLogEvents", body: body, compresses: true)
    guard let rejected = answer["rejectedLogEventsInfo"]?.object, !rejected.isEmpty else { return nil }
    let index = { (key: String) in rejected[key]?.integer.map { Int($0) } }
    return RejectedLogEvents(
      tooNewStart: index("tooNewLogEventStartIndex"), tooOldEnd: index("tooOldLogEventEndIndex"),
      expiredEnd: index("expiredLogEventEndIndex"))
  }

  /// When the newest event of a stream that the service knows of happened: it may lag an hour behind (API reference,
  /// LogStream). Nil for a stream that is not there or has no event.
  package func lastEventTime(group: String, stream: String) async throws -> Timestamp? {
    do {
      let answer = try await call(
        "DescribeLogStreams", ["logGroupName": .string(group), "logStreamNamePrefix": .string(stream)])
      let found = answer["logStreams"]?.array?.first { $0["logStreamName"]?.string == stream }
      return found?["lastEventTimestamp"]?.integer.map { Timestamp(milliseconds: $0) }
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      return nil
    }
  }

  /// Whether PutLogEvents is allowed for a group's streams: asked for one that nobody has. Throws if not.
  package func tryPuttingLogEvents(group: String) async throws {
    do {
      _ = try await call(
        "PutLogEvents",
        [
          "logGroupName": .string(group), "logStreamName": "consul-bootstrap/no-such-stream",
          "logEvents": [["message": "consul-bootstrap doctor", "timestamp": .integer(0)]],
        ])
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {}
  }

  private func call(_ action: String, _ body: JSONValue) async throws -> JSONValue {
    try await client.json(.logs, target: Self.target, action, body)
  }

  private static let target = "Logs_20140328"

  private func tolerating(_ code: String, _ call: () async throws -> Void) async throws {
    do { try await call() } catch let error as AWSError where error.code == code {}
  }
}
