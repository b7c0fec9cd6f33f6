package import Base

/// The events of a batch that PutLogEvents rejected (API reference, RejectedLogEventsInfo); indices into the batch.
package struct RejectedLogEvents: Sendable, Equatable {
  /// The first event that is too new; those from here on were rejected. Nil: none was.
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

extension AWSAction {
  package static let createLogGroup = AWSAction(.logs, "CreateLogGroup", on: .logGroup)
  package static let createLogStream = AWSAction(.logs, "CreateLogStream", on: .logGroup)
  package static let describeLogStreams = AWSAction(.logs, "DescribeLogStreams", on: .logGroup)
  package static let putLogEvents = AWSAction(.logs, "PutLogEvents", on: .logGroup)
  package static let putRetentionPolicy = AWSAction(.logs, "PutRetentionPolicy", on: .logGroup)
  /// Never called: CreateLogGroup with tags needs this permission, too.
  package static let tagResource = AWSAction(.logs, "TagResource", on: .logGroup)
}

/// CloudWatch Logs (JSON 1.1, `Logs_20140328`). Throws `AWSError`, `CredentialError` or `MetadataError`.
package struct CloudWatchLogs: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The days that PutRetentionPolicy accepts (API reference).
  package static let retentionDays: Set = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
  ]

  /// Creates a log group; one that exists is left as it is.
  /// - Parameter tags: need `logs:TagResource`, too.
  package func createLogGroup(_ name: String, tags: [String: String]) async throws {
    var body: [String: JSONValue] = ["logGroupName": .string(name)]
    if !tags.isEmpty { body["tags"] = .object(tags.mapValues(JSONValue.string)) }
    try await tolerating("ResourceAlreadyExistsException") {
      try await client.json(.createLogGroup, .object(body)) { _ in }
    }
  }

  /// Creates a log stream; one that exists is left as it is.
  package func createLogStream(group: String, stream: String) async throws {
    try await tolerating("ResourceAlreadyExistsException") {
      try await client.json(
        .createLogStream, ["logGroupName": .string(group), "logStreamName": .string(stream)]
      ) { _ in }
    }
  }

  package func putRetentionPolicy(group: String, days: Int) async throws {
    try await client.json(
      .putRetentionPolicy, ["logGroupName": .string(group), "retentionInDays": .integer(Int64(days))]
    ) { _ in }
  }

  /// Sends a compressed body: the CloudWatch Logs agent's reference documents gzip as content encoding
  /// (`use_gzip_http_content_encoding`, on by default); the API reference does not mention it.
  /// - Parameters:
  ///   - size: an upper bound for the bytes that `events` appends.
  ///   - events: appends a JSON array of `{"message":…,"timestamp":…}` in chronological order, inside the limits of
  ///     one call.
  /// - Returns: the events that were rejected; nil if all were accepted.
  package func putLogEvents(group: String, stream: String, size: Int, _ events: (inout [UInt8]) -> Void) async throws
    -> RejectedLogEvents?
  {
    var body = Array(#"{"logEvents":"#.utf8)
    body.reserveCapacity(size + 1200)
    events(&body)
    let names: [String] = [JSONValue.string(group).compactText, JSONValue.string(stream).compactText]
    body += ",\"logGroupName\":\(names[0]),\"logStreamName\":\(names[1])}".utf8
    return try await client.json(.putLogEvents, body: body, compresses: true) { answer in
      guard let rejected = answer["rejectedLogEventsInfo"]?.object, !rejected.isEmpty else { return nil }
      // An index that is no integer counts as missing: the service has accepted the batch, and a malformed answer would
      // send it again, without end.
      let index = { (key: String) in rejected[key]?.integer.map { Int($0) } }
      return RejectedLogEvents(
        tooNewStart: index("tooNewLogEventStartIndex"), tooOldEnd: index("tooOldLogEventEndIndex"),
        expiredEnd: index("expiredLogEventEndIndex"))
    }
  }

  /// The time of the newest event of a stream, as far as the service has indexed it: it may lag an hour behind (API
  /// reference, LogStream). Nil for a stream that does not exist or has no event.
  package func lastEventTime(group: String, stream: String) async throws -> Timestamp? {
    do {
      return try await client.json(
        .describeLogStreams, ["logGroupName": .string(group), "logStreamNamePrefix": .string(stream)]
      ) { answer in
        guard let streams = answer["logStreams"]?.array else { throw MalformedAnswer("the answer has no logStreams") }
        let found = streams.first { $0["logStreamName"]?.string == stream }
        guard let time = found?["lastEventTimestamp"] else { return nil }
        guard let milliseconds = time.integer else { throw MalformedAnswer("lastEventTimestamp is not a number") }
        return Timestamp(milliseconds: milliseconds)
      }
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      return nil
    }
  }

  /// Whether PutLogEvents is allowed for a group's streams, tried with a stream that does not exist; throws if not.
  package func tryPuttingLogEvents(group: String) async throws {
    do {
      try await client.json(
        .putLogEvents,
        [
          "logGroupName": .string(group), "logStreamName": "consul-bootstrap/no-such-stream",
          "logEvents": [["message": "consul-bootstrap doctor", "timestamp": .integer(0)]],
        ]
      ) { _ in }
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {}
  }

  private func tolerating(_ code: String, _ call: () async throws -> Void) async throws {
    do { try await call() } catch let error as AWSError where error.code == code {}
  }
}
